"""transformers' models as policies: against their own forward, row by row in a cache, and what is refused."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers as library
from tokenizers import AddedToken

from rolloom.kernels.packing import Packing
from rolloom.policy.config import PolicyError
from rolloom.policy.hf import HFPolicy, make_hf
from rolloom.policy.loading import load_any_policy, memory_need, save_any_policy
from rolloom.policy.optional import need
from rolloom.policy.small_tokenizer import train_tokenizer
from rolloom.policy.tokenizer import ChatTokenizer

torch.set_num_threads(1)

transformers: Any = library
"""Its signatures are stricter than what its configurations take."""

VOCAB = 97
SIZES: dict[str, Any] = {
    "vocab_size": VOCAB, "hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 3,
    "num_attention_heads": 4, "num_key_value_heads": 2, "max_position_embeddings": 256, "bos_token_id": 1,
    "eos_token_id": 2, "pad_token_id": 0,
}  # fmt: skip
EXPERTS: dict[str, Any] = {"num_experts": 6, "num_experts_per_tok": 2, "moe_intermediate_size": 24}
WINDOW: dict[str, Any] = {"sliding_window": 6, "use_sliding_window": True, "max_window_layers": 1}
CONFIGS: dict[str, Callable[[], Any]] = {
    "qwen3": lambda: transformers.Qwen3Config(**SIZES, head_dim=16, tie_word_embeddings=True),
    "qwen3-window": lambda: transformers.Qwen3Config(**SIZES, head_dim=8, **WINDOW),
    "qwen3-moe": lambda: transformers.Qwen3MoeConfig(**SIZES, head_dim=8, **EXPERTS),
    "llama": lambda: transformers.LlamaConfig(**SIZES),
    "mistral-window": lambda: transformers.MistralConfig(**SIZES, sliding_window=5),
    "gemma3": lambda: transformers.Gemma3TextConfig(**SIZES, head_dim=8, sliding_window=6),
}


def policy(name: str) -> HFPolicy:
    """A random policy whose distribution is far from uniform."""
    model = make_hf(CONFIGS[name](), seed=3)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.dim() > 1:
                parameter *= 4
    return model


def theirs(model: HFPolicy, directory: Path) -> Any:
    """The same weights in transformers' hands, with its own attention."""
    save_any_policy(model, directory)
    return transformers.AutoModelForCausalLM.from_pretrained(directory).eval()


def tokens(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randint(3, VOCAB, shape, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("name", CONFIGS)
def test_packed_training_equals_transformers_one_by_one(name: str, tmp_path: Path) -> None:
    model = policy(name)
    other = theirs(model, tmp_path)
    lengths = (1, 9, 23, 9)
    packing = Packing.of(lengths)
    ids = tokens(packing.tokens)
    weight = torch.randn(packing.tokens, VOCAB, generator=torch.Generator().manual_seed(1))
    logits = model.lm_head(model(ids, packing))
    (logits * weight).sum().backward()
    for part, got, scale in zip(
        ids.split(lengths), logits.split(lengths), weight.split(lengths), strict=True
    ):
        want = other(part[None]).logits[0]
        assert (want - got).abs().max() <= 1e-4
        (want * scale).sum().backward()
    named = dict(other.named_parameters())
    compared = 0
    for key, parameter in model.hf.named_parameters():
        if (reference := named[key].grad) is not None:
            assert parameter.grad is not None
            bound = 1e-4 * max(1.0, float(reference.abs().max()))
            assert (parameter.grad - reference).abs().max() <= bound, key
            compared += 1
    assert compared > 20


@pytest.mark.parametrize("name", CONFIGS)
def test_rows_of_different_lengths_decode_together(name: str) -> None:
    """Fed, decoded, parked, copied, restored in another row, and continued by several tokens."""
    model = policy(name)
    ids = tokens(3, 40)
    with torch.no_grad():
        full = model(ids)
    cache = model.new_cache(rows=4, context=48)
    at = [7, 1, 20]

    def expect(hidden: torch.Tensor, spans: list[tuple[int, int, int]]) -> None:
        want = torch.cat([full[sequence, first:last] for sequence, first, last in spans])
        assert (want - hidden).abs().max() <= 1e-4

    fed = torch.cat([ids[sequence, :length] for sequence, length in enumerate(at)])
    hidden, choices = model.feed(fed, Packing.of(at), cache, 0)
    assert choices.shape == (len(fed), 0, 1)
    expect(hidden, [(sequence, 0, length) for sequence, length in enumerate(at)])
    for _ in range(9):
        step = torch.stack([ids[sequence, length] for sequence, length in enumerate(at)])
        hidden, _ = model.decode(step, cache, max(at) + 1)
        expect(hidden, [(sequence, length, length + 1) for sequence, length in enumerate(at)])
        at = [length + 1 for length in at]
    parked = cache.park(0)
    cache.copy_row(2, 0)
    cache.clear(2, 3)
    cache.restore(parked, 2)
    assert cache.lengths[:3].tolist() == [at[2], at[1], at[0]]
    order = [2, 1, 0]
    parts = [ids[sequence, at[sequence] : at[sequence] + 3 + sequence] for sequence in order]
    hidden, _ = model.feed(torch.cat(parts), Packing.of([len(part) for part in parts]), cache, 0)
    expect(hidden, [(sequence, at[sequence], at[sequence] + 3 + sequence) for sequence in order])
    cache.clear(1, 2)
    hidden, _ = model.feed(ids[0, :5], Packing.of([5]), cache, 1)
    expect(hidden, [(0, 0, 5)])


@pytest.mark.parametrize("name", ["qwen3", "qwen3-moe"])
def test_recomputation_changes_no_gradient(name: str) -> None:
    packing = Packing.of((6, 11))
    ids, gradients = tokens(17), []
    for recompute in (False, True):
        model = policy(name).train()
        model.recompute = recompute
        model(ids, packing).square().sum().backward()
        gradients.append([p.grad for p in model.parameters() if p.grad is not None])
    assert len(gradients[0]) == len(gradients[1]) > 10
    assert all(torch.equal(a, b) for a, b in zip(*gradients, strict=True))


@pytest.mark.parametrize("name", ["qwen3", "qwen3-moe", "gemma3"])
def test_a_saved_policy_loads_alike_here_and_in_transformers(name: str, tmp_path: Path) -> None:
    model = policy(name)
    other = theirs(model, tmp_path)
    again = load_any_policy(tmp_path)
    assert isinstance(again, HFPolicy)
    for key, tensor in model.state_dict().items():
        assert torch.equal(tensor, again.state_dict()[key]), key
    ids = tokens(2, 12)
    assert (other(ids).logits - model.lm_head(model(ids))).abs().max() <= 1e-4
    assert "rolloom" not in (tmp_path / "config.json").read_text()
    need, kind = memory_need(tmp_path, 4)
    assert need.parameters == sum(p.numel() for p in model.parameters())
    assert kind == type(model.hf).__name__
    cache = model.new_cache(1, 8)
    model.feed(ids[0, :3], Packing.of([3]), cache, 0)
    assert need.cache(1, 8) == sum(4 * t.numel() for pair in cache.layers.values() for t in pair)


def test_bfloat16_stays_bfloat16(tmp_path: Path) -> None:
    save_any_policy(policy("qwen3"), tmp_path)
    model = load_any_policy(tmp_path, torch.bfloat16)
    assert {p.dtype for p in model.parameters()} == {torch.bfloat16}
    assert model(tokens(2, 5)).dtype is torch.bfloat16
    assert model.logits(model(tokens(1, 5))[0]).dtype is torch.float32


REFUSED: dict[str, tuple[Callable[[], Any], str]] = {
    "scaled logits": (lambda: transformers.GraniteConfig(**SIZES, logits_scaling=4.0), "scales or caps"),
    "capped scores": (lambda: transformers.Gemma2Config(**SIZES, head_dim=8), "soft-capped"),
    "attention sinks": (
        lambda: transformers.GptOssConfig(**SIZES, head_dim=8, num_local_experts=4, num_experts_per_tok=2),
        "sinks",
    ),
    "state between tokens": (
        lambda: transformers.Mamba2Config(
            vocab_size=VOCAB, hidden_size=32, num_hidden_layers=2, num_heads=4, head_dim=16, state_size=8,
            n_groups=1,
        ),
        "linear_attention",
    ),
    "convolutions": (
        lambda: transformers.Lfm2Config(**SIZES, layer_types=["conv", "full_attention", "conv"]),
        "conv",
    ),
    "positions of its own": (
        lambda: transformers.BloomConfig(vocab_size=VOCAB, hidden_size=32, n_layer=2, n_head=4),
        "Bloom.*position_ids",
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", REFUSED)
def test_what_cannot_be_exact_is_refused_by_name(name: str) -> None:
    make, words = REFUSED[name]
    with pytest.raises(PolicyError, match=words):
        make_hf(make())


def damage_type(directory: Path) -> None:
    file = directory / "config.json"
    file.write_text(file.read_text().replace('"qwen3"', '"qwen333"'))


def damage_shape(directory: Path) -> None:
    values = json.loads((directory / "config.json").read_text())
    (directory / "config.json").write_text(json.dumps({**values, "intermediate_size": 40}))


def damage_layers(directory: Path) -> None:
    values = json.loads((directory / "config.json").read_text())
    changed = {**values, "num_hidden_layers": 4, "layer_types": ["full_attention"] * 4}
    (directory / "config.json").write_text(json.dumps(changed))


@pytest.mark.parametrize(
    ("damage", "words"),
    [
        (damage_type, "qwen333"),
        (damage_shape, r"misshaped model.layers.0.mlp.down_proj.weight: expected \(32, 40\), got \(32, 48\)"),
        (damage_layers, r"missing model.layers.3"),
        (lambda directory: (directory / "model.safetensors").unlink(), "safetensors"),
        (lambda directory: (directory / "config.json").write_text("{"), r"config\.json is malformed"),
        (lambda directory: (directory / "config.json").write_text("{}"), "model_type"),
        (lambda directory: (directory / "config.json").unlink(), r"config\.json, found none"),
    ],
)
def test_damaged_checkpoints_are_named(tmp_path: Path, damage: Callable[[Path], Any], words: str) -> None:
    save_any_policy(policy("qwen3"), tmp_path)
    damage(tmp_path)
    with pytest.raises(PolicyError, match=words):
        load_any_policy(tmp_path)


def test_a_missing_package_is_named_with_its_extra() -> None:
    with pytest.raises(PolicyError, match=r"A policy needs absent_package.*pip install 'rolloom\[hf\]'"):
        need("absent_package.part", "hf", "A policy")


QWEN = """{%- for m in messages -%}
{%- if m.role == "assistant" and "</think>" in m.content %}{% set said = m.content.split("</think>")[-1] %}
{%- else %}{% set said = m.content %}{% endif -%}
{{ bos_token }}{{ m.role }}
{% generation %}{{ said }}{% endgeneration %}<|im_end|>
{%- if loop.index > 99 %}{% break %}{% endif %}
{% endfor -%}
{%- if tools %}{{ raise_exception("no tools") }}{% endif -%}
{%- if add_generation_prompt %}{{ bos_token }}assistant
{% endif -%}"""


@pytest.fixture(scope="module")
def tokenizer_directory(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tokenizer as transformers writes it: eos is not what ends a turn, bos stands in the template."""
    directory = tmp_path_factory.mktemp("tokenizer")
    inner = train_tokenizer(["user assistant hello world 123"] * 4, 320).tokenizer
    inner.add_special_tokens([AddedToken("<|endoftext|>", special=True)])
    fast = transformers.PreTrainedTokenizerFast(
        tokenizer_object=inner, eos_token="<|endoftext|>", bos_token="<|im_start|>", pad_token="<|pad|>",
        model_max_length=777,
    )  # fmt: skip
    fast.chat_template = QWEN
    fast.save_pretrained(directory)
    stop = inner.token_to_id("<tool_call>")
    (directory / "generation_config.json").write_text(json.dumps({"eos_token_id": [stop]}))
    return directory


def test_a_tokenizer_of_transformers_serves(tokenizer_directory: Path, tmp_path: Path) -> None:
    tokenizer = ChatTokenizer.load(tokenizer_directory)
    auto = transformers.AutoTokenizer.from_pretrained(tokenizer_directory)
    messages = [
        {"role": "user", "content": "hello"},
        {"role": "assistant", "content": "world 12"},
        {"role": "user", "content": "3 3"},
    ]
    want = auto.apply_chat_template(messages, tokenize=False, add_generation_prompt=True)
    assert tokenizer.render(messages) == want
    assert tokenizer.prompt_ids(messages) == auto.encode(want, add_special_tokens=False)
    names = [tokenizer.tokenizer.id_to_token(stop) for stop in tokenizer.stop_ids]
    assert names == ["<|im_end|>", "<|endoftext|>", "<tool_call>"]
    assert not tokenizer.opens_thinking
    opening, said, more = tokenizer.prompt_ids(messages[:1]), "world 12", messages[2:]
    whole = [*opening, *tokenizer.completion_ids(said), *tokenizer.continuation_ids(more)]
    assert tokenizer.decode(whole) == want
    with pytest.raises(PolicyError, match="no tools"):
        tokenizer.render(messages, tools=[{"type": "function"}])
    tokenizer.save(tmp_path)
    again = transformers.AutoTokenizer.from_pretrained(tmp_path)
    assert (again.eos_token, again.bos_token, again.pad_token) == ("<|endoftext|>", "<|im_start|>", "<|pad|>")
    assert again.model_max_length == 777
    assert again.apply_chat_template(messages, tokenize=False) == auto.apply_chat_template(
        messages, tokenize=False
    )
