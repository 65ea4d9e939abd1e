"""Options of agents and baselines, checked in one way: numbers in a range, words of a choice."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal, get_origin

from promptgym.arguments import fits, hints, type_name
from promptgym.errors import ConfigError


@dataclass(frozen=True, slots=True)
class Range:
    """Numbers from `low` (itself left out if `above`) to `high` (left out if `below`)."""

    low: float
    high: float = math.inf
    above: bool = False
    below: bool = False

    def holds(self, value: float) -> bool:
        """Whether a number is within; NaN never is."""
        return (self.low < value if self.above else self.low <= value) and (
            value < self.high if self.below else value <= self.high
        )

    def __str__(self) -> str:
        """Say it as in "must be ..."."""
        least = f"above {self.low:g}" if self.above else f"at least {self.low:g}"
        if math.isinf(self.high):
            return f"{least} and finite" if self.below else least
        return f"{least} and {'below' if self.below else 'at most'} {self.high:g}"


COUNT = Range(1)
NOT_NEGATIVE = Range(0)
POSITIVE = Range(0, above=True)
FINITE = Range(0, above=True, below=True)
SHARE = Range(0, 1)


def check_ranges(who: str, config: Any, ranges: Mapping[Range, tuple[str, ...]]) -> None:
    """Refuse numbers out of range; None is let through.

    Args:
        who: registered name, for the message.
        config: a dataclass of options.
        ranges: range -> names of fields, of numbers or tuples of them.

    Raises:
        ConfigError: naming who, field, value and range.
    """
    for wanted, names in ranges.items():
        for name in names:
            value = getattr(config, name)
            numbers = value if isinstance(value, tuple) else (value,)
            if not all(n is None or wanted.holds(n) for n in numbers):
                raise ConfigError(f"{who}: {name} must be {wanted}, got {value}")


def check_choices(who: str, config: Any) -> None:
    """Refuse a value that is none of its field's `Literal`.

    Args:
        who: registered name, for the message.
        config: a dataclass of options.

    Raises:
        ConfigError: naming who, field, value and choices.
    """
    for name, hint in hints(type(config)).items():
        value = getattr(config, name)
        if get_origin(hint) is Literal and not fits(value, hint):
            raise ConfigError(f"{who}: {name} must be {type_name(hint)}, got {value!r}")
