"""Threads that share a scorer and its cache ask what is the same once."""

from __future__ import annotations

import pickle
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from store_cases import PROMPTS, TASK, Watched, filled, scorer_of

from promptgym.llms import LabelLogprobs
from promptgym.scoring import OK
from promptgym.testing.transparent import TransparentModel


@pytest.mark.parametrize("scorers", [1, 3])
def test_threads_that_ask_the_same_ask_once(place: str, scorers: int) -> None:
    class Slow(Watched):
        remote = True

        def label_logprobs(self, texts: Sequence[str], labels: Sequence[str]) -> LabelLogprobs:
            gate.wait(0.05)
            return super().label_logprobs(texts, labels)

    gate = threading.Event()
    model = Slow()
    several = [scorer_of(model, place) for _ in range(scorers)]
    results: list[object] = []

    def ask(number: int) -> None:
        scorer = several[number % scorers]
        prompts = PROMPTS[number % 3 :] + PROMPTS[: number % 3]
        scores = scorer.score(prompts, TASK.train)
        results.append(scores.select(np.argsort([PROMPTS.index(p) for p in prompts])).values)

    threads = [threading.Thread(target=ask, args=(i,)) for i in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(timeout=60)
    assert len(results) == 8 and len(model.asked) == 60
    want = scorer_of(TransparentModel(), None).score(PROMPTS, TASK.train).values
    for got in results:
        np.testing.assert_array_equal(got, want)  # type: ignore[arg-type]
    assert sum(scorer.ledger.queries for scorer in several) == 8 * 60
    assert not any(scorer.ledger.held.queries for scorer in several)


def test_what_others_learned_since_the_first_look_is_not_asked_again() -> None:
    model = Watched()
    scorer = scorer_of(model, None)
    first_look = scorer._open

    def interrupted(*arguments: Any) -> Any:
        work = first_look(*arguments)
        scorer._open = first_look  # type: ignore[method-assign]
        scorer.score(PROMPTS[1:4], TASK.train)
        return work

    scorer._open = interrupted  # type: ignore[method-assign]
    assert (scorer.score(PROMPTS, TASK.train).status == OK).all()
    assert len(model.asked) == 60


def test_a_thread_whose_call_breaks_leaves_nothing_behind() -> None:
    class Breaking(Watched):
        remote = True
        broken = threading.Event()

        def label_logprobs(self, texts: Sequence[str], labels: Sequence[str]) -> LabelLogprobs:
            if not self.broken.is_set():
                self.broken.set()
                raise RuntimeError("gone")
            return super().label_logprobs(texts, labels)

    scorer = scorer_of(Breaking(), None, queries=1000, tokens=10_000)
    with pytest.raises(RuntimeError, match="gone"):
        scorer.score(PROMPTS, TASK.train)
    held = scorer.ledger.held
    assert (held.queries, held.calls, held.tokens) == (0, 0, 0)
    assert (scorer.ledger.queries, scorer.ledger.calls, scorer.ledger.tokens) == (0, 1, 0)
    assert (scorer.score(PROMPTS, TASK.train).status == OK).all()
    assert scorer.ledger.queries == 60


def test_a_scorer_with_a_store_is_pickled_as_its_place(tmp_path: Path) -> None:
    filled(tmp_path / "scores.sqlite")
    scorer = scorer_of(TransparentModel(), tmp_path / "scores.sqlite")
    scorer.score(PROMPTS[:1], TASK.train)
    copied = pickle.loads(pickle.dumps(scorer))
    assert (copied.score(PROMPTS, TASK.train).status == OK).all()
    assert copied.shelf.served == 48 and copied.ledger.queries == 12 + 60
