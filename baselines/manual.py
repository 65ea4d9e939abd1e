"""The prompts a person would write: the floor that every method has to beat."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from promptgym.problem import Problem
from promptgym.search.driver import Search, SearchMethod


@dataclass(frozen=True)
class ManualPrompts(SearchMethod):
    """Scores the problem's initial prompt and, if wanted, all of the task's manual prompts.

    Attributes:
        every: ask all manual prompts and choose among them on dev; else the initial prompt alone.
    """

    name: ClassVar[str] = "manual"
    endless: ClassVar[bool] = False
    every: bool = False

    def search(self, problem: Problem, rng: np.random.Generator) -> Search:
        """Ask the prompts, once."""
        others = problem.task.manual_prompts if self.every else ()
        yield list(dict.fromkeys([problem.initial_prompt, *others]))
