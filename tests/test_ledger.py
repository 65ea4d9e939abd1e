"""Budget and ledger: caps that are never crossed, counts that survive."""

from __future__ import annotations

import math
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from promptgym.errors import BudgetExhausted, ConfigError
from promptgym.scoring import Budget, Ledger


def test_a_budget_is_a_number_a_dict_or_nothing() -> None:
    assert Budget.of(None) == Budget()
    assert Budget.of(100) == Budget(queries=100)
    assert Budget.of({"tokens": 5, "seconds": 1.5}) == Budget(tokens=5, seconds=1.5)
    assert Budget.of(Budget(calls=3)) == Budget(calls=3)


@pytest.mark.parametrize(
    ("value", "says"),
    [
        ({"querys": 3}, r"unknown \['querys'\]; allowed: \['queries'"),
        (0, "queries takes a positive whole number or None, got 0"),
        ({"seconds": -1}, "seconds takes a positive number or None, got -1"),
        ({"seconds": math.nan}, "seconds takes a positive number or None, got nan"),
        ({"seconds": math.inf}, "seconds takes a positive number or None, got inf"),
        ({"queries": "5"}, "queries takes a positive whole number or None, got '5'"),
        (1.5, "queries takes a positive whole number or None, got 1.5"),
        (True, "queries takes a positive whole number or None, got True"),
        ("lots", "expected a number or a dict, got str"),
    ],
)
def test_a_wrong_budget_is_named(value: object, says: str) -> None:
    with pytest.raises(ConfigError, match=says):
        Budget.of(value)  # type: ignore[arg-type]


@given(
    cap=st.integers(1, 200),
    reserved=st.integers(0, 50),
    asks=st.lists(st.tuples(st.integers(1, 9), st.integers(1, 9)), max_size=30),
)
def test_queries_never_cross_their_cap(
    cap: int, reserved: int, asks: list[tuple[int, int]]
) -> None:
    ledger = Ledger(Budget(queries=cap), reserved=reserved)
    for rows, each in asks:
        try:
            fits = ledger.fitting(rows, each)
        except BudgetExhausted:
            assert cap - ledger.queries - reserved < each
            continue
        assert 1 <= fits <= rows
        ledger.charge(queries=fits * each)
        assert ledger.queries <= cap - reserved
        assert 0 <= ledger.fraction <= 1


def test_what_is_set_aside_fits_once_released() -> None:
    ledger = Ledger(Budget(queries=10), reserved=10)
    with pytest.raises(BudgetExhausted, match="next prompt needs 4 queries"):
        ledger.fitting(1, 4)
    ledger.reserved = 0
    assert ledger.fitting(5, 4) == 2


@pytest.mark.parametrize("kind", ["calls", "tokens"])
def test_any_cap_exhausts(kind: str) -> None:
    ledger = Ledger(Budget(**{kind: 5}))
    assert not ledger.exhausted and ledger.fitting(3, 7) == 3
    ledger.charge(**{kind: 5})
    assert ledger.exhausted and ledger.fraction == 1.0
    with pytest.raises(BudgetExhausted):
        ledger.fitting(1, 1)


def test_time_is_spent_by_waiting_and_kept_by_restoring() -> None:
    ledger = Ledger(Budget(seconds=0.01))
    time.sleep(0.02)
    assert ledger.exhausted
    resumed = Ledger(Budget(queries=9))
    resumed.restore({"queries": 4, "calls": 2, "tokens": 7, "seconds": 100.0})
    assert (resumed.queries, resumed.calls, resumed.tokens) == (4, 2, 7)
    assert 100.0 <= resumed.seconds < 160.0
    assert resumed.queries_left == 5
    again = Ledger(Budget(queries=9))
    again.restore(resumed.snapshot())
    assert again.queries == 4 and again.seconds >= 100.0
