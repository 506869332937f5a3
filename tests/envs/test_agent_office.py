"""The office: the final state decides, SQL stays data, doing nothing never pays, nothing is shared."""

import json
from collections import Counter
from random import Random

import numpy as np
import pytest

from rolloom.envs.agents.company.env import LEVELS, Office
from rolloom.envs.agents.company.planner import TEMPLATES, Planner, UnsuitableError
from rolloom.envs.agents.company.tools import Company
from rolloom.envs.errors import ToolError
from rolloom.envs.parsing import render_call
from rolloom.envs.tool import tools_of
from rolloom.envs.types import ToolCall


def start(seed=0, level=1, split="heldout", env=None):
    env = env or Office()
    env.reset(seed=seed, options={"level": level, "split": split})
    return env


def follow(env, turns=10_000):
    total = 0.0
    for _ in range(turns):
        _, reward, done, truncated, _ = env.step(env.expert("compact", np.random.default_rng(0)))
        total += reward
        if done or truncated:
            break
    return total


def changes(env):
    return [
        s for s in env.problem["plan"] if not s["tool"].startswith(("search_", "find_", "read_", "count_"))
    ]


def finish(env):
    answers = env.problem["answers"]
    return env.step(f"Done.\nanswer: {'; '.join(answers)}" if answers else "Done.")[1]


def test_there_are_twenty_five_tools_and_templates_of_five_domains_and_across():
    company = Company(0, 30)
    assert len(tools_of(company)) >= 25
    assert len(TEMPLATES) >= 25
    per_domain = Counter(template.domain for template in TEMPLATES.values())
    assert set(per_domain) == {"email", "calendar", "crm", "tasks", "files", "cross"}
    assert min(per_domain.values()) >= 3
    assert len({template.tier for template in TEMPLATES.values()}) == 4


@pytest.mark.parametrize("name", sorted(TEMPLATES))
def test_every_template_can_be_drawn_and_never_asks_for_nothing(name):
    written = 0
    for seed in range(30):
        company = Company(seed, 60)
        before = company.state()
        planner = Planner(company, Random(seed), vague=bool(seed % 2))
        try:
            request = TEMPLATES[name].write(planner)
        except UnsuitableError:
            continue
        assert request and "{" not in request
        # What is right is a change, or an answer that only the rows give.
        assert company.state() != before or planner.answers
        written += 1
    assert written >= 8


def test_answers_where_nothing_changes_are_hard_to_guess():
    found = Counter()
    env = Office()
    for seed in range(200):
        start(seed, 5, env=env)
        if not changes(env):
            assert env.problem["answers"]
            found[tuple(env.problem["answers"])] += 1
    assert sum(found.values()) >= 15 and found.most_common(1)[0][1] <= 2


@pytest.mark.parametrize("level", range(1, 11))
def test_doing_nothing_never_pays(level):
    env = Office()
    for seed in range(6):
        for text in ("Done.", "answer: none", "", "answer: 0"):
            start(seed, level, env=env)
            assert env.step(text)[1] == 0.0


def test_one_change_too_many_fails_whatever_it_is():
    extra = [
        ("create_task", {"title": "x", "owner": None, "board": "mobile", "due": "2025-01-01"}),
        ("send_email", {"to": "a@b.example", "subject": "hello", "body": "x"}),
        ("create_plot", {"source": "direct", "first": "2025-01-01", "last": "2025-01-02"}),
    ]
    for seed in range(12):
        env = start(seed, 3)
        name, arguments = extra[seed % 3]
        plan = env.problem["plan"]
        if "owner" in arguments:
            arguments = {**arguments, "owner": env.company.rows("SELECT email FROM employees")[0][0]}
        env.step(render_call(name, arguments))
        assert not env.calls[-1][1].startswith("error")
        for step in changes(env):
            env.step(render_call(step["tool"], step["args"]))
        assert finish(env) == 0.0, plan


def test_one_change_too_few_fails():
    tried = 0
    for seed in range(40):
        env = start(seed, 5)
        steps = changes(env)
        if len(steps) < 2:
            continue
        tried += 1
        for step in steps[1:]:
            env.step(render_call(step["tool"], step["args"]))
        assert finish(env) == 0.0
    assert tried >= 5


def test_the_order_of_changes_reads_case_and_spacing_do_not_count():
    for seed in range(40):
        env = start(seed, 4)
        for step in reversed(changes(env)):
            arguments = {
                k: f" {v.upper()} " if k in ("body", "title") else v for k, v in step["args"].items()
            }
            env.step(render_call("find_employees", {}) + render_call(step["tool"], arguments))
        assert finish(env) == 1.0, env.problem["request"]


def test_a_wrong_answer_fails_where_one_is_asked_for():
    tried = 0
    for seed in range(60):
        env = start(seed, 5)
        if not env.problem["answers"]:
            continue
        tried += 1
        for step in changes(env):
            env.step(render_call(step["tool"], step["args"]))
        assert env.step("Done.\nanswer: 4711")[1] == 0.0
    assert tried >= 5


def test_the_expert_goes_on_after_reads_and_errors_of_another_policy():
    for seed in range(20):
        env = start(seed, 4)
        env.max_turns += 2
        env.step(render_call("search_orders", {"page": 1}) + render_call("search_orders", {"page": 99}))
        env.step(render_call("nothing", {}))
        assert follow(env) == 1.0


def test_the_expert_takes_back_what_another_policy_did_where_a_tool_can():
    for seed in range(10):
        env = start(seed, 3)
        env.max_turns += 4
        wanted = {(s["tool"], s["args"].get("id")) for s in changes(env)}
        task = next(
            n for (n,) in env.company.rows("SELECT id FROM tasks") if ("update_task", n) not in wanted
        )
        mail = next(
            n for (n,) in env.company.rows("SELECT id FROM emails") if ("update_email", n) not in wanted
        )
        env.step(
            render_call("update_task", {"id": task, "due": "2031-01-01", "board": "mobile"})
            + render_call("update_email", {"id": mail, "folder": "spam"})
            + render_call("send_email", {"to": "a@b.example", "subject": "x", "body": "x"})
        )
        assert follow(env) == 1.0


def test_injections_are_data():
    company = Company(3, 40)
    before = company.state()
    evil = [
        "x' OR '1'='1",
        "'; DROP TABLE emails; --",
        '" OR 1=1 --',
        "%",
        "_",
        "\\",
        "\0",
        "?",
        ":1",
        "a" * 4000,
    ]
    for text in evil:
        assert json.loads(company.find_employees(name=text))["total"] == 0
        assert json.loads(company.search_emails(text=text))["total"] == 0
        assert json.loads(company.search_customers(company=text))["total"] == 0
        assert (
            json.loads(company.search_tasks(due_before=text) if text > "3" else '{"total": 0}')["total"] >= 0
        )
    assert company.state() == before
    company.send_email(to="a@b.example", subject=evil[1], body=evil[0])
    assert company.rows("SELECT subject FROM emails WHERE folder = 'sent'") == [(evil[1],)]


@pytest.mark.parametrize(
    "call",
    [
        ("search_emails", {"page": 0}),
        ("search_emails", {"page": -1}),
        ("search_emails", {"page": 10**17}),
        ("search_emails", {"page": "1"}),
        ("search_emails", {"text": "\ud800"}),
        ("search_emails", {"text": "x" * 5000}),
        ("delete_email", {"id": True}),
        ("delete_email", {"id": 2**63}),
        ("delete_email", {"id": 1}),
        ("update_order", {"id": 4000, "status": "stolen"}),
        ("update_email", {"id": 1}),
        ("create_event", {"title": "x", "person": "nobody", "day": "2025-01-01", "start": "10:00"}),
        ("count_visits", {"first": "yesterday", "last": "2025-99-99"}),
        ("create_order", {"customer": 1, "item": "x", "quantity": 10**15, "price": 1}),
    ],
)
def test_bad_calls_are_told_and_change_nothing(call):
    env = start(1, 5)
    before = env.company.state()
    messages, reward, done, _, _ = env.step(render_call(*call))
    assert messages[0]["content"].startswith("error") and reward == 0.0 and not done
    assert env.company.state() == before
    messages[0]["content"].encode()


def test_results_come_in_pages():
    company = Company(5, 100)
    seen = []
    pages = json.loads(company.search_tasks())["pages"]
    for page in range(1, pages + 1):
        rows = json.loads(company.search_tasks(page=page))["rows"]
        assert len(rows) <= 10
        seen += [row["id"] for row in rows]
    assert len(seen) == len(set(seen)) == 100
    with pytest.raises(ToolError, match="page"):
        company.search_tasks(page=pages + 1)


def test_a_company_is_its_seed():
    assert Company(7, 50).state() == Company(7, 50).state() != Company(8, 50).state()
    for rows in (30, 60, 100):
        company = Company(1, rows)
        for table in ("emails", "events", "orders", "tasks", "files"):
            assert company.rows(f"SELECT count(*) FROM {table}")[0][0] == rows


def test_taking_back_leaves_no_trace():
    company = Company(2, 30)
    before = company.state()
    with company.undone():
        number = company.rows("SELECT id FROM emails")[0][0]
        company.delete_email(number)
        assert company.state() != before and not company.untouched
    assert company.state() == before and company.untouched
    company.delete_email(number)
    with company.undone():
        company.send_email(to="a@b", subject="s", body="b")
    assert not company.untouched


def test_episodes_side_by_side_share_nothing():
    envs = [start(seed % 3, 5) for seed in range(6)]
    for env in envs[3:]:
        env.step(render_call("send_email", {"to": "a@b.example", "subject": "mine", "body": "x"}))
    assert [len(env.company.rows("SELECT 1 FROM emails WHERE subject = 'mine'")) for env in envs] == [
        0
    ] * 3 + [1] * 3
    assert [follow(env) for env in envs] == [1.0] * 6


def test_an_episode_does_not_start_in_the_last_ones_company():
    env = start(4, 3)
    env.step(render_call("send_email", {"to": "a@b.example", "subject": "x", "body": "x"}))
    for seed in (4, 4, 5):
        assert follow(start(seed, 3, env=env)) == 1.0


def test_levels_get_harder():
    env = Office()
    lengths = []
    for level in (1, 4, 7, 10):
        lengths.append(np.mean([len(start(seed, level, env=env).problem["plan"]) for seed in range(15)]))
    assert lengths == sorted(lengths) and lengths[-1] > 5 * lengths[0]
    assert [d.rows for d in LEVELS] == sorted(d.rows for d in LEVELS)
    start(0, 1, env=env)
    assert len(env.tools()) < 15
    start(0, 3, env=env)
    assert len(env.tools()) >= 25


def test_calls_are_recorded_with_their_text():
    env = start(0, 3)
    env.step(render_call("find_employees", {"name": "zzz"}))
    assert env.calls == [(ToolCall("find_employees", {"name": "zzz"}), env.calls[0][1])]
    assert json.loads(env.calls[0][1])["total"] == 0
