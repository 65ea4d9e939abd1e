"""Causal models: labels are continuations of the text."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch

from promptgym.errors import ModelError
from promptgym.llms.base import Kind, LabelLogprobs, empty_logprobs
from promptgym.llms.transformers_common import TransformersModel
from promptgym.types import FloatArray, IntArray


class CausalModel(TransformersModel):
    """A decoder-only model of transformers.

    A label continues its text after one space (" great"), unless it begins with whitespace itself
    or the text is empty; it is tokenized as it stands there.
    """

    kind: Kind = "causal"

    def context_ids(self, texts: Sequence[str]) -> list[list[int]]:
        """Tokenize contexts: no end token, and at least one token."""
        eos = self.tokenizer.eos_token_id
        start = self.tokenizer.bos_token_id
        start = eos if start is None else start
        out = self.encode(texts)
        for ids in out:
            if len(ids) > 1 and ids[-1] == eos:
                ids.pop()
            if not ids and start is not None:
                ids.append(start)
        return out

    def label_ids(self, labels: Sequence[str]) -> list[list[int]]:
        """Return the tokens of labels where they follow a text."""
        anchor = self.encode(["a"], special=False)[0]
        joined = [x if x[:1].isspace() else f" {x}" for x in labels]
        out = []
        for label, text in zip(labels, joined, strict=True):
            ids = self.encode([f"a{text}"], special=False)[0]
            if ids[: len(anchor)] == anchor:
                out.append(ids[len(anchor) :])
            else:
                out.append(self.encode([label], special=False)[0])
        return out

    def check_labels(self, labels: Sequence[str]) -> None:
        """Raise ModelError for labels that are empty, unknown or made of the same tokens."""
        ids = self.label_ids(labels)
        unknown = self.tokenizer.unk_token_id
        seen: dict[tuple[int, ...], str] = {}
        for label, tokens in zip(labels, ids, strict=True):
            names = self.tokenizer.convert_ids_to_tokens(tokens)
            if not tokens or (unknown is not None and unknown in tokens):
                raise ModelError(
                    f"label {label!r} becomes the tokens {names} in {self.name}, with unknown or "
                    "no tokens among them; expected words the model knows: change the verbalizer"
                )
            if tuple(tokens) in seen:
                raise ModelError(
                    f"labels {seen[tuple(tokens)]!r} and {label!r} become the same tokens {names} "
                    f"in {self.name}; expected different ones: change a verbalizer"
                )
            seen[tuple(tokens)] = label

    def label_logprobs(self, texts: Sequence[str], labels: Sequence[str]) -> LabelLogprobs:
        """Score every label as the continuation of every text."""
        contexts = self.context_ids(texts)
        tokens = self.count_tokens(texts)
        ids = self.label_ids(labels)
        out = empty_logprobs(len(texts), len(labels))
        failures: dict[int, str] = {}
        longest = max(map(len, ids))
        pairs, where = [], []
        for i, context in enumerate(contexts):
            reason = self.too_long(len(context) + longest - 1)
            if reason:
                failures[i] = reason
                continue
            pairs += [(context, label) for label in ids]
            where += [(i, j) for j in range(len(labels))]
        values = self._score(pairs)
        for (i, j), value in zip(where, values, strict=True):
            out[i, j] = value
        return LabelLogprobs(self._normalized(out, labels, ids), tokens, failures)

    def loglikelihood(self, contexts: Sequence[str], continuations: Sequence[str]) -> FloatArray:
        """Return log P(continuation | context), nats, shape (N,)."""
        whole = self.context_ids([a + b for a, b in zip(contexts, continuations, strict=True)])
        starts = [len(ids) for ids in self.context_ids(contexts)]
        return self._score([(ids[:n], ids[n:]) for ids, n in zip(whole, starts, strict=True)])

    def _normalized(
        self, values: FloatArray, labels: Sequence[str], ids: list[list[int]]
    ) -> FloatArray:
        """Divide by length, as the options ask."""
        if self.options.normalize == "tokens":
            return values / np.array([len(t) for t in ids])
        if self.options.normalize == "characters":
            return values / np.array([len(x.strip()) for x in labels])
        return values

    @torch.inference_mode()
    def _score(self, pairs: Sequence[tuple[list[int], list[int]]]) -> FloatArray:
        """Return the sum of log-probabilities of each continuation."""
        out = np.zeros(len(pairs))
        order = sorted(range(len(pairs)), key=lambda i: len(pairs[i][0]) + len(pairs[i][1]))
        rows = max(1, self.batch_tokens // max((sum(map(len, p)) for p in pairs), default=1))
        for start in range(0, len(order), rows):
            chunk = order[start : start + rows]
            inputs = [pairs[i][0] + pairs[i][1][:-1] for i in chunk]
            width = max(map(len, inputs))
            ids = torch.zeros(len(chunk), width, dtype=torch.long)
            mask = torch.zeros_like(ids)
            for row, tokens in enumerate(inputs):
                ids[row, : len(tokens)] = torch.tensor(tokens)
                mask[row, : len(tokens)] = 1
            ids, mask = ids.to(self.device), mask.to(self.device)
            logits = self.model(input_ids=ids, attention_mask=mask).logits.float()
            logp = logits.log_softmax(-1)
            for row, i in enumerate(chunk):
                first = len(pairs[i][0]) - 1
                label = torch.tensor(pairs[i][1], device=self.device)
                steps = torch.arange(first, first + len(label), device=self.device)
                out[i] = float(logp[row, steps, label].sum())
        return out


__all__ = ["CausalModel", "IntArray"]
