"""One `Scorer.score` under way: what is asked, what is known so far, what the next call holds."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

from promptgym.prompts import Example, Prompt
from promptgym.scoring.ledger import Hold
from promptgym.scoring.scores import OK
from promptgym.types import FloatArray, IntArray, ObjectArray, StatusArray


@dataclass(slots=True)
class Work:
    """One `score` call under way: U different prompts x E examples.

    `landings` is how often other threads had written to the cache when it was last looked into.
    """

    prompts: list[Prompt]
    examples: tuple[Example, ...]
    targets: IntArray | None
    columns: IntArray
    values: FloatArray
    status: StatusArray
    answers: FloatArray | ObjectArray
    failures: dict[tuple[int, int], str] = field(default_factory=dict)
    landings: int = -1

    def missing(self, rows: Iterable[int]) -> list[int]:
        """Return those of some rows that lack an answer."""
        lacking = (self.status != OK).any(axis=1)
        return [row for row in rows if lacking[row]]


@dataclass(slots=True)
class Batch:
    """One model call: its rows, and what is set aside for it."""

    rows: list[Row] = field(default_factory=list)
    hold: Hold = field(default_factory=Hold)


@dataclass(slots=True)
class Row:
    """The part of a model call that is one prompt: its row, the examples asked, their texts."""

    number: int
    places: IntArray
    texts: list[str]
