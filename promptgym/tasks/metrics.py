"""Metrics: how one prediction is paid against its target, and how examples are aggregated."""

from __future__ import annotations

import re
import string
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from promptgym.errors import TaskError
from promptgym.types import FloatArray

PerExample = Callable[[str, str], float]


def _normalize(text: str) -> str:
    """Lower case, no punctuation, no articles, single spaces (SQuAD's answer normalization)."""
    text = "".join(c for c in text.lower() if c not in string.punctuation)
    return " ".join(re.sub(r"\b(a|an|the)\b", " ", text).split())


def equal(prediction: str, target: str) -> float:
    """1.0 if the prediction is the target, whitespace aside."""
    return float(prediction.strip() == target.strip())


def exact_match(prediction: str, target: str) -> float:
    """SQuAD exact match (Rajpurkar et al. 2016): equality after answer normalization."""
    return float(_normalize(prediction) == _normalize(target))


def token_f1(prediction: str, target: str) -> float:
    """SQuAD token F1 (Rajpurkar et al. 2016) between normalized bags of words."""
    got, want = _normalize(prediction).split(), _normalize(target).split()
    if not got or not want:
        return float(got == want)
    common = sum((Counter(got) & Counter(want)).values())
    if not common:
        return 0.0
    precision, recall = common / len(got), common / len(want)
    return 2 * precision * recall / (precision + recall)


_NUMBER = re.compile(r"-?\$?\d[\d,]*(?:\.\d+)?|-?\.\d+")


def last_number(text: str) -> float | None:
    """Return the answer's number: after `####` if there is one (GSM8K), else the last number."""
    tail = text.rsplit("####", 1)[-1] if "####" in text else text
    found = _NUMBER.findall(tail)
    if not found:
        return None
    number = found[0] if "####" in text else found[-1]
    return float(number.replace(",", "").replace("$", ""))


def numeric_match(prediction: str, target: str) -> float:
    """1.0 if the final numbers agree (GSM8K, Cobbe et al. 2021: `#### 42` marks the answer).

    Raises:
        TaskError: if the *target* holds no number.
    """
    want = last_number(target)
    if want is None:
        raise TaskError(f"numeric match needs a number in the target, found {target!r}")
    got = last_number(prediction)
    return float(got is not None and abs(got - want) < 1e-6)


@dataclass(frozen=True, slots=True)
class Metric:
    """A per-example score in [0, 1] and the way examples are brought together.

    Attributes:
        name: what tables and run folders say.
        per_example: (prediction, target) -> score.
        balanced: aggregate as the mean over classes of the mean within a class.
    """

    name: str
    per_example: PerExample
    balanced: bool = False

    def aggregate(self, values: FloatArray, targets: Sequence[str]) -> FloatArray:
        """Aggregate over examples, failures left out.

        Args:
            values: per-example scores, shape (P, E); NaN marks a failure.
            targets: gold label or answer of each example, length E.

        Returns:
            Shape (P,); NaN where a prompt (or, balanced, one of its classes) has no valid score.
        """
        if not self.balanced:
            return _nanmean(values)
        names = np.asarray(targets)
        per_class = [_nanmean(values[:, names == name]) for name in sorted(set(targets))]
        return np.mean(np.stack(per_class, axis=1), axis=1)


def _nanmean(values: FloatArray) -> FloatArray:
    """Mean over the last axis without NaN, quietly NaN where nothing is left."""
    valid = ~np.isnan(values)
    count = valid.sum(axis=1)
    total = np.where(valid, values, 0.0).sum(axis=1)
    return np.divide(total, count, out=np.full(len(values), np.nan), where=count > 0)


METRICS: dict[str, Metric] = {
    "accuracy": Metric("accuracy", equal),
    "balanced_accuracy": Metric("balanced_accuracy", equal, balanced=True),
    "exact_match": Metric("exact_match", exact_match),
    "token_f1": Metric("token_f1", token_f1),
    "numeric_match": Metric("numeric_match", numeric_match),
}


def get_metric(metric: str | Metric | PerExample) -> Metric:
    """Return a metric by name, wrap a callable `(prediction, target) -> float`, or pass it on."""
    if isinstance(metric, Metric):
        return metric
    if isinstance(metric, str):
        if metric not in METRICS:
            raise TaskError(f"unknown metric {metric!r}; known: {', '.join(METRICS)}")
        return METRICS[metric]
    if callable(metric):
        return Metric(getattr(metric, "__name__", "custom"), metric)
    raise TaskError(f"a metric is a name or a callable, got {type(metric).__name__}")
