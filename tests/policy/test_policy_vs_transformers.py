"""A saved policy, read by plain transformers: the same log-probs, tokens and prompts."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from rolloom.policy.checkpoint import from_any_layout, load_policy, save_policy
from rolloom.policy.config import HybridConfig
from rolloom.policy.model import HybridLM
from rolloom.policy.small_tokenizer import train_tokenizer
from rolloom.policy.tokenizer import ChatTokenizer

SMALL: dict[str, Any] = {
    "vocab_size": 101, "hidden_size": 32, "num_attention_heads": 4, "num_key_value_heads": 2, "head_dim": 8,
    "intermediate_size": 40, "ssm_state_size": 12, "mamba_num_heads": 4, "mamba_head_dim": 8, "n_groups": 1,
    "chunk_size": 16, "n_routed_experts": 8, "num_experts_per_tok": 2, "moe_intermediate_size": 24,
    "moe_shared_expert_intermediate_size": 40,
}  # fmt: skip
LATENT = {"moe_latent_size": 16, "n_group": 4, "topk_group": 2, "routed_scaling_factor": 2.5}
CASES: dict[str, dict[str, Any]] = {
    "mamba": {"pattern": "MM"},
    "mamba-groups-biases": {"pattern": "MM", "n_groups": 2, "use_bias": True, "conv_kernel": 3},
    "mamba-no-conv-bias-slow-clamp": {"pattern": "MM", "use_conv_bias": False, "time_step_min": 0.3},
    "attention-grouped": {"pattern": "**"},
    "attention-one-key-head": {"pattern": "**", "num_key_value_heads": 1},
    "attention-all-key-heads": {"pattern": "*-", "num_key_value_heads": 4, "mlp_bias": True},
    "moe": {"pattern": "EE"},
    "moe-unnormalised": {"pattern": "EE", "norm_topk_prob": False, "num_experts_per_tok": 5},
    "moe-latent-groups": {"pattern": "E-E", "num_experts_per_tok": 3, "mlp_bias": True, **LATENT},
    "mlp": {"pattern": "--", "mlp_bias": True},
    "moe-scaled-groups": {"pattern": "EE", "n_group": 2, "topk_group": 1, "routed_scaling_factor": 5.0},
    "nemotron-like": {"pattern": "MEM*EM-ME", "n_groups": 4, "num_experts_per_tok": 4, **LATENT},
}


def large_random(config: HybridConfig, seed: int = 0) -> HybridLM:
    """A policy whose every matrix is ten times as large as at initialisation, and everything else random."""
    model = HybridLM(config, seed)
    g = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, tensor in model.state_dict().items():
            noise = torch.randn(tensor.shape, generator=g)
            if name.endswith(("A_log", "dt_bias", ".D", "norm.weight", "norm_f.weight", ".bias")):
                tensor += 0.5 * noise
            elif name.endswith("e_score_correction_bias"):
                tensor += 0.2 * noise
            else:
                tensor *= 10
    return model


def logprobs(logits: torch.Tensor) -> torch.Tensor:
    return torch.log_softmax(logits.float(), -1)


@pytest.mark.parametrize("case", CASES)
def test_same_logprobs_and_gradients(case: str, tmp_path: Path) -> None:
    model = large_random(HybridConfig(**{**SMALL, **CASES[case]}))
    save_policy(model, tmp_path)
    loaded: Any = AutoModelForCausalLM.from_pretrained(
        tmp_path, dtype=torch.float32, output_loading_info=True
    )
    theirs, report = loaded
    assert not any(report.values()), report
    for length in (1, 33, 70):
        ids = torch.randint(101, (2, length), generator=torch.Generator().manual_seed(length))
        ours = logprobs(model.logits(model(ids)))
        expected = logprobs(theirs(ids, use_cache=False).logits)
        difference = (ours - expected).detach().abs().max()
        assert difference <= 1e-4, f"{case}, {length} tokens: {difference:.2e}"
    assert ours.max() - ours.min() > 1, "the distribution is too flat to tell two models apart"
    pull = torch.randn(ours.shape, generator=torch.Generator().manual_seed(1)) / ours[0].numel() ** 0.5
    for scored in (ours, expected):
        (scored * pull).sum().backward()
    wanted = from_any_layout({n: p.grad for n, p in theirs.named_parameters() if p.grad is not None})
    found = {n: p.grad for n, p in model.named_parameters() if p.grad is not None}
    assert found.keys() == wanted.keys() == dict(model.named_parameters()).keys()
    for name, gradient in found.items():
        scale = max(1.0, float(wanted[name].abs().max()))
        worst = float((gradient - wanted[name]).abs().max())
        assert worst <= 1e-4 * scale, f"{case}, gradient of {name}: {worst:.2e} of {scale:.2e}"


@pytest.mark.parametrize("shard", ["10MB", "20KB"])
@pytest.mark.parametrize("case", ["nemotron-like", "moe-latent-groups"])
def test_what_transformers_saves_loads_back(case: str, shard: str, tmp_path: Path) -> None:
    model = large_random(HybridConfig(**{**SMALL, **CASES[case]}))
    ours, theirs = tmp_path / "ours", tmp_path / "theirs"
    ours.mkdir()
    save_policy(model, ours)
    peer = AutoModelForCausalLM.from_pretrained(ours, dtype=torch.float32)
    peer.save_pretrained(theirs, max_shard_size=shard)
    assert (theirs / "model.safetensors.index.json").is_file() == (shard == "20KB")
    again = load_policy(theirs)
    assert again.config == model.config
    for source in (again.state_dict(), from_any_layout(peer.state_dict())):
        assert source.keys() == model.state_dict().keys()
        assert all(torch.equal(source[name], tensor) for name, tensor in model.state_dict().items())


MESSAGES: list[dict[str, str]] = [
    {"role": "system", "content": "Answer in digits."},
    {"role": "user", "content": "What is 12 + 30?\n  Think  twice. \u00e9\U0001f600"},
    {"role": "assistant", "content": "<think>\n12 + 30 = 42</think>\n42"},
    {"role": "tool", "content": '{"ok": true, "rows": [1, 2]}'},
    {"role": "user", "content": "And {{ 6 * 7 }}?"},
]
PARAMETERS = {"type": "object", "properties": {"key": {"type": "string"}, "limit": {"type": "integer"}}}
FUNCTION = {"name": "lookup", "description": "Look a key up.", "parameters": PARAMETERS}
TOOLS: list[Any] = [{"type": "function", "function": FUNCTION}]


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A checkpoint directory with a policy and its tokenizer."""
    directory = tmp_path_factory.mktemp("policy")
    tokenizer = train_tokenizer([m["content"] for m in MESSAGES] * 3, 300)
    save_policy(HybridLM(HybridConfig(**{**SMALL, "pattern": "M", "vocab_size": 320})), directory)
    tokenizer.save(directory)
    return directory


@pytest.mark.parametrize("first,last", [(0, 1), (0, 2), (1, 2), (0, 5), (1, 5), (1, 3), (0, 4), (3, 4)])
@pytest.mark.parametrize("tools", [[], TOOLS], ids=["plain", "tools"])
def test_same_chat_prompt(saved: Path, first: int, last: int, tools: list[Any]) -> None:
    ours, theirs = ChatTokenizer.load(saved), AutoTokenizer.from_pretrained(saved)
    messages = MESSAGES[first:last]
    for generate in (True, False):
        arguments = {"tools": tools or None, "add_generation_prompt": generate}
        text = ours.render(messages, tools, generate)
        assert theirs.apply_chat_template(messages, tokenize=False, **arguments) == text
        ids = theirs.apply_chat_template(messages, tokenize=True, return_dict=False, **arguments)
        assert ids == ours.encode(text)


@pytest.mark.parametrize("text", [
    "", " ", "\n\n", "12 + 30", "  two  spaces ", "<|im_end|>", "a<think>b</think>c", "\u00e9\U0001f600",
    "\u200b<tool_call>{}</tool_call>", "tab\tand\r\nreturn", "<|im_start|", "\u4f60\u597d 123",
])  # fmt: skip
def test_same_token_ids(saved: Path, text: str) -> None:
    ours, theirs = ChatTokenizer.load(saved), AutoTokenizer.from_pretrained(saved)
    ids = ours.encode(text)
    assert theirs(text).input_ids == ids
    assert theirs.decode(ids, skip_special_tokens=False) == ours.decode(ids) == text


def test_same_special_tokens(saved: Path) -> None:
    ours, theirs = ChatTokenizer.load(saved), AutoTokenizer.from_pretrained(saved)
    assert (theirs.eos_token_id,) == ours.stop_ids
    assert theirs.pad_token_id == 0 and len(theirs) == ours.vocab_size
