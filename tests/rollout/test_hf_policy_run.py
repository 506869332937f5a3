"""A Qwen3 of random weights through the real engine, learner and loop, and read back by transformers."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import transformers as library
from small_runs import Bench, records, small_run, untimed

from rolloom.kernels.logprob.op import linear_logprob
from rolloom.policy.hf import HFPolicy, make_hf
from rolloom.policy.loading import load_any_policy, save_any_policy
from rolloom.policy.tokenizer import ChatTokenizer
from rolloom.rollout.dry_run import dry_run
from rolloom.rollout.launch import train
from rolloom.rollout.native_engine import NativeEngine
from rolloom.rollout.rundir import RunDir, read_jsonl
from rolloom.rollout.types import Completion, Request

transformers: Any = library
"""Its signatures are stricter than what its configurations take."""

STOP_WEIGHT = 1.0
FAMILIES = ("qwen3", "qwen3-moe", "mistral-window")


def make_policy(directory: Path, tokenizer: ChatTokenizer, family: str = "qwen3") -> None:
    """Random weights that end a completion now and then, with the tokenizer of the tests' own policy."""
    eos = tokenizer.stop_ids[0]
    sizes: dict[str, Any] = {
        "vocab_size": tokenizer.vocab_size, "hidden_size": 32, "intermediate_size": 64,
        "num_hidden_layers": 2, "num_attention_heads": 4, "num_key_value_heads": 2,
        "max_position_embeddings": 512, "eos_token_id": eos, "bos_token_id": eos, "pad_token_id": 0,
        "tie_word_embeddings": False, "initializer_range": 0.15,
    }  # fmt: skip
    if family == "qwen3-moe":
        experts = {"num_experts": 4, "num_experts_per_tok": 2, "moe_intermediate_size": 32, "head_dim": 16}
        config = transformers.Qwen3MoeConfig(**sizes, **experts)
    elif family == "mistral-window":
        config = transformers.MistralConfig(**sizes, sliding_window=16)
    else:
        config = transformers.Qwen3Config(**sizes, head_dim=16)
    model = make_hf(config, seed=1)
    with torch.no_grad():
        # A component that every token has and no layer changes carries the stop token's logit to the head.
        model.hf.get_input_embeddings().weight[:, 0] = 4.0
        for name, weight in model.named_parameters():
            if name.endswith(("o_proj.weight", "down_proj.weight", "down_proj")):
                weight.select(-2, 0).zero_()
        model.lm_head.weight[:, 0] = 0.0
        model.lm_head.weight[eos, 0] = STOP_WEIGHT
    save_any_policy(model, directory)
    tokenizer.save(directory)


@pytest.fixture(scope="module")
def policies(policy_path: str, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    tokenizer = ChatTokenizer.load(policy_path)
    made = {family: tmp_path_factory.mktemp(family) for family in FAMILIES}
    for family, directory in made.items():
        make_policy(directory, tokenizer, family)
    return made


@pytest.fixture(scope="module")
def finished(policies: dict[str, Path], tmp_path_factory: pytest.TempPathFactory) -> RunDir:
    """The directory of a finished run of two steps."""
    runs = tmp_path_factory.mktemp("hf") / "runs"
    assert train(small_run(str(policies["qwen3"]), runs, trainer__steps=2)) == 0
    return RunDir(runs / "small")


def answer(engine: NativeEngine, *asked: Request) -> list[Completion]:
    engine.submit(asked)
    answers: dict[str, Completion] = {}
    while engine.busy:
        answers |= {completion.id: completion for completion in engine.step()}
    return [answers[request.id] for request in asked]


def requests(count: int, vocabulary: int, temperature: float) -> list[Request]:
    rng = np.random.default_rng(count)
    return [
        Request(f"r{i}", rng.integers(7, vocabulary, int(rng.integers(1, 40))).tolist(), i, 20, temperature)
        for i in range(count)
    ]


@pytest.mark.parametrize("family", FAMILIES)
def test_greedy_tokens_equal_transformers_generate(policies: dict[str, Path], family: str) -> None:
    model = load_any_policy(policies[family])
    other = transformers.AutoModelForCausalLM.from_pretrained(policies[family]).eval()
    stops = ChatTokenizer.load(policies[family]).stop_ids
    asked = requests(12, model.config.vocab_size, temperature=0)
    engine = NativeEngine(model, stops, slots=5, context=96)
    for request, completion in zip(asked, answer(engine, *asked), strict=True):
        ids = torch.tensor([request.ids])
        want = other.generate(
            ids, attention_mask=torch.ones_like(ids), max_new_tokens=20, do_sample=False,
            eos_token_id=list(stops), pad_token_id=0,
        )  # fmt: skip
        assert completion.ids == want[0, len(request.ids) :].tolist()


@pytest.mark.parametrize("family", FAMILIES)
def test_logprobs_equal_the_learners(policies: dict[str, Path], family: str) -> None:
    model = load_any_policy(policies[family])
    engine = NativeEngine(model, (2,), slots=5, context=96)
    asked = requests(16, model.config.vocab_size, temperature=0.7)
    for request, completion in zip(asked, answer(engine, *asked), strict=True):
        assert completion.experts is None
        ids = torch.tensor([[*request.ids, *completion.ids[:-1]]])
        with torch.no_grad():
            hidden = model(ids)[0, len(request.ids) - 1 :]
        logp, _ = linear_logprob(hidden, model.lm_head.weight, torch.tensor(completion.ids), 0.7)
        assert (logp - torch.from_numpy(completion.logprobs)).abs().max() <= 1e-4


def test_a_continued_session_equals_the_whole_context(policies: dict[str, Path]) -> None:
    model = load_any_policy(policies["qwen3"])
    often = tuple(range(0, model.config.vocab_size, 3))
    engine = NativeEngine(model, often, slots=3, context=256)
    opening, delta = [50, 60, 70], [41, 42, 43, 44]
    (first,) = answer(engine, Request("a", opening, 1, 60, session="s"))
    assert first.finish == "stop"
    crowd = requests(4, model.config.vocab_size, 1.0)
    again = Request("b", delta, 2, 30, session="s", continues=True)
    continued = answer(engine, again, *crowd)[0]
    (whole,) = answer(NativeEngine(model, often, 1, 256), Request("b", [*opening, *first.ids, *delta], 2, 30))
    assert continued.ids == whole.ids
    np.testing.assert_allclose(continued.logprobs, whole.logprobs, atol=1e-4)


def test_the_loop_trains_it(finished: RunDir) -> None:
    rows = records(finished.root)
    assert [row["step"] for row in rows] == [1, 2]
    for row in rows:
        assert row["failures"] == 0
        assert row["logprob_diff_max"] <= 1e-4
    assert any(row["grad_norm"] > 0 for row in rows)
    turns = {row["turns"] for row in read_jsonl(finished.after)}
    assert max(turns) > 1


def test_transformers_loads_the_checkpoint_and_reproduces_the_log_probs(finished: RunDir) -> None:
    directory = finished.checkpoints / "step_000002"
    other = transformers.AutoModelForCausalLM.from_pretrained(directory).eval()
    auto = transformers.AutoTokenizer.from_pretrained(directory)
    rows = list(read_jsonl(finished.after))
    assert rows
    worst = 0.0
    for row in rows:
        ids, mask = np.array(row["ids"]), np.array([sampled == "1" for sampled in row["mask"]])
        with torch.no_grad():
            logp = torch.log_softmax(other(torch.from_numpy(ids)[None]).logits[0].float(), -1)
        at = np.flatnonzero(mask)
        worst = max(worst, float(np.abs(logp[at - 1, ids[at]].numpy() - np.array(row["logprobs"])).max()))
    assert worst <= 1e-4
    assert auto.convert_ids_to_tokens(ids[:1].tolist()) == ["<|im_start|>"]


def test_weights_change_and_another_run_repeats_them(
    finished: RunDir, policies: dict[str, Path], tmp_path: Path
) -> None:
    assert train(small_run(str(policies["qwen3"]), tmp_path, trainer__steps=2)) == 0
    again = RunDir(tmp_path / "small")
    name = "step_000002/model.safetensors"
    trained = (finished.checkpoints / name).read_bytes()
    assert trained == (again.checkpoints / name).read_bytes()
    assert trained != (policies["qwen3"] / "model.safetensors").read_bytes()
    assert untimed(again.after) == untimed(finished.after)


def test_a_resumed_run_ends_in_the_same_bits(
    finished: RunDir, policies: dict[str, Path], tmp_path: Path
) -> None:
    config = small_run(str(policies["qwen3"]), tmp_path, trainer__steps=1)
    assert train(config) == 0
    config.trainer.steps = 2
    run = tmp_path / "small"
    assert train(config, resume=run) == 0
    for name in ("model.safetensors", "optimizer.safetensors"):
        ours, theirs = (d / "step_000002" / name for d in (RunDir(run).checkpoints, finished.checkpoints))
        assert ours.read_bytes() == theirs.read_bytes()


def test_a_dry_run_counts_its_memory(policies: dict[str, Path], tmp_path: Path) -> None:
    lines: list[str] = []
    config = small_run(str(policies["qwen3"]), tmp_path / "runs")
    assert dry_run(config, str(policies["qwen3"]), lines.append) == 0
    text = "\n".join(lines)
    parameters = sum(p.numel() for p in load_any_policy(policies["qwen3"]).parameters())
    assert f"{parameters:,} parameters, Qwen3ForCausalLM" in text


@pytest.fixture
def hf_bench(policies: dict[str, Path]) -> Iterator[Callable[..., Bench]]:
    made: list[Bench] = []

    def make(family: str) -> Bench:
        made.append(Bench(str(policies[family]), {}, threaded=False))
        return made[-1]

    yield make
    for one in made:
        one.stop()


def test_published_weights_keep_their_checksum(hf_bench: Callable[..., Bench]) -> None:
    from rolloom.rollout.weights import to_arrays, weights_checksum

    engine = hf_bench("qwen3").engine
    model = engine.engine.model
    assert isinstance(model, HFPolicy)
    state = to_arrays({name: tensor + 0.5 for name, tensor in model.state_dict().items()})
    assert engine.load_weights(state, 3, weights_checksum(state)) == weights_checksum(state)
    assert weights_checksum(to_arrays(model.state_dict())) == weights_checksum(state)
