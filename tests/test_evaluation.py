"""Held-out evaluation: intervals against closed forms and other implementations, comparisons."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import scipy.stats
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from promptgym.errors import ConfigError, PromptGymError, TaskError
from promptgym.evaluation import (
    bootstrap,
    compare,
    evaluate,
    held_out,
    paired_bootstrap,
    wilson,
)
from promptgym.problem import Problem
from promptgym.prompts import Prompt
from promptgym.tasks import get_metric
from promptgym.testing import TransparentModel, transparent_task
from promptgym.testing.transparent import LABELS
from promptgym.types import JSON, FloatArray

GOOD, POOR = "alpha beta gamma delta", "one two"


@pytest.mark.parametrize(("successes", "n"), [(0, 10), (10, 10), (7, 9), (45, 50), (250, 500)])
def test_wilson_agrees_with_scipy(successes: int, n: int) -> None:
    low, high = wilson(np.array([successes]), np.array([n]))
    expected = scipy.stats.binomtest(successes, n).proportion_ci(method="wilson")
    np.testing.assert_allclose([low[0], high[0]], [expected.low, expected.high], atol=1e-12)


def test_wilson_without_answers_is_nan() -> None:
    assert np.isnan(wilson(np.array([0]), np.array([0]))).all()


@pytest.mark.parametrize("method", ["bca", "percentile"])
def test_the_bootstrap_agrees_with_scipy(method: str) -> None:
    values = np.random.default_rng(0).gamma(0.5, size=60)  # skewed, so that bca differs
    low, high = bootstrap(values[None], method=method, resamples=20_000)  # type: ignore[arg-type]
    other = scipy.stats.bootstrap(
        (values,), np.mean, method=method, n_resamples=20_000, rng=np.random.default_rng(1)
    ).confidence_interval
    np.testing.assert_allclose([low[0], high[0]], [other.low, other.high], rtol=0.03)


def test_bca_reaches_further_on_the_long_tail() -> None:
    values = np.random.default_rng(0).gamma(0.5, size=(1, 60))
    plain, corrected = (bootstrap(values, method=m) for m in ("percentile", "bca"))
    assert corrected[0][0] > plain[0][0]
    assert corrected[1][0] > plain[1][0]


def test_intervals_cover_the_truth_about_as_often_as_they_say() -> None:
    rng = np.random.default_rng(0)
    samples = rng.random((400, 40)) ** 2  # mean 1/3
    low, high = bootstrap(samples, resamples=1000)
    assert 0.91 <= ((low <= 1 / 3) & (high >= 1 / 3)).mean() <= 0.98


@given(
    arrays(np.float64, (2, 8), elements=st.one_of(st.floats(0, 1, width=16), st.just(np.nan))),
    st.integers(0, 3),
)
@settings(max_examples=30, deadline=None)
def test_intervals_hold_their_mean_and_are_repeatable(values: FloatArray, seed: int) -> None:
    low, high = bootstrap(values, resamples=200, seed=seed)
    np.testing.assert_array_equal(low, bootstrap(values, resamples=200, seed=seed)[0])
    for row in range(2):
        seen = values[row][~np.isnan(values[row])]
        if np.isnan(low[row]):
            assert len(seen) < 8  # too few values: some resample held none
        else:
            assert seen.min() - 1e-12 <= low[row] <= high[row] <= seen.max() + 1e-12


def test_constant_scores_have_an_interval_without_width() -> None:
    low, high = bootstrap(np.full((1, 12), 0.25))
    assert (low[0], high[0]) == (0.25, 0.25)


def test_strata_keep_class_sizes() -> None:
    """With scores constant within a class, the mean of class means cannot vary."""
    values = np.array([[1.0] * 3 + [0.0] * 9])
    strata = np.array([0] * 3 + [1] * 9)
    low, high = bootstrap(values, strata=strata)
    assert (low[0], high[0]) == (0.5, 0.5)


def test_pairing_cancels_what_is_hard_for_both() -> None:
    rng = np.random.default_rng(0)
    hardness = rng.random(80)
    first, second = hardness + 0.05, hardness + 0.01 * rng.standard_normal(80)
    paired = paired_bootstrap(first, second)
    alone = bootstrap(np.stack([first, second]))
    assert paired.significant
    assert paired.mean == pytest.approx((first - second).mean())
    assert alone[0][0] < alone[1][1]  # the single intervals overlap


def test_pairs_with_a_failure_are_left_out() -> None:
    first = np.array([1.0, np.nan, 1.0, 0.0])
    second = np.array([0.0, 0.0, np.nan, 0.0])
    difference = paired_bootstrap(first, second)
    assert (difference.mean, difference.examples) == (0.5, 2)
    assert not difference.significant
    with pytest.raises(ValueError, match="no example on which both"):
        paired_bootstrap(np.array([np.nan]), np.array([1.0]))
    with pytest.raises(ValueError, match="one length"):
        paired_bootstrap(np.zeros(2), np.zeros(3))


def test_evaluate_opens_the_test_split_and_keeps_every_example() -> None:
    task, model = transparent_task(), TransparentModel()
    result = evaluate([GOOD, Prompt(POOR)], task, model, reward="gap")
    assert (result.split, result.method) == ("test", "wilson")
    assert result.scores.examples == task.test
    assert result.values.shape == (2, 20)
    # By the model's formula: the good sum 2.3 stands up to hard 4, the poor -0.5 to nothing.
    np.testing.assert_array_equal(result.mean, [1.0, 0.0])
    assert result.high[0] == 1.0
    assert 0.8 < result.low[0] < 0.9
    assert result.rewards is not None
    assert result.rewards[0] > 0 > result.rewards[1]
    assert result.spent["queries"] == 40
    rows = result.to_json()["prompts"]
    assert rows[0]["prompt"] == {"instruction": GOOD}
    assert rows[0]["failures"] == 0


def test_a_problem_cannot_be_evaluated_on_test_but_its_open_task_can() -> None:
    task = transparent_task()
    problem = Problem(task, TransparentModel())
    with pytest.raises(TaskError, match="test split cannot be reached"):
        evaluate(GOOD, problem.task, problem.model)
    rows = held_out([GOOD, POOR], problem, task, "test")
    assert [row["value"] for row in rows] == [1.0, 0.0]
    assert problem.ledger.queries == 0


def test_compare_pairs_examples_and_says_what_is_significant() -> None:
    task, model = transparent_task(), TransparentModel()
    both = evaluate([GOOD, "alpha"], task, model)
    difference = compare(both, both, rows=(0, 1))
    assert difference.mean == pytest.approx(both.mean[0] - both.mean[1])
    assert difference.low <= difference.mean <= difference.high
    assert difference.significant
    same = compare(both, both)
    assert (same.mean, same.low, same.high, same.significant) == (0.0, 0.0, 0.0, False)
    with pytest.raises(TaskError, match="same examples and metric"):
        compare(both, evaluate(GOOD, task, model, split="dev"))


def test_balanced_metrics_and_graded_ones_get_a_bootstrap() -> None:
    task = replace(transparent_task(), metric=get_metric("balanced_accuracy"))
    result = evaluate("alpha beta", task, TransparentModel())
    assert result.method == "bca"
    assert result.low[0] <= result.mean[0] <= result.high[0]


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"prompts": []}, "there are no prompts"),
        ({"prompts": 5}, "expected a prompt, a string or a dict, got int"),
        ({"task": None}, "task must be a Task or what load_task takes, got None"),
        ({"model": None}, "model must be a model or what load_model takes, got None"),
        ({"task_options": {"seed": 1}}, r"loaded already and takes no \['seed'\]"),
        ({"limit": 0}, "limit must be at least 1"),
        ({"limit": 0.5}, "limit takes int or None, got 0.5"),
        ({"confidence": 95}, "confidence must lie between 0 and 1"),
        ({"resamples": 0}, "resamples be at least 1"),
        ({"batchsize": 4}, "no argument 'batchsize'; did you mean 'batch_size'?"),
        ({"ledger": None}, "no argument 'ledger'"),
    ],
)
def test_a_mistake_is_named_before_the_model_is_asked(changes: JSON, said: str) -> None:
    model = TransparentModel()
    options = {"prompts": "alpha", "task": transparent_task(), "model": model, **changes}
    with pytest.raises(PromptGymError, match=said):
        evaluate(**options)
    assert model.calls == 0


def test_a_data_file_is_a_task_by_its_path(tmp_path: Path) -> None:
    path = tmp_path / "data.csv"
    rows = (f"{i} {LABELS[i % 2]},{LABELS[i % 2]}\n" for i in range(20))
    path.write_text("text,label\n" + "".join(rows))
    found = [evaluate("alpha", task, TransparentModel()) for task in (path, str(path))]
    assert found[0].task == "data" and np.array_equal(found[0].values, found[1].values)


def test_compare_names_a_prompt_that_there_is_not() -> None:
    found = evaluate(["alpha", "beta"], transparent_task(), TransparentModel())
    with pytest.raises(ConfigError, match="no prompt 2 among 2"):
        compare(found, found, rows=(0, 2))


def test_intervals_refuse_what_has_none() -> None:
    with pytest.raises(ValueError, match="between 0 and n"):
        wilson(np.array([11.0]), np.array([10.0]))
    for values, resamples in ((np.ones((1, 3)), 0), (np.ones((1, 0)), 10)):
        with pytest.raises(ValueError, match="at least one resample and one example"):
            bootstrap(values, resamples=resamples)


def test_a_limit_takes_the_first_examples() -> None:
    task = transparent_task()
    result = evaluate(GOOD, task, TransparentModel(), limit=5)
    assert result.scores.examples == task.test[:5]


def test_a_split_without_examples_is_named() -> None:
    task = transparent_task()
    with pytest.raises(TaskError, match="unknown split 'tset'"):
        evaluate(GOOD, task, TransparentModel(), split="tset")
    with pytest.raises(TaskError, match="has no dev examples"):
        evaluate(GOOD, replace(task, dev=()), TransparentModel(), split="dev")
