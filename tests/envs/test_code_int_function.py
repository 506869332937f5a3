"""The code environment: gold programs pass, all else fails, and hidden tests tell programs apart."""

import itertools
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rolloom.envs.code import arithmetic
from rolloom.envs.code.answers import extract_code
from rolloom.envs.code.int_function import FAMILIES, IntFunction, hidden_tests, task_text
from rolloom.envs.errors import SandboxError
from rolloom.envs.registry import make

STYLES = ("verbose", "medium", "compact")
LEVELS = range(1, 11)


def attempt(answer, seed=0, level=1, env=None):
    env = env or IntFunction()
    env.reset(seed=seed, options={"level": level, "split": "heldout"})
    text = str(answer(env) if callable(answer) else answer)
    _, reward, done, _, info = env.step(text)
    assert done
    return reward, info["components"]


@pytest.mark.parametrize("level, style", list(itertools.product(LEVELS, STYLES)))
def test_expert_is_right(level, style):
    env = IntFunction()
    for seed in range(8):
        rng = np.random.default_rng(seed)
        reward, components = attempt(lambda e, rng=rng: e.expert(style, rng), seed, level, env)
        assert reward == 1.0 and components["tests_passed"] == 1.0


@pytest.mark.parametrize("level", LEVELS)
def test_written_programs_agree_with_the_interpreter_on_fresh_inputs(level):
    """The reference interpreter and the expert's program are two readings of one specification."""
    for seed in range(40):
        rng = np.random.default_rng([seed, level])
        spec = IntFunction().generate(rng, level)
        family = FAMILIES[spec["family"]]
        namespace = {}
        body = "\n    ".join(family.body(spec))
        exec(f"def f({', '.join(spec['params'])}):\n    {body}", namespace)
        for arguments in family.inputs(spec, rng):
            assert namespace["f"](*arguments) == family.evaluate(spec, arguments)


@pytest.mark.parametrize(
    "answer",
    [
        "",
        "<think>\nx+3</think>\n",
        "<think>\ndef f(x): return x+3",
        "def f(x): return x",
        "def f(x): return 0",
        "def f(x): return 1",
        "def f(x): return None",
        "def f(x): return str(x)",
        "def g(x): return x",
        "```python\n```",
        "I do not know",
        "class A(int):\n    __eq__ = lambda s, o: True\n    __hash__ = int.__hash__\ndef f(x): return A(0)",
        "import os\nos._exit(0)",
        'import os\nos.write(3, b\'[\' + b\'["value","0"],\'*13 + b\'["value","0"]]\\n\')\nos._exit(0)',
        "import sys\ndef f(x): return sys._getframe(1).f_locals.get('expected')",
    ],
)
def test_null_and_hostile_answers_score_nothing(answer):
    env = IntFunction()
    assert sum(attempt(answer, seed, env=env)[0] for seed in range(25)) == 0


def test_echo_of_the_prompt_scores_nothing():
    env = IntFunction()
    for level in LEVELS:
        assert attempt(lambda e: e.prompt()[0]["content"], level=level, env=env)[0] == 0


@pytest.mark.parametrize("level", LEVELS)
def test_no_constant_and_no_identity_passes(level):
    env = IntFunction()
    for seed in range(50):
        env.reset(seed=seed, options={"level": level, "split": "train"})
        assert len({repr(value) for value in env.expected}) > 1
        assert any(value not in arguments for value, arguments in zip(env.expected, env.inputs, strict=True))


def test_hidden_tests_tell_near_misses_apart():
    """Changing one operand or one operation of a level-1 chain must fail at least one hidden test."""
    rng = np.random.default_rng(0)
    for _ in range(200):
        spec = IntFunction().generate(rng, 1)
        inputs, expected = hidden_tests(spec)
        for index, (kind, operand) in enumerate(spec["branches"][0]["ops"]):
            operations = list(spec["branches"][0]["ops"])
            operations[index] = [kind, operand + 1]
            other = {**spec, "branches": [{"if": None, "ops": operations}]}
            assert [arithmetic.evaluate(other, arguments) for arguments in inputs] != expected


def test_partial_programs_are_measured_but_not_paid():
    env = IntFunction()
    env.reset(seed=3, options={"level": 1})
    program = arithmetic.body(env.problem)[0]
    _, reward, _, _, info = env.step(f"def f(x):\n    if x == 0: return None\n    {program}")
    assert reward == 0.0 and 0.5 < info["components"]["tests_passed"] < 1.0


def test_true_is_not_one():
    env = IntFunction()
    env.reset(seed=0)
    env.inputs, env.expected = [[1]], [1]
    assert env.step("def f(x): return True")[1] == 0.0


def test_sandbox_failure_is_an_error_not_a_zero():
    env = IntFunction(isolation="no such level")
    env.reset(seed=0)
    with pytest.raises(SandboxError):
        env.step("def f(x): return x")


def test_same_words_have_the_same_tests_in_any_process():
    env, again = IntFunction(), make("code/int_function-v0")
    for seed, level in itertools.product(range(10), LEVELS):
        first = env.reset(seed=seed, options={"level": level, "split": "heldout"})
        assert again.reset(seed=seed, options={"level": level, "split": "heldout"}) == first
        assert isinstance(again, IntFunction)
        assert (env.inputs, env.expected) == (again.inputs, again.expected)
        assert env.key_text(env.problem) == first[0][0]["content"]


def test_splits_share_no_problem_and_level_one_is_large():
    env = IntFunction()
    keys = {}
    for split, count in (("heldout", 400), ("train", 800)):
        keys[split] = {
            env.reset(seed=seed, options={"level": 1, "split": split})[1]["key"] for seed in range(count)
        }
    assert len(keys["heldout"]) >= 300 and not keys["heldout"] & keys["train"]


def test_prompts_of_level_one_are_short():
    env = IntFunction()
    for seed in range(50):
        messages, _ = env.reset(seed=seed)
        assert len(messages) == 1 and len(messages[0]["content"]) < 100


def test_verbose_is_much_longer_and_checks_are_independent():
    env = IntFunction()
    lengths = {style: [] for style in STYLES}
    checks = set()
    for seed in range(100):
        env.reset(seed=seed)
        for style in STYLES:
            text = env.expert(style, np.random.default_rng(seed))
            lengths[style].append(len(text.partition("</think>")[0]))
            if style == "verbose":
                checks.add(text.count("wait, let me check") + text.count("check again"))
    means = {style: np.mean(values) for style, values in lengths.items()}
    assert means["verbose"] > 2.5 * means["medium"] > 2.5 * 2 * means["compact"]
    assert len(checks) > 5


def test_thirty_two_threads_of_episodes_get_right_verdicts():
    def one(seed):
        env = IntFunction()
        right = seed % 2
        env.reset(seed=seed, options={"level": 1 + seed % 3})
        text = env.expert("compact", np.random.default_rng(seed)) if right else "def f(x): return x"
        return env.step(text)[1] == right

    with ThreadPoolExecutor(32) as pool:
        assert all(pool.map(one, range(160)))


@pytest.mark.parametrize(
    "content, code",
    [
        ("def f(x): return x", "def f(x): return x"),
        (
            "here:\n```python\ndef f(x): return 1\n```\nor\n```py\ndef f(x): return 2\n```",
            "def f(x): return 2",
        ),
        ("```\na\n```\n```python\nb", "a"),
        ("```python\ndef f(x): return 1", ""),
        ("", ""),
    ],
)
def test_code_is_found_in_an_answer(content, code):
    assert extract_code(content) == code


@given(st.text(alphabet="`\na ", max_size=200))
def test_code_extraction_takes_any_text(content):
    assert extract_code(content) in content


@given(
    st.lists(
        st.one_of(
            st.tuples(st.sampled_from(["add", "subtract", "multiply"]), st.integers(1, 20)),
            st.tuples(st.just("modulo"), st.integers(2, 20)),
            st.tuples(st.sampled_from(["negate", "square"])),
        ),
        min_size=1,
        max_size=5,
    ),
    st.integers(-50, 50),
)
def test_an_expression_means_its_operations(operations, x):
    number = x
    for operation in operations:
        number = arithmetic.apply(list(operation), number, {"x": x})
    text = arithmetic.expression([list(operation) for operation in operations], "x")
    assert eval(text, {"x": x}) == number


def test_task_text_names_every_parameter():
    spec = IntFunction().generate(np.random.default_rng(0), 4)
    assert task_text(spec).startswith("python f(x, y): if ")
