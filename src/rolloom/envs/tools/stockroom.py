"""The state behind `tools/mcp-v0`: items in bins, with the changes that its MCP server offers as tools.

Plain Python, used by the server for what a policy does and by the environment for what it should have done.
"""

from __future__ import annotations

from typing import Any

Item = dict[str, Any]
MAX_FOUND = 20


class Refused(Exception):
    """A change or a look-up that makes no sense; the message says why."""


class Stockroom:
    """Items by SKU, each with a name, a bin, a quantity and a price in cents.

    Attributes:
        items: `{sku: {"name", "bin", "quantity", "price"}}`.
    """

    def __init__(self, items: dict[str, Item]) -> None:
        self.items = {sku: dict(item) for sku, item in items.items()}

    def find(self, text: str) -> list[dict[str, str]]:
        """Return SKU and name of the items whose name contains every word."""
        words = text.lower().split()[:8]
        hits = [
            {"sku": sku, "name": item["name"]}
            for sku, item in sorted(self.items.items())
            if words and all(word in item["name"].split() for word in words)
        ]
        return hits[:MAX_FOUND]

    def get(self, sku: str) -> Item:
        """Return one item.

        Raises:
            Refused: no item has the SKU.
        """
        if sku not in self.items:
            raise Refused("no item has this SKU; find_items gives SKUs by name")
        return {"sku": sku, **self.items[sku]}

    def in_bin(self, code: str) -> list[str]:
        """Return the SKUs in a bin."""
        return [sku for sku, item in sorted(self.items.items()) if item["bin"] == code]

    def move(self, sku: str, to_bin: str) -> str:
        """Put an item into a bin."""
        self.get(sku)
        if len(to_bin) != 3 or not (
            to_bin[0] in "ABCDEFGH" and to_bin[1:].isascii() and to_bin[1:].isdigit()
        ):
            raise Refused("a bin is a letter from A to H and two digits, e.g. C07")
        self.items[sku]["bin"] = to_bin
        return f"{sku} is in bin {to_bin}"

    def change_quantity(self, sku: str, by: int) -> str:
        """Add to an item's quantity, or take from it."""
        left = self.get(sku)["quantity"] + by
        if not 0 <= left <= 10**9:
            raise Refused("the quantity would leave the range 0 to 10^9")
        self.items[sku]["quantity"] = left
        return f"{sku} has quantity {left}"

    def set_price(self, sku: str, cents: int) -> str:
        """Set an item's price."""
        self.get(sku)
        if not 1 <= cents <= 10**9:
            raise Refused("a price lies between 1 and 10^9 cents")
        self.items[sku]["price"] = cents
        return f"{sku} costs {cents} cents"
