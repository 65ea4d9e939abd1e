"""The reward contract and the registry of rewards by name."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol

from promptgym.errors import RewardError
from promptgym.scoring import Scores
from promptgym.types import FloatArray

RewardSpec = str | dict[str, Any]


class Reward(Protocol):
    """Scores of P prompts -> P rewards. Prompts without one valid example get NaN.

    Attributes:
        name: what configs, logs and tables say.
        needs_labels: whether label log-probabilities are required (classification only).
        scale: the largest reward a perfect prompt gets (for plots and normalization).
    """

    name: str
    needs_labels: bool
    scale: float

    def __call__(self, scores: Scores) -> FloatArray:
        """Return the rewards, shape (P,)."""
        ...


REWARDS: dict[str, Callable[..., Reward]] = {}


def register_reward(name: str) -> Callable[[Callable[..., Reward]], Callable[..., Reward]]:
    """Register a factory (a class or function of keyword arguments) under a name."""

    def add(factory: Callable[..., Reward]) -> Callable[..., Reward]:
        if name in REWARDS:
            raise RewardError(f"a reward named {name!r} is registered already")
        REWARDS[name] = factory
        return factory

    return add


def make_reward(spec: RewardSpec | Reward) -> Reward:
    """Build a reward from `"gap"`, from `{"name": "gap", "wrong": 180.0}`, or pass one on."""
    if isinstance(spec, str):
        spec = {"name": spec}
    if isinstance(spec, dict):
        options = dict(spec)
        name = options.pop("name", None)
        if name not in REWARDS:
            raise RewardError(f"unknown reward {name!r}; known: {', '.join(sorted(REWARDS))}")
        try:
            return REWARDS[name](**options)
        except TypeError as error:
            raise RewardError(f"reward {name!r}: {error}") from None
    return spec
