"""`Outcome`: what is known of one prompt, and `ask`, the one call that finds it out."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, replace
from typing import Literal

import numpy as np

from promptgym.errors import BudgetExhausted
from promptgym.problem import Problem
from promptgym.prompts import Prompt
from promptgym.scoring import Ledger, Scores
from promptgym.types import JSON, FloatArray

Status = Literal["ok", "unscored", "exhausted", "failed"]


@dataclass(frozen=True, slots=True)
class Outcome:
    """The scores of one prompt on the training split, as an environment sees them.

    Attributes:
        status: "ok"; "unscored" (nobody asked); "exhausted" (the budget did not reach);
            "failed" (every call went wrong).
        score: the task's metric; NaN unless ok.
        reward: the problem's reward; NaN unless ok.
        value: `reward / problem.reward.scale`, about 1 for a perfect prompt; NaN unless ok.
        label_probabilities: mean P(label) over the examples, one number a label, labels summing
            to 1; empty for generation or unless ok.
        label_accuracies: mean metric over the examples of each label (0 where there is none).
        budget_left: share of the query cap that remains after this prompt; 1 without a cap.
        queries: prompt x example pairs it took.
        failures: calls that went wrong (their examples are left out).
    """

    status: Status = "unscored"
    score: float = math.nan
    reward: float = math.nan
    value: float = math.nan
    label_probabilities: tuple[float, ...] = ()
    label_accuracies: tuple[float, ...] = ()
    budget_left: float = 1.0
    queries: int = 0
    failures: int = 0

    @property
    def known(self) -> bool:
        """Whether the prompt has a score."""
        return self.status == "ok"

    def to_json(self) -> JSON:
        """Return plain JSON values, NaN as None; `from_json` reads them back."""
        return {
            k: None
            if isinstance(v, float) and math.isnan(v)
            else list(v)
            if k[:5] == "label"
            else v
            for k, v in asdict(self).items()
        }

    @classmethod
    def from_json(cls, value: JSON) -> Outcome:
        """Read what `to_json` wrote."""
        fields: JSON = {k: math.nan if v is None else v for k, v in value.items()}
        for name in ("label_probabilities", "label_accuracies"):
            fields[name] = tuple(fields[name])
        return cls(**fields)


def budget_left(ledger: Ledger, later: int = 0) -> float:
    """Return the share of the query cap that was left before the `later` last queries."""
    left, cap = ledger.queries_left, ledger.budget.queries
    return 1.0 if left is None or cap is None else (left + later) / cap


def ask(problem: Problem, prompts: Sequence[Prompt | None]) -> list[Outcome]:
    """Score prompts on the training split in one batch.

    The budget is charged in the order of the prompts and each outcome sees what was left right
    after its own charge, so that a batch tells the same story as one call after another.

    Args:
        problem: whose model answers and whose ledger is charged.
        prompts: what to ask; None where there is nothing to ask.

    Returns:
        One outcome a prompt: "unscored" for None, "exhausted" where the budget did not reach.
    """
    ledger = problem.ledger
    wanted = [p for p in prompts if p is not None]
    spent_before = ledger.queries
    scores: Scores | None = None
    if wanted:
        with suppress(BudgetExhausted):
            scores = problem.score(wanted)
    size = len(scores.examples) if scores is not None else 0
    pending = (ledger.queries - spent_before) // size if size else 0
    known = iter(_outcomes(problem, scores, len(wanted)))
    out = []
    for prompt in prompts:
        outcome = Outcome() if prompt is None else next(known)
        pending = max(0, pending - (outcome.queries > 0))
        out.append(replace(outcome, budget_left=budget_left(ledger, later=pending * size)))
    return out


def _outcomes(problem: Problem, scores: Scores | None, count: int) -> list[Outcome]:
    """Return the outcome of every prompt that was wanted, the budget left not filled in."""
    if scores is None:
        return [Outcome("exhausted")] * count
    rewards, means, size = problem.rewards(scores), scores.mean, len(scores.examples)
    failures = Counter(f.prompt for f in scores.failures)
    out = []
    for i in range(count):
        if i >= len(scores) or not scores.complete[i]:
            out.append(Outcome("exhausted"))
        elif np.isnan(means[i]) or np.isnan(rewards[i]):
            out.append(Outcome("failed", queries=size, failures=failures[i]))
        else:
            probabilities, accuracies = _label_statistics(scores, i)
            outcome = Outcome(
                "ok",
                score=float(means[i]),
                reward=float(rewards[i]),
                value=float(rewards[i]) / problem.reward.scale,
                label_probabilities=probabilities,
                label_accuracies=accuracies,
                queries=size,
                failures=failures[i],
            )
            out.append(outcome)
    return out


def _label_statistics(scores: Scores, row: int) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Return mean probability and mean metric by gold label of one prompt; empty for generation."""
    if scores.label_logprobs is None or scores.targets is None:
        return (), ()
    valid = ~np.isnan(scores.values[row])
    logprobs: FloatArray = scores.label_logprobs[row][valid]
    exp = np.exp(logprobs - logprobs.max(axis=-1, keepdims=True))
    probabilities = (exp / exp.sum(axis=-1, keepdims=True)).mean(axis=0)
    targets, values = scores.targets[valid], scores.values[row][valid]
    labels = range(logprobs.shape[-1])
    accuracies = [
        float(values[targets == j].mean()) if (targets == j).any() else 0.0 for j in labels
    ]
    return tuple(float(p) for p in probabilities), tuple(accuracies)
