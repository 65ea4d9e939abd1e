"""POSIX, the prompt sensitivity index of Chatterjee et al. (2024), from a model's own likelihoods.

Of N prompts that mean the same, with x_i the text that prompt i makes of one example and y_j the
model's own response to x_j,

    psi = 1 / (N (N - 1)) * sum_i sum_j 1 / L_j * |log P(y_j | x_i) / P(y_j | x_j)|

where L_j is the number of tokens of y_j (their equation 1); the index is the mean of psi over
examples. It is 0 where the answers are as likely under every wording, in nats a token.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from promptgym.errors import ModelError
from promptgym.llms import LanguageModel
from promptgym.scoring import Scorer, Scores
from promptgym.types import FloatArray, IntArray


def posix(logprobs: FloatArray, lengths: IntArray | FloatArray) -> float:
    """Return the index of N prompts; NaN where no example has two answers.

    An example's psi is over the prompts whose own response to it is known. The mean is over the
    examples of which all likelihoods are known; one of 0 makes it infinite.

    Args:
        logprobs: `[i, j, e]` is log P(y_j | x_i) on example e, nats, shape (N, N, E). NaN at
            `[j, j, e]` says that there is no response y_j.
        lengths: tokens of y_j, shape (N, E).
    """
    n = len(logprobs)
    own = logprobs[np.arange(n), np.arange(n)]  # (N, E): log P(y_j | x_j)
    with np.errstate(invalid="ignore"):  # inf - inf: a response of no likelihood at all
        moved = np.abs(logprobs - own) / lengths
    known = ~np.isnan(own)
    both = known[:, None] & known[None]
    counts = known.sum(axis=0)
    total = np.where(both, moved, 0.0).sum(axis=(0, 1))
    psi = total[counts > 1] / (counts * (counts - 1))[counts > 1]
    psi = psi[~np.isnan(psi)]
    return float(psi.mean()) if len(psi) else float("nan")


def label_posix(scores: Scores, lengths: Sequence[float]) -> float:
    """Return the index where responses are labels: the likeliest one, as scored already.

    NaN for a model that only answers: its labels score 0 and -inf, which are no likelihoods.

    Args:
        scores: of the N prompts.
        lengths: what a log-probability of each label is divided by, shape (L,).
    """
    found = scores.label_logprobs
    assert found is not None
    if np.isneginf(found).any():
        return float("nan")
    said = np.where(np.isnan(found), -np.inf, found).argmax(axis=2)  # (N, E)
    examples = np.arange(found.shape[1])
    crossed = found[:, examples[None], said]  # (N, N, E): prompt i on the answer of prompt j
    return posix(crossed, np.asarray(lengths, dtype=np.float64)[said])


def label_lengths(model: LanguageModel, words: Sequence[str]) -> list[float]:
    """Return what to divide a label's score by to have nats a token: its tokens, in general.

    A model loaded with `normalize="tokens"` has divided already; of one with
    `normalize="characters"` the characters are multiplied back.
    """
    tokens = [max(1, int(n)) for n in model.count_tokens([word.strip() for word in words])]
    how = getattr(getattr(model, "options", None), "normalize", "none")
    if how == "tokens":
        return [1.0] * len(tokens)
    if how == "characters":
        return [n / len(word.strip()) for n, word in zip(tokens, words, strict=True)]
    return [float(n) for n in tokens]


def generated_posix(scorer: Scorer, scores: Scores) -> float:
    """Return the index where responses are generated; NaN where the model gives no likelihoods.

    Every (text, response) pair that differs is asked once, in calls of the scorer's batch size,
    booked in its ledger. A failed or empty response has no likelihood and is left out.

    Args:
        scorer: that made the scores.
        scores: of the N prompts.
    """
    said = scores.completions
    assert said is not None
    task, model = scorer.task, scorer.model
    texts = [
        [
            scorer.template.render(
                prompt, example, mask=model.mask_token, verbalizers=task.verbalizers
            )
            for example in scores.examples
        ]
        for prompt in scores.prompts
    ]
    known = np.array([[bool(answer) for answer in row] for row in said])
    place: dict[tuple[str, str], int] = {}
    shape = (len(texts), *said.shape)
    index = np.full(shape, -1, dtype=np.int64)
    for i, j, e in np.argwhere(known[:, None] & known[None]).tolist():
        pair = texts[i][e], said[j, e]
        index[i, j, e] = place.setdefault(pair, len(place))
    try:
        found = _likelihoods(scorer, list(place))
    except (ModelError, NotImplementedError):
        return float("nan")
    crossed = np.append(found, np.nan)[index]
    lengths = np.ones(said.shape)
    lengths[known] = np.maximum(1, model.count_tokens(said[known].tolist()))
    return posix(crossed, lengths)


def _likelihoods(scorer: Scorer, pairs: list[tuple[str, str]]) -> FloatArray:
    """Return log P(response | text) of every pair, nats, shape (N,)."""
    found = np.full(len(pairs), np.nan)
    before = _paid(scorer.model)
    for first in range(0, len(pairs), scorer.batch_size):
        batch = pairs[first : first + scorer.batch_size]
        contexts = [text for text, _ in batch]
        answers = [("" if text[-1:].isspace() else " ") + said for text, said in batch]
        found[first : first + len(batch)] = scorer.model.loglikelihood(contexts, answers)
        joined = [a + b for a, b in zip(contexts, answers, strict=True)]
        tokens = int(scorer.model.count_tokens(joined).sum())
        scorer.ledger.charge(queries=len(batch), calls=1, tokens=tokens)
    if before is not None and (after := _paid(scorer.model)) is not None:
        scorer.ledger.charge(usd=after[0] - before[0], unpriced=after[1] - before[1])
    return found


def _paid(model: LanguageModel) -> tuple[float, int] | None:
    """Return (USD known to be spent, requests of unknown cost) of a model that counts them."""
    usage = getattr(model, "usage", None)
    return None if usage is None else (usage.known_usd, usage.unpriced)
