"""Encoder-decoder models: the text is read, labels are what the decoder writes."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch

from promptgym.errors import ModelError
from promptgym.llms.base import (
    Completion,
    Kind,
    LabelLogprobs,
    Sampling,
    check_sampling,
    empty_logprobs,
)
from promptgym.llms.generation import uniforms, write_on
from promptgym.llms.head import gather_logprobs
from promptgym.llms.labels import check_distinct, normalized
from promptgym.llms.prefix import pack
from promptgym.llms.transformers_common import TransformersModel
from promptgym.types import FloatArray

SENTINELS = ("<extra_id_0>", "<extra_id_1>")


class Seq2SeqModel(TransformersModel):
    """An encoder-decoder model such as T5 or BART.

    The encoder reads a text once; a label is what the decoder writes behind its start token (and
    the begin token that the tokenizer puts before a text, as BART's does), its tokens'
    log-probabilities summed, the end token not counted (as for causal models).

    A T5 fills gaps (Raffel et al., JMLR 2020, section 3.1.4): where a text has its first sentinel,
    it writes what was left out there, up to the second sentinel.

    Attributes:
        gap_token: the first sentinel; "" where the tokenizer has none.
        gap_end: id of the second one.
    """

    kind: Kind = "seq2seq"

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        """Find the start token."""
        super().__init__(*args, **kwargs)
        start = self.model.config.decoder_start_token_id
        if start is None:
            raise ModelError(f"{self.name}: the config has no decoder_start_token_id")
        bare, whole = self.encode(["a"], special=False)[0], self.encode(["a"])[0]
        at = next((n for n in range(len(whole)) if whole[n : n + len(bare)] == bare), 0)
        self.begin = [int(start), *whole[:at]]
        sentinels = self.tokenizer.get_added_vocab()
        fills = all(token in sentinels for token in SENTINELS)
        self.gap_token = SENTINELS[0] if fills else ""
        self.gap_end: int | None = sentinels[SENTINELS[1]] if fills else None
        self.encoder = self.model.get_encoder()
        self.pad_id = int(self.tokenizer.pad_token_id or 0)
        self._lock = threading.RLock()
        self._labels: dict[tuple[str, ...], list[list[int]]] = {}

    def label_tokens(self, labels: Sequence[str]) -> list[list[int]]:
        """Return the tokens of labels as the decoder writes them; checked."""
        key = tuple(labels)
        if key not in self._labels:
            ids = self.encode([label.strip() for label in labels], special=False)
            check_distinct(self, labels, ids, prefixes=self.options.normalize == "none")
            self._labels[key] = ids
        return self._labels[key]

    def check_labels(self, labels: Sequence[str]) -> None:
        """Raise ModelError for labels that cannot be told apart; see `CausalModel.check_labels`."""
        self.label_tokens(labels)

    def label_logprobs(self, texts: Sequence[str], labels: Sequence[str]) -> LabelLogprobs:
        """Score every label as what is written after reading every text."""
        ids = self.label_tokens(labels)
        encoded = self.encode(texts)
        out = empty_logprobs(len(texts), len(labels))
        faults = {i: self._fault(e) for i, e in enumerate(encoded)}
        failures = {i: reason for i, reason in faults.items() if reason}
        good = [i for i in range(len(texts)) if i not in failures]
        lengths = [len(encoded[i]) for i in good]
        with self._lock:
            for batch in pack(lengths, lengths, self.batch_tokens):
                rows = [good[n] for n in batch]
                out[rows] = self._score([encoded[i] for i in rows], ids)
        out = normalized(out, self.options.normalize, labels, ids)
        tokens = np.array([len(e) for e in encoded], dtype=np.int64) - self.special_tokens
        return LabelLogprobs(out, tokens, failures)

    def _fault(self, ids: Sequence[int]) -> str | None:
        """Return why a text cannot be read, or None."""
        return self.too_long(len(ids)) if ids else "refused: the text has no tokens"

    @torch.inference_mode()
    def _score(self, rows: list[list[int]], labels: Sequence[Sequence[int]]) -> FloatArray:
        """Read a batch once and write every label, shape (N, L)."""
        states, mask = self._read(rows)
        out = np.zeros((len(rows), len(labels)))
        for column, label in enumerate(labels):
            given = torch.tensor([[*self.begin, *label[:-1]]], device=self.device)
            logits = (
                self.model(
                    encoder_outputs=(states,),
                    attention_mask=mask,
                    decoder_input_ids=given.expand(len(rows), -1),
                    use_cache=False,
                )
                .logits[:, len(self.begin) - 1 :]
                .float()
            )
            target = torch.tensor(label, device=self.device).repeat(len(rows))[:, None]
            found = gather_logprobs(logits.flatten(0, 1), target).double().view(len(rows), -1)
            out[:, column] = found.sum(1).cpu().numpy()
        return out

    def _read(self, rows: Sequence[Sequence[int]]) -> tuple[torch.Tensor, torch.Tensor]:
        """Encode texts; return hidden states (N, T, H) and the mask (N, T)."""
        width = max(map(len, rows))
        ids = torch.full((len(rows), width), self.pad_id)
        mask = torch.zeros_like(ids)
        for n, row in enumerate(rows):
            ids[n, : len(row)] = torch.tensor(row)
            mask[n, : len(row)] = 1
        ids, mask = ids.to(self.device), mask.to(self.device)
        return self.encoder(input_ids=ids, attention_mask=mask).last_hidden_state, mask

    def loglikelihood(self, contexts: Sequence[str], continuations: Sequence[str]) -> FloatArray:
        """Return log P(decoder writes the continuation | context), nats, shape (N,).

        Raises:
            ModelError: a context longer than the model reads, or a continuation without tokens.
        """
        read = self.encode(contexts)
        written = self.encode([c.strip() for c in continuations], special=False)
        out = np.zeros(len(read))
        with self._lock:
            for i, (ids, label) in enumerate(zip(read, written, strict=True)):
                reason = self._fault(ids)
                if not label:
                    reason = f"the continuation {continuations[i]!r} has no tokens"
                if reason:
                    raise ModelError(f"{self.name}: {reason}")
                out[i] = self._score([ids], [label])[0, 0]
        return out

    @torch.inference_mode()
    def generate(self, texts: Sequence[str], sampling: Sampling) -> list[Completion]:
        """Write an answer to every text; draws as in `promptgym.llms.generation`."""
        check_sampling(sampling)
        draws = uniforms(texts, sampling)
        encoded = self.encode(texts)
        out = [Completion("", error=self._fault(ids)) for ids in encoded]
        good = [i for i, completion in enumerate(out) if completion.error is None]
        lengths = [len(encoded[i]) for i in good]
        with self._lock:
            for batch in pack(lengths, lengths, self.batch_tokens, spare=512):
                rows = [good[n] for n in batch]
                for text in self._write([encoded[i] for i in rows], rows, sampling, draws):
                    out[text.row] = Completion(text.text, len(text.tokens))
        return out

    def _write(
        self,
        contexts: list[list[int]],
        rows: list[int],
        sampling: Sampling,
        draws: FloatArray | None,
    ) -> Any:
        """Read one batch, then write token after token."""
        states, mask = self._read(contexts)
        state: dict[str, Any] = {"states": states, "mask": mask, "cache": None}

        def step(tokens: torch.Tensor, keep: torch.Tensor | None) -> torch.Tensor:
            """Drop the texts that have ended and read one more token of the others."""
            if keep is not None:
                state["states"], state["mask"] = state["states"][keep], state["mask"][keep]
                for cache in (
                    state["cache"].self_attention_cache,
                    state["cache"].cross_attention_cache,
                ):
                    cache.batch_select_indices(keep)
            output = self.model(
                encoder_outputs=(state["states"],),
                attention_mask=state["mask"],
                decoder_input_ids=tokens,
                past_key_values=state["cache"],
                use_cache=True,
            )
            state["cache"] = output.past_key_values
            logits: torch.Tensor = output.logits[:, -1].float()
            return logits

        begin = torch.tensor([self.begin], device=self.device).expand(len(rows), -1)
        first = step(begin, None)
        return write_on(
            self, rows, sampling, draws, first, lambda tokens, keep: step(tokens[:, None], keep)
        )
