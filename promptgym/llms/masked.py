"""Masked models: a label is the one token that stands at the mask."""

from __future__ import annotations

import inspect
import threading
from collections.abc import Sequence
from itertools import groupby
from typing import Any

import numpy as np
import torch

from promptgym.errors import ModelError
from promptgym.llms.base import Completion, Kind, LabelLogprobs, Sampling, empty_logprobs
from promptgym.llms.head import HeadTap, gather_logprobs
from promptgym.llms.labels import check_distinct
from promptgym.llms.prefix import pack
from promptgym.llms.transformers_common import TransformersModel
from promptgym.types import FloatArray, IntArray


class MaskedModel(TransformersModel):
    """An encoder with a masked-language-model head.

    A label must be a single token where the mask stands: after whitespace the token of " great",
    elsewhere that of "great" behind whatever character precedes the mask (RLPrompt's `Ġgreat` in
    "{input} {prompt} {mask} ." and `World` in "{mask} {prompt} {input}", Deng et al. 2022).
    A text must hold the mask exactly once; one that does not, or that is too long, is a recorded
    failure.
    """

    kind: Kind = "masked"

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        """Find the mask token and try whether the head can be computed at the mask only."""
        super().__init__(*args, **kwargs)
        if self.tokenizer.mask_token_id is None:
            raise ModelError(
                f"{self.name}: the tokenizer has no mask token; set mask_token in it, or use a "
                "causal model"
            )
        self.mask_token = str(self.tokenizer.mask_token)
        self.mask_id = int(self.tokenizer.mask_token_id)
        self.pad_id = int(self.tokenizer.pad_token_id or 0)
        self._takes_types = "token_type_ids" in inspect.signature(self.model.forward).parameters
        self._lock = threading.RLock()
        self._ids: dict[tuple[str, tuple[str, ...]], IntArray] = {}
        ids = torch.full((2, 4), self.mask_id, device=self.device)
        tolerance = 2e-4 if self.options.dtype == "float32" else 0.25
        self.head = HeadTap(
            self.model, tolerance, input_ids=ids, attention_mask=torch.ones_like(ids)
        )
        self._pads = self._hides_padding(tolerance)

    def _hides_padding(self, tolerance: float) -> bool:
        """Whether a made-up text says the same alone and beside a longer one, which pads it."""
        size = self.model.get_input_embeddings().weight.shape[0]
        others = [i for i in range(min(size, 64)) if i != self.mask_id]
        rows = [[others[7 * j % len(others)] for j in range(length)] for length in (6, 30)]
        for row in rows:
            row[3] = self.mask_id
        columns = torch.tensor(others, device=self.device)
        alone, beside = (self._score_batch(some, columns)[0] for some in (rows[:1], rows))
        return bool(np.abs(beside - alone).max() < tolerance)

    def check_labels(self, labels: Sequence[str]) -> None:
        """Raise ModelError if labels are single, known, different tokens nowhere.

        Nowhere is: neither after a space nor at the start of a text. `label_logprobs` raises where
        the mask of its texts wants the other form.
        """
        try:
            self.label_ids(labels, " ")
        except ModelError as error:
            try:
                self.label_ids(labels, "")
            except ModelError:
                raise error from None

    def label_ids(self, labels: Sequence[str], before: str) -> IntArray:
        """Return the token of every label behind the character `before`, shape (L,).

        Raises:
            ModelError: a label of several tokens or none, an unknown one, or two that are equal.
        """
        key = (before, tuple(labels))
        if key not in self._ids:
            words = [label.strip() for label in labels]
            anchor = f"a{before}" if before.isspace() else before
            if anchor:
                start, *found = self.encode(
                    [anchor.rstrip(), *(anchor + word for word in words)], special=False
                )
                ids = [t[len(start) :] if t[: len(start)] == start else t for t in found]
            else:
                ids = self.encode(words, special=False)
            place = "after a space" if before.isspace() else f"after {before!r}"
            place = f"at a mask {place}" if before else "at a mask that begins the text"
            check_distinct(self, labels, ids, prefixes=False, single=place)
            self._ids[key] = np.array([tokens[0] for tokens in ids], dtype=np.int64)
        return self._ids[key]

    def label_logprobs(self, texts: Sequence[str], labels: Sequence[str]) -> LabelLogprobs:
        """Score every label at the mask of every text.

        Raises:
            ModelError: a label is not a single known token where the masks stand.
        """
        encoded = self.encode(texts)
        out = empty_logprobs(len(texts), len(labels))
        failures: dict[int, str] = {}
        places: dict[str, list[int]] = {}
        for i, (text, ids) in enumerate(zip(texts, encoded, strict=True)):
            reason = self._fault(ids)
            if reason:
                failures[i] = reason
            else:
                places.setdefault(self._before(text), []).append(i)
        with self._lock:
            for before, rows in places.items():
                found = self.label_ids(labels, before)
                out[rows] = self._score([encoded[i] for i in rows], found)
        tokens = np.array([len(ids) for ids in encoded], dtype=np.int64) - self.special_tokens
        return LabelLogprobs(out, tokens, failures)

    def _fault(self, ids: Sequence[int]) -> str | None:
        """Return why a text cannot be scored, or None."""
        masks = ids.count(self.mask_id)
        if masks != 1:
            return (
                f"refused: the text has {masks} mask tokens ({self.mask_token}), expected exactly "
                "one: take it out of the prompt or the input"
            )
        return self.too_long(len(ids))

    def _before(self, text: str) -> str:
        """Return what precedes the mask, as far as it decides a label's token."""
        at = text.find(self.mask_token)
        before = text[max(0, at - 1) : max(0, at)]
        if before.isspace():
            return " " if text[:at].strip() else ""
        return before

    def _score(self, rows: Sequence[Sequence[int]], columns: IntArray) -> FloatArray:
        """Return log-probabilities at the mask, shape (N, L), batched by length."""
        out = np.empty((len(rows), len(columns)))
        wanted = torch.from_numpy(columns).to(self.device)
        lengths = [len(row) for row in rows]
        for batch in pack(lengths, lengths, self.batch_tokens):
            # Where some layer looks at padding, texts of one length only; they come by length.
            parts = (
                [batch] if self._pads else [list(g) for _, g in groupby(batch, lengths.__getitem__)]
            )
            for part in parts:
                out[part] = self._score_batch([rows[i] for i in part], wanted)
        return out

    @torch.inference_mode()
    def _score_batch(self, rows: Sequence[Sequence[int]], columns: torch.Tensor) -> FloatArray:
        """Run one padded batch; return log-probabilities at the mask, shape (N, L)."""
        lengths = np.array([len(row) for row in rows])
        ids = np.full((len(rows), lengths.max()), self.pad_id, dtype=np.int64)
        for n, row in enumerate(rows):
            ids[n, : len(row)] = row
        mask = (np.arange(ids.shape[1]) < lengths[:, None]).astype(np.int64)
        at = torch.from_numpy((ids == self.mask_id).argmax(1)).to(self.device)
        inputs: dict[str, Any] = {"input_ids": torch.from_numpy(ids).to(self.device)}
        inputs["attention_mask"] = torch.from_numpy(mask).to(self.device)
        if self._takes_types:
            inputs["token_type_ids"] = torch.zeros_like(inputs["input_ids"])
        every = torch.arange(len(rows), device=self.device)
        logits, _ = self.head.logits(every, at, **inputs)
        found: FloatArray = gather_logprobs(logits, columns).cpu().numpy()
        return found

    def loglikelihood(self, contexts: Sequence[str], continuations: Sequence[str]) -> FloatArray:
        """Refuse: a masked model has no continuations.

        Raises:
            ModelError: always.
        """
        raise ModelError(f"{self.name} is a masked model and scores no continuations")

    def generate(self, texts: Sequence[str], sampling: Sampling) -> list[Completion]:
        """Refuse: a masked model does not generate.

        Raises:
            ModelError: always.
        """
        raise ModelError(
            f"{self.name} is a masked model and does not generate; give the task labels and a "
            "template with {mask}, or use a causal model"
        )
