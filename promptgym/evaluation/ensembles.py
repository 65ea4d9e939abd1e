"""The held-out score of an ensemble: its vote, paid by the same metric as single prompts."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from promptgym.evaluation.evaluate import evaluate, metric_interval, number
from promptgym.problem import Problem
from promptgym.search import Ensemble
from promptgym.tasks import Task
from promptgym.types import JSON


def ensemble_row(ensemble: Ensemble, problem: Problem, task: Task, split: str) -> JSON:
    """Return the score of an ensemble on a split, at no cost to the problem's budget.

    Args:
        ensemble: of prompts.
        problem: whose model and template are used.
        task: the problem's task with its test split open.
        split: "dev" or "test".

    Returns:
        value (over the examples that got an answer), low, high, examples, failures, and queries:
        what it took, one of each different prompt for every example.
    """
    store = problem.store
    scores = evaluate(
        ensemble.distinct,
        task,
        problem.model,
        split=split,
        template=problem.template,
        cache=False if store is None else store,
    ).scores
    values = ensemble.values(scores, task.labels or ())[None]
    voted = replace(scores.select([0]), values=values)
    low, high, _ = metric_interval(voted)
    return {
        "value": number(voted.mean[0]),
        "low": number(low[0]),
        "high": number(high[0]),
        "examples": len(scores.examples),
        "failures": int(np.isnan(values).sum()),
        "queries": scores.values.size,
    }


def ensemble_record(ensemble: Ensemble | None, problem: Problem, task: Task) -> JSON | None:
    """Return an ensemble with its scores on dev and test, as `result.json` has it.

    Its `text` says in words what it is.
    """
    if ensemble is None:
        return None
    rows = {
        split: ensemble_row(ensemble, problem, task, split) if getattr(task, split) else None
        for split in ("dev", "test")
    }
    members, prompts = len(ensemble.prompts), len(ensemble.distinct)
    text = f"{members} votes of {prompts} prompts together" if members > 1 else "one prompt"
    return {**ensemble.to_json(), **rows, "text": text}
