"""The best of N rewrites by a frozen proposer: the control of every method that asks one.

What a method that learns from its scores adds has to show against this one at an equal budget: it
rewrites the initial prompt again and again and learns nothing. PRewrite (Kong et al., ACL 2024)
calls the same choice among samples its -S variant.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from promptgym.baselines.proposals import END, ProposingMethod, Request, fresh
from promptgym.envs.text import fill
from promptgym.problem import Problem
from promptgym.ranges import COUNT, check_ranges
from promptgym.search.driver import Search

REWRITE = f"""This instruction is given to a language model, which then does a task:
<prompt>{{prompt}}</prompt>
Rewrite it so that the model does the task better: word it otherwise, or add what it should heed.
{END}"""


@dataclass(frozen=True)
class BestOfN(ProposingMethod):
    """Asks the initial prompt and rewrites of it until the budget is spent.

    Attributes:
        batch: rewrites asked of the proposer at a time.
        limit: rewrites in all (the N); None for as many as the budget pays.
    """

    name: ClassVar[str] = "best_of_n"
    batch: int = 16
    limit: int | None = None

    def __post_init__(self) -> None:
        """Refuse numbers that mean nothing."""
        super().__post_init__()
        check_ranges(self.name, self, {COUNT: ("batch", "limit")})

    def search(self, problem: Problem, rng: np.random.Generator) -> Search:
        """Ask batch after batch; a rewrite that came before is not asked again."""
        start = problem.initial_prompt
        request = Request(fill(REWRITE, {"prompt": start.instruction}), start.instruction)
        seen = {start}
        written = 0
        yield [start]
        while self.limit is None or written < self.limit:
            n = self.batch if self.limit is None else min(self.batch, self.limit - written)
            texts = yield from self.write(problem, rng, [request] * n)
            written += n
            if prompts := fresh(texts, start, seen):
                yield prompts
