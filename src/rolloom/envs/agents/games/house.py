"""The house of the adventure: what commands do, what one sees, and a planner that knows the next command.

State is JSON: where the player is, where every item is (a room, a container, or `you`), which doors and
containers are locked, which containers are open.
"""

from __future__ import annotations

import copy
from collections import deque
from typing import Any

OPPOSITE = {"north": "south", "south": "north", "east": "west", "west": "east"}
YOU = "you"
LAMP = "lamp"
UNKNOWN = "You do not understand that. Commands: " + (
    "look, inventory, go DIRECTION, take ITEM, drop ITEM, open CONTAINER, take ITEM from CONTAINER,"
    " put ITEM in CONTAINER, unlock DIRECTION with KEY, unlock CONTAINER with KEY"
)


class House:
    """One game.

    Args:
        problem: `{"rooms": {room: {direction: room}}, "locks": {"room direction" or container: key},
            "containers": {container: room}, "items": {item: place}, "dark": [room], "open": [container],
            "player": room, "goals": [[item, place]]}`; a locked door stands in `locks` from both its sides.
    """

    def __init__(self, problem: dict[str, Any]) -> None:
        self.rooms: dict[str, dict[str, str]] = problem["rooms"]
        self.containers: dict[str, str] = problem["containers"]
        self.dark = set(problem["dark"])
        self.goals: list[list[str]] = problem["goals"]
        self.player: str = problem["player"]
        self.items: dict[str, str] = copy.copy(problem["items"])
        self.locks: dict[str, str] = copy.copy(problem["locks"])
        self.open = set(problem["open"])

    # -- seeing ----------------------------------------------------------------------------------------------

    def won(self) -> bool:
        """Return whether every item is where it should be."""
        return all(self.items[item] == place for item, place in self.goals)

    def sees(self) -> bool:
        """Return whether the room is lit, or the player has the lamp."""
        return self.player not in self.dark or self.items.get(LAMP) in (YOU, self.player)

    def here(self, place: str) -> list[str]:
        """Return the items in a place, in order of name."""
        return sorted(item for item, where in self.items.items() if where == place)

    def look(self) -> str:
        """Return what the player sees."""
        exits = []
        for direction, _ in sorted(self.rooms[self.player].items()):
            key = self.locks.get(f"{self.player} {direction}")
            exits.append(f"{direction} (locked, {key.split()[0]} lock)" if key else direction)
        text = f"You are in the {self.player}. Exits: {', '.join(exits)}."
        if not self.sees():
            return text + " It is too dark to see anything else."
        things = self.here(self.player)
        for container, room in sorted(self.containers.items()):
            if room != self.player:
                continue
            if container in self.locks:
                things.append(f"{container} (locked, {self.locks[container].split()[0]} lock)")
            elif container in self.open:
                things.append(f"{container} (open: {', '.join(self.here(container)) or 'empty'})")
            else:
                things.append(f"{container} (closed)")
        return text + f" You see: {', '.join(things) or 'nothing'}."

    # -- doing -----------------------------------------------------------------------------------------------

    def do(self, command: str) -> str:
        """Carry out a command and return what the game says."""
        words = command.lower().split()
        match words:
            case ["look"]:
                return self.look()
            case ["inventory"]:
                return f"You carry: {', '.join(self.here(YOU)) or 'nothing'}."
            case ["go", direction]:
                return self._go(direction)
            case ["unlock", *rest] if "with" in rest:
                split = rest.index("with")
                return self._unlock(" ".join(rest[:split]), " ".join(rest[split + 1 :]))
            case ["open", *rest]:
                return self._open(" ".join(rest))
            case ["take", *rest] if "from" in rest:
                split = rest.index("from")
                return self._take_from(" ".join(rest[:split]), " ".join(rest[split + 1 :]))
            case ["take", *rest]:
                return self._move(" ".join(rest), self.player, YOU, "Taken.")
            case ["drop", *rest]:
                return self._move(" ".join(rest), YOU, self.player, "Dropped.")
            case ["put", *rest] if "in" in rest:
                split = rest.index("in")
                return self._put_in(" ".join(rest[:split]), " ".join(rest[split + 1 :]))
        return UNKNOWN

    def _go(self, direction: str) -> str:
        room = self.rooms[self.player].get(direction)
        if room is None:
            return "You cannot go that way."
        if f"{self.player} {direction}" in self.locks:
            return "The door is locked."
        self.player = room
        return self.look()

    def _unlock(self, what: str, key: str) -> str:
        name = what if what in self.containers else f"{self.player} {what}"
        if name not in self.locks or (what in self.containers and not self._near(what)):
            return "There is no such lock here."
        if self.items.get(key) != YOU:
            return "You do not carry that."
        if self.locks[name] != key:
            return "The key does not fit."
        del self.locks[name]
        if what not in self.containers:
            self.locks.pop(f"{self.rooms[self.player][what]} {OPPOSITE[what]}", None)
        return "Unlocked."

    def _near(self, container: str) -> bool:
        return self.containers.get(container) == self.player and self.sees()

    def _open(self, container: str) -> str:
        if not self._near(container):
            return "You see no such thing to open."
        if container in self.locks:
            return "It is locked."
        self.open.add(container)
        return f"It is open. In it: {', '.join(self.here(container)) or 'nothing'}."

    def _take_from(self, item: str, container: str) -> str:
        if not self._near(container) or container not in self.open:
            return "There is no such open container here."
        return self._move(item, container, YOU, "Taken.")

    def _put_in(self, item: str, container: str) -> str:
        if not self._near(container) or container not in self.open:
            return "There is no such open container here."
        if item == LAMP:
            # Out of sight in a dark room, it could never be found again.
            return "The lamp does not fit in there."
        return self._move(item, YOU, container, "Done.")

    def _move(self, item: str, source: str, target: str, said: str) -> str:
        if self.items.get(item) != source or (source != YOU and not self.sees()):
            return "You carry no such thing." if source == YOU else "You see no such thing here."
        self.items[item] = target
        return said

    # -- knowing what to do ----------------------------------------------------------------------------------

    def next_command(self) -> tuple[str, str]:
        """Return the next command of a solution from here, and why."""
        for item, place in self.goals:
            if self.items[item] != place:
                return self._bring(item, place)
        return "look", "everything is where it should be"

    def _bring(self, item: str, place: str) -> tuple[str, str]:
        if self.items[item] != YOU:
            return self._fetch(item)
        if place in self.rooms:
            if self.player != place:
                return self._walk(place, f"the {item} belongs in the {place}")
            return f"drop {item}", f"the {item} belongs here"
        return self._at(place) or (f"put {item} in {place}", f"the {item} belongs in the {place}")

    def _fetch(self, item: str) -> tuple[str, str]:
        where = self.items[item]
        if where in self.rooms:
            if self.player != where:
                return self._walk(where, f"the {item} is in the {where}")
            return self._light() or (f"take {item}", f"the {item} is here")
        return self._at(where) or (f"take {item} from {where}", f"the {item} is in the {where}")

    def _at(self, container: str) -> tuple[str, str] | None:
        """Return what is still to be done before a container stands open here."""
        if (key := self.locks.get(container)) and self.items[key] != YOU:
            return self._fetch(key)
        if self.player != self.containers[container]:
            return self._walk(self.containers[container], f"the {container} stands there")
        if dark := self._light():
            return dark
        if key:
            return f"unlock {container} with {key}", f"the {container} is locked"
        if container not in self.open:
            return f"open {container}", f"the {container} is closed"
        return None

    def _light(self) -> tuple[str, str] | None:
        return None if self.sees() else self._fetch(LAMP)

    def _walk(self, room: str, why: str) -> tuple[str, str]:
        """Return the next step of a way to a room, or towards the key of the first door on it."""
        if room in self.dark and LAMP in self.items and self.items[LAMP] not in (YOU, room):
            return self._fetch(LAMP)
        way = self._way(room)
        here = self.player
        for direction in way:
            if key := self.locks.get(f"{here} {direction}"):
                if self.items[key] != YOU:
                    return self._fetch(key)
                if here == self.player:
                    return f"unlock {direction} with {key}", f"the door to the {direction} is locked"
                break
            here = self.rooms[here][direction]
        return f"go {way[0]}", why

    def _way(self, room: str) -> list[str]:
        """Return the directions to a room over the fewest locked doors, then the fewest rooms."""
        best: dict[str, tuple[int, int]] = {self.player: (0, 0)}
        ways: dict[str, list[str]] = {self.player: []}
        queue = deque([self.player])
        while queue:
            here = queue.popleft()
            for direction, there in sorted(self.rooms[here].items()):
                doors, steps = best[here]
                cost = (doors + (f"{here} {direction}" in self.locks), steps + 1)
                if there not in best or cost < best[there]:
                    best[there], ways[there] = cost, [*ways[here], direction]
                    queue.append(there)
        return ways[room]
