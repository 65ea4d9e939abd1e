"""`Outcome`: what is known of one prompt, and `ask`, the one call that finds it out of many."""

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
from promptgym.prompts import Example, Prompt
from promptgym.scoring import Ledger, Scores
from promptgym.types import JSON, FloatArray

Status = Literal["ok", "unscored", "exhausted", "failed"]


@dataclass(frozen=True, slots=True)
class Question:
    """What an environment asks about a state.

    Attributes:
        prompt: the prompt.
        examples: the examples it is asked on; None for the whole training split.
        mistakes: how many of the wrongly answered examples the outcome is to name.
    """

    prompt: Prompt
    examples: tuple[Example, ...] | None = None
    mistakes: int = 0


@dataclass(frozen=True, slots=True)
class Outcome:
    """The scores of one prompt on the examples asked, as an environment sees them.

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
        mistakes: the first wrongly answered examples, by index among those asked, each with the
            answer given (a label, or the text).
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
    mistakes: tuple[tuple[int, str], ...] = ()

    @property
    def known(self) -> bool:
        """Whether the prompt has a score."""
        return self.status == "ok"

    def to_json(self) -> JSON:
        """Return plain JSON values, NaN as None; `from_json` reads them back."""
        return {
            k: None
            if isinstance(v, float) and math.isnan(v)
            else [list(pair) for pair in v]
            if k == "mistakes"
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
        fields["mistakes"] = tuple((i, answer) for i, answer in fields["mistakes"])
        return cls(**fields)


def budget_left(ledger: Ledger, later: int = 0) -> float:
    """Return the share of the query cap that was left before the `later` last queries."""
    left, cap = ledger.queries_left, ledger.budget.queries
    return 1.0 if left is None or cap is None else (left + later) / cap


def ask(problem: Problem, questions: Sequence[Question | None]) -> list[Outcome]:
    """Ask about many states in as few batches as there are: one, where all ask the whole split.

    Questions about the same examples make a batch; so do questions that ask one prompt about one
    example each. The budget is charged batch by batch, in each in the order of the questions, and
    each outcome sees what was left right after its own charge, so that a batch tells the same story
    as one call after another.

    Args:
        problem: whose model answers and whose ledger is charged.
        questions: what to ask; None where there is nothing to ask.

    Returns:
        One outcome a question: "unscored" for None, "exhausted" where the budget did not reach.
    """
    whole = [q if q is None or q.examples is None else None for q in questions]
    out = _ask_prompts(problem, whole)
    batches: dict[object, list[int]] = {}
    for i, question in enumerate(questions):
        if question is not None and question.examples is not None:
            single = len(question.examples) == 1
            batches.setdefault(question.prompt if single else question.examples, []).append(i)
    for key, rows in batches.items():
        batch = [q for i in rows if (q := questions[i]) is not None]
        asked = _ask_examples if isinstance(key, Prompt) else _ask_prompts
        for i, outcome in zip(rows, asked(problem, batch), strict=True):
            out[i] = outcome
    return out


def _ask_prompts(problem: Problem, questions: Sequence[Question | None]) -> list[Outcome]:
    """Ask about many prompts on the same examples, in one batch."""
    ledger = problem.ledger
    wanted = [q for q in questions if q is not None]
    spent_before = ledger.queries
    scores: Scores | None = None
    if wanted:
        with suppress(BudgetExhausted):
            scores = problem.score([q.prompt for q in wanted], wanted[0].examples)
    size = len(scores.examples) if scores is not None else 0
    pending = (ledger.queries - spent_before) // size if size else 0
    known = iter(_outcomes(problem, scores, wanted))
    out = []
    for question in questions:
        outcome = Outcome() if question is None else next(known)
        pending = max(0, pending - (outcome.queries > 0))
        out.append(replace(outcome, budget_left=budget_left(ledger, later=pending * size)))
    return out


def _ask_examples(problem: Problem, questions: Sequence[Question]) -> list[Outcome]:
    """Ask one prompt about an example a question, in one batch, as many as the budget reaches."""
    left = problem.ledger.queries_left
    reached = len(questions) if left is None else min(left, len(questions))
    scores: Scores | None = None
    if reached:
        examples = [q.examples[0] for q in questions[:reached] if q.examples]
        with suppress(BudgetExhausted):
            scores = problem.score([questions[0].prompt], examples)
    out = []
    for i, question in enumerate(questions):
        part = _column(scores, i) if scores is not None and i < reached else None
        outcome = _outcomes(problem, part, [question])[0]
        later = max(0, reached - i - 1) if part is not None else 0
        out.append(replace(outcome, budget_left=budget_left(problem.ledger, later)))
    return out


def _column(scores: Scores, example: int) -> Scores:
    """Return the scores of one example."""
    logprobs, completions, at = scores.label_logprobs, scores.completions, [example]
    return replace(
        scores,
        examples=(scores.examples[example],),
        values=scores.values[:, at],
        status=scores.status[:, at],
        label_logprobs=None if logprobs is None else logprobs[:, at],
        completions=None if completions is None else completions[:, at],
        targets=None if scores.targets is None else scores.targets[at],
        failures=tuple(replace(f, example=0) for f in scores.failures if f.example == example),
    )


def _outcomes(
    problem: Problem, scores: Scores | None, questions: Sequence[Question]
) -> list[Outcome]:
    """Return the outcome of every question, the budget left not filled in."""
    if scores is None:
        return [Outcome("exhausted")] * len(questions)
    rewards, means, size = problem.rewards(scores), scores.mean, len(scores.examples)
    failures = Counter(f.prompt for f in scores.failures)
    out = []
    for i, question in enumerate(questions):
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
                mistakes=mistakes(problem, scores, i, question.mistakes),
            )
            out.append(outcome)
    return out


def mistakes(
    problem: Problem, scores: Scores, row: int, count: int | None = None
) -> tuple[tuple[int, str], ...]:
    """Return the first `count` (all) wrongly answered examples of a prompt, with what it said."""
    wrong = np.flatnonzero(scores.values[row] < 1)[:count].tolist()
    return tuple((j, said(problem, scores, row, j)) for j in wrong)


def said(problem: Problem, scores: Scores, row: int, example: int) -> str:
    """Return what the model answered with a prompt to an example: a label, or what it wrote."""
    if scores.label_logprobs is None:
        return "" if scores.completions is None else str(scores.completions[row, example])
    labels = problem.task.labels or ()
    return labels[int(scores.label_logprobs[row, example].argmax())]


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
