"""Rows of a batch: what is computed behind the same prefix stands side by side in one row."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import accumulate, pairwise
from math import ceil

import numpy as np

from promptgym.llms.prefix import Entry, pack
from promptgym.types import BoolArray, IntArray

SHARE = 0.6
"""Most tokens side by side in a line, as a share of the mean prefix: see `LEAST`."""
LEAST = 32
"""Tokens side by side that are never too many.

Each attends to all of them, masked or not: more cost more than reading the prefix less often saves.
"""


MASK = 2**25  # positions of a batch times those that they could attend to: 128 MiB in float32


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


@dataclass(slots=True)
class Line:
    """One row of a batch: items behind the same prefix; a mask keeps them apart.

    Attributes:
        source: what stands before all of them, see `Item`.
        start: see `source`.
        items: what is computed.
        width: tokens of all items.
    """

    source: Entry | None
    start: int
    items: list[Item] = field(default_factory=list)
    width: int = 0

    @property
    def prefix(self) -> tuple[int, int]:
        """What tells prefixes apart."""
        return id(self.source), self.start

    def add(self, item: Item) -> None:
        """Put an item behind the others."""
        self.items.append(item)
        self.width += len(item.tokens)


def lines_of(items: Sequence[Item], limit: int) -> list[Line]:
    """Put items behind the same prefix side by side.

    Args:
        items: the work; one without a prefix, or whose key/values are to be kept, stands alone.
        limit: most tokens of a line, its prefix included; 0 puts every item on a line of its own.
    """
    lines: list[Line] = []
    groups: dict[tuple[int, int], list[Item]] = {}
    for item in items:
        if item.keep or not item.start or not limit:
            lines.append(Line(item.source, item.start, [item], len(item.tokens)))
        else:
            groups.setdefault((id(item.source), item.start), []).append(item)
    mean = sum(start for _, start in groups) / max(1, len(groups))
    for (_, start), members in groups.items():
        members.sort(key=lambda item: len(item.tokens))
        total = sum(len(item.tokens) for item in members)
        room = max(1, min(max(LEAST, SHARE * mean), limit - start))
        even = total / ceil(total / room)
        line = Line(members[0].source, start)
        for item in members:
            after = line.width + len(item.tokens)
            if line.items and (line.width >= even or after > room):
                lines.append(line)
                line = Line(item.source, start)
            line.add(item)
        lines.append(line)
    return lines


def batches_of(
    lines: Sequence[Line], budget: int, enough: int, places: Mapping[tuple[int, int], int]
) -> list[list[Line]]:
    """Cut lines into batches.

    Where that fills them, the lines of a batch have different prefixes, in the order in which these
    lie in memory: then nothing of a prefix need be copied (`promptgym.llms.kv`).

    Args:
        lines: the work.
        budget: most tokens of a batch, prefixes and padding included.
        enough: tokens to compute that fill a batch.
        places: where every prefix lies.
    """
    widths = [line.width for line in lines]
    mixed = pack(widths, [line.start + line.width for line in lines], budget)
    batches = [[lines[n] for n in batch] for batch in mixed]
    if places:
        seen: Counter[tuple[int, int]] = Counter()
        rounds: dict[int, list[Line]] = {}
        for line in lines:
            rounds.setdefault(seen[line.prefix], []).append(line)
            seen[line.prefix] += 1
        in_place = []
        for members in rounds.values():
            members.sort(key=lambda line: places[line.prefix])
            in_place += _parts(members, budget, enough)
        full = len(in_place) <= max(len(batches), sum(widths) // enough)
        if full and _computed(in_place) <= 1.1 * _computed(batches):
            return in_place
    return batches


def _parts(lines: list[Line], budget: int, enough: int) -> list[list[Line]]:
    """Cut lines in order into parts of a size, more of them where prefixes differ in length.

    A part computes at most half a budget: prefixes that are not copied take no room.
    """
    width, longest = max(line.width for line in lines), lines[-1].start
    computed = len(lines) * width
    count = max(ceil(2 * computed / budget), ceil(computed * (longest + width) / MASK))
    padding = sum(longest - line.start for line in lines)
    if padding > 0.2 * len(lines) * (longest + width):
        count = max(count, sum(line.width for line in lines) // enough)
    count = min(count, len(lines))
    cuts = [len(lines) * n // count for n in range(count + 1)]
    return [lines[a:b] for a, b in pairwise(cuts)]


def _computed(batches: list[list[Line]]) -> int:
    """Return the tokens that batches compute, padding included."""
    return sum(len(batch) * max(line.width for line in batch) for batch in batches)


@dataclass(slots=True)
class Layout:
    """A batch of B lines as arrays, padded on the right to width W behind prefixes of P tokens.

    Attributes:
        ids: tokens, shape (B, W), int64.
        positions: of each in its text, shape (B, W), int64.
        starts: tokens of each line's prefix, shape (B,).
        wants: line and column of every wanted position, items in order, shape (2, N).
    """

    ids: IntArray
    positions: IntArray
    starts: IntArray
    wants: IntArray
    _segments: IntArray

    @classmethod
    def of(cls, lines: Sequence[Line]) -> Layout:
        """Lay out lines."""
        shape = len(lines), max(line.width for line in lines)
        ids = np.zeros(shape, dtype=np.int64)
        starts = np.array([line.start for line in lines])
        positions = np.repeat(starts[:, None], shape[1], axis=1)
        segments = np.full(shape, -1)
        wants = []
        for n, line in enumerate(lines):
            begins = accumulate((len(item.tokens) for item in line.items), initial=0)
            for number, (item, begin) in enumerate(zip(line.items, begins, strict=False)):
                here = slice(begin, begin + len(item.tokens))
                ids[n, here] = item.tokens
                positions[n, here] += np.arange(len(item.tokens))
                segments[n, here] = number
                wants += [(n, begin + w) for w in item.wants]
        found = np.array(wants, dtype=np.int64).reshape(-1, 2).T
        return cls(ids, positions, starts, found, segments)

    @property
    def prefix(self) -> int:
        """The tokens that prefixes are padded to."""
        return int(self.starts.max())

    @property
    def even(self) -> bool:
        """Whether nothing is padded and nothing side by side."""
        full = (self._segments == 0).all()
        return bool(full and (self.starts == self.prefix).all())

    def visible(self) -> IntArray:
        """Return 1 for tokens and 0 for padding, shape (B, P + W): one item a line."""
        before = np.arange(self.prefix)[None] < self.starts[:, None]
        return np.concatenate([before, self._segments >= 0], axis=1).astype(np.int64)

    def attended(self) -> BoolArray:
        """Return what every position attends to, shape (B, W, P + W)."""
        width = self.ids.shape[1]
        out = np.empty((len(self.ids), width, self.prefix + width), dtype=np.bool_)
        out[..., : self.prefix] = (np.arange(self.prefix)[None] < self.starts[:, None])[:, None]
        same = self._segments[:, :, None] == self._segments[:, None]
        out[..., self.prefix :] = same & np.tri(width, dtype=np.bool_)
        return out
