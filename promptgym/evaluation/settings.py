"""Settings that come as text or JSON, checked against the dataclass they are for."""

from __future__ import annotations

import types
from collections.abc import Mapping, Sequence
from dataclasses import fields
from difflib import get_close_matches
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

from promptgym.errors import ConfigError
from promptgym.search import Optimizer
from promptgym.types import JSON


def check_settings(optimizer: Optimizer, settings: JSON) -> None:
    """Refuse settings that an optimizer does not have, or of the wrong type.

    Args:
        optimizer: any one of the method; its hyperparameters are its own fields, or those of its
            `config`.
        settings: name -> plain JSON value.

    Raises:
        ConfigError: naming setting, value and what was expected.
    """
    owner: Any = getattr(optimizer, "config", optimizer)
    if not hasattr(owner, "__dataclass_fields__"):
        return
    hints = get_type_hints(type(owner))
    known = [f.name for f in fields(owner) if f.init]
    for name, value in settings.items():
        if name not in known:
            close = get_close_matches(name, known, n=1)
            hint = f"; did you mean {close[0]!r}?" if close else ""
            raise ConfigError(
                f"{optimizer.name} has no setting {name!r}{hint} Its settings: {', '.join(known)}"
            )
        if not fits(value, hints[name]):
            raise ConfigError(
                f"{optimizer.name}: setting {name} takes {type_name(hints[name])}, got {value!r}"
            )


def fits(value: Any, hint: Any) -> bool:
    """Whether a plain JSON value may stand where a type is declared: a list for a tuple, 1 for 1.0.

    Types that JSON has no word for are let through: their owner checks them.
    """
    origin, arguments = get_origin(hint), get_args(hint)
    if origin is Literal:
        return value in arguments
    if origin in (Union, types.UnionType):
        return any(fits(value, a) for a in arguments)
    if hint is type(None):
        return value is None
    if hint in (bool, str):
        return isinstance(value, hint)
    if hint is int:
        return isinstance(value, int) and not isinstance(value, bool)
    if hint is float:
        return isinstance(value, (int, float)) and not isinstance(value, bool)
    plain = origin or hint
    if isinstance(plain, type) and issubclass(plain, Mapping):
        return isinstance(value, dict)
    if isinstance(plain, type) and issubclass(plain, Sequence):
        return isinstance(value, (list, tuple)) and _items_fit(value, plain, arguments)
    return True


def _items_fit(value: Sequence[Any], plain: type, arguments: tuple[Any, ...]) -> bool:
    """Whether the items of a list fit `tuple[A, B]`, `tuple[A, ...]` or `Sequence[A]`."""
    if not arguments:
        return True
    if plain is tuple and arguments[-1] is not Ellipsis:
        return len(value) == len(arguments) and all(map(fits, value, arguments))
    return all(fits(item, arguments[0]) for item in value)


def type_name(hint: Any) -> str:
    """Return a type as it is written."""
    return hint.__name__ if isinstance(hint, type) and not get_args(hint) else str(hint)
