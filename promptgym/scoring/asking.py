"""One call of a model: texts in, answers, tokens and failures out, whatever the kind of task."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from typing import Any

import numpy as np

from promptgym.errors import ConfigError
from promptgym.llms import Completion, LabelLogprobs, LanguageModel, Sampling
from promptgym.scoring.ledger import Ledger
from promptgym.types import FloatArray, IntArray, ObjectArray


@dataclass(frozen=True, slots=True)
class Answers:
    """What a model said to N texts.

    Attributes:
        answers: log-probabilities of the labels, nats, shape (N, L), or completions, shape (N,).
        tokens: tokens read (and, generating, written) for every text, shape (N,).
        reasons: index of a failed text -> what went wrong.
    """

    answers: FloatArray | ObjectArray
    tokens: IntArray
    reasons: Mapping[int, str]


def is_remote(model: LanguageModel) -> bool:
    """Return whether a model is asked over a network: it says so (`remote`), or counts its use."""
    return bool(getattr(model, "remote", hasattr(model, "usage")))


def label_cost(
    model: LanguageModel, texts: Sequence[str], labels: Sequence[str]
) -> tuple[IntArray, IntArray]:
    """Return the tokens that labels of texts take to read and at most to write, each (N,).

    A model that says so itself (`label_cost`) is believed; others read each text once.
    """
    own = getattr(model, "label_cost", None)
    read, written = (model.count_tokens(texts), 0) if own is None else own(texts, labels)
    return read, np.zeros_like(read) + written


class Asker:
    """Asks a model about texts: for labels if there are words for them, else for completions.

    One call at a time, unless the model is remote: models of this machine keep state (key/values of
    prefixes) that two threads must not touch at once.
    """

    def __init__(self, model: LanguageModel, words: tuple[str, ...] | None, sampling: Sampling):
        """Bind a model to what it is asked for."""
        self.model = model
        self.words = words
        self.sampling = sampling
        self._lock = threading.Lock()
        books = self.in_parts and hasattr(model, "book")
        self._book: Any = model.book() if books else None  # type: ignore[attr-defined]
        self._seen = self._usage()

    def __getstate__(self) -> dict[str, object]:
        """Return everything but the lock."""
        return {k: v for k, v in vars(self).items() if k != "_lock"}

    def __setstate__(self, state: dict[str, object]) -> None:
        """Take the fields, with a lock of its own."""
        vars(self).update(state)
        self._lock = threading.Lock()

    def blank(self, shape: tuple[int, ...]) -> FloatArray | ObjectArray:
        """Return an array for answers of which none is there yet."""
        if self.words is None:
            return np.full(shape, None, dtype=np.object_)
        return np.full((*shape, len(self.words)), np.nan)

    def most_tokens(self, texts: Sequence[str]) -> int:
        """Return what asking costs at most: a completion is counted as its longest."""
        if self.words is None:
            written = len(texts) * self.sampling.max_new_tokens
            return int(self.model.count_tokens(texts).sum()) + written
        return int(np.sum(label_cost(self.model, texts, self.words)))

    def ask(self, texts: Sequence[str], landed: Callable[[], None]) -> Answers:
        """Ask about texts in one call.

        Args:
            texts: N texts.
            landed: called before the model is asked, and whenever answers have come.
        """
        landed()
        answers = self.blank((len(texts),))
        tokens = np.zeros(len(texts), dtype=np.int64)
        reasons: dict[int, str] = {}
        for where, part in self.ask_parts(texts):
            answers[where], tokens[where] = part.answers, part.tokens
            reasons.update({int(where[i]): reason for i, reason in part.reasons.items()})
            landed()
        return Answers(answers, tokens, reasons)

    def ask_parts(self, texts: Sequence[str]) -> Iterator[tuple[IntArray, Answers]]:
        """Ask about texts in one call; yield (which texts, their answers) as the model gives them.

        A model that does not answer in parts gives all at once.
        """
        if not self.in_parts:
            with nullcontext() if is_remote(self.model) else self._lock:
                yield np.arange(len(texts)), self._ask(texts)
            return
        model: Any = self.model
        mine = () if self._book is None else (self._book,)
        if self.words is None:
            for where, completions in model.completion_parts(texts, self.sampling, *mine):
                some = [texts[i] for i in where]
                yield np.array(where, dtype=np.int64), self._of_completions(some, completions)
        else:
            for where, result in model.label_parts(texts, self.words, *mine):
                yield np.array(where, dtype=np.int64), self._of_labels(result)

    @property
    def in_parts(self) -> bool:
        """Whether the model answers in parts (itself: a stand-in for it may not)."""
        return hasattr(type(self.model), "label_parts")

    def _ask(self, texts: Sequence[str]) -> Answers:
        if self.words is None:
            return self._of_completions(texts, self.model.generate(texts, self.sampling))
        return self._of_labels(self.model.label_logprobs(texts, self.words))

    def _of_completions(self, texts: Sequence[str], completions: Sequence[Completion]) -> Answers:
        """Return what was written."""
        written = np.array([c.tokens for c in completions], dtype=np.int64)
        reasons = {i: c.error for i, c in enumerate(completions) if c.error is not None}
        said = np.array([c.text.strip() for c in completions], dtype=np.object_)
        return Answers(said, self.model.count_tokens(texts) + written, reasons)

    def _of_labels(self, result: LabelLogprobs) -> Answers:
        """Return the scores of labels; those with a NaN are failures."""
        reasons = dict(result.failures)
        for i in np.flatnonzero(np.isnan(result.logprobs).any(axis=1)).tolist():
            reasons.setdefault(i, f"parse_error: {self.model.name} answered NaN")
        return Answers(result.logprobs, result.tokens, reasons)

    @property
    def counts_money(self) -> bool:
        """Whether the model counts what it uses."""
        return getattr(self.model, "usage", None) is not None

    @property
    def under_way(self) -> int:
        """Requests sent of which nothing is known yet."""
        return int(getattr(getattr(self.model, "usage", None), "under_way", 0))

    def _usage(self) -> tuple[float, int]:
        """Return (USD known to be spent, requests of unknown cost) of a model that counts them.

        Of one that keeps books for its callers, it is what was asked from here.
        """
        usage = getattr(self.model, "usage", None) if self._book is None else self._book.usage()
        return (0.0, 0) if usage is None else (usage.known_usd, usage.unpriced)

    def charge_money(self, ledger: Ledger) -> None:
        """Book what was really paid since the last time, retries and failures included.

        Raises:
            ConfigError: for a cap on money with a model whose prices nobody knows.
        """
        if not self.counts_money:
            unknown = ledger.budget.usd is not None
        else:
            with self._lock:
                before, self._seen = self._seen, self._usage()
                usd, unpriced = (n - b for n, b in zip(self._seen, before, strict=True))
            ledger.charge(usd=usd, unpriced=int(unpriced))
            unknown = ledger.budget.usd is not None and not ledger.usd and ledger.unpriced > 0
        if unknown:
            raise ConfigError(
                f"the budget caps money, but what {self.model.name!r} costs is not known; give the "
                "model its prices, or cap queries, calls or tokens instead"
            )
