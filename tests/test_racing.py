"""Racing: who is dropped, what is charged, what is told, and what the budget cuts."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from promptgym.errors import BudgetExhausted, ConfigError
from promptgym.llms import load_model
from promptgym.problem import Problem
from promptgym.prompts import Example, Prompt
from promptgym.scoring import OK, SKIPPED, Race, Scorer, Scores, race
from promptgym.search import Answer, Ask, Search, SearchMethod
from promptgym.tasks import METRICS, load_task

EXAMPLES = tuple(Example(f"text {i}", "x") for i in range(64))


def of_table(table: np.ndarray[Any, Any], budget: int | None = None) -> Any:
    """Return what scores prompts named by their row in a table, and counts what it is asked."""

    def score(prompts: Sequence[Prompt], examples: Sequence[Example]) -> Scores:
        rows = [int(p.instruction) for p in prompts]
        columns = [EXAMPLES.index(e) for e in examples]
        left = None if budget is None else (budget - asked["pairs"]) // len(columns)
        fits = len(rows) if left is None else min(left, len(rows))
        if not fits:
            raise BudgetExhausted("spent")
        asked["pairs"] += fits * len(columns)
        asked["seen"].extend((r, c) for r in rows[:fits] for c in columns)
        values = table[np.ix_(rows, columns)].astype(float)
        status = np.full(values.shape, OK, dtype=np.int8)
        values[fits:], status[fits:] = np.nan, SKIPPED
        return Scores(tuple(prompts), tuple(examples), METRICS["accuracy"], values, status)

    asked: dict[str, Any] = {"pairs": 0, "seen": []}
    score.asked = asked  # type: ignore[attr-defined]
    return score


def mean(scores: Scores) -> np.ndarray[Any, Any]:
    return scores.mean


def names(count: int) -> list[Prompt]:
    return [Prompt(str(i)) for i in range(count)]


@given(st.integers(1, 12), st.integers(1, 5), st.integers(1, 20), st.integers(0, 10**6))
@settings(max_examples=60, deadline=None)
def test_halving_asks_every_pair_once_and_at_least_the_kept_finish(
    count: int, keep: int, first: int, seed: int
) -> None:
    table = np.random.default_rng(seed).integers(0, 2, (count, len(EXAMPLES)))
    score = of_table(table)
    rules = Race(keep=keep, first=first, seed=seed)
    scores, ended = race(score, names(count), EXAMPLES, mean, rules)
    seen = score.asked["seen"]
    assert ended and len(seen) == len(set(seen)) == int((scores.status == OK).sum())
    finished = np.flatnonzero(scores.complete)
    assert min(keep, count) <= len(finished) <= count
    np.testing.assert_array_equal(scores.values[finished], table[finished])
    shares = [int((scores.status == OK)[i].sum()) for i in range(count)]
    assert set(shares) <= set(rules.heats(len(EXAMPLES)))


def test_halving_costs_what_its_heats_cost() -> None:
    table = np.tile(np.arange(16)[:, None] > np.arange(64)[None] / 4, (1, 1))
    score = of_table(table)
    scores, _ = race(score, names(16), EXAMPLES, mean, Race(first=8))
    assert score.asked["pairs"] == 16 * 8 + 8 * 8 + 4 * 16 + 2 * 32, "512 instead of 1,024 pairs"
    assert scores.complete[15] and int(scores.complete.sum()) == 2


@given(st.integers(0, 10**6))
@settings(max_examples=40, deadline=None)
def test_the_bound_never_drops_the_best(seed: int) -> None:
    """Sixteen prompts of differing accuracy: the best by all examples is always among the last."""
    rng = np.random.default_rng(seed)
    table = rng.random((16, 64)) < rng.random((16, 1))
    rules = Race(rule="bound", first=16, keep=2, seed=seed)
    scores, ended = race(of_table(table), names(16), EXAMPLES, mean, rules)
    second = np.sort(table.mean(1))[-2]
    assert ended and scores.complete[table.mean(1) >= second].all()


def test_the_bound_drops_what_is_surely_worse_and_nothing_else() -> None:
    table = np.zeros((4, 64), dtype=int)
    table[0] = 1
    table[1, :48] = 1
    rules = Race(rule="bound", first=32)
    scores, _ = race(of_table(table), names(4), EXAMPLES, mean, rules)
    assert scores.complete.tolist() == [True, True, False, False]
    scores, _ = race(of_table(table[:2]), names(2), EXAMPLES, mean, rules)
    assert scores.complete.all(), "right on 3 of 4 is not surely worse after 32 of 64"


def test_a_race_the_budget_cuts_says_so_and_keeps_what_it_knows() -> None:
    table = np.ones((4, 64))
    scores, ended = race(of_table(table, 50), names(4), EXAMPLES, mean, Race(first=8))
    assert not ended and not scores.complete.any()
    assert (scores.status == OK).sum(axis=1).tolist() == [16, 16, 8, 8]
    scores, ended = race(of_table(table, 20), names(4), EXAMPLES, mean, Race(first=8))
    assert not ended and (scores.status == OK).sum(axis=1).tolist() == [8, 8, 0, 0]
    with pytest.raises(BudgetExhausted):
        race(of_table(table, 5), names(4), EXAMPLES, mean, Race(first=8))


def test_prompts_whose_calls_failed_are_out() -> None:
    table = np.ones((3, 64))
    table[0] = np.nan
    scores, _ = race(of_table(table), names(3), EXAMPLES, mean, Race(first=8, growth=1.5))
    assert not scores.complete[0] and scores.complete[1]


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"rule": "best"}, "rule must be 'halving' or 'bound', got 'best'"),
        ({"keep": 0}, "keep must be a whole number of at least 1, got 0"),
        ({"growth": 1.0}, "growth must be finite and more than 1, got 1.0"),
        ({"confidence": 1.0}, r"confidence must be in \(0, 1\)"),
    ],
)
def test_rules_that_mean_nothing_are_refused(options: dict[str, Any], says: str) -> None:
    with pytest.raises(ConfigError, match=says):
        Race(**options)


# --- on the embedded model, through the scorer and the driver ----------------------------------


@dataclass(frozen=True)
class Racing(SearchMethod):
    """Races random prompts, again and again."""

    name: ClassVar[str] = "racing"
    rules: Race = field(default_factory=lambda: Race(keep=2, first=8))
    rounds: int = 3

    def search(self, problem: Problem, rng: np.random.Generator) -> Search:
        """Race eight prompts of four words a round."""
        for _ in range(self.rounds):
            words = rng.choice(problem.vocabulary, (8, 4)).tolist()
            told.append((yield Ask([Prompt(" ".join(w)) for w in words], race=self.rules)))


told: list[Answer] = []


def test_a_race_scores_as_asking_everything_does() -> None:
    task, model = load_task("author"), load_model("tiny")
    prompts = [Prompt(" ".join(task.vocabulary[i : i + 3])) for i in range(6)]
    whole = Scorer(task, model, task.template).score(prompts, task.train)
    scorer = Scorer(task, model, task.template)
    scores, ended = race(scorer.score, prompts, task.train, mean, Race(keep=2))
    asked = scores.status == OK
    assert ended and scorer.ledger.queries == int(asked.sum()) < asked.size
    np.testing.assert_array_equal(scores.values[asked], whole.values[asked])
    assert scores.label_logprobs is not None and whole.label_logprobs is not None
    np.testing.assert_allclose(scores.label_logprobs[asked], whole.label_logprobs[asked], atol=1e-4)
    np.testing.assert_array_equal(scores.targets, whole.targets)


def test_a_method_may_ask_for_a_race_and_is_charged_for_its_pairs(tmp_path: Path) -> None:
    def problem(budget: int) -> Problem:
        return Problem(load_task("author"), load_model("tiny"), budget=budget)

    told.clear()
    first = problem(100_000)
    result = Racing().optimize(first, 0, checkpoint_dir=tmp_path)
    pairs = sum(int((answer.scores.status == OK).sum()) for answer in told)
    dev = len({c.prompt for c in result.candidates}) * len(first.task.dev)
    assert first.ledger.queries == pairs + dev
    finished = sum(int(answer.scores.complete.sum()) for answer in told)
    assert result.stats["distinct"] == finished < result.stats["prompts"] == 24
    assert all(np.isfinite(answer.rewards).all() for answer in told)
    resumed = problem(100_000)
    again = Racing().optimize(resumed, 0, checkpoint_dir=tmp_path, resume=True)
    assert again.best == result.best and resumed.ledger.queries == first.ledger.queries
    short = problem(700)
    Racing().optimize(short, 0)
    assert short.ledger.queries <= 700
