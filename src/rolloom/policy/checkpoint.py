"""Hugging Face checkpoints of the hybrid, both ways and in both layouts (`checkpoint_names`).

Loading reads headers first, so a checkpoint that does not fit is refused before any weight is read; then one
tensor at a time is copied from the mapped file to where it stays. At no time is there more in memory than the
weights and one shard.
"""

from __future__ import annotations

import json
import warnings
from collections.abc import Iterator
from pathlib import Path

import torch

from rolloom.policy.checkpoint_files import (
    FLOATS,
    INDEX,
    WEIGHTS,
    Entry,
    Stored,
    open_file,
    read_tensors,
    stored_tensors,
    write_shards,
)
from rolloom.policy.checkpoint_names import (
    LAYOUTS,
    Layout,
    check_experts,
    disk_names,
    from_any_layout,
    own_name,
    to_released,
)
from rolloom.policy.config import HybridConfig, PolicyError
from rolloom.policy.model import HybridLM

__all__ = [
    "INDEX", "WEIGHTS", "find_problems", "from_any_layout", "load_policy", "load_weights", "read_tensors",
    "save_policy", "to_released",
]  # fmt: skip

SHARD = 5 * 10**9
"""Bytes of a shard unless told otherwise."""


def save_policy(
    model: HybridLM,
    directory: Path,
    layout: Layout = "released",
    dtype: torch.dtype | None = None,
    max_shard_bytes: int = SHARD,
) -> None:
    """Write `config.json` and the weights into an existing directory.

    Args:
        model: the policy.
        directory: to write into.
        layout: of names and experts; transformers reads both, vLLM the released one.
        dtype: of the saved weights, the routers excepted; None for what they are.
        max_shard_bytes: of one file.

    Raises:
        PolicyError: unknown layout, or a size that is not positive.
    """
    if layout not in LAYOUTS:
        raise PolicyError(f"layout: expected one of {list(LAYOUTS)}, got {layout!r}")
    if max_shard_bytes < 1:
        raise PolicyError(f"max_shard_bytes: expected at least 1, got {max_shard_bytes}")
    values = model.config.to_hf()
    values["dtype"] = str(dtype or model.lm_head.weight.dtype).removeprefix("torch.")
    (directory / "config.json").write_text(json.dumps(values, indent=2) + "\n")
    write_shards(_entries(model.state_dict(), layout, dtype), directory, max_shard_bytes)


def _entries(state: dict[str, torch.Tensor], layout: Layout, dtype: torch.dtype | None) -> Iterator[Entry]:
    for name, tensor in state.items():
        kept = tensor.dtype if dtype is None or ".gate." in name else dtype
        for renamed, row in disk_names(name, tensor.shape, layout):
            part = tensor if row is None else tensor[row]

            def make(part: torch.Tensor = part, kept: torch.dtype = kept) -> torch.Tensor:
                return part.detach().to("cpu", kept, copy=True).contiguous()

            yield renamed, part.numel() * kept.itemsize, make


def load_policy(path: str | Path, dtype: torch.dtype = torch.float32, device: str = "cpu") -> HybridLM:
    """Load a checkpoint directory. The routers stay in fp32 whatever the dtype (Nemotron 3's recipe).

    Tensors of a multi-token prediction block that the configuration does not have are skipped with a warning.

    Raises:
        PolicyError: missing files, or missing, unexpected or misshaped tensors, all listed.
    """
    directory = Path(path)
    with torch.device("meta"):
        model = HybridLM(HybridConfig.load(directory))
    stored = stored_tensors(directory)
    if not model.config.num_nextn_predict_layers:
        drafting = [name for name in stored if name.startswith("mtp.")]
        if drafting:
            warnings.warn(
                f"{directory}: skipped {len(drafting)} tensors of a multi-token prediction block, because "
                f"config.json says num_nextn_predict_layers = 0",
                stacklevel=2,
            )
        stored = {name: tensor for name, tensor in stored.items() if not name.startswith("mtp.")}
    _refuse(find_problems(model, stored), str(directory))
    for name, tensor in [*model.named_parameters(), *model.named_buffers()]:
        owner, _, leaf = name.rpartition(".")
        empty = torch.empty(
            tensor.shape, dtype=torch.float32 if ".gate." in name else dtype, device=torch.device(device)
        )
        kept = torch.nn.Parameter(empty) if isinstance(tensor, torch.nn.Parameter) else empty
        setattr(model.get_submodule(owner), leaf, kept)
    _fill(model.state_dict(), stored)
    return model


@torch.no_grad()
def _fill(state: dict[str, torch.Tensor], stored: dict[str, Stored]) -> None:
    for file in sorted({tensor.file for tensor in stored.values()}):
        with open_file(file) as opened:
            for name, tensor in stored.items():
                if tensor.file == file:
                    own, expert = own_name(name)
                    target = state[own] if expert is None else state[own][expert]
                    target.copy_(opened.get_tensor(name))


def find_problems(model: HybridLM, stored: dict[str, Stored]) -> list[str]:
    """Return what keeps stored tensors from fitting a model, which may be on the meta device.

    Raises:
        PolicyError: the experts of a layer are not numbered without gaps or differ in shape.
    """
    shapes: dict[str, tuple[int, ...]] = {}
    experts: dict[str, dict[int, tuple[int, ...]]] = {}
    problems: list[str] = []
    for name, tensor in stored.items():
        own, expert = own_name(name)
        if tensor.dtype not in FLOATS:
            problems.append(f"mistyped {name}: expected one of {', '.join(FLOATS)}, got {tensor.dtype}")
        if own in shapes or expert in experts.get(own, {}) or (expert is None and own in experts):
            problems.append(f"repeated {own}, as {name}")
        elif expert is None:
            shapes[own] = tensor.shape
        else:
            experts.setdefault(own, {})[expert] = tensor.shape
    for name, by_index in experts.items():
        check_experts(name, by_index)
        shapes[name] = (len(by_index), *by_index[0])
    return problems + _misfits(model, shapes)


def _misfits(model: HybridLM, shapes: dict[str, tuple[int, ...]]) -> list[str]:
    expected = {name: tuple(tensor.shape) for name, tensor in model.state_dict().items()}
    problems = [f"missing {name} {expected[name]}" for name in expected.keys() - shapes.keys()]
    problems += [f"unexpected {name} {shapes[name]}" for name in shapes.keys() - expected.keys()]
    return problems + [
        f"misshaped {name}: expected {shape}, got {shapes[name]}"
        for name, shape in expected.items()
        if name in shapes and shapes[name] != shape
    ]


def _refuse(problems: list[str], source: str) -> None:
    if problems:
        shown = "; ".join(sorted(problems)[:12])
        raise PolicyError(f"{source} does not fit its config.json ({len(problems)} tensors): {shown}")


def load_weights(model: HybridLM, state: dict[str, torch.Tensor], source: str) -> None:
    """Copy a state dict into a model after checking that it fits exactly.

    Raises:
        PolicyError: lists what is missing, unexpected or misshaped.
    """
    _refuse(_misfits(model, {name: tuple(tensor.shape) for name, tensor in state.items()}), source)
    model.load_state_dict(state)
