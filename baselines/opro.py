"""OPRO: a proposer reads the best prompts so far with their scores and writes the next ones.

Source: Yang et al., "Large Language Models as Optimizers", ICLR 2024, section 4.2 (the meta-prompt:
the optimization trajectory in ascending order of scores, exemplars of the task, what is wanted) and
section 5.1 (the best 20 instructions, 3 exemplars drawn anew each step, 8 instructions a step at
temperature 1.0, scores as whole percents). The wording is this library's.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from promptgym.baselines.proposals import (
    END,
    ProposingMethod,
    Request,
    best_of,
    draw,
    fresh,
    percent,
    shown,
)
from promptgym.envs.text import fill
from promptgym.problem import Problem
from promptgym.prompts import Prompt
from promptgym.ranges import COUNT, NOT_NEGATIVE, check_ranges
from promptgym.search.driver import Answer, Search

META = f"""Below are instructions for a language model, each with its score from 0 to 100; the
better ones come later.

{{trajectory}}

These are examples of the task; the instruction is given together with the input:

{{cases}}

Write a new instruction that is unlike all of these and will score higher. {END}"""


@dataclass(frozen=True)
class OPRO(ProposingMethod):
    """Asks for new instructions from the trajectory of scored ones until the budget is spent.

    Attributes:
        trajectory: how many of the best instructions the proposer is shown.
        cases: training examples it is shown.
        batch: instructions a step.
    """

    name: ClassVar[str] = "opro"
    trajectory: int = 20
    cases: int = 3
    batch: int = 8

    def __post_init__(self) -> None:
        """Refuse numbers that mean nothing."""
        super().__post_init__()
        check_ranges(self.name, self, {COUNT: ("trajectory", "batch"), NOT_NEGATIVE: ("cases",)})

    def search(self, problem: Problem, rng: np.random.Generator) -> Search:
        """Show the trajectory, ask what comes of it, and so on."""
        start = problem.initial_prompt
        asked, seen, known = [start], {start}, dict[Prompt, float]()
        while True:
            if asked:
                answer: Answer = yield asked
                found = zip(asked, percent(answer).tolist(), strict=True)
                known |= {prompt: score for prompt, score in found if score >= 0}
            request = self._request(problem, rng, known)
            texts = yield from self.write(problem, rng, [request] * self.batch)
            asked = fresh(texts, start, seen)

    def _request(
        self, problem: Problem, rng: np.random.Generator, known: dict[Prompt, float]
    ) -> Request:
        """Return the meta-prompt: the best instructions, best last, and examples drawn anew."""
        best = best_of(known, self.trajectory)
        lines = [
            f"<prompt>{p.instruction}</prompt>\nscore: {round(known[p])}" for p in reversed(best)
        ]
        cases = shown(problem, draw(rng, problem.task.train, self.cases))
        text = fill(META, {"trajectory": "\n\n".join(lines), "cases": cases})
        return Request(text, (best or [problem.initial_prompt])[0].instruction)
