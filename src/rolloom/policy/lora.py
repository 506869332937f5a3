"""LoRA (arXiv 2106.09685) for both kinds of policy: a low-rank change of chosen weights is all that trains.

Each chosen weight W reads as W + alpha / rank * B A (a parametrization of torch), so every operation that
reads a weight, fused ones and stacked experts among them, takes part without knowing. The learner computes
with the very tensor it publishes: what the engines sample from is equal to it to the last bit, in bfloat16
too, where merging a separately applied adapter would round. The price is a transient copy of each changed
weight.

To the outside the model is its merged weights: `state_dict` has the names and shapes it had before. Adapters
are files in peft's layout (`lora_files`).

Shapes: O outputs, I inputs, R rank; stacked experts have E in front.
"""

from __future__ import annotations

import difflib
import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn
from torch.nn.utils import parametrize

from rolloom.policy.config import PolicyError

LEFT_ALONE = ("gate", "router", "out_proj")
"""Layers that change only if they are named: what chooses experts, and Mamba's output projection.

peft refuses to load an adapter of the latter, because transformers' fused kernels read it past its layer.
"""


@dataclass(frozen=True, slots=True)
class Adaptation:
    """What `add_lora` makes.

    Attributes:
        rank: of each change.
        alpha: the change is scaled by alpha / rank.
        targets: endings of the names of linear layers (`q_proj`, `mixer.in_proj`) or of stacked expert
            weights (`experts.up_proj`); empty takes every linear layer but the output head and `LEFT_ALONE`.
        dropout: share of a change's inputs that are left out of a forward pass in training.
    """

    rank: int
    alpha: float
    targets: tuple[str, ...] = ()
    dropout: float = 0.0


class LowRank(nn.Module):
    """The change of one weight `[O, I]`, or of stacked ones `[E, O, I]`.

    Attributes:
        lora_A: fp32 `[R, I]` or `[E, R, I]`, uniform as peft draws it.
        lora_B: fp32 `[O, R]` or `[E, O, R]`, zeros: the policy starts as it was.
        enabled: False reads the weight as it was.
    """

    def __init__(self, weight: torch.Tensor, adaptation: Adaptation, generator: torch.Generator) -> None:
        super().__init__()
        *stack, outputs, inputs = weight.shape
        drawn = torch.rand(*stack, adaptation.rank, inputs, generator=generator) * 2 - 1
        self.lora_A = nn.Parameter((drawn / math.sqrt(inputs)).to(weight.device))
        self.lora_B = nn.Parameter(torch.zeros(*stack, outputs, adaptation.rank, device=weight.device))
        self.scale = adaptation.alpha / adaptation.rank
        self.dropout = adaptation.dropout
        self.enabled = True

    def forward(self, weight: torch.Tensor) -> torch.Tensor:
        """Return the weight as a pass of the model reads it, in its own type."""
        if not self.enabled:
            return weight
        if self.training and self.dropout:
            # Leaving inputs out of a product is leaving columns out of A; all tokens of a pass share them.
            kept = nn.functional.dropout(self.lora_A.new_ones(self.lora_A.shape[-1]), self.dropout)
            return self._changed(weight, self.lora_A * kept)
        return self._changed(weight, self.lora_A)

    def merged(self, weight: torch.Tensor) -> torch.Tensor:
        """Return the changed weight."""
        return self._changed(weight, self.lora_A)

    def _changed(self, weight: torch.Tensor, a: torch.Tensor) -> torch.Tensor:
        add = torch.addmm if weight.dim() == 2 else torch.baddbmm
        return add(weight.to(a.dtype), self.lora_B, a, alpha=self.scale).to(weight.dtype)


@dataclass(frozen=True, slots=True)
class Site:
    """A changed weight.

    Attributes:
        module: that holds the weight.
        path: of the module in the policy.
        leaf: name of the weight in the module.
        change: what changes it.
    """

    module: nn.Module
    path: str
    leaf: str
    change: LowRank


def add_lora(model: Any, adaptation: Adaptation, seed: int = 0) -> list[str]:
    """Freeze a policy and give the chosen weights a trainable change, which is zero at first.

    Args:
        model: `HybridLM` or `HFPolicy`.
        adaptation: rank, scale and targets.
        seed: of the initial A.

    Returns:
        The names of the changed weights.

    Raises:
        PolicyError: a target is not there, or shares its weight with another layer.
    """
    assert not has_lora(model), "the policy has a LoRA already"
    chosen = _choose(model, adaptation.targets)
    generator = torch.Generator().manual_seed(seed)
    for parameter in model.parameters():
        parameter.requires_grad_(False)
    for _, module, leaf in chosen:
        change = LowRank(getattr(module, leaf), adaptation, generator)
        parametrize.register_parametrization(module, leaf, change)
        module.register_state_dict_post_hook(_Merged(leaf))
        change.train(model.training)
    return [f"{path}.{leaf}" for path, _, leaf in chosen]


class _Merged:
    """Rewrites a module's part of a state dict: the changed weight under its plain name, no adapter."""

    def __init__(self, leaf: str) -> None:
        self.leaf = leaf

    def __call__(self, module: nn.Module, state: dict[str, Any], prefix: str, metadata: Any) -> None:
        inner = f"{prefix}parametrizations.{self.leaf}."
        for name in [name for name in state if name.startswith(inner)]:
            del state[name]
        held: Any = module.parametrizations[self.leaf]  # type: ignore[index]
        with torch.no_grad():
            state[prefix + self.leaf] = held[0].merged(held.original)


def count_lora(model: Any, adaptation: Adaptation) -> tuple[int, int]:
    """Return how many parameters `add_lora` would make, and how many weights they would change; for plans.

    Raises:
        PolicyError: as for `add_lora`.
    """
    made = held = 0
    for _, module, leaf in _choose(model, adaptation.targets):
        *stack, outputs, inputs = getattr(module, leaf).shape
        copies = math.prod(stack)
        made += copies * adaptation.rank * (outputs + inputs)
        held += copies * outputs * inputs
    return made, held


def sites(model: Any) -> Iterator[Site]:
    """Yield the changed weights of a policy, in its order."""
    for path, module in model.named_modules():
        if parametrize.is_parametrized(module):
            for leaf, held in module.parametrizations.items():  # type: ignore[union-attr]
                if isinstance(held[0], LowRank):
                    yield Site(module, path, leaf, held[0])


def has_lora(model: Any) -> bool:
    """Return True if some weight of a policy is changed."""
    return next(sites(model), None) is not None


@contextmanager
def without_lora(model: Any) -> Iterator[None]:
    """Read the weights as they were before `add_lora`: the reference policy, without a second copy."""
    changes = [site.change for site in sites(model)]
    for change in changes:
        change.enabled = False
    try:
        yield
    finally:
        for change in changes:
            change.enabled = True


def merge_lora(model: Any) -> None:
    """Write the changes into the weights, in place, and forget them; all weights may train again."""
    for site in list(sites(model)):
        site.change.eval()
        hooks = site.module._state_dict_hooks
        for key in [key for key, hook in hooks.items() if isinstance(hook, _Merged)]:
            del hooks[key]
        parametrize.remove_parametrizations(site.module, site.leaf, leave_parametrized=True)
    for parameter in model.parameters():
        parameter.requires_grad_(True)


def _choose(model: Any, targets: Sequence[str]) -> list[tuple[str, nn.Module, str]]:
    linears: dict[str, tuple[str, nn.Module, str]] = {}
    stacks: dict[str, tuple[str, nn.Module, str]] = {}
    for path, module in model.named_modules():
        if isinstance(module, nn.Linear):
            linears[path] = (path, module, "weight")
        elif path.endswith("experts"):
            for leaf, parameter in module.named_parameters(recurse=False):
                if parameter.dim() == 3:
                    stacks[f"{path}.{leaf}"] = (path, module, leaf)
    if targets:
        named = [_named(target, linears, stacks) for target in targets]
        picked = set().union(*named)
    else:
        picked = {path for path in linears if path.rsplit(".", 1)[-1] not in LEFT_ALONE}
        picked -= {path for path, (_, module, _) in linears.items() if module is model.lm_head}
    # Parameters keep the order of the model, so that a seed draws the same A whatever the targets' order.
    chosen = [place for path, place in {**linears, **stacks}.items() if path in picked]
    owners: dict[int, int] = {}
    for module in model.modules():
        for parameter in module._parameters.values():
            if parameter is not None:
                owners[id(parameter)] = owners.get(id(parameter), 0) + 1
    for path, module, leaf in chosen:
        if owners[id(getattr(module, leaf))] > 1:
            raise PolicyError(f"policy.lora.target_modules: {path} shares its weight with another layer")
    return chosen


def _named(target: str, linears: dict[str, Any], stacks: dict[str, Any]) -> set[str]:
    found = {path for path in linears if f".{path}".endswith(f".{target.removesuffix('.weight')}")}
    if "experts." in f"{target}.":
        found |= {path for path in stacks if f".{path}".endswith(f".{target}")}
    if not found:
        known = sorted({path.rsplit(".", 1)[-1] for path in linears})
        known += sorted({".".join(path.rsplit(".", 2)[-2:]) for path in stacks})
        near = difflib.get_close_matches(target, known, 1)
        hint = f" Nearest: {near[0]!r}." if near else ""
        raise PolicyError(
            f"policy.lora.target_modules: no layer's name ends in {target!r}; expected of {known}.{hint}"
        )
    return found
