"""Key/values of prefixes side by side, laid out as a cache of transformers for a batch of rows."""

from __future__ import annotations

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

    def cache(self, rows: Sequence[Prefix]) -> DynamicCache:
        """Return a cache in which every row has its prefix, padded to the longest of them."""
        places = [self._places[id(entry), tokens] for entry, tokens in rows]
        index = torch.tensor(places, device=self.kv.device)
        longest = max(tokens for _, tokens in rows)
        cache = DynamicCache()
        cache.layers = [
            PrefixLayer(keys, values, index) for keys, values in self.kv[..., :longest, :]
        ]
        return cache


class PrefixLayer(DynamicLayer):  # type: ignore[misc]  # transformers is not typed throughout
    """One layer's prefixes, given to the rows of a batch.

    The rows are filled when the layer asks for them, in one copy: several rows may share a prefix,
    and what a layer reads is still in the processor's cache.
    """

    def __init__(self, keys: torch.Tensor, values: torch.Tensor, rows: torch.Tensor) -> None:
        """Take the different prefixes.

        Args:
            keys: shape (prefixes, heads, tokens, width).
            values: as `keys`.
            rows: which prefix each row has, shape (B,).
        """
        super().__init__()
        self.dtype, self.device = keys.dtype, keys.device
        self.is_initialized = True
        self._tables: tuple[torch.Tensor, torch.Tensor] | None = (keys, values)
        self._rows = rows
        self._filled = keys.shape[-2]

    def update(
        self, key_states: torch.Tensor, value_states: torch.Tensor, *args: Any, **kwargs: Any
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Return the key/values of every row, the new ones behind its prefix."""
        if self._tables is None:  # a second pass: as any other cache
            self._filled += key_states.shape[-2]
            keys, values = super().update(key_states, value_states)
            return keys, values
        self.keys = _joined(self._tables[0], self._rows, key_states)
        self.values = _joined(self._tables[1], self._rows, value_states)
        self._filled += key_states.shape[-2]
        self._tables = None
        return self.keys, self.values

    def get_seq_length(self) -> int:
        """Return the tokens that every row has, padding included."""
        return self._filled


def _joined(table: torch.Tensor, rows: torch.Tensor, new: torch.Tensor) -> torch.Tensor:
    """Return the prefixes of rows with what is new behind them."""
    if torch.compiler.is_compiling():
        return torch.cat([table.index_select(0, rows), new], dim=2)
    filled = table.shape[2]
    side = new.new_empty(len(rows), table.shape[1], filled + new.shape[2], table.shape[3])
    torch.index_select(table, 0, rows, out=side[:, :, :filled])
    side[:, :, filled:] = new
    return side
