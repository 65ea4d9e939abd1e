"""Bandits that choose the best of many prompts from scores on few examples.

ProTeGi's selection (Pryzant et al., EMNLP 2023, section 3.2.2 and appendix): UCB, UCB-E, successive
rejects, successive halving. Each is a part of a search: it yields what it wants scored and returns
the index of the prompts kept, best first. They go by the task's metric, which is in [0, 1] as their
bounds expect.
"""

from __future__ import annotations

from collections.abc import Generator, Sequence
from dataclasses import dataclass
from math import ceil, log
from typing import Any, Literal

import numpy as np

from promptgym.baselines.proposals import draw, worth
from promptgym.problem import Problem
from promptgym.prompts import Prompt
from promptgym.scoring import Race
from promptgym.search.driver import Answer, Ask
from promptgym.types import FloatArray, IntArray

Kind = Literal["ucb", "ucb-e", "sr", "sh", "all"]
Choice = Generator[Ask, Any, list[int]]


@dataclass(frozen=True)
class Pulls:
    """What a bandit may spend.

    Attributes:
        rounds: rounds of UCB and UCB-E.
        prompts: prompts asked a round.
        examples: examples that each of them is asked about.
        exploration: the c of their bounds.
    """

    rounds: int = 8
    prompts: int = 8
    examples: int = 32
    exploration: float = 1.0

    @property
    def total(self) -> int:
        """Queries of all rounds; successive rejects has as many."""
        return self.rounds * self.prompts * self.examples


class Means:
    """Running mean of the metric of K prompts over the examples they were asked about.

    Attributes:
        counts: examples asked, shape (K,).
    """

    def __init__(self, arms: int) -> None:
        """Begin without an example."""
        self.sums, self.counts = np.zeros(arms), np.zeros(arms)

    def take(self, arms: Sequence[int], answer: Answer) -> None:
        """Take the scores of some prompts; failed calls do not count."""
        values = answer.scores.values
        self.sums[list(arms)] += np.nansum(values, axis=1)
        self.counts[list(arms)] += (~np.isnan(values)).sum(axis=1)

    @property
    def values(self) -> FloatArray:
        """Means, shape (K,); -inf for a prompt that was never asked."""
        return np.where(self.counts > 0, self.sums / np.maximum(self.counts, 1), -np.inf)

    def best(self, count: int) -> list[int]:
        """Return the `count` best, best first; of equal ones the earlier."""
        order: list[int] = np.argsort(-self.values, kind="stable").tolist()
        return order[:count]


def choose(
    kind: Kind,
    problem: Problem,
    rng: np.random.Generator,
    prompts: Sequence[Prompt],
    keep: int,
    pulls: Pulls,
) -> Choice:
    """Choose `keep` of the prompts; "all" asks every one about every example."""
    if kind in ("ucb", "ucb-e"):
        return (yield from upper_bounds(kind, problem, rng, prompts, keep, pulls))
    if kind == "sr":
        return (yield from successive_rejects(problem, rng, prompts, keep, pulls))
    rules = None
    if kind == "sh":
        rules = Race(keep=min(keep, len(prompts)), seed=int(rng.integers(2**31)))
    answer: Answer = yield Ask(prompts, race=rules)
    order: list[int] = np.argsort(-worth(answer), kind="stable").tolist()
    return order[:keep]


def bound(kind: str, means: Means, step: int, exploration: float) -> FloatArray:
    """Return the upper bound of every prompt, shape (K,); inf for one that was never asked.

    With Q the mean and N the examples of a prompt: UCB Q + c sqrt(log t / N) at step t, UCB-E
    Q + c sqrt(c / N) (algorithm 4 of the paper).
    """
    over = log(step) if kind == "ucb" else exploration
    radius = exploration * np.sqrt(over / np.maximum(means.counts, 1))
    return np.where(means.counts > 0, means.values + radius, np.inf)


def upper_bounds(
    kind: str,
    problem: Problem,
    rng: np.random.Generator,
    prompts: Sequence[Prompt],
    keep: int,
    pulls: Pulls,
) -> Choice:
    """Ask the prompts of largest upper bound about examples drawn anew, round after round.

    Which of equal bounds comes first is drawn: there may be more prompts than the rounds reach.
    """
    means, mixed = Means(len(prompts)), rng.permutation(len(prompts))
    for step in range(1, pulls.rounds + 1):
        bounds = bound(kind, means, step, pulls.exploration)[mixed]
        arms = mixed[np.argsort(-bounds, kind="stable")][: pulls.prompts].tolist()
        examples = draw(rng, problem.task.train, pulls.examples)
        answer: Answer = yield Ask([prompts[i] for i in arms], examples)
        means.take(arms, answer)
    return means.best(keep)


def phases(arms: int, keep: int, total: int) -> list[int]:
    """Return the examples every surviving prompt was asked about by the end of each phase.

    n_k = ceil((total - K) / (log_bar(K) (K + 1 - k))), log_bar(K) = 1/2 + sum_{i=2..K} 1/i, for
    k = 1, 2, ... (successive rejects, Audibert & Bubeck, COLT 2010); `keep` prompts are left.
    """
    log_bar = 0.5 + sum(1 / i for i in range(2, arms + 1))
    lengths = [ceil((total - arms) / (log_bar * (arms + 1 - k))) for k in range(1, arms - keep + 1)]
    return [max(1, n) for n in lengths]


def successive_rejects(
    problem: Problem,
    rng: np.random.Generator,
    prompts: Sequence[Prompt],
    keep: int,
    pulls: Pulls,
) -> Choice:
    """Drop the worst prompt after each phase; a phase asks about examples not seen before."""
    train = problem.task.train
    order: IntArray = rng.permutation(len(train))
    means, running, asked = Means(len(prompts)), list(range(len(prompts))), 0
    for length in phases(len(prompts), keep, pulls.total):
        new = order[asked : min(length, len(train))].tolist()
        if new:
            answer: Answer = yield Ask([prompts[i] for i in running], [train[i] for i in new])
            means.take(running, answer)
            asked += len(new)
        running.remove(min(reversed(running), key=lambda i: means.values[i]))
    return sorted(running, key=lambda i: -means.values[i])[:keep]
