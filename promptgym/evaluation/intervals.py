"""Intervals for scores on a held-out split: Wilson, the bootstrap, the paired bootstrap.

All are intervals over *examples*: they say how far a score might lie from what the same prompt
would reach on more examples of the kind. They say nothing about seeds of the optimizer.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
from scipy.special import ndtr, ndtri

from promptgym.types import FloatArray, IntArray

Method = Literal["bca", "percentile"]
METHODS: tuple[Method, ...] = ("bca", "percentile")
_CELLS = 4_000_000  # counts held in memory at a time


@dataclass(frozen=True, slots=True)
class Difference:
    """Mean difference of two prompts over the same examples, with its interval.

    Attributes:
        mean: score of the first minus score of the second.
        low: lower end of the interval.
        high: upper end.
        examples: how many examples both were scored on.
        confidence: coverage aimed at, e.g. 0.95.
    """

    mean: float
    low: float
    high: float
    examples: int
    confidence: float = 0.95

    @property
    def significant(self) -> bool:
        """Whether the interval excludes zero: only then is one prompt called better."""
        return self.low > 0 or self.high < 0


def wilson(
    successes: FloatArray, n: FloatArray | IntArray, confidence: float = 0.95
) -> tuple[FloatArray, FloatArray]:
    """Wilson's score interval of a proportion (Wilson 1927), without continuity correction.

    Unlike the normal approximation it stays in [0, 1] and has a width at 0 and 1.

    Args:
        successes: right answers, any shape.
        n: answers, of the same shape.
        confidence: coverage aimed at.

    Returns:
        Lower and upper ends, of that shape; NaN where n is 0.

    Raises:
        ValueError: for more successes than answers, or a confidence outside (0, 1).
    """
    check_confidence(confidence)
    if np.any(np.less(successes, 0)) or np.any(np.greater(successes, n)):
        raise ValueError(f"successes must lie between 0 and n, got {successes} of {n}")
    z = float(ndtri(0.5 + confidence / 2))
    count = np.asarray(n, dtype=np.float64)
    count = np.where(count > 0, count, np.nan)
    share = np.asarray(successes, dtype=np.float64) / count
    centre = (share + z**2 / (2 * count)) / (1 + z**2 / count)
    half = z / (1 + z**2 / count) * np.sqrt(share * (1 - share) / count + z**2 / (4 * count**2))
    return np.clip(centre - half, 0.0, 1.0), np.clip(centre + half, 0.0, 1.0)


def bootstrap(
    values: FloatArray,
    *,
    strata: IntArray | None = None,
    confidence: float = 0.95,
    method: Method = "bca",
    resamples: int = 5000,
    seed: int = 0,
) -> tuple[FloatArray, FloatArray]:
    """Bootstrap interval of the mean over examples, for several prompts at once.

    Every prompt is resampled with the same examples. "percentile" takes the quantiles of the
    resampled means; "bca" corrects them for bias and skewness (Efron 1987).

    Args:
        values: per-example scores, shape (P, E); NaN marks a failure and does not count.
        strata: class of every example, shape (E,): resamples keep the class sizes and the statistic
            is the mean over classes of the class means (balanced accuracy). None: the plain mean.
        confidence: coverage aimed at.
        method: "bca" or "percentile".
        resamples: how many.
        seed: of the generator; the same seed gives the same interval.

    Returns:
        Lower and upper ends, shape (P,); NaN for a prompt (or one of its classes) without values.

    Raises:
        ValueError: for another method, a confidence outside (0, 1), no resamples or no examples.
    """
    check_confidence(confidence)
    if method not in METHODS:
        raise ValueError(f"method must be one of {METHODS}, got {method!r}")
    values = np.atleast_2d(np.asarray(values, dtype=np.float64))
    if resamples < 1 or not values.shape[1]:
        raise ValueError(
            f"expected at least one resample and one example, got {resamples} and {values.shape[1]}"
        )
    groups = _groups(values.shape[1], strata)
    means = _resampled(values, groups, resamples, np.random.default_rng(seed))
    tail = (1 - confidence) / 2
    quantiles = np.broadcast_to(np.array([[tail], [1 - tail]]), (2, len(values)))
    if method == "bca":
        quantiles = _corrected(values, groups, means, quantiles)
    ends = np.full((2, len(values)), np.nan)
    for row in range(len(values)):
        column = means[:, row]
        if not np.isnan(column).any():  # a class was missing in some resample otherwise
            ends[:, row] = np.quantile(column, quantiles[:, row])
    return ends[0], ends[1]


def paired_bootstrap(
    first: FloatArray,
    second: FloatArray,
    *,
    strata: IntArray | None = None,
    confidence: float = 0.95,
    method: Method = "bca",
    resamples: int = 5000,
    seed: int = 0,
) -> Difference:
    """Interval of the difference of two prompts scored on the same examples, in the same order.

    Examples are resampled in pairs, so what is hard for both cancels. Pairs with a failure are left
    out.

    Args:
        first: per-example scores of one prompt, shape (E,).
        second: those of the other, shape (E,).
        strata: see `bootstrap`.
        confidence: see `bootstrap`.
        method: see `bootstrap`.
        resamples: see `bootstrap`.
        seed: see `bootstrap`.

    Raises:
        ValueError: if the lengths differ or no pair is complete.
    """
    if np.shape(first) != np.shape(second) or np.ndim(first) != 1:
        raise ValueError(
            f"paired scores must be two vectors of one length, got shapes {np.shape(first)} and "
            f"{np.shape(second)}"
        )
    differences = np.asarray(first, dtype=np.float64) - second
    both = ~np.isnan(differences)
    if not both.any():
        raise ValueError("there is no example on which both prompts have a score")
    row = differences[both][None, :]
    kept = None if strata is None else np.asarray(strata)[both]
    low, high = bootstrap(
        row, strata=kept, confidence=confidence, method=method, resamples=resamples, seed=seed
    )
    mean = float(_statistic(row, _groups(row.shape[1], kept))[0])
    return Difference(mean, float(low[0]), float(high[0]), int(both.sum()), confidence)


def check_confidence(confidence: float) -> None:
    """Refuse a confidence that is not a share."""
    if not 0 < confidence < 1:
        raise ValueError(f"confidence must lie between 0 and 1, got {confidence}")


def _groups(examples: int, strata: IntArray | None) -> list[IntArray]:
    """Return the example indices of every stratum."""
    if strata is None:
        return [np.arange(examples)]
    if len(strata) != examples:
        raise ValueError(f"strata must name a class for each of {examples} examples")
    return [np.flatnonzero(strata == name) for name in np.unique(strata)]


def _statistic(values: FloatArray, groups: list[IntArray]) -> FloatArray:
    """Return the mean over groups of the mean over valid values, shape (P,)."""
    valid = ~np.isnan(values)
    filled = np.where(valid, values, 0.0)
    with np.errstate(invalid="ignore", divide="ignore"):
        parts = [filled[:, g].sum(axis=1) / valid[:, g].sum(axis=1) for g in groups]
    return np.asarray(np.mean(parts, axis=0))


def _resampled(
    values: FloatArray, groups: list[IntArray], resamples: int, rng: np.random.Generator
) -> FloatArray:
    """Return the statistic of every resample, shape (resamples, P)."""
    valid = ~np.isnan(values)
    filled = np.where(valid, values, 0.0)
    total = np.zeros((resamples, len(values)))
    for group in groups:
        n = len(group)
        step = max(1, _CELLS // max(1, n))
        for start in range(0, resamples, step):
            rows = min(step, resamples - start)
            counts = rng.multinomial(n, np.full(n, 1 / n), size=rows).astype(np.float64)
            with np.errstate(invalid="ignore", divide="ignore"):
                means = (counts @ filled[:, group].T) / (counts @ valid[:, group].T)
            total[start : start + rows] += means
    return total / len(groups)


def _corrected(
    values: FloatArray, groups: list[IntArray], means: FloatArray, quantiles: FloatArray
) -> FloatArray:
    """Return BCa's quantiles, shape (2, P); a prompt whose scores never vary keeps the plain ones.

    Bias is measured with ties counted half; acceleration from the jackknife influence of each
    example on the statistic (Efron and Tibshirani 1993, equation 14.15).
    """
    point = _statistic(values, groups)
    below = (means < point).mean(axis=0) + 0.5 * (means == point).mean(axis=0)
    bias = ndtri(np.clip(below, 1 / (len(means) + 1), 1 - 1 / (len(means) + 1)))
    influence = np.zeros_like(values)
    for group in groups:
        part = values[:, group]
        n = np.maximum(2, (~np.isnan(part)).sum(axis=1, keepdims=True))
        centre = _statistic(part, [np.arange(part.shape[1])])[:, None]
        influence[:, group] = np.nan_to_num((part - centre) / (n - 1))
    squares = (influence**2).sum(axis=1)
    varies = squares > 0
    acceleration = np.zeros(len(values))
    np.divide((influence**3).sum(axis=1), 6 * squares**1.5, out=acceleration, where=varies)
    z = ndtri(quantiles)
    shifted = ndtr(bias + (bias + z) / (1 - acceleration * (bias + z)))
    return np.asarray(np.where(varies, shifted, quantiles))
