"""Keys and values of a transformers policy's sequences, a row each, rows of different lengths side by side.

transformers' own caches hold a batch whose rows grow together. Here the attention function (`hf_attention`)
stores what it is given, so no layer of the model has to know the cache.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch


@dataclass(slots=True)
class ParkedKeys:
    """A sequence set aside: keys and values of every layer, `[heads, length, head dim]` each."""

    length: int
    layers: dict[int, tuple[torch.Tensor, torch.Tensor]]


class KeyValueCache:
    """Keys and values of up to `rows` sequences of up to `context` tokens.

    A layer's store is made when its first keys arrive, since only they know its heads and their width.

    Attributes:
        layers: by layer index, keys and values `[rows, heads, context, head dim]`.
        lengths: tokens fed so far, int64 `[rows]`.
    """

    def __init__(self, rows: int, context: int, device: torch.device | str = "cpu") -> None:
        self.rows, self.context = rows, context
        self.layers: dict[int, tuple[torch.Tensor, torch.Tensor]] = {}
        self.lengths = torch.zeros(rows, dtype=torch.int64, device=device)

    def write(
        self, layer: int, rows: torch.Tensor, positions: torch.Tensor, k: torch.Tensor, v: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Store keys and values `[L, heads, head dim]` of tokens at rows and positions `[L]`.

        Returns:
            Everything the layer holds.
        """
        if layer not in self.layers:
            keys, values = (t.new_zeros(self.rows, t.shape[1], self.context, t.shape[2]) for t in (k, v))
            self.layers[layer] = (keys, values)
        keys, values = self.layers[layer]
        keys[rows, :, positions] = k
        values[rows, :, positions] = v
        return keys, values

    def clear(self, start: int, stop: int) -> None:
        """Make rows `start..stop` fresh sequences; what they held is not looked at again."""
        self.lengths[start:stop] = 0

    def copy_row(self, source: int, target: int) -> None:
        """Overwrite one row by another."""
        length = int(self.lengths[source])
        self.lengths[target] = length
        for pair in self.layers.values():
            for held in pair:
                held[target, :, :length] = held[source, :, :length]

    def park(self, row: int) -> ParkedKeys:
        """Return a copy of a row that outlives it."""
        length = int(self.lengths[row])
        layers = {
            layer: (keys[row, :, :length].clone(), values[row, :, :length].clone())
            for layer, (keys, values) in self.layers.items()
        }
        return ParkedKeys(length, layers)

    def restore(self, parked: ParkedKeys, row: int) -> None:
        """Continue a parked sequence in a row."""
        self.lengths[row] = parked.length
        for layer, (keys, values) in parked.layers.items():
            self.layers[layer][0][row, :, : parked.length] = keys
            self.layers[layer][1][row, :, : parked.length] = values
