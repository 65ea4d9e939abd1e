"""Exact float32 scoring of many prompts on the same inputs, for measuring landscapes.

The input comes first in the template, so keys and values of `<bos> <text> input <instruction>` are
computed once per example and only the prompt and `<answer>` are run for each prompt. Rotary
positions are relative: inputs are padded on the left, all prompts start at the same position, and
the result is the plain forward pass's up to rounding.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch.nn import functional

from promptgym.llms.tiny.tokenizer import ANSWER, BOS, INSTRUCTION, TEXT, encode_words

FloatArray = npt.NDArray[np.float64]


class CausalScorer:
    """Label log-probabilities of a Llama-shaped model on a fixed set of inputs."""

    def __init__(self, model: Any, inputs: Sequence[str], labels: Sequence[str]) -> None:
        """Run the inputs once.

        Args:
            model: a `LlamaForCausalLM` in float32.
            inputs: input texts, E of them.
            labels: label words, one token each.
        """
        self._model = model
        config = model.config
        self._heads = config.num_attention_heads
        self._labels = torch.tensor([encode_words([label])[0] for label in labels])
        rows = [encode_words([BOS, TEXT, *text.split(), INSTRUCTION]) for text in inputs]
        self._start = max(len(row) for row in rows)
        ids = torch.tensor([[0] * (self._start - len(row)) + row for row in rows])
        self._hidden = torch.tensor([len(row) for row in rows])
        self._visible = torch.arange(self._start)[None] >= (self._start - self._hidden)[:, None]
        size = self._start + 64
        head = config.hidden_size // self._heads
        theta = config.rope_parameters["rope_theta"]
        angles = torch.arange(size)[:, None] / theta ** (torch.arange(0, head, 2) / head)[None]
        self._cos, self._sin = (torch.cat([f(angles)] * 2, dim=-1) for f in (torch.cos, torch.sin))
        with torch.inference_mode():
            causal = torch.ones(self._start, self._start, dtype=torch.bool).tril()
            mask = causal[None, None] & self._visible[:, None, None, :] | torch.eye(
                self._start, dtype=torch.bool
            )
            self._cache: list[tuple[torch.Tensor, torch.Tensor]] = []
            x = model.model.embed_tokens(ids)
            for layer in model.model.layers:
                q, k, v = self._project(layer, x, 0)
                self._cache.append((k, v))
                mixed = functional.scaled_dot_product_attention(q, k, v, attn_mask=mask)
                x = self._finish(layer, x, mixed)

    def _project(
        self, layer: Any, x: torch.Tensor, start: int
    ) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """Queries, keys and values with rotary positions, heads before places."""
        y = layer.input_layernorm(x)
        attention = layer.self_attn
        shape = (*x.shape[:-1], self._heads, -1)
        q, k, v = (
            part(y).view(shape).transpose(-3, -2)
            for part in (attention.q_proj, attention.k_proj, attention.v_proj)
        )
        span = slice(start, start + x.shape[-2])
        cos, sin = self._cos[span], self._sin[span]
        return _rotate(q, cos, sin), _rotate(k, cos, sin), v

    def _finish(self, layer: Any, x: torch.Tensor, mixed: torch.Tensor) -> torch.Tensor:
        """Output projection, residual and feed-forward."""
        x = x + layer.self_attn.o_proj(mixed.transpose(-3, -2).flatten(-2))
        return x + layer.mlp(layer.post_attention_layernorm(x))  # type: ignore[no-any-return]

    def __call__(self, prompts: Sequence[Sequence[str]]) -> FloatArray:
        """Log P(label | prompt, input), nats, shape (P, E, L)."""
        rows = [encode_words([*words, ANSWER]) for words in prompts]
        examples = len(self._hidden)
        out = np.zeros((len(rows), examples, len(self._labels)))
        for length in sorted({len(row) for row in rows}):
            chosen = [i for i, row in enumerate(rows) if len(row) == length]
            for at in range(0, len(chosen), 4):
                part = chosen[at : at + 4]
                out[part] = self._run(torch.tensor([rows[i] for i in part])).numpy()
        return out

    @torch.inference_mode()
    def _run(self, ids: torch.Tensor) -> torch.Tensor:
        """The prompts' part of the forward pass; ids of shape (p, T)."""
        count, length = ids.shape
        examples = len(self._hidden)
        x = self._model.model.embed_tokens(ids)[:, None].expand(count, examples, length, -1)
        own = torch.ones(length, length, dtype=torch.bool).tril()
        own = own.expand(count, examples, 1, length, length)
        seen = self._visible[None, :, None, None, :].expand(count, examples, 1, length, self._start)
        mask = torch.cat([seen, own], dim=-1)
        for layer, (past_k, past_v) in zip(self._model.model.layers, self._cache, strict=True):
            q, k, v = self._project(layer, x, self._start)
            k = torch.cat([past_k.expand(count, *past_k.shape), k], dim=-2)
            v = torch.cat([past_v.expand(count, *past_v.shape), v], dim=-2)
            weights = q @ k.transpose(-1, -2) / math.sqrt(q.shape[-1])
            weights = weights.masked_fill(~mask, -torch.inf).softmax(dim=-1)
            x = self._finish(layer, x, weights @ v)
        last = self._model.model.norm(x[:, :, -1])
        return self._model.lm_head(last).log_softmax(dim=-1)[..., self._labels]  # type: ignore[no-any-return]


def _rotate(x: torch.Tensor, cos: torch.Tensor, sin: torch.Tensor) -> torch.Tensor:
    """Rotary position embedding, as `transformers` does it for Llama."""
    half = x.shape[-1] // 2
    turned = torch.cat([-x[..., half:], x[..., :half]], dim=-1)
    return x * cos + turned * sin
