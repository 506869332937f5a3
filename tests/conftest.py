"""Settings of every test process: one CPU thread, no network, `src` importable in child processes too."""

from __future__ import annotations

import importlib.util
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent

# Read when torch is first imported. At the sizes tested one thread is fastest; pytest-xdist fills the cores.
for _variable in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"):
    os.environ[_variable] = "1"
# As every process of a run has it: threads that spin while they wait slow shared cores down tenfold.
os.environ["OMP_WAIT_POLICY"] = "PASSIVE"
os.environ["HF_HUB_OFFLINE"] = "1"
os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
os.environ["TOKENIZERS_PARALLELISM"] = "false"
os.environ["PYTHONPATH"] = os.pathsep.join(
    dict.fromkeys([str(ROOT / "src"), *filter(None, os.environ.get("PYTHONPATH", "").split(os.pathsep))])
)

if importlib.util.find_spec("hypothesis"):
    from hypothesis import settings

    # Shared machines make single examples slow; pytest-timeout bounds the whole test instead. The same
    # examples every time, so that a red run is about the change; ROLLOOM_EXPLORE=1 draws new ones.
    settings.register_profile("rolloom", deadline=None, derandomize=not os.environ.get("ROLLOOM_EXPLORE"))
    settings.load_profile("rolloom")


def pytest_runtest_setup(item: pytest.Item) -> None:
    """Skip tests marked `gpu` where torch sees no CUDA device."""
    if item.get_closest_marker("gpu") is None:
        return
    import torch

    if not torch.cuda.is_available():
        pytest.skip("needs a CUDA device")


@pytest.fixture(scope="session")
def root() -> Path:
    """The repository's root."""
    return ROOT


@pytest.fixture(params=[1, 2], ids=["1 thread", "2 threads"])
def threads(request: pytest.FixtureRequest) -> Iterator[None]:
    """Run a test with one CPU thread and with two."""
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(request.param)
    yield
    torch.set_num_threads(before)
