"""Generation: greedy or sampled continuations in batches, each text's draw its own."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from promptgym.errors import ModelError
from promptgym.llms.base import Completion, Sampling, check_sampling
from promptgym.llms.prefix import pack
from promptgym.types import FloatArray

if TYPE_CHECKING:
    from promptgym.llms.transformers_common import TransformersModel

Step = Callable[[torch.Tensor], torch.Tensor]


def uniforms(texts: Sequence[str], sampling: Sampling) -> FloatArray | None:
    """Return one uniform number a token, shape (N, max_new_tokens); None for greedy decoding.

    Each row's numbers come from a generator of its own, seeded by the seed, the text and how often
    the text has come before in this call: a completion does not depend on its neighbours in a
    batch, and no global generator is touched.
    """
    if sampling.temperature == 0:
        return None
    seen: Counter[str] = Counter()
    out = np.empty((len(texts), sampling.max_new_tokens))
    for i, text in enumerate(texts):
        name = f"{sampling.seed}\x1f{seen[text]}\x1f{text}"
        seen[text] += 1
        seed = int.from_bytes(hashlib.blake2b(name.encode(), digest_size=16).digest())
        out[i] = np.random.Generator(np.random.PCG64(seed)).random(sampling.max_new_tokens)
    return out


def choose(logits: torch.Tensor, sampling: Sampling, draw: torch.Tensor | None) -> torch.Tensor:
    """Return the next token of every row, by inverting the cumulative distribution at `draw`.

    Args:
        logits: shape (B, V).
        sampling: temperature, then top-k, then top-p, as in transformers.
        draw: uniform numbers, shape (B,); None is greedy.
    """
    if draw is None:
        return logits.argmax(-1)
    logits = logits.double() / sampling.temperature
    order = None
    if sampling.top_k or sampling.top_p < 1:
        logits, order = logits.sort(dim=-1, descending=True, stable=True)
        if sampling.top_k:
            logits[:, sampling.top_k :] = -torch.inf
    probabilities = logits.softmax(-1)
    mass = probabilities.cumsum(-1)
    if sampling.top_p < 1:
        probabilities[mass - probabilities >= sampling.top_p] = 0.0
        mass = probabilities.cumsum(-1)
    # strictly below the total, so that a token of probability 0 at the end is never drawn
    goal = (draw[:, None] * mass[:, -1:]).clamp(max=mass[:, -1:] * (1 - 1e-12))
    token = torch.searchsorted(mass, goal, right=True)
    token = token.clamp(max=mass.shape[1] - 1)
    if order is not None:
        token = order.gather(1, token)
    return token[:, 0]


@dataclass(slots=True)
class _Writing:
    """One text being continued."""

    row: int
    tokens: list[int] = field(default_factory=list)
    text: str = ""
    done: bool = False


def end_tokens(model: TransformersModel) -> set[int]:
    """Return the tokens at which a model's answers end."""
    ids = getattr(getattr(model.model, "generation_config", None), "eos_token_id", None)
    out = set(ids) if isinstance(ids, list | tuple) else {ids}
    more = (model.tokenizer.eos_token_id, getattr(model, "gap_end", None))
    return {int(i) for i in [*out, *more] if i is not None}


def write_on(
    model: TransformersModel,
    rows: Sequence[int],
    sampling: Sampling,
    draws: FloatArray | None,
    logits: torch.Tensor,
    step: Callable[[torch.Tensor, torch.Tensor | None], torch.Tensor],
) -> list[_Writing]:
    """Draw token after token until every text has ended.

    Args:
        model: for its tokenizer and its end tokens.
        rows: index of every text among the draws.
        sampling: how tokens are drawn.
        draws: from `uniforms`.
        logits: of the first new token, shape (B, V).
        step: (tokens (B,), rows to keep (B,) or None) -> logits of the next token.
    """
    ends = end_tokens(model)
    texts = [_Writing(row) for row in rows]
    active = texts
    for number in range(sampling.max_new_tokens):
        draw = None
        if draws is not None:
            draw = torch.from_numpy(draws[[t.row for t in active], number]).to(logits.device)
        tokens = choose(logits, sampling, draw).tolist()
        for text, token in zip(active, tokens, strict=True):
            _extend(model, text, token, ends, sampling.stop)
        going = [i for i, text in enumerate(active) if not text.done]
        if not going or number + 1 == sampling.max_new_tokens:
            break
        keep = None
        if len(going) < len(active):
            active = [active[i] for i in going]
            keep = torch.tensor(going, device=logits.device)
        last = torch.tensor([text.tokens[-1] for text in active], device=logits.device)
        logits = step(last, keep)
    for text in texts:
        if not text.done:
            text.text = model.tokenizer.decode(text.tokens, skip_special_tokens=True)
    return texts


def _extend(
    model: TransformersModel, text: _Writing, token: int, ends: set[int], stop: tuple[str, ...]
) -> None:
    """Add a token to a text and see whether it ends."""
    if token in ends:
        text.done = True
        text.tokens.append(token)
        text.text = model.tokenizer.decode(text.tokens, skip_special_tokens=True)
        return
    text.tokens.append(token)
    if not stop:
        return
    written = model.tokenizer.decode(text.tokens, skip_special_tokens=True)
    places = [at for s in stop if (at := written.find(s)) >= 0]
    if places:
        text.done, text.text = True, written[: min(places)]


@torch.inference_mode()
def generate_causal(
    model: Any, contexts: Sequence[Sequence[int]], texts: Sequence[str], sampling: Sampling
) -> list[Completion]:
    """Continue contexts with a decoder-only model, padded on the left.

    Args:
        model: a `CausalModel`.
        contexts: token ids.
        texts: what was tokenized: the identity of each draw.
        sampling: how tokens are drawn.

    Returns:
        One completion a text; one that could outgrow the model's length has an error instead.

    Raises:
        ModelError: the model keeps no key/values.
    """
    check_sampling(sampling)
    draws = uniforms(texts, sampling)
    out: list[Completion] = []
    for ids in contexts:
        reason = model.too_long(len(ids) + sampling.max_new_tokens)
        if reason:
            reason = f"{reason} (of these tokens {sampling.max_new_tokens} are for the answer)"
        out.append(Completion("", error=reason))
    good = [i for i, completion in enumerate(out) if completion.error is None]
    for rows in _batches(model, good, contexts, sampling):
        for text in _continue(model, [contexts[i] for i in rows], rows, sampling, draws):
            out[text.row] = Completion(text.text, len(text.tokens))
    return out


def _batches(
    model: Any, rows: list[int], contexts: Sequence[Sequence[int]], sampling: Sampling
) -> list[list[int]]:
    """Return rows in batches; of one length each for a model that cannot be told positions.

    Such a model may count the padding on the left (BART's decoder does).
    """
    lengths = [len(contexts[i]) for i in rows]
    groups = [rows]
    if not model.engine.takes_positions:
        groups = [[i for i in rows if len(contexts[i]) == n] for n in sorted(set(lengths))]
    out = []
    for group in groups:
        read = [len(contexts[i]) for i in group]
        sizes = [n + sampling.max_new_tokens for n in read]
        packed = pack(read, sizes, model.batch_tokens, spare=512)
        out += [[group[n] for n in batch] for batch in packed]
    return out


def _continue(
    model: Any,
    contexts: list[Sequence[int]],
    rows: list[int],
    sampling: Sampling,
    draws: FloatArray | None,
) -> list[_Writing]:
    """Run one batch: read the contexts, then write."""
    engine = model.engine
    width = max(map(len, contexts))
    ids = torch.zeros(len(contexts), width, dtype=torch.long)
    mask = torch.zeros_like(ids)
    for n, tokens in enumerate(contexts):
        ids[n, width - len(tokens) :] = torch.tensor(tokens)
        mask[n, width - len(tokens) :] = 1
    state: dict[str, Any] = {"mask": mask.to(model.device), "cache": None}

    def run(tokens: torch.Tensor) -> torch.Tensor:
        """Compute the logits behind the last column."""
        inputs: dict[str, Any] = {"input_ids": tokens, "attention_mask": state["mask"]}
        if engine.takes_positions:
            places = (state["mask"].cumsum(1) - 1).clamp(min=0)
            inputs["position_ids"] = places[:, -tokens.shape[1] :]
        if state["cache"] is not None:
            inputs["past_key_values"] = state["cache"]
        every = torch.arange(len(tokens), device=tokens.device)
        last = torch.full_like(every, tokens.shape[1] - 1)
        logits: torch.Tensor
        logits, output = engine.head.logits(every, last, use_cache=True, **inputs)
        state["cache"] = getattr(output, "past_key_values", None)
        if state["cache"] is None:
            raise ModelError(
                f"{model.name} keeps no key/values of what it has read (as state space models do "
                "not), which generation needs; give the task labels, or use another model"
            )
        return logits

    def step(tokens: torch.Tensor, keep: torch.Tensor | None) -> torch.Tensor:
        """Drop the texts that have ended and read one more token of the others."""
        if keep is not None:
            state["cache"].batch_select_indices(keep)
            state["mask"] = state["mask"][keep]
        state["mask"] = torch.cat([state["mask"], torch.ones_like(tokens)[:, None]], dim=1)
        return run(tokens[:, None])

    return write_on(model, rows, sampling, draws, run(ids.to(model.device)), step)
