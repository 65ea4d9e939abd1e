"""Arguments that come as text or JSON, checked against the annotations of what takes them."""

from __future__ import annotations

import inspect
import os
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import is_dataclass
from difflib import get_close_matches
from functools import wraps
from numbers import Integral, Real
from types import UnionType
from typing import Any, Literal, ParamSpec, TypeVar, Union, get_args, get_origin, get_type_hints

from promptgym.errors import PromptGymError

P = ParamSpec("P")
T = TypeVar("T")


def hints(taker: Callable[..., Any]) -> dict[str, Any]:
    """Return the arguments of a function or class with their types, `Any` where there is none.

    Of a method, `self` is none of them.
    """
    source: Any = taker
    if inspect.isclass(taker) and not is_dataclass(taker):
        source = taker.__init__
    try:
        known = get_type_hints(source)
    except NameError:  # a name that is imported for type checkers only
        known = {}
    return {
        name: known.get(name, Any)
        for name, parameter in inspect.signature(taker).parameters.items()
        if parameter.kind not in (parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD)
        and name != "self"
    }


def takes_any(taker: Callable[..., Any]) -> bool:
    """Whether a function or class takes arguments under names that it does not declare."""
    return any(p.kind is p.VAR_KEYWORD for p in inspect.signature(taker).parameters.values())


def check_arguments(
    who: str,
    known: Mapping[str, Any],
    given: Mapping[str, Any],
    error: type[PromptGymError],
    *,
    what: str = "argument",
) -> None:
    """Refuse arguments that are not known, or of the wrong type.

    Args:
        who: what takes them.
        known: name -> type.
        given: name -> value.
        error: what is raised.
        what: how one of them is called.
    """
    for name, value in given.items():
        if name not in known:
            close = get_close_matches(name, known, n=1)
            hint = f"; did you mean {close[0]!r}?" if close else "."
            raise error(f"{who} has no {what} {name!r}{hint} It takes: {', '.join(known)}")
        if not fits(value, known[name]):
            raise error(f"{who}: {what} {name} takes {type_name(known[name])}, got {value!r}")


def checked(error: type[PromptGymError]) -> Callable[[Callable[P, T]], Callable[P, T]]:
    """Check the arguments of each call of a function (see `check_arguments`).

    What goes into `**options` is for whom they are passed on to.
    """

    def around(function: Callable[P, T]) -> Callable[P, T]:
        own = int("self" in inspect.signature(function).parameters)

        @wraps(function)
        def call(*args: P.args, **kwargs: P.kwargs) -> T:
            known = hints(function)
            placed = dict(zip(known, args[own:], strict=False))
            given = {**placed, **kwargs}
            if takes_any(function):
                given = {name: value for name, value in given.items() if name in known}
            who = function.__qualname__.removesuffix(".__init__")
            check_arguments(who, known, given, error)
            for name in placed.keys() & kwargs.keys():  # of options that somebody passes on
                raise error(f"{who}: {name} is {placed[name]!r} already; leave out {name!r}")
            return function(*args, **kwargs)

        return call

    return around


def fits(value: Any, hint: Any) -> bool:
    """Whether a value may stand where a type is declared: a list for a tuple, 1 for 1.0.

    Types that JSON has no word for are let through: their owner checks them.
    """
    origin, arguments = get_origin(hint), get_args(hint)
    if origin is Literal:
        return value in arguments
    if origin in (Union, UnionType):
        return any(fits(value, a) for a in arguments)
    if hint is type(None):
        return value is None
    if hint in (bool, str):
        return isinstance(value, hint)
    if hint in (int, float):
        number = Integral if hint is int else Real
        return isinstance(value, number) and not isinstance(value, bool)
    plain = origin or hint
    if not isinstance(plain, type):
        return True
    if issubclass(plain, Mapping):
        pairs = value.items() if isinstance(value, Mapping) else [(None, None)]
        return isinstance(value, Mapping) and all(
            fits(part, kind) for pair in pairs for part, kind in zip(pair, arguments, strict=False)
        )
    if issubclass(plain, Sequence):
        return _is_list(value) and _items_fit(value, plain, arguments)
    if issubclass(plain, os.PathLike):
        return isinstance(value, os.PathLike)
    return True


def _is_list(value: Any) -> bool:
    return isinstance(value, Sequence) and not isinstance(value, (str, bytes))


def _items_fit(value: Sequence[Any], plain: type, arguments: tuple[Any, ...]) -> bool:
    """Whether the items of a list fit `tuple[A, B]`, `tuple[A, ...]` or `Sequence[A]`."""
    if not arguments:
        return True
    if plain is tuple and arguments[-1] is not Ellipsis:
        return len(value) == len(arguments) and all(map(fits, value, arguments))
    return all(fits(item, arguments[0]) for item in value)


def type_name(hint: Any) -> str:
    """Return a type as it is written."""
    if get_origin(hint) is Literal:
        return " or ".join(map(repr, get_args(hint)))
    if get_origin(hint) in (Union, UnionType):
        return " or ".join(map(type_name, get_args(hint)))
    if isinstance(hint, type) and not get_args(hint):
        return hint.__name__.replace("NoneType", "None")
    return re.sub(r"(\w+\.)+(?=\w)", "", str(hint))
