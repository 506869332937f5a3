"""The checkpoint directories that ours and transformers both load."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch

from rolloom.policy.checkpoint import save_policy
from rolloom.policy.config import HybridConfig, preset
from rolloom.policy.model import HybridLM
from rolloom.policy.small_tokenizer import train_tokenizer
from rolloom.rollout.warmstart import SHIPPED

MODELS = ("tiny", "dense", "small")
PEER_CHUNKS = {None: "its config's", 128: "128, the architecture's default"}
"""Chunk sizes of the peer's scan: what this checkpoint says, and what released ones and transformers do."""


def dense_config() -> HybridConfig:
    """Return a hybrid without experts, of about 2.8M parameters: the kind every engine can run."""
    return preset("tiny", pattern="M-M*-M-", hidden_size=256, intermediate_size=512, mamba_num_heads=16)


@contextmanager
def checkpoint(model: str) -> Iterator[tuple[str, Path]]:
    """Yield a label and a checkpoint directory: the shipped policy if there is one, else random weights."""
    if model == "tiny" and (SHIPPED / "model.safetensors").is_file():
        yield f"shipped {_label(HybridConfig.load(SHIPPED))}", SHIPPED
        return
    config = (
        dense_config()
        if model == "dense"
        else preset(model, **({"chunk_size": 32} if model == "small" else {}))
    )
    with tempfile.TemporaryDirectory() as name:
        directory = Path(name)
        save_policy(HybridLM(config, seed=0), directory)
        train_tokenizer([], 300).save(directory)
        yield f"random {_label(config)}", directory


def _label(config: HybridConfig) -> str:
    with torch.device("meta"):
        size = sum(p.numel() for p in HybridLM(config).parameters())
    return f"{config.pattern} {size / 1e6:.1f}M"


def load_transformers(path: Path, chunk: int | None = None) -> tuple[Any, str]:
    """Return transformers' model of a checkpoint in fp32 on the CPU, and the library's name and version.

    Args:
        path: checkpoint directory.
        chunk: of its Mamba-2 scan; None for what the checkpoint says.

    Nothing is set against it: default attention and expert implementations, and no end-of-text token, so that
    `generate` neither stops early nor spends time on forbidding the stop token.
    """
    import transformers

    transformers.logging.set_verbosity_error()
    transformers.logging.disable_progress_bar()
    model = transformers.AutoModelForCausalLM.from_pretrained(path, dtype=torch.float32)
    if chunk is not None:
        for layer in model.model.layers:
            if hasattr(layer.mixer, "chunk_size"):
                layer.mixer.chunk_size = chunk
    model.generation_config.eos_token_id = None
    model.generation_config.pad_token_id = 0
    return model, f"transformers {transformers.__version__}"
