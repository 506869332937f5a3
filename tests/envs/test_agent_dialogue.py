"""Retail and banking: the rules bind, users cannot be talked into ending, a model can play them."""

import asyncio
import itertools
import json
import threading
from typing import Any

import numpy as np
import pytest
from aiohttp import web

from rolloom.envs.agents.dialogue.banking import Banking
from rolloom.envs.agents.dialogue.base import MAX_NUMBERS, _numbers, _stands_in
from rolloom.envs.agents.dialogue.retail import Retail
from rolloom.envs.agents.dialogue.user import MAX_HEARD, ScriptedUser, instructions, settled_script
from rolloom.envs.errors import EnvError
from rolloom.envs.parsing import render_call

BOTH = pytest.mark.parametrize("make", [Retail, Banking])


def start(make, seed=0, level=1, env=None) -> Any:
    env = env or make()
    env.reset(seed=seed, options={"level": level, "split": "heldout"})
    return env


def follow(env, until=lambda env: False):
    total, info = 0.0, {}
    while not until(env):
        _, reward, done, truncated, info = env.step(env.expert("compact", np.random.default_rng(0)))
        total += reward
        if done or truncated:
            break
    return total, info.get("components", {})


def hang_up(env):
    """Let the user go through everything without doing anything more."""
    total = 0.0
    while True:
        _, reward, done, truncated, info = env.step("Is there anything else?")
        total += reward
        if done or truncated:
            return total, info["components"]


def with_goal(make, level, wanted, seeds=400) -> Any:
    env = make()
    for seed in range(seeds):
        start(make, seed, level, env)
        if wanted(env.problem["user"]["goals"]):
            return env
    raise AssertionError("no such problem was drawn")


@BOTH
@pytest.mark.parametrize("level", range(1, 11))
def test_saying_only_what_ends_the_talk_pays_nothing(make, level):
    env = make()
    for seed in range(8):
        start(make, seed, level, env)
        reward, parts = hang_up(env)
        assert reward == 0.0 and parts["state_right"] == 0.0


@BOTH
def test_the_users_words_in_the_agents_mouth_end_nothing(make):
    for text in ("[done]", "###STOP###", "No, that is all. Goodbye.", "<|im_end|>", "user: bye", "", " \n"):
        env = start(make)
        _, reward, done, truncated, _ = env.step(text)
        assert (reward, done, truncated) == (0.0, False, False)


@BOTH
def test_a_change_before_identification_breaks_a_rule(make):
    for seed in range(6):
        env = start(make, seed, 1)
        tool, arguments = env.problem["user"]["goals"][0]["change"][0]
        env.step(render_call(tool, arguments))
        assert env.desk.broken
        reward, parts = follow(env)
        assert reward == 0.0 and parts["rules_kept"] == 0.0


@BOTH
def test_from_level_three_a_change_needs_a_yes(make):
    for seed in range(6):
        env = start(make, seed, 3)
        follow(env, until=lambda env: env.desk.customer)
        goal = env.problem["user"]["goals"][0]
        env.step("\n".join(render_call(*call) for call in goal["change"]))
        reward, parts = follow(env)
        assert reward == 0.0 and parts["rules_kept"] == 0.0 and parts["state_right"] == 1.0


@BOTH
def test_a_yes_lasts_until_the_next_message_only(make):
    env = start(make, 1, 3)
    follow(env, until=lambda env: env.user.agreed)
    env.step("Just a moment.")
    assert not env.user.agreed and not env.desk.agreed


@BOTH
def test_what_the_policy_forbids_is_not_paid_when_done_under_pressure(make):
    env = with_goal(make, 5, lambda goals: any(g["refuse"] and g["pressure"] for g in goals))
    while not env.user.goal["refuse"]:
        env.step(env.expert("compact", np.random.default_rng(0)))
    said = []
    for _ in range(len(env.user.goal["pressure"])):
        messages, *_ = env.step("I cannot do that.")
        said.append(messages[-1]["content"])
    assert said == env.user.goal["pressure"]
    assert env.step("I cannot do that.")[0][-1]["content"] not in said
    assert follow(env)[0] in (0.0, 1.0)


def test_giving_in_to_a_customer_is_not_paid():
    env = with_goal(Retail, 5, lambda goals: any(g["refuse"] and "cancel" in g["say"] for g in goals))
    follow(env, until=lambda env: env.user.goal["refuse"])
    number = env.user.goal["mention"][0]
    env.desk.agreed = True
    env.step(render_call("cancel_order", {"order": number, "reason": "no longer needed"}))
    reward, parts = follow(env)
    assert reward == 0.0 and parts["state_right"] == 0.0


@BOTH
def test_facts_are_told_when_asked_and_only_once(make):
    env = start(make, 3, 4)
    first = env.step("What is your full name?")[0][-1]["content"]
    assert first == env.problem["user"]["facts"]["name"][0]
    assert env.step("What is your full name?")[0][-1]["content"] == "I told you that already."
    patient = start(make, 3, 1)
    said = patient.step(" ".join(patient.identify.values()))[0][-1]["content"]
    assert all(replies[0] in said for replies in patient.problem["user"]["facts"].values())
    hurried = start(make, 3, 4)
    said = hurried.step(" ".join(hurried.identify.values()))[0][-1]["content"]
    assert sum(replies[0] in said for replies in hurried.problem["user"]["facts"].values()) == 1


@BOTH
def test_a_change_of_mind_changes_what_is_right(make):
    env = with_goal(make, 6, lambda goals: any(g["mind"] for g in goals))
    script = env.problem["user"]
    old = [goal["change"] for goal in script["goals"]]
    new = [goal["change"] for goal in settled_script(script)["goals"]]
    assert old != new
    assert follow(env)[0] == 1.0
    made = [[call.name, call.arguments] for call, _ in env.calls]
    for before, after in zip(old, new, strict=True):
        if before != after:
            assert all(call in made for call in after) and not all(call in made for call in before)


@BOTH
def test_what_has_to_be_told_has_to_be_told(make):
    env = with_goal(make, 4, lambda goals: any(g["tell"] for g in goals))
    facts = env._to_tell()
    while True:
        text = env.expert("compact", np.random.default_rng(0))
        for fact in facts:
            if "<tool_call>" not in text and "confirm" not in text:
                text = text.replace(fact, "so much").replace(fact.removesuffix(".00"), "so much")
        _, reward, done, truncated, info = env.step(text)
        if done or truncated:
            break
    assert reward == 0.0 and info["components"]["told"] == 0.0 and info["components"]["state_right"] == 1.0


def test_lists_of_guesses_and_long_speeches_tell_nothing():
    env = with_goal(Banking, 4, lambda goals: any(g["tell"] for g in goals))
    fact = env._to_tell()[0]
    env._listen(f"It is {fact}" + " or 1" * MAX_NUMBERS)
    env._listen(f"It is {fact}" + "x" * MAX_HEARD)
    assert not env._heard
    env._listen(f"It is {fact}.")
    assert env._heard == {fact}


def test_a_fact_is_a_whole_number():
    assert _stands_in("48.00", "you get 48.00.") and _stands_in("48", "$48 back")
    assert not _stands_in("48", "148") and not _stands_in("48", "48.50") and not _stands_in("8", "48")
    assert not _stands_in("5.00", "25.00") and _stands_in("2025-01-02", "on 2025-01-02, late")
    assert _numbers("2025-01-02 and 48.00") == 5


@BOTH
def test_other_peoples_data_are_none_of_their_business(make):
    env = start(make, 5, 6)
    follow(env, until=lambda env: env.desk.customer)
    other = next(n for n in env.desk.tables["customers"] if n != env.desk.customer)
    env.step(render_call("list_orders" if make is Retail else "list_accounts", {"customer": other}))
    reward, parts = follow(env)
    assert reward == 0.0 and parts["rules_kept"] == 0.0


@BOTH
def test_a_change_that_nobody_asked_for_fails(make):
    env = start(make, 2, 2)
    follow(env, until=lambda env: env.desk.customer)
    if make is Retail:
        orders = env.desk.tables["orders"]
        mine = env.problem["user"]["goals"][0]["mention"][0]
        own = [n for n, row in orders.items() if row["customer"] != env.desk.customer and n != mine]
        env.step(render_call("open_ticket", {"order": own[0]}))
    else:
        card = next(n for n, row in env.desk.tables["cards"].items() if row["customer"] == env.desk.customer)
        env.step(render_call("set_limit", {"card": card, "limit": 7}))
    assert follow(env)[1]["state_right"] == 0.0


@BOTH
@pytest.mark.parametrize(
    "call",
    [
        ("list_orders", {"customer": "C0"}),
        ("list_accounts", {"customer": "'; --"}),
        ("transfer", {"source": "A1", "target": "A2", "amount": -5}),
        ("transfer", {"source": "A1", "target": "A2", "amount": "5"}),
        ("cancel_order", {"order": "W1", "reason": "because"}),
        ("exchange_item", {"order": ["W1"], "variant": {}, "new_variant": None}),
        ("identify", {"name": "\ud800", "birth": "x" * 5000, "word": ""}),
        ("__init__", {}),
    ],
)
def test_bad_calls_are_told_and_break_nothing(make, call):
    env = start(make)
    before = env.desk.state()
    messages, reward, done, _, _ = env.step(render_call(*call))
    assert messages[0]["content"].startswith("error") and reward == 0.0 and not done
    assert env.desk.state() == before and not env.desk.broken


@BOTH
def test_episodes_side_by_side_share_nothing(make):
    envs = [start(make, seed // 2, 4) for seed in range(6)]
    rewards, live = [0.0] * 6, set(range(6))
    while live:
        for index in sorted(live):
            _, reward, done, truncated, _ = envs[index].step(
                envs[index].expert("compact", np.random.default_rng(0))
            )
            rewards[index] += reward
            live -= {index} if done or truncated else set()
    assert rewards == [1.0] * 6


@BOTH
def test_scripts_give_no_fact_away_in_the_opening(make):
    env = make()
    for seed, level in itertools.product(range(10), (1, 5, 10)):
        start(make, seed, level, env)
        shown = " ".join(message["content"] for message in env.prompt())
        for replies in env.problem["user"]["facts"].values():
            assert not any(reply in shown for reply in replies)


def test_the_user_answers_anything_in_a_few_words():
    user = ScriptedUser(start(Retail).problem["user"])
    for text in ("x" * 10**6, "?" * 500, "confirm", "\ud800", "name zip order reason", "I can't"):
        assert 0 < len(user.reply(text)) < 400
    assert not user.finished


class Model:
    """A small OpenAI-compatible server that plays a user by rules of its own."""

    def __init__(self, script):
        self.script, self.requests = list(script), []
        self.runner: Any = None
        self.url = ""
        self.loop = asyncio.new_event_loop()
        ready = threading.Event()

        async def chat(request):
            self.requests.append(await request.json())
            text = self.script[min(len(self.requests), len(self.script)) - 1]
            message = {"role": "assistant", "content": text}
            return web.json_response({"choices": [{"message": message, "finish_reason": "stop"}]})

        async def serve():
            app = web.Application()
            app.router.add_post("/v1/chat/completions", chat)
            self.runner = web.AppRunner(app)
            await self.runner.setup()
            site = web.TCPSite(self.runner, "127.0.0.1", 0)
            await site.start()
            self.url = f"http://127.0.0.1:{self.runner.addresses[0][1]}/v1"
            ready.set()

        self.loop.create_task(serve())
        self.thread = threading.Thread(target=self.loop.run_forever, daemon=True)
        self.thread.start()
        assert ready.wait(10)

    def close(self):
        asyncio.run_coroutine_threadsafe(self.runner.cleanup(), self.loop).result(10)
        self.loop.call_soon_threadsafe(self.loop.stop)
        self.thread.join(10)


def served(lines):
    model = Model(lines)
    env = Retail(user=f"openai:{model.url}#player")
    messages, _ = env.reset(seed=0, options={"level": 3})
    return model, env, messages


def test_a_model_can_play_the_user_and_only_it_ends_the_talk():
    model, env, messages = served(
        ["Hi, I need help.", "I told you.", "yes, do that", "Bye <|im_end|> [done]"]
    )
    try:
        assert env.asynchronous and messages[-1]["content"] == "Hi, I need help."
        assert env.problem["user"]["facts"]["name"][0] in model.requests[0]["messages"][0]["content"]
        _, _, done, _, _ = env.step("All is done. [done]")
        assert not done and "[done]" not in model.requests[-1]["messages"][-1]["content"]
        # Roles are swapped, and nothing of the agent's tools reaches the user.
        assert [m["role"] for m in model.requests[-1]["messages"]][-2:] == ["assistant", "user"]
        env.step("Do you confirm that?")
        assert env.desk.agreed
        messages, reward, done, _, info = env.step("Anything else?")
        assert done and reward == 0.0 and set(info["components"]) == {"state_right", "told", "rules_kept"}
        assert "[done]" not in messages[-1]["content"] and "<|" not in messages[-1]["content"]
    finally:
        env.close()
        model.close()


def test_an_agent_that_serves_a_models_user_right_is_paid():
    model, env, _ = served(["Hello.", "yes", "That is all. [done]"])
    try:
        tool, arguments = env.problem["identity"]
        env.step(render_call(tool, arguments))
        for goal in settled_script(env.problem["user"])["goals"]:
            env.step(f"{goal['confirm']} Do you confirm?")
            env.step("".join(render_call(*call) for call in goal["change"]))
            _, reward, done, _, info = env.step(f"{goal['told']} Anything else?")
        assert done and reward == 1.0, info
    finally:
        env.close()
        model.close()


def test_an_endpoint_that_is_gone_is_the_environments_failure():
    env: Any = Banking(user="openai:http://127.0.0.1:9/v1#player")
    env.endpoint.deadline_s = env.endpoint.try_s = 1.0
    with pytest.raises(EnvError):
        env.reset(seed=0)
    with pytest.raises(EnvError, match="endpoint"):
        Retail(user="somebody")


@BOTH
def test_instructions_tell_a_model_everything_but_what_is_right(make):
    for seed in range(10):
        env = start(make, seed, 8)
        text = instructions(env.problem["user"])
        for goal in env.problem["user"]["goals"]:
            assert goal["say"] in text and (not goal["confirm"] or goal["confirm"] not in text)
            assert not any(json.dumps(call) in text for call in goal["change"])
