"""Random edits of the start prompt: what edits are worth when nothing is learned from answers.

The control of every method that edits: it draws the same edits as `hill_climbing`, but never builds
on what scored well.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from promptgym.baselines.asking import Memory
from promptgym.baselines.hill_climbing import Words, edit
from promptgym.problem import Problem
from promptgym.ranges import COUNT, check_ranges
from promptgym.search.driver import Search, SearchMethod


@dataclass(frozen=True)
class RandomEdits(SearchMethod):
    """Asks the start prompt, then prompts that are a few random edits away from it.

    Attributes:
        most: edits of a prompt at most; each number from 1 on is as likely.
        batch: prompts asked at a time (a matter of speed only).
        longest: most words of a prompt.
    """

    name: ClassVar[str] = "random_edits"
    most: int = 8
    batch: int = 16
    longest: int = 14

    def __post_init__(self) -> None:
        """Refuse numbers below 1."""
        check_ranges(self.name, self, {COUNT: ("most", "batch", "longest")})

    def search(self, problem: Problem, rng: np.random.Generator) -> Search:
        """Ask batch after batch, until the budget ends or nothing is new."""
        start, memory = problem.initial_prompt, Memory(problem, "reward")
        yield from memory.values([start])
        while not memory.exhausted:
            walks = [self._walk(start.words, problem.vocabulary, rng) for _ in range(self.batch)]
            yield from memory.values([start.with_words(w) for w in walks])

    def _walk(self, words: Words, vocabulary: Words, rng: np.random.Generator) -> Words:
        """Return the words after 1 to `most` edits."""
        longest = max(self.longest, len(words))
        for _ in range(int(rng.integers(1, self.most + 1))):
            words = edit(words, vocabulary, rng, longest=longest, swaps=True)
        return words
