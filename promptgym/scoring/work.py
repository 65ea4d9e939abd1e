"""One `Scorer.score` under way: what is asked, what is known so far, what the next call holds."""

from __future__ import annotations

from dataclasses import dataclass, field

from promptgym.prompts import Example, Prompt
from promptgym.scoring.ledger import Hold
from promptgym.types import FloatArray, IntArray, ObjectArray, StatusArray


@dataclass(slots=True)
class Work:
    """One `score` call under way: U different prompts x E examples."""

    prompts: list[Prompt]
    examples: tuple[Example, ...]
    targets: IntArray | None
    columns: IntArray
    values: FloatArray
    status: StatusArray
    answers: FloatArray | ObjectArray
    failures: dict[tuple[int, int], str] = field(default_factory=dict)


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
