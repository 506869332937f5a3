"""Hugging Face checkpoints of the hybrid, both ways.

Written in the released layout (`backbone.`, one tensor an expert), which transformers and vLLM read; read in
that layout or in transformers' own (`model.`, stacked experts).
"""

from __future__ import annotations

import json
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file

from rolloom.policy.config import HybridConfig, PolicyError
from rolloom.policy.model import HybridLM

WEIGHTS = "model.safetensors"
INDEX = "model.safetensors.index.json"


def to_released(state: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Rename a model's state dict to the released layout; tensors are detached, contiguous and on the CPU."""
    out: dict[str, torch.Tensor] = {}
    for name, tensor in state.items():
        tensor = tensor.detach().cpu()
        name = name.replace("model.", "backbone.", 1) if name.startswith("model.") else name
        if name.endswith((".experts.up_proj", ".experts.down_proj")):
            base, leaf = name.rsplit(".", 1)
            for expert, weight in enumerate(tensor):
                out[f"{base}.{expert}.{leaf}.weight"] = weight.clone()
        else:
            out[name] = tensor.clone().contiguous()
    return out


def from_any_layout(tensors: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Rename tensors of the released or the transformers layout to a model's state dict, stacking experts.

    Raises:
        PolicyError: the experts of a layer are not numbered without gaps or differ in shape.
    """
    out: dict[str, torch.Tensor] = {}
    experts: dict[str, dict[int, torch.Tensor]] = {}
    for name, tensor in tensors.items():
        name = name.replace("backbone.", "model.", 1) if name.startswith("backbone.") else name
        head, found, tail = name.partition(".experts.")
        parts = tail.split(".")
        if found and len(parts) == 3 and parts[0].isdecimal():
            experts.setdefault(f"{head}.experts.{parts[1]}", {})[int(parts[0])] = tensor
        else:
            out[name] = tensor
    for name, by_index in experts.items():
        if sorted(by_index) != list(range(len(by_index))):
            raise PolicyError(f"{name}: experts {sorted(by_index)} are not numbered 0 to {len(by_index) - 1}")
        shapes = {tuple(tensor.shape) for tensor in by_index.values()}
        if len(shapes) > 1:
            raise PolicyError(f"{name}: expected experts of one shape, got {sorted(shapes)}")
        out[name] = torch.stack([by_index[index] for index in range(len(by_index))])
    return out


def save_policy(model: HybridLM, directory: Path) -> None:
    """Write `config.json` and `model.safetensors` into an existing directory."""
    config = json.dumps(model.config.to_hf(), indent=2) + "\n"
    (directory / "config.json").write_text(config)
    save_file(to_released(model.state_dict()), str(directory / WEIGHTS), metadata={"format": "pt"})


def read_tensors(directory: Path) -> dict[str, torch.Tensor]:
    """Read every tensor of a checkpoint, sharded or not.

    Raises:
        PolicyError: no weights, or a file that is damaged.
    """
    if (directory / INDEX).is_file():
        try:
            index = json.loads((directory / INDEX).read_text())
            files = sorted({directory / name for name in index["weight_map"].values()})
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise PolicyError(f"{directory / INDEX} is malformed: {error!r}") from error
    else:
        files = [directory / WEIGHTS]
    tensors: dict[str, torch.Tensor] = {}
    for file in files:
        if not file.is_file():
            raise PolicyError(f"expected weights at {file}, found none")
        try:
            tensors.update(load_file(str(file)))
        except SafetensorError as error:
            raise PolicyError(f"{file} is not a readable safetensors file: {error}") from error
    return tensors


def load_policy(path: str | Path, dtype: torch.dtype = torch.float32, device: str = "cpu") -> HybridLM:
    """Load a checkpoint directory. The routers stay in fp32 whatever the dtype (Nemotron 3's recipe).

    Raises:
        PolicyError: missing files, or missing, unexpected or misshaped tensors, all listed.
    """
    directory = Path(path)
    model = HybridLM(HybridConfig.load(directory))
    load_weights(model, from_any_layout(read_tensors(directory)), str(directory))
    for name, tensor in [*model.named_parameters(), *model.named_buffers()]:
        if ".gate." not in name:
            tensor.data = tensor.data.to(dtype)
    return model.to(device=device)


def load_weights(model: HybridLM, state: dict[str, torch.Tensor], source: str) -> None:
    """Copy a state dict into a model after checking that it fits exactly.

    Raises:
        PolicyError: lists what is missing, unexpected or misshaped.
    """
    expected = model.state_dict()
    problems = [f"missing {name} {tuple(expected[name].shape)}" for name in expected.keys() - state.keys()]
    problems += [f"unexpected {name} {tuple(state[name].shape)}" for name in state.keys() - expected.keys()]
    problems += [
        f"misshaped {name}: expected {tuple(tensor.shape)}, got {tuple(state[name].shape)}"
        for name, tensor in expected.items()
        if name in state and state[name].shape != tensor.shape
    ]
    if problems:
        shown = "; ".join(sorted(problems)[:12])
        raise PolicyError(f"{source} does not fit its config.json ({len(problems)} tensors): {shown}")
    model.load_state_dict(state)
