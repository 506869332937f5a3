"""NVFP4 checkpoints: written in ModelOpt's layout, read back dequantised or packed, counted to the byte.

A quantised matrix `NAME.weight` `[N, K]` is three tensors, as NVIDIA's Model Optimizer exports them and vLLM,
SGLang and TensorRT-LLM read them:

    NAME.weight          uint8 [N, K / 2]           two E2M1 codes, the even column in the low four bits
    NAME.weight_scale    float8_e4m3fn [N, K / 16]  one scale a block of 16
    NAME.weight_scale_2  fp32 []                    element * block scale * this = value

`hf_quant_config.json` and `quantization_config` in `config.json` say so with the algorithm `W4A16_NVFP4`
(weights only; activations stay as they are) and list the modules left out. Sources: Model Optimizer's
`modelopt/torch/export/convert_hf_config.py` and its 0.45.0 release notes; vLLM's
`docs/features/quantization/modelopt.md`.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import Any, Literal

import torch
from safetensors.torch import save_file

import rolloom
from rolloom.kernels.nvfp4.format import BLOCK, NVFP4, packed_bytes
from rolloom.kernels.nvfp4.op import dequantize, quantize
from rolloom.policy.checkpoint import WEIGHTS, from_any_layout, load_weights, read_tensors, to_released
from rolloom.policy.config import HybridConfig, PolicyError
from rolloom.policy.loading import is_hybrid, read_model_config
from rolloom.policy.model import HybridLM
from rolloom.policy.quantize_layers import DEFAULT, KINDS, chosen, kind_of

Rounding = Literal["nearest", "stochastic"]
ALGORITHM, READABLE = "W4A16_NVFP4", ("W4A16_NVFP4", "NVFP4")
QUANT_CONFIG = "hf_quant_config.json"
SCALE, SCALE_2 = "weight_scale", "weight_scale_2"


@dataclass(frozen=True, slots=True)
class KindBytes:
    """What became of one kind of tensor.

    Attributes:
        kind: of `quantize_layers.KINDS`.
        elements: of all its tensors.
        quantized: of those in NVFP4.
        before: bytes before.
        after: bytes after.
    """

    kind: str
    elements: int
    quantized: int
    before: int
    after: int

    @property
    def bits(self) -> float:
        """Bits an element after."""
        return 8 * self.after / self.elements if self.elements else 0.0


def bytes_by_kind(shapes: Mapping[str, tuple[tuple[int, ...], int]], matrices: list[str]) -> list[KindBytes]:
    """Count bytes from shapes alone: 4.5 bits an element and 4 bytes a matrix for what is quantised.

    Args:
        shapes: of every tensor in the released layout, with its bytes an element.
        matrices: those quantised.

    Returns:
        One entry a kind that occurs, in the order of `KINDS`.
    """
    packed = {f"{name}.weight" for name in matrices}
    counts = {kind: [0, 0, 0, 0] for kind in KINDS}
    for name, (shape, size) in shapes.items():
        held, elements = counts[kind_of(name)], prod(shape)
        held[0] += elements
        held[1] += elements if name in packed else 0
        held[2] += elements * size
        held[3] += packed_bytes(shape) if name in packed else elements * size
    return [KindBytes(kind, *held) for kind, held in counts.items() if held[0]]


def quantize_tensors(
    tensors: Mapping[str, torch.Tensor], matrices: list[str], rounding: Rounding = "nearest", seed: int = 0
) -> dict[str, torch.Tensor]:
    """Quantise matrices of a checkpoint in the released layout.

    Args:
        tensors: all of them.
        matrices: names without `.weight`.
        rounding: of the elements; `stochastic` draws from Philox of the seed and the matrix's number.
        seed: of stochastic rounding.

    Raises:
        PolicyError: a matrix's width is not a multiple of 16; unknown rounding.
    """
    if rounding not in ("nearest", "stochastic"):
        raise PolicyError(f"rounding: expected 'nearest' or 'stochastic', got {rounding!r}")
    check_widths(tensors, matrices)
    out = dict(tensors)
    for index, name in enumerate(matrices):
        own = None if rounding == "nearest" else (seed << 20) + index
        packed = quantize(tensors[f"{name}.weight"], seed=own)
        out[f"{name}.weight"] = packed.codes
        out[f"{name}.{SCALE}"] = packed.scales.view(torch.float8_e4m3fn)
        out[f"{name}.{SCALE_2}"] = packed.tensor_scale
    return out


def check_widths(tensors: Mapping[str, torch.Tensor], matrices: list[str]) -> None:
    """Refuse matrices whose rows are not whole blocks.

    Raises:
        PolicyError: names the first of them.
    """
    uneven = [name for name in matrices if tensors[f"{name}.weight"].shape[-1] % BLOCK]
    if uneven:
        shape = tuple(tensors[f"{uneven[0]}.weight"].shape)
        raise PolicyError(
            f"{uneven[0]}: expected a width that is a multiple of the block of {BLOCK}, got {shape} "
            f"({len(uneven)} such matrices); leave them out with a regular expression in `layers`"
        )


def packed_of(tensors: Mapping[str, torch.Tensor]) -> dict[str, NVFP4]:
    """Return the quantised matrices of a checkpoint, by name without `.weight`.

    Raises:
        PolicyError: parts are missing or do not fit each other.
    """
    found = {}
    for key in tensors:
        name, _, leaf = key.rpartition(".")
        if leaf != SCALE_2:
            continue
        parts = [tensors.get(f"{name}.{part}") for part in ("weight", SCALE)]
        codes, scales = parts
        if codes is None or scales is None:
            raise PolicyError(f"{name}: expected {name}.weight and {name}.{SCALE} beside {SCALE_2}")
        expected = (*codes.shape[:-1], 2 * codes.shape[-1] // BLOCK)
        if codes.dtype != torch.uint8 or scales.dtype != torch.float8_e4m3fn or scales.shape != expected:
            raise PolicyError(
                f"{name}: expected uint8 [N, K / 2] and float8_e4m3fn [N, K / {BLOCK}], got {codes.dtype} "
                f"{tuple(codes.shape)} and {scales.dtype} {tuple(scales.shape)}"
            )
        found[name] = NVFP4(codes, scales.view(torch.uint8), tensors[key].float().reshape(()))
    return found


def dequantize_tensors(tensors: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Return a checkpoint's tensors with every quantised matrix in fp32; others as they are."""
    out = {
        name: tensor
        for name, tensor in tensors.items()
        if not name.endswith((f".{SCALE}", f".{SCALE_2}", ".input_scale"))
    }
    for name, packed in packed_of(tensors).items():
        out[f"{name}.weight"] = dequantize(packed, torch.float32)
    return out


def is_quantized(path: str | Path) -> bool:
    """Return True for a checkpoint whose `config.json` has a `quantization_config`.

    Raises:
        PolicyError: it is quantised in a way that cannot be read here.
    """
    values = read_model_config(path).get("quantization_config")
    if not values:
        return False
    method, algorithm = values.get("quant_method"), values.get("quant_algo")
    if method != "modelopt" or algorithm not in READABLE:
        raise PolicyError(
            f"quantization_config: expected quant_method 'modelopt' and quant_algo of {READABLE}, got "
            f"{method!r} and {algorithm!r}"
        )
    return True


def quant_config(names: list[str], matrices: list[str]) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return the contents of `hf_quant_config.json` and of `quantization_config` in `config.json`.

    Args:
        names: of every module with a `weight` that is a matrix.
        matrices: those quantised.
    """
    ignored = sorted(set(names) - set(matrices))
    producer = {"name": "rolloom", "version": rolloom.__version__}
    own = {
        "quant_algo": ALGORITHM,
        "kv_cache_quant_algo": None,
        "group_size": BLOCK,
        "exclude_modules": ignored,
    }
    weights = {"dynamic": False, "num_bits": 4, "type": "float", "group_size": BLOCK}
    inside = {
        "config_groups": {"group_0": {"weights": weights, "targets": ["Linear"]}},
        "ignore": ignored,
        "quant_algo": ALGORITHM,
        "group_size": BLOCK,
        "producer": producer,
        "quant_method": "modelopt",
    }
    return {"producer": producer, "quantization": own}, inside


def save_quantized(model: HybridLM, directory: Path, matrices: list[str], rounding: Rounding = "nearest",
                   seed: int = 0) -> list[KindBytes]:  # fmt: skip
    """Quantise matrices of a model and write the checkpoint into an existing directory.

    Returns:
        Bytes by kind; their sum is what the weights take in the file.
    """
    tensors = to_released(model.state_dict())
    written = quantize_tensors(tensors, matrices, rounding, seed)
    beside, inside = quant_config(_modules(tensors), matrices)
    config = {**model.config.to_hf(), "quantization_config": inside}
    (directory / "config.json").write_text(json.dumps(config, indent=2) + "\n")
    (directory / QUANT_CONFIG).write_text(json.dumps(beside, indent=2) + "\n")
    save_file(written, str(directory / WEIGHTS), metadata={"format": "pt"})
    shapes = {name: (tuple(tensor.shape), tensor.element_size()) for name, tensor in tensors.items()}
    return bytes_by_kind(shapes, matrices)


def _modules(tensors: Mapping[str, torch.Tensor]) -> list[str]:
    """Return every module whose weight a quantiser might take, routers and convolutions included."""
    return [name.removesuffix(".weight") for name, t in tensors.items()
            if name.endswith(".weight") and t.ndim > 1]  # fmt: skip


def load_plain(path: str | Path, dtype: torch.dtype | None = None) -> HybridLM:
    """Load a checkpoint that is to be quantised, in the dtype of its matrices unless told otherwise.

    Raises:
        PolicyError: another architecture, or quantised already.
    """
    if not is_hybrid(path):
        kind = read_model_config(path)["model_type"]
        raise PolicyError(f"model_type: only 'nemotron_h' can be quantised here, got {kind!r}")
    if is_quantized(path):
        raise PolicyError(f"{path} is quantised already; give the checkpoint it was made from")
    model = HybridLM(HybridConfig.load(path))
    tensors = from_any_layout(read_tensors(Path(path)))
    held = dtype or tensors["lm_head.weight"].dtype
    load_weights(model, tensors, str(path))
    for name, tensor in [*model.named_parameters(), *model.named_buffers()]:
        if ".gate." not in name:
            tensor.data = tensor.data.to(held)
    return model


def quantize_policy(
    path: str | Path, out: str | Path, layers: str = DEFAULT, rounding: Rounding = "nearest", seed: int = 0,
    model: HybridLM | None = None,
) -> list[KindBytes]:  # fmt: skip
    """Quantise a checkpoint directory into another one, tokenizer included.

    Args:
        path: to read.
        out: to write; made if it does not exist.
        layers: `default`, `all` or a regular expression (`quantize_layers.chosen`).
        rounding: `nearest` or `stochastic`.
        seed: of stochastic rounding.
        model: weights to take instead of those at `path`, as distillation made them.

    Raises:
        PolicyError: what cannot be read, quantised or written over.
    """
    source, target = Path(path), Path(out)
    if target.exists() and any(target.iterdir()):
        raise PolicyError(f"{target}: expected a directory that is empty or does not exist, found files")
    held = load_plain(source) if model is None else model
    names = chosen(to_released(held.state_dict()), held.config.pattern, layers)
    target.mkdir(parents=True, exist_ok=True)
    counted = save_quantized(held, target, names, rounding, seed)
    for file in sorted(source.iterdir()):
        if file.name.startswith(("tokenizer", "chat_template", "special_tokens", "generation_config")):
            shutil.copyfile(file, target / file.name)
    return counted
