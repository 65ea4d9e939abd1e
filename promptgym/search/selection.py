"""`Selection`: the one rule by which every method's best prompt is chosen on dev.

The `top` prompts by training reward are asked on dev, at `points` evenly spaced points of the query
budget and at the end; the best by dev (then by training reward) is the incumbent. Dev queries are
charged like all others; those of the final choice are set aside from the start.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from itertools import count

import numpy as np

from promptgym.errors import BudgetExhausted, ConfigError, PromptGymError
from promptgym.problem import Problem
from promptgym.prompts import Prompt
from promptgym.scoring import Scores
from promptgym.search.result import Candidate
from promptgym.tasks import Task
from promptgym.types import JSON, FloatArray

TOP = 8
"""Finalists that are asked on dev at a point."""


def dev_reserve(task: Task, cap: int | None, top: int = TOP) -> int:
    """Return the queries set aside for the final choice on dev, a quarter of the cap at most."""
    wanted = top * len(task.dev)
    return wanted if cap is None else min(wanted, cap // 4)


def check_budget(problem: Problem, reserved: Callable[[int], int]) -> None:
    """Refuse a budget that reaches no prompt on the training split.

    Args:
        problem: what is to be optimized.
        reserved: cap on queries -> how many of them training leaves for other things.

    Raises:
        ConfigError: naming the smallest budget that does.
    """
    cap, needed = problem.ledger.budget.queries, len(problem.task.train)
    if cap is None or cap - reserved(cap) >= needed:
        return
    enough = next(n for n in count(cap) if n - reserved(n) >= needed)
    raise ConfigError(
        f"the budget of {cap} queries is too small: one prompt takes {needed} on the training "
        f"split of task {problem.task.name!r}, and {reserved(cap)} are set aside for choosing and "
        f"showing prompts at the end; give at least {enough}, or a smaller training split "
        f"(task option sizes={{'train': ...}})"
    )


class Selection:
    """Watches training scores, keeps the finalists and chooses among them on dev."""

    def __init__(self, problem: Problem, *, top: int = TOP, points: int = 10) -> None:
        """Set aside the queries of the final choice.

        Args:
            problem: whose ledger is charged.
            top: how many finalists are asked on dev at a point.
            points: how many points the query budget is divided into (0: only the end).
        """
        self.problem = problem
        self.top = top
        self.known: dict[Prompt, Candidate] = {}
        self.dev: dict[Prompt, float] = {}
        self.history: list[JSON] = []
        budget = problem.ledger.budget.queries
        step = budget // points if budget and points else 0
        self._points = [step * (i + 1) for i in range(points - 1)] if step else []
        self._reserve = dev_reserve(problem.task, budget, top)
        problem.ledger.reserved += self._reserve

    def observe(self, scores: Scores, rewards: FloatArray) -> None:
        """Take training scores over the whole training split; at a point, ask the finalists."""
        train = scores.mean
        queries = self.problem.ledger.queries
        for i, prompt in enumerate(scores.prompts):
            if prompt in self.known or not scores.complete[i] or np.isnan(rewards[i]):
                continue
            self.known[prompt] = Candidate(
                prompt, float(rewards[i]), float(train[i]), queries=queries
            )
        if self._points and queries >= self._points[0]:
            while self._points and queries >= self._points[0]:
                self._points.pop(0)
            self.choose()

    def finalists(self) -> list[Candidate]:
        """Return the `top` candidates by training reward, best first."""
        return sorted(self.known.values(), key=lambda c: -c.reward)[: self.top]

    def choose(self) -> Candidate | None:
        """Ask the finalists that dev has not seen, within budget, and log the incumbent."""
        missing = [c.prompt for c in self.finalists() if c.prompt not in self.dev]
        if missing and self.problem.task.dev:
            self._ask(missing)
        best = self.best()
        if best is not None:
            row = {
                "queries": self.problem.ledger.queries,
                "prompt": best.prompt.to_json(),
                "dev": best.dev,
                "train": best.train,
                "reward": best.reward,
            }
            self.history.append(row)
            self.problem.events.emit("incumbent", **row)
        return best

    def _ask(self, prompts: Iterable[Prompt]) -> None:
        """Score prompts on dev, as many as the budget allows."""
        try:
            self.learn_dev(self.problem.score(list(prompts), split="dev"))
        except BudgetExhausted:
            return

    def learn_dev(self, scores: Scores) -> None:
        """Take scores over the whole dev split, so that nobody asks for them again."""
        for prompt, complete, value in zip(
            scores.prompts, scores.complete, scores.mean, strict=True
        ):
            if complete and not np.isnan(value):
                self.dev[prompt] = float(value)

    def best(self) -> Candidate | None:
        """Return the incumbent: best by dev, then reward; by reward alone before any dev."""
        asked = [c for p, c in self.known.items() if p in self.dev]
        if not asked:
            return max(self.known.values(), key=lambda c: c.reward, default=None)
        return self._with_dev(max(asked, key=lambda c: (self.dev[c.prompt], c.reward)))

    def finish(self) -> tuple[Candidate, tuple[Candidate, ...]]:
        """Release the reserve, choose for the last time; return (best, finalists by dev).

        Raises:
            PromptGymError: if no prompt was ever scored.
        """
        self.problem.ledger.reserved -= self._reserve
        self._reserve = 0
        best = self.choose()
        if best is None:
            failed = self.problem.scorer.outcomes.said(self.problem.model.name)
            raise PromptGymError(
                f"no prompt was scored completely: {failed}"
                if failed
                else "no prompt was scored completely: what the budget leaves beside the choice "
                "on dev is smaller than one pass over the training split "
                f"({len(self.problem.task.train)} queries)"
            )
        if best.dev is None and self.problem.task.dev:
            message = (
                "the budget left nothing for dev: the prompt was chosen by its training reward. "
                "Of a cap on queries a part is set aside for dev; of calls, tokens, seconds or "
                "money none is"
            )
            self.problem.events.emit("warning", message=message)
        asked = [self._with_dev(c) for p, c in self.known.items() if p in self.dev]
        asked.sort(key=lambda c: (-(c.dev or 0.0), -c.reward))
        return best, tuple(asked[: self.top]) or (best,)

    def _with_dev(self, candidate: Candidate) -> Candidate:
        """Return the candidate with its dev score filled in."""
        c = candidate
        return Candidate(c.prompt, c.reward, c.train, self.dev[c.prompt], c.queries)
