"""Causal models: labels are continuations of the text."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from typing import Any

import numpy as np

from promptgym.errors import ModelError
from promptgym.llms.base import Completion, Kind, LabelLogprobs, Sampling, empty_logprobs
from promptgym.llms.engine import CausalEngine
from promptgym.llms.generation import generate_causal
from promptgym.llms.labels import LabelTokens, check_distinct, normalized
from promptgym.llms.transformers_common import TransformersModel
from promptgym.types import FloatArray


class CausalModel(TransformersModel):
    """A decoder-only model of transformers.

    A label continues its text after one space (" great"), unless it begins with whitespace itself
    or the text is empty. It is tokenized as it stands there, so that text and label together are
    the tokens of the joined string; the log-probabilities of a label of several tokens are summed
    exactly. Log-probabilities do not depend on what else is in a batch (to 1e-4 in float32).
    """

    kind: Kind = "causal"

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        """Make the engine, which tries out what it may save."""
        super().__init__(*args, **kwargs)
        kept = int(self.options.kv_cache_mb * 2**20)
        self.engine = CausalEngine(self.model, self.batch_tokens, kept, self.max_length)
        self._lock = threading.RLock()
        self._labels: dict[tuple[bool, tuple[str, ...]], LabelTokens] = {}

    @property
    def kept(self) -> int:
        """A number that changes when key/values are kept for later calls.

        What is read on from them differs in its last bits from what is read whole.
        """
        return self.engine.store.changes

    def context_ids(self, texts: Sequence[str]) -> list[list[int]]:
        """Tokenize contexts: without an end token, and at least one token."""
        eos, start = self.tokenizer.eos_token_id, self.tokenizer.bos_token_id
        start = eos if start is None else start
        out = self.encode(texts)
        for ids in out:
            if len(ids) > 1 and ids[-1] == eos and self.appends_end:
                ids.pop()
            if not ids and start is not None:
                ids.append(start)
        return out

    def label_tokens(self, labels: Sequence[str], *, begins: bool = False) -> LabelTokens:
        """Return the tokens of labels that follow a text, or begin one; checked.

        Raises:
            ModelError: see `check_labels`.
        """
        key = (begins, tuple(labels))
        if key not in self._labels:
            ids = [self._label_ids(label, begins) for label in labels]
            check_distinct(self, labels, ids, prefixes=self.options.normalize == "none")
            self._labels[key] = LabelTokens.of(ids)
        return self._labels[key]

    def _label_ids(self, label: str, begins: bool) -> list[int]:
        """Tokenize one label in place: behind a letter and a space, or by itself."""
        if begins:
            return self.encode([label], special=False)[0]
        anchor, joined = self.encode(
            ["a", f"a{label}" if label[:1].isspace() else f"a {label}"], special=False
        )
        if joined[: len(anchor)] != anchor:
            return self.encode([label], special=False)[0]
        return joined[len(anchor) :]

    def check_labels(self, labels: Sequence[str]) -> None:
        """Raise ModelError for labels that the model cannot tell apart.

        These are labels that are empty or hold unknown tokens, two of the same tokens, and (unless
        `normalize` is set) one that begins with another: it could never be the likelier one.
        """
        self.label_tokens(labels)

    def label_logprobs(self, texts: Sequence[str], labels: Sequence[str]) -> LabelLogprobs:
        """Score every label as the continuation of every text."""
        contexts = self.context_ids(texts)
        tokens = np.array([len(c) for c in contexts], dtype=np.int64) - self.special_tokens
        out = empty_logprobs(len(texts), len(labels))
        failures: dict[int, str] = {}
        rows: dict[bool, list[int]] = {}
        longest = self.label_tokens(labels).longest
        for i, context in enumerate(contexts):
            reason = self.too_long(len(context) + longest - 1)
            if reason:
                failures[i] = reason
            else:
                rows.setdefault(not texts[i], []).append(i)
        for begins, chosen in rows.items():
            found = self.label_tokens(labels, begins=begins)
            out[chosen] = self._score([contexts[i] for i in chosen], found)
            out[chosen] = normalized(out[chosen], self.options.normalize, labels, found.ids)
        return LabelLogprobs(out, np.maximum(tokens, 0), failures)

    def _score(self, contexts: list[list[int]], labels: LabelTokens) -> FloatArray:
        """Return the sums of log-probabilities, shape (N, L)."""
        with self._lock:
            first = self.engine.columns_logprobs(contexts, labels.first)
            out = first[:, labels.place]
            for column, rest in enumerate(labels.ids):
                if len(rest) > 1:
                    behind = [[*context, rest[0]] for context in contexts]
                    tails = [rest[1:]] * len(contexts)
                    out[:, column] += self.engine.continuation_logprobs(behind, tails)
        return out

    def loglikelihood(self, contexts: Sequence[str], continuations: Sequence[str]) -> FloatArray:
        """Return log P(continuation | context), nats, shape (N,), each continuation as written.

        As in lm-evaluation-harness, context and continuation are tokenized together, whitespace at
        the end of the context counts as the continuation's, and an empty context is the model's
        begin (or end) token.

        Raises:
            ModelError: a pair is longer than the model reads, or a continuation has no tokens.
        """
        firsts = [c.rstrip() for c in contexts]
        joined = [a + b for a, b in zip(contexts, continuations, strict=True)]
        heads, wholes = self.context_ids(firsts), self.context_ids(joined)
        starts = []
        for head, whole, first, text in zip(heads, wholes, firsts, joined, strict=True):
            own = self.encode([text], special=False)[0] if not first else None
            if own is not None:
                whole[:] = head + own
            reason = self.too_long(len(whole) - 1)
            if len(whole) <= len(head):
                reason = f"the continuation of {text!r} has no tokens of its own"
            if reason:
                raise ModelError(f"{self.name}: {reason}")
            starts.append(len(head))
        with self._lock:
            return self.engine.continuation_logprobs(
                [ids[:n] for ids, n in zip(wholes, starts, strict=True)],
                [ids[n:] for ids, n in zip(wholes, starts, strict=True)],
            )

    def generate(self, texts: Sequence[str], sampling: Sampling) -> list[Completion]:
        """Continue every text; see `promptgym.llms.generation`."""
        with self._lock:
            return generate_causal(self, self.context_ids(texts), texts, sampling)
