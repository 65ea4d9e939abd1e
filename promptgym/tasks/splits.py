"""Checks that a task's labels and splits are sound."""

from __future__ import annotations

from typing import TYPE_CHECKING

from promptgym.errors import TaskError
from promptgym.prompts import Example

if TYPE_CHECKING:
    from promptgym.tasks.task import Task

SPLITS = ("train", "dev", "test")


def check_labels(task: Task) -> None:
    """Refuse empty, repeated or unverbalized labels, and examples whose label is unknown."""
    if task.labels is None:
        return
    if len(task.labels) < 2 or len(set(task.labels)) != len(task.labels):
        raise TaskError(
            f"task {task.name!r}: labels must be at least two different names, got {task.labels}"
        )
    if set(task.verbalizers) != set(task.labels):
        raise TaskError(
            f"task {task.name!r}: verbalizers are given for {sorted(task.verbalizers)}, "
            f"labels are {sorted(task.labels)}"
        )
    known = set(task.labels)
    for split in SPLITS:
        for row, example in enumerate(split_of(task, split), start=1):
            if example.target not in known:
                raise TaskError(
                    f"task {task.name!r}, {split} example {row}: label {example.target!r} is not "
                    f"one of {list(task.labels)}"
                )


def check_splits(task: Task) -> None:
    """Refuse a row that stands in two splits, or twice in one."""
    seen: dict[str, tuple[str, int, str]] = {}
    clashes = []
    for split in SPLITS:
        for row, example in enumerate(split_of(task, split), start=1):
            before = seen.setdefault(example.key, (split, row, example.target))
            if before[:2] != (split, row):
                clashes.append(f"{before[0]} {before[1]} = {split} {row} ({example.input[:40]!r})")
    if clashes:
        more = f" and {len(clashes) - 5} more" if len(clashes) > 5 else ""
        raise TaskError(
            f"task {task.name!r}: the same input stands twice: {'; '.join(clashes[:5])}{more}; "
            "remove them, or load with duplicates='drop'"
        )


def split_of(task: Task, split: str) -> tuple[Example, ...]:
    """Return the named split; a closed test split counts as empty."""
    if split == "test":
        return task.test_split or ()
    return task.train if split == "train" else task.dev
