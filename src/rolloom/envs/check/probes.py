"""The single checks. Each plays episodes within its share of the time and adds findings to the card."""

from __future__ import annotations

import json
import math
import os
import statistics
import subprocess
import sys
import time
import warnings
from collections import Counter
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
from gymnasium.utils.env_checker import check_env

from rolloom.envs import aio
from rolloom.envs.base import TextEnv
from rolloom.envs.check.card import Card
from rolloom.envs.check.policies import BLIND, HOSTILE, Policy, constant
from rolloom.envs.errors import told
from rolloom.envs.parsing import parse_completion
from rolloom.envs.spec import EnvSpec
from rolloom.envs.types import Message, Split

STYLES = ("verbose", "medium", "compact")
BAR = 0.05
"""A policy that does not look at the problem may earn this much on average, or the declared chance."""

MIN_EPISODES = 12
CLOSED_SET = 16
"""Fewer different answers than this are choices that a prompt may list."""

SPLITS: tuple[Split, Split] = ("train", "heldout")
Make = Callable[[], TextEnv]


class Clock:
    """Shares out the seconds a card may take.

    Args:
        seconds: of the whole card.

    Attributes:
        episode_s: seconds an episode of the gold policy took at the lowest level.
    """

    def __init__(self, seconds: float) -> None:
        self.seconds, self.started = seconds, time.monotonic()
        self.episode_s = 0.0

    def count(self, share: float, low: int, high: int) -> int:
        """Return how many episodes a share of the time has room for, within bounds."""
        return int(min(high, max(low, self.seconds * share / max(self.episode_s, 1e-6))))

    def until(self, share: float) -> float:
        """Return the moment at which a check that may use this share of the time has to stop."""
        return time.monotonic() + self.seconds * share


def play(
    env: TextEnv, act: Callable[[Sequence[Message]], str], messages: Sequence[Message]
) -> tuple[float, list[Message]]:
    """Play a running episode to its end; return its reward and the whole conversation."""
    conversation, total, over = list(messages), 0.0, False
    while not over:
        completion = act(conversation)
        conversation.append(Message(role="assistant", content=completion))
        added, reward, terminated, truncated, _ = env.step(completion)
        conversation += added
        total, over = total + reward, terminated or truncated
    return total, conversation


def gold_episode(
    env: TextEnv, seed: int, level: int, split: Split, style: Any = "compact"
) -> tuple[float, list[Message]]:
    """Play one problem with the environment's own expert."""
    messages, _ = env.reset(seed=seed, options={"level": level, "split": split})
    rng = np.random.default_rng(seed)
    return play(env, lambda _: env.expert(style, rng), messages)


def levels_of(env: TextEnv) -> list[int]:
    """Return the lowest, the middle and the highest level."""
    low, high = env.levels
    return sorted({low, (low + high) // 2, high})


def gold(card: Card, make: Make, clock: Clock, count_tokens: Callable[[str], int]) -> list[str]:
    """The expert scores 1.0 at every level tried, in every style; return its last answers at the lowest."""
    env, answers, short, played = make(), [], [], 0
    levels = levels_of(env)
    for level in levels:
        started, stop = time.monotonic(), clock.until(0.2 / len(levels))
        prompts, completions, turns = [], [], []
        for index in range(90):
            # Three, so that every style and both splits are played; more where there is time.
            if index >= 3 and time.monotonic() > stop:
                break
            split, style = SPLITS[index % 2], STYLES[index % 3]
            try:
                score, conversation = gold_episode(env, index // 2, level, split, style)
            except NotImplementedError:
                card.add("gold", "fail", "no right answer is known", "write gold() or expert()")
                return []
            played += 1
            if abs(score - 1.0) > 1e-6:
                short.append((level, index // 2, split, style, score))
            said = [m["content"] for m in conversation if m["role"] == "assistant"]
            prompts.append(
                count_tokens("\n".join(m["content"] for m in conversation[: -_rest(conversation)]))
            )
            completions.append(sum(map(count_tokens, said)))
            turns.append(len(said))
            if level == levels[0]:
                answers.append(parse_completion(said[-1]).content)
                if not card.example:
                    card.example = [dict(m) for m in conversation]  # type: ignore[misc]
        if level == levels[0]:
            clock.episode_s = (time.monotonic() - started) / len(turns)
        card.lengths[level] = {
            "prompt_tokens_median": statistics.median(prompts),
            "prompt_tokens_max": max(prompts),
            "completion_tokens_median": statistics.median(completions),
            "completion_tokens_max": max(completions),
            "turns_median": statistics.median(turns),
        }
    if short:
        level, seed, split, style, score = short[0]
        card.add(
            "gold", "fail",
            f"the expert scores below 1 on {len(short)} of {played} problems, first {score:g} at level "
            f"{level}, seed {seed}, {split}, {style}",
            f"look at it: rolloom envs show {card.id} --level {level} --seed {seed}",
        )  # fmt: skip
    else:
        card.add("gold", "pass", f"the expert scores 1.0 on {played} of {played} problems, levels {levels}")
    return answers


def _rest(conversation: Sequence[Message]) -> int:
    """Return how many messages of a conversation come after the opening."""
    first = next(i for i, message in enumerate(conversation) if message["role"] == "assistant")
    return len(conversation) - first


def wilson_low(successes: float, count: int) -> float:
    """Return the lower end of Wilson's interval of a mean in [0, 1], at four standard errors.

    Thirty policies are tried on every card, on more than a hundred environments: at three standard errors
    several would seem to be paid by luck.
    """
    z, p = 4.0, successes / count
    centre = p + z * z / (2 * count)
    return (centre - z * math.sqrt(p * (1 - p) / count + z * z / (4 * count * count))) / (1 + z * z / count)


def blind(card: Card, make: Make, clock: Clock, answers: list[str]) -> None:
    """Policies that do not solve the problem earn nothing; so do the environment's own attacks."""
    env = make()
    level = env.levels[0]
    policies = dict(BLIND)
    for answer, times in Counter(answers).most_common(2):
        if times > 1:
            policies[f"most common answer {answer[:20]!r}"] = constant(answer)
    chance = env.chance(level)
    bar = max(BAR, chance)
    failed, close, skipped = [], [], []
    enough = clock.until(0.5)
    for name, policy in policies.items():
        if time.monotonic() > enough:
            skipped.append(name)
            continue
        least = clock.count(0.3 / len(policies), 4, MIN_EPISODES)
        mean, count = _mean_reward(env, policy, level, least, clock.until(0.3 / len(policies)))
        card.policies[name] = round(mean, 4)
        if wilson_low(mean * count, count) > bar:
            failed.append(f"{name} earns {mean:.2f} on {count} problems")
        elif mean > bar:
            close.append(f"{name} earns {mean:.2f} on {count} problems")
    paid, tried = _attacks(env, level, clock.until(0.06))
    advice = "make the answer harder to guess, or declare what guessing pays in chance()"
    if failed:
        card.add("blind policies", "fail", f"{'; '.join(failed)}; at most {bar:.2f} was expected", advice)
    elif close:
        card.add("blind policies", "warn", f"{'; '.join(close)}: not clearly above {bar:.2f}", advice)
    else:
        best = max(card.policies, key=card.policies.__getitem__)
        text = f"{len(policies)} policies earn at most {card.policies[best]:.3f} ({best}), allowed {bar:.2f}"
        card.add("blind policies", "pass", text)
    if skipped:
        text = f"no time for {len(skipped)} of {len(policies)} policies: {', '.join(skipped)}"
        card.add("blind policies", "warn", text, "give it more --seconds")
    if chance > BAR:
        card.add("chance", "warn", f"guessing pays {chance:.2f} by the environment's own word")
    if paid:
        card.add("attacks", "fail", f"{len(paid)} of {tried} attacks of its own were paid: {', '.join(paid)}")
    elif tried:
        card.add("attacks", "pass", f"none of {tried} attacks of its own was paid")


def _mean_reward(env: TextEnv, policy: Policy, level: int, least: int, stop: float) -> tuple[float, int]:
    rewards: list[float] = []
    for seed in range(300):
        if seed >= least and time.monotonic() > stop:
            break
        messages, info = env.reset(seed=seed, options={"level": level, "split": "heldout"})
        rng, tools = np.random.default_rng(seed), info["tools"]
        rewards.append(play(env, lambda said, r=rng, t=tools: policy(said, t, r), messages)[0])
    return float(np.mean(rewards)), len(rewards)


def _attacks(env: TextEnv, level: int, stop: float) -> tuple[list[str], int]:
    paid: dict[str, None] = {}
    tried = 0
    for seed in range(20):
        env.reset(seed=seed, options={"level": level, "split": "train"})
        for name in env.attacks():
            if seed >= 2 and time.monotonic() > stop:
                return list(paid), tried
            messages, _ = env.reset(seed=seed, options={"level": level, "split": "train"})
            completion = env.attacks()[name]
            score, _ = play(env, lambda _, c=completion: c, messages)
            tried += 1
            if score > 1e-9:
                paid[f"{name} ({score:g})"] = None
    return list(paid), tried


def hostile(card: Card, make: Make, clock: Clock) -> None:
    """Hostile answers neither raise, nor hang, nor are paid, nor come back as forged chat tokens."""
    env, wrong, slowest, tried = make(), [], (0.0, ""), 0
    raised: dict[str, list[str]] = {}
    for name, text in list(HOSTILE.items())[: clock.count(0.3, 6, len(HOSTILE))]:
        tried += 1
        try:
            messages, _ = env.reset(seed=3, options={"level": env.levels[0]})
            for _ in range(2):
                started = time.monotonic()
                messages, reward, terminated, truncated, _ = env.step(text)
                slowest = max(slowest, (time.monotonic() - started, name))
                if reward > 1e-9:
                    wrong.append(f"{name} is paid {reward:g}")
                if any("<|im_" in m["content"] or "\x1b" in m["content"] for m in messages):
                    wrong.append(f"{name} comes back unescaped")
                if terminated or truncated:
                    break
        except Exception as error:
            raised.setdefault(told(error), []).append(name)
    for error, names in raised.items():
        first = ", ".join(names[:3]) + (", ..." if names[3:] else "")
        wrong.append(f"raises {error} at {first} ({len(names)} of {tried})")
    if wrong:
        advice = "an answer that cannot be read is worth 0; escape what is quoted with rolloom.envs.text"
        card.add("hostile answers", "fail", "; ".join(dict.fromkeys(wrong)), advice)
    elif slowest[0] > 5:
        card.add("hostile answers", "fail", f"{slowest[1]} takes {slowest[0]:.1f} s", "cap what is read")
    else:
        text = f"{tried} kinds held, the slowest in {slowest[0] * 1000:.0f} ms"
        card.add("hostile answers", "pass", text)


def determinism(card: Card, make: Make, clock: Clock, spec: EnvSpec, kwargs: dict[str, Any]) -> None:
    """A seed is one problem: on a second object, after other episodes, and in another process."""
    first, second = make(), make()
    # Twelve problems a seed: two splits and two levels, three times.
    seeds = range(clock.count(0.2 / 12, 1, 8))
    ours = digest(first, seeds)
    for seed in seeds:
        second.reset(seed=seed + 100)
    if ours != digest(second, seeds):
        card.add("determinism", "fail", "the same seed gave another problem on a second object",
                 "let the generator that is passed in be the only source of chance")  # fmt: skip
        return
    job = json.dumps({"spec": _spec_dict(spec), "kwargs": kwargs, "seeds": list(seeds)})
    child = subprocess.run(
        [sys.executable, "-m", "rolloom.envs.check.fresh"],
        input=job, capture_output=True, text=True, timeout=120, check=False,
        env={**os.environ, "PYTHONHASHSEED": "12345", "PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
    )  # fmt: skip
    if child.returncode:
        last = (child.stderr.strip().splitlines() or ["?"])[-1][:200]
        card.add("determinism", "fail", f"it cannot be made in a new process, as a worker would: {last}",
                 "put it at the top of an importable module")  # fmt: skip
    elif json.loads(child.stdout) != ours:
        card.add("determinism", "fail", "the same seed gave another problem in another process",
                 "do not depend on the order of sets, on hash() or on the time")  # fmt: skip
    else:
        card.add("determinism", "pass", f"{len(ours)} problems alike on two objects and in a new process")


def digest(env: TextEnv, seeds: Sequence[int]) -> list[str]:
    """Return the problems of some seeds, as text that tells them apart."""
    found = []
    for seed in seeds:
        for split in SPLITS:
            for level in levels_of(env)[:2]:
                messages, info = env.reset(seed=seed, options={"level": level, "split": split})
                tools = [tool.to_openai() for tool in info["tools"]]
                found.append(json.dumps([info["key"], messages, tools], sort_keys=True)[:20_000])
    return found


def _spec_dict(spec: EnvSpec) -> dict[str, Any]:
    names = ("id", "entry_point", "kind", "description", "kwargs", "requires", "file")
    return {name: getattr(spec, name) for name in names}


def splits(card: Card, make: Make, clock: Clock) -> None:
    """Train and held-out problems never meet, by key and by what the policy reads; the pool is large."""
    env = make()
    keys: dict[str, Counter[str]] = {split: Counter() for split in SPLITS}
    prompts: dict[str, set[str]] = {split: set() for split in SPLITS}
    for split in SPLITS:
        stop = clock.until(0.06)
        for seed in range(400):
            if seed >= MIN_EPISODES and time.monotonic() > stop:
                break
            messages, info = env.reset(seed=seed, options={"level": env.levels[0], "split": split})
            keys[split][info["key"]] += 1
            prompts[split].add(json.dumps(messages) + json.dumps([t.name for t in info["tools"]]))
    card.pool = {split: len(found) for split, found in keys.items()}
    shared = keys["train"].keys() & keys["heldout"].keys()
    if shared:
        card.add("splits", "fail", f"{len(shared)} problems are in both splits")
        return
    same = prompts["train"] & prompts["heldout"]
    # What is asked by the way, through tools or in later turns, may tell problems apart as well.
    if same and not env.tools() and env.max_turns == 1:
        card.add("splits", "fail", f"{len(same)} prompts are in both splits under different keys",
                 "let key_text() name what the policy reads, nothing else")  # fmt: skip
        return
    drawn, distinct = sum(keys["heldout"].values()), len(keys["heldout"])
    text = f"disjoint; {distinct} of {drawn} held-out problems distinct at the lowest level"
    if distinct < 20 and distinct < drawn:
        card.add("splits", "warn", text, "draw from more problems: held-out figures will be coarse")
    else:
        card.add("splits", "pass", text)


def leakage(card: Card, make: Make, clock: Clock) -> None:
    """The answer does not stand in the prompt more often than other problems' answers do."""
    env = make()
    if getattr(env, "answer_in_prompt", False):
        card.add("leakage", "pass", "finding the answer in the prompt is the task, by the environment's word")
        return
    prompts, answers, stop = [], [], clock.until(0.1)
    for seed in range(60):
        if seed >= MIN_EPISODES and time.monotonic() > stop:
            break
        try:
            conversation = gold_episode(env, seed, env.levels[0], "train")[1]
        except NotImplementedError:
            return
        first = next(i for i, m in enumerate(conversation) if m["role"] == "assistant")
        prompts.append("\n".join(m["content"] for m in conversation[:first]).lower())
        said = [m["content"] for m in conversation if m["role"] == "assistant"]
        answers.append(parse_completion(said[-1]).content.lower().strip())
    common, times = Counter(answers).most_common(1)[0]
    if times > len(answers) / 2:
        card.add("leakage", "pass", f"no secret: most episodes end with {common[:40]!r}")
        return
    if len(set(answers)) < CLOSED_SET:
        # Moves of a game or letters of a choice stand in the prompt; the blind policies guess among them.
        card.add("leakage", "pass", f"no secret: episodes end with one of {len(set(answers))} answers")
        return
    own = [_stands_in(answer, prompt) for answer, prompt in zip(answers, prompts, strict=True)]
    others = [
        _stands_in(answers[i], prompts[(i + shift) % len(prompts)])
        for i in range(len(answers))
        for shift in (7, 13, 29)
        if answers[i] != answers[(i + shift) % len(answers)]
    ]
    rate, base = float(np.mean(own)), float(np.mean(others)) if others else 0.0
    text = f"the answer stands in the prompt of {rate:.0%} of the problems, other answers in {base:.0%}"
    if rate > 0.5 and rate - base > 0.4:
        card.add(
            "leakage", "fail", text, "take it out, or declare `answer_in_prompt = True` if it must be found"
        )
    elif rate - base > 0.2:
        card.add("leakage", "warn", text, "see whether the prompt gives the answer away")
    else:
        card.add("leakage", "pass", text)


def _stands_in(answer: str, prompt: str) -> bool:
    """Return True when an answer stands in a prompt as a whole word or phrase."""
    if not answer or answer.startswith("<tool_call>"):
        return False
    position = prompt.find(answer)
    while position >= 0:
        end = position + len(answer)
        before, after = prompt[position - 1 : position], prompt[end : end + 1]
        if not (before.isalnum() and answer[0].isalnum()) and not (after.isalnum() and answer[-1].isalnum()):
            return True
        position = prompt.find(answer, position + 1)
    return False


def isolation(card: Card, make: Make, clock: Clock) -> None:
    """Episodes that run side by side, or one after another on one object, are as if each were alone."""
    seeds = range(clock.count(0.2 / 3, 2, 6))
    alone = {seed: _transcript(make(), seed) for seed in seeds}
    envs = {seed: make() for seed in seeds}
    opened: dict[int, list[Message]] = {}
    level = make().levels[0]
    rngs = {seed: np.random.default_rng(seed) for seed in seeds}
    for seed in seeds:
        opened[seed] = list(envs[seed].reset(seed=seed, options={"level": level})[0])
    live = set(seeds)
    while live:
        for seed in sorted(live):
            completion = envs[seed].expert("medium", rngs[seed])
            opened[seed].append(Message(role="assistant", content=completion))
            messages, _, terminated, truncated, _ = envs[seed].step(completion)
            opened[seed] += messages
            if terminated or truncated:
                live.discard(seed)
    reused = make()
    after = {seed: _transcript(reused, seed) for seed in reversed(seeds)}
    mixed = [seed for seed in seeds if opened[seed] != alone[seed]]
    stale = [seed for seed in seeds if after[seed] != alone[seed]]
    if mixed or stale:
        how = "interleaved with others" if mixed else "after another episode on the same object"
        card.add("state", "fail", f"{len(mixed or stale)} of {len(seeds)} episodes ran differently {how}",
                 "keep an episode's state in attributes that begin() or reset() sets")  # fmt: skip
    else:
        card.add("state", "pass", f"{len(seeds)} interleaved episodes ran as they did alone")


def _transcript(env: TextEnv, seed: int) -> list[Message]:
    messages, _ = env.reset(seed=seed, options={"level": env.levels[0]})
    rng = np.random.default_rng(seed)
    return play(env, lambda _: env.expert("medium", rng), messages)[1]


def gymnasium_checker(card: Card, make: Make) -> None:
    """Gymnasium's own `check_env`."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            check_env(make(), skip_render_check=True)
    except Exception as error:  # the checker asserts, the environment raises
        card.add("gymnasium", "fail", f"check_env: {type(error).__name__}: {str(error)[:200]}")
    else:
        card.add("gymnasium", "pass", "gymnasium.utils.env_checker.check_env")


def throughput(card: Card, make: Make, clock: Clock) -> None:
    """Episodes a second of the gold policy at 1, 16 and 256 concurrent episodes; no verdict."""
    env = make()
    level = env.levels[0]
    resets, steps = [], []
    for seed in range(clock.count(0.1, 3, 12)):
        started = time.perf_counter()
        env.reset(seed=seed, options={"level": level})
        resets.append(time.perf_counter() - started)
        completion = env.expert("compact", np.random.default_rng(seed))
        started = time.perf_counter()
        env.step(completion)
        steps.append(time.perf_counter() - started)
    card.speed["reset_ms"] = round(statistics.median(resets) * 1000, 3)
    card.speed["step_ms"] = round(statistics.median(steps) * 1000, 3)
    for width in (1, 16, 256):
        # Each of them plays at least one episode to its end.
        if width * clock.episode_s > clock.seconds:
            continue
        card.speed[f"episodes_per_s_at_{width}"] = round(_rate(make, width, level, clock.seconds * 0.04), 1)


def _rate(make: Make, width: int, level: int, seconds: float) -> float:
    stop = time.monotonic() + max(0.1, seconds)
    envs = [make()]
    # Objects that are slow to make (a server each, say) are given half the time.
    while len(envs) < width and time.monotonic() < stop - seconds / 2:
        envs.append(make())
    stop = time.monotonic() + max(0.1, seconds / 2)
    started = time.monotonic()
    try:
        if envs[0].asynchronous:
            running = [aio.spawn(_play_on_loop(env, i, level, stop)) for i, env in enumerate(envs)]
            total = sum(future.result() for future in running)
        else:
            with ThreadPoolExecutor(len(envs)) as pool:
                total = sum(pool.map(lambda at: _play_here(envs[at], at, level, stop), range(len(envs))))
        return total / max(1e-9, time.monotonic() - started)
    finally:
        for env in envs:
            env.close()


def _play_here(env: TextEnv, first: int, level: int, stop: float) -> int:
    done = 0
    while time.monotonic() < stop or not done:
        gold_episode(env, first + done * 256, level, "train")
        done += 1
    return done


async def _play_on_loop(env: TextEnv, first: int, level: int, stop: float) -> int:
    done = 0
    while time.monotonic() < stop or not done:
        await env.areset(seed=first + done * 256, options={"level": level, "split": "train"})
        rng, over = np.random.default_rng(first), False
        while not over:
            _, _, terminated, truncated, _ = await env.astep(env.expert("compact", rng))
            over = terminated or truncated
        done += 1
    return done
