"""Which weights NVFP4 takes: by kind, by name, and as Nemotron 3 does. Names only, no tensors.

Names are those of the released layout (`backbone.layers.7.mixer.experts.3.up_proj`), one a matrix.

Default, after the Nemotron 3 Nano report (arXiv 2512.20848) and the white paper (2512.20856): everything but
embeddings, output head, routers, convolutions, latent projections, the MTP block, attention, and the Mamba
layer in front of each attention layer. `all` takes every matrix that activations are multiplied with, routers
excepted: they are fp32 whatever the rest is.
"""

from __future__ import annotations

import re
from collections.abc import Iterable

from rolloom.errors import did_you_mean
from rolloom.policy.config import PolicyError

PROJECTIONS = ("in_proj", "out_proj", "q_proj", "k_proj", "v_proj", "o_proj", "up_proj", "down_proj",
               "fc1_latent_proj", "fc2_latent_proj", "eh_proj")  # fmt: skip
KINDS = ("routed experts", "shared expert", "MLP", "Mamba projections", "attention", "latent projections",
         "MTP", "embeddings", "output head", "router", "other")  # fmt: skip
LAYER = re.compile(r"^backbone\.layers\.(\d+)\.mixer\.(.+)$")
DEFAULT, EVERYTHING = "default", "all"


def kind_of(name: str) -> str:
    """Return the one of `KINDS` that a tensor or matrix of the released layout belongs to."""
    if name.startswith("mtp."):
        return "MTP"
    if name.startswith("lm_head"):
        return "output head"
    if "embeddings" in name:
        return "embeddings"
    for mark, kind in (
        (".mixer.gate", "router"), (".shared_experts.", "shared expert"), (".experts.", "routed experts"),
        ("latent_proj", "latent projections"), (".in_proj", "Mamba projections"),
        (".out_proj", "Mamba projections"),
    ):  # fmt: skip
        if mark in name:
            return kind
    if re.search(r"\.mixer\.[qkvo]_proj", name):
        return "attention"
    return "MLP" if re.search(r"\.mixer\.(up|down)_proj", name) else "other"


def matrices(tensors: Iterable[str]) -> list[str]:
    """Return the names of the matrices that could be quantised, without `.weight`, in the order given."""
    found = [name.removesuffix(".weight") for name in tensors if name.endswith(".weight")]
    return [name for name in found if name == "lm_head" or name.rsplit(".", 1)[-1] in PROJECTIONS]


def chosen(tensors: Iterable[str], pattern: str, layers: str = DEFAULT) -> list[str]:
    """Return the matrices to quantise.

    Args:
        tensors: names of all tensors of a checkpoint in the released layout.
        pattern: the policy's layers.
        layers: `default`, `all`, or a regular expression that is searched in the matrices' names.

    Raises:
        PolicyError: the expression is malformed or matches nothing.
    """
    names = list(tensors)
    every = matrices(names)
    if layers == EVERYTHING:
        return every
    if layers == DEFAULT:
        return [name for name in every if _by_default(name, pattern)]
    try:
        wanted = re.compile(layers)
    except re.error as error:
        raise PolicyError(f"layers: {layers!r} is no regular expression: {error}") from error
    found = [name for name in every if wanted.search(name)]
    if not found:
        beside = [name for name in names if wanted.search(name)]
        if beside:
            raise PolicyError(
                f"layers: {layers!r} matches only what is never quantised (embeddings, routers, "
                f"convolutions, norms), e.g. {beside[0]}"
            )
        leaves = sorted({name.rsplit(".", 1)[-1] for name in every})
        raise PolicyError(
            f"layers: expected {DEFAULT!r}, {EVERYTHING!r} or a regular expression, but {layers!r} matches "
            f"none of {len(every)} matrices.{did_you_mean(layers, [DEFAULT, EVERYTHING, *leaves])} "
            f"Their names end in {', '.join(leaves)}."
        )
    return found


def _by_default(name: str, pattern: str) -> bool:
    found = LAYER.match(name)
    if not found or "latent_proj" in name:
        return False
    layer = int(found[1])
    return pattern[layer] != "*" and not (pattern[layer] == "M" and pattern[layer + 1 : layer + 2] == "*")
