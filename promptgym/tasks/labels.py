"""Which labels a task has, from what the user said or from the data."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from difflib import get_close_matches
from typing import Any, Literal

from promptgym.errors import TaskError
from promptgym.tasks.metrics import METRICS, Metric
from promptgym.tasks.rows import LabelMap, Table, as_text

LabelsSpec = Sequence[Any] | Mapping[Any, Any] | Literal["auto"] | None
VerbalizersSpec = Mapping[Any, Any] | Sequence[Any] | None

MOST_LABELS = 20
"""More distinct targets than this are free answers, unless labels are given."""


def given_labels(labels: Sequence[Any] | Mapping[Any, Any]) -> LabelMap:
    """Return the labels a user gave: names in order, or raw value -> name.

    Names stand for their positions, too (0 for the first), unless one of them is a number itself.
    """
    if isinstance(labels, Mapping):
        raw = {str(value): str(name) for value, name in labels.items()}
        return LabelMap(tuple(dict.fromkeys(raw.values())), raw)
    names = tuple(map(str, labels))
    numbered = any(name.lstrip("+-").isdigit() for name in names)
    return LabelMap(names, {} if numbered else {str(i): n for i, n in enumerate(names)})


def labels_from_data(table: Table, column: str, metric: object) -> LabelMap | None:
    """Return the labels that a table's targets suggest; None if they look like free answers.

    A column of integer classes has its names. Otherwise the distinct targets are labels if there
    are at most `MOST_LABELS` and at least twice as many rows, and the metric is one for labels.

    Raises:
        TaskError: if a value stands there once and looks like a misspelt other one.
    """
    if not suits_labels(metric):
        return None
    if column in table.class_names:
        names = table.class_names[column]
        return LabelMap(names, {str(i): name for i, name in enumerate(names)})
    if "{" in column:
        return None
    counts: Counter[str] = Counter()
    first: dict[str, int] = {}
    for row in table.rows:
        text = as_text(row.values.get(column))
        if text is not None:
            counts[text.strip()] += 1
            first.setdefault(text.strip(), row.number)
        if len(counts) > MOST_LABELS:
            return None
    if len(counts) < 2 or sum(counts.values()) < 2 * len(counts):
        return None
    common = [name for name, n in counts.items() if n > 1]
    for name, n in counts.items():
        close = get_close_matches(name, common, n=1, cutoff=0.8) if n == 1 else []
        if close and not name.lstrip("+-").isdigit():
            raise TaskError(
                f"{table.where(first[name])}: label {name!r} stands there once; did you mean "
                f"{close[0]!r}? Otherwise give labels={sorted(counts)}"
            )
    try:
        return LabelMap(tuple(sorted(counts, key=int)))
    except ValueError:
        return LabelMap(tuple(sorted(counts)))


def refuse_single_target(table: Table, column: str) -> None:
    """Refuse a table whose every row has one and the same target, where that may be a label.

    Raises:
        TaskError: naming the target, and how to say what it is.
    """
    if "{" in column or len(table.rows) < 2:
        return
    found = {(as_text(row.values.get(column)) or "").strip() for row in table.rows}
    target = found.pop()
    if not found and target:
        raise TaskError(
            f"{table.source}: column {column!r} holds {target!r} in all {len(table.rows)} rows; "
            f"expected at least two labels. Name them all by labels=[{target!r}, ...], choose "
            "another column by target='...', or say labels=None (in JSON null) for free answers"
        )


def suits_labels(metric: object) -> bool:
    """Whether a metric that a user gave, or none, goes with labels."""
    return metric is None or metric_name(metric) in ("accuracy", "balanced_accuracy")


def metric_name(metric: object) -> str:
    """Return the name of a metric given in any form."""
    if isinstance(metric, Metric):
        return metric.name
    return metric if isinstance(metric, str) else getattr(metric, "__name__", "custom")


def given_verbalizers(spec: VerbalizersSpec, labels: LabelMap) -> dict[str, str]:
    """Return label -> word, in the order of the labels, from what a user gave.

    Args:
        spec: raw value or label -> word, or words in the order of the labels.
        labels: the task's labels.

    Raises:
        TaskError: for a wrong number of words, or a word for something that is no label.
    """
    if spec is None:
        return {}
    if isinstance(spec, str):
        raise TaskError(f"verbalizers={spec!r}: expected a dict or a list of words")
    if not isinstance(spec, Mapping):
        if len(spec) != len(labels.labels):
            raise TaskError(
                f"{len(spec)} verbalizers {list(spec)} for {len(labels.labels)} labels "
                f"{list(labels.labels)}"
            )
        return dict(zip(labels.labels, map(str, spec), strict=True))
    words = {labels.find(str(k), "verbalizers"): str(word) for k, word in spec.items()}
    missing = [name for name in labels.labels if name not in words]
    if missing:
        raise TaskError(f"verbalizers: no word for {missing}; given for {list(spec)}")
    return {name: words[name] for name in labels.labels}


def checked_metric(metric: Any, labels: LabelMap | None) -> Any:
    """Return the metric to use; refuse a name that cannot go with the labels.

    Raises:
        TaskError: for accuracy by classes without labels.
    """
    if metric is None:
        return "accuracy" if labels else "exact_match"
    if labels is None and metric_name(metric) == METRICS["balanced_accuracy"].name:
        raise TaskError("metric 'balanced_accuracy' needs labels; give labels=[...]")
    return metric
