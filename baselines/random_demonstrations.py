"""Random demonstrations: the few-shot prompt that nobody chose, many times over.

In-context learning as in Brown et al. (NeurIPS 2020) with the best of many draws: what choosing
demonstrations has to beat.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from promptgym.baselines.asking import Memory
from promptgym.baselines.demonstrations import DemonstrationSearch
from promptgym.problem import Problem
from promptgym.prompts import Example
from promptgym.search.driver import Search


@dataclass(frozen=True)
class RandomDemonstrations(DemonstrationSearch):
    """Asks random sets of examples, in random order, until the budget is spent.

    Attributes:
        balanced: draw as many of each label as `shots` allows; on a task without labels it changes
            nothing.
    """

    name: ClassVar[str] = "random_demonstrations"
    balanced: bool = True

    def search(self, problem: Problem, rng: np.random.Generator) -> Search:
        """Ask batch after batch, until the budget ends or nothing is new."""
        memory, examples = Memory(problem, "reward"), self.examples(problem)
        while not memory.exhausted:
            sets = [self._draw(problem, examples, rng) for _ in range(self.batch)]
            yield from memory.values([self.showing(problem, chosen) for chosen in sets])

    def _draw(
        self, problem: Problem, examples: tuple[Example, ...], rng: np.random.Generator
    ) -> list[Example]:
        """Return different examples; if balanced, one of each label in turn while they last."""
        order = [examples[i] for i in rng.permutation(len(examples))]
        if self.balanced and problem.task.labels is not None:
            seen = dict.fromkeys(rng.permutation(problem.task.labels).tolist(), 0)
            turns = []
            for example in order:
                turns.append((seen[example.target], list(seen).index(example.target), example))
                seen[example.target] += 1
            turns.sort(key=lambda turn: turn[:2])
            order = [example for _, _, example in turns]
        chosen = order[: self.shots]
        return [chosen[i] for i in rng.permutation(len(chosen))]
