"""Masked models: a label is the one token that stands at the mask."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch

from promptgym.errors import ModelError
from promptgym.llms.base import Completion, Kind, LabelLogprobs, Sampling, empty_logprobs
from promptgym.llms.transformers_common import TransformersModel
from promptgym.types import FloatArray, IntArray


class MaskedModel(TransformersModel):
    """An encoder with a masked-language-model head.

    A label must be a single token where the mask stands: after whitespace the token of " great",
    elsewhere that of "great" after whatever precedes the mask.
    """

    kind: Kind = "masked"

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        """Find the mask token."""
        super().__init__(*args, **kwargs)
        if self.tokenizer.mask_token_id is None:
            raise ModelError(f"{self.name}: the tokenizer has no mask token")
        self.mask_token = str(self.tokenizer.mask_token)
        self.mask_id = int(self.tokenizer.mask_token_id)
        self._ids: dict[tuple[str, tuple[str, ...]], IntArray] = {}

    def check_labels(self, labels: Sequence[str]) -> None:
        """Raise ModelError if, after a space and at the start alike, labels are not tokens."""
        try:
            self.label_ids(labels, "a ")
        except ModelError:
            self.label_ids(labels, "")

    def label_ids(self, labels: Sequence[str], before: str) -> IntArray:
        """Return the token of every label where `before` precedes the mask, shape (L,).

        Raises:
            ModelError: a label of several tokens or none, an unknown one, or two that are equal.
        """
        key = (before, tuple(labels))
        if key not in self._ids:
            self._ids[key] = self._find_ids(labels, before)
        return self._ids[key]

    def _find_ids(self, labels: Sequence[str], before: str) -> IntArray:
        """Tokenize labels behind `before` and check them."""
        anchor = self.encode([before.rstrip()], special=False)[0]
        seen: dict[int, str] = {}
        for label in labels:
            ids = self.encode([before + label.strip()], special=False)[0]
            tail = ids[len(anchor) :] if ids[: len(anchor)] == anchor else ids
            names = self.tokenizer.convert_ids_to_tokens(tail)
            place = "after a space" if before[-1:].isspace() else f"after {before!r}"
            if len(tail) != 1 or tail[0] == self.tokenizer.unk_token_id:
                raise ModelError(
                    f"label {label!r} becomes the tokens {names} at the mask ({place}) of "
                    f"{self.name}; expected one known token: choose another verbalizer"
                )
            if tail[0] in seen:
                raise ModelError(
                    f"labels {seen[tail[0]]!r} and {label!r} become the same token {names} in "
                    f"{self.name}; expected different ones: change a verbalizer"
                )
            seen[tail[0]] = label
        return np.array(list(seen), dtype=np.int64)

    @torch.inference_mode()
    def label_logprobs(self, texts: Sequence[str], labels: Sequence[str]) -> LabelLogprobs:
        """Score every label at the mask of every text."""
        encoded = self.encode(texts)
        out = empty_logprobs(len(texts), len(labels))
        failures: dict[int, str] = {}
        good = []
        for i, ids in enumerate(encoded):
            masks = ids.count(self.mask_id)
            reason = self.too_long(len(ids))
            if masks != 1:
                reason = (
                    f"the text has {masks} mask tokens ({self.mask_token}), expected exactly one: "
                    "remove it from the prompt or the input"
                )
            if reason:
                failures[i] = reason
            else:
                good.append(i)
        good.sort(key=lambda i: len(encoded[i]))
        start = 0
        while start < len(good):
            stop = start + 1
            while stop < len(good) and len(encoded[good[stop]]) * (stop + 1 - start) <= (
                self.batch_tokens
            ):
                stop += 1
            self._score(texts, encoded, good[start:stop], labels, out)
            start = stop
        return LabelLogprobs(out, self.count_tokens(texts), failures)

    def _score(
        self,
        texts: Sequence[str],
        encoded: list[list[int]],
        rows: list[int],
        labels: Sequence[str],
        out: FloatArray,
    ) -> None:
        """Run one batch and write its log-probabilities."""
        width = max(len(encoded[i]) for i in rows)
        pad = self.tokenizer.pad_token_id or 0
        ids = torch.full((len(rows), width), pad, dtype=torch.long)
        mask = torch.zeros_like(ids)
        for row, i in enumerate(rows):
            ids[row, : len(encoded[i])] = torch.tensor(encoded[i])
            mask[row, : len(encoded[i])] = 1
        ids, mask = ids.to(self.device), mask.to(self.device)
        logits = self.model(input_ids=ids, attention_mask=mask).logits
        at = (ids == self.mask_id).int().argmax(1)
        logp = logits[torch.arange(len(rows)), at].float().log_softmax(-1).cpu().numpy()
        for row, i in enumerate(rows):
            out[i] = logp[row, self.label_ids(labels, self._before(texts[i]))]

    def _before(self, text: str) -> str:
        """Return what stands before the mask, as far as it decides a label's token."""
        before = text[: text.index(self.mask_token)]
        if not before.strip():
            return ""
        return "a " if before[-1].isspace() else before[-1]

    def loglikelihood(self, contexts: Sequence[str], continuations: Sequence[str]) -> FloatArray:
        """Refuse: a masked model has no continuations."""
        raise ModelError(f"{self.name} is a masked model and scores no continuations")

    def generate(self, texts: Sequence[str], sampling: Sampling) -> list[Completion]:
        """Refuse: a masked model does not generate."""
        raise ModelError(f"{self.name} is a masked model and does not generate; use a causal one")
