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
    """Different prefixes, padded on the right with zeros to one length.

    Attributes:
        kv: shape (layers, 2, prefixes, heads, tokens, width).
    """

    def __init__(self, prefixes: Iterable[Prefix]) -> None:
        """Copy the prefixes, of which at least one is not empty."""
        different = {(id(entry), tokens): (entry, tokens) for entry, tokens in prefixes}
        self._places = {key: at for at, key in enumerate(different)}
        self._entries = list(different.values())  # held, so that nothing else takes their ids
        first = next(entry.kv for entry, _ in self._entries if entry is not None)
        layers, two, heads, _, width = first.shape
        longest = max(tokens for _, tokens in self._entries)
        self.kv = first.new_zeros(layers, two, len(self._entries), heads, longest, width)
        for at, (entry, tokens) in enumerate(self._entries):
            if entry is not None:
                self.kv[:, :, at, :, :tokens] = entry.kv[..., :tokens, :]

    def holds(self, prefixes: Iterable[Prefix]) -> bool:
        """Whether all of these are in the table."""
        return all((id(entry), tokens) in self._places for entry, tokens in prefixes)

    def cache(self, rows: Sequence[Prefix], scratch: Scratch | None = None) -> DynamicCache:
        """Return a cache in which every row has its prefix, padded to the longest of them.

        Args:
            rows: the prefix of each.
            scratch: memory that all layers share; then a layer's key/values are gone when the next
                one is computed. None gives each its own.
        """
        places = [self._places[id(entry), tokens] for entry, tokens in rows]
        index = torch.tensor(places, device=self.kv.device)
        longest = max(tokens for _, tokens in rows)
        cache = DynamicCache()
        cache.layers = [
            PrefixLayer(keys, values, index, scratch) for keys, values in self.kv[..., :longest, :]
        ]
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

    The rows are filled when the layer asks for them, in one copy: several rows may share a prefix,
    and what a layer reads is still in the processor's cache.
    """

    def __init__(
        self,
        keys: torch.Tensor,
        values: torch.Tensor,
        rows: torch.Tensor,
        scratch: Scratch | None = None,
    ) -> None:
        """Take the different prefixes.

        Args:
            keys: shape (prefixes, heads, tokens, width).
            values: as `keys`.
            rows: which prefix each row has, shape (B,).
            scratch: where the rows are filled; None for new memory.
        """
        super().__init__()
        self.dtype, self.device = keys.dtype, keys.device
        self.is_initialized = True
        self._tables: tuple[torch.Tensor, torch.Tensor] | None = (keys, values)
        self._rows, self._scratch = rows, scratch
        self._filled = keys.shape[-2]

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
        if torch.compiler.is_compiling():
            return torch.cat([table.index_select(0, self._rows), new], dim=2)
        filled = table.shape[2]
        shape = (len(self._rows), table.shape[1], filled + new.shape[2], table.shape[3])
        scratch = self._scratch
        out = new.new_empty(shape) if scratch is None else scratch.take(side, shape, new)
        torch.index_select(table, 0, self._rows, out=out[:, :, :filled])
        out[:, :, filled:] = new
        return out
