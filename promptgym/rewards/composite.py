"""Weighted sums of rewards."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar

import numpy as np

from promptgym.errors import RewardError
from promptgym.rewards.base import Reward, RewardSpec, make_reward, register_reward
from promptgym.scoring import Scores
from promptgym.types import FloatArray


@register_reward("weighted")
class Weighted:
    """Sum of weight * reward: `{"name": "weighted", "terms": [["accuracy", 30], ["length", -1]]}`.

    A prompt for which any term is NaN gets NaN.

    Attributes:
        terms: (reward, weight) pairs.
        label: how tables call the sum, e.g. `30*accuracy-1*length`.
        needs_labels: whether a term needs labels.
        scale: the sum of weight * scale over the terms with a positive weight; 1 without one.
    """

    name: ClassVar[str] = "weighted"

    def __init__(self, terms: Sequence[Any]) -> None:
        """Build the terms.

        Args:
            terms: `[spec or reward, weight]` pairs.

        Raises:
            RewardError: if there are none, or one is not such a pair.
        """
        if isinstance(terms, str) or not terms:
            raise RewardError(f"weighted: terms must be a list of [reward, weight], got {terms!r}")
        self.terms: tuple[tuple[Reward, float], ...] = tuple(_term(term) for term in terms)
        self.label = "".join(
            f"{weight:+g}*{getattr(reward, 'label', reward.name)}" for reward, weight in self.terms
        ).removeprefix("+")
        self.needs_labels = any(reward.needs_labels for reward, _ in self.terms)
        self.scale = (
            sum(weight * reward.scale for reward, weight in self.terms if weight > 0) or 1.0
        )

    def __call__(self, scores: Scores) -> FloatArray:
        """Return the rewards, shape (P,)."""
        total = np.zeros(len(scores))
        for reward, weight in self.terms:
            total += weight * reward(scores)
        return total

    def __repr__(self) -> str:
        """Say what is summed."""
        return f"Weighted({self.label})"

    def __eq__(self, other: object) -> bool:
        """Sums of the same terms are equal."""
        return isinstance(other, Weighted) and self.terms == other.terms

    def __hash__(self) -> int:
        """Hash what equality compares by name."""
        return hash(self.label)


def _term(term: Any) -> tuple[Reward, float]:
    """Turn one `[spec, weight]` into a reward and its weight."""
    try:
        spec, weight = term
        factor = float(weight)
    except (TypeError, ValueError):
        raise RewardError(f"weighted: each term is [reward, weight], got {term!r}") from None
    spec_or_reward: RewardSpec | Reward = spec
    if not np.isfinite(factor):
        raise RewardError(f"weighted: the weight of {spec!r} must be finite, got {weight!r}")
    return make_reward(spec_or_reward), factor
