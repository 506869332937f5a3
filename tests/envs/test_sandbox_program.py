"""Programs with standard input and output: what comes back, and that no test sees or spoils another."""

import os
import signal
import textwrap
from concurrent.futures import ThreadPoolExecutor

import pytest

from rolloom.envs.errors import SandboxError
from rolloom.envs.sandbox import NONE, run_program
from rolloom.envs.sandbox.zygote import get_zygote

DOUBLE = "print(int(input()) * 2)"


def only_case(source, stdin="3\n", **kwargs):
    (case,) = run_program(textwrap.dedent(source), [stdin], **kwargs).cases
    return case


def test_every_test_gets_its_own_input_and_output_in_order():
    outcome = run_program(DOUBLE, ["1", "20\n", "300"])
    assert [case.stdout for case in outcome.cases] == ["2\n", "40\n", "600\n"]
    assert {case.status for case in outcome.cases} == {"finished"} and outcome.isolation != NONE


READS = {
    "input": "print(input(), input())",
    "lines": "import sys\nprint(*[line.strip() for line in sys.stdin])",
    "read": "import sys\nprint(*sys.stdin.read().split())",
    "readline": "import sys\ninput = sys.stdin.readline\nprint(input().strip(), input().strip())",
    "bytes": "import sys\nprint(*map(int, sys.stdin.buffer.read().split()))",
    "descriptor": "import os\nprint(*os.read(0, os.fstat(0).st_size).decode().split())",
    "open": "print(*open(0).read().split())",
    "main": "def main(): print(input(), input())\nif __name__ == '__main__': main()",
    "exit": "print(input(), input())\nexit()",
    "hard exit": "import os\nprint(input(), input(), flush=True)\nos._exit(0)",
    "at exit": "import atexit, io, os\nout = io.StringIO()\n"
    "atexit.register(lambda: os.write(1, out.getvalue().encode()))\nprint(input(), input(), file=out)",
    "thread": "import sys, threading\nsys.setrecursionlimit(10**6)\nthreading.stack_size(1 << 27)\n"
    "def main(): print(input(), input())\nt = threading.Thread(target=main)\nt.start()\nt.join()",
    "recursion": "import sys\nsys.setrecursionlimit(10**6)\ndef f(n): return 0 if n == 0 else 1 + f(n - 1)\n"
    "assert f(50_000) == 50_000\nprint(input(), input())",
}  # fmt: skip


@pytest.mark.parametrize("source", READS.values(), ids=READS.keys())
def test_usual_ways_to_read_and_print_work(source):
    case = only_case(source, "4\n5\n")
    assert (case.stdout.strip(), case.error) == ("4 5", None)


def test_unicode_goes_in_and_out():
    assert only_case("print(input())", "é漢🙂\n").stdout == "é漢🙂\n"


def test_empty_input_is_end_of_file():
    case = only_case("input()", "")
    assert case.status == "crashed" and case.error == "EOFError: EOF when reading a line"


FAILS = {
    "exception": ("print(6)\n1/0", "crashed", "ZeroDivisionError: division by zero"),
    "syntax": ("print(6", "crashed", "SyntaxError: '(' was never closed (<submission>, line 1)"),
    "status": ("import sys\nprint(6)\nsys.exit(3)", "crashed", "exit status 3"),
    "status text": ("import sys\nprint(6)\nsys.exit('no')", "crashed", "exit status 1"),
    "signal": ("import ctypes\nprint(6, flush=True)\nctypes.string_at(0)", "crashed", "died of signal 11"),
    "closed stdout": ("import sys\nsys.stdout.close()", "crashed", 
                      "ValueError: I/O operation on closed file."),
    "long": ("#" * 100_001, "refused", "source is longer than 100000 characters"),
    "NUL": ("print(6)\0", "crashed", "SyntaxError: source code string cannot contain null bytes"),
    "memory": ("print(6, flush=True)\nbytearray(4 << 30)", "crashed", "MemoryError:"),
    "thread bomb": ("import _thread\nwhile True: _thread.start_new_thread(print, ())", "crashed",
                    "RuntimeError: can't start new thread"),
}  # fmt: skip


@pytest.mark.parametrize("source, status, error", FAILS.values(), ids=FAILS.keys())
def test_a_program_that_fails_has_no_output(source, status, error):
    case = only_case(source)
    assert (case.stdout, case.status, case.error) == ("", status, error)


def test_what_it_says_last_on_stderr_is_capped():
    case = only_case("import sys\nsys.stderr.write('x' * 10**6)\nsys.exit(1)")
    assert case.status == "crashed" and case.error is not None and len(case.error) == 200


def test_output_beyond_the_cap_kills_the_test():
    case = only_case("while True: print('6' * 1000)", max_stdout_bytes=10_000, cpu_s=20, timeout_s=20)
    assert (case.status, case.stdout) == ("overflow", "")
    assert only_case("print('6' * 9_999)", max_stdout_bytes=10_000).stdout == "6" * 9_999 + "\n"


def test_endless_stderr_is_drained():
    case = only_case("import sys\nfor _ in range(100): sys.stderr.write('e' * 10**6)\nprint(6)", cpu_s=10)
    assert case.stdout == "6\n"


def test_a_slow_test_does_not_fail_the_others():
    source = "import time\nn = int(input())\nif n == 2: time.sleep(60)\nprint(n)"
    cases = run_program(source, ["1", "2", "3"], timeout_s=0.4).cases
    assert [case.status for case in cases] == ["finished", "timeout", "finished"]
    cases = run_program("n = int(input())\nwhile n == 2: pass\nprint(n)", ["1", "2", "3"], cpu_s=1).cases
    assert [case.status for case in cases] == ["finished", "timeout", "finished"]


def test_tests_share_nothing():
    source = """
        import builtins, math, os, sys
        seen = [hasattr(builtins, "left"), math.pi != 3, sorted(os.listdir("/proc/self/fd")) if False else 0]
        builtins.left, math.pi = 1, 3
        print(seen, input())
    """
    cases = run_program(textwrap.dedent(source), ["a", "b"]).cases
    assert [case.stdout for case in cases] == ["[False, True, 0] a\n", "[False, True, 0] b\n"]


def test_the_job_is_not_left_in_the_standard_input():
    source = "import os\nos.lseek(0, 0, 0)\nprint(len(os.read(0, 1 << 20)), os.fstat(0).st_size)"
    assert only_case(source, "12345").stdout == "5 5\n"


def test_standard_input_cannot_grow():
    assert only_case("import os\nos.write(0, b'x' * 100_000)").error == "OSError: [Errno 27] File too large"


def test_one_wrong_answer_can_end_the_run():
    told = []

    def go_on(index, case):
        told.append((index, case.stdout))
        return index < 1

    cases = run_program(DOUBLE, ["1", "2", "3", "4"], go_on=go_on).cases
    assert told == [(0, "2\n"), (1, "4\n")]
    assert [case.status for case in cases] == ["finished", "finished", "skipped", "skipped"]


def test_large_input_and_output():
    numbers = " ".join(map(str, range(100_000)))
    case = only_case("print(*[int(x) + 1 for x in input().split()])", numbers)
    assert case.stdout.split() == [str(x + 1) for x in range(100_000)]


@pytest.mark.parametrize("kwargs", [{"memory_mb": 1}, {"cpu_s": 0}, {"timeout_s": 0}])
def test_impossible_limits_are_an_error(kwargs):
    with pytest.raises(SandboxError, match=next(iter(kwargs))):
        run_program(DOUBLE, ["1"], **kwargs)


def test_no_tests_is_an_error():
    with pytest.raises(SandboxError, match="at least one"):
        run_program(DOUBLE, [])


def test_many_threads_get_their_own_output():
    def one(k):
        cases = run_program(f"print(int(input()) * {k})", ["1", "2", "3"]).cases
        return [case.stdout for case in cases] == [f"{k * x}\n" for x in (1, 2, 3)]

    with ThreadPoolExecutor(16) as pool:
        assert all(pool.map(one, range(64)))


def test_fork_server_killed_between_runs_is_replaced():
    os.kill(get_zygote(None).pid, signal.SIGKILL)
    assert [case.stdout for case in run_program(DOUBLE, ["1", "2"]).cases] == ["2\n", "4\n"]


def test_runs_leak_no_descriptors():
    run_program(DOUBLE, ["1"])
    before = len(os.listdir("/proc/self/fd"))
    for source in (DOUBLE, "while True: print(1)", "import time\ntime.sleep(9)"):
        run_program(source, ["1", "2"], timeout_s=0.2, go_on=lambda index, case: False)
    assert len(os.listdir("/proc/self/fd")) == before
