"""Names of tensors in the two layouts of checkpoints, and of a model's own state dict.

released: `backbone.`, one tensor an expert (what is published and what vLLM reads). hf: transformers' own,
`model.` and stacked experts. The multi-token prediction block is `mtp.` in both and in the model.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Literal

import torch

from rolloom.policy.config import PolicyError

Layout = Literal["released", "hf"]
LAYOUTS: tuple[Layout, ...] = ("released", "hf")


def own_name(name: str) -> tuple[str, int | None]:
    """Return a tensor's name in the model's state dict, and which expert of a stack it is, if one."""
    name = name.replace("backbone.", "model.", 1) if name.startswith("backbone.") else name
    head, found, tail = name.partition(".experts.")
    parts = tail.split(".")
    if found and len(parts) == 3 and parts[0].isdecimal():
        return f"{head}.experts.{parts[1]}", int(parts[0])
    return name, None


def disk_names(name: str, shape: Iterable[int], layout: Layout) -> Iterator[tuple[str, int | None]]:
    """Yield the names under which a tensor of the state dict is saved, and which of its rows each is."""
    if layout == "hf":
        yield name, None
        return
    renamed = name.replace("model.", "backbone.", 1) if name.startswith("model.") else name
    if not name.endswith((".experts.up_proj", ".experts.down_proj")):
        yield renamed, None
        return
    base, leaf = renamed.rsplit(".", 1)
    for expert in range(next(iter(shape))):
        yield f"{base}.{expert}.{leaf}.weight", expert


def to_released(state: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Rename a model's state dict to the released layout; tensors are detached, contiguous and on the CPU."""
    return {
        renamed: (tensor if row is None else tensor[row]).detach().cpu().clone().contiguous()
        for name, tensor in state.items()
        for renamed, row in disk_names(name, tensor.shape, "released")
    }


def check_experts(name: str, shapes: dict[int, tuple[int, ...]]) -> None:
    """Check that what is to be stacked can be.

    Raises:
        PolicyError: the experts of a layer are not numbered without gaps or differ in shape.
    """
    if sorted(shapes) != list(range(len(shapes))):
        raise PolicyError(f"{name}: experts {sorted(shapes)} are not numbered 0 to {len(shapes) - 1}")
    if len(set(shapes.values())) > 1:
        raise PolicyError(f"{name}: expected experts of one shape, got {sorted(set(shapes.values()))}")


def from_any_layout(tensors: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Rename tensors of either layout to a model's state dict, stacking experts.

    Raises:
        PolicyError: the experts of a layer are not numbered without gaps or differ in shape.
    """
    out: dict[str, torch.Tensor] = {}
    experts: dict[str, dict[int, torch.Tensor]] = {}
    for name, tensor in tensors.items():
        own, expert = own_name(name)
        if expert is None:
            out[own] = tensor
        else:
            experts.setdefault(own, {})[expert] = tensor
    for name, by_index in experts.items():
        check_experts(name, {index: tuple(tensor.shape) for index, tensor in by_index.items()})
        out[name] = torch.stack([by_index[index] for index in range(len(by_index))])
    return out
