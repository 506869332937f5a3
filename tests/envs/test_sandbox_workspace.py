"""Shell commands in a workspace: they work, they stay inside, and nothing of them is left."""

import itertools
import os
import shutil
import signal
import subprocess
import textwrap
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from sandbox_tools import SOURCE_ROOT, children_of, gone_within, script

from rolloom.envs.errors import SandboxError
from rolloom.envs.sandbox import FULL, NONE, Workspace, cgroups
from rolloom.envs.sandbox import workspace as workspace_module

ROOT = os.geteuid() == 0
IN_MEMORY = "namespaces+uid+" + FULL if ROOT else "namespaces+" + FULL
ON_DISK = "uid+" + FULL if ROOT else FULL


def works(level):
    try:
        Workspace(isolation=level).close()
    except SandboxError:
        return False
    return True


LEVELS = [level for level in (IN_MEMORY, ON_DISK) if works(level)]


def left_on_disk():
    return sorted(Path(workspace_module._directory()).glob("rolloom-workspace-*"))


@pytest.fixture(autouse=True)
def nothing_left_behind():
    before = left_on_disk()
    yield
    assert gone_within(5, lambda: [path for path in left_on_disk() if path not in before]) == []


@pytest.fixture(scope="module", params=LEVELS)
def shared(request):
    with Workspace({"notes.txt": "b\na\n"}, isolation=request.param) as made:
        yield made
        assert made.run("cat notes.txt").output == "b\na\n"


@pytest.fixture(params=LEVELS)
def workspace(request):
    with Workspace({"notes.txt": "b\na\n", "deep/er/x": b"\xff"}, isolation=request.param) as made:
        assert made.isolation.removeprefix("cgroup+") == request.param
        yield made


def test_a_level_holds_here():
    assert LEVELS


def test_commands_see_the_files_and_change_them(workspace):
    result = workspace.run("sort notes.txt > out.txt && cat out.txt && pwd && ls deep/er")
    assert (result.output, result.exit_status, result.status) == ("a\nb\n/workspace\nx\n", 0, "finished")
    assert workspace.read("out.txt") == b"a\nb\n"
    assert workspace.run("mkdir -p d && mv out.txt d/ && rm -r deep && cp d/out.txt e").exit_status == 0
    assert list(workspace.entries()) == ["d", "d/out.txt", "e", "notes.txt"]
    assert workspace.entries()["d/out.txt"].size == 4 and workspace.entries()["d"].kind == "directory"


def test_usual_tools_work(workspace):
    command = """
        seq 10 | grep 1 | wc -l; awk 'BEGIN{print 6*7}'; sed -i s/a/z/ notes.txt; cat notes.txt
        printf 'x\\ny\\n' | while read line; do echo "<$line>"; done
        tar cf t.tar notes.txt && mkdir u && tar xf t.tar -C u && diff notes.txt u/notes.txt && echo same
        find . -name '*.txt' | sort; echo t > "$TMPDIR/t" && cat "$TMPDIR/t"; ln -s notes.txt l && cat l
        (exit 3); echo $?; ls missing 2> /dev/null || echo none; head -c 4 /dev/zero | od -An -tx1
    """
    assert workspace.run(textwrap.dedent(command)).output == (
        "2\n42\nb\nz\n<x>\n<y>\nsame\n./notes.txt\n./u/notes.txt\nt\nb\nz\n3\nnone\n 00 00 00 00\n"
    )


def test_modes_can_be_changed_where_nothing_else_can_be(workspace):
    assert (
        workspace.run("echo 'echo ran' > s && chmod +x s && ./s").output == "ran\n"
        or workspace.isolation.removeprefix("cgroup+") == FULL
    )


def test_standard_input_and_exit_status(workspace):
    assert workspace.run("echo \ud800").exit_status == 0
    result = workspace.run("cat; exit 7", stdin="given")
    assert (result.output, result.exit_status, result.status) == ("given", 7, "finished")
    assert workspace.run("cat").output == ""


def test_each_workspace_is_its_own():
    with Workspace({"a": "1"}) as first, Workspace({"a": "2"}) as second:
        first.run("echo 3 > b; echo t > $TMPDIR/t")
        assert second.run("cat a; ls; ls $TMPDIR").output == "2a\n"
        assert first.read("b") == b"3\n" and second.read("b") is None


def test_output_is_capped_and_the_command_goes_on(workspace):
    result = workspace.run("head -c 50000000 /dev/zero; echo done > done")
    assert (
        result.truncated and len(result.output) == workspace.max_output_bytes and result.status == "finished"
    )
    assert workspace.read("done") == b"done\n"


@pytest.mark.parametrize("path", ["/etc/passwd", "../x", "a/../../x", "", ".", "a\0b", "x/" * 100])
def test_paths_outside_are_refused(workspace, path):
    with pytest.raises(ValueError, match="relative path"):
        workspace.read(path)
    with pytest.raises(ValueError, match="relative path"):
        workspace.write(path, "x")


@pytest.mark.parametrize("command", ["echo a\0b", "#" * 70_000])
def test_what_cannot_be_a_command_is_refused(workspace, command):
    assert workspace.run(command).status == "refused"


def test_closed_workspace_says_so():
    workspace = Workspace()
    workspace.close()
    workspace.close()
    with pytest.raises(SandboxError, match="closed"):
        workspace.run("true")


DENIED = {
    "password hashes": "cat /etc/shadow",
    "worker's environment": f"cat /proc/{os.getpid()}/environ",
    "first process": "cat /proc/1/environ",
    "worker's memory": f"head -c 1 /proc/{os.getpid()}/mem",
    "home of root": "ls /root",
    "our source": f"cat {SOURCE_ROOT}/rolloom/__init__.py",
    "write to the system": "echo x > /usr/x",
    "write beside": "echo x > ../x",
    "write to /var/tmp": "echo x > /var/tmp/rolloom-test-write",
    "mode of the system": "chmod 777 /usr",
    "time of the system": "touch /usr/bin",
    "owner": "chown 1:1 notes.txt",
    "device": "mknod d c 1 3",
    "disk": "head -c 1 /dev/sda || head -c 1 /dev/vda",
    "kill the worker": f"kill -0 {os.getpid()}",
    "kill all": "kill -9 -1 && test -d /nowhere",
    "hard link out": "ln /etc/hostname h && cat h",
    "mount": "mount -t tmpfs none . || mount --bind / .",
    "user namespace": "unshare -U true",
    "mount namespace": "unshare -m true",
    "root": "su -c true || sudo true || setpriv --reuid 0 true",
    "chroot": "chroot . true",
    "nice": "nice -n -5 true 2>&1 | grep . && false",
    "limits": "ulimit -u 100000 || ulimit -v unlimited",
}  # fmt: skip


@pytest.mark.parametrize("command", DENIED.values(), ids=DENIED.keys())
def test_is_denied(shared, command):
    result = shared.run(command)
    assert result.exit_status != 0
    assert not Path("/var/tmp/rolloom-test-write").exists()


def test_the_attacks_would_work_without_isolation():
    with Workspace(isolation=NONE) as workspace:
        assert workspace.isolation == NONE
        for name in ("our source", "kill the worker", "worker's environment"):
            assert workspace.run(DENIED[name]).exit_status == 0, name


PYTHON = shutil.which("python3", path="/usr/bin:/bin")


@pytest.mark.skipif(PYTHON is None or os.uname().machine != "x86_64", reason="needs a system Python, x86_64")
def test_raw_system_calls_are_denied(workspace):
    calls = {"socket": 41, "socketpair": 53, "ptrace": 101, "process_vm_readv": 310, "io_uring_setup": 425,
             "bpf": 321, "keyctl": 250, "add_key": 248, "unshare": 272, "setns": 308, "mount": 165,
             "chroot": 161, "pivot_root": 155, "clone_newuser": 56,
             "memfd_create": 319, "userfaultfd": 323, "shmget": 29,
             "perf_event_open": 298, "chown": 92, "mknod": 133, "setuid": 105, "prctl": 157,
             "name_to_handle_at": 303, "init_module": 175, "open_tree": 428, "pidfd_open": 434}  # fmt: skip
    program = f"""
import ctypes
libc = ctypes.CDLL(None, use_errno=True)
for name, number in {calls}.items():
    first = 0x10000000 if name == "clone_newuser" else 0
    if (libc.syscall(number, first, 0, 0, 0, 0), ctypes.get_errno()) != (-1, 1): print(name)
"""
    workspace.write("p.py", program)
    result = workspace.run("/usr/bin/python3 -S p.py")
    assert (result.output, result.exit_status) == ("", 0)


def test_environment_holds_nothing_of_ours(workspace):
    os.environ["ROLLOOM_TEST_SECRET"] = "secret"
    try:
        shown = workspace.run("env").output
    finally:
        del os.environ["ROLLOOM_TEST_SECRET"]
    names = {line.partition("=")[0] for line in shown.splitlines()}
    assert "secret" not in shown and names <= {
        "PATH", "HOME", "TMPDIR", "USER", "SHELL", "LANG", "LC_ALL", "TZ", "PWD", "GIT_CONFIG_NOSYSTEM",
        "OLDPWD", "_", "SHLVL",
    }  # fmt: skip


def test_no_descriptor_of_ours_is_open(workspace):
    held = workspace.run("for n in 3 4 5 6 7 8 9; do (: <&$n) 2> /dev/null && echo $n; done; true")
    assert held.output == ""


def sleepers():
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdecimal():
            try:
                line = (entry / "cmdline").read_bytes()
            except OSError:
                continue
            if b"rolloom-marker" in line or b"sleep\x0098765" in line:
                found.append(int(entry.name))
    return found


STAYS = {
    "background": "sleep 98765 & echo started",
    "nohup": "nohup sleep 98765 > /dev/null 2>&1 & echo started",
    "new session": "setsid sleep 98765 & sleep 0.2; echo started",
    "double fork": "(sleep 98765 & (sleep 98765 &) &) ; echo started",
    "ignores signals": "trap '' TERM INT HUP; sh -c \"trap '' TERM HUP; sleep 98765\" & echo started",
}


@pytest.mark.parametrize("command", STAYS.values(), ids=STAYS.keys())
def test_what_a_command_leaves_running_dies_with_it(shared, command):
    result = shared.run(command)
    assert result.status == "finished" and "started" in result.output
    assert gone_within(10, sleepers) == []


HANGS = {
    "sleep": "sleep 98765",
    "ignores signals": "trap '' TERM INT HUP XCPU; while :; do sleep 98765; done",
    "stops itself": "sh -c 'kill -STOP $$'; sleep 98765",
    "waits for a FIFO": "mkfifo f 2>/dev/null; cat < f; sleep 98765",
    "reads nothing": "sleep 98765 < /dev/zero",
}


@pytest.mark.parametrize("command", HANGS.values(), ids=HANGS.keys())
def test_deadline_kills_all_of_it(shared, command):
    assert shared.run(command, timeout_s=0.2).status == "timeout"
    assert gone_within(10, sleepers) == []
    assert shared.run("echo on").output == "on\n"


def test_busy_loop_ends_after_its_cpu_seconds(workspace):
    assert workspace.run("while :; do :; done", timeout_s=90, cpu_s=1).status == "timeout"
    assert workspace.run("echo on").output == "on\n"


def test_fork_bomb_is_bounded(workspace):
    workspace.write("bomb", "sh bomb & sh bomb & wait")
    assert workspace.run("sh bomb 2> errors; sleep 98765", timeout_s=1).status == "timeout"
    assert gone_within(10, sleepers) == [] and workspace.run("echo on").output == "on\n"


def test_processes_are_counted():
    with Workspace(processes=8) as workspace:
        result = workspace.run(
            "for i in 1 2 3 4 5 6 7 8 9 10 11 12; do sleep 98765 & done; echo no", timeout_s=5
        )
        assert "no\n" not in result.output.splitlines() or "ork" in result.output


def test_memory_is_bounded(workspace):
    result = workspace.run("head -c 3000000000 /dev/zero | tail", timeout_s=20, cpu_s=10)
    assert result.status in ("finished", "killed") and ("memory" in result.output or result.exit_status != 0)


def test_memory_of_all_processes_together_is_bounded():
    with Workspace(memory_mb=64, disk_bytes=4 << 20) as workspace:
        if not workspace.isolation.startswith("cgroup+"):
            pytest.skip("this machine lets nobody make control groups")
        hold = "(head -c 40000000 /dev/zero; sleep 1) | tail -c 40000000 > /dev/null && echo held"
        assert workspace.run(hold, cpu_s=10).output == "held\n"
        together = workspace.run(f"for i in 1 2 3 4 5; do ({hold}) & done; wait", timeout_s=30, cpu_s=10)
        assert together.output.count("held\n") < 5
        assert workspace.run("echo on").output == "on\n"


def test_groups_are_removed():
    with Workspace() as workspace:
        if not workspace.isolation.startswith("cgroup+"):
            pytest.skip("this machine lets nobody make control groups")

    def groups():
        return {name for parent in cgroups.parents() for name in os.listdir(parent) if "rolloom-" in name}

    before = groups()
    with Workspace() as workspace:
        workspace.run("sleep 98765 & echo started")
        assert groups() - before
    assert gone_within(3, lambda: groups() - before) == []


@pytest.mark.parametrize("level", LEVELS)
def test_disk_is_bounded(level):
    with Workspace(isolation=level, disk_bytes=4 << 20, inodes=100) as workspace:
        result = workspace.run("for i in 1 2 3 4 5 6; do head -c 1500000 /dev/zero > f$i; done", timeout_s=10)
        assert result.status == "disk" or result.exit_status != 0
        workspace.run("rm -f f*")
        result = workspace.run(
            "i=0; while [ $i -lt 20000 ]; do : > n$i || exit 3; i=$((i+1)); done", timeout_s=10
        )
        assert result.status == "disk" or result.exit_status == 3 or result.exit_status == 2
        assert len(workspace.entries()) < 20_000


TREES = {
    "mode 0": "mkdir -p a/b/c && echo x > a/b/c/d && chmod 0 a/b/c/d a/b/c a/b a",
    "mode 0 inside": "mkdir -p a/b && chmod 0 a; mkdir -m 0 c; mkdir -p d/e/f && chmod 555 d/e d; true",
    "deep": "i=0; while [ $i -lt 900 ]; do mkdir dddddd && cd dddddd || exit 1; i=$((i+1)); done; echo x > y",
    "odd names": "touch -- -rf 'a b' \"$(printf 'a\\nb')\" \"$(printf '\\377')\" .hidden; ln -s / root; true",
    "read-only": "mkdir r && echo x > r/x && chmod 500 r && chmod 400 r/x && chmod 500 .",
    "fifo": "mkfifo f; mkdir d; mkfifo d/f; true",
}


@pytest.mark.parametrize("level", LEVELS)
@pytest.mark.parametrize("command", TREES.values(), ids=TREES.keys())
def test_trees_that_resist_are_removed(level, command):
    with Workspace(isolation=level) as workspace:
        workspace.run(command)
        workspace.entries()
        assert workspace.run("echo on").output == "on\n"


REPLACED = {
    "link": "ln -s /etc/passwd answer",
    "link to a file here": "ln -s notes.txt answer",
    "directory link": "ln -s /etc d",
    "fifo": "mkfifo answer",
    "directory": "mkdir answer",
    "nothing": "true",
}


@pytest.mark.parametrize("command", REPLACED.values(), ids=REPLACED.keys())
def test_only_regular_files_are_read(workspace, command):
    workspace.run(command)
    assert workspace.read("answer") is None and workspace.read("d/passwd") is None
    workspace.entries()


def test_long_files_are_cut(workspace):
    workspace.run("head -c 3000000 /dev/zero > answer")
    assert len(workspace.read("answer")) == 1 << 20 and len(workspace.read("answer", max_bytes=10)) == 10


def test_writing_through_a_link_is_an_error(workspace):
    workspace.run("ln -s /etc d; ln -s /etc/passwd p")
    with pytest.raises(SandboxError, match="written"):
        workspace.write("d/x", "x")
    workspace.write("p", "mine")
    assert workspace.read("p") == b"mine" and workspace.entries()["p"].kind == "file"


@pytest.mark.parametrize("level", LEVELS)
def test_killed_worker_leaves_no_process_and_no_file(level):
    body = f"""
    import threading, time
    from rolloom.envs.sandbox import Workspace
    workspace = Workspace({{"a": "x"}}, isolation={level!r})
    command = "chmod 0 a; mkdir -p d/e; (sleep 98765 &) ; sleep 98765"
    threading.Thread(target=workspace.run, args=(command,), kwargs={{"timeout_s": 60}}, daemon=True).start()
    time.sleep(0.7)
    print("up", flush=True)
    time.sleep(60)
    """
    before = set(left_on_disk())
    with subprocess.Popen(script(body), stdout=subprocess.PIPE, text=True) as worker:
        assert worker.stdout is not None and worker.stdout.readline() == "up\n"
        assert len(sleepers()) >= 2
        worker.kill()
    assert gone_within(5, sleepers) == [] and gone_within(5, lambda: set(left_on_disk()) - before) == []


def test_killed_server_is_replaced_and_its_workspaces_go_on():
    with Workspace({"a": "x"}) as workspace:
        os.kill(workspace_module._server(None).pid, signal.SIGKILL)
        time.sleep(0.1)
        assert workspace.run("cat a").output == "x"
        with Workspace({"a": "y"}) as other:
            assert other.run("cat a").output == "y"


@pytest.mark.parametrize("level", LEVELS)
def test_killed_keeper_is_an_error_and_leaves_nothing(level):
    failed = []

    def run():
        with Workspace({"a": "x"}, isolation=level) as workspace, pytest.raises(SandboxError, match="killed"):
            workspace.run("(sleep 98765 &) ; sleep 98765", timeout_s=30)
            failed.append("went on")

    Workspace(isolation=level).close()
    server = workspace_module._server(level).pid
    time.sleep(0.2)
    others = children_of(server)
    thread = threading.Thread(target=run)
    thread.start()
    assert gone_within(10, lambda: [1] * (len(sleepers()) < 2)) == []
    (keeper,) = [pid for pid in children_of(server) if pid not in others]
    os.kill(keeper, signal.SIGKILL)
    thread.join()
    assert failed == [] and gone_within(5, sleepers) == []


def test_workspaces_in_threads_do_not_wait_for_each_other():
    def one(k):
        with Workspace({"n": str(k)}) as workspace:
            first, number, last = workspace.run(f"{now}; cat n; sleep 0.5; {now}").output.split()
        assert number == str(k)
        return float(first), float(last)

    now = "date '+ %s.%N '"
    with ThreadPoolExecutor(8) as pool:
        runs = sorted(pool.map(one, range(8)))
    assert any(after[0] < before[1] for before, after in itertools.pairwise(runs))


def test_workspaces_leak_no_descriptors():
    Workspace().close()
    before = len(os.listdir("/proc/self/fd"))
    for _ in range(5):
        with Workspace({"a": "x"}) as workspace:
            workspace.run("cat a")
            workspace.read("a")
            list(workspace.entries())
    assert len(os.listdir("/proc/self/fd")) == before


def test_level_without_files_is_refused():
    with pytest.raises(SandboxError, match="isolation: expected one of"):
        Workspace(isolation="seccomp+rlimits")


@pytest.mark.skipif(not ROOT or PYTHON is None, reason="needs root, to become a plain user")
@pytest.mark.parametrize("level", ["auto", FULL])
def test_plain_user_is_confined_too(level, tmp_path):
    shutil.copytree(
        SOURCE_ROOT / "rolloom", tmp_path / "rolloom", ignore=shutil.ignore_patterns("__pycache__")
    )
    body = f"""
    import os, sys
    os.setgroups([]); os.setgid(54321); os.setuid(54321)
    from rolloom.envs.sandbox import Workspace, run_function
    with Workspace({{"a": "b\\na\\n"}}, isolation={level!r}) as w:
        denied = [w.run(c).exit_status for c in {list(DENIED.values())!r}]
        print(w.isolation, w.run("sort a > b && cat b").output.split(), 0 in denied)
        w.run("mkdir -p d/e; chmod 0 d; (sleep 98765 &)")
    print(run_function("def f(x): return x * 2", "f", [[3]]).calls[0].value)
    """
    holder = Path("/tmp") / f"rolloom-plain-{os.getpid()}"
    shutil.move(tmp_path / "rolloom", holder / "rolloom")
    subprocess.run(["chmod", "-R", "a+rX", str(holder)], check=True)
    try:
        code = "import sys\nsys.path.insert(0, sys.argv[1])\n" + textwrap.dedent(body)
        done = subprocess.run(
            [str(PYTHON), "-B", "-c", code, str(holder)],
            capture_output=True,
            text=True,
            timeout=60,
            env={"PATH": "/usr/bin:/bin"},
        )
    finally:
        shutil.rmtree(holder)
    assert done.returncode == 0, done.stderr
    first, second = done.stdout.strip().splitlines()
    isolation, rest = first.split(" ", 1)
    assert isolation.endswith(FULL) and "uid" not in isolation and rest == "['a', 'b'] False"
    assert second == "6" and gone_within(3, sleepers) == []
