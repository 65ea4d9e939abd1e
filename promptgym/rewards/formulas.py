"""The formulas of classification rewards, as pure functions on arrays.

Every function takes `label_logprobs`, log P(label | prompt, input) in nats, shape (P, E, L), not
normalized over the labels, and `target`, the index of the gold label, shape (E,). A row of NaN is a
failed example; it is left out of the mean over examples. A prompt without a valid example gets NaN.
Each function raises ValueError where the shapes do not fit or there are fewer than two labels.
"""

from __future__ import annotations

from typing import Literal

import numpy as np

from promptgym.types import FloatArray, IntArray

Ties = Literal["index", "by-value"]
TIES: tuple[Ties, ...] = ("index", "by-value")


def mean_over_valid(values: FloatArray) -> FloatArray:
    """Mean over the last axis, NaN left out; NaN where nothing is left."""
    valid = ~np.isnan(values)
    count = valid.sum(axis=-1)
    total = np.where(valid, values, 0.0).sum(axis=-1)
    empty = np.full(values.shape[:-1], np.nan)
    return np.asarray(np.divide(total, count, out=empty, where=count > 0))


def label_log_softmax(label_logprobs: FloatArray) -> FloatArray:
    """Return log-probabilities normalized over the labels, the shape kept.

    NaN rows stay NaN; so do rows in which every label is impossible (-inf).
    """
    logprobs = np.asarray(label_logprobs, dtype=np.float64)
    with np.errstate(invalid="ignore"):
        shifted = logprobs - logprobs.max(axis=-1, keepdims=True)
    return np.asarray(shifted - np.log(np.exp(shifted).sum(axis=-1, keepdims=True)))


def gold(values: FloatArray, target: IntArray) -> FloatArray:
    """Pick the gold label's entry of every example: (P, E, L) -> (P, E)."""
    _check(values, target)
    return np.asarray(np.take_along_axis(values, target[None, :, None], axis=2)[..., 0])


def probability_gaps(
    label_logprobs: FloatArray, target: IntArray, *, ties: Ties = "index"
) -> FloatArray:
    """Return p(gold) - max p(other label), p the softmax over the labels, shape (P, E).

    Args:
        label_logprobs: see the module.
        target: see the module.
        ties: "index" takes the maximum over the other *indices*, so an exact tie is a gap of 0.
            "by-value" is what RLPrompt's and TEMPERA's code does: every label whose probability
            *equals* the gold one's is masked with -1, so that a full tie is a gap of p + 1. It is
            for parity only.
    """
    if ties not in TIES:
        raise ValueError(f"ties must be one of {TIES}, got {ties!r}")
    p = np.exp(label_log_softmax(label_logprobs))
    p_gold = gold(p, target)
    if ties == "index":
        masked = np.arange(p.shape[2])[None, None, :] == target[None, :, None]
    else:
        masked = p == p_gold[..., None]
    return np.asarray(p_gold - np.where(masked, -1.0, p).max(axis=2))


def piecewise(gaps: FloatArray, *, wrong: float, right: float) -> FloatArray:
    """Scale positive gaps by `right` and the others by `wrong`, the shape kept."""
    return np.asarray(gaps * np.where(gaps > 0, right, wrong))


def gap_reward(
    label_logprobs: FloatArray,
    target: IntArray,
    *,
    wrong: float = 180.0,
    right: float = 200.0,
    ties: Ties = "index",
) -> FloatArray:
    """RLPrompt's piecewise reward (Deng et al. 2022, section 3): the probability gap, scaled.

    `mean over examples of gap * (right if gap > 0 else wrong)`, shape (P,).

    Args:
        label_logprobs: see the module.
        target: see the module.
        wrong: scale of gaps that are not positive (lambda_1).
        right: scale of positive gaps (lambda_2).
        ties: see `probability_gaps`.
    """
    gaps = probability_gaps(label_logprobs, target, ties=ties)
    return mean_over_valid(piecewise(gaps, wrong=wrong, right=right))


def tempera_score(
    label_logprobs: FloatArray,
    target: IntArray,
    *,
    wrong: float = 1.8,
    right: float = 2.0,
    factor: float = 100.0,
    ties: Ties = "index",
) -> FloatArray:
    """TEMPERA's score s_t of a prompt (Zhang et al. 2023, section 3.3, lambdas of its table 8).

    `factor * mean of gap * (right if gap > 0 else wrong)`, shape (P,). The reward of a step is
    `delta(s_t, s_{t-1})`, with s_0 that of the unedited prompt.
    """
    return factor * gap_reward(label_logprobs, target, wrong=wrong, right=right, ties=ties)


def delta(current: FloatArray, previous: FloatArray) -> FloatArray:
    """Reward of an edit: the score after it minus the score before (TEMPERA); NaN if either is.

    Deltas telescope: their undiscounted sum over an episode is last score - first score, so that
    they cannot be farmed by going back and forth.
    """
    return np.asarray(np.asarray(current, dtype=np.float64) - previous)


def margin_reward(label_logprobs: FloatArray, target: IntArray) -> FloatArray:
    """Minus the cross-entropy over the labels: mean log softmax(gold), nats, <= 0, shape (P,)."""
    return mean_over_valid(gold(label_log_softmax(label_logprobs), target))


def loglikelihood_reward(label_logprobs: FloatArray, target: IntArray) -> FloatArray:
    """PMPO's score (Zhao et al. 2025): mean log P(gold), not normalized over labels; nats, (P,)."""
    return mean_over_valid(gold(np.asarray(label_logprobs, dtype=np.float64), target))


def label_entropies(label_logprobs: FloatArray) -> FloatArray:
    """Return the entropy of the softmax over the labels in bits, shape (P, E)."""
    logp = label_log_softmax(label_logprobs)
    terms = np.where(np.isneginf(logp), 0.0, np.exp(logp) * np.where(np.isneginf(logp), 0.0, logp))
    return np.asarray(-terms.sum(axis=-1) / np.log(2.0))


def dp2o_reward(
    label_logprobs: FloatArray,
    target: IntArray,
    *,
    gap: float = 10.0,
    entropy: float = 6.5,
    ties: Ties = "index",
) -> FloatArray:
    """DP2O's reward (Li et al. 2023): mean of 10 * probability gap + 6.5 * label entropy in bits.

    The entropy is *added*: with two labels the sum is largest at p(gold) = 0.894, not at 1.
    """
    gaps = probability_gaps(label_logprobs, target, ties=ties)
    return mean_over_valid(gap * gaps + entropy * label_entropies(label_logprobs))


def stableprompt_reward(
    label_logprobs: FloatArray,
    target: IntArray,
    *,
    gap: float = 0.01,
    accuracy: float = 30.0,
    ties: Ties = "index",
) -> FloatArray:
    """StablePrompt's reward (Kwon et al. 2024): 0.01 * gap + 30 * accuracy, shape (P,).

    The gap is taken on the softmax over the labels. The published code takes it on full-vocabulary
    logits indexed by the class *number* (tokens 0, 1, ... of the vocabulary, whatever they are) and
    sums it over a batch; that is not reproduced. Its other weights: 0.05 and 3 (BBII).
    """
    gaps = probability_gaps(label_logprobs, target, ties=ties)
    correct = np.where(np.isnan(gaps), np.nan, gaps > 0)
    return gap * mean_over_valid(gaps) + accuracy * mean_over_valid(correct)


def grips_reward(
    label_logprobs: FloatArray,
    target: IntArray,
    *,
    accuracy: float = 100.0,
    entropy: float = 10.0,
) -> FloatArray:
    """GrIPS's score (Prasad et al. 2023, section 3): balanced accuracy + entropy of the answers.

    `100 * mean over classes of recall + 10 * H(share of each *predicted* label)`, H in nats, shape
    (P,). The published code rounds the first term to two decimals; this does not. NaN where a class
    has no valid example.
    """
    _check(label_logprobs, target)
    valid = ~np.isnan(label_logprobs).any(axis=2)
    predicted = np.where(np.isnan(label_logprobs), -np.inf, label_logprobs).argmax(axis=2)
    correct = np.where(valid, (predicted == target).astype(np.float64), np.nan)
    recalls = [mean_over_valid(correct[:, target == label]) for label in np.unique(target)]
    labels = np.arange(label_logprobs.shape[2])
    chosen = np.equal(predicted[:, None, :], labels[None, :, None])
    share = mean_over_valid(np.where(np.expand_dims(valid, 1), chosen, np.nan))
    spread = -np.where(share > 0, share * np.log(np.where(share > 0, share, 1.0)), 0.0).sum(axis=1)
    return np.asarray(accuracy * np.mean(np.stack(recalls, axis=1), axis=1) + entropy * spread)


def _check(values: FloatArray, target: IntArray) -> None:
    """Refuse shapes that do not fit."""
    if values.ndim != 3 or values.shape[2] < 2:
        raise ValueError(
            f"label_logprobs must have shape (P, E, L) with at least 2 labels, got {values.shape}"
        )
    if target.shape != (values.shape[1],):
        raise ValueError(
            f"target must have shape ({values.shape[1]},) as label_logprobs has {values.shape[1]} "
            f"examples, got {target.shape}"
        )
