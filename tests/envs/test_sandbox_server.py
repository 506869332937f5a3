"""The machinery around a sandboxed run: limits, levels, killed servers and workers, callers at once."""

import json
import os
import signal
import subprocess
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from sandbox_tools import children_of, gone_within, script

from rolloom.envs.errors import SandboxError
from rolloom.envs.sandbox import NO_FILES, NONE, run_function
from rolloom.envs.sandbox.runner import read_frame
from rolloom.envs.sandbox.zygote import get_zygote, resolve_levels

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


def only_call(source):
    return run_function(source, "f", [[3]]).calls[0]


def test_no_tests_is_an_error():
    with pytest.raises(SandboxError, match="at least one input"):
        run_function(DOUBLE, "f", [])


@pytest.mark.parametrize("limits", [{"memory_mb": 1}, {"cpu_s": 0}, {"timeout_s": 0}])
def test_impossible_limits_are_an_error(limits):
    with pytest.raises(SandboxError, match=next(iter(limits))):
        run_function(DOUBLE, "f", [[1]], **limits)


def test_unknown_isolation_names_the_nearest(monkeypatch):
    with pytest.raises(SandboxError, match="Did you mean 'seccomp\\+rlimits'"):
        run_function(DOUBLE, "f", [[1]], isolation="seccomp+rlimit")
    monkeypatch.setenv("ROLLOOM_SANDBOX_ISOLATION", "nome")
    with pytest.raises(SandboxError, match="Did you mean 'none'"):
        run_function(DOUBLE, "f", [[1]])
    monkeypatch.delenv("ROLLOOM_SANDBOX_ISOLATION")


def test_no_isolation_only_when_asked_for_and_then_recorded(monkeypatch):
    assert NONE not in resolve_levels(None)
    assert run_function(DOUBLE, "f", [[1]], isolation=NONE).isolation == NONE
    monkeypatch.setenv("ROLLOOM_SANDBOX_ISOLATION", NONE)
    outcome = run_function("import os\ndef f(x): return os.getpid()", "f", [[1]])
    assert outcome.isolation == NONE and outcome.calls[0].value
    monkeypatch.delenv("ROLLOOM_SANDBOX_ISOLATION")


DENY_SYSCALLS = """
    import ctypes, struct
    def deny(numbers):
        code = [(0x20, 0, 0, 0)]
        for number, option in numbers:
            if option is None:
                code += [(0x15, 0, 1, number), (6, 0, 0, 0x00050026)]
            else:
                code += [(0x15, 0, 4, number), (0x20, 0, 0, 16), (0x15, 0, 1, option), (6, 0, 0, 0x00050026),
                         (6, 0, 0, 0x7FFF0000)]
        code.append((6, 0, 0, 0x7FFF0000))
        program = ctypes.create_string_buffer(b"".join(struct.pack("HBBI", *c) for c in code))
        header = ctypes.create_string_buffer(struct.pack("HxxxxxxP", len(code), ctypes.addressof(program)))
        libc = ctypes.CDLL(None)
        assert libc.prctl(38, 1, 0, 0, 0) == 0 and libc.prctl(22, 2, header, 0, 0) == 0
"""


@pytest.mark.skipif(os.uname().machine != "x86_64", reason="system call numbers of x86_64")
def test_kernel_without_landlock_gets_the_level_without_files():
    body = (
        DENY_SYSCALLS
        + """
    from rolloom.envs.sandbox import run_function
    deny([(444, None)])
    print(run_function("def f(x): return x*2", "f", [[3]]).isolation)
    """
    )
    done = subprocess.run(script(body), capture_output=True, text=True, timeout=30, check=True)
    assert done.stdout.strip() == NO_FILES


@pytest.mark.skipif(os.uname().machine != "x86_64", reason="system call numbers of x86_64")
def test_kernel_without_seccomp_fails_closed_and_says_how_to_opt_out():
    body = (
        DENY_SYSCALLS
        + """
    from rolloom.envs.sandbox import run_function
    deny([(157, 22)])
    try: print(run_function("def f(x): return x*2", "f", [[3]]))
    except Exception as error: print(type(error).__name__, error)
    print(run_function("def f(x): return x*2", "f", [[3]], isolation="none").isolation)
    """
    )
    done = subprocess.run(script(body), capture_output=True, text=True, timeout=30, check=True)
    first, second = done.stdout.strip().splitlines()
    assert (
        first.startswith("SandboxError")
        and "ROLLOOM_SANDBOX_ISOLATION=none" in first
        and "seccomp filter" in first
    )
    assert second == NONE


def test_killed_fork_server_is_an_error_then_replaced():
    killed = get_zygote(None).pid
    with ThreadPoolExecutor(1) as pool:
        running = pool.submit(run_function, "import time\ndef f(x): time.sleep(30)", "f", [[1]], timeout_s=20)
        assert gone_within(5, lambda: not children_of(killed)) == []
        run = children_of(killed)
        os.kill(killed, signal.SIGKILL)
        with pytest.raises(SandboxError, match="killed"):
            running.result()
    assert gone_within(5, lambda: [pid for pid in run if Path(f"/proc/{pid}").exists()]) == []
    assert only_call(DOUBLE).value == 6


def test_run_killed_from_outside_is_no_verdict():
    zygote = get_zygote(None)
    with ThreadPoolExecutor(1) as pool:
        running = pool.submit(run_function, "import time\ndef f(x): time.sleep(30)", "f", [[1]], timeout_s=20)
        assert gone_within(5, lambda: not children_of(zygote.pid)) == []
        time.sleep(0.1)
        for pid in children_of(zygote.pid):
            os.kill(pid, signal.SIGKILL)
        with pytest.raises(SandboxError):
            running.result()


def test_killed_worker_leaves_no_process():
    body = """
    import threading, time
    from rolloom.envs.sandbox import run_function
    from rolloom.envs.sandbox.zygote import get_zygote
    slow = "import time\\ndef f(x):\\n    while True: time.sleep(1)"
    for _ in range(3):
        threading.Thread(target=run_function, args=(slow, "f", [[1]]), kwargs={"timeout_s": 60}).start()
    print(get_zygote(None).pid, flush=True)
    time.sleep(60)
    """
    with subprocess.Popen(script(body), stdout=subprocess.PIPE, text=True) as worker:
        assert worker.stdout is not None
        zygote = int(worker.stdout.readline())
        assert gone_within(10, lambda: len(children_of(zygote)) < 3) == []
        runs = children_of(zygote)
        worker.kill()
    assert gone_within(5, lambda: [pid for pid in (zygote, *runs) if Path(f"/proc/{pid}").exists()]) == []


def test_fork_server_outlives_the_thread_that_started_it():
    body = """
    import threading
    from rolloom.envs.sandbox import run_function
    from rolloom.envs.sandbox.zygote import get_zygote
    pids = []
    for _ in range(2):
        thread = threading.Thread(target=lambda: pids.append(get_zygote(None).pid))
        thread.start(); thread.join()
    assert run_function("def f(x): return x*2", "f", [[3]]).calls[0].value == 6
    print(pids[0] == pids[1] == get_zygote(None).pid)
    """
    done = subprocess.run(script(body), capture_output=True, text=True, timeout=30, check=True)
    assert done.stdout.strip() == "True"


def test_forked_worker_gets_a_fork_server_of_its_own():
    body = """
    import os
    from rolloom.envs.sandbox import run_function
    from rolloom.envs.sandbox.zygote import get_zygote
    mine = get_zygote(None).pid
    pid = os.fork()
    value = run_function("def f(x): return x*2", "f", [[3]]).calls[0].value
    if pid == 0:
        os._exit(0 if value == 6 and get_zygote(None).pid != mine else 1)
    print(os.waitpid(pid, 0)[1], value, get_zygote(None).pid == mine)
    """
    done = subprocess.run(script(body), capture_output=True, text=True, timeout=30, check=True)
    assert done.stdout.strip() == "0 6 True"


def test_a_slow_run_does_not_delay_others():
    slow = threading.Thread(
        target=run_function,
        args=("import time\ndef f(x): time.sleep(9)", "f", [[1]]),
        kwargs={"timeout_s": 2},
    )
    slow.start()

    def one(_):
        return run_function(DOUBLE, "f", [[4]]).calls[0].value, slow.is_alive()

    with ThreadPoolExecutor(4) as pool:
        values, meanwhile = zip(*pool.map(one, range(40)), strict=True)
    assert values == (8,) * 40 and sum(meanwhile) > 4
    slow.join()


def test_thirty_two_threads_get_their_own_results():
    def one(k):
        inputs = [[x] for x in range(20)]
        calls = run_function(f"def f(x): return x*{k}+{k}", "f", inputs).calls
        return all(call.value == x * k + k for call, [x] in zip(calls, inputs, strict=True))

    with ThreadPoolExecutor(32) as pool:
        assert all(pool.map(one, range(320)))


def test_runs_leak_no_descriptors():
    run_function(DOUBLE, "f", [[1]])
    before = len(os.listdir("/proc/self/fd"))
    for source in (DOUBLE, "import os\nos._exit(1)", "import time\ntime.sleep(9)"):
        for _ in range(5):
            run_function(source, "f", [[1]], timeout_s=0.1)
    assert len(os.listdir("/proc/self/fd")) == before


MALFORMED = ("", "\n", "[]\n", '{"a": 1}\n', '[["value", 6]]\n', '[["value", "NaN"]]\n', 
             '[["error", "x", "y"]]\n', '[["other", "6"]]\n', "[[]]\n", "[null]\n")  # fmt: skip


@pytest.mark.parametrize("frame", MALFORMED)
def test_frames_that_are_not_well_formed_are_refused(frame):
    assert read_frame(frame.encode(), 1) is None


def test_well_formed_frame_is_read():
    frame = json.dumps([["value", "[1]"], ["error", "E: x"]]).encode() + b"\n"
    calls = read_frame(frame, 2)
    assert calls is not None
    first, second = calls
    assert first.value == [1] and second.error == "E: x"
