"""Opens a checkpoint directory as the kind of policy its `config.json` says it is."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch

from rolloom.policy.checkpoint import load_policy, save_policy
from rolloom.policy.config import HybridConfig, PolicyError
from rolloom.policy.hf import HFPolicy, load_hf, memory_of, meta_hf, save_hf
from rolloom.policy.lora import Adaptation, count_lora
from rolloom.policy.memory import Footprint, footprint
from rolloom.policy.model import HybridLM

AnyPolicy = HybridLM | HFPolicy
"""Both kinds; `protocol.Policy` is what they have in common."""


def read_model_config(path: str | Path) -> dict[str, Any]:
    """Return the `config.json` of a checkpoint directory.

    Raises:
        PolicyError: there is none, or it is malformed or names no model type.
    """
    file = Path(path) / "config.json"
    if not file.is_file():
        raise PolicyError(f"expected a checkpoint directory with config.json, found none at {path}")
    try:
        values = json.loads(file.read_text())
        kind = values["model_type"]
    except (ValueError, KeyError, TypeError) as error:
        raise PolicyError(f"{file} is malformed: expected JSON with a model_type, {error!r}") from error
    if not isinstance(kind, str):
        raise PolicyError(f"{file}: model_type: expected a name, got {kind!r}")
    return values


def is_hybrid(path: str | Path) -> bool:
    """Return True for a checkpoint that `HybridLM` runs."""
    return read_model_config(path)["model_type"] == "nemotron_h"


def load_any_policy(
    path: str | Path, dtype: torch.dtype = torch.float32, device: str = "cpu"
) -> HybridLM | HFPolicy:
    """Load a checkpoint directory: our own implementation of `nemotron_h`, transformers' of anything else.

    One in NVFP4 is dequantised.

    Raises:
        PolicyError: what is missing, malformed or not supported.
    """
    if not is_hybrid(path):
        return load_hf(path, dtype, device)
    from rolloom.policy.quantize import is_quantized
    from rolloom.policy.quantize_load import load_quantized

    return (load_quantized if is_quantized(path) else load_policy)(path, dtype, device)


def expect_deterministic(model: AnyPolicy) -> None:
    """Refuse a policy that deterministic mode does not reach.

    Raises:
        PolicyError: it is one of transformers.
    """
    if not isinstance(model, HybridLM):
        raise PolicyError("policy.deterministic: expected False for a policy of transformers, got True")


def save_any_policy(model: AnyPolicy, directory: Path) -> None:
    """Write a checkpoint that `load_any_policy` and transformers read into an existing directory."""
    if isinstance(model, HFPolicy):
        save_hf(model, directory)
    else:
        save_policy(model, directory)


def memory_need(path: str | Path, bytes_per_value: int) -> tuple[Footprint, str]:
    """Count the bytes of a checkpoint's policy without loading it; also a word on its architecture."""
    if is_hybrid(path):
        shape = HybridConfig.load(path)
        return footprint(shape, bytes_per_value), f"pattern {shape.pattern}"
    model = meta_hf(path)
    return memory_of(model, bytes_per_value), type(model.hf).__name__


def lora_need(path: str | Path, adaptation: Adaptation) -> tuple[int, int]:
    """Count what LoRA would make of a checkpoint's policy: its parameters, and the weights they change.

    Raises:
        PolicyError: a target is not there.
    """
    if is_hybrid(path):
        with torch.device("meta"):
            return count_lora(HybridLM(HybridConfig.load(path)), adaptation)
    return count_lora(meta_hf(path), adaptation)
