"""`evaluate`: the score of prompts on a held-out split, with an interval. Opens the test split."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from promptgym.arguments import check_arguments, checked, hints
from promptgym.errors import ConfigError, TaskError
from promptgym.evaluation.intervals import Difference, bootstrap, paired_bootstrap, wilson
from promptgym.llms import LanguageModel
from promptgym.problem import Problem, choose_template, the_model, the_task
from promptgym.prompts import Example, Prompt, Template
from promptgym.rewards import Reward, RewardSpec, make_reward
from promptgym.scoring import Ledger, Scorer, Scores
from promptgym.scoring.store import CacheSpec, open_store
from promptgym.tasks import Task
from promptgym.types import JSON, FloatArray, IntArray

PromptLike = Prompt | str | dict[str, Any]

_OWN = ("task", "model", "template", "ledger", "store")
"""Arguments of `Scorer` that `evaluate` fills in itself."""


@dataclass(frozen=True, slots=True)
class Evaluation:
    """Prompts' scores on one split.

    Attributes:
        task: name of the task.
        model: name of the model.
        split: "test", "dev" or "train".
        template: the template's text.
        scores: everything that was measured, example by example.
        mean: the task's metric of every prompt, shape (P,).
        low: lower ends of the intervals, shape (P,).
        high: upper ends, shape (P,).
        method: how the intervals were made: "wilson" or "bca".
        confidence: coverage aimed at.
        rewards: the reward of every prompt, shape (P,), if one was asked for.
        spent: queries, calls, tokens and seconds.
    """

    task: str
    model: str
    split: str
    template: str
    scores: Scores
    mean: FloatArray
    low: FloatArray
    high: FloatArray
    method: str
    confidence: float
    rewards: FloatArray | None
    spent: JSON

    @property
    def prompts(self) -> tuple[Prompt, ...]:
        """The P prompts."""
        return self.scores.prompts

    @property
    def values(self) -> FloatArray:
        """Score of every prompt on every example, shape (P, E); NaN is a failure."""
        return self.scores.values

    def __len__(self) -> int:
        """Return P."""
        return len(self.scores)

    def rows(self) -> list[JSON]:
        """Return one row a prompt.

        Its keys: prompt, value (over the examples that were answered), value_with_failures (failed
        ones counted as 0), low, high, examples, failures, statuses (failures by kind), and reward
        if one was asked for.
        """
        with_failures = self.scores.mean_with_failures
        failures = self.scores.failed.sum(axis=1)
        rows: list[JSON] = [
            {
                "prompt": prompt.to_json(),
                "value": number(self.mean[i]),
                "value_with_failures": number(with_failures[i]),
                "low": number(self.low[i]),
                "high": number(self.high[i]),
                "examples": len(self.scores.examples),
                "failures": int(failures[i]),
                "statuses": self.scores.counts(i),
            }
            for i, prompt in enumerate(self.prompts)
        ]
        if self.rewards is not None:
            for row, reward in zip(rows, self.rewards, strict=True):
                row["reward"] = number(reward)
        return rows

    def to_json(self) -> JSON:
        """Return everything but the single examples, as JSON."""
        return {
            "task": self.task,
            "model": self.model,
            "split": self.split,
            "metric": self.scores.metric.name,
            "template": self.template,
            "interval": self.method,
            "confidence": self.confidence,
            "prompts": self.rows(),
            "spent": self.spent,
        }


@checked(ConfigError)
def evaluate(
    prompts: PromptLike | Sequence[PromptLike],
    task: str | Path | Task,
    model: str | LanguageModel,
    *,
    split: str = "test",
    template: Template | str | None = None,
    reward: RewardSpec | Reward | None = None,
    confidence: float = 0.95,
    resamples: int = 5000,
    seed: int = 0,
    limit: int | None = None,
    task_options: JSON | None = None,
    model_options: JSON | None = None,
    cache: CacheSpec = None,
    **scorer_options: Any,
) -> Evaluation:
    """Score prompts on a held-out split, with an interval over its examples.

    A ledger of its own counts the cost: nothing is charged to any problem. Metrics that are 0 or 1
    get Wilson's interval, others (and balanced ones) a BCa bootstrap over examples.

    Args:
        prompts: one prompt or several.
        task: a task with its test split open, or what `load_task` takes.
        model: a model, or what `load_model` takes.
        split: "test", "dev" or "train".
        template: instead of the task's own.
        reward: also pay this reward (`Evaluation.rewards`).
        confidence: coverage of the intervals.
        resamples: of the bootstrap.
        seed: of the bootstrap.
        limit: score on the first examples only.
        task_options: further arguments of `load_task`.
        model_options: further arguments of `load_model`.
        cache: the cache that lasts, as `Problem` takes it.
        scorer_options: further arguments of `Scorer`, such as `batch_size`.

    Raises:
        TaskError: if the split is unknown, empty, or closed (the task of a `Problem`).
        ConfigError: for no prompts, a limit or number of resamples below 1, a confidence outside
            (0, 1), or an unknown option.
    """
    if isinstance(prompts, (Prompt, str, dict)) or not isinstance(prompts, Iterable):
        prompts = [prompts]
    asked = [Prompt.of(prompt) for prompt in prompts]
    if not asked:
        raise ConfigError("there are no prompts to evaluate")
    if limit is not None and limit < 1:
        raise ConfigError(f"limit must be at least 1 or None, got {limit}")
    if not 0 < confidence < 1 or resamples < 1:
        raise ConfigError(
            "confidence must lie between 0 and 1 and resamples be at least 1, got "
            f"{confidence} and {resamples}"
        )
    passed_on = {name: kind for name, kind in hints(Scorer).items() if name not in _OWN}
    check_arguments("evaluate", {**hints(evaluate), **passed_on}, scorer_options, ConfigError)
    task = the_task(task, **(task_options or {}))
    model = the_model(model, **(model_options or {}))
    examples = examples_of(task, split)[:limit]
    chosen = choose_template(task, model, template)
    ledger = Ledger()
    store = open_store(cache, model)
    scorer = Scorer(task, model, chosen, ledger=ledger, store=store, **scorer_options)
    scores = scorer.score(asked, examples)
    low, high, method = metric_interval(scores, confidence, resamples, seed)
    return Evaluation(
        task=task.name,
        model=model.name,
        split=split,
        template=chosen.text,
        scores=scores,
        mean=scores.mean,
        low=low,
        high=high,
        method=method,
        confidence=confidence,
        rewards=None if reward is None else make_reward(reward)(scores),
        spent=ledger.snapshot(),
    )


def compare(
    first: Evaluation,
    second: Evaluation,
    *,
    rows: tuple[int, int] = (0, 0),
    resamples: int = 5000,
    seed: int = 0,
) -> Difference:
    """Return how much better one prompt is than another on the same examples (paired bootstrap).

    Args:
        first: evaluation of the one.
        second: evaluation of the other, on the same split; may be the same evaluation.
        rows: which prompt of each.
        resamples: of the bootstrap.
        seed: of the bootstrap.

    Raises:
        TaskError: if the examples or the metrics differ.
        ConfigError: for a row that there is not.
    """
    for one, row in zip((first, second), rows, strict=True):
        if not 0 <= row < len(one):
            raise ConfigError(f"rows: there is no prompt {row} among {len(one)}, counted from 0")
    keys = [tuple(e.key for e in one.scores.examples) for one in (first, second)]
    if keys[0] != keys[1] or first.scores.metric != second.scores.metric:
        raise TaskError(
            f"prompts can be compared on the same examples and metric only: got {first.task} "
            f"{first.split} ({len(keys[0])} examples, {first.scores.metric.name}) and "
            f"{second.task} {second.split} ({len(keys[1])}, {second.scores.metric.name})"
        )
    return paired_bootstrap(
        first.values[rows[0]],
        second.values[rows[1]],
        strata=strata_of(first.scores),
        confidence=first.confidence,
        resamples=resamples,
        seed=seed,
    )


def held_out(
    prompts: PromptLike | Sequence[PromptLike], problem: Problem, task: Task, split: str
) -> list[JSON]:
    """Return the rows of prompts on a split, scored as a problem scores them, at no cost to it.

    Args:
        prompts: one prompt or several.
        problem: whose model and template are used; its budget is not touched.
        task: the problem's task with its test split open.
        split: "dev" or "test".

    Returns:
        `Evaluation.rows`: prompt, value, low, high, examples and failures of each.
    """
    store = problem.store
    return evaluate(
        prompts,
        task,
        problem.model,
        split=split,
        template=problem.template,
        cache=False if store is None else store,
    ).rows()


def examples_of(task: Task, split: str) -> tuple[Example, ...]:
    """Return a split's examples.

    Raises:
        TaskError: if the split is unknown, empty or closed.
    """
    if split not in ("train", "dev", "test"):
        raise TaskError(f"unknown split {split!r}; expected 'train', 'dev' or 'test'")
    examples: tuple[Example, ...] = getattr(task, split)
    if not examples:
        raise TaskError(f"task {task.name!r} has no {split} examples")
    return examples


def metric_interval(
    scores: Scores, confidence: float = 0.95, resamples: int = 5000, seed: int = 0
) -> tuple[FloatArray, FloatArray, str]:
    """Return lower ends, upper ends (P,) and how they were made."""
    values = scores.values
    valid = ~np.isnan(values)
    if not scores.metric.balanced and np.isin(values[valid], (0.0, 1.0)).all():
        successes = np.where(valid, values, 0.0).sum(axis=1)
        return (*wilson(successes, valid.sum(axis=1), confidence), "wilson")
    ends = bootstrap(
        values,
        strata=strata_of(scores),
        confidence=confidence,
        resamples=resamples,
        seed=seed,
    )
    return (*ends, "bca")


def strata_of(scores: Scores) -> IntArray | None:
    """Return the class of every example for a balanced metric, else None."""
    if not scores.metric.balanced:
        return None
    names = [example.target for example in scores.examples]
    return np.unique(names, return_inverse=True)[1].astype(np.int64)


def number(value: float) -> float | None:
    """Return a float for JSON, which has no NaN."""
    return None if np.isnan(value) else float(value)
