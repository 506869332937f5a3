"""The configuration of a run: a dataclass a section, a docstring a field. YAML and `key=value` fill it in."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any


@dataclass
class LoraConfig:
    """Low-rank changes of chosen weights train in place of all weights.

    Attributes:
        rank: of each change; 0 trains all weights.
        alpha: each change is scaled by alpha / rank.
        target_modules: endings of the names of linear layers (`q_proj`) or of stacked expert weights
            (`experts.up_proj`); empty takes every linear layer but the output head, the routers and Mamba's
            output projection (which peft would refuse to load).
        dropout: share of a change's inputs that the learner leaves out of each forward pass; above 0 its
            log-probabilities are no longer exactly those of the sampler.
    """

    rank: int = 0
    alpha: float = 32.0
    target_modules: list[str] = field(default_factory=list)
    dropout: float = 0.0


@dataclass
class PolicyConfig:
    """The policy that is trained.

    Attributes:
        path: checkpoint directory in Hugging Face layout, of type `nemotron_h` or any other causal language
            model (the extra `hf`), or `shipped:tiny` for the warm-started policy in the package.
        device: `cpu`, `cuda` or `cuda:N`.
        dtype: parameter and activation type: `float32` or `bfloat16`.
        lora: train low-rank changes instead of all weights.
        deterministic: on a CPU, compute so that a token's results depend on nothing else in its batch: the
            log-probabilities that sampling reports and the learner computes are then equal to the last bit
            in float32. Slower; see docs/benchmarks.md.
    """

    path: str = "shipped:tiny"
    device: str = "cpu"
    dtype: str = "float32"
    lora: LoraConfig = field(default_factory=LoraConfig)
    deterministic: bool = False


@dataclass
class EnvConfig:
    """One environment of the mixture.

    Attributes:
        id: registry id, e.g. `math/affine_chain-v0`.
        weight: share of each step's prompts, relative to the other environments' weights.
        min_level: lowest difficulty drawn.
        max_level: highest difficulty drawn.
        kwargs: keyword arguments of the environment class.
        step_deadline_s: seconds one of its steps may take; 0 leaves it to the environment, which may leave it
            to `rollout.step_deadline_s`.
        episode_deadline_s: seconds one of its episodes may take; 0 as for a step.
        pass_rates: file of pass rates, one task a line, as `rolloom envs profile` writes it; this
            environment's tasks are drawn from it. Empty draws new tasks without end.
        min_pass_rate: tasks of `pass_rates` that are solved less often are left out.
        max_pass_rate: tasks of `pass_rates` that are solved more often are left out.
        curriculum: `uniform` draws the tasks of `pass_rates` alike; `gaussian` prefers those whose pass rate
            is near a mean that falls linearly over the run (Nemotron 3).
        mean_start: mean pass rate that `gaussian` prefers at the first step.
        mean_end: mean pass rate that `gaussian` prefers from `curriculum_steps` on.
        spread: standard deviation of that preference.
        curriculum_steps: steps over which the mean falls; 0 takes `trainer.steps`.
        reprofile_window: steps without better accuracy after which the pass rates of the tasks that were
            drawn since the last time are replaced by how often the policy solved them; 0 never does.
        reprofile_margin: how much better the mean accuracy of the last half of the window has to be than that
            of its first half not to count as a plateau.
    """

    id: str = ""
    weight: float = 1.0
    min_level: int = 1
    max_level: int = 1
    kwargs: dict[str, Any] = field(default_factory=dict)
    step_deadline_s: float = 0.0
    episode_deadline_s: float = 0.0
    pass_rates: str = ""
    min_pass_rate: float = 0.0
    max_pass_rate: float = 1.0
    curriculum: str = "uniform"
    mean_start: float = 0.8
    mean_end: float = 0.2
    spread: float = 0.2
    curriculum_steps: int = 0
    reprofile_window: int = 0
    reprofile_margin: float = 0.01


@dataclass
class RolloutConfig:
    """How episodes are sampled.

    Attributes:
        engines: number of engine actors.
        engine_threads: CPU threads of each engine; one is fastest for a policy of about 1M parameters.
        slots: sequences that decode together in one engine.
        max_context: longest sequence, prompt and completions of all turns together, in tokens.
        env_workers: number of environment worker actors.
        env_threads: environment steps that may block at the same time in one worker; threads are made as they
            are needed, and steps that are awaited need none.
        episodes_per_worker: episodes in flight in one worker.
        max_new_tokens: limit of one completion, in tokens.
        temperature: sampling temperature; 0 is greedy and cannot be trained on.
        step_deadline_s: seconds one environment step may take before its episode is an `env_timeout`.
        episode_deadline_s: seconds a whole episode may take.
        stall_s: seconds without any progress after which the run stops and names who waits on whom.
        max_attempts: attempts at a rollout whose machinery failed before it is given up and recorded as
            failed.
        state_dtype: of the Mamba-2 state at rest between two tokens: `float32`, or on a CPU `float16` or
            `int8` (a scale for each 128 elements), rounded once in 32 tokens.
        state_rounding: of narrower states: `stochastic`, right on average, or `nearest`.
        speculative_tokens: tokens that the policy's multi-token prediction block drafts for each of its
            passes; 0 decodes one at a time.
    """

    engines: int = 2
    engine_threads: int = 1
    slots: int = 64
    max_context: int = 512
    env_workers: int = 1
    env_threads: int = 256
    episodes_per_worker: int = 256
    max_new_tokens: int = 192
    temperature: float = 1.0
    step_deadline_s: float = 10.0
    episode_deadline_s: float = 120.0
    stall_s: float = 120.0
    max_attempts: int = 3
    state_dtype: str = "float32"
    state_rounding: str = "stochastic"
    speculative_tokens: int = 0


@dataclass
class RewardConfig:
    """Token efficiency; see docs/guide/efficiency.md.

    Attributes:
        efficiency: `none`, `sign_safe` (solve-rate gated, default), `grlc` (Nemotron 3 Nano), `linear` or
            `overlong`.
        coefficient: weight of the length term.
        gate_low: solve rate of a group below which `sign_safe` adds no length term; it rises linearly to full
            at 1.
        accuracy_margin: an environment's length term fades out as its smoothed accuracy falls this far below
            its best so far; 0 switches this controller off.
        overlong_tokens: soft limit of `overlong`, in tokens.
        overlong_cache: width of the soft zone of `overlong`, in tokens.
    """

    efficiency: str = "sign_safe"
    coefficient: float = 0.5
    gate_low: float = 0.5
    accuracy_margin: float = 0.1
    overlong_tokens: int = 256
    overlong_cache: int = 64


@dataclass
class TrainerConfig:
    """GRPO and its optimizer.

    Attributes:
        steps: optimizer steps of the run (one batch of groups each).
        prompts_per_step: tasks drawn for a step.
        group_size: rollouts of each task.
        learning_rate: peak of AdamW.
        warmup_steps: linear warm-up.
        schedule: `constant`, or `linear` decay to zero after the warm-up.
        weight_decay: AdamW's decoupled weight decay.
        beta1: AdamW.
        beta2: AdamW.
        max_grad_norm: gradients are scaled down to this global norm.
        baseline: `leave_one_out` or `group_mean`.
        std_normalization: divide advantages by the group's standard deviation (Dr. GRPO leaves it out).
        clip_low: the ratio is clipped below at 1 - clip_low.
        clip_high: the ratio is clipped above at 1 + clip_high (clip-higher of DAPO).
        kl_coefficient: weight of the k3 KL estimate to the initial policy; 0 keeps no reference policy.
        updates_per_step: optimizer updates over one batch of rollouts; 1 is exactly on-policy.
        microbatch_tokens: most tokens, padding included, in one forward pass.
        threads: CPU threads of the learner.
        expert_bias_rate: how far the routers' selection bias moves after each update towards an even load of
            experts, which needs no loss; 0 leaves it, Nemotron 3's RL takes 1e-3.
        train_router: False freezes the MoE router's weights, as Nemotron 3's RL does.
        mtp_loss_weight: weight of the loss of the multi-token prediction block, which alone learns from it;
            0 is off, and a policy without a block has none.
        save_every: steps between checkpoints; the last step always saves.
        keep_checkpoints: checkpoints kept; older ones are removed.
    """

    steps: int = 60
    prompts_per_step: int = 16
    group_size: int = 8
    learning_rate: float = 3e-4
    warmup_steps: int = 3
    schedule: str = "constant"
    weight_decay: float = 0.0
    beta1: float = 0.9
    beta2: float = 0.999
    max_grad_norm: float = 1.0
    baseline: str = "leave_one_out"
    std_normalization: bool = False
    clip_low: float = 0.2
    clip_high: float = 0.28
    kl_coefficient: float = 0.0
    updates_per_step: int = 1
    microbatch_tokens: int = 8192
    threads: int = 2
    train_router: bool = False
    expert_bias_rate: float = 0.0
    mtp_loss_weight: float = 0.3
    save_every: int = 10
    keep_checkpoints: int = 2


@dataclass
class EvalConfig:
    """The held-out comparison before and after training.

    Attributes:
        tasks_per_env: distinct held-out tasks of each environment; 0 skips the evaluation.
        seed: first seed of the held-out tasks.
        temperature: sampling temperature of the evaluation.
        side_by_side: rollouts before and after shown side by side in the report, per environment.
    """

    tasks_per_env: int = 256
    seed: int = 0
    temperature: float = 1.0
    side_by_side: int = 2


@dataclass
class RayConfig:
    """How Ray is reached.

    Attributes:
        address: `local` starts a private cluster on this machine; `auto` or `host:port` joins a running one.
        num_cpus: logical CPUs of a private cluster; 0 lets Ray count them.
        object_store_mb: object store of a private cluster, in MiB.
    """

    address: str = "local"
    num_cpus: int = 0
    object_store_mb: int = 256


@dataclass
class RunConfig:
    """A whole run.

    Attributes:
        name: the run's directory under `runs_dir`.
        runs_dir: where runs are kept.
        seed: root of every random draw of the run.
        local: run everything in this process, without Ray (for debugging, or where Ray is not installed).
        imports: modules, or paths of Python files, that register environments; imported first, by every
            worker too.
        policy: the policy.
        envs: the mixture of environments.
        rollout: sampling.
        reward: token efficiency.
        trainer: GRPO.
        evaluation: held-out comparison.
        ray: the cluster.
    """

    name: str = "run"
    runs_dir: str = "runs"
    seed: int = 0
    local: bool = False
    imports: list[str] = field(default_factory=list)
    policy: PolicyConfig = field(default_factory=PolicyConfig)
    envs: list[EnvConfig] = field(default_factory=list)
    rollout: RolloutConfig = field(default_factory=RolloutConfig)
    reward: RewardConfig = field(default_factory=RewardConfig)
    trainer: TrainerConfig = field(default_factory=TrainerConfig)
    evaluation: EvalConfig = field(default_factory=EvalConfig)
    ray: RayConfig = field(default_factory=RayConfig)
