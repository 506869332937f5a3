"""Any causal language model of transformers as a policy, behind the interface of `HybridLM`.

The model runs packed sequences as one row of tokens; the attention function (`hf_attention`) keeps the
sequences apart and caches keys and values. What such a model must be: tokens meet in its attention layers
only, and its logits are its last hidden states times the head's weight. Both are tried when it is loaded.

Left out: router replay (a mixture of experts chooses anew in training, as it did when sampling), and the
bitwise agreement of deterministic mode, which needs every operation to be ours.

Shapes: L packed tokens, S sequences, D hidden size, V vocabulary; n rows of a decode step.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import nn
from torch.nn.utils import parametrize

from rolloom.kernels.packing import Packing
from rolloom.policy.config import PolicyError
from rolloom.policy.hf_attention import NAME, Pass, attend
from rolloom.policy.hf_cache import KeyValueCache
from rolloom.policy.memory import Footprint
from rolloom.policy.optional import need

PURPOSE = "A policy of another architecture than nemotron_h"
TOLERANCE = {torch.float32: 2e-5, torch.bfloat16: 0.1, torch.float16: 0.02}
"""What the trial of a loaded model lets pass, relative to the largest value."""

LAYER_TYPES = {"full_attention", "sliding_attention"}
"""Of `config.layer_types`: the attention function knows what such layers see."""


@dataclass(frozen=True, slots=True)
class HFShape:
    """What the engine asks of a policy's shape: no expert choices are recorded."""

    vocab_size: int
    hidden_size: int
    moe_layers: int = 0
    num_experts_per_tok: int = 1
    n_routed_experts: int = 1


class HFPolicy(nn.Module):
    """A transformers model that trains and samples as `HybridLM` does.

    Args:
        model: a `...ForCausalLM` made with `attn_implementation="rolloom"`; see `load_hf`.

    Attributes:
        hf: the model. Parameters keep its names behind `hf.`.
        recompute: in training, keep only each layer's input and compute the layer again in the backward pass.
    """

    def __init__(self, model: Any) -> None:
        super().__init__()
        self.hf = model
        head = model.get_output_embeddings()
        if not isinstance(head, nn.Linear):
            raise PolicyError(f"{_kind(model)}: expected a linear output head, got {type(head).__name__}")
        if head.bias is not None:
            raise PolicyError(f"{_kind(model)}: an output head with a bias is not supported")
        self.config = HFShape(head.out_features, head.in_features)
        self.recompute = self._recomputes = False
        for module in model.modules():
            # A learner that drops activations is not the policy that sampled.
            if isinstance(module, nn.Dropout):
                module.p = 0.0

    @property
    def lm_head(self) -> nn.Linear:
        """The output head."""
        return self.hf.get_output_embeddings()

    def forward(
        self,
        ids: torch.Tensor,
        packing: Packing | None = None,
        replay: torch.Tensor | None = None,
        recorded: list[torch.Tensor] | None = None,
    ) -> torch.Tensor:
        """Run whole sequences. Padding on the right of a dense batch is ignored by everything before it.

        Args:
            ids: int64, packed `[L]` with `packing`, or `[B, T]` without.
            packing: of the L tokens; no sequence sees another.
            replay: not supported, None.
            recorded: receives nothing.

        Returns:
            Final hidden states `[L, D]` or `[B, T, D]`.
        """
        assert replay is None, "the engine records no experts of a transformers policy"
        if self.recompute != self._recomputes:
            _set_recomputation(self.hf, self.recompute)
            self._recomputes = self.recompute
        shape = ids.shape
        if packing is None:
            packing, ids = Packing.dense(*shape), ids.flatten()
        return self._run(ids, Pass(packing, packing.places(ids.device))).view(*shape, -1)

    def logits(self, hidden: torch.Tensor) -> torch.Tensor:
        """Return the logits of final hidden states `[n, D]`, fp32 `[n, V]`, for sampling."""
        return F.linear(hidden, self.lm_head.weight).float()

    def new_cache(self, rows: int, context: int) -> KeyValueCache:
        """Return an empty cache of `rows` sequences of up to `context` tokens."""
        return KeyValueCache(rows, context, self.lm_head.weight.device)

    @torch.no_grad()
    def feed(
        self, ids: torch.Tensor, packing: Packing, cache: KeyValueCache, start: int
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Feed packed sequences to rows `start..start + S` of the cache, continuing what they hold.

        Args:
            ids: `[L]`.
            packing: of the L tokens; no sequence is empty.
            cache: written in place.
            start: first row.

        Returns:
            Final hidden states `[L, D]` and no expert choices, `[L, 0, 1]`.
        """
        rows = slice(start, start + packing.sequences)
        held, fed = cache.lengths[rows], torch.tensor(packing.lengths, device=ids.device)
        longest = int((held + fed).max())
        fresh = not bool(held.any())
        return self._feed(ids, packing, cache, start, longest, fresh, fed)

    @torch.no_grad()
    def decode(
        self, ids: torch.Tensor, cache: KeyValueCache, longest: int
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Feed one token to each of the rows `0..n` of the cache.

        Args:
            ids: `[n]`.
            cache: written in place.
            longest: length of the longest of these rows, this token included.

        Returns:
            Final hidden states `[n, D]` and no expert choices, `[n, 0, 1]`.
        """
        one = torch.ones_like(ids)
        return self._feed(ids, Packing.dense(len(ids), 1), cache, 0, longest, False, one)

    def _feed(
        self, ids: torch.Tensor, packing: Packing, cache: KeyValueCache, start: int, longest: int,
        fresh: bool, fed: torch.Tensor,
    ) -> tuple[torch.Tensor, torch.Tensor]:  # fmt: skip
        rows = slice(start, start + packing.sequences)
        positions = cache.lengths[rows][packing.owners(ids.device)] + packing.places(ids.device)
        hidden = self._run(ids, Pass(packing, positions, cache, start, longest, fresh))
        cache.lengths[rows] += fed
        return hidden, torch.zeros(len(ids), 0, 1, dtype=torch.uint8)

    def _run(self, ids: torch.Tensor, run: Pass) -> torch.Tensor:
        # Some models read a weight more than once; a changed one (LoRA) is then still made once.
        with parametrize.cached():
            out = self.hf.base_model(
                input_ids=ids[None], position_ids=run.positions[None], use_cache=False, rolloom_pass=run
            )
        return out.last_hidden_state[0]


def _set_recomputation(model: Any, wanted: bool) -> None:
    # transformers renames "gradient" to "activation" on its way to version 6.
    word = "activation" if hasattr(model, "activation_checkpointing_enable") else "gradient"
    if wanted:
        getattr(model, f"{word}_checkpointing_enable")({"use_reentrant": False})
    else:
        getattr(model, f"{word}_checkpointing_disable")()


@contextmanager
def _quiet(transformers: Any) -> Iterator[None]:
    """Keep transformers' progress bars and reports, whose content our errors carry, off the terminal."""
    logging = transformers.utils.logging
    level, bars = logging.get_verbosity(), logging.is_progress_bar_enabled()
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        logging.set_verbosity(level)
        if bars:
            logging.enable_progress_bar()


def _kind(module: Any) -> str:
    return type(module).__name__


def load_hf(path: str | Path, dtype: torch.dtype = torch.float32, device: str = "cpu") -> HFPolicy:
    """Load a checkpoint directory of any causal language model of transformers.

    Raises:
        PolicyError: transformers is missing or does not know the model, files are damaged, or the model
            cannot be a policy here.
    """
    transformers = need("transformers", "hf", PURPOSE)
    transformers.AttentionInterface.register(NAME, attend)
    try:
        with _quiet(transformers):
            model, report = transformers.AutoModelForCausalLM.from_pretrained(
                str(path), dtype=dtype, attn_implementation=NAME, output_loading_info=True,
                ignore_mismatched_sizes=True,
            )  # fmt: skip
    except (ValueError, OSError, KeyError, RuntimeError, AttributeError) as error:
        raise PolicyError(f"{path}: transformers cannot load it: {str(error).strip()[:800]}") from error
    problems = [f"missing {name}" for name in report["missing_keys"]]
    problems += [f"unexpected {name}" for name in report["unexpected_keys"]]
    problems += [
        f"misshaped {name}: expected {tuple(expected)}, got {tuple(got)}"
        for name, got, expected in report["mismatched_keys"]
    ]
    if problems:
        shown = "; ".join(sorted(problems)[:12])
        raise PolicyError(f"{path} does not fit its config.json ({len(problems)} tensors): {shown}")
    return try_policy(HFPolicy(model).to(device=device).eval(), str(path))


def make_hf(config: Any, seed: int = 0, dtype: torch.dtype = torch.float32) -> HFPolicy:
    """Make a policy with random weights from a transformers config.

    Raises:
        PolicyError: as for `load_hf`.
    """
    transformers = need("transformers", "hf", PURPOSE)
    transformers.AttentionInterface.register(NAME, attend)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        with _quiet(transformers):
            model = transformers.AutoModelForCausalLM.from_config(
                config, dtype=dtype, attn_implementation=NAME
            )
    return try_policy(HFPolicy(model).eval(), type(config).__name__)


@torch.no_grad()
def try_policy(policy: HFPolicy, source: str) -> HFPolicy:
    """Run a few tokens through a model to see that it is one this module can train and sample from.

    Returns:
        The policy.

    Raises:
        PolicyError: packed sequences see each other outside of the attention layers, or the logits are not
            the last hidden states times the head's weight.
    """
    kind, weight = _kind(policy.hf), policy.lm_head.weight
    others = set(getattr(policy.hf.config, "layer_types", None) or []) - LAYER_TYPES
    if others:
        raise PolicyError(
            f"{source}: {kind} has layers of type {sorted(others)}; expected {sorted(LAYER_TYPES)}. "
            "Models of type nemotron_h have their own implementation"
        )
    tolerance = TOLERANCE.get(weight.dtype, 2e-5)
    ids = (torch.arange(12, device=weight.device) * 7 + 3) % policy.config.vocab_size
    packing = Packing.of((5, 7))
    try:
        hidden = policy(ids, packing)
        alone = policy(ids[5:], Packing.of((7,)))
        run = Pass(packing, packing.places(ids.device))
        logits = policy.hf(
            input_ids=ids[None], position_ids=run.positions[None], use_cache=False, rolloom_pass=run
        ).logits[0]
    except (TypeError, AttributeError, ValueError) as error:
        raise PolicyError(f"{source}: {kind} does not run packed sequences: {error}") from error
    if float((hidden[5:] - alone).abs().max()) > tolerance * float(alone.abs().max()):
        raise PolicyError(
            f"{source}: {kind} lets tokens meet outside of its attention layers, or places them by something "
            "else than position_ids; packed sequences would see each other"
        )
    if float((logits.float() - policy.logits(hidden)).abs().max()) > tolerance * float(logits.abs().max()):
        raise PolicyError(
            f"{source}: {kind} changes its logits after the output head (scales or caps them), "
            "which the learner's log-probabilities would miss"
        )
    return policy


def save_hf(policy: HFPolicy, directory: Path) -> None:
    """Write `config.json`, `generation_config.json` and the weights, as `from_pretrained` reads them."""
    with _quiet(need("transformers", "hf", PURPOSE)):
        policy.hf.save_pretrained(directory)


def memory_of(model: HFPolicy, bytes_per_value: int) -> Footprint:
    """Count the bytes of a policy, which may be on the meta device."""
    config = model.hf.config
    heads = config.num_attention_heads
    width = getattr(config, "head_dim", None) or config.hidden_size // heads
    kept = getattr(config, "num_key_value_heads", None) or heads
    per_token = 2 * config.num_hidden_layers * kept * width * bytes_per_value
    parameters = sum(parameter.numel() for parameter in model.parameters())
    weights = parameters * bytes_per_value
    return Footprint(parameters, weights, 3 * weights, 0, per_token)


def meta_hf(path: str | Path) -> HFPolicy:
    """Make a checkpoint's policy without its weights, on the meta device.

    Raises:
        PolicyError: transformers is missing or does not know the model.
    """
    transformers = need("transformers", "hf", PURPOSE)
    try:
        config = transformers.AutoConfig.from_pretrained(str(path))
        with _quiet(transformers), torch.device("meta"):
            return HFPolicy(transformers.AutoModelForCausalLM.from_config(config))
    except (ValueError, OSError, KeyError) as error:
        raise PolicyError(f"{path}: transformers cannot make it: {str(error).strip()[:800]}") from error
