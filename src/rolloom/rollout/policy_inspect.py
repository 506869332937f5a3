"""`rolloom policy inspect`: what a checkpoint holds, what it costs, and what is wrong with it."""

from __future__ import annotations

import json
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from typing import Any

import torch
from rich.console import Console
from rich.table import Table

from rolloom.errors import RolloomError, did_you_mean
from rolloom.policy.checkpoint import find_problems
from rolloom.policy.checkpoint_files import Stored, stored_tensors
from rolloom.policy.config import LETTERS, PRESETS, HybridConfig, PolicyError, preset
from rolloom.policy.loading import is_hybrid, read_model_config
from rolloom.policy.model import HybridLM
from rolloom.policy.parameters import LayerSize, PolicySize, policy_size

KINDS = {"M": "Mamba-2", "E": "experts", "*": "attention", "-": "MLP"}
ADAM_BYTES = 12
"""Bytes a trained parameter needs beside itself: its gradient and two moments in fp32."""
assert KINDS.keys() == LETTERS.keys()


@dataclass(frozen=True, slots=True)
class Inspection:
    """What `inspect` found.

    Attributes:
        source: the path or the preset's name.
        config: of the policy.
        size: counted from it.
        bytes_per_value: of the weights.
        files: number of weight files; 0 for a preset.
        layout: `released` or `hf`; empty for a preset.
        dtypes: bytes of each dtype in the files.
        problems: what keeps the files from loading.
    """

    source: str
    config: HybridConfig
    size: PolicySize
    bytes_per_value: int
    files: int
    layout: str
    dtypes: dict[str, int]
    problems: list[str]


def look(source: str) -> Inspection:
    """Read a checkpoint's configuration and headers, or a preset; no weight is read.

    Raises:
        PolicyError: neither a checkpoint directory of a hybrid nor a preset.
    """
    directory = Path(source)
    if not directory.is_dir():
        if source in PRESETS:
            config = preset(source)
            return Inspection(source, config, policy_size(config), 2, 0, "", {}, [])
        near = did_you_mean(source, PRESETS)
        raise PolicyError(
            f"expected a checkpoint directory or one of {', '.join(PRESETS)}, got {source!r}.{near}"
        )
    if not is_hybrid(directory):
        kind = read_model_config(directory)["model_type"]
        raise PolicyError(
            f"{source}: expected model_type 'nemotron_h', got {kind!r}; transformers describes it"
        )
    config = HybridConfig.load(directory)
    stored = stored_tensors(directory)
    dtypes: dict[str, int] = {}
    for tensor in stored.values():
        dtypes[tensor.dtype] = dtypes.get(tensor.dtype, 0) + tensor.elements * SIZES.get(tensor.dtype, 1)
    names = list(stored)
    layout = "hf" if any(name.startswith("model.") for name in names) else "released"
    most = max(dtypes, key=lambda name: dtypes[name], default="F32")
    files, problems = len({tensor.file for tensor in stored.values()}), _problems(config, stored)
    size, width = policy_size(config), SIZES.get(most, 4)
    return Inspection(source, config, size, width, files, layout, dtypes, problems)


SIZES = {"F64": 8, "F32": 4, "F16": 2, "BF16": 2, "F8_E4M3": 1, "U8": 1, "I64": 8, "I32": 4}


def _problems(config: HybridConfig, stored: dict[str, Stored]) -> list[str]:
    if any(name.endswith(".weight_scale_2") for name in stored):
        return []
    drafting = config.num_nextn_predict_layers
    with torch.device("meta"):
        model = HybridLM(config)
    try:
        kept = {name: tensor for name, tensor in stored.items() if drafting or not name.startswith("mtp.")}
        return find_problems(model, kept)
    except RolloomError as error:
        return [str(error)]


def as_json(found: Inspection) -> dict[str, Any]:
    """Return an inspection as JSON values."""
    size, width = found.size, found.bytes_per_value
    return {
        "source": found.source,
        "pattern": found.config.pattern,
        "parameters": size.parameters,
        "active_parameters": size.active,
        "active_parameters_with_embedding": size.active_with_embedding,
        "mtp_parameters": size.drafting,
        "layers": [
            {"letter": layer.letter, "parameters": layer.parameters, "active": layer.active,
             "state_bytes": layer.state_bytes(width), "kv_bytes_per_token": layer.kv_values * width}
            for layer in size.layers
        ],
        "weight_bytes": size.weight_bytes(width),
        "state_bytes_per_sequence": size.state_bytes(width),
        "kv_bytes_per_token": size.kv_bytes(width),
        "files": found.files,
        "layout": found.layout,
        "bytes_by_dtype": found.dtypes,
        "problems": found.problems,
        "config": found.config.to_hf(),
    }  # fmt: skip


def inspect(source: str, as_text: bool = False) -> int:
    """Print what a checkpoint is; see `look`.

    Args:
        source: a checkpoint directory or a preset.
        as_text: JSON instead of tables.

    Returns:
        1 if the files do not fit their configuration, else 0.
    """
    found = look(source)
    if as_text:
        print(json.dumps(as_json(found), indent=2))
        return int(bool(found.problems))
    console = Console()
    size, width = found.size, found.bytes_per_value
    table = Table(box=None, header_style="bold")
    table.add_column("layers")
    table.add_column("kind")
    for name in ("parameters", "a token uses", "state a sequence", "KV a token"):
        table.add_column(name, justify="right", no_wrap=True)
    for letter in dict.fromkeys(found.config.pattern):
        _row(table, found.config.pattern, letter, [la for la in size.layers if la.letter == letter], width)
    if size.mtp:
        used = sum(layer.active for layer in size.mtp)
        table.add_row(found.config.mtp_pattern, "draft (MTP)", _count(size.drafting), _count(used), "", "")
    table.add_row("", "embedding", _count(size.embedding), "one row", "", "")
    table.add_row("", "output head", _count(size.head), _count(size.head), "", "")
    table.add_row(
        "", "all", _count(size.parameters), _count(size.active), _human(size.state_bytes(width)),
        _human(size.kv_bytes(width)), style="bold",
    )  # fmt: skip
    console.print(f"[bold]{found.source}[/bold]: {_runs(found.config.pattern)}", highlight=False)
    console.print(table)
    weights = size.weight_bytes(width)
    rows, context = 64, found.config.max_position_embeddings
    cache = rows * (size.state_bytes(width) + size.kv_bytes(width) * context)
    trained = _human(weights + size.parameters * ADAM_BYTES)
    console.print(
        f"weights {_human(weights)} at {width} bytes a value; to train all of them with AdamW {trained}, "
        f"activations not counted; to serve {rows} sequences of {context:,} tokens {_human(weights + cache)}",
        highlight=False,
    )
    if found.files:
        parts = ", ".join(f"{name} {_human(count)}" for name, count in sorted(found.dtypes.items()))
        plural = "" if found.files == 1 else "s"
        console.print(f"{found.files} file{plural}, {found.layout} layout: {parts}", highlight=False)
    for problem in found.problems[:20]:
        console.print(f"[red]{problem}[/red]", highlight=False)
    if len(found.problems) > 20:
        console.print(f"[red]and {len(found.problems) - 20} more[/red]", highlight=False)
    return int(bool(found.problems))


def _row(table: Table, pattern: str, letter: str, layers: list[LayerSize], width: int) -> None:
    state = sum(layer.state_bytes(width) for layer in layers)
    kv = sum(layer.kv_values for layer in layers) * width
    table.add_row(
        f"{pattern.count(letter)} {letter}", KINDS[letter],
        _count(sum(layer.parameters for layer in layers)), _count(sum(layer.active for layer in layers)),
        _human(state) if state else "", _human(kv) if kv else "",
    )  # fmt: skip


def _count(number: int) -> str:
    """Return a number of parameters: exact up to a thousand million."""
    return f"{number:,}" if number < 10**9 else f"{number / 1e9:,.3f}e9"


def _runs(pattern: str) -> str:
    """Return a pattern with its length: `M*E (3 layers)`."""
    longest = max(len(list(run)) for _, run in groupby(pattern))
    return f"{pattern} ({len(pattern)} layers{f', runs of up to {longest}' if longest > 1 else ''})"


def _human(count: int) -> str:
    value, unit = float(count), "B"
    for unit in ("B", "KiB", "MiB", "GiB", "TiB"):
        if value < 1024 or unit == "TiB":
            break
        value /= 1024
    return f"{value:,.0f} {unit}" if value >= 100 or unit == "B" else f"{value:,.1f} {unit}"
