"""Verification of mathematical answers: what is equal and what is not, and answers that want to break it."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from rolloom.envs.errors import EnvError
from rolloom.envs.math.notation import Unreadable, normal_form
from rolloom.envs.math.verifier import RECYCLE, Verifier, shared
from rolloom.envs.math.verify import final_answer, final_text, same_answer
from rolloom.envs.parsing import parse_completion

EQUAL = [
    # answer, expected
    ("0.5", "1/2"),
    ("1/2", "0.5"),
    (r"\frac12", "1/2"),
    (r"\dfrac{1}{2}", "0.50"),
    (r"\tfrac{2}{4}", r"\frac{1}{2}"),
    ("1,000", "1000"),
    ("1{,}000{,}000", "1000000"),
    ("007", "7"),
    ("+7", "7"),
    (".5", "1/2"),
    ("-3/4", r"-\frac{3}{4}"),
    (r"\frac{-3}{4}", "-0.75"),
    (r"1\frac{1}{2}", "3/2"),
    ("1 1/2", "1.5"),
    ("1.5e3", "1500"),
    (r"1.2\times 10^{3}", "1200"),
    ("42.", "42"),
    ("$42$", "42"),
    (r"\(42\)", "42"),
    (r"\[ 42 \]", "42"),
    ("**42**", "42"),
    (r"So we get \boxed{42}.", "42"),
    (r"\boxed{1} no, \boxed{\frac{3}{2}} it is", "1.5"),
    ("\u22123", "-3"),
    ("x=3", "3"),
    ("3", "x = 3"),
    ("x = 3", "x=3"),
    (r"\{2,1\}", r"\{1, 2\}"),
    ("2, 1", r"\{1,2\}"),
    ("1, 2, and 3", r"\{3, 2, 1\}"),
    (r"\{1, 2, 2\}", r"\{2, 1\}"),
    (r"\{0.5, \frac{4}{2}\}", r"\{2, 1/2\}"),
    (r"\pm 3", "3, -3"),
    ("(1, 2)", "(1,2)"),
    (r"\left(\frac{1}{2}, 3\right)", "(0.5, 3)"),
    ("x = 1, y = 2", "(1, 2)"),
    ("y = 2, x = 1", "(1, 2)"),
    ("[1, 2)", r"\left[1, 2\right)"),
    (r"(-\infty, 0) \cup (0, \infty)", r"\mathbb{R} \setminus \{0\}"),
    (r"[2,3] \cup [0,1]", r"[0,1] \cup [2,3]"),
    (r"1 < x \le 3", "(1, 3]"),
    (r"x \in (1, 3]", r"1 < x \le 3"),
    ("3 < x", "x > 3"),
    (r"\emptyset", r"\varnothing"),
    ("1500 m", "1.5 km"),
    (r"1.5\text{ km}", "1500 m"),
    ("60 min", "1 hour"),
    ("90 km/h", "25 m/s"),
    ("12", "12 apples"),
    ("12 apples", "12 apples"),
    ("5 km", "5"),
    (r"3\text{ m}^2", "3 square meters"),
    ("3 m^2", "30000 cm^2"),
    (r"90^\circ", "90"),
    (r"\$5.50", "5.50"),
    ("$5.50", "5.50 dollars"),
    ("50 cents", "$0.50"),
    (r"50\%", "0.5"),
    ("1/2", r"50\%"),
    ("50", r"50\%"),
    ("50 percent", "50%"),
    (r"\sqrt{8}", r"2\sqrt{2}"),
    (r"\sqrt8", r"2\sqrt2"),
    ("2*sqrt(2)", r"\sqrt{8}"),
    (r"\frac{\sqrt{3}}{2}", r"0.5\sqrt{3}"),
    (r"\frac{1}{\sqrt{2}}", r"\frac{\sqrt{2}}{2}"),
    (r"4\sqrt{3}\text{ cm}", r"4\sqrt{3}"),
    (r"2\pi", "2*pi"),
    (r"\{1, 2\sqrt2\}", r"\{\sqrt{8}, 1\}"),
    (r"(\sqrt{2}, 1]", r"(\sqrt2, 1]"),
    ("(x-1)(x+1)", "x^2 - 1"),
    ("x**2 - 1", "x^{2}-1"),
    (r"\frac{x}{2}", "x/2"),
    ("2x + 1", "y = 2x+1"),
    ("2x - y + 1 = 0", "y = 2x + 1"),
    (r"\ln 4", r"2\ln 2"),
    (r"\sin^2 x + \cos^2 x + \sin x", r"1 + \sin x"),
    (r"e^{2x} + C", "C + e^{2x}"),
    ("x^10", "x^{10}"),
    ("2x - x", "x"),
    ("monday", "Monday"),
    (r"\text{Monday}", "Monday"),
]  # fmt: skip

DIFFERENT = [
    ("2", "1"),
    ("-3", "3"),
    ("0.333333", "1/3"),
    ("1.414214", r"\sqrt{2}"),
    ("50", "0.5"),
    (r"50\%", "50"),
    (r"0.5\%", "0.5"),
    ("5 km", "5 m"),
    ("5 kg", "5 m"),
    ("3 oranges", "3 apples"),
    ("5 dollars", "5 euros"),
    ("(2, 1)", "(1, 2)"),
    ("1, 2", "(2, 1)"),
    (r"\{1, 2\}", "(1, 2)"),
    ("(1, 2)", r"\{1, 2\}"),
    ("[1, 2]", "(1, 2)"),
    ("(1, 3)", "(1, 3]"),
    ("(1, 2, 3)", "(1, 2)"),
    (r"\{1, 2, 3\}", r"\{1, 2\}"),
    (r"\{1\}", r"\{1, 2\}"),
    ("1, 2, 3, 4, 5, 6, 7", "3"),
    ("42 or 43", "42"),
    ("42 and 43", "42"),
    ("3", r"\pm 3"),
    ("y = 3", "x = 3"),
    ("x = 2, y = 1", "(1, 2)"),
    ("y < 3", "x < 3"),
    (r"x \le 3", "x < 3"),
    (r"\boxed{42", "42"),
    (r"\boxed{42} or rather \boxed{43}", "42"),
    (r"\boxed{}", "0"),
    ("the answer is 42", "42"),
    ("", "0"),
    ("1 2", "12"),
    ("1,00", "100"),
    ("1 000", "1000"),
    ("10,00", "1000"),
    ("12+30", "42"),
    (r"6 \cdot 7", "42"),
    (r"2^{10}", "1024"),
    (r"\sqrt{16}", "4"),
    (r"\binom{4}{2}", "6"),
    ("3!", "6"),
    (r"\int_0^1 2x\,dx", "1"),
    (r"\frac{d}{dx} x^2", "2x"),
    (r"\frac{\mathrm{d}}{\mathrm{d}x} x^2", "2x"),
    (r"\frac{d(x^2)}{dx}", "2x"),
    (r"\sin(\frac{\pi}{3})", r"\frac{\sqrt{3}}{2}"),
    (r"\log(e^x)", "x"),
    (r"\sum_{k=1}^{n} k", r"\frac{n(n+1)}{2}"),
    ("x^2 + 1", "x^2 - 1"),
    ("2x", "2y"),
    ("1", "x"),
    ("0 \\cdot x", "x"),
    ("x + 1", "x"),
    ("NaN", "1"),
    (r"\infty", "1"),
    ("1/0", r"\infty"),
    ("tuesday", "Monday"),
    ("None", "0"),
]  # fmt: skip


@pytest.mark.parametrize(("answer", "expected"), EQUAL)
def test_equal(answer, expected):
    assert same_answer(answer, expected)
    assert same_answer(f"I think \\boxed{{{answer}}}", expected) or "boxed" in answer or "$" in answer


@pytest.mark.parametrize(("answer", "expected"), DIFFERENT)
def test_different(answer, expected):
    assert not same_answer(answer, expected)


TOWER = "9^{9^{9}}"
HOSTILE = {
    "power tower": TOWER,
    "boxed tower": f"\\boxed{{{TOWER}}}",
    "factorial": "10^9!",
    "double factorial": "((10^9)!)!",
    "parentheses": "(" * 3_000 + "1" + ")" * 3_000,
    "forty parentheses": "(" * 40 + "x" + ")" * 40,
    "nested powers": "(" * 30 + "x" + ")^{9}" * 30,
    "braces": "{" * 30 + "x+1" + "}" * 30,
    "digits": "9" * 50_000,
    "digits below the cap": "9" * 1_900,
    "decimal exponent": "1e3000000",
    "fraction exponent": "1e10000000",
    "decimal power": r"10^{3000000}",
    "import": "__import__('os').system('touch /tmp/rolloom-math-verify')",
    "class walk": "().__class__.__bases__[0].__subclasses__()",
    "lambda": "(lambda: 1)()",
    "eval in a symbol": r"\operatorname{eval}(1)",
    "unicode digits": "\u0667\u0661",
    "full-width digits": "\uff17",
    "homoglyph": "\u0445^2 - 1",
    "mathematical italics": "\U0001d465^2-1",
    "many boxes": "\\boxed{1}" * 20_000,
    "unclosed boxes": "\\boxed{" * 20_000,
    "nested boxes": "\\boxed{" * 500 + "1" + "}" * 500,
    "backslashes": "\\" * 1_999,
    "dollars": "$" * 1_999,
    "spaces": " " * 100_000,
    "long list": ",".join(map(str, range(500))),
    "long set": "\\{" + ",".join(map(str, range(500))) + "\\}",
    "symbolic set": "\\{" + ",".join(f"x^{{{k}}}" for k in range(60)) + "\\}",
    "sum": r"\sum_{n=1}^{10000000000} n^n",
    "integral": r"\int_0^{9} e^{x^2}\sin(x^3) dx",
    "power of a sum": "(x+1)^{100000000}",
    "product of powers": "((x+1)^{99}(x+2)^{99}(x+3)^{99})^{99}",
    "symbol tower": "x^{x^{x^{x^{x^{x}}}}}",
    "roots": r"\sqrt{" * 25 + "x" + "}" * 25,
    "fractions": r"\frac{1}{" * 25 + "x" + "}" * 25,
    "trigonometry": r"\sin(" * 25 + "x" + ")" * 25,
    "absolute values": "|" * 60 + "x" + "|" * 60,
    "control characters": "\x00\x1b[2J\u202ex",
    "surrogate": "\ud800x",
    "nan": "NaN",
    "zoo": r"\frac{1}{0} + x",
    "input": r"\input{/etc/passwd}",
    "percent comment": "x^2 - 1 % comment",
    "regex": "a" * 1_000 + "!",
    "commands": r"\frac" * 300,
    "left right": r"\left(" * 300,
}
GOLDS = ("x^2 - 1", "7", r"\{1, x\}", "(1, 2]")


def test_hostile_answers_take_bounded_time_and_are_never_right():
    assert same_answer("(x-1)(x+1)", "x^2 - 1")
    for name, answer in HOSTILE.items():
        for gold in GOLDS:
            start = time.process_time()
            assert not same_answer(answer, gold), (name, gold)
            # What takes long is done by another process, and ended there.
            assert time.process_time() - start < 5, (name, gold)
    assert not Path("/tmp/rolloom-math-verify").exists()
    assert same_answer("(x-1)(x+1)", "x^2 - 1")


@pytest.fixture(scope="module")
def verifier():
    """A verifier with one worker at a time; nothing of it is left when it is closed."""
    made = Verifier(size=1)
    yield made
    pids = made.pids()
    made.close()
    assert all(map(gone, pids))


def test_an_answer_that_takes_too_long_costs_a_second_of_cpu_and_its_worker(verifier):
    assert verifier.equal("x^{2}-1", "(x-1)(x+1)")
    (server, worker) = verifier.pids()
    assert not verifier.equal("x+1", "(x+1)^{100000000}")
    assert not verifier.equal("x", "\\sum_{n=1}^{10000000000}n^{n}")
    assert verifier.equal("x^{2}-4", "(x-2)(x+2)")
    assert verifier.pids()[0] == server
    assert verifier.pids()[1] != worker
    assert gone(worker)


def gone(pid: int, seconds: float = 5.0) -> bool:
    """Return True once a process has ended."""
    stop = time.monotonic() + seconds
    while time.monotonic() < stop:
        try:
            if Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z":
                return True
        except (FileNotFoundError, ProcessLookupError):
            return True
        time.sleep(0.02)
    return False


def test_killing_the_worker_or_the_server_in_the_middle_only_costs_time(verifier):
    assert verifier.equal("x^{2}-1", "(x-1)(x+1)")
    for victim in (1, 0):
        os.kill(verifier.pids()[victim], signal.SIGKILL)
        assert verifier.equal("x^{2}-1", f"(x-1)(x+1)+{victim}-{victim}+0")
        verifier._verdicts.clear()
    with ThreadPoolExecutor(1) as pool:
        slow = pool.submit(verifier.equal, "x+1", "(x+1)^{100000000}")
        time.sleep(0.3)
        os.kill(verifier.pids()[0], signal.SIGKILL)
        assert slow.result() is False
    assert verifier.equal("x^{2}-9", "(x-3)(x+3)")


def test_sixty_four_threads_at_once():
    golds = [f"x^{{2}}-{k * k}" for k in range(1, 9)]

    def ask(index: int) -> bool:
        k = index % 8 + 1
        right = index % 3 > 0
        extra = "" if right else "+1"
        return same_answer(f"(x-{k})(x+{k}){extra}", golds[k - 1]) is right

    with ThreadPoolExecutor(64) as pool:
        assert all(pool.map(ask, range(256)))
    assert len(shared().pids()) <= 1 + shared().size


def test_verdicts_are_remembered_and_workers_replaced(verifier):
    assert verifier.equal("x", "x+0")
    before = verifier.pids()[1]
    answered = verifier._idle[0].answers
    assert all(verifier.equal("x", "x+0") for _ in range(1_000))
    assert verifier._idle[0].answers == answered
    verifier._idle[0].answers = RECYCLE - 1
    assert verifier.equal("x", "x+x-x")
    assert verifier.equal("x", "2x-x")
    assert verifier.pids()[1] != before


def test_a_forked_process_has_a_verifier_of_its_own():
    assert same_answer("(x-1)(x+1)", "x^2 - 1")
    reader, writer = os.pipe()
    pid = os.fork()
    if pid == 0:
        try:
            right = same_answer("(x-7)(x+7)", "x^2 - 49") and not same_answer("(x-7)(x+7)", "x^2 - 48")
            os.write(writer, b"right" if right else b"wrong")
        finally:
            os._exit(0)
    os.close(writer)
    assert os.read(reader, 10) == b"right"
    os.waitpid(pid, 0)
    os.close(reader)
    assert same_answer("(x-2)(x+2)", "x^2 - 4")


def test_nothing_is_left_behind_when_the_program_is_killed():
    program = (
        "import time\nfrom rolloom.envs.math.verifier import shared\n"
        "assert shared().equal('x', 'x+0')\nprint(*shared().pids(), flush=True)\ntime.sleep(60)"
    )
    process = subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, text=True)
    assert process.stdout
    pids = list(map(int, process.stdout.readline().split()))
    assert len(pids) == 2
    process.kill()
    process.wait()
    process.stdout.close()
    assert all(map(gone, pids))


def test_the_worker_can_open_nothing_and_computes_without_opening_anything(verifier):
    assert verifier.equal("x", "x+0")
    worker = verifier.pids()[1]
    assert "landlock" in verifier._server.isolation or "seccomp" in verifier._server.isolation  # type: ignore
    status = dict(
        line.split(":", 1) for line in Path(f"/proc/{worker}/status").read_text().splitlines() if ":" in line
    )
    assert status["Seccomp"].strip() == "2"
    assert status["NoNewPrivs"].strip() == "1"
    assert int(status["CapEff"].strip(), 16) == 0


CORPUS = [(answer, expected) for answer, expected in EQUAL if "\\" in answer + expected or "x" in answer]


def test_no_comparison_imports_anything_after_the_start():
    """What a worker would have to import in the middle, it could not: verdicts must not depend on it."""
    program = f"""
import sys
from rolloom.envs.math import verifier_server as server
from rolloom.envs.math.notation import exact_decimals, normal_form
server.preload()
comparer = server.Comparer()
for pair in server.WARM_UP:
    comparer.equal(*pair)
asked = []
class Finder:
    def find_spec(self, name, path=None, target=None):
        asked.append(name)
sys.meta_path.insert(0, Finder())
for answer, expected in {CORPUS!r}:
    try:
        comparer.equal(exact_decimals(normal_form(expected)), exact_decimals(normal_form(answer)))
    except Exception:
        pass
print(*asked)
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=100)
    assert done.returncode == 0, done.stderr
    assert done.stdout.split() == []


def test_an_expected_answer_that_cannot_be_read_is_the_environments_fault():
    with pytest.raises(EnvError, match="cannot be read"):
        same_answer("x+1", "x+\\frac{1}{x}+)(".replace(")(", "^{}"))


def test_the_final_answer_of_a_turn():
    def answer(text: str) -> str | None:
        return final_answer(parse_completion(text))

    assert answer("<think>\n\\boxed{1}</think>\n\\boxed{2}") == "2"
    assert answer("<think>\n\\boxed{1}</think>\n7") == "7"
    assert answer("<think>\n\\boxed{1}") is None
    assert answer("\\boxed{1}</think>") is None
    assert answer('<tool_call>{"name": "a", "arguments": {}}</tool_call>\n\\boxed{1}') is None
    assert answer("<think>\n\\boxed{1}</think>\n") is None


def test_the_last_box_counts_and_must_close():
    assert final_text(r"\boxed{1} then \boxed{\frac{1}{2}}") == r"\frac{1}{2}"
    assert final_text(r"\boxed{\{1, 2\}}") == r"\{1, 2\}"
    assert final_text(r"\fbox{3}") == "3"
    assert final_text(r"\boxed{1} \boxed{2") is None
    assert final_text(r"\boxed 5") is None
    assert final_text("x" * 3_000) is None
    assert final_text(r"\boxed{" + "1" * 3_000 + "}") is None


def test_normal_forms():
    assert normal_form(r"\dfrac12") == normal_form(r"\frac{1}{2}") == r"\frac{1}{2}"
    assert normal_form("x^10") == "x^{10}"
    assert normal_form("sqrt(8)") == r"\sqrt{8}"
    assert normal_form(r"\left( 1 , 2 \right]") == "( 1 , 2 ]"
    for text in ("(1", "1)", r"\frac{1}", r"\foo", "x" * 3_000, "x'", "a#b", "^", "__x__", "\u0667"):
        with pytest.raises(Unreadable):
            normal_form(text)


@pytest.mark.slow
def test_throughput_of_different_answers():
    """Prints comparisons a second; each is a different one, so that none is remembered."""
    same_answer("(x-1)(x+1)", "x^2 - 1")
    count = 200
    start = time.monotonic()
    with ThreadPoolExecutor(16) as pool:
        verdicts = list(
            pool.map(lambda k: same_answer(f"(x-{k})(x+{k})", f"x^2 - {k * k}"), range(2, count + 2))
        )
    rate = count / (time.monotonic() - start)
    start = time.monotonic()
    exact = 20_000
    assert all(same_answer(f"\\boxed{{\\frac{{{k}}}{{2}}}}", str(k / 2)) for k in range(exact))
    print(f"math-verify {rate:.0f}/s with {threading.active_count()} threads;", end=" ")
    print(f"numbers {exact / (time.monotonic() - start):.0f}/s")
    assert all(verdicts)
