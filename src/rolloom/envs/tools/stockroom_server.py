"""A real MCP server over stdio, the one of `tools/mcp-v0`: `python -m rolloom.envs.tools.stockroom_server`.

It keeps one stockroom for each episode, told apart by the id that `McpEnv` sends in `_meta`, so one process
serves any number of episodes at the same time. `load` and `dump` are for the environment alone.
"""

from __future__ import annotations

import json
from collections import OrderedDict
from collections.abc import Callable
from typing import Any

from mcp.server.mcpserver import Context, MCPServer

from rolloom.envs.tools.stockroom import Stockroom

MAX_EPISODES = 4_096
EPISODE = "rolloom/episode"

server = MCPServer("stockroom", log_level="ERROR")
rooms: OrderedDict[str, Stockroom] = OrderedDict()


def _room(context: Context) -> Stockroom:
    episode = _episode(context)
    if episode not in rooms:
        raise ValueError("nothing was loaded for this episode")
    rooms.move_to_end(episode)
    return rooms[episode]


def _episode(context: Context) -> str:
    return str((context.request_context.meta or {}).get(EPISODE, ""))


def _told(work: Callable[..., Any], *arguments: Any) -> str:
    result = work(*arguments)  # what it refuses, the SDK reports as the tool's error
    return result if isinstance(result, str) else json.dumps(result)


@server.tool(structured_output=False)
def load(items: dict[str, dict[str, Any]], context: Context) -> str:
    """Set up this episode's stockroom."""
    rooms[_episode(context)] = Stockroom(items)
    while len(rooms) > MAX_EPISODES:
        rooms.popitem(last=False)
    return "loaded"


@server.tool(structured_output=False)
def dump(context: Context) -> str:
    """Return this episode's stockroom and forget it."""
    items = _room(context).items
    del rooms[_episode(context)]
    return json.dumps(items)


@server.tool(structured_output=False)
def find_items(text: str, context: Context) -> str:
    """Find items whose name has all the words given; returns SKUs and names."""
    return _told(_room(context).find, text)


@server.tool(structured_output=False)
def get_item(sku: str, context: Context) -> str:
    """Name, bin, quantity and price (in cents) of an item."""
    return _told(_room(context).get, sku)


@server.tool(structured_output=False)
def list_bin(code: str, context: Context) -> str:
    """List the SKUs of the items in a bin, e.g. C07."""
    return _told(_room(context).in_bin, code)


@server.tool(structured_output=False)
def move_item(sku: str, to_bin: str, context: Context) -> str:
    """Put an item into another bin."""
    return _told(_room(context).move, sku, to_bin)


@server.tool(structured_output=False)
def change_quantity(sku: str, by: int, context: Context) -> str:
    """Add to the quantity of an item; a negative number takes away."""
    return _told(_room(context).change_quantity, sku, by)


@server.tool(structured_output=False)
def set_price(sku: str, cents: int, context: Context) -> str:
    """Set the price of an item, in cents."""
    return _told(_room(context).set_price, sku, cents)


if __name__ == "__main__":
    server.run("stdio")
