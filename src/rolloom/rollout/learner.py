"""The learner: a batch of trajectories in, an optimizer step out, and its distance from the sampler."""

from __future__ import annotations

import json
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import load_file, save_file

from rolloom.configs.schema import LoraConfig, TrainerConfig
from rolloom.kernels.dispatch import deterministic
from rolloom.kernels.logprob.op import linear_logprob
from rolloom.policy.allocator import keep_freed_memory
from rolloom.policy.batch import Microbatch, TrainSequence, make_microbatches
from rolloom.policy.loading import expect_deterministic, load_any_policy, save_any_policy
from rolloom.policy.lora import Adaptation, add_lora, without_lora
from rolloom.policy.lora_files import load_adapter, save_adapter
from rolloom.policy.loss import grpo_token_loss
from rolloom.policy.model import HybridLM
from rolloom.policy.moe import MoE
from rolloom.policy.mtp_training import mtp_loss
from rolloom.policy.protocol import Policy
from rolloom.policy.router_bias import ExpertLoad
from rolloom.policy.tokenizer import ChatTokenizer
from rolloom.rollout.checkpoints import write_checkpoint
from rolloom.rollout.types import derive_seed
from rolloom.rollout.weights import to_arrays, weights_checksum

OPTIMIZER = "optimizer.safetensors"
ADAPTER = "adapter"
"""Directory of a checkpoint that holds the LoRA adapter in peft's layout."""


@dataclass(slots=True)
class LearnStats:
    """What one training step measured.

    Attributes:
        loss: token-level loss, averaged over the step's updates.
        grad_norm: global gradient norm before clipping, of the last update.
        learning_rate: of the step.
        entropy: mean entropy of the sampled distribution, in nats a token.
        kl: mean k3 estimate a token against the reference; 0 without one.
        clip_fraction: share of tokens whose gradient the clip removed.
        logprob_diff_max: largest |learner - sampler| log-prob difference, before any update of the step.
        logprob_diff_mean: its mean.
        expert_violation: load of the most loaded expert over the mean, minus 1, of the worst MoE layer.
        expert_entropy: entropy of the load over its largest, mean of MoE layers; 1 is balance.
        dead_experts: experts that no token of the step chose, all MoE layers.
        mtp_loss: cross entropy of the multi-token prediction block a token, averaged over depths, in nats.
        trained_tokens: real tokens in the forward passes.
        learn_s: seconds.
    """

    loss: float = 0.0
    grad_norm: float = 0.0
    learning_rate: float = 0.0
    entropy: float = 0.0
    kl: float = 0.0
    clip_fraction: float = 0.0
    logprob_diff_max: float = 0.0
    logprob_diff_mean: float = 0.0
    mtp_loss: float = 0.0
    expert_violation: float = 0.0
    expert_entropy: float = 1.0
    dead_experts: int = 0
    trained_tokens: int = 0
    learn_s: float = 0.0


class Learner:
    """Holds weights and optimizer.

    Args:
        path: checkpoint directory; on a resume (it is not `reference_path`) its optimizer state is used.
        config: GRPO settings.
        temperature: the rollouts' sampling temperature.
        device: torch device.
        dtype: torch dtype name.
        reference_path: weights of the reference policy, used when `kl_coefficient` > 0; with LoRA also the
            weights that stay as they are.
        lora: train low-rank changes of the weights; a rank of 0 or None trains all weights.
        pinned: switch the process's deterministic mode on, else off.
    """

    def __init__(
        self,
        path: str,
        config: TrainerConfig,
        temperature: float,
        device: str,
        dtype: str,
        reference_path: str,
        lora: LoraConfig | None = None,
        pinned: bool = False,
    ) -> None:
        deterministic(pinned)
        keep_freed_memory()
        if config.threads:
            torch.set_num_threads(config.threads)
        self.config, self.temperature, self.device = config, temperature, device
        self.reference_path = reference_path
        self.adaptation = _adaptation(lora)
        start = path if self.adaptation is None else reference_path
        self.model = load_any_policy(start, getattr(torch, dtype), device).train()
        if pinned:
            expect_deterministic(self.model)
        self.tokenizer = ChatTokenizer.load(path)
        if self.adaptation is None:
            for name, parameter in self.model.named_parameters():
                if ".gate." in name:
                    parameter.requires_grad_(config.train_router)
        elif path == reference_path:
            add_lora(self.model, self.adaptation)
        else:
            load_adapter(self.model, Path(path) / ADAPTER, self.adaptation)
        self._named = {name: p for name, p in self.model.named_parameters() if p.requires_grad}
        # The block's gradient is clipped by itself: what the policy learns does not depend on it.
        self._drafting = [p for name, p in self._named.items() if name.startswith("mtp.")]
        self._trunk = [p for name, p in self._named.items() if not name.startswith("mtp.")]
        self.optimizer = torch.optim.AdamW(
            self._named.values(), lr=config.learning_rate, betas=(config.beta1, config.beta2),
            weight_decay=config.weight_decay,
        )  # fmt: skip
        self._load = None
        if isinstance(self.model, HybridLM) and self.model.config.moe_layers:
            self._load = ExpertLoad(self.model.config.moe_layers, self.model.config.n_routed_experts)
        self.reference = None
        if config.kl_coefficient > 0 and self.adaptation is not None:
            self.reference = self.model
        elif config.kl_coefficient > 0:
            self.reference = load_any_policy(reference_path, getattr(torch, dtype), device).eval()
        # A run that starts from another run's checkpoint (its own reference) starts with a fresh optimizer.
        if path != reference_path and (Path(path) / OPTIMIZER).is_file():
            self._load_optimizer(Path(path) / OPTIMIZER)

    # -- training --------------------------------------------------------------------------------------------

    def train(self, sequences: Sequence[TrainSequence], step: int) -> dict[str, float]:
        """Take one training step and return its `LearnStats` as a dict.

        Args:
            sequences: every valid trajectory of the step.
            step: 1-based; the learning rate and the order of updates depend on it.
        """
        started = time.perf_counter()
        if self.adaptation is not None and self.adaptation.dropout:
            torch.manual_seed(derive_seed("dropout", step))
        stats = LearnStats(learning_rate=self._learning_rate(step))
        for group in self.optimizer.param_groups:
            group["lr"] = stats.learning_rate
        parts = self._split(sequences, step)
        sampled = sum(int(sequence.mask.sum()) for sequence in sequences)
        for index, part in enumerate(parts):
            self._update(part, stats, first=index == 0)
        stats.loss /= max(1, len(parts))
        measured = sum(int(sequence.mask.sum()) for sequence in parts[0]) if parts else 0
        stats.logprob_diff_mean /= max(1, measured)
        for name in ("entropy", "kl", "clip_fraction", "mtp_loss"):
            setattr(stats, name, getattr(stats, name) / max(1, sampled))
        stats.trained_tokens = sum(len(sequence.ids) for sequence in sequences)
        stats.learn_s = time.perf_counter() - started
        return asdict(stats)

    def _split(self, sequences: Sequence[TrainSequence], step: int) -> list[list[TrainSequence]]:
        updates = min(self.config.updates_per_step, len(sequences))
        if updates <= 1:
            return [list(sequences)] if sequences else []
        order = np.random.default_rng(derive_seed("updates", step)).permutation(len(sequences))
        return [[sequences[at] for at in part] for part in np.array_split(order, updates)]

    def _update(self, sequences: list[TrainSequence], stats: LearnStats, first: bool) -> None:
        c = self.config
        total = sum(int(sequence.mask.sum()) for sequence in sequences)
        if not total:
            return
        # Without a KL term, a trajectory of advantage 0 has no gradient; it is only measured.
        pulls = [s for s in sequences if s.advantage != 0.0 or self.reference is not None]
        still = [s for s in sequences if s.advantage == 0.0 and self.reference is None]
        self.optimizer.zero_grad(set_to_none=True)
        for micro in make_microbatches(pulls, c.microbatch_tokens, self.device):
            logp, entropy, hidden = self._score(micro)
            reference = self._reference_logp(micro)
            terms = grpo_token_loss(
                logp, micro.logprobs, micro.advantages, c.clip_low, c.clip_high, c.kl_coefficient, reference
            )
            (terms.loss / total).backward()
            self._learn_to_draft(micro, hidden, total, stats)
            stats.loss += terms.loss.item() / total
            stats.kl += float(terms.kl)
            stats.clip_fraction += float(terms.clipped)
            self._measure(stats, logp, entropy, micro, first)
        with torch.no_grad():
            for micro in make_microbatches(still, c.microbatch_tokens, self.device):
                logp, entropy, hidden = self._score(micro)
                self._learn_to_draft(micro, hidden, total, stats)
                self._measure(stats, logp, entropy, micro, first)
        norm = torch.nn.utils.clip_grad_norm_(self._trunk, c.max_grad_norm)
        drafting = torch.nn.utils.clip_grad_norm_(self._drafting, c.max_grad_norm)
        stats.grad_norm = float(norm)
        if (pulls or self._drafts) and torch.isfinite(norm) and torch.isfinite(drafting):
            self.optimizer.step()
        if first and self._load is not None:
            load = self._load.metrics()
            stats.expert_violation = load["moe/load_violation_max"]
            stats.expert_entropy = load["moe/load_entropy"]
            stats.dead_experts = int(load["moe/dead_experts"])
        if self._load is not None:
            self._load.apply(self._selection_biases(), c.expert_bias_rate)

    def _selection_biases(self) -> list[torch.Tensor]:
        assert isinstance(self.model, HybridLM)
        mixers = [block.mixer for block in self.model.model.blocks()]
        return [mixer.gate.e_score_correction_bias for mixer in mixers if isinstance(mixer, MoE)]

    @property
    def _drafts(self) -> bool:
        """True when the policy has a block that is trained."""
        return self.config.mtp_loss_weight > 0 and bool(self._drafting)

    def _learn_to_draft(self, micro: Microbatch, hidden: torch.Tensor, total: int, stats: LearnStats) -> None:
        if not self._drafts:
            return
        assert isinstance(self.model, HybridLM)
        with torch.enable_grad():
            loss = mtp_loss(self.model, micro, hidden, temperature=self.temperature)
            (self.config.mtp_loss_weight * loss / total).backward()
        stats.mtp_loss += loss.item()

    def _score(self, micro: Microbatch) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        recorded: list[torch.Tensor] = []
        scored = self._logprobs(self.model, micro, micro.replay, recorded)
        if self._load is not None:
            self._load.add(recorded)
        return scored

    def _reference_logp(self, micro: Microbatch) -> torch.Tensor | None:
        if self.reference is None:
            return None
        # With LoRA it is the same model; without a change to leave out this changes nothing.
        with torch.no_grad(), without_lora(self.reference):
            return self._logprobs(self.reference, micro)[0]

    def _logprobs(
        self, model: Policy, micro: Microbatch, replay: torch.Tensor | None = None,
        recorded: list[torch.Tensor] | None = None,
    ) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:  # fmt: skip
        hidden = model(micro.ids, micro.packing, replay, recorded)
        logp, entropy = linear_logprob(
            hidden.index_select(0, micro.at), model.lm_head.weight, micro.targets, self.temperature,
            bounds=micro.sampled.bounds,
        )  # fmt: skip
        return logp, entropy, hidden

    @staticmethod
    def _measure(
        stats: LearnStats, logp: torch.Tensor, entropy: torch.Tensor, micro: Microbatch, first: bool
    ) -> None:
        stats.entropy += float(entropy.detach().sum())
        if first:
            difference = (logp.detach() - micro.logprobs).abs()
            stats.logprob_diff_max = max(stats.logprob_diff_max, float(difference.max()))
            stats.logprob_diff_mean += float(difference.sum())

    def _learning_rate(self, step: int) -> float:
        c = self.config
        if step <= c.warmup_steps:
            return c.learning_rate * step / max(1, c.warmup_steps)
        if c.schedule == "linear":
            return c.learning_rate * max(0.0, (c.steps - step + 1) / max(1, c.steps - c.warmup_steps))
        return c.learning_rate

    # -- weights and checkpoints -----------------------------------------------------------------------------

    def weights(self) -> tuple[dict[str, np.ndarray], str]:
        """Return every weight on the CPU and their checksum."""
        state = to_arrays(self.model.state_dict())
        return state, weights_checksum(state)

    def save(self, root: str, step: int, meta: dict[str, Any]) -> str:
        """Write the checkpoint of a step under a run's checkpoint directory and return its path."""

        def fill(directory: Path) -> None:
            save_any_policy(self.model, directory)
            if self.adaptation is not None:
                save_adapter(self.model, self.adaptation, directory / ADAPTER, self.reference_path)
            self.tokenizer.save(directory)
            save_file(self._optimizer_tensors(), str(directory / OPTIMIZER))
            (directory / "trainer.json").write_text(json.dumps({"step": step, **meta}) + "\n")

        return str(write_checkpoint(Path(root), step, fill, meta))

    def _optimizer_tensors(self) -> dict[str, torch.Tensor]:
        tensors: dict[str, torch.Tensor] = {}
        for name, parameter in self._named.items():
            for key, value in self.optimizer.state.get(parameter, {}).items():
                tensors[f"{name}/{key}"] = torch.as_tensor(value).detach().cpu().clone()
        return tensors

    def _load_optimizer(self, path: Path) -> None:
        for key, value in load_file(str(path)).items():
            name, _, field = key.rpartition("/")
            if name in self._named:
                parameter = self._named[name]
                held = value if field == "step" else value.to(parameter.device)
                self.optimizer.state[parameter][field] = held

    def status(self) -> dict[str, Any]:
        """Return what this learner holds."""
        return {"parameters": sum(p.numel() for p in self.model.parameters()), "device": self.device}


def _adaptation(lora: LoraConfig | None) -> Adaptation | None:
    if lora is None or not lora.rank:
        return None
    return Adaptation(lora.rank, lora.alpha, tuple(lora.target_modules), lora.dropout)
