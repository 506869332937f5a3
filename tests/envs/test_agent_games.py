"""Grid world and adventure: what moves do, what ends a game, gold from wherever it stands."""

import itertools
from random import Random

import numpy as np
import pytest

from rolloom.envs.agents.games.adventure import LEVELS as HOUSES
from rolloom.envs.agents.games.adventure import Adventure
from rolloom.envs.agents.games.board import MOVES, Board
from rolloom.envs.agents.games.grid_world import LEVELS, GridWorld
from rolloom.envs.agents.games.house import LAMP, UNKNOWN, YOU, House


def start(make, seed=0, level=1, env=None):
    env = env or make()
    env.reset(seed=seed, options={"level": level, "split": "heldout"})
    return env


def follow(env):
    total = 0.0
    while True:
        _, reward, done, truncated, info = env.step(env.expert("compact", np.random.default_rng(0)))
        total += reward
        if done or truncated:
            return total, info["components"]


def board(*rows, goal="1", boxes=(), player=(1, 1)):
    """A board of rows; boxes and the player by row and column."""
    width = len(rows[0])
    cells = [row * width + column for row, column in boxes]
    problem = {"width": width, "cells": "".join(rows), "goal": goal, "boxes": cells}
    return Board.of({**problem, "player": player[0] * width + player[1]})


def walk(board, *moves):
    state = board.start
    for word in moves:
        state = board.move(state, board.shifts()[MOVES.index(word)]) or state
    return state


def test_walls_doors_and_keys():
    there = board("######", "# aA1#", "######")
    assert there.solve(there.start) == ["right"] * 3
    locked = board("######", "# bA1#", "######")
    assert locked.solve(locked.start) is None
    assert walk(there, "up", "left") == there.start


def test_pits_and_wrong_exits_lose_and_gems_come_first():
    there = board("#####", "# x1#", "#  2#", "#####")
    assert there.solve(there.start) is None or there.solve(there.start) == ["down", "right", "right", "up"]
    assert there.lost(walk(there, "right"))
    assert there.lost(walk(there, "down", "right", "right"))
    gems = board("#####", "# 1##", "#*###", "#####")
    assert gems.lost(walk(gems, "right")) and gems.won(walk(gems, "down", "up", "right"))
    assert gems.solve(gems.start) == ["down", "up", "right"]


def test_boxes_are_pushed_one_at_a_time_and_never_pulled():
    there = board("######", "#    #", "#    #", "# .  #", "######", goal="", boxes=[(2, 2)])
    assert there.solve(there.start) == ["right", "down"]
    assert not there.won(there.start) and there.won(walk(there, "right", "down"))
    # Walking away from a box does not take it along.
    assert walk(there, "down", "right", "left")[2] == frozenset({2 * 6 + 3})
    row = board("######", "#    #", "######", goal="", boxes=[(1, 2), (1, 3)])
    assert walk(row, "right") == row.start
    # In a corner a box is lost; the search says so instead of looking for ever.
    stuck = board("#####", "#  ##", "# . #", "#####", goal="", boxes=[(1, 2)])
    assert stuck.solve(walk(stuck, "down", "right")) is None


def test_solutions_are_shortest():
    chance = Random(1)
    for seed in range(6):
        env = start(GridWorld, seed, 7)
        best = env.problem["shortest"]
        assert len(env.board.solve(env.board.start) or ()) == best
        for _ in range(200):
            state = env.board.start
            for _ in range(best - 1):
                shift = chance.choice(env.board.shifts())
                state = env.board.move(state, shift) or state
                assert not env.board.won(state)


@pytest.mark.parametrize("level", range(1, 11))
def test_what_a_level_promises_is_on_the_board(level):
    drawn, env = LEVELS[level - 1], GridWorld()
    for seed in range(3):
        problem = start(GridWorld, seed, level, env).problem
        assert problem["shortest"] >= drawn.least and len(problem["boxes"]) == drawn.boxes
        assert problem["cells"].count("*") == drawn.gems
        assert problem["cells"].count(".") == drawn.boxes
        shown = env.prompt()[-1]["content"]
        assert env.board.draw(env.board.start) in shown and str(env.left) in shown
        if drawn.doors:
            # The doors drawn cannot be walked around.
            shut = "".join("#" if c in "ABC" else c for c in problem["cells"])
            assert Board.of({**problem, "cells": shut}).solve(env.board.start) is None


def test_gold_goes_on_after_detours():
    chance, recovered = np.random.default_rng(0), 0
    for seed in range(40):
        env = start(GridWorld, seed, 2 + seed % 3)
        _, reward, done, _, _ = env.step(str(chance.choice(MOVES)))
        if not done:
            recovered += follow(env)[0] == 1.0
        assert reward in (0.0, 1.0)
    assert recovered >= 20


def test_moves_run_out():
    env = start(GridWorld, 1, 7)
    blocked = next(m for m, s in zip(MOVES, env.board.shifts(), strict=True))
    total, over = 0.0, False
    while not over:
        _, reward, done, truncated, info = env.step(blocked)
        total, over = total + reward, done or truncated
    assert total == 0.0 and info["components"]["won"] == 0.0 and env.left <= 0


@pytest.mark.parametrize(
    "text",
    ["", "north", "right " * 11, "rightright", "up!", "\u2191", "up\ndown\nleave", "1", "[" * 10**6],
)
def test_a_turn_that_is_no_moves_does_nothing(text):
    env = start(GridWorld, 0, 3)
    before, left = env.state, env.left
    messages, reward, done, _, _ = env.step(text)
    assert (env.state, env.left, reward, done) == (before, left, 0.0, False)
    assert "moves" in messages[0]["content"]


def house(**changed):
    problem = {
        "rooms": {
            "hall": {"east": "study"},
            "study": {"west": "hall", "north": "vault"},
            "vault": {"south": "study"},
        },
        "locks": {"study north": "red key", "vault south": "red key", "iron safe": "blue key"},
        "containers": {"iron safe": "vault", "old box": "hall"},
        "items": {"red key": "old box", "blue key": "study", "clay cup": "iron safe"},
        "dark": [],
        "open": [],
        "player": "hall",
        "goals": [["clay cup", "old box"]],
    }
    return House({**problem, **changed})


def test_a_game_by_hand():
    game = house()
    told = [
        ("look", "You are in the hall. Exits: east. You see: old box (closed)."),
        ("take red key", "You see no such thing here."),
        ("take red key from old box", "There is no such open container here."),
        ("open old box", "It is open. In it: red key."),
        ("take red key from old box", "Taken."),
        ("go north", "You cannot go that way."),
        ("GO  East", "You are in the study. Exits: north (locked, red lock), west. You see: blue key."),
        ("go north", "The door is locked."),
        ("unlock north with blue key", "You do not carry that."),
        ("take blue key", "Taken."),
        ("unlock north with blue key", "The key does not fit."),
        ("unlock north with red key", "Unlocked."),
        ("go north", "You are in the vault. Exits: south. You see: iron safe (locked, blue lock)."),
        ("open iron safe", "It is locked."),
        ("unlock iron safe with blue key", "Unlocked."),
        ("open iron safe", "It is open. In it: clay cup."),
        ("take clay cup from iron safe", "Taken."),
        ("inventory", "You carry: blue key, clay cup, red key."),
        ("dance", UNKNOWN),
    ]
    for command, wanted in told:
        assert game.do(command) == wanted, command
    assert not game.won()
    for command in ("go south", "go west", "put clay cup in old box"):
        game.do(command)
    assert game.won()


def test_in_the_dark_one_sees_nothing_without_the_lamp():
    items = {"red key": YOU, "blue key": YOU, "clay cup": "vault", LAMP: "study"}
    game = house(dark=["vault"], items=items)
    for command in ("go east", "unlock north with red key", "go north"):
        game.do(command)
    assert "too dark" in game.look() and "cup" not in game.look()
    assert game.do("take clay cup") == "You see no such thing here."
    assert game.do("open iron safe") == "You see no such thing to open."
    for command in ("go south", "take lamp", "go north"):
        game.do(command)
    assert "clay cup" in game.look() and game.do("take clay cup") == "Taken."
    game.do("unlock iron safe with blue key")
    game.do("open iron safe")
    assert "does not fit" in game.do("put lamp in iron safe") and game.items[LAMP] == YOU


@pytest.mark.parametrize("level", range(1, 11))
def test_gold_wins_from_wherever_another_player_left_the_game(level):
    chance = Random(level)
    verbs = ("go", "take", "drop", "open", "put", "unlock")
    for seed in range(6):
        env = start(Adventure, seed, level)
        game = env.house
        for _ in range(60):
            verb = chance.choice(verbs)
            names = [*game.items, *game.containers, "north", "south", "east", "west"]
            thing, other = chance.choice(names), chance.choice(names)
            tail = {"put": f" in {other}", "unlock": f" with {other}"}.get(verb, "")
            game.do(f"{verb} {thing}{tail}")
            if game.here(YOU) and chance.random() < 0.3:
                game.do(f"drop {game.here(YOU)[0]}")
        for _ in range(600):
            if game.won():
                break
            game.do(game.next_command()[0])
        assert game.won()


@pytest.mark.parametrize("level", range(1, 11))
def test_a_house_has_what_its_level_promises(level):
    drawn, env = HOUSES[level - 1], Adventure()
    for seed in range(4):
        problem = start(Adventure, seed, level, env).problem
        assert len(problem["rooms"]) == drawn.rooms and len(problem["goals"]) == drawn.goals
        assert len(problem["containers"]) == drawn.boxes and len(problem["dark"]) <= drawn.dark
        doors = [lock for lock in problem["locks"] if lock not in problem["containers"]]
        assert len(doors) == 2 * drawn.doors
        assert not House(problem).won()


def test_the_way_back_is_there_and_a_map_is_not_shown():
    env = start(Adventure, 2, 8)
    for room, exits in env.problem["rooms"].items():
        for direction, other in exits.items():
            back = {"north": "south", "south": "north", "east": "west", "west": "east"}[direction]
            assert env.problem["rooms"][other][back] == room
    shown = env.prompt()[0]["content"]
    asked = " ".join(place for _, place in env.problem["goals"])
    hidden = [room for room in env.problem["rooms"] if room not in asked and room != env.problem["player"]]
    assert hidden and not any(f" {room}" in shown for room in hidden)


@pytest.mark.parametrize(
    "text",
    ["", "\n\n", "look\n" * 6, "take " * 100_000, "put in in in", "unlock with with", "go \ud800", "open \0"],
)
def test_odd_turns_are_answered_shortly_and_change_nothing(text):
    env = start(Adventure, 1, 6)
    before = (env.house.items.copy(), env.house.locks.copy(), env.house.player)
    messages, reward, done, _, _ = env.step(text)
    assert reward == 0.0 and not done and len(messages[0]["content"]) < 2000
    assert (env.house.items, env.house.locks, env.house.player) == before
    messages[0]["content"].encode()


def test_several_commands_a_turn_stop_at_the_goal():
    env = start(Adventure, 3, 1)
    rest, game = [], House(env.problem)
    while not game.won():
        rest.append(game.next_command()[0])
        game.do(rest[-1])
    reward = 0.0
    for first in range(0, len(rest), 5):
        _, reward, done, _, _ = env.step("\n".join(rest[first : first + 5]))
    assert reward == 1.0 and done


def test_a_game_lost_on_time_is_not_paid():
    env = start(Adventure, 0, 1)
    total, over = 0.0, False
    while not over:
        _, reward, done, truncated, _ = env.step("look\nlook\nlook\nlook\nlook")
        total, over = total + reward, done or truncated
    assert total == 0.0


def test_games_side_by_side_share_nothing():
    for make in (GridWorld, Adventure):
        envs = [start(make, seed // 2, 3) for seed in range(6)]
        rewards, live = [0.0] * 6, set(range(6))
        while live:
            for index in sorted(live):
                _, reward, done, truncated, _ = envs[index].step(envs[index].gold())
                rewards[index] += reward
                live -= {index} if done or truncated else set()
        assert rewards == [1.0] * 6


def test_problems_are_what_their_seed_says():
    for make, level in itertools.product((GridWorld, Adventure), (1, 6, 9)):
        one, other = start(make, 5, level), make()
        start(make, 6, level, other)
        follow(other)
        assert start(make, 5, level, other).problem == one.problem
