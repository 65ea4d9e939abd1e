"""The reward contract and the registry of rewards by name."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from inspect import signature
from math import isfinite
from typing import Any, Protocol, TypeVar

from promptgym.arguments import check_arguments, hints
from promptgym.errors import RewardError
from promptgym.scoring import Scores
from promptgym.types import JSON, FloatArray

T = TypeVar("T")
RewardSpec = str | dict[str, Any]


class Reward(Protocol):
    """Scores of P prompts -> P rewards, a pure function of the scores.

    A prompt's reward is taken over its valid examples; failed and skipped ones are left out, and a
    prompt without one valid example gets NaN, never 0.
    """

    @property
    def name(self) -> str:
        """What configs, logs and tables say."""
        ...

    @property
    def needs_labels(self) -> bool:
        """Whether label log-probabilities are required (classification only)."""
        ...

    @property
    def scale(self) -> float:
        """What a perfect prompt is paid (for plots and normalization), always positive.

        Where the best is 0 (log-likelihoods) or no prompt is perfect (penalties) it is one unit:
        1 nat, 1 token.
        """
        ...

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


def build(what: str, known: Mapping[str, Callable[..., T]], spec: JSON) -> T:
    """Build what a dict with a name and options describes.

    Args:
        what: how it is called.
        known: name -> factory.
        spec: the name under "name", and options of the factory.

    Raises:
        RewardError: for an unknown name, an unknown or missing option, or one of the wrong type
            (NaN and infinity are no values).
    """
    options = dict(spec)
    name = options.pop("name", None)
    if name not in known:
        raise RewardError(f"unknown {what} {name!r}; known: {', '.join(sorted(known))}")
    factory = known[name]
    check_arguments(f"{what} {name!r}", hints(factory), options, RewardError, what="option")
    for option, value in options.items():
        if isinstance(value, float) and not isfinite(value):
            raise RewardError(f"{what} {name!r}: option {option} must be finite, got {value}")
    try:
        return factory(**options)
    except TypeError as error:  # an option is missing
        raise RewardError(f"{what} {name!r}: {error}") from None


def make_reward(spec: RewardSpec | Reward) -> Reward:
    """Build a reward from `"gap"`, from `{"name": "gap", "wrong": 180.0}`, or pass one on.

    Raises:
        RewardError: for an unknown name, an option the reward does not take, or a value that is
            neither a spec nor a reward.
    """
    if isinstance(spec, str):
        spec = {"name": spec}
    if isinstance(spec, dict):
        return build("reward", REWARDS, spec)
    if not _is_reward(spec):
        raise RewardError(
            "a reward is a name, a dict with a name, or a callable on Scores with the attributes "
            f"name, needs_labels and scale; got {spec!r}"
        )
    return spec


def describe_reward(reward: Reward) -> JSON:
    """Return a reward's name and options as plain values: what tells it from others of its name.

    Its options are the arguments of its class that are its attributes, too.
    """
    try:
        arguments = [*signature(type(reward)).parameters]
    except ValueError:  # a callable that Python cannot look into
        arguments = []
    options = {a: _described(getattr(reward, a)) for a in arguments if hasattr(reward, a)}
    return {"name": reward.name, **options}


def _is_reward(value: Any) -> bool:
    return callable(value) and all(hasattr(value, a) for a in ("name", "needs_labels", "scale"))


def _described(value: Any) -> Any:
    """Return an option as a plain value; an object is told by its name, or by its type."""
    if value is None or isinstance(value, (str, int, float)):
        return value
    if isinstance(value, Mapping):
        return {str(key): _described(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_described(item) for item in value]
    if _is_reward(value):
        return describe_reward(value)
    return str(getattr(value, "name", type(value).__name__))
