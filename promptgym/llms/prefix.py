"""Shared beginnings: which texts begin alike, and the key/values of beginnings that recur."""

from __future__ import annotations

from bisect import bisect_left, insort
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import chain

import numpy as np
import torch

from promptgym.types import IntArray

MIN_GAIN = 16  # tokens a group must save to be worth a pass of its own
WORTH_KEEPING = 32  # tokens by which a prefix must exceed what is kept of it already

SEEN = 2**13  # texts remembered, see `Seen`; when there are more, all are forgotten


def key_of(tokens: Sequence[int]) -> bytes:
    """Return tokens as bytes that sort as the tokens do."""
    return np.asarray(tokens, dtype=">u4").tobytes()


def common_tokens(a: bytes, b: bytes) -> int:
    """Return how many tokens two keys have in common at the start."""
    n = min(len(a), len(b))
    if a[:n] == b[:n]:
        return n // 4
    left, right = np.frombuffer(a[:n], ">u4"), np.frombuffer(b[:n], ">u4")
    return int((left != right).argmax())


def nearest(keys: Sequence[bytes], key: bytes) -> tuple[bytes | None, int]:
    """Return which of some sorted keys shares the longest beginning with a key, and its tokens."""
    at = bisect_left(keys, key)
    best, length = None, 0
    for neighbour in keys[max(0, at - 1) : at + 1]:
        shared = common_tokens(neighbour, key)
        if shared > length:
            best, length = neighbour, shared
    return best, length


@dataclass(slots=True)
class Entry:
    """Key/values of a token sequence, shape (layers, 2, heads, tokens, width)."""

    key: bytes
    kv: torch.Tensor

    @property
    def bytes(self) -> int:
        """Memory of the key/values."""
        return self.kv.numel() * self.kv.element_size()


class PrefixStore:
    """Key/values of prefixes, found by longest common beginning, least recently used dropped.

    A prefix of an entry needs no entry of its own: key/values of a causal model depend on what is
    to the left only, so any cut of an entry is as good as one computed for it.

    Attributes:
        changes: how often an entry was put.
    """

    def __init__(self, limit_bytes: int) -> None:
        """Keep at most so many bytes."""
        self.limit = limit_bytes
        self.bytes = 0
        self.changes = 0
        self._sorted: list[bytes] = []
        self._entries: OrderedDict[bytes, Entry] = OrderedDict()

    def __len__(self) -> int:
        """Return the number of entries."""
        return len(self._entries)

    def longest(self, key: bytes) -> tuple[Entry | None, int]:
        """Return the entry that shares the longest beginning with `key`, and its tokens."""
        best, length = nearest(self._sorted, key)
        if best is None:
            return None, 0
        self._entries.move_to_end(best)
        return self._entries[best], length

    def put(self, key: bytes, kv: torch.Tensor) -> Entry:
        """Keep an entry, unless it holds NaN; those that it extends are dropped."""
        entry = Entry(key, kv)
        if entry.bytes > self.limit or key in self._entries:
            return entry
        if not kv.sum(dtype=torch.float32).isfinite():  # its own, or of what was read beside it
            return entry
        self.changes += 1
        at = bisect_left(self._sorted, key)
        if at and key.startswith(self._sorted[at - 1]):
            self._drop(self._sorted[at - 1])
        insort(self._sorted, key)
        self._entries[key] = entry
        self.bytes += entry.bytes
        while self.bytes > self.limit:
            self._drop(next(iter(self._entries)))
        return entry

    def _drop(self, key: bytes) -> None:
        """Forget one entry."""
        self.bytes -= self._entries.pop(key).bytes
        del self._sorted[bisect_left(self._sorted, key)]


def worth_keeping(known: int, tokens: int) -> bool:
    """Whether a prefix is so much longer than what is kept of it that it should be kept too."""
    return tokens > 0 and (known < tokens / 2 or tokens - known >= WORTH_KEEPING)


class Seen:
    """Texts that went on behind a beginning when it was new: which of them come again is kept.

    All texts may begin alike (a begin token, "Review:") and differ then: whether in inputs, which
    come again with the next prompt, or in what stands behind this prompt alone, time must tell.
    """

    def __init__(self) -> None:
        """Begin with none."""
        self._sorted: list[bytes] = []

    def add(self, key: bytes) -> None:
        """Remember a text."""
        if len(self._sorted) >= SEEN:
            self._sorted.clear()
        insort(self._sorted, key)

    def again(self, key: bytes) -> int:
        """Return how many tokens of a text stood at the begin of one that is remembered."""
        return nearest(self._sorted, key)[1]


@dataclass(slots=True)
class Group:
    """Rows that begin with the same `depth` tokens."""

    depth: int
    members: list[int]


@dataclass(slots=True)
class _Interval:
    """A run of sorted rows with a common beginning, while the runs are being found."""

    depth: int
    left: int
    gain: int = 0
    groups: list[tuple[int, int, int]] = field(default_factory=list)


def plan_groups(rows: Sequence[Sequence[int]], caps: Sequence[int], known: IntArray) -> list[Group]:
    """Choose which rows share a prefix, so that as few tokens as possible are computed.

    Rows are sorted; every run of neighbours with a common beginning is a node of a tree (the
    intervals of the longest-common-prefix array), and a node becomes a group if that saves more
    than the groups below it do. Takes O(rows) steps after the sort.

    Args:
        rows: token sequences.
        caps: tokens of each row that may come from a prefix (those before its first answer).
        known: tokens of each row whose key/values are kept already, shape (N,).

    Returns:
        Groups of at least two rows; the rows in none of them are best computed by themselves.
    """
    order = sorted(range(len(rows)), key=lambda i: list(rows[i]))
    shared = _neighbours(rows, order, caps)
    before = np.concatenate([[0], np.cumsum(known[order])]).tolist()
    best = known[order].tolist()
    stack = [_Interval(0, 0)]
    for at, depth in enumerate([*shared, 0], start=1):
        left = at - 1
        below: _Interval | None = None
        while depth < stack[-1].depth:
            top = stack.pop()
            left = top.left
            members = at - left
            cached = min(top.depth, max(best[left:at]))
            gain = (members - 1) * top.depth - (before[at] - before[left]) + cached
            if gain >= max(top.gain, MIN_GAIN):
                top.gain, top.groups = gain, [(top.depth, left, at)]
            if depth <= stack[-1].depth:
                stack[-1].gain += top.gain
                stack[-1].groups += top.groups
            else:
                below = top
        if depth > stack[-1].depth:
            new = _Interval(depth, left)
            if below is not None:
                new.gain, new.groups = below.gain, below.groups
            stack.append(new)
    return [Group(depth, order[left:right]) for depth, left, right in stack[0].groups]


def _neighbours(
    rows: Sequence[Sequence[int]], order: Sequence[int], caps: Sequence[int]
) -> list[int]:
    """Return the usable common beginning of each sorted row and the next."""
    if len(rows) < 2:
        return []
    lengths = np.array([len(rows[i]) for i in order])
    table = np.full((len(rows), int(lengths.max()) + 1), -1, dtype=np.int64)
    filled = np.arange(table.shape[1])[None] < lengths[:, None]
    tokens = chain.from_iterable(rows[i] for i in order)
    table[filled] = np.fromiter(tokens, np.int64, int(lengths.sum()))
    differ = table[1:] != table[:-1]
    differ |= ~(filled[1:] & filled[:-1])
    limit = np.asarray(caps)[list(order)]
    usable = np.minimum(differ.argmax(1), np.minimum(limit[1:], limit[:-1]))
    return [int(n) for n in usable]


def pack(
    lengths: Sequence[int], sizes: Sequence[int], budget: int, spare: int = 128
) -> list[list[int]]:
    """Cut items into batches of similar length.

    Args:
        lengths: tokens to compute of each item, padded within a batch.
        sizes: tokens of memory of each item; a batch holds at most `budget` of them, padded.
        budget: see `sizes`; an item larger than it is a batch of its own.
        spare: padding that costs less than another pass through the model.
    """
    order = sorted(range(len(lengths)), key=lambda i: (lengths[i], sizes[i]))
    batches: list[list[int]] = []
    current: list[int] = []
    total = widest = 0
    for i in order:
        count = len(current) + 1
        size = max(widest, sizes[i])
        padding = count * lengths[i] - total - lengths[i]
        wasteful = padding > max(spare, 0.1 * count * lengths[i])
        if current and (size * count > budget or wasteful):
            batches.append(current)
            current, total, size = [], 0, sizes[i]
        current.append(i)
        total += lengths[i]
        widest = size
    if current:
        batches.append(current)
    return batches
