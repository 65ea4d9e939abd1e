"""Tasks: examples, labels, metrics and splits; bundled ones and loaders for your own."""

from promptgym.tasks.catalog import TaskInfo, describe_task, list_tasks, summarize_task
from promptgym.tasks.definition import Definition
from promptgym.tasks.definitions import DEFINITIONS
from promptgym.tasks.loaders import load_task
from promptgym.tasks.metrics import METRICS, Metric, get_metric
from promptgym.tasks.sampling import few_shot_split
from promptgym.tasks.splits import split_hash
from promptgym.tasks.task import Task

__all__ = [
    "DEFINITIONS",
    "METRICS",
    "Definition",
    "Metric",
    "Task",
    "TaskInfo",
    "describe_task",
    "few_shot_split",
    "get_metric",
    "list_tasks",
    "load_task",
    "split_hash",
    "summarize_task",
]
