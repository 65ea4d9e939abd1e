"""Key/values of prefixes side by side, laid out as a cache of transformers for a batch of rows."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import Any

import torch
from transformers.cache_utils import DynamicCache, DynamicLayer

from promptgym.llms.prefix import Entry

Prefix = tuple[Entry | None, int]
"""The first so many tokens of an entry; (None, 0) for none."""


class PrefixTable:
    """Different prefixes, the shortest first, padded on the right to one length, with room behind.

    Attributes:
        kv: shape (layers, 2, prefixes, heads, tokens + room, width).
        places: where each prefix lies, by the id of its entry and its tokens.
    """

    def __init__(self, prefixes: Iterable[Prefix], room: int = 0) -> None:
        """Copy the prefixes, of which at least one is not empty.

        Args:
            prefixes: what to hold.
            room: tokens of each row that can be written in place.
        """
        different = {(id(entry), tokens): (entry, tokens) for entry, tokens in prefixes}
        # held, so that nothing else takes the ids of entries
        self._entries = sorted(different.values(), key=lambda prefix: prefix[1])
        self.places = {(id(entry), n): at for at, (entry, n) in enumerate(self._entries)}
        first = next(entry.kv for entry, _ in self._entries if entry is not None)
        layers, two, heads, _, width = first.shape
        self._longest = self._entries[-1][1]
        shape = layers, two, len(self._entries), heads, self._longest + room, width
        self.kv = first.new_zeros(shape)
        for at, (entry, tokens) in enumerate(self._entries):
            if entry is not None:
                self.kv[:, :, at, :, :tokens] = entry.kv[..., :tokens, :]

    def holds(self, prefixes: Iterable[Prefix], room: int = 0) -> bool:
        """Whether all of these are in the table, next to each other, with so much room."""
        wanted = {self.places.get((id(entry), tokens), -1) for entry, tokens in prefixes}
        first, last = min(wanted), max(wanted)
        within = first >= 0 and last - first + 1 == len(wanted)
        return within and self.kv.shape[-2] >= self._longest + room

    def cache(self, rows: Sequence[Prefix], new: int, scratch: Scratch | None) -> DynamicCache:
        """Return a cache in which every row has its prefix, padded to the longest of them.

        Rows that are a run of the table, with room for what is new, are read and written in it.

        Args:
            rows: the prefix of each.
            new: tokens that will be written behind.
            scratch: memory that all layers share for rows that are no such run; then a layer's
                key/values are gone when the next one is computed. None gives each its own.
        """
        places = [self.places[id(entry), tokens] for entry, tokens in rows]
        longest = max(tokens for _, tokens in rows)
        run = range(places[0], places[0] + len(places))
        index: torch.Tensor | None = None
        table = self.kv[:, :, run.start : run.stop]
        if places != list(run) or longest + new > self.kv.shape[-2]:
            index, table = torch.tensor(places, device=self.kv.device), self.kv
        cache = DynamicCache()
        cache.layers = [PrefixLayer(k, v, longest, index, scratch) for k, v in table]
        return cache


class Scratch:
    """Memory for the keys and for the values of one layer, used again and again.

    Fresh memory of this size is handed out by the system page by page, which costs time.
    """

    def __init__(self) -> None:
        """Begin with none."""
        self._sides: dict[int, torch.Tensor] = {}

    def take(self, side: int, shape: tuple[int, ...], like: torch.Tensor) -> torch.Tensor:
        """Return memory of a shape, of the type and on the device of a tensor."""
        size = math.prod(shape)
        if side not in self._sides or self._sides[side].numel() < size:
            self._sides[side] = like.new_empty(size)
        return self._sides[side][:size].view(shape)


class PrefixLayer(DynamicLayer):  # type: ignore[misc]  # transformers is not typed throughout
    """One layer's prefixes, given to the rows of a batch.

    What is new is written behind the prefixes where they lie, if every row has its own. Otherwise
    the rows are filled when the layer asks for them, in one copy: what it reads then is still in
    the processor's cache.
    """

    def __init__(
        self,
        keys: torch.Tensor,
        values: torch.Tensor,
        filled: int,
        rows: torch.Tensor | None = None,
        scratch: Scratch | None = None,
    ) -> None:
        """Take the prefixes.

        Args:
            keys: shape (prefixes, heads, tokens, width).
            values: as `keys`.
            filled: of these tokens, those that are the rows' prefixes.
            rows: which prefix each row has, shape (B,); None if each has the one at its place.
            scratch: where rows are filled; None for new memory.
        """
        super().__init__()
        self.dtype, self.device = keys.dtype, keys.device
        self.is_initialized = True
        self._tables: tuple[torch.Tensor, torch.Tensor] | None = (keys, values)
        self._rows, self._scratch = rows, scratch
        self._filled = filled

    def update(
        self, key_states: torch.Tensor, value_states: torch.Tensor, *args: Any, **kwargs: Any
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Return the key/values of every row, the new ones behind its prefix."""
        if self._tables is None:  # a second pass: as any other cache
            self._filled += key_states.shape[-2]
            keys, values = super().update(key_states, value_states)
            return keys, values
        self.keys, self.values = (
            self._joined(side, table, new)
            for side, (table, new) in enumerate(
                zip(self._tables, (key_states, value_states), strict=True)
            )
        )
        self._filled += key_states.shape[-2]
        self._tables = None
        return self.keys, self.values

    def get_seq_length(self) -> int:
        """Return the tokens that every row has, padding included."""
        return self._filled

    def _joined(self, side: int, table: torch.Tensor, new: torch.Tensor) -> torch.Tensor:
        """Return the prefixes of rows with what is new behind them."""
        filled, end = self._filled, self._filled + new.shape[2]
        prefixes = table[:, :, :filled]
        if torch.compiler.is_compiling():
            own = prefixes if self._rows is None else prefixes.index_select(0, self._rows)
            return torch.cat([own, new], dim=2)
        if self._rows is None:
            out = table[:, :, :end]
        else:
            shape = (len(self._rows), table.shape[1], end, table.shape[3])
            scratch = self._scratch
            out = new.new_empty(shape) if scratch is None else scratch.take(side, shape, new)
            torch.index_select(prefixes, 0, self._rows, out=out[:, :, :filled])
        out[:, :, filled:] = new
        return out
