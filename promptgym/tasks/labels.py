"""Which labels a task has, from what the user said or from the data."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from difflib import get_close_matches
from typing import Any, Literal

from promptgym.errors import TaskError
from promptgym.tasks.metrics import METRICS, Metric
from promptgym.tasks.rows import LabelMap, Table, cell

LabelsSpec = Sequence[Any] | Mapping[Any, Any] | Literal["auto", "data"] | None
VerbalizersSpec = Mapping[Any, Any] | Sequence[Any] | None

MOST_LABELS = 20
"""More distinct targets than this are never taken for labels, unless that is said."""


def given_labels(labels: Sequence[Any] | Mapping[Any, Any], names: Sequence[str] = ()) -> LabelMap:
    """Return the labels a user gave: names in order, or raw value -> name.

    Names stand for their positions, too (0 for the first), unless one of them is a number itself.

    Args:
        labels: what was given.
        names: the names of the column's integer classes, which may stand for raw values, too.

    Raises:
        TaskError: for fewer than two different labels.
    """
    if isinstance(labels, Mapping):
        raw = {str(value): str(name) for value, name in labels.items()}
        raw |= {str(i): raw[name] for i, name in enumerate(names) if name in raw}
        found = LabelMap(tuple(dict.fromkeys(raw.values())), raw)
    else:
        listed = tuple(map(str, labels))
        numbered = any(name.lstrip("+-").isdigit() for name in listed)
        found = LabelMap(listed, {} if numbered else {str(i): n for i, n in enumerate(listed)})
    if len(set(found.labels)) < 2:
        raise TaskError(f"labels={labels!r}: expected at least two different labels")
    return found


def named_labels(names: Sequence[str]) -> LabelMap:
    """Return the labels of a column of integer classes that have names."""
    return LabelMap(tuple(names), {str(i): name for i, name in enumerate(names)})


def targets_of(table: Table, column: str) -> Counter[str]:
    """Return how often each target stands in a column (or format string over columns).

    Raises:
        TaskError: for an empty cell or one that is no text.
    """
    return Counter(cell(table, row, column, "target").strip() for row in table.rows)


def distinct_labels(targets: Iterable[str]) -> LabelMap:
    """Return every distinct target as a label: sorted, as numbers where all of them are."""
    names = set(targets)
    try:
        return LabelMap(tuple(sorted(names, key=int)))
    except ValueError:
        return LabelMap(tuple(sorted(names)))


def labels_from_data(table: Table, column: str) -> tuple[LabelMap | None, str]:
    """Decide whether a column's targets are labels or free answers.

    Integer classes that have names are labels. Of N rows with L different targets:

    - L <= `MOST_LABELS` and N >= 2 L: each different target is a label;
    - L = N (all differ), or L > `MOST_LABELS` and N < 2 L: free answers;
    - anything else may be either, and is an error that says how to decide.

    Returns:
        The labels, or None for free answers; and a line that says what was decided.

    Raises:
        TaskError: if it cannot be decided, or a target looks like a misspelt or missing label.
    """
    if column in table.class_names:
        names = table.class_names[column]
        return named_labels(names), f"column {column!r} has the classes {list(names)}"
    targets = targets_of(table, column)
    few, many = len(targets), targets.total()
    what = f"column {column!r} holds {few} different targets in {many} rows"
    if few == many or few > max(MOST_LABELS, many / 2):
        return None, f"{what}: free answers (labels='data' would make each a label)"
    if few == 1:
        only = next(iter(targets))
        raise TaskError(
            f"{table.source}: column {column!r} holds {only!r} in all {many} rows; "
            f"expected at least two labels. Name them all by labels=[{only!r}, ...], choose "
            "another column by target='...', or say labels=None (in JSON null) for free answers"
        )
    if few > MOST_LABELS or many < 2 * few:
        raise TaskError(
            f"{table.source}: {what}, which may be labels or free answers; say labels='data' (each "
            "different target is a label), labels=[...] (these are), or labels=None (in JSON null; "
            "they are free answers)"
        )
    _refuse_odd(table, column, targets)
    return distinct_labels(targets), f"{what}: each is a label"


def _refuse_odd(table: Table, column: str, targets: Counter[str]) -> None:
    """Refuse targets that look like slips of the pen beside the others.

    Raises:
        TaskError: for "nan", for two that differ in case only, and for one that stands there once
            and resembles a frequent one; names a row.
    """
    folded: dict[str, str] = {}
    common = {name.casefold(): name for name, n in targets.items() if n > 1}
    for name, n in targets.items():
        other = folded.setdefault(name.casefold(), name)
        close = get_close_matches(name.casefold(), common, n=1, cutoff=0.8) if n == 1 else []
        if name.casefold() == "nan":
            odd = "looks like a missing value."
        elif close and not name.lstrip("+-").isdigit():
            odd = f"stands there once; did you mean {common[close[0]]!r}?"
        elif other != name:
            odd = f"differs from {other!r} in case only."
        else:
            continue
        number = next(
            row.number for row in table.rows if cell(table, row, column, "target").strip() == name
        )
        raise TaskError(
            f"{table.where(number)}: label {name!r} {odd} Mend the row, or say that it is a label "
            f"of its own: labels='data' or labels={sorted(targets)}"
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
