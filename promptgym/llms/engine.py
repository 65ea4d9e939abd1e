"""`CausalEngine`: token rows in, log-probabilities at chosen positions out, prefixes shared."""

from __future__ import annotations

import inspect
import re
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
import torch

from promptgym.llms.head import HeadTap, gather_logprobs
from promptgym.llms.kv import Prefix, PrefixTable, Scratch
from promptgym.llms.lines import Item, Layout, Line, batches_of, lines_of
from promptgym.llms.prefix import (
    Entry,
    Group,
    PrefixStore,
    Seen,
    key_of,
    plan_groups,
    worth_keeping,
)
from promptgym.types import FloatArray, IntArray

Keep = Callable[[int, Entry], object]
"""Takes the key/values kept of a row, with the number of the row."""
FULL = 1024  # tokens to compute that keep a processor's matrix products at full speed
ROOM = 16  # a table's room is a multiple of it, so that slightly longer prompts need no new one


class CausalEngine:
    """Exact next-token log-probabilities of a causal transformers model.

    Every distinct beginning is computed once in a call, and beginnings that recur (the examples, a
    template's demonstrations) are kept across calls. What follows the same beginning stands side by
    side in one row. Prefixes are padded on the right, as the rest is: a mask hides the padding and
    positions are given explicitly. Where that is not exact (state space models, sliding windows
    shorter than the text), rows run as plain padded batches.
    """

    def __init__(
        self, model: Any, batch_tokens: int, kv_cache_bytes: int, longest: int | None = None
    ) -> None:
        """Find out by trying which savings are exact for this model.

        Args:
            model: a causal model of transformers.
            batch_tokens: of one forward pass.
            kv_cache_bytes: key/values of prefixes that are kept; 0 shares none.
            longest: tokens of the longest text that the model reads; None if it does not say.
        """
        self.model = model
        self.batch_tokens = batch_tokens
        self.longest = batch_tokens if longest is None else longest
        self.device = next(model.parameters()).device
        self.enough = FULL if self.device.type == "cpu" else batch_tokens
        self.takes_positions = "position_ids" in inspect.signature(model.forward).parameters
        self.window = attention_window(model.config)
        self.turn = rotary_turn(model.config)
        self.store = PrefixStore(kv_cache_bytes)
        self.seen = Seen()
        self.wave_bytes = max(kv_cache_bytes, 64 * 2**20)
        self.shares = kv_cache_bytes > 0
        self.side_by_side = False
        self._bytes_per_token = 0
        self._table: PrefixTable | None = None
        self._scratch = Scratch()
        half = next(model.parameters()).dtype != torch.float32
        self._probe(0.25 if half else 1e-4)

    @torch.inference_mode()
    def _probe(self, tolerance: float) -> None:
        """Compare the savings with plain passes, on made-up tokens; switch off what differs."""
        size = self.model.get_input_embeddings().weight.shape[0]
        prefixes = [[(7 * i + 3 * j + 1) % size for j in range(8 + 2 * i)] for i in range(3)]
        ids = torch.tensor([prefix[:7] for prefix in prefixes], device=self.device)
        trial = {"input_ids": ids, "attention_mask": torch.ones_like(ids)}
        self.head = HeadTap(self.model, tolerance, **trial)
        if not self.shares:
            return
        columns = torch.arange(min(size, 64), device=self.device)
        tails = [[(5 * i + 2 * j + 3) % size for j in range(2 + i % 3)] for i in range(6)]
        rows = [prefix + tail for prefix, tail in zip(2 * prefixes, tails, strict=True)]
        alone = [Item(i, row, None, 0, range(len(row) - 1, len(row))) for i, row in enumerate(rows)]
        plain = np.concatenate([self._collect([item], columns) for item in alone])

        def exact(items: list[Item], keep: Keep | None = None) -> bool:
            """Whether items find what plain passes do."""
            found = self._collect(items, columns, keep)
            return bool(np.abs(found - plain).max() < tolerance)

        self.shares = False
        try:
            for item in alone[:3]:
                item.keep = len(prefixes[item.row])
            made: dict[int, Entry] = {}
            exact(alone, made.__setitem__)
            starts = [len(prefix) for prefix in 2 * prefixes]
            behind = [
                Item(i, tail, made[i % 3], starts[i], range(len(tail) - 1, len(tail)))
                for i, tail in enumerate(tails)
            ]
            self.shares = exact(behind)
            self.side_by_side = self.shares and self.window is None and self.turn is None
            self.side_by_side = self.side_by_side and exact(behind)
        except (RuntimeError, ValueError, TypeError, AttributeError, IndexError, KeyError):
            self.side_by_side = False  # another kind of cache, or of mask

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
            self._collect(items, columns, lambda _, entry: self.store.put(entry.key, entry.kv), out)
        spoilt = np.flatnonzero(np.isnan(out).any(axis=1)).tolist()
        if spoilt:  # perhaps by what stood beside it, or before it in this memory: 0 x NaN is NaN
            self._table = None
            self._collect([Item(i, rows[i], None, 0, wants[i]) for i in spoilt], columns, out=out)
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
        self._collect(missing, None, made.__setitem__)
        items = []
        behind = Counter((id(entry), length) for _, entry, length in wave if entry is not None)
        for number, (group, entry, length) in enumerate(wave):
            source, start = entry, length
            new = number in made and worth_keeping(length, group.depth)
            if number in made:
                source, start = made[number], group.depth
            if source is not None and new:
                self.store.put(source.key, source.kv)
            only = not group.depth and behind[id(entry), length] < 2
            for i in group.members:
                keep = 0
                if worth_keeping(start, caps[i]):
                    keep = caps[i] if only else self._again(rows[i][: caps[i]], start, new)
                want = range(wants[i].start - start, wants[i].stop - start)
                items.append(Item(i, rows[i][start:], source, start, want, keep))
        return items

    def _again(self, tokens: Sequence[int], start: int, new: bool) -> int:
        """Return how many tokens are to be kept of a text that begins as others do.

        Args:
            tokens: the text.
            start: tokens that it shares with the others.
            new: whether these are read for the first time. Only then it is remembered: `kept` tells
                of every call that changes what later calls keep.
        """
        if new:
            self.seen.add(key_of(tokens))
            return 0
        again = self.seen.again(key_of(tokens))
        return again if worth_keeping(start, again) else 0

    def _collect(
        self,
        items: list[Item],
        columns: torch.Tensor | None,
        keep: Keep | None = None,
        out: FloatArray | None = None,
    ) -> FloatArray:
        """Run items in batches; gather log-probabilities and the key/values to keep.

        Args:
            items: the work.
            columns: (C,) vocabulary columns for every item, or (rows, W) one target for each
                wanted position of a row; None for prefixes, which have no answer.
            keep: takes kept key/values as they come; None discards them.
            out: where answers are written by row; default: a new array in the items' order.
        """
        width = 0 if columns is None else columns.shape[-1]
        result = np.zeros((len(items), width)) if out is None else out
        place = {item.row: n for n, item in enumerate(items)} if out is None else None
        lines = lines_of(items, self.longest if self.side_by_side else 0)
        table = self._lay_out(lines)
        places = {} if table is None else table.places
        for batch in batches_of(lines, self.batch_tokens, self.enough, places):
            chosen = [item for line in batch for item in line.items]
            values, cache, padded = self._forward(batch, chosen, columns)
            rows = [item.row if place is None else place[item.row] for item in chosen]
            if columns is not None and columns.dim() == 1:
                result[rows] = values
            elif columns is not None:
                for row, item, got in zip(rows, chosen, _split(values, chosen), strict=True):
                    result[row] = 0.0
                    result[row, : len(item.wants)] = got
            if keep is not None and cache is not None:
                self._cut(batch, cache, padded, keep)
        return result

    def _forward(
        self, lines: list[Line], items: list[Item], columns: torch.Tensor | None
    ) -> tuple[FloatArray, Any, int]:
        """Run one padded batch; return answers, the cache and the padded prefix length."""
        layout = Layout.of(lines)
        padded, width = layout.prefix, layout.ids.shape[1]
        inputs: dict[str, Any] = {"input_ids": self._tensor(layout.ids)}
        if padded and self.side_by_side:
            inputs["attention_mask"] = self._mask(layout)
        elif not layout.even:
            inputs["attention_mask"] = self._tensor(layout.visible())
        if padded and self.takes_positions:
            inputs["position_ids"] = self._tensor(layout.positions)
        keeps = any(item.keep for item in items)
        if padded:
            rows = [(line.source, line.start) for line in lines]
            scratch = None if keeps else self._scratch
            inputs["past_key_values"] = self._table_of(rows, width).cache(rows, width, scratch)
        if not padded and not keeps:
            inputs["use_cache"] = False
        if columns is None:
            output = self.head.reader(**inputs)
            return np.zeros((len(items), 0)), output.past_key_values, padded
        where = self._tensor(layout.wants)
        logits, output = self.head.logits(where[0], where[1], **inputs)
        if columns.dim() == 2:
            target = [columns[item.row, : len(item.wants)] for item in items]
            columns = torch.cat(target)[:, None]
        values = gather_logprobs(logits, columns).double().cpu().numpy()
        return values, (output.past_key_values if keeps else None), padded

    def _mask(self, layout: Layout) -> torch.Tensor:
        """Return what is added to attention's scores, shape (B, 1, W, P + W)."""
        attended = self._tensor(layout.attended())[:, None]
        hidden = torch.finfo(self.model.dtype).min
        return torch.zeros(attended.shape, dtype=self.model.dtype, device=self.device).masked_fill_(
            ~attended, hidden
        )

    def _tensor(self, array: np.ndarray[Any, Any]) -> torch.Tensor:
        """Move an array to the model's device."""
        return torch.from_numpy(np.ascontiguousarray(array)).to(self.device)

    def _lay_out(self, lines: Sequence[Line]) -> PrefixTable | None:
        """Make one table for all batches of a call, and for later calls, if memory allows it."""
        longest = max((line.start for line in lines), default=0)
        entry = next((line.source for line in lines if line.source is not None), None)
        if entry is None or not longest:
            return None
        room = max(line.width for line in lines)
        different = len({line.prefix for line in lines})
        size = different * (longest + room) * entry.bytes // entry.kv.shape[-2]
        if size > self.store.limit / 4:
            return None
        return self._table_of([(line.source, line.start) for line in lines], room)

    def _table_of(self, prefixes: Sequence[Prefix], room: int) -> PrefixTable:
        """Return a table that holds prefixes: the last one, or one made for them."""
        if self._table is None or not self._table.holds(prefixes, room):
            self._table = None  # room for the new one
            self._table = PrefixTable(prefixes, -(-room // ROOM) * ROOM)
        return self._table

    def _cut(self, lines: list[Line], cache: Any, padded: int, keep: Keep) -> None:
        """Cut out the key/values that are to be kept."""
        if not any(line.items[0].keep for line in lines):
            return
        layers = [torch.stack([layer.keys, layer.values]) for layer in cache.layers]
        table = torch.stack(layers)  # (layers, 2, batch, heads, tokens, width)
        for n, item in enumerate(line.items[0] for line in lines):
            if not item.keep:
                continue
            new = item.keep - item.start
            kv = torch.cat(
                [table[:, :, n, :, : item.start], table[:, :, n, :, padded : padded + new]], dim=-2
            )
            before = item.source.key[: 4 * item.start] if item.source is not None else b""
            entry = Entry(before + key_of(item.tokens[:new]), kv)
            self._bytes_per_token = entry.bytes // max(1, item.keep)
            keep(item.row, entry)


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
