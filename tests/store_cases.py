"""A task, prompts and a watched model for tests of the cache that lasts."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from promptgym.llms import Completion, LabelLogprobs, Sampling
from promptgym.prompts import Prompt
from promptgym.scoring import Budget, Ledger, Scorer
from promptgym.scoring.store import ScoreStore, Setting, store_at
from promptgym.tasks import get_metric
from promptgym.testing.transparent import TransparentModel, transparent_task

TASK = transparent_task(12)
WRITTEN = replace(TASK, labels=None, verbalizers={}, metric=get_metric("exact_match"))
PROMPTS = [Prompt(p) for p in ("alpha", "alpha beta", "", "one anti", "gamma two")]
SETTING = Setting("m@1", "causal", "", "{input} {prompt}", "", ("no", "yes"))


class Watched(TransparentModel):
    """The transparent model, with a list of what it was asked and texts at which it fails."""

    def __init__(self, fails: str = "\0") -> None:
        """Take a piece of text."""
        super().__init__()
        self.asked: list[str] = []
        self.fails = fails

    def label_logprobs(self, texts: Sequence[str], labels: Sequence[str]) -> LabelLogprobs:
        """Answer, or fail."""
        self.asked += texts
        found = super().label_logprobs(texts, labels)
        failures = {i: "timeout: 1 s" for i, text in enumerate(texts) if self.fails in text}
        found.logprobs[list(failures)] = np.nan
        return LabelLogprobs(found.logprobs, found.tokens, failures)

    def generate(self, texts: Sequence[str], sampling: Sampling) -> list[Completion]:
        """Answer."""
        self.asked += texts
        return super().generate(texts, sampling)


def scorer_of(
    model: TransparentModel, place: str | Path | None, task: object = TASK, **caps: int
) -> Scorer:
    store = None if place is None else ScoreStore(store_at(place).url)
    return Scorer(task, model, TASK.template, ledger=Ledger(Budget(**caps)), store=store)  # type: ignore[arg-type]


def same_cost(first: Scorer, second: Scorer) -> bool:
    ledgers = first.ledger, second.ledger
    return len({(x.queries, x.calls, x.tokens, x.held.tokens) for x in ledgers}) == 1


def filled(place: Path, count: int = 5) -> None:
    scorer = scorer_of(Watched(), place)
    scorer.score(PROMPTS[:count], TASK.train)
    assert scorer.shelf is not None
    scorer.shelf.store.close()


def works_again(place: Path) -> None:
    filled(place)
    model = Watched()
    scorer_of(model, place).score(PROMPTS, TASK.train)
    assert not model.asked
