"""Ranges of hyperparameters, checked in one way by all agents."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from promptgym.errors import ConfigError


@dataclass(frozen=True, slots=True)
class Range:
    """Numbers from `low` (itself left out if `above`) to `high`."""

    low: float
    high: float = math.inf
    above: bool = False

    def holds(self, value: float) -> bool:
        """Whether a number is within; NaN never is."""
        return (self.low < value if self.above else self.low <= value) and value <= self.high

    def __str__(self) -> str:
        """Say it as in "must be ..."."""
        least = f"above {self.low:g}" if self.above else f"at least {self.low:g}"
        return least if math.isinf(self.high) else f"{least} and at most {self.high:g}"


COUNT = Range(1)
NOT_NEGATIVE = Range(0)
POSITIVE = Range(0, above=True)
SHARE = Range(0, 1)


def check_ranges(agent: str, config: Any, ranges: Mapping[Range, tuple[str, ...]]) -> None:
    """Refuse hyperparameters out of range; None is let through.

    Args:
        agent: registered name, for the message.
        config: a dataclass of hyperparameters.
        ranges: range -> names of fields, of numbers or tuples of them.

    Raises:
        ConfigError: naming agent, field, value and range.
    """
    for wanted, names in ranges.items():
        for name in names:
            value = getattr(config, name)
            numbers = value if isinstance(value, tuple) else (value,)
            if not all(n is None or wanted.holds(n) for n in numbers):
                raise ConfigError(f"{agent}: {name} must be {wanted}, got {value}")
