"""The user of a dialogue: played by rules that anybody can read, or by a model.

A problem's `user` is JSON: `{"facts": {topic: [replies]}, "goals": [...], "patient": bool}`. A goal is

    say       what the user opens it with          facts    more topics, known while the goal is current
    mention   words that a question for a yes has  refuse   the policy forbids it: nothing must change
              to contain                           pressure what the user says after each refusal
    mind      `{"say", "mention", ...}`: fields that change when the user is first asked to confirm

The user ends the talk, never the agent: whatever the agent writes is only matched against a few words.
"""

from __future__ import annotations

from typing import Any

from rolloom.envs.endpoint import ChatEndpoint
from rolloom.envs.text import safe_text

MAX_HEARD = 800
TOPICS = {
    "name": ("name",),
    "zip": ("zip", "postal"),
    "birth": ("birth",),
    "word": ("security word", "password", "pass word"),
    "order": ("order number", "order id", "which order", "what order"),
    "item": ("which item", "what item", "which product"),
    "option": ("option", "which colour", "which color", "variant"),
    "address": ("address", "where to"),
    "reason": ("reason",),
    "card": ("which card", "card number", "last four"),
    "account": ("which account", "account number", "from which", "to which"),
    "amount": ("amount", "how much"),
    "merchant": ("which payment", "which transaction", "merchant", "which fee"),
    "limit": ("limit",),
}
"""Words in an agent's message that count as asking for a fact."""

BROAD = {
    **{"order": "order", "item": "item", "option": "instead", "reason": "why", "card": "card"},
    **{"account": "account", "merchant": "payment", "address": "where"},
}
"""Words that count as asking for a fact in a message with a question mark."""

REFUSALS = ("cannot", "can't", "can not", "not possible", "unable", "not allowed", "against our policy")
MORE = "anything else"
DONE = "[done]"


class ScriptedUser:
    """A user who follows rules: tells facts when asked, once; insists when refused; changes their mind.

    Attributes:
        told: topics told so far, with how many of their replies have been given.
        agreed: the last reply was a yes.
        finished: the user has hung up.
    """

    def __init__(self, script: dict[str, Any]) -> None:
        self.script = script
        self.goals: list[dict[str, Any]] = [dict(goal) for goal in script["goals"]]
        self.current = 0
        self.told: dict[str, int] = {}
        self.pressed = 0
        self.agreed = False
        self.finished = False

    @property
    def goal(self) -> dict[str, Any]:
        """What the user is after now."""
        return self.goals[min(self.current, len(self.goals) - 1)]

    def replies(self, topic: str) -> list[str]:
        """Return what the user can say about a topic now."""
        return self.goal["facts"].get(topic) or self.script["facts"].get(topic, [])

    def key(self, topic: str) -> str:
        """Return under what name a topic counts as told: a goal's facts are its own."""
        return f"{topic} {self.current}" if topic in self.goal["facts"] else topic

    def knows(self, topic: str) -> bool:
        """Return whether a topic has a reply that has not been given."""
        return self.told.get(self.key(topic), 0) < len(self.replies(topic))

    def open(self) -> str:
        """Return the first message."""
        return self.goal["say"]

    def reply(self, text: str) -> str:
        """Return the answer to an agent's message."""
        self.agreed = False
        heard = " ".join(text.lower().split())
        if not heard:
            return "Hello? Are you still there?"
        if len(heard) > MAX_HEARD:
            return "That is too much for me to read. Can you say it in a few words?"
        if MORE in heard:
            return self._move_on()
        asked = [topic for topic in TOPICS if self.replies(topic) and _asks(heard, topic)]
        new = [topic for topic in asked if self.knows(topic)]
        if "confirm" in heard and all(word.lower() in heard for word in self.goal["mention"]):
            return self._confirm()
        if new:
            return self._tell(new if self.script["patient"] else new[:1])
        if any(word in heard for word in REFUSALS):
            return self._insist() or "Hm. All right then."
        if asked:
            return "I told you that already."
        if "confirm" in heard:
            return "Confirm what? That is not what I asked for."
        return "I do not know what you need from me. What should I tell you?"

    def _move_on(self) -> str:
        if self.goal["refuse"] and (line := self._insist()):
            return line
        self.current, self.pressed = self.current + 1, 0
        if self.current >= len(self.goals):
            self.finished = True
            return "No, that is all. Goodbye."
        return self.goal["say"]

    def _confirm(self) -> str:
        mind = self.goal.get("mind")
        if mind:
            changed = {**self.goal, **mind, "say": self.goal["say"], "mind": None}
            self.goals[self.current] = changed
            return mind["say"]
        self.agreed = True
        return "Yes, please do that."

    def _insist(self) -> str:
        if self.pressed < len(self.goal["pressure"]):
            self.pressed += 1
            return self.goal["pressure"][self.pressed - 1]
        return ""

    def _tell(self, topics: list[str]) -> str:
        lines = []
        for topic in topics:
            key = self.key(topic)
            count = self.told.get(key, 0)
            lines.append(self.replies(topic)[count])
            self.told[key] = count + 1
        return " ".join(lines)


def _asks(heard: str, topic: str) -> bool:
    broad = BROAD.get(topic)
    return any(words in heard for words in TOPICS[topic]) or (
        broad is not None and "?" in heard and broad in heard
    )


class ModelUser:
    """A user played by a model behind an OpenAI-compatible endpoint.

    Args:
        script: see the module.
        endpoint: where the model is.
    """

    def __init__(self, script: dict[str, Any], endpoint: ChatEndpoint) -> None:
        self.script, self.endpoint = script, endpoint
        self.agreed = False
        self.finished = False
        # For the model the agent is the user: roles are swapped.
        self.messages = [
            {"role": "system", "content": instructions(script)},
            {"role": "user", "content": "Hello, how can I help you?"},
        ]

    async def open(self) -> str:
        """Return the first message."""
        return await self._say()

    async def reply(self, text: str) -> str:
        """Return the answer to an agent's message; only the model's own words can end the talk."""
        heard = safe_text(text, MAX_HEARD).replace(DONE, "done")
        self.messages.append({"role": "user", "content": heard or "(silence)"})
        said = await self._say()
        self.agreed = "confirm" in heard.lower() and said.lower().lstrip().startswith("yes")
        return said

    async def _say(self) -> str:
        result = await self.endpoint.chat(self.messages, temperature=0.7, max_tokens=300)
        text = result.text.rpartition("</think>")[2].strip()
        self.messages.append({"role": "assistant", "content": text})
        self.finished = DONE in text
        return safe_text(text.replace(DONE, "").strip() or "Goodbye.", MAX_HEARD)


def instructions(script: dict[str, Any]) -> str:
    """Return what a model is told in order to play a user."""
    facts = "\n".join(f"- {topic}: {replies[-1]}" for topic, replies in script["facts"].items())
    goals = []
    for number, goal in enumerate(script["goals"], 1):
        mind = goal.get("mind") or {}
        lines = [f"{number}. {goal['say']}"]
        lines += [f"   {topic}: {replies[-1]}" for topic, replies in goal["facts"].items()]
        lines += [f"   In the end you want this instead: {mind['say']}"] if mind else []
        lines += [f'   When refused, insist: "{line}"' for line in goal["pressure"]]
        goals.append("\n".join(lines))
    return (
        "You play a customer who talks to a service agent. Stay in that role and write only what the customer"
        " says, in one or two sentences. Never tell a fact before you are asked for it, never invent facts.\n"
        f"About you:\n{facts}\nWhat you want, one after the other:\n" + "\n".join(goals) + "\n"
        "When the agent asks you to confirm what you want, start your reply with yes; when it is not what you"
        f" want, with no. When everything has been dealt with, or refused for good, write {DONE}."
    )


def settled_script(script: dict[str, Any]) -> dict[str, Any]:
    """Return a script as it is after every change of mind."""
    goals = []
    for goal in script["goals"]:
        mind = goal.get("mind") or {}
        goals.append({**goal, **mind, "say": goal["say"]})
    return {**script, "goals": goals}
