"""The additive problem of `promptgym.testing`, and what a method asks of it."""

from __future__ import annotations

from typing import Any

from promptgym.problem import Problem
from promptgym.runs import ListSink
from promptgym.testing import TransparentModel, transparent_task

GOOD = {"alpha", "beta", "gamma", "delta"}
"""The words that help."""


def make(budget: Any = 8000, **options: Any) -> Problem:
    """Return the problem."""
    return Problem(transparent_task(), TransparentModel(), budget=budget, **options)


def batches(method: Any, problem: Problem, seed: int = 0) -> list[list[str]]:
    """Return the instructions of each batch that a method asks on the training split."""
    sink = ListSink()
    problem.events = sink
    method.optimize(problem, seed=seed)
    return [
        [p["instruction"] for p in event["prompts"]]
        for event in sink.events
        if event["kind"] == "scores" and event["split"] == "train"
    ]
