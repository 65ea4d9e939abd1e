"""`ray:SPEC`: replicas of any model of this process, behind the contract of one."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from promptgym.errors import ModelError
from promptgym.llms.base import Completion, Kind, LabelLogprobs, Sampling, empty_logprobs
from promptgym.llms.ray_cluster import RayOptions
from promptgym.llms.replicas import Lost, Replicas
from promptgym.llms.shared import SharedModel
from promptgym.types import FloatArray, IntArray

LEAST, MOST = 16, 2048
"""Bounds of the texts of a batch, where the options do not set it."""
SHARE = 0.6
"""Of a replica's part of what is left, how much is sent at once: large batches first, since models
read many texts faster than few, and small ones last, so that no replica is waited for long."""


class RayModel(SharedModel):
    """A model whose calls are spread over Ray actors.

    Its answers are those of the model it replicates, and so is its name: both share cached scores.
    Copying returns the same object; pickling keeps spec and options. The actors end when nothing
    refers to the model any more.

    **Failures.** A batch that outlived no replica is a failure of its texts (`api_error: ...`).

    Attributes:
        name: identity of the replicated model.
        replicas: the actors.
    """

    def __init__(self, name: str, *, spec: str, **options: Any) -> None:
        """Start the replicas.

        Args:
            name: what `load_model` takes ("hf:NAME", "tiny", ...).
            spec: with the scheme.
            options: see `RayOptions`; others go to the replicated model.

        Raises:
            ExtraMissingError: ray is not installed.
            ModelError: options or a model that cannot be used.
        """
        if name.startswith(("ray:", "openai:")):
            raise ModelError(
                f"model {spec!r}: replicas of a {name.partition(':')[0]}: model make nothing "
                "faster (a server spreads its work itself, and each replica would have a rate "
                "limit of its own); load it without ray:"
            )
        self.spec, self.given = spec, options
        own, rest = RayOptions.split(spec, options)
        self.replicas = Replicas(name, rest, own)
        about = self.replicas.about
        self.name: str = about["name"]
        self.kind: Kind = about["kind"]
        self.mask_token: str = about["mask_token"]
        self.gap_token: str = about["gap_token"]

    def __repr__(self) -> str:
        """Return the class, the identity and the number of replicas."""
        return f"{type(self).__name__}({self.name!r}, replicas={self.replicas.options.replicas})"

    def _slices(self, n: int) -> list[tuple[int, int]]:
        """Return the bounds of n texts in batches."""
        options = self.replicas.options
        return slices(n, options.replicas, options.batch)

    def _one(self, method: str, *arguments: Any) -> Any:
        """Ask one replica, whichever is free.

        Raises:
            ModelError: it died, and so did those asked instead.
        """
        result = self.replicas.run(method, [arguments])[0]
        if isinstance(result, Lost):
            raise ModelError(f"{self.name}: {result.reason}")
        return result

    def check_labels(self, labels: Sequence[str]) -> None:
        """Raise ModelError for labels that the model cannot tell apart."""
        self._one("check_labels", list(labels))

    def count_tokens(self, texts: Sequence[str]) -> IntArray:
        """Return the number of tokens of every text, shape (N,)."""
        return np.array(self._one("count_tokens", list(texts)), dtype=np.int64)

    def label_logprobs(self, texts: Sequence[str], labels: Sequence[str]) -> LabelLogprobs:
        """Score every label of every text; see the replicated model.

        A batch that was lost is NaN, with a failure for each of its texts and no tokens.
        """
        texts, labels = list(texts), list(labels)
        rows = self._slices(len(texts))
        parts = self.replicas.run("label_logprobs", [(texts[a:b], labels) for a, b in rows])
        out, tokens = empty_logprobs(len(texts), len(labels)), np.zeros(len(texts), np.int64)
        failures: dict[int, str] = {}
        for (a, b), part in zip(rows, parts, strict=True):
            if isinstance(part, Lost):
                failures.update(dict.fromkeys(range(a, b), f"api_error: {part.reason}"))
            else:
                out[a:b], tokens[a:b] = part.logprobs, part.tokens
                failures.update({a + i: reason for i, reason in part.failures.items()})
        return LabelLogprobs(out, tokens, failures)

    def loglikelihood(self, contexts: Sequence[str], continuations: Sequence[str]) -> FloatArray:
        """Return log P(continuation | context), nats, shape (N,); NaN where a batch was lost."""
        pairs = list(zip(contexts, continuations, strict=True))
        rows = self._slices(len(pairs))
        asked = [([p[0] for p in pairs[a:b]], [p[1] for p in pairs[a:b]]) for a, b in rows]
        out = np.full(len(pairs), np.nan)
        for (a, b), part in zip(rows, self.replicas.run("loglikelihood", asked), strict=True):
            if not isinstance(part, Lost):
                out[a:b] = part
        return out

    def generate(self, texts: Sequence[str], sampling: Sampling) -> list[Completion]:
        """Continue every text; see the replicated model.

        Equal texts go to one replica in one batch, since the draw of each depends on how often it
        has come before in a call.
        """
        texts = list(texts)
        batches = batches_of_equals(texts, [b - a for a, b in self._slices(len(texts))])
        asked = [([texts[i] for i in batch], sampling) for batch in batches]
        out = [Completion("")] * len(texts)
        for batch, part in zip(batches, self.replicas.run("generate", asked), strict=True):
            if isinstance(part, Lost):
                part = [Completion("", error=f"api_error: {part.reason}")] * len(batch)
            for i, completion in zip(batch, part, strict=True):
                out[i] = completion
        return out


def slices(n: int, replicas: int, batch: int | None) -> list[tuple[int, int]]:
    """Return the bounds of n items in batches: of one size if it is given, else ever smaller."""
    out: list[tuple[int, int]] = []
    start = 0
    while start < n:
        size = batch or min(MOST, max(LEAST, math.ceil((n - start) * SHARE / replicas)))
        out.append((start, min(start + size, n)))
        start += size
    return out


def batches_of_equals(texts: Sequence[str], sizes: Sequence[int]) -> list[list[int]]:
    """Return batches of about these sizes, no two of which hold the same text; order is kept."""
    places: dict[str, list[int]] = {}
    for i, text in enumerate(texts):
        places.setdefault(text, []).append(i)
    out: list[list[int]] = []
    for group in places.values():
        if not out or len(out[-1]) + len(group) > sizes[min(len(out), len(sizes)) - 1]:
            out.append([])
        out[-1].extend(group)
    return out
