"""Adapters in peft's layout, both ways: `adapter_config.json` and `adapter_model.safetensors`.

peft loads what is written here onto transformers' model of the same checkpoint; an adapter that peft trained
is read back. peft itself is not needed for either.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file

from rolloom.policy.config import PolicyError
from rolloom.policy.hf import HFPolicy
from rolloom.policy.lora import Adaptation, Site, add_lora, merge_lora, sites

CONFIG = "adapter_config.json"
WEIGHTS = "adapter_model.safetensors"
PREFIX = "base_model.model."
PLAIN: dict[str, Any] = {
    "peft_type": "LORA",
    "bias": "none",
    "fan_in_fan_out": False,
    "use_rslora": False,
    "use_dora": False,
    "use_qalora": False,
    "lora_bias": False,
    "modules_to_save": None,
    "rank_pattern": {},
    "alpha_pattern": {},
    "layers_to_transform": None,
    "layer_replication": None,
    "trainable_token_indices": None,
}
"""What an adapter's configuration must say to be a plain one; also what is written."""


def save_adapter(model: Any, adaptation: Adaptation, directory: Path, base: str = "") -> None:
    """Write the changes of a policy as a peft adapter into a new directory.

    Args:
        model: a policy after `add_lora`.
        adaptation: what `add_lora` was given.
        directory: made here.
        base: checkpoint the adapter belongs to.
    """
    directory.mkdir(parents=True, exist_ok=True)
    places = list(sites(model))
    modules = {_name(model, site.path) for site in places if site.leaf == "weight"}
    parameters = {f"{_name(model, site.path)}.{site.leaf}" for site in places if site.leaf != "weight"}
    config = {
        **PLAIN,
        "task_type": "CAUSAL_LM",
        "base_model_name_or_path": base,
        "inference_mode": True,
        "r": adaptation.rank,
        "lora_alpha": adaptation.alpha,
        # peft refuses dropout beside changes of stacked experts; it would apply it in training only.
        "lora_dropout": 0.0 if parameters else adaptation.dropout,
        "target_modules": sorted(modules),
        "target_parameters": sorted(parameters) or None,
    }
    (directory / CONFIG).write_text(json.dumps(config, indent=2) + "\n")
    tensors: dict[str, torch.Tensor] = {}
    for site in places:
        key, a, b = _key(model, site), site.change.lora_A.detach().cpu(), site.change.lora_B.detach().cpu()
        if a.dim() == 3:
            a, b = a.flatten(0, 1), b.permute(1, 2, 0).flatten(1)
        tensors[f"{key}.lora_A.weight"] = a.clone().contiguous()
        tensors[f"{key}.lora_B.weight"] = b.clone().contiguous()
    save_file(tensors, str(directory / WEIGHTS), metadata={"format": "pt"})


def read_adaptation(directory: Path) -> Adaptation:
    """Read what a peft adapter changes.

    Raises:
        PolicyError: there is none, or it does something else than plain LoRA.
    """
    file = directory / CONFIG
    if not file.is_file():
        raise PolicyError(f"expected a LoRA adapter with {CONFIG} in {directory}, found none")
    try:
        config = json.loads(file.read_text())
        for key, plain in PLAIN.items():
            if (config.get(key, plain) or None) != (plain or None):
                raise PolicyError(f"{file}: {key}: only {plain!r} is supported, got {config[key]!r}")
        modules = config["target_modules"] or []
        if isinstance(modules, str):
            raise PolicyError(
                f"{file}: target_modules: expected a list of names, got the pattern {modules!r}"
            )
        targets = (*modules, *(config.get("target_parameters") or []))
        dropout = float(config.get("lora_dropout") or 0.0)
        return Adaptation(int(config["r"]), float(config["lora_alpha"]), targets, dropout)
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise PolicyError(f"{file} is malformed: {error!r}") from error


def load_adapter(model: Any, directory: Path, adaptation: Adaptation | None = None) -> Adaptation:
    """Give a policy the changes of an adapter, and freeze the rest.

    Args:
        model: a policy without LoRA.
        directory: of the adapter.
        adaptation: expected; None takes the adapter's own.

    Returns:
        What the adapter changes.

    Raises:
        PolicyError: the adapter is missing, damaged, not plain LoRA, or does not fit the policy.
    """
    own = read_adaptation(directory)
    if adaptation is not None and (own.rank, own.alpha) != (adaptation.rank, adaptation.alpha):
        raise PolicyError(
            f"policy.lora: expected the adapter's rank {own.rank} and alpha {own.alpha:g} ({directory}), "
            f"got rank {adaptation.rank} and alpha {adaptation.alpha:g}"
        )
    held = adaptation or own
    add_lora(model, held)
    try:
        tensors = load_file(str(directory / WEIGHTS))
    except (OSError, SafetensorError) as error:
        raise PolicyError(f"{directory / WEIGHTS} is not a readable adapter: {error}") from error
    problems: list[str] = []
    for site in sites(model):
        key, change = _key(model, site), site.change
        for name, parameter in (("lora_A", change.lora_A), ("lora_B", change.lora_B)):
            tensor = tensors.pop(f"{key}.{name}.weight", None)
            if tensor is None:
                problems.append(f"missing {key}.{name}")
            elif tensor.numel() != parameter.numel():
                problems.append(f"misshaped {key}.{name}: {tuple(tensor.shape)}")
            else:
                parameter.data.copy_(_stacked(tensor, parameter.shape, name))
    problems += [f"unexpected {name}" for name in tensors]
    if problems:
        shown = "; ".join(sorted(problems)[:8])
        raise PolicyError(f"{directory} does not fit the policy ({len(problems)} tensors): {shown}")
    return held


def merge_adapter(model: Any, directory: Path) -> Any:
    """Return a policy with an adapter merged into its weights, in place; for exports.

    Raises:
        PolicyError: as for `load_adapter`.
    """
    load_adapter(model, directory)
    merge_lora(model)
    return model


def _stacked(tensor: torch.Tensor, shape: torch.Size, name: str) -> torch.Tensor:
    if len(shape) == 2 or name == "lora_A":
        return tensor.reshape(shape)
    experts, outputs, rank = shape
    return tensor.reshape(outputs, rank, experts).permute(2, 0, 1)


def _name(model: Any, path: str) -> str:
    """Return a module's name in transformers' model of the same checkpoint."""
    return path.removeprefix("hf.") if isinstance(model, HFPolicy) else path


def _key(model: Any, site: Site) -> str:
    """Return what peft calls an adapted weight.

    It wraps a module once for each of its stacked weights: the last one is outermost.
    """
    name = PREFIX + _name(model, site.path)
    if site.leaf == "weight":
        return name
    # In the order of the model, since `add_lora` goes by it.
    order = list(site.module.parametrizations)  # type: ignore[arg-type]
    return name + ".base_layer" * (len(order) - 1 - order.index(site.leaf))
