"""Rewards on labels: accuracy, likelihoods and the published classification rewards.

Each is a small frozen dataclass: its fields are the options of its formula, which stands, with its
source, in `promptgym.rewards.formulas`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from math import isfinite, log
from typing import ClassVar

from promptgym.errors import RewardError
from promptgym.rewards import formulas
from promptgym.rewards.base import register_reward
from promptgym.rewards.formulas import TIES, Ties
from promptgym.scoring import Scores
from promptgym.tasks import METRICS
from promptgym.types import FloatArray, IntArray


def label_arrays(scores: Scores, name: str) -> tuple[FloatArray, IntArray]:
    """Return label log-probabilities (P, E, L) and targets (E,) of scores, or refuse.

    Raises:
        RewardError: if the scores come from a task answered by generation.
    """
    if scores.label_logprobs is None or scores.targets is None:
        raise RewardError(
            f"reward {name!r} needs label log-probabilities, and these scores have none (a task "
            "answered by generation); use 'accuracy'"
        )
    return scores.label_logprobs, scores.targets


@dataclass(frozen=True)
class _OnLabels:
    """What rewards that read label log-probabilities share."""

    name: ClassVar[str]
    needs_labels: ClassVar[bool] = True
    formula: ClassVar[Callable[..., FloatArray]]
    """Arrays (P, E, L) and (E,), and the fields as keyword arguments -> rewards, shape (P,)."""

    def __post_init__(self) -> None:
        """Refuse factors that are no finite numbers of at least 0, and a perfect prompt's pay of 0.

        Raises:
            RewardError: naming the factor.
        """
        for name, value in vars(self).items():
            if isinstance(value, (int, float)) and not (isfinite(value) and value >= 0):
                raise RewardError(
                    f"reward {self.name!r}: {name} must be a finite number of at least 0, "
                    f"got {value}"
                )
        if not self.scale > 0:
            raise RewardError(f"reward {self.name!r} would pay a perfect prompt {self.scale}")

    @property
    def scale(self) -> float:
        """One unit: probability, or nat."""
        return 1.0

    def __call__(self, scores: Scores) -> FloatArray:
        """Return the rewards, shape (P,)."""
        return self.formula(*label_arrays(scores, self.name), **vars(self))


@register_reward("accuracy")
@dataclass(frozen=True)
class Accuracy:
    """Mean of the task metric's per-example values (accuracy, exact match, F1), in [0, 1].

    The one reward that every task has, generation included. Examples are not weighted by class,
    whatever the task's own metric does; see `balanced_accuracy`.
    """

    name: ClassVar[str] = "accuracy"
    needs_labels: ClassVar[bool] = False
    scale: ClassVar[float] = 1.0

    def __call__(self, scores: Scores) -> FloatArray:
        """Return the rewards, shape (P,)."""
        return formulas.mean_over_valid(scores.values)


@register_reward("balanced_accuracy")
@dataclass(frozen=True)
class BalancedAccuracy:
    """Mean over classes of the accuracy within a class, in [0, 1]."""

    name: ClassVar[str] = "balanced_accuracy"
    needs_labels: ClassVar[bool] = True
    scale: ClassVar[float] = 1.0

    def __call__(self, scores: Scores) -> FloatArray:
        """Return the rewards, shape (P,); NaN where a class has no valid example."""
        label_arrays(scores, self.name)
        targets = [example.target for example in scores.examples]
        return METRICS["balanced_accuracy"].aggregate(scores.values, targets)


@register_reward("margin")
@dataclass(frozen=True)
class Margin(_OnLabels):
    """Minus the cross-entropy over the labels: mean log p(gold), normalized over labels; nats."""

    name: ClassVar[str] = "margin"
    formula = staticmethod(formulas.margin_reward)


@register_reward("loglikelihood")
@dataclass(frozen=True)
class LogLikelihood(_OnLabels):
    """PMPO's score (Zhao et al. 2025): mean log P(gold), not normalized over labels; nats."""

    name: ClassVar[str] = "loglikelihood"
    formula = staticmethod(formulas.loglikelihood_reward)


@dataclass(frozen=True)
class _WithTies(_OnLabels):
    """A reward on probability gaps, which has to say what an exact tie is."""

    ties: Ties = "index"

    def __post_init__(self) -> None:
        """Refuse an unknown tie rule, too."""
        super().__post_init__()
        if self.ties not in TIES:
            raise RewardError(
                f"reward {self.name!r}: ties must be one of {TIES}, got {self.ties!r}"
            )


@register_reward("probability_gap")
@dataclass(frozen=True)
class ProbabilityGap(_WithTies):
    """Mean of p(gold) - max p(other), softmax over the labels, in [-1, 1]; unscaled."""

    name: ClassVar[str] = "probability_gap"
    formula = staticmethod(partial(formulas.gap_reward, wrong=1.0, right=1.0))


@register_reward("gap")
@dataclass(frozen=True)
class Gap(_WithTies):
    """RLPrompt's piecewise gap (Deng et al. 2022), in [-wrong, right]."""

    name: ClassVar[str] = "gap"
    formula = staticmethod(formulas.gap_reward)
    wrong: float = 180.0
    right: float = 200.0

    @property
    def scale(self) -> float:
        """The reward of a prompt with p(gold) = 1 everywhere."""
        return self.right


@register_reward("tempera")
@dataclass(frozen=True)
class Tempera(_WithTies):
    """TEMPERA's score (Zhang et al. 2023); an environment pays the difference to the step before.

    The reward of an edit is `formulas.delta(score after, score before)`; environments that pay
    differences (`shaping="delta"`) take it from this score.
    """

    name: ClassVar[str] = "tempera"
    formula = staticmethod(formulas.tempera_score)
    wrong: float = 1.8
    right: float = 2.0
    factor: float = 100.0

    @property
    def scale(self) -> float:
        """The score of a prompt with p(gold) = 1 everywhere."""
        return self.factor * self.right


@register_reward("stableprompt")
@dataclass(frozen=True)
class StablePrompt(_WithTies):
    """StablePrompt's 0.01 * gap + 30 * accuracy (Kwon et al. 2024), the gap over the labels."""

    name: ClassVar[str] = "stableprompt"
    formula = staticmethod(formulas.stableprompt_reward)
    gap: float = 0.01
    accuracy: float = 30.0

    @property
    def scale(self) -> float:
        """The reward of a prompt with p(gold) = 1 everywhere."""
        return self.gap + self.accuracy


@register_reward("dp2o")
@dataclass(frozen=True)
class DP2O(_WithTies):
    """DP2O's 10 * gap + 6.5 * label entropy in bits (Li et al. 2023)."""

    name: ClassVar[str] = "dp2o"
    formula = staticmethod(formulas.dp2o_reward)
    gap: float = 10.0
    entropy: float = 6.5

    @property
    def scale(self) -> float:
        """The reward of a prompt with p(gold) = 1 everywhere (not the largest; see the formula)."""
        return self.gap


@register_reward("grips")
@dataclass(frozen=True)
class Grips(_OnLabels):
    """GrIPS's 100 * balanced accuracy + 10 * entropy of the answers, nats (Prasad et al. 2023)."""

    name: ClassVar[str] = "grips"
    formula = staticmethod(formulas.grips_reward)
    accuracy: float = 100.0
    entropy: float = 10.0

    @property
    def scale(self) -> float:
        """The reward of a perfect prompt on two balanced classes."""
        return self.accuracy + self.entropy * log(2.0)
