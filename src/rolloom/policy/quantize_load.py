"""Opens NVFP4 checkpoints: dequantised, as a policy like any other, or kept packed for sampling.

Packed, a matrix takes 4.5 bits an element in memory, and its product is `kernels/nvfp4`'s W4A16 one. On a
CPU, and for stacked experts and the output head, what is at work is dequantised for the moment. Such a policy
samples and scores; it has no gradients for what is packed, and takes no new weights.
"""

from __future__ import annotations

from pathlib import Path
from typing import Literal

import torch
from torch import nn

from rolloom.kernels.nvfp4.format import NVFP4
from rolloom.kernels.nvfp4.op import dequantize
from rolloom.policy.checkpoint import from_any_layout, load_weights, read_tensors
from rolloom.policy.config import HybridConfig, PolicyError
from rolloom.policy.model import HybridLM
from rolloom.policy.quantize import dequantize_tensors, is_quantized, packed_of

Quantized = Literal["dequantize", "keep"]


class PackedLinear(nn.Module):
    """Stands in for an `nn.Linear`: `kernels/linear` multiplies with its `weight` as it is.

    Args:
        packed: weight `[N, K]`.
        bias: `[N]` or None.
        dtype: of the dequantised matrix, for a head that others take as a tensor; None for `weight` packed.
    """

    def __init__(
        self, packed: NVFP4, bias: torch.Tensor | None = None, dtype: torch.dtype | None = None
    ) -> None:
        super().__init__()
        self.dtype = dtype
        self.register_buffer("bias", bias)
        for name, part in zip(NVFP4._fields, packed, strict=True):
            self.register_buffer(name, part)

    @property
    def weight(self) -> NVFP4 | torch.Tensor:
        """The matrix `[N, K]`; no part of the state dict."""
        packed = NVFP4(*(self.get_buffer(name) for name in NVFP4._fields))
        return packed if self.dtype is None else dequantize(packed, self.dtype)


class PackedExperts(nn.Module):
    """Stands in for `moe.Experts`: its two stacks are dequantised at each use.

    Args:
        up: of each expert, `[F, D]`.
        down: of each expert, `[D, F]`.
        dtype: of the stacks.
    """

    def __init__(self, up: list[NVFP4], down: list[NVFP4], dtype: torch.dtype) -> None:
        super().__init__()
        self.dtype = dtype
        for stack, packed in (("up", up), ("down", down)):
            for name, parts in zip(NVFP4._fields, zip(*packed, strict=True), strict=True):
                self.register_buffer(f"{stack}_{name}", torch.stack(parts))

    @property
    def up_proj(self) -> torch.Tensor:
        """`[E, F, D]`."""
        return self._stack("up")

    @property
    def down_proj(self) -> torch.Tensor:
        """`[E, D, F]`."""
        return self._stack("down")

    def _stack(self, stack: str) -> torch.Tensor:
        parts = (self.get_buffer(f"{stack}_{name}") for name in NVFP4._fields)
        # An expert has a tensor scale of its own, a call takes one.
        return torch.stack([dequantize(NVFP4(*own), self.dtype) for own in zip(*parts, strict=True)])


def load_quantized(
    path: str | Path, dtype: torch.dtype = torch.float32, device: str = "cpu",
    quantized: Quantized = "dequantize",
) -> HybridLM:  # fmt: skip
    """Load a quantised checkpoint directory; routers stay in fp32.

    Args:
        path: directory with `quantization_config` in its `config.json`.
        dtype: of dequantised weights and of the others.
        device: torch device.
        quantized: `dequantize`, or `keep` for packed weights (sampling and scoring only).

    Raises:
        PolicyError: not quantised, damaged, or an unknown way.
    """
    if quantized not in ("dequantize", "keep"):
        raise PolicyError(f"quantized: expected 'dequantize' or 'keep', got {quantized!r}")
    if not is_quantized(path):
        raise PolicyError(f"{path}: expected a quantization_config in its config.json, found none")
    tensors = read_tensors(Path(path))
    model = HybridLM(HybridConfig.load(path))
    load_weights(model, from_any_layout(dequantize_tensors(tensors)), str(path))
    for name, tensor in [*model.named_parameters(), *model.named_buffers()]:
        if ".gate." not in name:
            tensor.data = tensor.data.to(dtype)
    if quantized == "keep":
        _pack(model, packed_of(tensors), dtype)
    return model.to(device=device)


def _pack(model: HybridLM, packed: dict[str, NVFP4], dtype: torch.dtype) -> None:
    """Replace the modules of packed matrices; a layer's experts are packed only if all of them are."""
    by_name = {name.replace("backbone.", "model.", 1): value for name, value in packed.items()}
    experts = {name.partition(".experts.")[0] + ".experts" for name in by_name if ".experts." in name}
    count = model.config.n_routed_experts
    for name in experts:
        stacks = [
            [by_name.get(f"{name}.{index}.{leaf}") for index in range(count)]
            for leaf in ("up_proj", "down_proj")
        ]
        whole = [[each for each in stack if each is not None] for stack in stacks]
        if all(len(stack) == count for stack in whole):
            _replace(model, name, PackedExperts(whole[0], whole[1], dtype))
    for name, value in by_name.items():
        if ".experts." not in name:
            replaced = model.get_submodule(name)
            assert isinstance(replaced, nn.Linear)
            bias = None if replaced.bias is None else replaced.bias.data
            _replace(model, name, PackedLinear(value, bias, dtype if name == "lm_head" else None))


def _replace(model: HybridLM, name: str, module: nn.Module) -> None:
    parent, _, leaf = name.rpartition(".")
    # The attributes are declared as the classes they stand in for; what is used of those is the same.
    model.get_submodule(parent)._modules[leaf] = module
