"""Nothing lost, nothing invented: runs that fail too often stop, and pay for what they spent."""

from __future__ import annotations

import json
import pickle
import threading
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest

from promptgym import Problem
from promptgym.agents import make_optimizer
from promptgym.cli import main
from promptgym.errors import ConfigError, TooManyFailures
from promptgym.llms import LabelLogprobs
from promptgym.prompts import Prompt
from promptgym.scoring import Budget, Ledger, Scorer
from promptgym.testing.transparent import TransparentModel, transparent_task

TASK = transparent_task(32)
PROMPTS = [Prompt(f"alpha {i}") for i in range(40)]


class Failing(TransparentModel):
    """Fails on the share of its calls that is asked for: the first of every ten."""

    def __init__(self, of_ten: int = 0) -> None:
        """Take how many of ten calls fail."""
        super().__init__()
        self.of_ten = of_ten
        self.texts = 0

    def label_logprobs(self, texts: Sequence[str], labels: Sequence[str]) -> LabelLogprobs:
        """Answer, or fail."""
        found = super().label_logprobs(texts, labels)
        numbers = self.texts + np.arange(len(texts))
        self.texts += len(texts)
        bad = np.flatnonzero(numbers % 10 < self.of_ten).tolist()
        found.logprobs[bad] = np.nan
        kinds = ("timeout: 30 s", "api_error: 500")
        return LabelLogprobs(found.logprobs, found.tokens, {i: kinds[i % 2] for i in bad})


def scorer_of(model: TransparentModel, **options: object) -> Scorer:
    return Scorer(TASK, model, TASK.template, **options)  # type: ignore[arg-type]


def test_a_run_stops_when_more_than_a_share_fails_and_keeps_what_it_has() -> None:
    model = Failing(6)
    scorer = scorer_of(model, batch_size=64)
    with pytest.raises(TooManyFailures) as stopped:
        scorer.score(PROMPTS, TASK.train)
    said = str(stopped.value)
    assert "of 256 evaluations" in said and "more than the 50% allowed" in said
    assert "timeout" in said and "api_error" in said and "500" in said
    assert model.calls == 4, "it stops at the call that tells, not at the end of the batch"
    assert (scorer.ledger.queries, scorer.ledger.calls) == (0, 4)
    assert scorer.ledger.tokens > 0 and scorer.ledger.held.queries == 0
    kept = len(scorer.cache)
    assert kept == scorer.outcomes["ok"] > 90
    model.of_ten, before = 0, model.texts
    healed = scorer_of(model, max_failures=1.0)
    healed.cache = scorer.cache
    assert healed.score(PROMPTS, TASK.train).failed.sum() == 0
    assert model.texts - before == 40 * 32 - kept, "only what failed was asked again"


@pytest.mark.parametrize(("of_ten", "share"), [(5, 0.5), (10, 1.0), (3, 0.5)])
def test_a_share_that_is_allowed_does_not_stop_a_run(of_ten: int, share: float) -> None:
    scores = scorer_of(Failing(of_ten), max_failures=share).score(PROMPTS, TASK.train)
    assert scores.failed.sum() == 40 * 32 * of_ten / 10


def test_one_bad_prompt_is_not_yet_a_bad_run() -> None:
    assert scorer_of(Failing(10)).score(PROMPTS[:4], TASK.train).failed.all()


def test_a_stopped_run_is_resumed_where_it_stood(tmp_path: Path) -> None:
    def problem(model: TransparentModel) -> Problem:
        return Problem(TASK, model, budget=4000, max_failures=0.0)

    method = make_optimizer("random_tokens")
    whole = method.optimize(problem(Failing()), checkpoint_dir=tmp_path / "whole")
    model = Failing()
    run = problem(model)
    calls = 0
    score = run.scorer.score

    def failing_later(prompts: Sequence[Prompt], examples: Sequence[object]) -> object:
        nonlocal calls
        calls += 1
        model.of_ten = 10 if calls > 3 else 0
        return score(prompts, examples)  # type: ignore[arg-type]

    run.scorer.score = failing_later  # type: ignore[assignment,method-assign]
    with pytest.raises(TooManyFailures):
        method.optimize(run, checkpoint_dir=tmp_path / "stopped")
    wasted = run.ledger.calls
    resumed = problem(Failing())
    again = method.optimize(resumed, checkpoint_dir=tmp_path / "stopped", resume=True)
    assert (again.best, again.candidates) == (whole.best, whole.candidates)
    assert again.spent["queries"] == whole.spent["queries"]
    assert again.spent["calls"] > whole.spent["calls"], "the calls that failed were made"
    assert wasted <= again.spent["calls"]


# --- money ------------------------------------------------------------------------------------


@dataclass
class Usage:
    """What a backend counts."""

    known_usd: float = 0.0
    unpriced: int = 0


class Paid(Failing):
    """Costs a cent for every text; the first call is sent twice (a retry)."""

    def __init__(self, price: float | None = 0.01) -> None:
        """Take the price; None is unknown."""
        super().__init__()
        self.usage = Usage()
        self.price = price

    def label_logprobs(self, texts: Sequence[str], labels: Sequence[str]) -> LabelLogprobs:
        """Answer and count."""
        for _ in range(1 + (self.calls == 0)):
            if self.price is None:
                self.usage.unpriced += 1
            else:
                self.usage.known_usd += self.price * len(texts)
        return super().label_logprobs(texts, labels)


def test_money_is_what_was_really_paid_retries_included() -> None:
    scorer = scorer_of(Paid(), batch_size=32)
    assert "usd" not in scorer_of(Failing()).ledger.snapshot()
    scorer.score(PROMPTS[:3], TASK.train)
    assert scorer.ledger.usd == pytest.approx(0.01 * 32 * 4)
    scorer.score(PROMPTS[:3], TASK.train)
    assert scorer.ledger.usd == pytest.approx(0.01 * 32 * 4), "known answers cost nothing"
    other = Ledger()
    other.restore(scorer.ledger.snapshot())
    assert other.usd == scorer.ledger.usd


def test_an_unknown_price_stays_unknown_and_cannot_be_capped() -> None:
    scorer = scorer_of(Paid(None))
    scorer.score(PROMPTS[:1], TASK.train)
    spent = scorer.ledger.snapshot()
    assert spent["usd"] is None and spent["unpriced"] == 2
    for model in (Paid(None), Failing()):
        with pytest.raises(ConfigError, match=r"caps money, but what .* costs is not known"):
            scorer_of(model, ledger=Ledger(Budget(usd=1.0))).score(PROMPTS[:1], TASK.train)


def test_a_cap_on_money_stops_before_the_call_that_would_cross_it() -> None:
    ledger = Ledger(Budget(usd=3.0))
    scores = scorer_of(Paid(), ledger=ledger, batch_size=32).score(PROMPTS, TASK.train)
    assert 1 < scores.complete.sum() < 12
    assert ledger.usd is not None and ledger.usd <= 3.0


# --- holds ------------------------------------------------------------------------------------


def test_threads_never_cross_a_cap_together() -> None:
    class Remote(Failing):
        remote = True

    ledger = Ledger(Budget(queries=1000, tokens=4000, calls=50))
    scorer = scorer_of(Remote(), ledger=ledger, batch_size=32)

    def work(number: int) -> None:
        for i in range(20):
            try:
                scorer.score([Prompt(f"alpha {number} {i}")], TASK.train)
            except Exception as error:
                assert "budget spent" in str(error)
            assert ledger.queries + ledger.held.queries <= 1000
            assert ledger.tokens + ledger.held.tokens <= 4000

    threads = [threading.Thread(target=work, args=(n,)) for n in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(timeout=60)
    assert ledger.queries <= 1000 and ledger.tokens <= 4000 and ledger.calls <= 50
    assert (ledger.held.queries, ledger.held.calls, ledger.held.tokens) == (0, 0, 0)
    assert ledger.exhausted or (ledger.queries_left or 0) < 32 or (ledger.tokens_left or 0) < 200


def test_a_ledger_is_pickled_without_its_lock() -> None:
    ledger = Ledger(Budget(queries=9))
    hold = ledger.hold(queries=4)
    copied = pickle.loads(pickle.dumps(ledger))
    assert copied.queries_left == 5
    copied.charge(queries=5)
    ledger.settle(hold, queries=2)
    assert (ledger.queries, ledger.queries_left, copied.queries) == (2, 7, 5)


def test_evaluate_ends_with_1_if_everything_failed(capsys: pytest.CaptureFixture[str]) -> None:
    long = "alpha " * 600
    line = ["evaluate", "--task", "author", "--limit", "9", "--json", "--prompt", long]
    for more, status in (([], 1), (["--prompt", "a"], 0)):
        with pytest.raises(SystemExit) as left:
            main([*line, *more])
        assert (left.value.code or 0) == status
        printed = capsys.readouterr()
        assert json.loads(printed.out)["prompts"][0]["statuses"] == {"refused": 9}
        said = "error: every evaluation failed; the first: the text has "
        assert printed.err.startswith(said) if status else not printed.err
        assert printed.err.count("\n") == status
