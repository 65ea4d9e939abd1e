"""Stabilizers: their formulas, their state, and what they do with prompts that failed."""

from __future__ import annotations

import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from promptgym.errors import RewardError
from promptgym.rewards import STABILIZERS, make_stabilizer
from promptgym.rewards.stabilizers import FixedScale, RunningZ
from promptgym.types import FloatArray

ALL = [*sorted(STABILIZERS), ["fixed_scale", {"name": "affine", "new": [0, 5]}]]
BATCHES = [np.array([1.0, 2.0, 4.0]), np.array([3.0, 3.0]), np.array([10.0, np.nan, -2.0])]


@pytest.mark.parametrize("spec", ALL, ids=str)
def test_nan_stays_and_does_not_count(spec: object) -> None:
    with_nan = make_stabilizer(spec)(np.array([1.0, np.nan, 2.0, 4.0]))  # type: ignore[arg-type]
    without = make_stabilizer(spec)(np.array([1.0, 2.0, 4.0]))  # type: ignore[arg-type]
    assert np.isnan(with_nan[1])
    np.testing.assert_allclose(np.delete(with_nan, 1), without)
    nothing = make_stabilizer(spec)(np.array([np.nan, np.nan]))  # type: ignore[arg-type]
    assert np.isnan(nothing).all()


@pytest.mark.parametrize("spec", ALL, ids=str)
def test_a_resumed_stabilizer_continues_exactly(spec: object) -> None:
    whole, first, second = (make_stabilizer(spec) for _ in range(3))  # type: ignore[arg-type]
    expected = [whole(batch) for batch in BATCHES]
    first(BATCHES[0])
    second.set_state(json.loads(json.dumps(first.get_state())))
    for batch, want in zip(BATCHES[1:], expected[1:], strict=True):
        np.testing.assert_array_equal(second(batch), want)


@pytest.mark.parametrize("spec", ALL, ids=str)
def test_further_rewards_are_shaped_like_the_batch_and_do_not_count(spec: object) -> None:
    alone, together = (make_stabilizer(spec) for _ in range(2))  # type: ignore[arg-type]
    for batch in BATCHES:
        want = alone(batch)
        shaped = together(batch, np.array([*batch, 1e3, -1e3]))
        np.testing.assert_array_equal(shaped, [*want, *want, *shaped[-2:]])
        assert shaped[-2] >= np.nanmax(want) and shaped[-1] <= np.nanmin(want)
        assert together.get_state() == alone.get_state()


@pytest.mark.parametrize("spec", ALL, ids=str)
def test_order_is_kept(spec: object) -> None:
    shaped = make_stabilizer(spec)(np.array([5.0, -1.0, 2.0]))  # type: ignore[arg-type]
    assert shaped.argsort().tolist() == [1, 2, 0]


def test_batch_z_divides_by_the_population_deviation_plus_epsilon() -> None:
    x = np.array([1.0, 2.0, 4.0])
    np.testing.assert_allclose(make_stabilizer("batch_z")(x), (x - x.mean()) / (x.std() + 1e-4))
    np.testing.assert_array_equal(make_stabilizer("batch_z")(np.array([3.0, 3.0])), [0.0, 0.0])
    np.testing.assert_array_equal(make_stabilizer("batch_z")(np.array([7.0])), [0.0])


@given(st.lists(arrays(np.float64, st.integers(1, 6), elements=st.floats(-1e3, 1e3)), min_size=1))
def test_running_statistics_are_those_of_everything_seen(batches: list[FloatArray]) -> None:
    stabilizer = RunningZ()
    for batch in batches:
        stabilizer(batch)
    seen = np.concatenate(batches)
    assert stabilizer.count == len(seen)
    assert stabilizer.mean == pytest.approx(seen.mean(), abs=1e-6)
    assert stabilizer.std == pytest.approx(seen.std(), abs=1e-5)


def test_min_max_fills_its_range_and_puts_equals_in_the_middle() -> None:
    spec = {"name": "min_max", "low": -1.0, "high": 3.0}
    np.testing.assert_allclose(make_stabilizer(spec)(np.array([2.0, 3.0, 4.0])), [-1, 1, 3])
    np.testing.assert_allclose(make_stabilizer(spec)(np.array([2.0, 2.0])), [1, 1])


def test_a_fixed_scale_stays_where_a_batch_z_score_blows_noise_up() -> None:
    fixed = FixedScale(batches=2)
    fixed(np.array([0.0, 20.0]))
    fixed(np.array([0.0, 40.0]))
    assert fixed.scale == 15.0
    late = np.array([100.0, 100.4])
    np.testing.assert_allclose(fixed(late), [-0.2 / 15, 0.2 / 15], rtol=1e-4)
    assert fixed.scale == 15.0
    assert np.abs(make_stabilizer("batch_z")(late)).min() > 0.99
    np.testing.assert_array_equal(fixed(np.array([0.0, 1000.0])), [-6.0, 6.0])


def test_affine_is_rlprompts_reward_shaping() -> None:
    z = np.array([-1.0, 0.0, 2.0])
    np.testing.assert_allclose(make_stabilizer("affine")(z), 5 * z)
    style = make_stabilizer({"name": "affine", "new": [-20.0, 80.0]})
    np.testing.assert_allclose(style(z), 100 * z - 20)


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ("z", "unknown stabilizer 'z'; known: affine"),
        ({"name": "batch_z", "eps": 1}, "eps"),
        ({"name": "fixed_scale", "batches": 0}, "batches must be >= 1"),
        ({"name": "affine", "old": "x"}, "option old takes tuple"),
        ({"name": "affine", "old": [1, 1]}, "the old range is empty"),
        (3, "a stabilizer is a name"),
    ],
    ids=str,
)
def test_a_wrong_spec_is_refused(spec: object, message: str) -> None:
    with pytest.raises(RewardError, match=message):
        make_stabilizer(spec)  # type: ignore[arg-type]


def test_a_state_of_another_stabilizer_is_refused() -> None:
    with pytest.raises(RewardError, match="has no state"):
        make_stabilizer("batch_z").set_state({"count": 1})
