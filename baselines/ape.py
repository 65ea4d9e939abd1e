"""APE: a proposer guesses the instruction from examples; the best guesses are varied.

Source: Zhou et al., "Large Language Models Are Human-Level Prompt Engineers", ICLR 2023, algorithm
1: forward generation (section 3.1) of candidates from small sets of examples; scores on a growing
part of the training split, with candidates that look poor left behind (section 3.2); iterative
Monte Carlo search (section 3.3), where the proposer writes variants of the best candidates. The
wording of the requests is this library's; of its two ways to generate it is the forward one.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import ceil
from typing import ClassVar

import numpy as np

from promptgym.baselines.proposals import (
    END,
    VARIATION,
    ProposingMethod,
    Request,
    best_of,
    draw,
    fresh,
    shown,
    worth,
)
from promptgym.envs.text import fill
from promptgym.problem import Problem
from promptgym.ranges import COUNT, Range, check_ranges
from promptgym.scoring import Race
from promptgym.search.driver import Answer, Ask, Search

FORWARD = f"""Somebody was given one instruction and followed it for each of these inputs:

{{cases}}

What was the instruction? {END}"""


@dataclass(frozen=True)
class APE(ProposingMethod):
    """Guesses instructions, keeps the best, asks for variants of those, until the budget is spent.

    Attributes:
        subsets: sets of training examples that candidates are guessed from.
        cases: examples of a set.
        per_subset: candidates guessed from each set. 3 sets of 5 examples with 30 candidates each
            are those of the published experiments on instruction induction, as is the temperature.
        keep: share of the candidates that are kept in a round, and varied; the paper leaves open
            which one.
        race: ask few examples first and all of them only for candidates that do well there, by
            halving; False asks all.
    """

    name: ClassVar[str] = "ape"
    temperature: float = 0.9
    subsets: int = 3
    cases: int = 5
    per_subset: int = 30
    keep: float = 0.2
    race: bool = True

    def __post_init__(self) -> None:
        """Refuse numbers that mean nothing."""
        super().__post_init__()
        counts = ("subsets", "cases", "per_subset")
        between = Range(0, 1, above=True, below=True)
        check_ranges(self.name, self, {COUNT: counts, between: ("keep",)})

    def search(self, problem: Problem, rng: np.random.Generator) -> Search:
        """Guess once, then vary the best, round after round."""
        start = problem.initial_prompt
        size = self.subsets * self.per_subset
        best = ceil(self.keep * size)
        answer: Answer = yield [start]
        pool = {start: float(worth(answer)[0])}
        requests = self._guesses(problem, rng)
        while True:
            texts = yield from self.write(problem, rng, requests)
            if new := fresh(texts, start, set(pool)):
                rules = Race(keep=min(best, len(new)), seed=int(rng.integers(2**31)))
                answer = yield Ask(new, race=rules if self.race else None)
                pool |= dict(zip(new, worth(answer).tolist(), strict=True))
            if len(pool) == 1:  # nothing could be read: guess again
                requests = self._guesses(problem, rng)
                continue
            parents = best_of(pool, best)
            requests = [vary(parents[i % len(parents)].instruction) for i in range(size - best)]

    def _guesses(self, problem: Problem, rng: np.random.Generator) -> list[Request]:
        """Return requests for instructions that sets of examples might come from."""
        out = []
        for _ in range(self.subsets):
            cases = shown(problem, draw(rng, problem.task.train, self.cases))
            request = Request(fill(FORWARD, {"cases": cases}), problem.initial_prompt.instruction)
            out += [request] * self.per_subset
        return out


def vary(instruction: str) -> Request:
    """Return the request for a variant of an instruction that means the same."""
    return Request(fill(VARIATION, {"prompt": instruction}), instruction)
