"""LoRA on both kinds of policy: what trains, what stays, and adapters exchanged with peft."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import peft
import pytest
import torch
import transformers as library
from safetensors.torch import load_file, save_file

from rolloom.kernels.packing import Packing
from rolloom.policy.config import PolicyError, preset
from rolloom.policy.hf import make_hf
from rolloom.policy.loading import AnyPolicy, load_any_policy, save_any_policy
from rolloom.policy.lora import Adaptation, add_lora, has_lora, merge_lora, sites, without_lora
from rolloom.policy.lora_files import WEIGHTS, load_adapter, merge_adapter, read_adaptation, save_adapter
from rolloom.policy.model import HybridLM

torch.set_num_threads(1)

transformers: Any = library
VOCAB = 61
HYBRID: dict[str, Any] = {
    "vocab_size": VOCAB, "hidden_size": 32, "num_attention_heads": 4, "num_key_value_heads": 2, "head_dim": 8,
    "intermediate_size": 40, "ssm_state_size": 8, "mamba_num_heads": 4, "mamba_head_dim": 8, "n_groups": 2,
    "n_routed_experts": 6, "moe_intermediate_size": 24, "moe_shared_expert_intermediate_size": 24,
}  # fmt: skip
SIZES: dict[str, Any] = {
    "vocab_size": VOCAB, "hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2, "head_dim": 8,
    "num_attention_heads": 4, "num_key_value_heads": 2, "max_position_embeddings": 128,
}  # fmt: skip
EXPERTS: dict[str, Any] = {"num_experts": 6, "num_experts_per_tok": 2, "moe_intermediate_size": 24}
MAKE: dict[str, Callable[[], AnyPolicy]] = {
    "hybrid": lambda: HybridLM(preset("tiny", pattern="M*E-", **HYBRID), seed=1),
    "qwen3": lambda: make_hf(transformers.Qwen3Config(**SIZES), seed=1),
    "qwen3-moe": lambda: make_hf(transformers.Qwen3MoeConfig(**SIZES, **EXPERTS), seed=1),
}
STACKED = {
    "hybrid": ("experts.up_proj", "experts.down_proj"),
    "qwen3-moe": ("experts.gate_up_proj", "experts.down_proj"),
}
CASES = [
    (name, kind) for name in MAKE for kind in ("linear", "experts") if kind == "linear" or name in STACKED
]
PACKING = Packing.of((9, 4, 12))


def policy(name: str) -> AnyPolicy:
    model = MAKE[name]()
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.dim() > 1:
                parameter *= 3
    return model


def adaptation(name: str, kind: str = "linear", **changes: Any) -> Adaptation:
    targets = STACKED[name] if kind == "experts" else ()
    if kind == "experts":
        targets = (*targets, "q_proj")
    return Adaptation(**{"rank": 3, "alpha": 12.0, "targets": targets, **changes})


def adapted(name: str, kind: str = "linear", **changes: Any) -> AnyPolicy:
    """A policy whose changes are as large as its weights."""
    model = policy(name)
    add_lora(model, adaptation(name, kind, **changes))
    generator = torch.Generator().manual_seed(5)
    for site in sites(model):
        change = site.change
        change.lora_B.data = torch.randn(change.lora_B.shape, generator=generator) * 0.1
    return model


def ids() -> torch.Tensor:
    return torch.randint(3, VOCAB, (PACKING.tokens,), generator=torch.Generator().manual_seed(0))


def state(model: AnyPolicy) -> dict[str, torch.Tensor]:
    return {name: tensor.clone() for name, tensor in model.state_dict().items()}


def changed(first: dict[str, torch.Tensor], second: dict[str, torch.Tensor]) -> set[str]:
    assert first.keys() == second.keys()
    return {name for name in first if not torch.equal(first[name], second[name])}


@pytest.mark.parametrize(("name", "kind"), CASES)
def test_only_adapters_train_and_the_policy_starts_as_it_was(name: str, kind: str) -> None:
    plain, model = policy(name), policy(name)
    targets = set(add_lora(model, adaptation(name, kind)))
    assert torch.equal(model(ids(), PACKING), plain(ids(), PACKING))
    assert not changed(state(plain), state(model))
    trainable = {key: p for key, p in model.named_parameters() if p.requires_grad}
    assert len(trainable) == 2 * len(targets)
    assert all(key.endswith((".lora_A", ".lora_B")) for key in trainable)
    frozen = {key: p.detach().clone() for key, p in model.named_parameters() if not p.requires_grad}
    optimizer = torch.optim.AdamW(trainable.values(), lr=0.05)
    for _ in range(2):
        optimizer.zero_grad()
        (model.lm_head(model(ids(), PACKING)).square().mean() * 100).backward()
        assert all(p.grad is None for key, p in model.named_parameters() if key in frozen)
        optimizer.step()
    after = dict(model.named_parameters())
    assert all(torch.equal(frozen[key], after[key]) for key in frozen)
    # B moves first, then A; whatever moved shows in the merged weights and nowhere else.
    assert changed(state(plain), state(model)) == targets


@pytest.mark.parametrize(("name", "kind"), CASES)
def test_what_is_published_is_what_is_computed_to_the_bit(name: str, kind: str) -> None:
    model, plain = adapted(name, kind), policy(name)
    plain.load_state_dict(state(model))
    hidden = model(ids(), PACKING)
    assert torch.equal(plain(ids(), PACKING), hidden)
    with without_lora(model):
        assert torch.equal(model(ids(), PACKING), policy(name)(ids(), PACKING))
    assert torch.equal(model(ids(), PACKING), hidden)
    merge_lora(model)
    assert not has_lora(model)
    assert not changed(state(plain), state(model))
    assert [key for key, _ in model.named_parameters()] == [key for key, _ in policy(name).named_parameters()]


@pytest.mark.parametrize("name", MAKE)
def test_in_bfloat16_the_change_is_kept_in_float32(name: str, tmp_path: Path) -> None:
    save_any_policy(policy(name), tmp_path)
    model, plain = (load_any_policy(tmp_path, torch.bfloat16) for _ in range(2))
    add_lora(model, adaptation(name))
    for site in sites(model):
        assert site.change.lora_A.dtype is torch.float32
        site.change.lora_B.data.normal_(generator=torch.Generator().manual_seed(1)).mul_(0.1)
    published = state(model)
    assert {key: t.dtype for key, t in published.items()} == {key: t.dtype for key, t in state(plain).items()}
    plain.load_state_dict(published)
    assert torch.equal(plain(ids(), PACKING), model(ids(), PACKING))


@pytest.mark.parametrize(("name", "kind"), CASES)
def test_gradients_are_those_of_the_written_out_weights(name: str, kind: str) -> None:
    """d/dA = scale B^T d/dW and d/dB = scale d/dW A^T, with d/dW of the merged policy."""
    model, merged = adapted(name, kind), policy(name)
    merged.load_state_dict(state(model))
    for each in (model, merged):
        each(ids(), PACKING).square().sum().backward()
    gradients = {key: p.grad for key, p in merged.named_parameters()}
    for site in sites(model):
        change, into = site.change, gradients[f"{site.path}.{site.leaf}"]
        assert into is not None
        for got, want in (
            (change.lora_A.grad, 4.0 * change.lora_B.transpose(-1, -2) @ into),
            (change.lora_B.grad, 4.0 * into @ change.lora_A.transpose(-1, -2)),
        ):
            assert got is not None
            torch.testing.assert_close(
                got, want.detach(), rtol=1e-4, atol=1e-4 * float(want.detach().abs().max())
            )


@pytest.mark.parametrize(("name", "kind"), CASES)
def test_recomputation_changes_no_gradient(name: str, kind: str) -> None:
    gradients = []
    for recompute in (False, True):
        model = adapted(name, kind).train()
        model.recompute = recompute
        model(ids(), PACKING).square().sum().backward()
        gradients.append([p.grad for p in model.parameters() if p.requires_grad])
    for first, second in zip(*gradients, strict=True):
        assert first is not None and torch.equal(first, second)


@pytest.mark.parametrize(("name", "kind"), CASES)
def test_peft_loads_what_is_saved(name: str, kind: str, tmp_path: Path) -> None:
    base, directory = tmp_path / "base", tmp_path / "adapter"
    base.mkdir()
    save_any_policy(policy(name), base)
    model = adapted(name, kind)
    save_adapter(model, adaptation(name, kind), directory, str(base))
    theirs = transformers.AutoModelForCausalLM.from_pretrained(base)
    plain = theirs(ids()[None, :9]).logits[0]
    other = peft.PeftModel.from_pretrained(theirs, str(directory)).eval()
    logits = model.lm_head(model(ids(), PACKING))
    for part, got in zip(ids().split(PACKING.lengths), logits.split(PACKING.lengths), strict=True):
        assert (other(part[None]).logits[0] - got).abs().max() <= 2e-4
    assert (plain - logits[:9]).abs().max() > 0.05


@pytest.mark.parametrize(("name", "kind"), CASES)
def test_an_adapter_of_peft_loads_and_merges(name: str, kind: str, tmp_path: Path) -> None:
    base, directory = tmp_path / "base", tmp_path / "adapter"
    base.mkdir()
    save_any_policy(policy(name), base)
    targets = ["q_proj", "o_proj"]
    settings: dict[str, Any] = {"target_parameters": list(STACKED[name])} if kind == "experts" else {}
    config = peft.LoraConfig(
        r=2, lora_alpha=6, target_modules=targets, task_type="CAUSAL_LM", init_lora_weights=False, **settings
    )
    torch.manual_seed(0)
    theirs = transformers.AutoModelForCausalLM.from_pretrained(base)
    other = peft.get_peft_model(theirs, config).eval()
    other.save_pretrained(str(directory))
    model = load_any_policy(base)
    held = load_adapter(model, directory)
    assert (held.rank, held.alpha) == (2, 6.0)
    merged = merge_adapter(load_any_policy(base), directory)
    want = other(ids()[None, :9]).logits[0]
    for each in (model, merged):
        got = each.lm_head(each(ids(), PACKING))[:9]
        assert (want - got).abs().max() <= 2e-4
    assert changed(state(load_any_policy(base)), state(merged))


@pytest.mark.parametrize("name", ["hybrid", "qwen3-moe"])
def test_saved_adapters_come_back_to_the_bit(name: str, tmp_path: Path) -> None:
    model, again = adapted(name, "experts"), policy(name)
    save_adapter(model, adaptation(name, "experts"), tmp_path / "a")
    load_adapter(again, tmp_path / "a", adaptation(name, "experts"))
    assert not changed(state(model), state(again))
    save_adapter(again, adaptation(name, "experts"), tmp_path / "b")
    assert (tmp_path / "a" / WEIGHTS).read_bytes() == (tmp_path / "b" / WEIGHTS).read_bytes()


def test_dropout_leaves_inputs_out_in_training_only() -> None:
    model = adapted("qwen3", dropout=0.5)
    model.eval()
    still = model(ids(), PACKING)
    published = state(model)
    model.train()
    torch.manual_seed(0)
    first, second = model(ids(), PACKING), model(ids(), PACKING)
    assert not torch.equal(first, second)
    torch.manual_seed(0)
    assert torch.equal(model(ids(), PACKING), first)
    assert not changed(published, state(model))
    site = next(sites(model))
    weight = torch.zeros(site.change.lora_B.shape[0], site.change.lora_A.shape[1])
    drawn = torch.stack([site.change(weight) for _ in range(600)])
    whole = site.change.merged(weight)
    zero = (drawn == 0).all(1)
    assert 0.4 < zero.float().mean() < 0.6
    # Kept columns are scaled up, so the mean is the whole change.
    assert (drawn.mean(0) - whole).abs().max() < 0.25 * whole.abs().max()
    model.eval()
    assert torch.equal(model(ids(), PACKING), still)


def test_mambas_output_projection_changes_if_it_is_named() -> None:
    (name,) = add_lora(policy("hybrid"), Adaptation(2, 4.0, ("out_proj",)))
    assert name == "model.layers.0.mixer.out_proj.weight"


def test_the_default_takes_every_linear_layer_but_a_few() -> None:
    hybrid = add_lora(policy("hybrid"), Adaptation(2, 4.0))
    leaves = {name.split(".mixer.")[1] for name in hybrid}
    assert leaves == {
        *("in_proj.weight", "q_proj.weight", "k_proj.weight", "v_proj.weight"),
        *("o_proj.weight", "up_proj.weight", "down_proj.weight"),
        *("shared_experts.up_proj.weight", "shared_experts.down_proj.weight"),
    }
    moe = add_lora(policy("qwen3-moe"), Adaptation(2, 4.0))
    assert {name.rsplit(".", 2)[-2] for name in moe} == {"q_proj", "k_proj", "v_proj", "o_proj"}


@pytest.mark.parametrize(
    ("name", "target", "words"),
    [
        ("hybrid", "in_prj", "'in_prj'.*Nearest: 'in_proj'"),
        ("hybrid", "experts.up_prj", "Nearest: 'experts.up_proj'"),
        ("qwen3", "experts.up_proj", "no layer"),
        ("qwen3", "", "no layer"),
    ],
)
def test_an_unknown_target_is_named(name: str, target: str, words: str) -> None:
    with pytest.raises(PolicyError, match=words):
        add_lora(policy(name), Adaptation(2, 4.0, (target,)))


def test_a_tied_weight_is_refused() -> None:
    model = make_hf(transformers.Qwen3Config(**SIZES, tie_word_embeddings=True))
    with pytest.raises(PolicyError, match=r"lm_head shares its weight"):
        add_lora(model, Adaptation(2, 4.0, ("lm_head",)))


def rewrite(directory: Path, **changes: Any) -> None:
    file = directory / "adapter_config.json"
    file.write_text(json.dumps({**json.loads(file.read_text()), **changes}))


def drop_tensor(directory: Path) -> None:
    tensors = load_file(directory / WEIGHTS)
    tensors.pop(min(tensors))
    save_file(tensors, directory / WEIGHTS)


@pytest.mark.parametrize(
    ("damage", "words"),
    [
        (lambda directory: rewrite(directory, use_dora=True), "use_dora.*True"),
        (lambda directory: rewrite(directory, rank_pattern={"q_proj": 9}), "rank_pattern"),
        (lambda directory: rewrite(directory, peft_type="IA3"), "peft_type.*'LORA'.*'IA3'"),
        (lambda directory: rewrite(directory, target_modules="all-linear"), "target_modules"),
        (lambda directory: rewrite(directory, r="many"), "malformed"),
        (lambda directory: rewrite(directory, r=5), "misshaped"),
        (lambda directory: rewrite(directory, target_modules=["q_proj"]), "unexpected"),
        (drop_tensor, "missing"),
        (lambda directory: (directory / WEIGHTS).write_bytes(b"no"), "readable adapter"),
        (lambda directory: (directory / "adapter_config.json").unlink(), "found none"),
    ],
)
def test_damaged_adapters_are_named(tmp_path: Path, damage: Callable[[Path], Any], words: str) -> None:
    save_adapter(adapted("qwen3"), adaptation("qwen3"), tmp_path)
    damage(tmp_path)
    with pytest.raises(PolicyError, match=words):
        load_adapter(policy("qwen3"), tmp_path)


def test_another_rank_than_the_adapters_is_named(tmp_path: Path) -> None:
    save_adapter(adapted("qwen3"), adaptation("qwen3"), tmp_path)
    assert read_adaptation(tmp_path).rank == 3
    with pytest.raises(PolicyError, match=r"policy\.lora.*rank 3.*rank 4"):
        load_adapter(policy("qwen3"), tmp_path, adaptation("qwen3", rank=4))
