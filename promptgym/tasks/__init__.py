"""Tasks: examples, labels, metrics and splits; bundled ones and loaders for your own."""

from promptgym.tasks.metrics import METRICS, Metric, get_metric
from promptgym.tasks.task import Task

__all__ = ["METRICS", "Metric", "Task", "get_metric"]
