"""Measured tables: scores that real models reached, as a task that runs without any model.

A table knows what prompts scored, not what a model said, so two things stand where a model and a
metric stand elsewhere. The task lays out its texts by `PARTS`, from which system text, prompt
and input can be read back; and its metric, `measured`, pays the score that was measured. Between
them, `promptgym.llms.replay` answers each text with the table's score, written as
`measured 0.862`. So a table is scored by the same `Scorer`, under the same budget, caches,
statuses and journals as a model, with nothing invented: there are no labels and no
log-probabilities (rewards that need them refuse the task), and no other metric can read such an
answer as a score.

A table of means has one example a task, which stands for all examples behind the mean; it has no
dev or test split, since nothing was measured twice. A table of single examples has splits.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

import numpy as np

from promptgym.errors import TaskError
from promptgym.prompts import Prompt
from promptgym.tasks.assemble import Plan, divide
from promptgym.tasks.metrics import Metric
from promptgym.tasks.parts import PARTS
from promptgym.tasks.rows import Sourced
from promptgym.tasks.task import Task
from promptgym.types import FloatArray

PREFIX = "measured "


def measured(prediction: str, target: str) -> float:
    """Return the score that a measured table answered, in [0, 1]; the target plays no part.

    Raises:
        TaskError: the answer is not that of a measured table.
    """
    try:
        if prediction.startswith(PREFIX):
            return float(prediction.removeprefix(PREFIX))
    except ValueError:
        pass
    raise TaskError(
        f"metric 'measured' reads the scores of a measured table ({PREFIX}0.5), got "
        f"{prediction[:60]!r}; ask the table itself: model 'replay:FILE'"
    )


@dataclass(frozen=True, eq=False)
class MeasuredTable:
    """What one model scored on one task under P prompts.

    Attributes:
        source: file or folder, for messages.
        task: name of the task.
        model: name of the model that was measured.
        prompts: the P prompts, in the table's order.
        splits: split -> its examples; the split "all" is yet to be divided, "mean" holds the one
            that stands for all.
        values: score of every prompt on every example, split after split, shape (P, E), in
            [0, 1]; NaN where nothing was measured.
        digest: hash of everything that was read.
    """

    source: str
    task: str
    model: str
    prompts: tuple[Prompt, ...]
    splits: Mapping[str, tuple[Sourced, ...]]
    values: FloatArray
    digest: str

    @cached_property
    def _rows(self) -> dict[tuple[str, str], int]:
        return {(p.system, p.instruction): i for i, p in enumerate(self.prompts)}

    @cached_property
    def _columns(self) -> dict[str, int]:
        inputs = [item.example.input for items in self.splits.values() for item in items]
        return {text.rstrip(" "): i for i, text in enumerate(inputs)}  # as a template renders it

    def find(self, system: str, prompt: str, text: str) -> float | str:
        """Return the score of a prompt on an input, or, in words, why there is none."""
        row, column = self._rows.get((system, prompt)), self._columns.get(text)
        what = f"the prompt {prompt!r}" + (f" with the system text {system!r}" if system else "")
        if row is None:
            return f"{what} is not among the {len(self.prompts):,} prompts of {self.source}"
        if column is None:
            return f"the input {text!r} is not among the {len(self._columns):,} of {self.source}"
        value = float(self.values[row, column])
        if np.isnan(value):
            return f"{what} was not measured on the input {text!r} in {self.source}"
        return value


def measured_task(
    table: MeasuredTable,
    *,
    dev: float | int | None = None,
    test: float | int | None = None,
    sizes: Mapping[str, int] | None = None,
    seed: int = 0,
) -> Task:
    """Return the task of a table: its prompts are the manual prompts, the best is the reference.

    Args:
        table: what was measured.
        dev: what to draw from train, see `load_task`; 0.2 for a table of single examples.
        test: the same for test, where the table names no splits.
        sizes: keep only so many examples of a split.
        seed: of the draws.

    Raises:
        TaskError: for splits of a table of means, or splits that cannot be drawn.
    """
    if "mean" in table.splits:
        if dev or test or sizes:
            raise TaskError(
                f"{table.source} holds means over all examples, which cannot be divided; leave "
                "dev, test and sizes out"
            )
        splits: dict[str, Sequence[Sourced]] = {"train": table.splits["mean"]}
    else:
        plan = Plan(dev=dev, test=test, sizes=dict(sizes or {}), seed=seed)
        single = "all" in table.splits
        read = {"train" if single else s: list(items) for s, items in table.splits.items()}
        for split, part in (("dev", dev), ("test", test)):
            if part is not None:
                read.pop(split, None)
        splits = divide(read, plan, single, False)
    examples = {split: tuple(item.example for item in items) for split, items in splits.items()}
    task = Task(
        name=f"{table.task}/{table.model}",
        description=f"Choose a prompt by what {table.model} was measured to score on {table.task}.",
        template=PARTS,
        metric=Metric("measured", measured),
        manual_prompts=table.prompts,
        stop=(),
        train=examples["train"],
        dev=examples.get("dev", ()),
        test_split=examples.get("test", ()),
    )
    return replace(task, reference_prompts=_best(table, task))


def digest_of(paths: Sequence[Path]) -> str:
    """Return a hash of the content of files (12 hex digits)."""
    digest = hashlib.blake2b(digest_size=6)
    for path in paths:
        digest.update(hashlib.blake2b(path.read_bytes()).digest())
    return digest.hexdigest()


def _best(table: MeasuredTable, task: Task) -> tuple[Prompt, ...]:
    """Return the prompt of the best mean over all of train; none if no prompt covers it."""
    columns = [table._columns[e.input.rstrip(" ")] for e in task.train]
    means = table.values[:, columns].mean(axis=1)
    if np.isnan(means).all():
        return ()
    return (table.prompts[int(np.nanargmax(means))],)
