"""The sandbox against hostile programs: none may pass, none may harm the worker or leave anything behind."""

import os
import secrets
import signal
import textwrap
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from sandbox_tools import SOURCE_ROOT, children_of, gone_within

from rolloom.envs.errors import SandboxError
from rolloom.envs.sandbox import FULL, NAMESPACES, NO_FILES, NONE, run_function, same_value
from rolloom.envs.sandbox.run import MAX_OUTPUT_BYTES
from rolloom.envs.sandbox.zygote import get_zygote

DOUBLE = "def f(x):\n    return x*2"


@pytest.fixture(autouse=True)
def nothing_left_behind():
    before = get_zygote(None).pid
    yield
    zygote = get_zygote(None)
    assert gone_within(3, lambda: children_of(zygote.pid)) == []
    if zygote.pid != before:
        assert not Path(f"/proc/{before}").exists()
    assert run_function(DOUBLE, "f", [[4]]).calls[0].value == 8


def only_call(source, argument=3, **kwargs):
    return run_function(textwrap.dedent(source), "f", [[argument]], **kwargs).calls[0]


# -- what it is for ------------------------------------------------------------------------------------------


def test_values_come_back_in_order_with_their_exact_types():
    values = [0, -5, True, None, 1.5, "a\ud800\0é", [1, [2]], {"a": {"b": []}}]
    outcome = run_function("def f(x): return x", "f", [[value] for value in values])
    assert outcome.status == "finished" and outcome.isolation in (NAMESPACES, FULL, NO_FILES)
    assert all(same_value(call.value, value) for call, value in zip(outcome.calls, values, strict=True))


def test_one_failing_call_does_not_hide_the_others():
    outcome = run_function("def f(x): return 6//x", "f", [[1], [0], [3]])
    assert [call.value for call in outcome.calls] == [6, None, 2]
    assert outcome.calls[1].error == "ZeroDivisionError: integer division or modulo by zero"


def test_a_call_cannot_change_the_input_of_another():
    outcome = run_function("def f(v):\n    v.append(1)\n    return v", "f", [[[]], [[]]])
    assert [call.value for call in outcome.calls] == [[1], [1]]


@pytest.mark.parametrize(
    "actual, expected", [(True, 1), (1, True), (1.0, 1), ([1], [True]), ({"a": 0}, {"a": False})]
)
def test_equality_is_exact_about_types(actual, expected):
    assert actual == expected and not same_value(actual, expected)


def test_standard_library_can_be_imported():
    assert only_call("import calendar\ndef f(x): return calendar.isleap(2024)").value is True


def test_set_order_does_not_depend_on_the_fork_server():
    source = "def f(x): return list({'ana', 'bob', 'eve', 'ian', 'joe'})"
    first = only_call(source).value
    os.kill(get_zygote(None).pid, signal.SIGKILL)
    assert only_call(source).value == first


# -- wrong answers that must not pass ------------------------------------------------------------------------


def forged(frame):
    return f"import os\nos.write(3, {frame})\nos._exit(0)"


NOT_DATA = {
    "equal to everything": "class A:\n    def __eq__(self, o): return True\ndef f(x): return A()",
    "int subclass": "class A(int):\n    __eq__ = lambda s, o: True\ndef f(x): return A(0)",
    "str subclass": "class A(str): pass\ndef f(x): return A('a')",
    "list subclass inside": "class A(list): pass\ndef f(x): return [A()]",
    "tuple": "def f(x): return (1,)",
    "set": "def f(x): return {1}",
    "lambda": "def f(x): return lambda: 0",
    "generator": "def f(x): return (i for i in [1])",
    "exception": "def f(x): return ValueError(1)",
    "nan": "def f(x): return float('nan')",
    "infinity": "def f(x): return [1e999]",
    "int keys": "def f(x): return {1: 2}",
    "huge int": "def f(x): return 10**100_000",
    "huge int, limit lifted": "import sys\nsys.set_int_max_str_digits(0)\ndef f(x): return 10**30_000",
    "long string": "def f(x): return 'a'*10_000_000",
    "cycle": "def f(x):\n    v = []\n    v.append(v)\n    return v",
    "deep": "def f(x):\n    v = []\n    for _ in range(10_000): v = [v]\n    return v",
    "unshowable exception": "class E(Exception):\n    def __str__(s): raise SystemExit\ndef f(x): raise E",
    "raises SystemExit": "import sys\ndef f(x): sys.exit(0)",
    "raises KeyboardInterrupt": "def f(x): raise KeyboardInterrupt",
    "exit before tests": "import sys\nsys.exit(0)\ndef f(x): return x*2",
    "no function": "g = 1",
    "not callable": "f = 6",
    "syntax error": "def f(x) return x",
    "NUL": "def f(x): return 6\0",
    "surrogate": "def f(x): return '\ud800'",
    "brackets": "[" * 100_000,
    "too long": "#" * 200_000,
    "recursion": "def f(x): return f(x)",
    "recursion without limit": "import sys\nsys.setrecursionlimit(10**9)\ndef f(x): return [f(x)]",
    "hard exit": "import os\nos._exit(0)",
    "hard exit in the function": "import os\ndef f(x): os._exit(0)",
    "exit through atexit": "import atexit, os\natexit.register(os._exit, 0)\nos._exit(0)",
    "segfault": "import ctypes\ndef f(x): ctypes.string_at(0)",
    "abort": "import os\ndef f(x): os.abort()",
    "forged frame with too many results": forged("b'[[\"value\",\"6\"],[\"value\",\"6\"]]\\n'"),
    "two frames": "import os\nos.write(3, b'[[\"value\",\"6\"]]\\n')\ndef f(x): return 6",
    "forged frame with a bare value": forged("b'[6]\\n'"),
    "forged frame with infinity": forged("b'[[\"value\",\"1e999\"]]\\n'"),
    "forged frame of brackets": forged("b'['*100_000 + b'\\n'"),
    "forged value of brackets": forged("b'[[\"value\",\"' + b'['*100_000 + b'\"]]\\n'"),
    "half a frame": forged("b'[[\"value\",\"6\"]]'"),
    "frame of invalid UTF-8": forged("b'\\xff\\n'"),
    "frame on stdout": "print('[[\"value\",\"6\"]]', flush=True)\nimport os\nos._exit(0)",
    "endless frame": "import os\nwhile True: os.write(3, b'6'*65536)",
}  # fmt: skip


@pytest.mark.parametrize("source", NOT_DATA.values(), ids=NOT_DATA.keys())
def test_what_is_not_plain_data_from_the_function_is_an_error(source):
    call = only_call(source)
    assert call.value is None and call.error
    assert len(call.error) <= 200


def test_a_forged_frame_is_only_a_guess():
    source = 'import os\nos.write(3, b\'[["value","true"]]\\n\')\nos._exit(0)'
    call = only_call(source)
    assert not same_value(call.value, 1) and not same_value(call.value, 6)


def test_patching_the_harness_forges_only_data():
    source = """
        import sys, json, builtins
        json.dumps = lambda *a, **k: '1'
        builtins.type = lambda v: int
        def f(x):
            frame = sys._getframe()
            while frame:
                frame.f_globals.update(plain=lambda v, d=0: v)
                frame = frame.f_back
            class A:
                def __eq__(self, other): return True
            return A()
    """
    assert not same_value(only_call(source).value, 6)
    assert only_call(DOUBLE).value == 6


def test_frames_and_gc_hold_no_expected_value():
    marker = "expected-marker-" + secrets.token_hex(16)
    held = {"expected": [marker], "bytes": marker.encode()}
    source = """
        import gc, re, sys
        def f(x):
            found, seen, todo = [], set(), list(gc.get_objects()) + list(sys._current_frames().values())
            frame = sys._getframe()
            while frame:
                todo += [*frame.f_locals.values(), *frame.f_globals.values()]
                frame = frame.f_back
            while todo:
                item = todo.pop()
                if id(item) in seen:
                    continue
                seen.add(id(item))
                if type(item) is str and re.fullmatch("expected-marker-[0-9a-f]{32}", item):
                    found.append(item)
                todo += gc.get_referents(item)
            return [found, len(seen)]
    """
    found, seen = only_call(source, timeout_s=20, cpu_s=15).value
    assert found == [] and seen > 1000 and held["expected"] == [marker]


def test_state_does_not_reach_the_next_run():
    poison = (
        "import builtins, math, sys\nbuiltins.left = 1\nmath.pi = 3\n"
        "sys.modules['json'] = None\ndef f(x): return 6"
    )
    assert only_call(poison).value == 6
    look = "import math, json\ndef f(x): return ['left' in dir(__builtins__), math.pi > 3.1, json.dumps(1)]"
    assert only_call(look).value == [False, True, "1"]


# -- attacks -------------------------------------------------------------------------------------------------

DENIED = {
    "pid 1's environment": "open('/proc/1/environ').read()",
    "parent's environment": "open(f'/proc/{os.getppid()}/environ').read()",
    "own memory": "open('/proc/self/mem', 'rb').read(1)",
    "parent's memory": "open(f'/proc/{os.getppid()}/mem', 'rb').read(1)",
    "a file": "open('/etc/passwd').read()",
    "a directory": "os.listdir('/tmp')",
    "rolloom's source": f"open({str(SOURCE_ROOT / 'rolloom' / '__init__.py')!r}).read()",
    "write to /tmp": "open('/tmp/rolloom-test-write', 'w')",
    "write by a flag": "os.open('/tmp/rolloom-test-write', os.O_RDONLY | os.O_CREAT)",
    "make a directory": "os.mkdir('/tmp/rolloom-test-dir')",
    "make a link": "os.symlink('/etc/passwd', '/tmp/rolloom-test-link')",
    "chmod": "os.chmod('/tmp', 0)",
    "fork": "os.fork()",
    "daemon": "os.setsid(); os.fork()",
    "run a program": "__import__('subprocess').run(['/bin/true'])",
    "exec": "os.execv('/bin/true', ['true'])",
    "a thread": "__import__('threading').Thread(target=print).start()",
    "signal the parent": "os.kill(os.getppid(), 0)",
    "signal all": "os.kill(-1, 0)",
    "signal the worker": f"os.kill({os.getpid()}, 0)",
    "stop itself": "os.kill(os.getpid(), 19)",
    "raise its limits": "__import__('resource').setrlimit(0, (100, 100))",
    "TCP": "__import__('socket').create_connection(('127.0.0.1', 80))",
    "UDP": "__import__('socket').socket(2, 2)",
    "Unix socket": "__import__('socket').socketpair()",
    "DNS": "__import__('socket').getaddrinfo('localhost', 80)",
    "signals by a pipe": "__import__('fcntl').fcntl(os.pipe()[0], 8, os.getppid())",
}  # fmt: skip


def isolations_here():
    found = []
    for level in (NAMESPACES, FULL, NO_FILES):
        try:
            found.append(run_function(DOUBLE, "f", [[1]], isolation=level).isolation)
        except SandboxError:
            assert level == NAMESPACES
    return found


def attack_all(names, level):
    lines = "\n".join(
        f"    try: attempt({name!r}, lambda: {code.replace('; ', ' or ')})\n    except OSError: pass"
        for name, code in ((name, DENIED[name]) for name in names)
    )
    source = f"""import os
worked = []
def attempt(name, do):
    try: do()
    except (OSError, RuntimeError, ImportError, ValueError): return
    worked.append(name)
def f(x):
{lines}
    return worked
"""
    outcome = run_function(source, "f", [[0]], isolation=level)
    assert outcome.isolation == level
    return outcome.calls[0].value


@pytest.mark.parametrize("level", [NAMESPACES, FULL, NO_FILES])
def test_attacks_are_denied(level):
    if level not in isolations_here():
        pytest.skip("this machine lets nobody make namespaces")
    assert attack_all(DENIED, level) == []
    assert not list(Path("/tmp").glob("rolloom-test-*"))


def test_attacks_would_work_without_isolation():
    harmless = [
        "a file",
        "a directory",
        "rolloom's source",
        "Unix socket",
        "UDP",
        "signal the parent",
    ]
    assert attack_all(harmless, NONE) == harmless


def test_raw_system_calls_are_denied():
    calls = {"ptrace": 101, "process_vm_readv": 310, "io_uring_setup": 425, "bpf": 321, "keyctl": 250,
             "unshare": 272, "setns": 308, "mount": 165, "clone": 56, "vfork": 58,
             "clone3": 435, "prctl": 157, "tkill": 200, "memfd_create": 319, "userfaultfd": 323,
             "openat2": 437, "shmget": 29, "execveat": 322}  # fmt: skip
    if os.uname().machine != "x86_64":
        pytest.skip("numbers of x86_64")
    source = f"""
        import ctypes
        libc = ctypes.CDLL(None, use_errno=True)
        def f(x):
            return {{name: [libc.syscall(n, 0, 0, 0, 0), ctypes.get_errno()] for name, n in {calls}.items()}}
    """
    assert only_call(source).value == {name: [-1, 1] for name in calls}


def test_environment_is_empty():
    assert set(only_call("import os\ndef f(x): return dict(os.environ)").value) <= {
        "PYTHONHASHSEED",
        "LC_CTYPE",
    }


def test_only_its_own_pipes_are_open():
    source = """
        import os
        def f(x):
            held = []
            for number in range(1024):
                try: os.fstat(number)
                except OSError: continue
                held.append(number)
            return held
    """
    with ThreadPoolExecutor(8) as pool:
        assert all(call.value == [0, 1, 2, 3] for call in pool.map(lambda _: only_call(source), range(24)))


def test_memory_is_bounded():
    assert only_call("def f(x): return len(bytearray(4 << 30))").error == "MemoryError: "


def test_loop_that_ignores_signals_ends_after_its_cpu_seconds():
    source = """
        import signal
        for number in range(1, 65):
            try: signal.signal(number, signal.SIG_IGN)
            except (OSError, ValueError): pass
        def f(x):
            while True: pass
    """
    outcome = run_function(textwrap.dedent(source), "f", [[0]], timeout_s=60)
    assert outcome.status == "timeout" and outcome.calls[0].error == "used more than its 1 CPU seconds"


def test_sleep_ends_at_the_deadline():
    outcome = run_function("import time\ndef f(x): time.sleep(60)", "f", [[0], [1]], timeout_s=0.3)
    assert outcome.status == "timeout" and len(outcome.calls) == 2


def test_output_is_drained_and_capped():
    source = """
        import os
        def f(x):
            for _ in range(100):
                os.write(1, bytes(1 << 20))
                os.write(2, bytes(1 << 20))
            return 6
    """
    outcome = run_function(textwrap.dedent(source), "f", [[0]], timeout_s=20, cpu_s=10)
    assert outcome.calls[0].value == 6 and len(outcome.output) <= MAX_OUTPUT_BYTES


def test_stdin_is_empty():
    assert only_call("import sys\ndef f(x): return sys.stdin.read()").value == ""
