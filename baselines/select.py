"""The best of the prompts that are there: bandits among the task's own prompts, under a budget.

The bandits are ProTeGi's (`bandits.py`): UCB and UCB-E, successive rejects (Audibert & Bubeck, COLT
2010), successive halving (Jamieson & Talwalkar, AISTATS 2016). What they may spend follows from the
budget.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from promptgym.baselines.bandits import Kind, Pulls, choose
from promptgym.errors import ConfigError
from promptgym.problem import Problem
from promptgym.prompts import Prompt
from promptgym.ranges import COUNT, NOT_NEGATIVE, check_choices, check_ranges
from promptgym.scoring import Race
from promptgym.search.driver import Search, SearchMethod
from promptgym.search.selection import dev_reserve


@dataclass(frozen=True)
class Select(SearchMethod):
    """Chooses among the problem's initial prompt and the task's manual prompts.

    Prompts beyond what the budget reaches are left out at random. The prompts that a bandit keeps
    are asked about every training example; dev decides among them. UCB and UCB-E draw examples anew
    for as long as the budget lasts; where it suffices to ask every prompt about every example, that
    is done once instead, and the rest is not spent.

    Attributes:
        selection: "ucb", "ucb-e", "sr" (successive rejects), "sh" (successive halving), or "all":
            every prompt on every example, in random order.
        keep: prompts that a bandit keeps.
        pulled: prompts that a round of UCB or UCB-E asks.
        samples: examples that each of them is asked about.
        exploration: the c of their bounds.
    """

    name: ClassVar[str] = "select"
    endless: ClassVar[bool] = False
    selection: Kind = "ucb"
    keep: int = 1
    pulled: int = 1
    samples: int = 8
    exploration: float = 1.0

    def __post_init__(self) -> None:
        """Refuse unknown selections and numbers that mean nothing."""
        check_choices(self.name, self)
        counts = ("keep", "pulled", "samples")
        check_ranges(self.name, self, {COUNT: counts, NOT_NEGATIVE: ("exploration",)})

    def check(self, problem: Problem) -> None:
        """Refuse a budget that lets a bandit ask nothing, too."""
        super().check(problem)
        cap = problem.ledger.budget.queries
        if cap is None:
            if not self._whole and len(own_prompts(problem)) > self.keep:
                raise ConfigError(
                    f"select: {self.selection!r} spends the queries there are; give the problem a "
                    "budget of queries, or selection='all'"
                )
            return
        left = cap - dev_reserve(problem.task, cap)
        if not self.reach(problem, left):
            raise ConfigError(
                f"select: the budget leaves {left} queries for choosing by {self.selection!r} and "
                f"asking the {self.keep} it keeps about {len(problem.task.train)} training "
                "examples, which is too few; give a larger budget, a smaller training split, or "
                "selection='all'"
            )

    @property
    def _whole(self) -> bool:
        """Whether the last prompts have been asked about every example when they are chosen."""
        return self.selection in ("all", "sh")

    def reach(self, problem: Problem, left: int | None) -> int:
        """Return how many of the prompts a budget reaches.

        Args:
            problem: what is to be optimized.
            left: queries; None for as many as it takes.
        """
        prompts, examples = len(own_prompts(problem)), len(problem.task.train)
        if left is None or prompts * examples <= left:
            return prompts
        if self.selection == "all":
            return min(prompts, left // examples)
        if self.selection == "sh":
            rules = range(prompts, 0, -1)
            return next((n for n in rules if race_cost(n, self.keep, examples) <= left), 0)
        total = left - self.keep * examples
        if self.selection == "sr":  # it asks each at least once
            return max(0, min(prompts, total))
        return prompts if total >= min(self.pulled, prompts) * min(self.samples, examples) else 0

    def search(self, problem: Problem, rng: np.random.Generator) -> Search:
        """Choose, and ask those chosen."""
        left, examples = problem.ledger.queries_left, len(problem.task.train)
        prompts = own_prompts(problem)
        picks = rng.permutation(len(prompts))[: self.reach(problem, left)]
        prompts = [prompts[i] for i in picks.tolist()]
        total = 0 if left is None else left - self.keep * examples
        pulls = Pulls(total, 1, 1, self.exploration)
        if self.selection in ("ucb", "ucb-e"):
            if left is None or len(prompts) * examples <= left:
                yield prompts
                return
            pulled, samples = min(self.pulled, len(prompts)), min(self.samples, examples)
            pulls = Pulls(total // (pulled * samples), pulled, samples, self.exploration)
        kept = yield from choose(self.selection, problem, rng, prompts, self.keep, pulls)
        if not self._whole:
            yield [prompts[i] for i in kept]


def own_prompts(problem: Problem) -> list[Prompt]:
    """Return the initial prompt and the task's manual prompts, each once."""
    return list(dict.fromkeys([problem.initial_prompt, *problem.task.manual_prompts]))


def race_cost(prompts: int, keep: int, examples: int) -> int:
    """Return the queries of a race by halving."""
    rules = Race(keep=min(keep, prompts))
    total = asked = 0
    for size in rules.heats(examples):
        total += prompts * (size - asked)
        asked = size
        prompts = len(rules.survivors(np.zeros(prompts), size, examples, 1))
    return total
