"""`rolloom policy convert`: a checkpoint in another layout, dtype or sharding."""

from __future__ import annotations

import re
import shutil
import tempfile
from pathlib import Path

import torch

from rolloom.policy.checkpoint import load_policy, save_policy
from rolloom.policy.checkpoint_files import stored_tensors
from rolloom.policy.checkpoint_names import Layout
from rolloom.policy.config import PolicyError
from rolloom.policy.loading import is_hybrid

UNITS = {"": 1, "KB": 10**3, "MB": 10**6, "GB": 10**9, "TB": 10**12}
DTYPES = {"F64": torch.float64, "F32": torch.float32, "F16": torch.float16, "BF16": torch.bfloat16}


def size_of(text: str) -> int:
    """Return the bytes that `5GB`, `200MB` or a plain number means, in powers of 1000 as in transformers.

    Raises:
        PolicyError: it is none.
    """
    found = re.fullmatch(r"(\d+(?:\.\d+)?)\s*([KMGT]?B?)", text.strip().upper())
    unit = "" if found is None else found[2] if found[2] != "B" else ""
    if found is None or unit not in UNITS:
        raise PolicyError(f"--max-shard-size: expected a size such as 5GB or 200MB, got {text!r}")
    return int(float(found[1]) * UNITS[unit])


def convert(source: Path, target: Path, layout: Layout, dtype: str | None, max_shard_bytes: int) -> int:
    """Write a checkpoint anew; its tokenizer and other small files are copied.

    Args:
        source: checkpoint directory.
        target: directory to make; it must not exist, or be empty.
        layout: of tensor names.
        dtype: of the weights, or None to keep what most of them have.
        max_shard_bytes: of one file.

    Raises:
        PolicyError: no checkpoint of a hybrid, or the target is taken.
    """
    if not is_hybrid(source):
        raise PolicyError(f"{source}: expected model_type 'nemotron_h'; transformers converts others")
    if target.exists() and (not target.is_dir() or any(target.iterdir())):
        raise PolicyError(f"{target}: expected a new or an empty directory")
    kept = DTYPES[_commonest(source)] if dtype is None else getattr(torch, dtype)
    target.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=target.parent, prefix=f".{target.name}-") as name:
        made = Path(name) / "made"
        made.mkdir()
        for file in sorted(source.iterdir()):
            if file.is_file() and not file.name.endswith((".safetensors", ".safetensors.index.json")):
                shutil.copyfile(file, made / file.name)
        save_policy(load_policy(source, kept), made, layout, kept, max_shard_bytes)
        if target.exists():
            target.rmdir()
        made.rename(target)
    files = sorted(target.glob("*.safetensors"))
    size = sum(file.stat().st_size for file in files)
    print(f"wrote {target}: {len(files)} file(s), {size:,} bytes, {layout} layout, {str(kept)[6:]}")
    return 0


def _commonest(source: Path) -> str:
    sizes: dict[str, int] = {}
    for tensor in stored_tensors(source).values():
        sizes[tensor.dtype] = sizes.get(tensor.dtype, 0) + tensor.elements
    most = max(sizes, key=lambda name: sizes[name])
    if most not in DTYPES:
        raise PolicyError(
            f"{source}: weights are {most}: a quantised checkpoint is converted before quantising"
        )
    return most
