"""Which of some configurations a Triton launch takes: the pinned one, or the fastest once measured here.

Winners are kept as JSON, by GPU model, kernel and key, in the file that `ROLLOOM_AUTOTUNE_CACHE` names or in
the user's cache directory. Nothing is measured unless asked for: inside `tuning()`, or with
`ROLLOOM_AUTOTUNE=1`. Deterministic mode takes the pinned configuration, and so does whatever does not run on
a CUDA device.

A key holds sizes of the model, never the number of rows: the same tokens would otherwise get other bits in
another batch.
"""

from __future__ import annotations

import json
import os
import tempfile
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch

from rolloom.kernels.dispatch import UnsupportedError, interpreting, is_deterministic

Config = dict[str, int]
"""Constexpr arguments of a kernel, `num_warps` and `num_stages`."""

VERSION = 1
REPEATS = 5
_tuning = False
_loaded: dict[Path, dict[str, Any]] = {}


def pick(
    kernel: str,
    key: Mapping[str, Any],
    configs: Sequence[Config],
    run: Callable[[Config], Any],
    device: torch.device,
) -> Config:
    """Return the configuration to launch a kernel with.

    Args:
        kernel: unique name.
        key: what the winner depends on.
        configs: the pinned one first.
        run: launches with a configuration; may be called many times, so it must not add to what it writes.
        device: of the tensors.
    """
    pinned = configs[0]
    if device.type != "cuda" or interpreting() or is_deterministic():
        return pinned
    found = winner(kernel, key, device)
    if found in configs:
        return found  # type: ignore[return-value]
    # Inside a CUDA graph nothing can be timed.
    asked = _asked() and not torch.cuda.is_current_stream_capturing()
    return tune(kernel, key, configs, run, device) if asked else pinned


def tune(
    kernel: str,
    key: Mapping[str, Any],
    configs: Sequence[Config],
    run: Callable[[Config], Any],
    device: torch.device | None = None,
) -> Config:
    """Measure every configuration on a CUDA device, keep the fastest in the cache file and return it.

    A configuration that the device refuses (registers, shared memory) is left out.

    Raises:
        UnsupportedError: there is no CUDA device, kernels are interpreted, or no configuration runs.
    """
    if interpreting() or not torch.cuda.is_available():
        raise UnsupportedError(
            f"tune({kernel!r}): expected a CUDA device and TRITON_INTERPRET unset; elsewhere the pinned"
            " configuration is taken"
        )
    device = device or torch.device("cuda", torch.cuda.current_device())
    seconds: dict[int, float] = {}
    refusals: list[str] = []
    for index, config in enumerate(configs):
        try:
            seconds[index] = _seconds(run, config)
        except Exception as error:
            refusals.append(f"{config}: {error}")
    if not seconds:
        raise UnsupportedError(f"tune({kernel!r}): no configuration runs: " + "; ".join(refusals))
    best = min(seconds, key=lambda index: seconds[index])
    remember(kernel, key, configs[best], seconds[best], torch.cuda.get_device_name(device))
    return configs[best]


def _seconds(run: Callable[[Config], Any], config: Config) -> float:
    run(config)
    times = []
    for _ in range(REPEATS):
        start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        start.record()
        run(config)
        end.record()
        end.synchronize()
        times.append(start.elapsed_time(end) / 1e3)
    return min(times)


@contextmanager
def tuning() -> Iterator[None]:
    """Measure, until the block ends, what no winner is known for."""
    global _tuning
    before, _tuning = _tuning, True
    try:
        yield
    finally:
        _tuning = before


def _asked() -> bool:
    return _tuning or os.environ.get("ROLLOOM_AUTOTUNE", "0") == "1"


def cache_path() -> Path:
    """Return the file of winners."""
    named = os.environ.get("ROLLOOM_AUTOTUNE_CACHE")
    if named:
        return Path(named)
    base = os.environ.get("XDG_CACHE_HOME")
    return (Path(base) if base else Path.home() / ".cache") / "rolloom" / "autotune.json"


def winner(kernel: str, key: Mapping[str, Any], device: torch.device) -> Config | None:
    """Return the fastest configuration known for a device's model, or None."""
    path = cache_path()
    if path not in _loaded:
        _loaded[path] = _read(path)
    return recall(_loaded[path], kernel, key, torch.cuda.get_device_name(device))


def recall(winners: Mapping[str, Any], kernel: str, key: Mapping[str, Any], gpu: str) -> Config | None:
    """Return what a file's content holds for a GPU model, kernel and key."""
    entry = winners.get(gpu, {}).get(kernel, {}).get(_word(key))
    return None if entry is None else dict(entry["config"])


def remember(kernel: str, key: Mapping[str, Any], config: Config, seconds: float, gpu: str) -> None:
    """Add a winner to the cache file; other processes see the old file or the new one, never half of it."""
    path = cache_path()
    winners = _read(path)
    entry = {"config": dict(config), "seconds": seconds}
    winners.setdefault(gpu, {}).setdefault(kernel, {})[_word(key)] = entry
    _loaded[path] = winners
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(dir=path.parent, prefix=path.name, suffix=".part")
        try:
            with os.fdopen(handle, "w", encoding="utf-8") as file:
                json.dump({"version": VERSION, "winners": winners}, file, indent=1, sort_keys=True)
            os.replace(name, path)
        except BaseException:
            os.unlink(name)
            raise
    except OSError as error:
        warnings.warn(f"autotune: {path}: not written, winners last for this process: {error}", stacklevel=2)


def _read(path: Path) -> dict[str, Any]:
    """Return the winners of a file; none, with a warning, when it is not one of ours."""
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        winners = content["winners"]
        if content["version"] != VERSION:
            raise ValueError(f"version {content['version']}, expected {VERSION}")
        for kernels in winners.values():
            for entries in kernels.values():
                for entry in entries.values():
                    if not all(isinstance(value, int) for value in entry["config"].values()):
                        raise ValueError(f"config: expected whole numbers, got {entry['config']}")
        return winners
    except FileNotFoundError:
        return {}
    except (OSError, ValueError, TypeError, KeyError, AttributeError) as error:
        warnings.warn(f"autotune: {path}: ignored, not a file of winners: {error!r}", stacklevel=2)
        return {}


def _word(key: Mapping[str, Any]) -> str:
    return ",".join(f"{name}={value}" for name, value in sorted(key.items()))


def bucket(size: int) -> int:
    """Return the power of two at or above a size, so that alike shapes share a winner."""
    return 1 << max(0, size - 1).bit_length()
