"""The empty prompt: what the model does when it is told nothing. A floor."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from promptgym.problem import Problem
from promptgym.prompts import Prompt
from promptgym.search.driver import Search, SearchMethod


@dataclass(frozen=True)
class EmptyPrompt(SearchMethod):
    """Scores the prompt without a word, once."""

    name: ClassVar[str] = "empty"
    endless: ClassVar[bool] = False

    def search(self, problem: Problem, rng: np.random.Generator) -> Search:
        """Ask one prompt."""
        yield [Prompt("")]
