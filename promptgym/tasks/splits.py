"""Checks that a task's labels and splits are sound."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING

from promptgym.errors import TaskError
from promptgym.prompts import Example
from promptgym.tasks.rows import Sourced

if TYPE_CHECKING:
    from promptgym.tasks.task import Task

SPLITS = ("train", "dev", "test")


def check_labels(task: Task) -> None:
    """Refuse labels that are repeated or unknown, and verbalizers that are missing or shared."""
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
    words: dict[str, str] = {}
    for name in task.labels:
        word = task.verbalizers[name].strip()
        if not word or words.setdefault(word, name) != name:
            raise TaskError(
                f"task {task.name!r}: label {name!r} has the verbalizer {word!r}, "
                + (
                    f"which stands for {words[word]!r} already; a model could not tell them apart"
                    if word
                    else "which is empty"
                )
            )
    known = set(task.labels)
    for split in (*SPLITS, "pool"):
        for row, example in enumerate(split_of(task, split), start=1):
            if example.target not in known:
                raise TaskError(
                    f"task {task.name!r}, {split} example {row}: label {example.target!r} is not "
                    f"one of {list(task.labels)}"
                )


def labels_without_examples(task: Task) -> list[str]:
    """Return the labels that no training example has; [] for a task without labels."""
    seen = {example.target for example in task.train}
    return [name for name in task.labels or () if name not in seen]


def check_splits(task: Task) -> None:
    """Refuse a row that stands in two splits, or twice in one; the pool counts as a split.

    A demonstration that is an example, too, would give its answer away.
    """
    seen: dict[str, tuple[str, int]] = {}
    clashes = []
    for split in (*SPLITS, "pool"):
        for row, example in enumerate(split_of(task, split), start=1):
            before = seen.setdefault(example.key, (split, row))
            if before != (split, row):
                clashes.append(f"{before[0]} {before[1]} = {split} {row} ({example.input[:40]!r})")
    if clashes:
        more = f" and {len(clashes) - 5} more" if len(clashes) > 5 else ""
        raise TaskError(
            f"task {task.name!r}: the same input stands twice: {'; '.join(clashes[:5])}{more}; "
            "remove them, or load with duplicates='drop'"
        )


def split_of(task: Task, split: str) -> tuple[Example, ...]:
    """Return the named split, or the pool; a closed test split counts as empty."""
    if split == "test":
        return task.test_split or ()
    return {"train": task.train, "dev": task.dev, "pool": task.pool}[split]


def repeats(splits: Mapping[str, Sequence[Sourced]]) -> list[tuple[str, Sourced, Sourced]]:
    """Return (split, repeated, kept) for every row whose input stands elsewhere, too.

    Held-out rows are kept in preference to others (test, then dev, then train), so that removing
    the repeated ones changes the test set as little as possible; within a split the first is kept.
    """
    kept: dict[str, Sourced] = {}
    out = []
    for split in reversed(SPLITS):
        for item in splits.get(split, ()):
            first = kept.setdefault(item.example.key, item)
            if first is not item:
                out.append((split, item, first))
    return out


def resolve_duplicates(
    splits: Mapping[str, Sequence[Sourced]], mode: str, task: str
) -> tuple[dict[str, list[Sourced]], tuple[str, ...]]:
    """Refuse or drop rows whose input stands twice, in one split or in two.

    Args:
        splits: the examples of each split, with their places.
        mode: "error" or "drop".
        task: name of the task, for the message.

    Returns:
        The splits without repeated rows, and a line for each row left out.

    Raises:
        TaskError: with mode "error", naming the rows; if dropping leaves a split empty.
    """
    if mode not in ("error", "drop"):
        raise TaskError(f"duplicates={mode!r}: expected 'error' or 'drop'")
    found = repeats(splits)
    lines = tuple(
        f"{item.where} repeats {first.where}"
        + ("" if item.example.target == first.example.target else " with another target")
        for _, item, first in found
    )
    if found and mode == "error":
        shown = "; ".join(
            f"{line} ({item.example.input[:40]!r})"
            for line, (_, item, _) in zip(lines[:5], found, strict=False)
        )
        more = f"; and {len(found) - 5} more" if len(found) > 5 else ""
        raise TaskError(
            f"task {task!r}: the same input stands twice: {shown}{more}. Remove the rows, or load "
            "with duplicates='drop'"
        )
    gone = {id(item) for _, item, _ in found}
    out = {s: [i for i in items if id(i) not in gone] for s, items in splits.items()}
    for split, items in out.items():
        if splits[split] and not items:
            raise TaskError(
                f"task {task!r}: every row of {split} stands in another split, too; nothing is "
                "left of it without them. Give another file, or draw dev from train (dev=0.5)"
            )
    return out, lines


def split_hash(examples: Iterable[Example]) -> str:
    """Return a hash of inputs and targets in order (16 hex digits): which data was used."""
    digest = hashlib.blake2b(digest_size=8)
    for example in examples:
        for part in (example.input, *example.answers):
            digest.update(part.encode("utf-8", "surrogatepass") + b"\x1f")
        digest.update(b"\x1e")
    return digest.hexdigest()
