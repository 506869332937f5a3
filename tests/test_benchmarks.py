"""The benchmarks' arithmetic on known numbers, and every benchmark run for real on tiny cases."""

from __future__ import annotations

import importlib
import json
import math
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch

from benchmarks import __main__ as everything
from benchmarks import harness, machine, table
from benchmarks.envs import run_episode
from benchmarks.harness import Bench, ParityError, Rates, Row, read_rows, run_pairs, summarise, write_rows
from benchmarks.rollout_envs import peers
from rolloom.envs.base import TextEnv
from rolloom.envs.math.affine_chain import AffineChain

WHERE = {"commit": "abc", "hardware": "CPU, 2 cores, 1 thread", "others_cores": 0.0}
KEYS = {
    "name", "case", "ours", "peer", "peer_name", "ratio_median", "ratio_min", "ratio_max", "n", "commit",
    "hardware", "unit", "others_cores",
}  # fmt: skip


def row(name: str = "train", case: str = "c", ours: float = 3.0, others: float | None = 0.0) -> Row:
    pairs: list[tuple[Rates, Rates | None]] = [({"t/s": ours}, {"t/s": 1.0})]
    return summarise(name, case, "p", pairs, **{**WHERE, "others_cores": others})[0]


def test_ratios_are_taken_pair_by_pair() -> None:
    """Medians of ours and peer are 20 and 10, yet the median of the pairs' ratios is 3."""
    ours, peers = (10.0, 20.0, 90.0), (10.0, 5.0, 30.0)
    pairs = [({"t/s": a}, {"t/s": b}) for a, b in zip(ours, peers, strict=True)]
    (found,) = summarise("train", "case", "peer", pairs, **WHERE)
    assert (found.ours, found.peer) == (20.0, 10.0)
    assert (found.ratio_median, found.ratio_min, found.ratio_max, found.n) == (3.0, 1.0, 4.0, 3)


def test_the_first_side_alternates_and_warm_up_is_not_counted() -> None:
    calls: list[str] = []

    def ours(index: int) -> Rates:
        calls.append(f"ours{index}")
        return {"t/s": float(index)}

    def peer(index: int) -> Rates:
        calls.append(f"peer{index}")
        return {"t/s": float(index)}

    pairs = run_pairs(ours, peer, 3, warmup=1)
    assert calls == ["ours0", "peer0", "peer1", "ours1", "ours2", "peer2", "peer3", "ours3"]
    assert [mine["t/s"] for mine, _ in pairs] == [1.0, 2.0, 3.0]


def test_a_case_without_a_peer_has_a_rate_and_no_ratio() -> None:
    (found,) = summarise("envs", "c", "none", run_pairs(lambda i: {"e/s": i + 1.0}, None, 3), **WHERE)
    assert found.ours == 3.0
    assert found.peer is found.ratio_median is found.ratio_min is found.ratio_max is None


def test_every_unit_of_a_case_is_a_row() -> None:
    pairs = [({"a/s": 2.0, "b/s": 3.0}, {"a/s": 1.0, "b/s": 2.0})]
    assert [(r.unit, r.ratio_median) for r in summarise("n", "c", "p", pairs, **WHERE)] == [
        ("a/s", 2.0),
        ("b/s", 1.5),
    ]


def test_rows_survive_the_file(tmp_path: Path) -> None:
    rows = [row(case='a "quoted" | case'), row(ours=0.5, others=None)]
    write_rows(tmp_path / "rows.json", rows)
    assert read_rows(tmp_path / "rows.json") == rows
    assert all(set(entry) == KEYS for entry in json.loads((tmp_path / "rows.json").read_text()))


def test_the_rate_of_a_known_sleep() -> None:
    assert 10 < harness.rate_for(0.2, lambda _: time.sleep(0.01)) <= 100


def test_the_load_of_others_sees_a_stranger_and_not_ourselves() -> None:
    if machine.OthersLoad().cores() is None:
        pytest.skip("no /proc/stat")
    # A grandchild whose parent has ended belongs to nobody here.
    spin = "import time; end = time.time() + 3\nwhile time.time() < end: pass"
    start = f"import subprocess, sys; subprocess.Popen([sys.executable, '-c', {spin!r}])"
    load = machine.OthersLoad()
    own = time.process_time()
    while time.process_time() - own < 0.6:
        pass
    alone = load.cores()
    subprocess.run([sys.executable, "-c", start], check=True, timeout=20)
    load = machine.OthersLoad()
    time.sleep(1.2)
    with_stranger = load.cores()
    assert alone is not None
    assert with_stranger is not None
    assert with_stranger > 0.3
    # Other tests may be running: what is bounded is that our own spinning was taken off.
    assert alone < machine.cores() - 0.3


def test_hardware_names_threads_and_its_slug_does_not() -> None:
    assert machine.hardware(1).endswith(f"{machine.cores()} cores, 1 thread")
    assert machine.hardware(2).endswith("2 threads")
    slug = machine.hardware_slug()
    assert slug.endswith("-cores")
    assert set(slug) <= set("abcdefghijklmnopqrstuvwxyz0123456789-")


def test_the_commit_is_the_checkouts(root: Path) -> None:
    if not (root / ".git").exists():
        assert machine.commit() == "unknown"
        return
    head = subprocess.run(
        ["git", "rev-parse", "HEAD"], cwd=root, capture_output=True, text=True, check=True
    ).stdout.strip()
    assert head.startswith(machine.commit().removesuffix("+dirty"))


def test_the_table_replaces_what_stands_between_the_markers(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text(f"top\n{table.BEGIN}\nold\n{table.END}\nbottom\n")
    rows = [row(case="one | M*EM*", ours=2.5), row(name="envs", case="busy", others=0.9)]
    table.renew_page(page, {"cpu": rows})
    once = page.read_text()
    assert once.startswith(f"top\n{table.BEGIN}")
    assert once.endswith(f"{table.END}\nbottom\n")
    assert "old" not in once
    assert "one \\| M\\*EM\\* | 1 | t/s | 2.5 | 1 | **2.5** (2.5 to 2.5) | p |" in once
    assert f"busy {table.BUSY} |" in once
    table.renew_page(page, {"cpu": rows})
    assert page.read_text() == once


@pytest.mark.parametrize(
    "text", ["", table.BEGIN, f"{table.END}{table.BEGIN}", 2 * f"{table.BEGIN}{table.END}"]
)
def test_a_page_without_its_markers_is_left_alone(text: str, tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text(text)
    with pytest.raises(ValueError, match="benchmarks:begin"):
        table.renew_page(page, {"cpu": [row()]})
    assert page.read_text() == text


def test_new_rows_replace_those_of_their_benchmark_only(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    page = tmp_path / "page.md"
    page.write_text(f"{table.BEGIN}{table.END}")
    monkeypatch.setattr(everything, "BASELINES", tmp_path / "baselines")
    monkeypatch.setattr(everything, "PAGE", page)
    everything.keep([row("train", "old"), row("envs", "kept")])
    everything.keep([row("train", "new")])
    (file,) = (tmp_path / "baselines").glob("*.json")
    assert [found.case for found in read_rows(file)] == ["new", "kept"]


def test_the_page_of_the_repository_has_its_markers(root: Path) -> None:
    text = (root / "docs" / "benchmarks.md").read_text()
    assert text.count(table.BEGIN) == text.count(table.END) == 1


@pytest.mark.parametrize("name", everything.NAMES)
def test_quick_run_writes_valid_rows(name: str, tmp_path: Path) -> None:
    if name != "envs":
        pytest.importorskip("transformers")
    module = importlib.import_module(f"benchmarks.{name}")
    threads = torch.get_num_threads()
    path = tmp_path / "rows.json"
    assert harness.main(name, module.measure, ["--quick", "--json", str(path)]) == 0
    assert torch.get_num_threads() == threads
    rows = read_rows(path)
    assert len({(found.case, found.unit) for found in rows}) == len(rows) > 0
    for found in rows:
        assert found.name == name
        assert found.n == harness.QUICK_PAIRS
        assert found.ours > 0
        assert math.isfinite(found.ours)
        if found.peer is not None:
            assert found.peer > 0
            assert found.ratio_min is not None
            assert found.ratio_median is not None
            assert found.ratio_max is not None
            assert 0 < found.ratio_min <= found.ratio_median <= found.ratio_max
    # verifiers 0.1.14 has an environment of its own, which `make bench` makes and `make test` does not.
    there = name != "rollout_envs" or peers.python() is not None
    assert any(found.peer is not None for found in rows) == there


def test_the_command_runs_what_it_is_asked_for_and_a_quick_run_keeps_nothing(
    root: Path, tmp_path: Path
) -> None:
    before = {file: file.read_bytes() for file in (root / "benchmarks" / "baselines").glob("*.json")}
    path = tmp_path / "rows.json"
    command = [sys.executable, "-m", "benchmarks", "envs", "--quick", "--json", str(path)]
    subprocess.run(command, cwd=root, check=True, timeout=60)
    assert {found.name for found in read_rows(path)} == {"envs"}
    assert {file: file.read_bytes() for file in (root / "benchmarks" / "baselines").glob("*.json")} == before


def test_an_unknown_benchmark_is_named(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        everything.main(["trian"])
    told = capsys.readouterr().err
    assert f"expected one of {', '.join(everything.NAMES)}, got 'trian'" in told


def test_no_figure_without_parity(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    def differ(bench: Bench) -> None:
        bench.compare("before", lambda _: {"t/s": 1.0}, None, "none")
        raise ParityError("losses differ")

    path = tmp_path / "rows.json"
    assert harness.main("train", differ, ["--json", str(path)]) == 1
    assert not path.exists()
    assert "losses differ" in capsys.readouterr().err


def test_other_weights_fail_the_checks_before_the_figures() -> None:
    """The parity checks must be able to fail: ours gets one changed weight."""
    pytest.importorskip("transformers")
    from benchmarks import rollout, train
    from benchmarks.policies import checkpoint, load_transformers
    from rolloom.policy.checkpoint import load_policy
    from rolloom.rollout.learner import Learner

    with checkpoint("dense") as (_, path):
        hf, _ = load_transformers(path)
        model = load_policy(path)
        prompts = rollout.random_prompts(2, 8, model.config.vocab_size)
        assert rollout.check_logprobs(model, hf.eval(), prompts, 4) <= rollout.TOLERANCE
        batch = train.make_batch(path, 2, 16)
        learner = Learner(str(path), train.CONFIG, 1.0, "cpu", "float32", str(path))
        with torch.no_grad():
            for changed in (model, learner.model):
                changed.model.layers[0].mixer.out_proj.weight[0] *= 1.5  # type: ignore[union-attr, operator, index]
        with pytest.raises(ParityError, match="log-probs"):
            rollout.check_logprobs(model, hf, prompts, 4)
        loss = learner.train(batch, 1)["loss"]
        with pytest.raises(ParityError, match="differ"):
            train.check_parity(loss, learner.model, train.PeerStep(hf)(batch), hf)


def test_a_wrong_kernel_fails_before_its_figure() -> None:
    pytest.importorskip("transformers")
    from benchmarks.kernels import common, conv1d

    def off(x: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor) -> torch.Tensor:
        return conv1d.peer_conv(x, weight, bias * 1.01)

    with pytest.raises(ParityError, match="off: output"):
        common.check_against(conv1d.reference_conv, {"off": off}, conv1d.make_inputs(0, 9))


def test_an_expert_that_fails_gives_no_figure() -> None:
    class Wrong(AffineChain):
        def expert(self, style: object, rng: object) -> str:  # type: ignore[override]
            return "<think>\n</think>\nno idea"

    env: TextEnv = Wrong()
    with pytest.raises(ParityError, match="scored 0"):
        run_episode(env, 0)
