"""What tasks there are, and what one is like: for the command line, reports and people."""

from __future__ import annotations

from collections import Counter
from typing import NamedTuple

from promptgym.prompts import Example
from promptgym.tasks.definitions import DEFINITIONS
from promptgym.tasks.splits import SPLITS, labels_without_examples, split_hash, split_of
from promptgym.tasks.task import Task
from promptgym.types import JSON


class TaskInfo(NamedTuple):
    """One line of the list of tasks.

    Attributes:
        name: what `load_task` takes.
        origin: "bundled", "hub:owner/name", or "files" (needs `data_dir`).
        kind: "classification, 2 labels" or "free answer", with the tier of a bundled task.
        description: one sentence.
    """

    name: str
    origin: str
    kind: str
    description: str


def list_tasks() -> list[TaskInfo]:
    """Return every task that has a name: the bundled ones first, then the ready definitions."""
    from promptgym.tasks.world import WORLD_TASKS

    out = [
        TaskInfo(
            name,
            "bundled",
            f"{kind_of(what.labels)}, {what.tier}",
            f"{what.description} {what.difficulty}",
        )
        for name, what in WORLD_TASKS.items()
    ]
    for definition in DEFINITIONS.values():
        labels = definition.labels if isinstance(definition.labels, tuple) else None
        origin = f"hub:{definition.hub.name}" if definition.hub else "files"
        out.append(TaskInfo(definition.name, origin, kind_of(labels), definition.description))
    return out


def kind_of(labels: tuple[str, ...] | None) -> str:
    """Return "classification, n labels" or "free answer"."""
    return f"classification, {len(labels)} labels" if labels else "free answer"


def summarize_task(task: Task) -> str:
    """Return one line about a task: kind, metric, sizes of splits, labels without an example."""
    sizes = ", ".join(f"{split} {len(split_of(task, split))}" for split in SPLITS)
    unseen = labels_without_examples(task)
    more = f"; no training example of {', '.join(map(repr, unseen))}" if unseen else ""
    return f"{task.name}: {kind_of(task.labels)}, {task.metric.name}; {sizes}{more}"


def describe_task(task: Task) -> JSON:
    """Return what a task is, as plain JSON values.

    `splits` has for each split the number of examples, the number of each label and a hash of the
    data; the test split of a closed task is None.
    """
    return {
        "name": task.name,
        "description": task.description,
        "kind": kind_of(task.labels),
        "labels": list(task.labels) if task.labels else None,
        "verbalizers": dict(task.verbalizers),
        "metric": task.metric.name,
        "template": task.template.text,
        "demonstration": task.template.demonstration,
        "masked_template": task.masked_template.text if task.masked_template else None,
        "manual_prompts": [p.to_json() for p in task.manual_prompts],
        "reference_prompts": [p.to_json() for p in task.reference_prompts],
        "vocabulary": len(task.vocabulary),
        "max_new_tokens": None if task.labels else task.max_new_tokens,
        "stop": None if task.labels else list(task.stop),
        "splits": {
            **{
                split: (
                    None
                    if split == "test" and task.test_split is None
                    else _describe(task, split_of(task, split))
                )
                for split in SPLITS
            },
            "pool": _describe(task, task.pool),
        },
        "dropped": list(task.dropped),
        "decided": task.decided,
    }


def _describe(task: Task, examples: tuple[Example, ...]) -> JSON:
    """Return size, balance and hash of one split."""
    counts = Counter(e.target for e in examples)
    return {
        "examples": len(examples),
        "labels": {name: counts[name] for name in task.labels} if task.labels else None,
        "hash": split_hash(examples),
    }
