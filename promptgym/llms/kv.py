"""Key/values of prefixes, laid out as a cache of transformers without copying them twice."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from transformers.cache_utils import DynamicCache, DynamicLayer


class PrefixLayer(DynamicLayer):  # type: ignore[misc]  # transformers is not typed throughout
    """One layer's prefixes, given to the rows of a batch with room for their own tokens behind.

    The rows are filled when the layer asks for them, in one copy: several rows may share a prefix,
    and what a layer reads is still in the processor's cache.
    """

    def __init__(self, keys: torch.Tensor, values: torch.Tensor, rows: Any, filled: int) -> None:
        """Take the different prefixes.

        Args:
            keys: shape (prefixes, heads, filled + room, width).
            values: as `keys`.
            rows: which prefix each row has, shape (B,); None for one each, in order.
            filled: tokens of the prefixes, padding included.
        """
        super().__init__()
        self.dtype, self.device = keys.dtype, keys.device
        self.is_initialized = True
        self._tables: tuple[torch.Tensor, torch.Tensor] | None = (keys, values)
        self._rows = rows
        self._filled = filled

    def update(
        self, key_states: torch.Tensor, value_states: torch.Tensor, *args: Any, **kwargs: Any
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Return the key/values of every row, the new ones behind its prefix."""
        if self._tables is None:  # a second pass: as any other cache
            self._filled += key_states.shape[-2]
            keys, values = super().update(key_states, value_states)
            return keys, values
        start, stop = self._filled, self._filled + key_states.shape[-2]
        sides = []
        for table, new in zip(self._tables, (key_states, value_states), strict=True):
            side = table if self._rows is None else table.index_select(0, self._rows)
            side[:, :, start:stop] = new
            sides.append(side[:, :, :stop])
        self._filled, self._tables = stop, None
        self.keys, self.values = sides
        return sides[0], sides[1]

    def get_seq_length(self) -> int:
        """Return the tokens that every row has, padding included."""
        return self._filled


def prefix_cache(
    prefixes: Sequence[tuple[torch.Tensor | None, int]], index: Sequence[int], room: int
) -> DynamicCache:
    """Return a cache that holds a prefix for every row, padded on the right with zeros.

    Args:
        prefixes: key/values, shape (layers, 2, heads, tokens, width), and how many of their tokens
            count; None for no prefix, but not for all.
        index: which prefix each row has, shape (B,).
        room: tokens that will be computed behind the longest prefix.
    """
    first = next(kv for kv, _ in prefixes if kv is not None)
    layers, two, heads, _, width = first.shape
    longest = max(tokens for _, tokens in prefixes)
    table = first.new_zeros(layers, two, len(prefixes), heads, longest + room, width)
    for at, (kv, tokens) in enumerate(prefixes):
        if kv is not None:
            table[:, :, at, :, :tokens] = kv[..., :tokens, :]
    own = list(index) == list(range(len(prefixes)))
    rows = None if own else torch.tensor(index, device=first.device)
    cache = DynamicCache()
    cache.layers = [PrefixLayer(layer[0], layer[1], rows, longest) for layer in table]
    return cache
