"""Experts of the quickstart policy and of a 30M one, against transformers' eager experts."""

from __future__ import annotations

from functools import cache
from importlib.metadata import version
from typing import Any

import torch

from benchmarks.kernels.common import BATCH, eager_peer
from rolloom.kernels.moe.cases import case
from rolloom.kernels.registry import Case

SIZES = {"tiny": (128, 8, 64, 2), "small": (512, 16, 256, 4)}
"""Width, experts, their width, experts a token."""
BACKENDS = ("cpu", "sorted", "invariant")
PEER_NAME = f"transformers {version('transformers')} eager NemotronHExperts"


def sized(name: str, length: int) -> Case:
    """Return a case of `BATCH` sequences."""
    width, experts, hidden, top_k = SIZES[name]
    return case(name, BATCH * length, width, experts, hidden, top_k)


@cache
def _module(experts: int, hidden: int, width: int) -> Any:
    from transformers import NemotronHConfig

    nemotron, _ = eager_peer()
    config = NemotronHConfig(
        hidden_size=width, moe_intermediate_size=hidden, n_routed_experts=experts, moe_latent_size=None
    )
    config._experts_implementation = "eager"
    return nemotron.NemotronHExperts(config)  # type: ignore[attr-defined]


def peer(
    x: torch.Tensor, up: torch.Tensor, down: torch.Tensor, indices: torch.Tensor, weights: torch.Tensor
) -> torch.Tensor:
    """Run transformers' experts on these weights."""
    module = _module(*up.shape)
    module._parameters.update(up_proj=up, down_proj=down)
    return module(x, indices, weights)
