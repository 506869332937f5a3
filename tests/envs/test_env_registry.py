"""The registry: near names, refusals, and environments that another installed package brings."""

from __future__ import annotations

import os
import pickle
import subprocess
import sys
from pathlib import Path

import pytest

from rolloom.envs import registry
from rolloom.envs.base import TextEnv
from rolloom.envs.check import check
from rolloom.envs.errors import EnvRegistrationError, UnknownEnvError
from rolloom.envs.registry import EnvSpec

SOURCE = Path(registry.__file__).parents[2]


@pytest.fixture(autouse=True)
def _restore_registry(monkeypatch):
    monkeypatch.setattr(registry, "_specs", dict(registry._specs))


@pytest.mark.parametrize(
    ("wrong", "near"),
    [
        ("math/afine_chain-v0", "math/affine_chain-v0"),
        ("tools/lookup-v1", "tools/lookup-v0"),
        ("lookup", "tools/lookup-v0"),
        ("agents/workplace-v0", "agent/workplace-v0"),
    ],
)
def test_unknown_id_names_the_nearest(wrong, near):
    with pytest.raises(UnknownEnvError, match=f"Did you mean '{near}'") as caught:
        registry.make(wrong)
    assert repr(wrong) in str(caught.value)
    assert str(pickle.loads(pickle.dumps(caught.value))) == str(caught.value)


@pytest.mark.parametrize("id", ["", "x", "a/b", "a/b-v", "/b-v0", "a/-v0", "a/b-vx", "a/b-v-1", "a/b-v1.0"])
def test_malformed_ids_are_refused(id):
    with pytest.raises(EnvRegistrationError, match="namespace/name-v0"):
        registry.register(id, "rolloom.envs.math.affine_chain:AffineChain")


@pytest.mark.parametrize("entry_point", ["", "module", "a:b:c"])
def test_malformed_entry_points_are_refused(entry_point):
    with pytest.raises(EnvRegistrationError, match=r"pkg\.module:Class"):
        registry.register("mine/x-v0", entry_point)


def test_an_id_means_one_thing():
    first = registry.register("mine/x-v0", "rolloom.envs.math.affine_chain:AffineChain", kind="math", level=3)
    assert registry.register("mine/x-v0", first.entry_point, kind="math", level=3) == first
    with pytest.raises(EnvRegistrationError, match="already registered"):
        registry.register("mine/x-v0", first.entry_point, kind="math", level=4)


@pytest.mark.parametrize(
    "entry_point", ["rolloom.envs.nowhere:X", "rolloom.envs.math.affine_chain:X", "builtins:dict"]
)
def test_an_entry_point_that_makes_no_environment_is_named(entry_point):
    registry.register("mine/x-v0", entry_point)
    with pytest.raises(EnvRegistrationError, match=entry_point):
        registry.make("mine/x-v0")


def test_keyword_arguments_of_the_spec_are_defaults():
    registry.register("mine/x-v0", "rolloom.envs.math.affine_chain:AffineChain", level=3, split="heldout")
    env = registry.make("mine/x-v0", level=4)
    assert isinstance(env, TextEnv) and (env.level, env.split) == (4, "heldout")


def test_specs_survive_pickling_as_the_launcher_ships_them():
    for spec in registry.all_specs():
        copy = pickle.loads(pickle.dumps(spec))
        assert copy == spec
        registry.register_spec(copy)


def test_every_kind_is_there():
    assert {"math", "code", "tools", "agent"} <= {spec.kind for spec in registry.all_specs()}
    assert [spec.id for spec in registry.all_specs()] == sorted(spec.id for spec in registry.all_specs())
    assert isinstance(registry.spec("math/affine_chain-v0"), EnvSpec)


PLUGIN = """
from rolloom.envs.base import TextEnv
from rolloom.envs.registry import register
from rolloom.envs.types import Message, Reply

class Parrot(TextEnv):
    def generate(self, rng, level):
        return {"word": int(rng.integers(1000))}
    def prompt(self):
        return (Message(role="user", content=f"say {self.problem['word']}"),)
    def respond(self, turn):
        return Reply(reward=float(turn.content == str(self.problem["word"])), done=True)
    def expert(self, style, rng):
        return f"<think></think>{self.problem['word']}"

def install():
    register("other/parrot-v0", "parrot_plugin:Parrot", description="from another package")

def broken():
    raise RuntimeError("no such database")
"""


def _run_with_plugin(folder: Path, function: str, program: str) -> subprocess.CompletedProcess[str]:
    (folder / "parrot_plugin.py").write_text(PLUGIN)
    info = folder / "parrot_plugin-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: parrot-plugin\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text(f"[rolloom.envs]\nparrot = parrot_plugin:{function}\n")
    path = os.pathsep.join([str(folder), str(SOURCE)])
    environment = {**os.environ, "PYTHONPATH": path}
    return subprocess.run([sys.executable, "-c", program], env=environment, capture_output=True, text=True)


def test_another_installed_package_adds_an_environment(tmp_path):
    program = (
        "import numpy as np\n"
        "from rolloom.envs import registry\n"
        "env = registry.make('other/parrot-v0')\n"
        "env.reset(seed=1)\n"
        "print(env.step(env.expert('compact', np.random.default_rng(0)))[1])\n"
        "print('other/parrot-v0' in [spec.id for spec in registry.all_specs()])\n"
    )
    done = _run_with_plugin(tmp_path, "install", program)
    assert done.stdout.split() == ["1.0", "True"], done.stderr


def test_a_broken_package_is_named(tmp_path):
    program = "from rolloom.envs import registry; registry.all_specs()"
    done = _run_with_plugin(tmp_path, "broken", program)
    assert done.returncode != 0
    assert (
        "EnvRegistrationError: entry point parrot = parrot_plugin:broken failed: no such database"
        in done.stderr
    )


def test_an_environment_may_have_an_argument_called_id(monkeypatch):
    monkeypatch.setattr(registry, "_specs", dict(registry._specs))
    far = registry.register(
        "far/chain-v0", "rolloom.envs.serve:RemoteEnv", url="http://127.0.0.1:1", id="a/b-v0"
    )
    assert far.id == "far/chain-v0" and far.kwargs == {"url": "http://127.0.0.1:1", "id": "a/b-v0"}


@pytest.mark.parametrize("id", ["math/affine_chain-v0", "code/int_function-v0"])
def test_a_wrong_keyword_argument_is_named(id):
    with pytest.raises(
        EnvRegistrationError, match=rf"^{id}: no such .* 'max_turn', expected .*max_turns.* Did you"
    ):
        registry.make(id, max_turn=3)


PLAIN = """
from rolloom import TextEnv, register

class Add(TextEnv):
    def generate(self, rng, level):
        return {"a": int(rng.integers(10**4)), "b": int(rng.integers(10**4))}
    def prompt(self):
        return ({"role": "user", "content": f"{self.problem['a']}+{self.problem['b']}=?"},)
    def respond(self, turn):
        return float(turn.content == self.gold())
    def gold(self):
        return str(self.problem["a"] + self.problem["b"])

register("mine/add-v0", "plain_add:Add")
"""


def test_a_class_registered_in_a_file_of_its_own_is_found_by_a_new_process(tmp_path, monkeypatch):
    monkeypatch.delitem(sys.modules, "plain_add", raising=False)
    (tmp_path / "plain_add.py").write_text(PLAIN)
    registry.import_modules([str(tmp_path / "plain_add.py")])
    card = check("mine/add-v0", seconds=1)
    assert card.passed, card.reasons
    monkeypatch.delitem(sys.modules, "plain_add")
    assert registry.make("mine/add-v0").levels == (1, 10)
