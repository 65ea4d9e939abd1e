"""Exact comparison of nested data, with the place of the first difference."""

from __future__ import annotations

from typing import Any

import numpy as np


def expect(condition: bool, message: str) -> None:
    """Raise AssertionError with a message unless a condition holds (also under `python -O`)."""
    if not condition:
        raise AssertionError(message)


def difference(expected: Any, found: Any, path: str = "") -> str | None:
    """Return where two nested values first differ, and how; None if they are equal.

    Dicts, sequences, arrays (object arrays element by element) and scalars are compared exactly,
    data types included; NaN equals NaN.
    """
    here = path or "value"
    if isinstance(expected, dict) and isinstance(found, dict):
        if expected.keys() != found.keys():
            odd = sorted(map(str, expected.keys() ^ found.keys()))
            return f"{here}: the keys {odd} are in one of the two only"
        pairs = ((f"{path}[{key!r}]", expected[key], found[key]) for key in expected)
        return _first(pairs)
    if isinstance(expected, np.ndarray) and isinstance(found, np.ndarray):
        if expected.shape != found.shape or expected.dtype != found.dtype:
            return (
                f"{here}: expected {expected.dtype} of shape {expected.shape}, found {found.dtype} "
                f"of shape {found.shape}"
            )
        if expected.dtype != np.object_:
            same = np.array_equal(expected, found, equal_nan=expected.dtype.kind == "f")
            return None if same else f"{here}: expected {expected}, found {found}"
    elif type(expected) is not type(found):
        return f"{here}: expected {expected!r}, found {found!r}"
    if isinstance(expected, (tuple, list, np.ndarray)):
        if len(expected) != len(found):
            return f"{here}: expected {len(expected)} items, found {len(found)}"
        both = zip(expected, found, strict=True)
        return _first((f"{path}[{i}]", one, two) for i, (one, two) in enumerate(both))
    both_nan = isinstance(expected, float) and expected != expected and found != found
    return (
        None if both_nan or expected == found else f"{here}: expected {expected!r}, found {found!r}"
    )


def _first(pairs: Any) -> str | None:
    """Return the first difference of (path, expected, found) triples."""
    return next((d for p, one, two in pairs if (d := difference(one, two, p)) is not None), None)


def shared_memory(one: Any, two: Any) -> bool:
    """Return whether two nested values share a dict, a list or an array's memory."""
    mine, theirs = list(_containers(one)), list(_containers(two))
    ids = {id(value) for value in mine}
    if any(id(value) in ids for value in theirs):
        return True
    arrays = [value for value in theirs if isinstance(value, np.ndarray)]
    return any(np.shares_memory(a, b) for a in mine if isinstance(a, np.ndarray) for b in arrays)


def _containers(value: Any) -> Any:
    """Yield the dicts, lists and arrays of a nested value."""
    if isinstance(value, (dict, list, np.ndarray)):
        yield value
    if isinstance(value, dict):
        value = list(value.values())
    if isinstance(value, (list, tuple)):
        for item in value:
            yield from _containers(item)
