"""`AnswerCache`: what a model has said already, kept in memory by prompt and example."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from promptgym.prompts import Example, Prompt
from promptgym.types import BoolArray, FloatArray, IntArray, ObjectArray


@dataclass(slots=True)
class _Row:
    """The answers of one prompt, columns in ascending order."""

    columns: IntArray
    values: FloatArray
    answers: FloatArray | ObjectArray


class AnswerCache:
    """Answers of one scorer (fixed model, template and decoding), least recently used dropped.

    Examples become column numbers once; a prompt's answers lie in arrays of exactly the columns it
    was asked about, so that a lookup costs one binary search a prompt, not one object a pair.
    Failures are never kept.
    """

    def __init__(self, pairs: int = 2_000_000) -> None:
        """Keep at most so many prompt x example pairs."""
        self.limit = pairs
        self.pairs = 0
        self._columns: dict[Example, int] = {}
        self._rows: OrderedDict[Prompt, _Row] = OrderedDict()
        self._last: tuple[tuple[Example, ...], IntArray] | None = None

    def columns(self, examples: tuple[Example, ...]) -> IntArray:
        """Return the column number of every example, shape (E,)."""
        if self._last is not None and self._last[0] is examples:
            return self._last[1]
        known = self._columns
        numbers = [known.setdefault(e, len(known)) for e in examples]
        self._last = (examples, np.array(numbers, dtype=np.int64))
        return self._last[1]

    def read(
        self,
        prompt: Prompt,
        columns: IntArray,
        values: FloatArray,
        answers: FloatArray | ObjectArray,
    ) -> BoolArray | None:
        """Fill in what is known of one prompt; return which columns were, or None if none."""
        row = self._rows.get(prompt)
        if row is None:
            return None
        self._rows.move_to_end(prompt)
        at = np.searchsorted(row.columns, columns)
        at[at == len(row.columns)] = 0
        hit: BoolArray = row.columns[at] == columns
        if hit.all():
            values[:] = row.values[at]
            answers[:] = row.answers[at]
        else:
            found = at[hit]
            values[hit] = row.values[found]
            answers[hit] = row.answers[found]
        return hit

    def write(
        self,
        prompt: Prompt,
        columns: IntArray,
        values: FloatArray,
        answers: FloatArray | ObjectArray,
    ) -> None:
        """Keep new answers of one prompt (columns not known before; repeats are folded)."""
        if not self.limit or not len(columns):
            return
        row = self._rows.pop(prompt, None)
        if row is not None:
            self.pairs -= len(row.columns)
            columns = np.concatenate([row.columns, columns])
            values = np.concatenate([row.values, values])
            answers = np.concatenate([row.answers, answers])
        columns, order = np.unique(columns, return_index=True)
        self._rows[prompt] = _Row(columns, values[order], answers[order])
        self.pairs += len(columns)
        while self.pairs > self.limit and len(self._rows) > 1:
            self.pairs -= len(self._rows.popitem(last=False)[1].columns)

    def __len__(self) -> int:
        """Return the number of pairs kept."""
        return self.pairs

    def clear(self) -> None:
        """Forget all answers."""
        self._rows.clear()
        self.pairs = 0


def distinct(prompts: Sequence[Prompt]) -> tuple[list[Prompt], IntArray]:
    """Return the different prompts in order of appearance, and where each given one is."""
    place: dict[Prompt, int] = {}
    index = [place.setdefault(p, len(place)) for p in prompts]
    return list(place), np.array(index, dtype=np.int64)
