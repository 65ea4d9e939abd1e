"""Where the episodes of `PromptTable-v0`'s vector environment stand: a column a quantity."""

from __future__ import annotations

from dataclasses import dataclass, fields

import numpy as np

from promptgym.types import JSON, BoolArray, FloatArray, IntArray

VALUE_LIMIT = 10.0  # of `value` in observations
NOTHING, ILLEGAL = -1, -2  # in place of an action: none yet, or one that was not allowed


@dataclass(slots=True)
class Columns:
    """Where the N episodes stand.

    Attributes:
        words: of the prompts, -1 where a slot is empty, shape (N, S).
        length: words of each prompt, shape (N,); all that follow have this shape, too.
        row: of the prompt in the table.
        step: actions taken.
        stopped: whether the policy ended the episode.
        known: whether the prompt was paid for; where not, the budget is spent.
        budget_left: share of the query cap that was left after it.
        start_value: v of the first prompt, 0 if it is not known.
        episode_return: so far.
        queries: of the episode.
        edit: the last action, or `NOTHING` or `ILLEGAL`.
        no_op: whether it changed nothing.
        revisited: whether the prompt had occurred in the episode.
        visited: rows of the episode, -1 behind the last, shape (N, horizon + 1).
    """

    words: IntArray
    length: IntArray
    row: IntArray
    step: IntArray
    stopped: BoolArray
    known: BoolArray
    budget_left: FloatArray
    start_value: FloatArray
    episode_return: FloatArray
    queries: IntArray
    edit: IntArray
    no_op: BoolArray
    revisited: BoolArray
    visited: IntArray

    @classmethod
    def blank(cls, n: int, slots: int, horizon: int) -> Columns:
        """Return N episodes that have not begun."""

        def whole() -> IntArray:
            return np.zeros(n, dtype=np.int64)

        def flags() -> BoolArray:
            return np.zeros(n, dtype=np.bool_)

        return cls(
            words=np.full((n, slots), -1, dtype=np.int64),
            length=whole(),
            row=whole(),
            step=whole(),
            stopped=flags(),
            known=flags(),
            budget_left=np.ones(n),
            start_value=np.zeros(n),
            episode_return=np.zeros(n),
            queries=whole(),
            edit=np.full(n, NOTHING, dtype=np.int64),
            no_op=flags(),
            revisited=flags(),
            visited=np.full((n, horizon + 1), -1, dtype=np.int64),
        )

    def copy(self) -> Columns:
        """Return an independent copy."""
        return Columns(*(getattr(self, f.name).copy() for f in fields(self)))

    def to_json(self) -> JSON:
        """Return plain JSON values; `from_json` reads them back."""
        return {part.name: getattr(self, part.name).tolist() for part in fields(self)}

    def from_json(self, value: JSON) -> Columns:
        """Read what `to_json` wrote of as many episodes of the same form.

        Raises:
            KeyError, TypeError, ValueError: it is damaged, or of another form.
        """
        arrays = {}
        for part in fields(self):
            old = getattr(self, part.name)
            new = np.array(value[part.name], dtype=old.dtype)
            if new.shape != old.shape:
                raise ValueError(f"{part.name} has shape {new.shape}, here {old.shape}")
            arrays[part.name] = new
        return Columns(**arrays)
