"""The road from YAML and `key=value` to a checked configuration."""

from __future__ import annotations

import dataclasses
import math
import pickle
import tempfile
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rolloom.configs.checks import RANGES, WORDS, check_field, pattern_of
from rolloom.configs.errors import ConfigError
from rolloom.configs.load import PACKAGED, describe, load_run_config, save_run_config
from rolloom.configs.schema import RunConfig
from rolloom.configs.sources import dotted
from rolloom.configs.typed import fields_of
from rolloom.errors import RolloomError

ONE_ENV = "envs=[{id: math/affine_chain-v0}]"


def refusal(path: Path | str, *overrides: str) -> ConfigError:
    with pytest.raises(ConfigError) as caught:
        load_run_config(path, overrides)
    return caught.value


def written(folder: Path, text: str, name: str = "run.yaml") -> Path:
    path = folder / name
    path.write_text(text)
    return path


# -- what is accepted ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("path", sorted(PACKAGED.glob("*.yaml")), ids=lambda path: path.stem)
def test_packaged_configs_load_by_path_and_by_name(path: Path) -> None:
    assert load_run_config(path) == load_run_config(path.stem)


def test_quickstart_trains_all_four_kinds_and_is_reached_through_the_root_link(root: Path) -> None:
    config = load_run_config(root / "configs/train/quickstart.yaml")
    assert {env.id.partition("/")[0] for env in config.envs} == {"math", "code", "tools", "agent"}


def test_fields_not_named_keep_their_defaults() -> None:
    config = load_run_config("quickstart", ["trainer.steps=7"])
    assert config.trainer == dataclasses.replace(RunConfig().trainer, **{**_named("trainer"), "steps": 7})


def _named(section: str) -> dict[str, object]:
    config, default = load_run_config("quickstart"), RunConfig()
    mine, theirs = dataclasses.asdict(getattr(config, section)), dataclasses.asdict(getattr(default, section))
    return {name: value for name, value in mine.items() if value != theirs[name]}


def test_the_last_override_wins_and_both_list_forms_work() -> None:
    words = ["seed=1", "seed=2", "envs.0.weight=2", "envs[1].weight=3", "envs.1.kwargs={hard: true}"]
    config = load_run_config("quickstart", words)
    assert config.seed == 2
    assert [env.weight for env in config.envs[:2]] == [2.0, 3.0]
    assert config.envs[1].kwargs == {"hard": True}
    assert len(load_run_config("quickstart", [ONE_ENV]).envs) == 1


@pytest.mark.parametrize(
    ("word", "section", "field", "value"),
    [
        ("trainer.learning_rate=3e-4", "trainer", "learning_rate", 3e-4),
        ("trainer.learning_rate=1", "trainer", "learning_rate", 1.0),
        ("trainer.std_normalization=yes", "trainer", "std_normalization", True),
        ("trainer.warmup_steps=${trainer.save_every}", "trainer", "warmup_steps", None),
        ("policy.device=cuda:3", "policy", "device", "cuda:3"),
        ("ray.address=head.cluster:6379", "ray", "address", "head.cluster:6379"),
    ],
)
def test_values_are_read_as_yaml(word: str, section: str, field: str, value: object) -> None:
    config = load_run_config("quickstart", [word])
    got = getattr(getattr(config, section), field)
    assert got == (config.trainer.save_every if value is None else value)
    assert type(got) is type(getattr(getattr(RunConfig(), section), field))


def test_a_file_may_be_based_on_another_and_lists_are_replaced(tmp_path: Path) -> None:
    written(
        tmp_path,
        "seed: 3\ntrainer: {steps: 5, group_size: 4}\n" + ONE_ENV.replace("=", ": ") + "\n",
        "a.yaml",
    )
    (tmp_path / "sub").mkdir()
    child = written(tmp_path / "sub", "base: ../a.yaml\ntrainer: {steps: 9}\nenvs: [{id: tools/lookup-v0}]\n")
    config = load_run_config(child)
    assert (config.seed, config.trainer.steps, config.trainer.group_size) == (3, 9, 4)
    assert [env.id for env in config.envs] == ["tools/lookup-v0"]


@settings(max_examples=25)
@given(
    st.fixed_dictionaries(
        {
            "seed": st.integers(0, 2**32 - 1),
            "name": st.from_regex(r"[a-z0-9_][a-z0-9_.+=-]{0,12}", fullmatch=True),
            "trainer.learning_rate": st.floats(1e-12, 1e3),
            "trainer.std_normalization": st.booleans(),
            "envs[0].kwargs": st.dictionaries(
                st.text("abc_", min_size=1),
                st.none() | st.integers() | st.text("xyz: #'\n") | st.lists(st.booleans()),
            ),
        }
    )
)
def test_save_and_load_is_the_identity(values: dict[str, object]) -> None:
    config = load_run_config("quickstart")
    config.seed, config.name = values["seed"], values["name"]  # type: ignore[assignment]
    config.trainer.learning_rate = values["trainer.learning_rate"]  # type: ignore[assignment]
    config.trainer.std_normalization = values["trainer.std_normalization"]  # type: ignore[assignment]
    config.envs[0].kwargs = values["envs[0].kwargs"]  # type: ignore[assignment]
    with tempfile.TemporaryDirectory() as folder:
        save_run_config(config, Path(folder) / "config.yaml")
        assert load_run_config(Path(folder) / "config.yaml") == config
        assert [path.name for path in Path(folder).iterdir()] == ["config.yaml"]


def test_describe_names_every_field_and_stars_what_differs() -> None:
    lines = describe(load_run_config("quickstart", ["trainer.beta1=0.5"])).splitlines()
    assert "* trainer.beta1 = 0.5" in lines
    assert f"  trainer.beta2 = {RunConfig().trainer.beta2}" in lines


# -- what is refused -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("word", "nearest"),
    [
        ("trainer.lerning_rate=1", "trainer.learning_rate"),
        ("trianer.steps=1", "trainer"),
        ("learning_rat=1", "trainer.learning_rate"),
        ("envs.0.wieght=1", "envs[0].weight"),
        ("rollout.temprature=1", "rollout.temperature"),
        ("reward.efficiency=sign_save", "sign_safe"),
        ("trainer.baseline=leave_1_out", "leave_one_out"),
        ("trainer.schedule=linaer", "linear"),
        ("policy.dtype=float23", "float32"),
    ],
)
def test_a_near_miss_is_answered_with_the_valid_name(word: str, nearest: str) -> None:
    (problem,) = refusal("quickstart", word).problems
    assert f"Did you mean '{nearest}'?" in problem
    assert problem.endswith("(command line)")


@pytest.mark.parametrize(
    ("word", "field", "expected"),
    [
        ("trainer.steps=many", "trainer.steps", "a whole number, got 'many'"),
        ("trainer.steps=3.5", "trainer.steps", "a whole number, got 3.5"),
        ("trainer.steps=0", "trainer.steps", "at least 1, got 0"),
        ("trainer.steps=[1]", "trainer.steps", "a whole number, got [1]"),
        ("trainer.steps.x=1", "trainer.steps", "a whole number, got {'x': 1}"),
        ("trainer.learning_rate=.nan", "trainer.learning_rate", "more than 0, got nan"),
        ("trainer.learning_rate=.inf", "trainer.learning_rate", "more than 0, got inf"),
        ("trainer.learning_rate=true", "trainer.learning_rate", "a number, got True"),
        ("trainer.learning_rate=null", "trainer.learning_rate", "a number, got None"),
        ("local=maybe", "local", "true or false, got 'maybe'"),
        ("trainer=5", "trainer", "a section of fields, got 5"),
        ("envs=math/affine_chain-v0", "envs", "a list of sections"),
        ("envs=[]", "envs", "at least one environment"),
        ("envs.0=7", "envs[0]", "a section of fields, got 7"),
        ("envs.9.weight=1", "envs.9.weight", "a position below 4 in envs, got '9'"),
        ("envs.0.id=affine_chain", "envs[0].id", "a registry id"),
        ("envs.0.weight=-1", "envs[0].weight", "at least 0, got -1.0"),
        ("envs.0.kwargs=3", "envs[0].kwargs", "a mapping with string keys, got 3"),
        ("envs.0.min_level=4", "envs[0].min_level", "at most envs[0].max_level = 1"),
        ("envs.1.id=math/affine_chain-v0", "envs[1].id", "every environment once"),
        ("rollout.temperature=0", "rollout.temperature", "more than 0"),
        ("rollout.engines=0", "rollout.engines", "at least 1, got 0"),
        ("rollout.max_new_tokens=512", "rollout.max_new_tokens", "less than rollout.max_context = 512"),
        ("rollout.step_deadline_s=1000", "rollout.step_deadline_s", "at most rollout.episode_deadline_s"),
        ("trainer.group_size=1", "trainer.group_size", "at least 2"),
        ("trainer.microbatch_tokens=100", "rollout.max_context", "at most trainer.microbatch_tokens = 100"),
        ("reward.gate_low=1", "reward.gate_low", "less than 1"),
        ("ray.object_store_mb=10", "ray.object_store_mb", "at least 75"),
        ("name=../x", "name", "a directory name"),
        ("policy.device=gpu", "policy.device", "cpu or cuda or cuda:N"),
        ("seed=${nope}", "seed", "can be resolved"),
        ("steps", "steps", "an override like trainer.steps=10"),
        ("trainer.steps=[1", "trainer.steps", "a YAML value"),
    ],
)
def test_a_bad_value_names_field_value_and_expectation(word: str, field: str, expected: str) -> None:
    (problem,) = refusal("quickstart", "rollout.max_context=512", word).problems
    assert problem.replace("'", "").startswith(f"{field}: expected")
    assert expected in problem


def test_combinations_of_words_and_numbers(tmp_path: Path) -> None:
    linear = refusal("quickstart", "trainer.schedule=linear", "trainer.steps=3", "trainer.warmup_steps=3")
    assert "trainer.warmup_steps: expected less than trainer.steps = 3" in str(linear)
    overlong = refusal("quickstart", "reward.efficiency=overlong", "reward.overlong_tokens=8")
    assert "reward.overlong_cache: expected at most reward.overlong_tokens = 8" in str(overlong)
    load_run_config("quickstart", ["reward.overlong_tokens=8"])
    zeros = [f"envs.{index}.weight=0" for index in range(4)]
    assert "a weight above 0" in str(refusal("quickstart", *zeros))


def test_every_problem_is_reported_at_once_with_its_line(tmp_path: Path) -> None:
    path = written(
        tmp_path,
        "seed: -1\n"
        "trainer:\n"
        "  steps: many\n"
        "  lerning_rate: 1\n"
        "envs:\n"
        "  - id: math/affine_chain-v0\n"
        "    lvl: 3\n"
        "rollout: {temperature: 0}\n",
    )
    problems = refusal(path, "trainer.beta1=2").problems
    for field, where in [
        ("seed", "run.yaml:1"),
        ("trainer.steps", "run.yaml:3"),
        ("trainer.lerning_rate", "run.yaml:4"),
        ("envs[0].lvl", "run.yaml:7"),
        ("rollout.temperature", "run.yaml:8"),
        ("trainer.beta1", "command line"),
    ]:
        assert [p for p in problems if p.startswith(f"{field}:") and p.endswith(f"({where})")], (
            field,
            problems,
        )
    assert len(problems) == 6


def test_one_bad_field_is_one_problem_not_also_a_bad_combination() -> None:
    assert len(refusal("quickstart", "rollout.max_context=x", "rollout.max_new_tokens=9999").problems) == 1


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("- a\n- b\n", "expected sections and fields"),
        ("just words\n", "expected sections and fields"),
        ("seed: 1\nseed: 2\n", "duplicate key"),
        ("trainer: {steps: 1\n", "expected YAML"),
        ("\tseed: 1\n", "expected YAML"),
        ("a: &a [*a]\n", "expected YAML"),
        ("base: run.yaml\n", "leads back to the file itself"),
        ("base: none.yaml\n", "expected a file beside"),
        ("base: [1]\n", "expected a file beside"),
        ("trainer:\n", "trainer: expected a section of fields, got None"),
        ("seed: 2020-01-01\n" + ONE_ENV.replace("=", ": "), "seed: expected a whole number"),
        ("{1: 2}\n", "1: no such field"),
        ("", "envs: expected at least one environment"),
    ],
)
def test_hostile_yaml_is_a_config_error(tmp_path: Path, text: str, expected: str) -> None:
    assert expected in str(refusal(written(tmp_path, text)))


def test_bytes_that_are_not_utf8_are_a_config_error(tmp_path: Path) -> None:
    (tmp_path / "run.yaml").write_bytes(b"name: \xff\xfe\n")
    assert "expected YAML" in str(refusal(tmp_path / "run.yaml"))


def test_a_missing_file_is_answered_with_the_nearest(tmp_path: Path) -> None:
    written(tmp_path, "seed: 1\n", "maths.yaml")
    assert "maths.yaml" in str(refusal(tmp_path / "math.yaml"))
    assert "Did you mean 'quickstart'?" in str(refusal("quickstrat"))
    assert "maths.yaml" in str(refusal(tmp_path))
    assert "there is no" in str(refusal(tmp_path / "no" / "math.yaml"))


@settings(max_examples=25)
@given(st.text(st.characters(codec="utf-8"), max_size=40))
def test_no_override_text_escapes_as_anything_but_a_config_error(text: str) -> None:
    try:
        load_run_config("quickstart", [text])
    except ConfigError as error:
        assert error.problems


@settings(max_examples=25)
@given(st.sampled_from(["trainer.steps", "envs.0", "envs.0.kwargs", "name", "trainer"]), st.text(max_size=30))
def test_no_override_value_escapes_as_anything_but_a_config_error(key: str, value: str) -> None:
    try:
        load_run_config("quickstart", [f"{key}={value}"])
    except ConfigError as error:
        assert error.problems


# -- the rules themselves ------------------------------------------------------------------------------------


def test_every_number_and_word_of_the_schema_has_a_rule() -> None:
    leaves = {pattern_of(dotted(parts)): hint for parts, hint in fields_of(RunConfig).items()}
    numbers = {path for path, hint in leaves.items() if hint in (int, float)}
    words = {path for path, hint in leaves.items() if hint is str}
    assert set(RANGES) == numbers
    assert set(WORDS) == words


@pytest.mark.parametrize("path", sorted(RANGES))
def test_ranges_hold_at_their_ends(path: str) -> None:
    limits = RANGES[path]
    assert (check_field(path, limits.low) is not None) == limits.open_low
    assert check_field(path, limits.low - 1) is not None
    assert check_field(path, math.nan) is not None
    if math.isfinite(limits.high):
        assert (check_field(path, limits.high) is not None) == limits.open_high
        assert check_field(path, limits.high + 1) is not None


def test_the_error_travels_between_processes() -> None:
    error = refusal("quickstart", "seed=-1", "trainer.steps=0")
    copy = pickle.loads(pickle.dumps(error))
    assert isinstance(copy, RolloomError) and isinstance(copy, ConfigError)
    assert (copy.problems, str(copy)) == (error.problems, str(error))
