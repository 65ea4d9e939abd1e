"""Files of examples as users have them, and what is asked of the tasks made of them."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

import pytest

from promptgym.errors import TaskError
from promptgym.tasks import Task, describe_task, load_task
from promptgym.types import JSON

REVIEWS = [(f"review number {i} is here", ("negative", "positive")[i % 2]) for i in range(40)]


def write_csv(path: Path, rows: list[Any], header: list[str] | None = None, **kw: Any) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", newline="", encoding=kw.pop("encoding", "utf-8")) as file:
        writer = csv.writer(file, **kw)
        if header != []:
            writer.writerow(header or ["text", "label"])
        writer.writerows(rows)
    return path


def write_lines(path: Path, rows: list[JSON]) -> Path:
    path.write_text("\n".join(json.dumps(row) for row in rows) + "\n", encoding="utf-8")
    return path


def inputs(task: Task) -> list[str]:
    return [e.input for s in (task.train, task.dev, task.test) for e in s]


def counts(task: Task, split: str) -> dict[str, int]:
    found: dict[str, int] = describe_task(task)["splits"][split]["labels"]
    return found


def refusal(*args: Any, **options: Any) -> str:
    with pytest.raises(TaskError) as caught:
        load_task(*args, **options)
    return str(caught.value)
