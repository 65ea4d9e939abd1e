"""PRewrite's rewards on answers (Kong et al. 2024): F1, and perplexity of the right answers.

Its third, accuracy or exact match, is `accuracy`; sums are `weighted`. The paper names these
rewards and gives no formulas: what is here is the usual reading of the names.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import isfinite
from typing import ClassVar

import numpy as np

from promptgym.errors import RewardError
from promptgym.rewards import formulas
from promptgym.rewards.base import register_reward
from promptgym.rewards.classification import label_arrays
from promptgym.scoring import Scores
from promptgym.tasks import METRICS
from promptgym.types import BoolArray, FloatArray, IntArray


def macro_f1(label_logprobs: FloatArray, target: IntArray) -> FloatArray:
    """Return the mean over the classes of the F1 of the likeliest label, shape (P,).

    `F1 = 2 tp / (2 tp + fp + fn)` of every class that occurs in the targets; failed examples (NaN)
    are left out, and a prompt without a valid one gets NaN.

    Args:
        label_logprobs: log P(label | prompt, input), nats, shape (P, E, L).
        target: index of the gold label, shape (E,).
    """
    valid: BoolArray = np.asarray(~np.isnan(label_logprobs).any(axis=2))
    predicted = np.where(np.isnan(label_logprobs), -np.inf, label_logprobs).argmax(axis=2)
    classes = np.arange(label_logprobs.shape[2])[:, None, None]
    said, meant = valid & (predicted == classes), valid & (target == classes)  # (L, P, E)
    right = 2.0 * (said & meant).sum(axis=2)
    total = said.sum(axis=2) + meant.sum(axis=2)
    scores = np.divide(right, total, out=np.zeros(right.shape), where=total > 0)
    there = meant.any(axis=2)
    means = np.divide(
        (scores * there).sum(axis=0),
        there.sum(axis=0),
        out=np.full(len(valid), np.nan),
        where=there.any(axis=0),
    )
    return np.asarray(means)


@register_reward("f1")
@dataclass(frozen=True)
class F1:
    """Macro F1 of the labels; for generated answers mean token F1 (Rajpurkar et al. 2016)."""

    name: ClassVar[str] = "f1"
    needs_labels: ClassVar[bool] = False
    scale: ClassVar[float] = 1.0

    def __call__(self, scores: Scores) -> FloatArray:
        """Return the rewards, shape (P,)."""
        if scores.label_logprobs is not None and scores.targets is not None:
            return macro_f1(scores.label_logprobs, scores.targets)
        values = np.full(scores.values.shape, np.nan)
        if scores.completions is not None:
            for i, j in np.argwhere(~np.isnan(scores.values)):
                answer, example = str(scores.completions[i, j]), scores.examples[j]
                values[i, j] = METRICS["token_f1"].score(answer, example)
        return formulas.mean_over_valid(values)


@register_reward("answer_perplexity")
@dataclass(frozen=True)
class AnswerPerplexity:
    """1 minus the perplexity of the right answers: 1 - exp(-mean log P(gold)), at most 0.

    P is the model's own probability of the whole label, not normalized over the labels.

    Attributes:
        limit: perplexities above count as this; an unlikely answer must not drown what else is
            paid.
    """

    name: ClassVar[str] = "answer_perplexity"
    needs_labels: ClassVar[bool] = True
    scale: ClassVar[float] = 1.0
    limit: float = 1e3

    def __post_init__(self) -> None:
        """Refuse a limit that no perplexity stays below."""
        if not (isfinite(self.limit) and self.limit > 1):
            raise RewardError(
                f"reward {self.name!r}: limit must be a finite number above 1, got {self.limit}"
            )

    def __call__(self, scores: Scores) -> FloatArray:
        """Return the rewards, shape (P,)."""
        logp = formulas.loglikelihood_reward(*label_arrays(scores, self.name))
        return 1.0 - np.exp(np.minimum(-logp, np.log(self.limit)))
