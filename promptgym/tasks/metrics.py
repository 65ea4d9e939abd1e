"""Metrics: how one prediction is paid against its target, and how examples are aggregated."""

from __future__ import annotations

import importlib
import re
import string
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from difflib import get_close_matches

import numpy as np

from promptgym.errors import TaskError
from promptgym.prompts import Example
from promptgym.tasks import induction_metrics as induction
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


# A minus sign counts only where nothing stands before it: in "7-3" it is an operator.
# Commas belong to it only where they part thousands: "1,2,3" are three numbers.
_NUMBER = re.compile(
    r"(?:(?<![\w.)])-)?\$?(?:(?:\d{1,3}(?:,\d{3})+(?!\d)|\d+)(?:\.\d+)?|\.\d+)(?:[eE][+-]?\d+)?"
)


def last_number(text: str) -> float | None:
    """Return the answer's number: the first after the last `####` (GSM8K), else the last one.

    Thousands separators, dollar signs and a unit or full stop behind the number are ignored; the
    typographic minus counts as one, and `1e3` is a number.
    """
    text = text.replace("−", "-")  # noqa: RUF001 - U+2212, which models write
    marked = "####" in text
    found = _NUMBER.findall(text.rsplit("####", 1)[-1] if marked else text)
    if not found:
        return None
    number: str = found[0] if marked else found[-1]
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

    def score(self, prediction: str, example: Example) -> float:
        """Return the best score of a prediction against any of the example's right answers.

        Raises:
            TaskError: if a custom metric returns something other than a number in [0, 1].
        """
        best = 0.0
        for answer in example.answers:
            value = self.per_example(prediction, answer)
            if (
                not isinstance(value, (bool, int, float, np.bool_, np.number))
                or not 0 <= value <= 1
            ):
                raise TaskError(
                    f"metric {self.name!r} returned {value!r} for prediction {prediction!r} and "
                    f"target {answer!r}; expected a number between 0 and 1"
                )
            best = max(best, float(value))
        return best

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
        balanced: FloatArray = np.mean(np.stack(per_class, axis=1), axis=1)
        return balanced


def _nanmean(values: FloatArray) -> FloatArray:
    """Mean over the last axis without NaN, quietly NaN where nothing is left."""
    valid = ~np.isnan(values)
    count = valid.sum(axis=1)
    total = np.where(valid, values, 0.0).sum(axis=1)
    mean: FloatArray = np.divide(total, count, out=np.full(len(values), np.nan), where=count > 0)
    return mean


METRICS: dict[str, Metric] = {
    m.name: m
    for m in (
        Metric("accuracy", equal),
        Metric("balanced_accuracy", equal, balanced=True),
        Metric("exact_match", exact_match),
        Metric("token_f1", token_f1),
        Metric("numeric_match", numeric_match),
        Metric("induction_exact_match", induction.exact_match),
        Metric("induction_f1", induction.f1),
        Metric("induction_exact_set", induction.exact_set),
        Metric("induction_contains", induction.contains),
    )
}


def get_metric(metric: str | Metric | PerExample) -> Metric:
    """Return a metric by name, wrap a callable `(prediction, target) -> float`, or pass it on.

    A callable can be named, too, as "package.module:function", so that it survives in JSON.

    Raises:
        TaskError: for an unknown name, or something that is not callable.
    """
    if isinstance(metric, Metric):
        return metric
    if isinstance(metric, str):
        return METRICS[metric] if metric in METRICS else _imported(metric)
    if callable(metric):
        return Metric(getattr(metric, "__name__", "custom"), metric)
    raise TaskError(f"a metric is a name or a callable, got {type(metric).__name__}")


def _imported(name: str) -> Metric:
    """Return the metric that "package.module:function" names."""
    module, colon, function = name.partition(":")
    if not colon:
        close = get_close_matches(name, METRICS, n=1)
        hint = f", did you mean {close[0]!r}?" if close else "."
        raise TaskError(
            f"unknown metric {name!r}{hint} Known: {', '.join(METRICS)}; your own is named "
            "'package.module:function'"
        )
    try:
        found = getattr(importlib.import_module(module), function)
    except (ImportError, AttributeError, ValueError) as error:
        raise TaskError(f"metric {name!r} cannot be imported: {error}") from None
    if isinstance(found, Metric):
        return found
    if not callable(found):
        raise TaskError(f"metric {name!r} is not callable, but a {type(found).__name__}")
    return Metric(name, found)
