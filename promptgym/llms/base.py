"""The contract of a language model, in the vocabulary of lm-evaluation-harness."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal, Protocol, runtime_checkable

import numpy as np

from promptgym.errors import ModelError
from promptgym.types import FloatArray, IntArray

Kind = Literal["causal", "masked", "seq2seq"]
Normalization = Literal["none", "tokens", "characters"]


@dataclass(frozen=True, slots=True)
class Sampling:
    """How completions are drawn.

    Attributes:
        max_new_tokens: at most this many tokens.
        temperature: 0.0 is greedy.
        top_k: keep the k likeliest tokens; 0 keeps all.
        top_p: nucleus mass; 1.0 keeps all.
        stop: strings at which a completion ends (they are cut off).
        seed: seed of the draw; the same seed gives the same completions.
    """

    max_new_tokens: int = 16
    temperature: float = 0.0
    top_k: int = 0
    top_p: float = 1.0
    stop: tuple[str, ...] = ()
    seed: int = 0


@dataclass(frozen=True, slots=True)
class Completion:
    """One generated text; `error` is set when the call failed (then `text` means nothing)."""

    text: str
    tokens: int = 0
    error: str | None = None


@dataclass(frozen=True, slots=True)
class LabelLogprobs:
    """What a model thinks of every label.

    Attributes:
        logprobs: log P(label | text), nats, shape (N, L); not normalized over the labels. NaN
            rows are failures.
        tokens: input tokens read for every text, shape (N,).
        failures: index of a failed text -> what happened, with its kind before it: `refused: ` (a
            text the model cannot take), `parse_error: `, `timeout: ` or `api_error: ` (also where
            none is said).
    """

    logprobs: FloatArray
    tokens: IntArray
    failures: Mapping[int, str] = field(default_factory=dict)


@runtime_checkable
class LanguageModel(Protocol):
    """A frozen model that is asked many things at once.

    Attributes:
        name: identity and revision; part of every cache key.
        kind: causal, masked or seq2seq.
        mask_token: the text of the mask token; "" if there is none.
    """

    name: str
    kind: Kind
    mask_token: str

    def check_labels(self, labels: Sequence[str]) -> None:
        """Raise ModelError if labels cannot be told apart (unknown, equal or, masked, multi-token).

        A label is the text that stands where the answer goes, as it would be written after the
        context's last character (backends add the space a tokenizer wants).
        """
        ...

    def label_logprobs(self, texts: Sequence[str], labels: Sequence[str]) -> LabelLogprobs:
        """Score every label as the continuation of (or at the mask in) every text."""
        ...

    def loglikelihood(self, contexts: Sequence[str], continuations: Sequence[str]) -> FloatArray:
        """Return log P(continuation | context) in nats, shape (N,)."""
        ...

    def generate(self, texts: Sequence[str], sampling: Sampling) -> list[Completion]:
        """Continue every text."""
        ...

    def count_tokens(self, texts: Sequence[str]) -> IntArray:
        """Return the number of tokens of every text, shape (N,)."""
        ...


@runtime_checkable
class AnswersInParts(Protocol):
    """What a model may offer besides, where a call takes long: answers in parts, as they come.

    Each part names the texts that were answered since the part before; together they are what
    `label_logprobs` and `generate` return. So a caller can keep answers while it waits for the
    rest, and an interrupt loses none that came.

    A model whose use costs money may offer `book()`, too: a meter that both methods then take as
    their last argument, so that each caller knows what its own requests cost; and
    `label_cost(texts, labels)`, the tokens that labels of texts take to read and at most to write.
    """

    def label_parts(
        self, texts: Sequence[str], labels: Sequence[str]
    ) -> Iterator[tuple[list[int], LabelLogprobs]]:
        """Yield (which texts, their scores)."""
        ...

    def completion_parts(
        self, texts: Sequence[str], sampling: Sampling
    ) -> Iterator[tuple[list[int], list[Completion]]]:
        """Yield (which texts, their completions)."""
        ...


@runtime_checkable
class FillsGaps(Protocol):
    """What a model may offer besides: of a text with a gap, `generate` writes what stands there.

    Attributes:
        gap_token: marks the gap, of which a text has one; "" if the model fills none.
    """

    gap_token: str


def empty_logprobs(n: int, labels: int) -> FloatArray:
    """Return an (N, L) array of NaN: nothing is scored until it is."""
    return np.full((n, labels), np.nan)


def check_sampling(sampling: Sampling) -> None:
    """Refuse settings that mean nothing.

    Raises:
        ModelError: naming the field.
    """
    if sampling.max_new_tokens < 1:
        raise ModelError(f"max_new_tokens must be at least 1, got {sampling.max_new_tokens}")
    if sampling.temperature < 0:
        raise ModelError(f"temperature must be 0 (greedy) or more, got {sampling.temperature}")
    if sampling.top_k < 0 or not 0 < sampling.top_p <= 1:
        raise ModelError(
            f"top_k must be 0 or more and top_p in (0, 1], got {sampling.top_k}, {sampling.top_p}"
        )
    if "" in sampling.stop:
        raise ModelError("stop holds an empty string, at which every completion would end at once")
