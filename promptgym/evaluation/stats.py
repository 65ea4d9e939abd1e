"""Statistics over seeds and tasks: aggregates with intervals, comparisons, tests.

Intervals over test *examples* (Wilson, bootstrap, paired bootstrap) are in
`promptgym.evaluation.intervals`; everything here is about runs. Scores of one method are a matrix
(R, T), runs x tasks. The aggregates are those of Agarwal et al. 2021, "Deep Reinforcement Learning
at the Edge of the Statistical Precipice"; each takes (..., R, T) and returns (...), so that all
resamples of a bootstrap are one call.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from promptgym.evaluation.intervals import check_confidence
from promptgym.types import FloatArray, IntArray

Statistic = Callable[..., FloatArray]
"""One matrix of scores a method, (..., R, T) -> (...) or (..., K)."""
_CELLS = 1_000_000  # resampled scores held in memory at a time


@dataclass(frozen=True, slots=True)
class Interval:
    """A statistic with its interval.

    Attributes:
        point: of the scores as they are, shape () or (K,).
        low: lower end, of that shape.
        high: upper end, of that shape.
        confidence: coverage aimed at, e.g. 0.95.
    """

    point: FloatArray
    low: FloatArray
    high: FloatArray
    confidence: float


@dataclass(frozen=True, slots=True)
class Permutation:
    """Outcome of a permutation test.

    Attributes:
        difference: mean of the first minus mean of the second.
        p: two-sided p-value.
        exact: whether all arrangements were counted; else they were drawn.
        arrangements: how many were counted or drawn.
    """

    difference: float
    p: float
    exact: bool
    arrangements: int


def mean(scores: FloatArray) -> FloatArray:
    """Return the mean over runs and tasks, (..., R, T) -> (...)."""
    return np.asarray(np.mean(scores, axis=(-2, -1)))


def median(scores: FloatArray) -> FloatArray:
    """Return the median over tasks of the means over runs, (..., R, T) -> (...)."""
    return np.asarray(np.median(np.mean(scores, axis=-2), axis=-1))


def iqm(scores: FloatArray) -> FloatArray:
    """Interquartile mean: the mean of the middle half of all runs of all tasks.

    A quarter of the R x T scores, rounded down, is cut off at each end (Agarwal et al. 2021,
    section 4.3), as `scipy.stats.trim_mean` does.

    Args:
        scores: shape (..., R, T).

    Returns:
        Shape (...).
    """
    pooled = np.sort(np.reshape(scores, (*np.shape(scores)[:-2], -1)), axis=-1)
    cut = pooled.shape[-1] // 4
    return np.asarray(pooled[..., cut : pooled.shape[-1] - cut].mean(axis=-1))


def optimality_gap(scores: FloatArray, target: float = 1.0) -> FloatArray:
    """Return by how much runs fall short of a target on average, (..., R, T) -> (...).

    What lies above the target does not make up for what lies below (Agarwal et al. 2021, section
    4.3, with gamma the target).
    """
    return np.asarray(target - np.minimum(scores, target).mean(axis=(-2, -1)))


AGGREGATES: dict[str, Statistic] = {
    "iqm": iqm,
    "mean": mean,
    "median": median,
    "optimality_gap": optimality_gap,
}
"""Name -> aggregate of one method's scores."""


def performance_profile(
    scores: FloatArray, thresholds: FloatArray, *, of: Literal["runs", "tasks"] = "runs"
) -> FloatArray:
    """Return which share scores above each threshold (Agarwal et al. 2021, section 4.2).

    Args:
        scores: shape (..., R, T).
        thresholds: shape (K,).
        of: the share of single runs, or of tasks by their mean over runs.

    Returns:
        Shape (..., K).
    """
    if of not in ("runs", "tasks"):
        raise ValueError(f"of must be 'runs' or 'tasks', got {of!r}")
    if of == "tasks":
        scores = np.mean(scores, axis=-2, keepdims=True)
    above = np.asarray(scores)[..., None] > np.asarray(thresholds)
    return np.asarray(above.mean(axis=(-3, -2)))


def probability_of_improvement(first: FloatArray, second: FloatArray) -> FloatArray:
    """Return how likely a run of the first method beats one of the second on the same task.

    The mean over tasks of the Mann-Whitney statistic over the number of pairs: a tie counts one
    half (Agarwal et al. 2021, section 4.3).

    Args:
        first: shape (..., R, T).
        second: shape (..., S, T).

    Returns:
        Shape (...).
    """
    pairs = np.asarray(first)[..., :, None, :] - np.asarray(second)[..., None, :, :]
    return np.asarray((0.5 + 0.5 * np.sign(pairs)).mean(axis=(-3, -2, -1)))


def stratified_bootstrap(
    statistic: Statistic,
    *scores: FloatArray,
    rng: np.random.Generator,
    confidence: float = 0.95,
    resamples: int = 10_000,
) -> Interval:
    """Percentile interval of a statistic, runs resampled within each task and each method.

    Tasks are kept as they are: the interval says what other seeds would give on the same tasks
    (Agarwal et al. 2021, section 4.1). With few runs it is too narrow: 95 % intervals of the mean
    of normal scores cover about 0.84 with 5 runs of one task, 0.90 with 5 of four, 0.93 with 20 of
    four.

    Args:
        statistic: what is estimated; called with one array (B, R, T) a method.
        scores: one matrix (R, T) a method; the numbers of runs may differ.
        rng: the only source of chance.
        confidence: coverage aimed at.
        resamples: how many.

    Raises:
        ValueError: for a matrix that is empty, has another shape or holds NaN; different numbers of
            tasks; a confidence outside (0, 1) or no resamples.
    """
    check_confidence(confidence)
    matrices = [_matrix(s) for s in scores]
    if resamples < 1 or len({m.shape[1] for m in matrices}) != 1:
        raise ValueError(
            "expected at least one resample, and scores on the same tasks, got "
            f"{resamples} and shapes {[m.shape for m in matrices]}"
        )
    step = max(1, _CELLS // sum(m.size for m in matrices))
    parts = [
        statistic(*(_resample(m, min(step, resamples - start), rng) for m in matrices))
        for start in range(0, resamples, step)
    ]
    tail = (1 - confidence) / 2
    low, high = np.quantile(np.concatenate(parts), [tail, 1 - tail], axis=0)
    return Interval(statistic(*matrices), low, high, confidence)


def permutation_test(
    first: FloatArray,
    second: FloatArray,
    *,
    rng: np.random.Generator,
    paired: bool = False,
    limit: int = 100_000,
) -> Permutation:
    """Two-sided permutation test of equal means; all arrangements where they are few.

    Runs of two methods are exchanged within each task (`paired`: run i of the one with run i of the
    other only; so are scores on the same examples, as vectors). A p-value of drawn arrangements
    counts the observed one among them (Phipson and Smyth 2010, equation 2), so it is never 0.

    Args:
        first: shape (R, T), or (R,) for one task.
        second: shape (S, T) or (S,); with `paired` the shape of the first.
        rng: draws arrangements where there are more than `limit`.
        paired: see above.
        limit: count all arrangements up to so many; draw so many otherwise.

    Raises:
        ValueError: for shapes that do not go together, NaN, or a limit below 1.
    """
    a, b = (_matrix(np.reshape(s, (len(s), -1))) for s in (first, second))
    if a.shape[1] != b.shape[1] or (paired and a.shape != b.shape) or limit < 1:
        raise ValueError(
            "expected scores on the same tasks (paired: of one shape) and a limit of at least 1, "
            f"got shapes {a.shape} and {b.shape}, paired={paired}, limit={limit}"
        )
    observed = float(a.mean() - b.mean())
    if paired:
        exact = a.size < limit.bit_length()  # 2^size <= limit
        flipped = _flips((a - b).ravel(), exact, limit, rng)
    else:
        exact = math.comb(len(a) + len(b), len(a)) ** a.shape[1] <= limit
        flipped = _exchanges(np.concatenate([a, b]), len(a), exact, limit, rng)
    # Arrangements that are equal to the observed one but for rounding count as equal.
    hits = int((np.abs(flipped) >= abs(observed) * (1 - 1e-12) - 1e-15).sum())
    p = hits / len(flipped) if exact else (hits + 1) / (len(flipped) + 1)
    return Permutation(observed, p, exact, len(flipped))


def holm(p_values: Sequence[float] | FloatArray) -> FloatArray:
    """Return p-values corrected for their number, by Holm's step-down method (Holm 1979).

    Rejecting those at most alpha keeps the chance of any false rejection at most alpha, whatever
    the dependence between the tests.

    Args:
        p_values: shape (M,).

    Raises:
        ValueError: for a value outside [0, 1].
    """
    p = np.asarray(p_values, dtype=np.float64)
    if p.ndim != 1 or not ((p >= 0) & (p <= 1)).all():
        raise ValueError(f"expected a vector of p-values from 0 to 1, got {p_values}")
    order = np.argsort(p, kind="stable")
    stepped = np.maximum.accumulate(p[order] * np.arange(len(p), 0, -1))
    out = np.empty_like(p)
    out[order] = np.minimum(stepped, 1.0)
    return out


def _matrix(scores: FloatArray) -> FloatArray:
    """Return scores as a matrix of numbers.

    Raises:
        ValueError: if they are none.
    """
    matrix = np.asarray(scores, dtype=np.float64)
    if matrix.ndim != 2 or not matrix.size or np.isnan(matrix).any():
        raise ValueError(
            f"expected scores of shape (runs, tasks) without NaN, got shape {matrix.shape} with "
            f"{int(np.isnan(matrix).sum())} NaN; leave runs without a score out and say so"
        )
    return matrix


def _resample(scores: FloatArray, n: int, rng: np.random.Generator) -> FloatArray:
    """Return n resamples of runs within each task, (R, T) -> (n, R, T)."""
    runs, tasks = scores.shape
    picks = rng.integers(runs, size=(n, runs, tasks))
    return np.asarray(scores[picks, np.arange(tasks)])


def _flips(
    differences: FloatArray, exact: bool, limit: int, rng: np.random.Generator
) -> FloatArray:
    """Return the mean difference for all, or `limit` drawn, choices of signs."""
    n = len(differences)
    if exact:
        bits: IntArray = np.arange(2**n)[:, None] >> np.arange(n) & 1
        return np.asarray((1.0 - 2.0 * bits) @ differences / n)
    step = max(1, _CELLS // n)
    parts = [
        rng.choice([-1.0, 1.0], size=(min(step, limit - start), n)) @ differences / n
        for start in range(0, limit, step)
    ]
    return np.concatenate(parts)


def _exchanges(
    pooled: FloatArray, first: int, exact: bool, limit: int, rng: np.random.Generator
) -> FloatArray:
    """Return the mean over tasks of the difference of means, for all or drawn exchanges of runs.

    Args:
        pooled: scores of both methods, shape (R + S, T).
        first: R.
        exact: whether all.
        limit: how many to draw.
        rng: draws them.
    """
    runs, tasks = pooled.shape
    scale = 1 / first + 1 / (runs - first)  # mean(a) - mean(b) = scale * sum(a) - sum(all) / S
    total = np.zeros(1 if exact else limit)
    if exact:
        rows: IntArray = np.array(list(itertools.combinations(range(runs), first)))
    for task in range(tasks):
        column = pooled[:, task]
        if exact:
            sums = column[rows].sum(axis=1)
        else:
            drawn = np.argsort(rng.random((limit, runs)), axis=1)[:, :first]
            sums = column[drawn].sum(axis=1)
        differences = scale * sums - column.sum() / (runs - first)
        # Tasks are exchanged independently: all pairs of arrangements, or one draw of each.
        total = (total[:, None] + differences).ravel() if exact else total + differences
    return np.asarray(total / tasks)
