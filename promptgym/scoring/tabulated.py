"""What every prompt of a prompt table is worth: metric and reward of all of them, at no call."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from promptgym.errors import ConfigError
from promptgym.llms import LanguageModel
from promptgym.llms.table import TableModel
from promptgym.prompts import Prompt
from promptgym.scoring.scorer import payments
from promptgym.scoring.scores import OK, Scores
from promptgym.tasks import Task
from promptgym.tasks.prompt_table import PromptTable, logprobs
from promptgym.types import FloatArray

CHUNK = 4096  # prompts at a time


@dataclass(frozen=True, slots=True)
class Tabulated:
    """What the P prompts of a table are worth on one split.

    Attributes:
        score: the task's metric, shape (P,).
        reward: shape (P,).
        optimum: the largest reward.
        best: rows of the prompts that reach it.
    """

    score: FloatArray
    reward: FloatArray
    optimum: float
    best: tuple[int, ...]


def table_of(model: LanguageModel) -> PromptTable:
    """Return the table that a model answers from.

    Raises:
        ConfigError: it answers from none.
    """
    if not isinstance(model, TableModel):
        raise ConfigError(
            f"model {model.name!r} is no prompt table, of which every prompt's score is known; "
            "give task and model as 'table:NAME'"
        )
    return model.table


def tabulate(
    task: Task,
    model: LanguageModel,
    reward: Callable[[Scores], FloatArray],
    split: str = "train",
) -> Tabulated:
    """Return what all prompts of a table are worth, exactly as a `Scorer` would find it.

    Args:
        task: the task that the table brings, with any metric.
        model: the model of a table.
        reward: of the problem.
        split: of the table.

    Raises:
        ConfigError: the model is no table, or the task is not its own.
    """
    table, labels = table_of(model), task.labels
    examples = table.splits[split]
    if labels != table.labels:
        raise ConfigError(f"task {task.name!r} is not the one that {model.name!r} brings")
    paid = payments(task)
    assert paid is not None
    targets = np.array(task.target_index(examples), dtype=np.int64)
    columns, score, rewards = table.columns(split), [], []
    for first in range(0, len(table), CHUNK):
        rows = slice(first, first + CHUNK)
        found = logprobs(table.log_odds(rows, columns))
        texts = table.prompts[rows].tolist()
        scores = Scores(
            prompts=tuple(map(Prompt, texts)),
            examples=examples,
            metric=task.metric,
            values=paid[found.argmax(axis=-1), targets],
            status=np.full(found.shape[:2], OK, dtype=np.int8),
            label_logprobs=found,
            targets=targets,
            prompt_tokens=model.count_tokens(texts),
        )
        score.append(scores.mean)
        rewards.append(np.asarray(reward(scores), dtype=np.float64))
    reward_of = np.concatenate(rewards)
    optimum = float(reward_of.max())
    best = np.flatnonzero(reward_of == optimum)
    return Tabulated(np.concatenate(score), reward_of, optimum, tuple(best.tolist()))
