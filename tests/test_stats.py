"""Statistics over seeds and tasks: against closed forms, scipy and rliable; their coverage."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import scipy.stats

from promptgym.evaluation import paired_bootstrap, stats

RECORDED = json.loads(
    (Path(__file__).parent / "data" / "rliable_scores.json").read_text(encoding="utf-8")
)
"""Scores, and what rliable 1.2.0 made of them; `made_with` is the program."""
FIRST, SECOND = np.array(RECORDED["first"]), np.array(RECORDED["second"])


def rng(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


def close(interval: stats.Interval, recorded: dict[str, Any], ends: float = 0.006) -> None:
    """The point is the same, the ends are as near as two bootstraps of 20,000 come."""
    np.testing.assert_allclose(interval.point, recorded["point"], rtol=0, atol=1e-12)
    np.testing.assert_allclose(interval.low, recorded["low"], atol=ends)
    np.testing.assert_allclose(interval.high, recorded["high"], atol=ends)


@pytest.mark.parametrize("name", stats.AGGREGATES)
def test_aggregates_and_their_intervals_are_those_of_rliable(name: str) -> None:
    found = stats.stratified_bootstrap(stats.AGGREGATES[name], FIRST, rng=rng(), resamples=20_000)
    close(found, RECORDED["aggregates"][name])


def test_the_probability_of_improvement_is_that_of_rliable() -> None:
    found = stats.stratified_bootstrap(
        stats.probability_of_improvement, FIRST, SECOND, rng=rng(), resamples=20_000
    )
    close(found, RECORDED["probability_of_improvement"], ends=0.015)


@pytest.mark.parametrize("of", ["runs", "tasks"])
def test_profiles_are_those_of_rliable(of: Any) -> None:
    thresholds = np.array(RECORDED["thresholds"])

    def profile(scores: Any) -> Any:
        return stats.performance_profile(scores, thresholds, of=of)

    # Shares move in steps of one run in 24 or one task in 3, so the ends are equal or a step off.
    found = stats.stratified_bootstrap(profile, FIRST, rng=rng())
    close(found, RECORDED[f"profile_of_{of}"], ends=1 / 24 + 1e-9 if of == "runs" else 1e-9)


@pytest.mark.parametrize("shape", [(1, 1), (3, 1), (5, 3), (10, 7)])
def test_the_iqm_is_scipys_trimmed_mean(shape: tuple[int, int]) -> None:
    scores = rng().normal(size=(4, *shape))
    expected = [scipy.stats.trim_mean(s, 0.25, axis=None) for s in scores]
    np.testing.assert_allclose(stats.iqm(scores), expected)


def test_closed_forms() -> None:
    scores = np.array([[0.0, 1.0], [0.5, 1.5]])
    assert stats.mean(scores) == 0.75
    assert stats.median(scores) == 0.75  # of the task means 0.25 and 1.25
    assert stats.optimality_gap(scores) == pytest.approx((1 + 0 + 0.5 + 0) / 4)
    assert stats.optimality_gap(scores, 2.0) == pytest.approx(2 - 0.75)
    assert stats.performance_profile(scores, np.array([0.0, 0.5, 1.0])).tolist() == [
        0.75,
        0.5,
        0.25,
    ]
    assert stats.performance_profile(scores, np.array([0.3]), of="tasks").tolist() == [0.5]
    assert stats.probability_of_improvement(scores, scores[:1]) == 0.75  # one tie, one win a task
    with pytest.raises(ValueError, match="'runs' or 'tasks'"):
        stats.performance_profile(scores, np.array([0.5]), of="seeds")  # type: ignore[arg-type]


def test_the_bootstrap_of_one_task_is_scipys() -> None:
    scores = rng(3).normal(size=(12, 1))
    found = stats.stratified_bootstrap(stats.mean, scores, rng=rng(), resamples=20_000)
    other = scipy.stats.bootstrap(
        (scores[:, 0],), np.mean, method="percentile", n_resamples=20_000, rng=rng(1)
    )
    expected = other.confidence_interval
    np.testing.assert_allclose([found.low, found.high], [expected.low, expected.high], atol=0.02)


def test_the_bootstrap_resamples_runs_within_tasks_only() -> None:
    far_apart = np.array([[0.0, 100.0]] * 3)  # no variance within a task
    found = stats.stratified_bootstrap(stats.mean, far_apart, rng=rng())
    assert (found.low, found.point, found.high) == (50.0, 50.0, 50.0)


def test_the_same_generator_gives_the_same_interval_in_one_piece_or_in_many(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    once = stats.stratified_bootstrap(stats.iqm, FIRST, rng=rng())
    monkeypatch.setattr(stats, "_CELLS", 24 * 100)
    assert once == stats.stratified_bootstrap(stats.iqm, FIRST, rng=rng())


@pytest.mark.parametrize(
    ("runs", "tasks", "least", "most"),
    [(5, 1, 0.78, 0.88), (5, 4, 0.85, 0.93), (20, 4, 0.91, 0.97)],
)
def test_the_coverage_of_the_intervals(runs: int, tasks: int, least: float, most: float) -> None:
    """With 5 runs of one task, 95 % intervals cover about 84 %; with more they get there.

    About, because P(|t| < 1.96 sqrt(4/5)) = 0.85 for t of 4 degrees of freedom: the resampled
    means vary by (R-1)/R of what is unbiased.
    """
    draws = rng(7)
    hits = 0
    for _ in range(600):
        scores = draws.normal(size=(runs, tasks))
        found = stats.stratified_bootstrap(stats.mean, scores, rng=draws, resamples=500)
        hits += bool(found.low <= 0 <= found.high)
    assert least < hits / 600 < most


@pytest.mark.parametrize("sizes", [(5, 5), (4, 6)])
def test_the_exact_test_is_scipys(sizes: tuple[int, int]) -> None:
    first, second = rng(1).normal(0.9, 1, sizes[0]), rng(2).normal(0, 1, sizes[1])
    found = stats.permutation_test(first, second, rng=rng())
    expected = scipy.stats.permutation_test(
        (first, second),
        lambda x, y, axis: np.abs(x.mean(axis=axis) - y.mean(axis=axis)),
        vectorized=True,
        n_resamples=np.inf,
        alternative="greater",
    )
    assert found.exact and found.arrangements == len(expected.null_distribution)
    assert found.p == pytest.approx(expected.pvalue, abs=1e-12)
    assert found.difference == pytest.approx(first.mean() - second.mean())


def test_the_exact_paired_test_is_scipys() -> None:
    first = rng(1).normal(0.6, 1, 9)
    second = rng(2).normal(0, 1, 9)
    found = stats.permutation_test(first, second, rng=rng(), paired=True)
    expected = scipy.stats.permutation_test(
        (first - second,), np.mean, permutation_type="samples", n_resamples=np.inf
    )
    assert found.exact and found.arrangements == 2**9
    assert found.p == pytest.approx(expected.pvalue, abs=1e-12)


def test_methods_that_never_overlap_have_the_smallest_p_there_is() -> None:
    low = rng().random((3, 2))
    found = stats.permutation_test(low + 2, low, rng=rng())
    assert found.exact and found.arrangements == 20**2
    assert found.p == pytest.approx(2 / 20**2)  # the observed arrangement and its mirror
    assert stats.permutation_test(low, low, rng=rng()).p == 1.0


def test_too_many_arrangements_are_drawn_and_said_to_be() -> None:
    first, second = rng(1).normal(0.6, 1, (5, 1)), rng(2).normal(0, 1, (5, 1))
    exact = stats.permutation_test(first, second, rng=rng())
    for paired, there_are in ((False, 252), (True, 32)):
        every = stats.permutation_test(first, second, rng=rng(), paired=paired)
        drawn = stats.permutation_test(
            np.tile(first, (1, 4)), np.tile(second, (1, 4)), rng=rng(), paired=paired, limit=999
        )
        assert every.exact and every.arrangements == there_are
        assert not drawn.exact and drawn.arrangements == 999
        assert 1 / 1000 <= drawn.p < every.p  # the same difference, on four tasks
    some = stats.permutation_test(first, second, rng=rng(), limit=251)
    assert not some.exact and some.p == pytest.approx(exact.p, abs=0.1)


def test_the_test_of_no_difference_holds_its_level() -> None:
    draws = rng(5)
    p = [
        stats.permutation_test(draws.normal(size=(4, 1)), draws.normal(size=(4, 1)), rng=draws).p
        for _ in range(400)
    ]
    assert np.mean(np.array(p) <= 0.06) < 0.1  # 4 of 70 arrangements: 0.057 expected


def test_holm_by_hand() -> None:
    np.testing.assert_allclose(stats.holm([0.01, 0.04, 0.03, 0.005]), [0.03, 0.06, 0.06, 0.02])
    assert stats.holm([0.9, 0.8]).tolist() == [1.0, 1.0]
    assert stats.holm([]).shape == (0,)
    with pytest.raises(ValueError, match="from 0 to 1"):
        stats.holm([0.5, 1.5])


def test_the_paired_bootstrap_over_examples_takes_means_over_seeds() -> None:
    right = rng(4).random((5, 200)) < 0.7
    worse = right & (rng(5).random((5, 200)) < 0.9)
    found = paired_bootstrap(right.mean(axis=0), worse.mean(axis=0))
    assert found.significant and found.mean == pytest.approx(right.mean() - worse.mean())


@pytest.mark.parametrize(
    ("scores", "options", "says"),
    [
        ([np.zeros((2, 2)), np.zeros((2, 3))], {}, "same tasks"),
        ([np.zeros((0, 2))], {}, "runs, tasks"),
        ([np.zeros(3)], {}, "runs, tasks"),
        ([np.array([[np.nan, 1.0]])], {}, "1 NaN"),
        ([np.zeros((2, 2))], {"resamples": 0}, "at least one resample"),
        ([np.zeros((2, 2))], {"confidence": 1.0}, "between 0 and 1"),
    ],
)
def test_what_cannot_be_estimated_is_refused(scores: Any, options: Any, says: str) -> None:
    with pytest.raises(ValueError, match=says):
        stats.stratified_bootstrap(stats.mean, *scores, rng=rng(), **options)


def test_what_cannot_be_tested_is_refused() -> None:
    with pytest.raises(ValueError, match="paired: of one shape"):
        stats.permutation_test(np.zeros(3), np.zeros(4), rng=rng(), paired=True)
    with pytest.raises(ValueError, match="limit of at least 1"):
        stats.permutation_test(np.zeros(3), np.zeros(3), rng=rng(), limit=0)
