"""What the searches share: the value that they climb, and a memory of what was asked.

The learned policies remember what they were told; so do these, and a prompt is asked once.
"""

from __future__ import annotations

from collections.abc import Generator, Sequence
from typing import Literal

import numpy as np

from promptgym.problem import Problem
from promptgym.prompts import Prompt
from promptgym.rewards import make_reward
from promptgym.search.driver import Answer, Ask, Search
from promptgym.types import FloatArray

Objective = Literal["reward", "margin", "accuracy", "grips"]
"""What a search climbs: the problem's own reward, or that of this name."""
Values = Generator["Ask | Sequence[Prompt]", Answer, FloatArray]
IDLE = 100
"""Calls in a row without a new prompt after which a search has nothing left to ask."""


class Memory:
    """Asks for the values of prompts, each prompt once.

    Attributes:
        known: prompt -> value; -inf where every call failed.
        idle: calls in a row in which nothing was new.
    """

    def __init__(self, problem: Problem, objective: Objective) -> None:
        """Know nothing yet.

        Args:
            problem: whose prompts are asked.
            objective: what their value is. On a task without labels, where margins and answers'
                entropies are not defined, it is the problem's own reward.
        """
        self.known: dict[Prompt, float] = {}
        self.idle = 0
        reward = None if objective == "reward" else make_reward(objective)
        no_labels = problem.task.labels is None
        self._reward = None if reward is None or (reward.needs_labels and no_labels) else reward

    @property
    def exhausted(self) -> bool:
        """Whether the search goes round in circles: nothing new in `IDLE` calls."""
        return self.idle >= IDLE

    def read(self, answer: Answer) -> FloatArray:
        """Return the value of every prompt of an answer, shape (P,); -inf where there is none."""
        values = answer.rewards if self._reward is None else self._reward(answer.scores)
        return np.where(np.isnan(values), -np.inf, values)

    def values(self, prompts: Sequence[Prompt]) -> Values:
        """Ask for prompts that are not known (`yield from` this); return all values, shape (P,)."""
        new = [p for p in dict.fromkeys(prompts) if p not in self.known]
        self.idle = 0 if new else self.idle + 1
        if new:
            found = self.read((yield new))
            self.known.update(zip(new, found.tolist(), strict=True))
        return np.array([self.known[p] for p in prompts])


def ask_batches(prompts: Sequence[Prompt], batch: int) -> Search:
    """Ask different prompts, `batch` at a time; the answers are for the driver only."""
    distinct = list(dict.fromkeys(prompts))
    for first in range(0, len(distinct), batch):
        yield distinct[first : first + batch]
