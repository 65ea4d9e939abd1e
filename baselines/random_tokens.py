"""Uniformly random words: the floor of every search, and a surprisingly high one.

Source: "Strings from the Library of Babel: Random Sampling as a Strong Baseline for Prompt
Optimisation" (Lu et al., NAACL 2024), which samples strings of a fixed length; here lengths are
drawn as well by default.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from promptgym.errors import ConfigError
from promptgym.problem import Problem
from promptgym.prompts import Prompt
from promptgym.scoring import Race
from promptgym.search.driver import Ask, Search, SearchMethod


def random_prompt(
    problem: Problem, rng: np.random.Generator, shortest: int, longest: int
) -> Prompt:
    """Return words drawn uniformly from the problem's vocabulary; the length is uniform too."""
    length = int(rng.integers(shortest, longest + 1))
    index = rng.integers(len(problem.vocabulary), size=length)
    return problem.initial_prompt.with_words([problem.vocabulary[i] for i in index])


@dataclass(frozen=True)
class RandomTokens(SearchMethod):
    """Asks random prompts until the budget is spent.

    Attributes:
        shortest: fewest words of a prompt.
        longest: most words; equal to `shortest` for a fixed length.
        batch: prompts asked at a time (a matter of speed only, but in a race).
        keep: prompts of a batch that are asked about every example; the others leave a race by
            halving before (`promptgym.scoring.Race`). None asks all of them about everything.
    """

    name: ClassVar[str] = "random_tokens"
    shortest: int = 1
    longest: int = 8
    batch: int = 16
    keep: int | None = None

    def __post_init__(self) -> None:
        """Refuse lengths that cannot be drawn, and races without a winner."""
        if not 1 <= self.shortest <= self.longest:
            raise ConfigError(
                f"random_tokens: expected 1 <= shortest <= longest, got {self.shortest} and "
                f"{self.longest}"
            )
        if self.keep is not None and not 1 <= self.keep <= self.batch:
            raise ConfigError(
                f"random_tokens: expected 1 <= keep <= batch ({self.batch}), got {self.keep}"
            )

    def search(self, problem: Problem, rng: np.random.Generator) -> Search:
        """Ask batch after batch."""
        rules = None if self.keep is None else Race(keep=self.keep)
        while True:
            prompts = [
                random_prompt(problem, rng, self.shortest, self.longest) for _ in range(self.batch)
            ]
            yield Ask(prompts, race=rules)
