"""Stabilizers: what an agent does to the rewards of a batch before it learns from them.

A stabilizer maps rewards, shape (P,), to shaped rewards, shape (P,). NaN (a prompt that could not
be scored) stays NaN and does not count. Whatever state there is can be read and set, so that a
resumed run continues exactly: `s.get_state()` returns JSON, `s.set_state(state)` takes it back.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar, Protocol

import numpy as np

from promptgym.errors import RewardError
from promptgym.rewards.base import build
from promptgym.types import JSON, FloatArray

EPSILON = 1e-4  # added to standard deviations, as RLPrompt's published code does

StabilizerSpec = str | dict[str, Any] | Sequence[str | dict[str, Any]]


class Stabilizer(Protocol):
    """Rewards of a batch -> shaped rewards of the batch."""

    @property
    def name(self) -> str:
        """The registered name."""
        ...

    def __call__(self, rewards: FloatArray, further: FloatArray | None = None) -> FloatArray:
        """Shape the rewards of one batch, shape (P,), and take them into the state, if any.

        Args:
            rewards: of the batch, shape (P,).
            further: rewards of replayed prompts, shape (R,): shaped as if they were of this batch,
                without counting in its statistics or the state.

        Returns:
            The shaped rewards, those of `further` after the batch's, shape (P + R,).
        """
        ...

    def get_state(self) -> JSON:
        """Return the state as JSON; {} if there is none."""
        ...

    def set_state(self, state: JSON) -> None:
        """Take a state that `get_state` returned."""
        ...


STABILIZERS: dict[str, Callable[..., Stabilizer]] = {}


def register_stabilizer(
    name: str,
) -> Callable[[Callable[..., Stabilizer]], Callable[..., Stabilizer]]:
    """Register a factory under a name."""

    def add(factory: Callable[..., Stabilizer]) -> Callable[..., Stabilizer]:
        if name in STABILIZERS:
            raise RewardError(f"a stabilizer named {name!r} is registered already")
        STABILIZERS[name] = factory
        return factory

    return add


def make_stabilizer(spec: StabilizerSpec | Stabilizer) -> Stabilizer:
    """Build from `"batch_z"`, `{"name": "affine", "new": [0, 5]}`, or a list (applied in order).

    Raises:
        RewardError: for an unknown name or option, or an option of the wrong type.
    """
    if isinstance(spec, (list, tuple)):
        return Chain([make_stabilizer(part) for part in spec])
    if isinstance(spec, str):
        spec = {"name": spec}
    if isinstance(spec, dict):
        return build("stabilizer", STABILIZERS, spec)
    if not callable(spec) or not hasattr(spec, "get_state"):
        raise RewardError(f"a stabilizer is a name, a dict, a list of these or one, got {spec!r}")
    return spec


class _Stateless:
    """What stabilizers without state share."""

    def get_state(self) -> JSON:
        """Return {}: there is no state."""
        return {}

    def set_state(self, state: JSON) -> None:
        """Refuse a state that is not {}: it belongs to another stabilizer."""
        if state:
            raise RewardError(f"{type(self).__name__} has no state, got {state!r}")


@register_stabilizer("none")
@dataclass
class Identity(_Stateless):
    """Leaves rewards as they are."""

    name: ClassVar[str] = "none"

    def __call__(self, rewards: FloatArray, further: FloatArray | None = None) -> FloatArray:
        """Return the rewards."""
        return _joined(rewards, further)


@register_stabilizer("batch_z")
@dataclass
class BatchZ(_Stateless):
    """RLPrompt's z-score over the batch (Deng et al. 2022, section 3; epsilon from its code).

    `(x - mean) / (population standard deviation + epsilon)`. One prompt, or equal rewards, give 0:
    there is nothing to learn from them. Late in training it turns a small spread, which is noise,
    into scores of the usual size; see `FixedScale`.
    """

    name: ClassVar[str] = "batch_z"
    epsilon: float = EPSILON

    def __call__(self, rewards: FloatArray, further: FloatArray | None = None) -> FloatArray:
        """Return the z-scores."""
        x, valid = _valid(rewards, further)
        if not valid.size:
            return x
        return np.asarray((x - valid.mean()) / (valid.std() + self.epsilon))


@register_stabilizer("running_z")
@dataclass
class RunningZ:
    """z-score against all rewards seen so far, the batch itself included (Welford 1962).

    Attributes:
        epsilon: added to the population standard deviation.
        count, mean, m2: the state: rewards seen, their mean, their summed squared deviations.
    """

    name: ClassVar[str] = "running_z"
    epsilon: float = EPSILON
    count: int = 0
    mean: float = 0.0
    m2: float = 0.0

    def __call__(self, rewards: FloatArray, further: FloatArray | None = None) -> FloatArray:
        """Take the batch in, then return its z-scores."""
        x, valid = _valid(rewards, further)
        self.update(valid)
        return np.asarray((x - self.mean) / (self.std + self.epsilon))

    @property
    def std(self) -> float:
        """Population standard deviation of what was seen; 0 before anything was."""
        return float(np.sqrt(self.m2 / self.count)) if self.count else 0.0

    def update(self, valid: FloatArray) -> None:
        """Take rewards in (Chan et al. 1979: Welford's update for a batch)."""
        n = int(valid.size)
        if not n:
            return
        total = self.count + n
        shift = float(valid.mean()) - self.mean
        self.m2 += float(((valid - valid.mean()) ** 2).sum()) + shift**2 * self.count * n / total
        self.mean += shift * n / total
        self.count = total

    def get_state(self) -> JSON:
        """Return count, mean and m2."""
        return {"count": self.count, "mean": self.mean, "m2": self.m2}

    def set_state(self, state: JSON) -> None:
        """Take count, mean and m2 back."""
        self.count, self.mean, self.m2 = int(state["count"]), state["mean"], state["m2"]


@register_stabilizer("min_max")
@dataclass
class MinMax(_Stateless):
    """The batch's smallest reward becomes `low`, its largest `high`; equal ones the middle."""

    name: ClassVar[str] = "min_max"
    low: float = 0.0
    high: float = 1.0

    def __call__(self, rewards: FloatArray, further: FloatArray | None = None) -> FloatArray:
        """Return the rescaled rewards."""
        x, valid = _valid(rewards, further)
        if not valid.size:
            return x
        span = float(valid.max() - valid.min())
        share = (x - valid.min()) / span if span > 0 else np.where(np.isnan(x), np.nan, 0.5)
        return np.asarray(self.low + share * (self.high - self.low))


@register_stabilizer("fixed_scale")
@dataclass
class FixedScale:
    """(x - batch mean) / s0, clipped, with ONE scale s0: the mean spread of the first batches.

    Unlike `BatchZ` it does not blow small late differences up to full size. During the first
    `batches` batches s0 is the mean over those seen so far; then it stays.

    Attributes:
        batches: how many batches set the scale.
        clip: results are cut to [-clip, clip].
        epsilon: added to s0.
        count, total: the state: batches taken in, and the sum of their standard deviations.
    """

    name: ClassVar[str] = "fixed_scale"
    batches: int = 10
    clip: float = 6.0
    epsilon: float = EPSILON
    count: int = 0
    total: float = 0.0

    def __post_init__(self) -> None:
        """Refuse a scale made of nothing."""
        if self.batches < 1 or self.clip <= 0:
            raise RewardError(
                f"fixed_scale: batches must be >= 1 and clip > 0, got {self.batches}, {self.clip}"
            )

    @property
    def scale(self) -> float:
        """s0 as it stands; 0 before the first batch."""
        return self.total / self.count if self.count else 0.0

    def __call__(self, rewards: FloatArray, further: FloatArray | None = None) -> FloatArray:
        """Return the scaled rewards; a batch without valid ones leaves the state alone."""
        x, valid = _valid(rewards, further)
        if not valid.size:
            return x
        if self.count < self.batches:
            self.count += 1
            self.total += float(valid.std())
        z = (x - valid.mean()) / (self.scale + self.epsilon)
        return np.asarray(np.clip(z, -self.clip, self.clip))

    def get_state(self) -> JSON:
        """Return count and total."""
        return {"count": self.count, "total": self.total}

    def set_state(self, state: JSON) -> None:
        """Take count and total back."""
        self.count, self.total = int(state["count"]), state["total"]


@register_stabilizer("affine")
@dataclass
class Affine(_Stateless):
    """RLPrompt's reward shaping: maps [old] linearly onto [new], beyond the ends too.

    Its classification runs use old (0, 1), new (0, 5), which is 5z; style transfer new (-20, 80).
    """

    name: ClassVar[str] = "affine"
    old: tuple[float, float] = (0.0, 1.0)
    new: tuple[float, float] = (0.0, 5.0)

    def __post_init__(self) -> None:
        """Refuse an empty old range."""
        if self.old[0] == self.old[1]:
            raise RewardError(f"affine: the old range is empty: {self.old}")

    def __call__(self, rewards: FloatArray, further: FloatArray | None = None) -> FloatArray:
        """Return the mapped rewards."""
        (a, b), (c, d) = self.old, self.new
        return np.asarray((_joined(rewards, further) - a) / (b - a) * (d - c) + c)


@dataclass
class Chain:
    """Several stabilizers, one after the other."""

    parts: Sequence[Stabilizer] = field(default_factory=list)

    @property
    def name(self) -> str:
        """The names of the parts, joined."""
        return "+".join(part.name for part in self.parts)

    def __call__(self, rewards: FloatArray, further: FloatArray | None = None) -> FloatArray:
        """Apply the parts in order."""
        n = len(rewards)
        for part in self.parts:
            shaped = part(rewards, further)
            rewards, further = shaped[:n], shaped[n:]
        return _joined(rewards, further)

    def get_state(self) -> JSON:
        """Return the states of the parts, in order."""
        return {"parts": [part.get_state() for part in self.parts]}

    def set_state(self, state: JSON) -> None:
        """Hand every part its state."""
        for part, own in zip(self.parts, state["parts"], strict=True):
            part.set_state(own)


def _valid(rewards: FloatArray, further: FloatArray | None) -> tuple[FloatArray, FloatArray]:
    """Return all rewards as floats, and those of the batch that are not NaN."""
    x = np.asarray(rewards, dtype=np.float64)
    return _joined(x, further), x[~np.isnan(x)]


def _joined(rewards: FloatArray, further: FloatArray | None) -> FloatArray:
    """Return the batch's rewards and the further ones behind them, as floats."""
    parts = [rewards] if further is None else [rewards, further]
    return np.concatenate([np.asarray(part, dtype=np.float64) for part in parts])
