"""`CausalEngine`: token rows in, log-probabilities at chosen positions out, prefixes shared."""

from __future__ import annotations

import inspect
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from promptgym.llms.head import HeadTap, gather_logprobs
from promptgym.llms.kv import Prefix, PrefixTable, Scratch
from promptgym.llms.prefix import (
    WORTH_KEEPING,
    Entry,
    Group,
    PrefixStore,
    key_of,
    pack,
    plan_groups,
)
from promptgym.types import FloatArray, IntArray


@dataclass(slots=True)
class Item:
    """Tokens to compute behind `start` tokens of an entry.

    Attributes:
        row: which row this is part of.
        tokens: what is computed.
        source: entry whose first `start` tokens come before; None for none.
        start: see `source`.
        wants: positions within `tokens` whose next-token distribution is asked for.
        keep: tokens of the row (from its begin) whose key/values are to be kept; 0 for none.
    """

    row: int
    tokens: Sequence[int]
    source: Entry | None
    start: int
    wants: range
    keep: int = 0


class CausalEngine:
    """Exact next-token log-probabilities of a causal transformers model.

    Every distinct beginning is computed once in a call, and beginnings that recur (the examples, a
    template's demonstrations) are kept across calls. Prefixes are padded on the right, as the rest
    is: a mask hides the padding and positions are given explicitly. Where that is not exact (state
    space models, sliding windows shorter than the text), rows run as plain padded batches.
    """

    def __init__(self, model: Any, batch_tokens: int, kv_cache_bytes: int) -> None:
        """Find out by trying which savings are exact for this model."""
        self.model = model
        self.batch_tokens = batch_tokens
        self.device = next(model.parameters()).device
        self.takes_positions = "position_ids" in inspect.signature(model.forward).parameters
        self.window = attention_window(model.config)
        self.turn = rotary_turn(model.config)
        self.store = PrefixStore(kv_cache_bytes)
        self.wave_bytes = max(kv_cache_bytes, 64 * 2**20)
        self.shares = kv_cache_bytes > 0
        self._bytes_per_token = 0
        self._table: PrefixTable | None = None
        self._scratch = Scratch()
        half = next(model.parameters()).dtype != torch.float32
        self._probe(0.25 if half else 1e-4)

    @torch.inference_mode()
    def _probe(self, tolerance: float) -> None:
        """Compare the savings with plain passes, on made-up tokens; switch off what differs."""
        size = self.model.get_input_embeddings().weight.shape[0]
        rows = [[(7 * i + 3 * j + 1) % size for j in range(n)] for i, n in ((0, 7), (1, 9), (2, 9))]
        ids = torch.tensor([row[:7] for row in rows], device=self.device)
        trial = {"input_ids": ids, "attention_mask": torch.ones_like(ids)}
        self.head = HeadTap(self.model, tolerance, **trial)
        if not self.shares:
            return
        columns = torch.arange(min(size, 64), device=self.device)
        alone = [Item(i, row, None, 0, range(len(row) - 1, len(row))) for i, row in enumerate(rows)]
        plain = np.concatenate([self._collect([item], columns) for item in alone])
        try:
            for item in alone:
                item.keep = 3 + item.row
            made: dict[int, Entry] = {}
            self._collect(alone, columns, made)
            behind = [
                Item(i, row[(n := 3 + i) :], made[i], n, range(len(row) - n - 1, len(row) - n))
                for i, row in enumerate(rows)
            ]
            shared = self._collect(behind, columns)
            self.shares = bool(np.abs(shared - plain).max() < tolerance)
        except (RuntimeError, ValueError, TypeError, AttributeError, IndexError, KeyError):
            self.shares = False  # a cache of another kind than keys and values per token

    @torch.inference_mode()
    def columns_logprobs(self, rows: Sequence[Sequence[int]], columns: IntArray) -> FloatArray:
        """Return log P(column | row) after each whole row, shape (N, C), nats."""
        wants = [range(len(r) - 1, len(r)) for r in rows]
        return self._solve(rows, wants, torch.as_tensor(columns, device=self.device))

    @torch.inference_mode()
    def continuation_logprobs(
        self, contexts: Sequence[Sequence[int]], continuations: Sequence[Sequence[int]]
    ) -> FloatArray:
        """Return the sum of log-probabilities of each continuation's tokens, shape (N,), nats."""
        pairs = [(list(a), list(b)) for a, b in zip(contexts, continuations, strict=True)]
        rows = [a + b[:-1] for a, b in pairs]
        wants = [range(len(a) - 1, len(a) - 1 + len(b)) for a, b in pairs]
        width = max((len(b) for _, b in pairs), default=0)
        targets = np.zeros((len(pairs), width), dtype=np.int64)
        for i, (_, tokens) in enumerate(pairs):
            targets[i, : len(tokens)] = tokens
        found = self._solve(rows, wants, torch.as_tensor(targets, device=self.device))
        return np.asarray(found.sum(axis=1))

    def _solve(
        self, rows: Sequence[Sequence[int]], wants: Sequence[range], columns: torch.Tensor
    ) -> FloatArray:
        """Plan the shared beginnings, compute them, then the rest."""
        if not rows:
            return np.zeros((0, columns.shape[-1]))
        longest = max(map(len, rows))
        if self.turn is not None and longest > self.turn:
            return self._solve_around(self.turn, rows, wants, columns)
        if not self.shares or (self.window is not None and 2 * longest > self.window):
            items = [
                Item(i, r, None, 0, w) for i, (r, w) in enumerate(zip(rows, wants, strict=True))
            ]
            return self._collect(items, columns)
        caps = [w.start for w in wants]
        out = np.empty((len(rows), columns.shape[-1]))
        for wave in self._waves(rows, caps):
            items = self._items(rows, wants, caps, wave)
            kept: dict[int, Entry] = {}
            self._collect(items, columns, kept, out)
            for entry in kept.values():
                self.store.put(entry.key, entry.kv)
        return out

    def _solve_around(
        self,
        turn: int,
        rows: Sequence[Sequence[int]],
        wants: Sequence[range],
        columns: torch.Tensor,
    ) -> FloatArray:
        """Compute rows longer than `turn` one by one, as the longest of a batch decides for all."""
        out = np.empty((len(rows), columns.shape[-1]))
        near = [i for i, row in enumerate(rows) if len(row) <= turn]
        if near:
            own = columns if columns.dim() == 1 else columns[near]
            out[near] = self._solve([rows[i] for i in near], [wants[i] for i in near], own)
        for i, row in enumerate(rows):
            if len(row) > turn:
                self._collect([Item(i, row, None, 0, wants[i])], columns, out=out)
        return out

    def _waves(
        self, rows: Sequence[Sequence[int]], caps: Sequence[int]
    ) -> Iterator[list[tuple[Group, Entry | None, int]]]:
        """Yield groups with what is kept of them, few enough for their key/values to fit."""
        keys = [key_of(row[:cap]) for row, cap in zip(rows, caps, strict=True)]
        found = [self.store.longest(key) for key in keys]
        known = np.array([length for _, length in found], dtype=np.int64)
        groups = plan_groups(rows, caps, known)
        alone = set(range(len(rows))).difference(*(g.members for g in groups))
        groups += [Group(0, [i]) for i in sorted(alone)]
        wave: list[tuple[Group, Entry | None, int]] = []
        size = 0
        for group in groups:
            best = max(group.members, key=known.__getitem__)
            entry, length = found[best]
            wave.append((group, entry, min(length, group.depth or length)))
            size += self._bytes_per_token * max(group.depth, length)
            if size > self.wave_bytes:
                yield wave
                wave, size = [], 0
        if wave:
            yield wave

    def _items(
        self,
        rows: Sequence[Sequence[int]],
        wants: Sequence[range],
        caps: Sequence[int],
        wave: list[tuple[Group, Entry | None, int]],
    ) -> list[Item]:
        """Compute the prefixes of a wave; return the rows' remaining work."""
        missing: list[Item] = []
        for number, (group, entry, length) in enumerate(wave):
            if group.depth > length:
                tokens = rows[group.members[0]][length : group.depth]
                missing.append(Item(number, tokens, entry, length, range(0), group.depth))
        made: dict[int, Entry] = {}
        self._collect(missing, None, made)
        items = []
        for number, (group, entry, length) in enumerate(wave):
            source, start, keep = entry, length, 0
            if number in made:
                source, start = made[number], group.depth
                if worth_keeping(length, group.depth):
                    self.store.put(source.key, source.kv)
            for i in group.members:
                if not group.depth and worth_keeping(length, caps[i]):
                    keep = caps[i]
                want = range(wants[i].start - start, wants[i].stop - start)
                items.append(Item(i, rows[i][start:], source, start, want, keep))
        return items

    def _collect(
        self,
        items: list[Item],
        columns: torch.Tensor | None,
        made: dict[int, Entry] | None = None,
        out: FloatArray | None = None,
    ) -> FloatArray:
        """Run items in batches; gather log-probabilities and the key/values to keep.

        Args:
            items: the work.
            columns: (C,) vocabulary columns for every item, or (rows, W) one target for each
                wanted position of a row; None for prefixes, which have no answer.
            made: where kept key/values go, by row; None discards them.
            out: where answers are written by row; default: a new array in the items' order.
        """
        width = 0 if columns is None else columns.shape[-1]
        result = np.zeros((len(items), width)) if out is None else out
        place = {item.row: n for n, item in enumerate(items)} if out is None else None
        self._lay_out([(item.source, item.start) for item in items])
        lengths = [len(item.tokens) for item in items]
        sizes = [item.start + len(item.tokens) for item in items]
        for batch in pack(lengths, sizes, self.batch_tokens):
            chosen = [items[n] for n in batch]
            values, cache, padded = self._forward(chosen, columns)
            rows = [item.row if place is None else place[item.row] for item in chosen]
            if columns is not None and columns.dim() == 1:
                result[rows] = values
            elif columns is not None:
                for row, item, got in zip(rows, chosen, _split(values, chosen), strict=True):
                    result[row] = 0.0
                    result[row, : len(item.wants)] = got
            if made is not None and cache is not None:
                self._keep(chosen, cache, padded, made)
        return result

    def _forward(
        self, items: list[Item], columns: torch.Tensor | None
    ) -> tuple[FloatArray, Any, int]:
        """Run one padded batch; return answers, the cache and the padded prefix length."""
        width = max(len(item.tokens) for item in items)
        ids = np.zeros((len(items), width), dtype=np.int64)
        for n, item in enumerate(items):
            ids[n, : len(item.tokens)] = item.tokens
        lengths = np.array([len(item.tokens) for item in items])
        starts = np.array([item.start for item in items])
        padded = int(starts.max())
        inputs: dict[str, Any] = {"input_ids": self._tensor(ids)}
        even = bool((lengths == width).all() and (starts == padded).all())
        if not even:
            mask = np.ones((len(items), padded + width), dtype=np.int64)
            mask[:, :padded] = np.arange(padded)[None] < starts[:, None]
            mask[:, padded:] = np.arange(width)[None] < lengths[:, None]
            inputs["attention_mask"] = self._tensor(mask)
        if padded and self.takes_positions:
            steps = np.minimum(np.arange(width)[None], lengths[:, None] - 1)
            inputs["position_ids"] = self._tensor(starts[:, None] + steps)
        keeps = any(item.keep for item in items)
        if padded:
            rows = [(item.source, item.start) for item in items]
            scratch = None if keeps else self._scratch
            inputs["past_key_values"] = self._table_of(rows).cache(rows, scratch)
        if not padded and not keeps:
            inputs["use_cache"] = False
        if columns is None:
            output = self.head.reader(**inputs)
            return np.zeros((len(items), 0)), output.past_key_values, padded
        at = [(n, w) for n, item in enumerate(items) for w in item.wants]
        where = self._tensor(np.array(at).T)
        logits, output = self.head.logits(where[0], where[1], **inputs)
        if columns.dim() == 2:
            target = [columns[item.row, : len(item.wants)] for item in items]
            columns = torch.cat(target)[:, None]
        values = gather_logprobs(logits, columns).double().cpu().numpy()
        return values, (output.past_key_values if keeps else None), padded

    def _tensor(self, array: np.ndarray[Any, Any]) -> torch.Tensor:
        """Move an array to the model's device."""
        return torch.from_numpy(np.ascontiguousarray(array)).to(self.device)

    def _lay_out(self, prefixes: Sequence[Prefix]) -> None:
        """Make one table for all batches of a call, and for later calls, if memory allows it."""
        longest = max((tokens for _, tokens in prefixes), default=0)
        entry = next((entry for entry, _ in prefixes if entry is not None), None)
        if entry is not None and longest:
            different = len({(id(e), tokens) for e, tokens in prefixes})
            size = different * longest * entry.bytes // entry.kv.shape[-2]
            if size <= self.store.limit / 4:
                self._table_of(prefixes)

    def _table_of(self, prefixes: Sequence[Prefix]) -> PrefixTable:
        """Return a table that holds prefixes: the last one, or one made for them."""
        if self._table is not None and self._table.holds(prefixes):
            return self._table
        self._table = None  # room for the new one
        self._table = PrefixTable(prefixes)
        return self._table

    def _keep(self, items: list[Item], cache: Any, padded: int, made: dict[int, Entry]) -> None:
        """Cut out the key/values that are to be kept."""
        if not any(item.keep for item in items):
            return
        layers = [torch.stack([layer.keys, layer.values]) for layer in cache.layers]
        table = torch.stack(layers)  # (layers, 2, batch, heads, tokens, width)
        for n, item in enumerate(items):
            if not item.keep:
                continue
            new = item.keep - item.start
            kv = torch.cat(
                [table[:, :, n, :, : item.start], table[:, :, n, :, padded : padded + new]], dim=-2
            )
            before = item.source.key[: 4 * item.start] if item.source is not None else b""
            entry = Entry(before + key_of(item.tokens[:new]), kv)
            self._bytes_per_token = entry.bytes // max(1, item.keep)
            made[item.row] = entry


def worth_keeping(known: int, tokens: int) -> bool:
    """Whether a prefix is so much longer than what is kept of it that it should be kept too."""
    return tokens > 0 and (known < tokens / 2 or tokens - known >= WORTH_KEEPING)


_WINDOW = re.compile(r"(window|window_size|chunk_size)$")  # sliding_window, window_size, ...


def attention_window(config: Any) -> int | None:
    """Return the least width of a model's local attention (windows, chunks); None without any."""
    text = config.get_text_config() if hasattr(config, "get_text_config") else config
    known = text.to_dict()
    if known.get("use_sliding_window") is False:
        known.pop("sliding_window", None)
    widths = [value for name, value in known.items() if _WINDOW.search(name)]
    return min((n for n in widths if type(n) is int and n > 0), default=None)


def rotary_turn(config: Any) -> int | None:
    """Return the length above which the longest text of a batch decides how positions turn.

    So it is with rotary embeddings of the types "longrope" and "dynamic"; None for others.
    """
    text = config.get_text_config() if hasattr(config, "get_text_config") else config
    rope = getattr(text, "rope_parameters", None) or getattr(text, "rope_scaling", None) or {}
    kinds = [rope, *(part for part in rope.values() if isinstance(part, dict))]
    if not any(kind.get("rope_type") in ("longrope", "dynamic") for kind in kinds):
        return None
    limits = [kind.get("original_max_position_embeddings") for kind in kinds]
    limits += [getattr(text, "original_max_position_embeddings", None)]
    given = [n for n in limits if type(n) is int]
    return min(given) if given else int(text.max_position_embeddings)


def _split(values: FloatArray, items: Sequence[Item]) -> list[FloatArray]:
    """Cut one column of answers into the parts of the items."""
    stops = np.cumsum([len(item.wants) for item in items])[:-1]
    return [part[:, 0] for part in np.split(values, stops)]
