"""`Asked` and `Known`: what a log says of one prompt, in one row and in all."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from promptgym.prompts import Example, Prompt
from promptgym.scoring import Scores
from promptgym.types import FloatArray


@dataclass(frozen=True, slots=True)
class Asked:
    """One prompt's outcomes on examples, as the log has them: what a check may ask again.

    Attributes:
        split: "train", "dev" or "test".
        examples: which.
        prompt: the prompt.
        scores: of the row of the log.
        row: its place in the scores.
        reward: its reward in the log; None on test, or if there is none.
        told: whether it was not all known before, so that numbers may follow from it.
    """

    split: str
    examples: Sequence[Example]
    prompt: Prompt
    scores: Scores
    row: int
    reward: float | None
    told: bool = True

    def alone(self) -> Asked:
        """Return it without the other prompts of its row."""
        return replace(self, scores=self.scores.select([self.row]), row=0)


@dataclass(slots=True)
class Known:
    """What is known of a prompt on a split.

    Attributes:
        values: outcome on every example, shape (E,); NaN if it failed or was not asked.
        open: whether an example was not asked yet, shape (E,).
        since: queries spent when the last example was asked; None while some are open.
        mean: metric on the whole split, as soon as it is known.
        reward: on the whole split; while examples are open, the sum over those asked.
        at_once: whether one row asked about all of it. Such a prompt takes part in the choice for
            certain; one that was asked in parts does so if that was a race, which no row says.
        twice: whether rows asked about the same example: rewards cannot be put together then.
    """

    values: FloatArray
    open: np.ndarray[Any, np.dtype[np.bool_]]
    since: int | None = None
    mean: float = math.nan
    reward: float = 0.0
    at_once: bool = False
    twice: bool = False
