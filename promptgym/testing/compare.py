"""Comparison of nested data, with the place of the first difference."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np
import numpy.typing as npt


def expect(condition: bool, message: str) -> None:
    """Raise AssertionError with a message unless a condition holds (also under `python -O`)."""
    if not condition:
        raise AssertionError(message)


def difference(expected: Any, found: Any, path: str = "", *, tolerance: float = 0.0) -> str | None:
    """Return where two nested values first differ, and how; None if they are equal.

    Dicts, sequences, arrays (object arrays element by element) and scalars are compared, data types
    included; NaN equals NaN. Floats may differ by `tolerance * max(1, |expected|)`.
    """
    here = path or "value"
    if isinstance(expected, dict) and isinstance(found, dict):
        if expected.keys() != found.keys():
            odd = sorted(map(str, expected.keys() ^ found.keys()))
            return f"{here}: the keys {odd} are in one of the two only"
        pairs = ((f"{path}[{key!r}]", expected[key], found[key]) for key in expected)
        return _first(pairs, tolerance)
    if isinstance(expected, np.ndarray) and isinstance(found, np.ndarray):
        if expected.shape != found.shape or expected.dtype != found.dtype:
            return (
                f"{here}: expected {expected.dtype} of shape {expected.shape}, found {found.dtype} "
                f"of shape {found.shape}"
            )
    elif type(expected) is not type(found):
        return f"{here}: expected {expected!r}, found {found!r}"
    plain = isinstance(expected, np.ndarray) and expected.dtype != np.object_
    if isinstance(expected, (tuple, list, np.ndarray)) and not plain:
        if len(expected) != len(found):
            return f"{here}: expected {len(expected)} items, found {len(found)}"
        both = enumerate(zip(expected, found, strict=True))
        return _first(((f"{path}[{i}]", one, two) for i, (one, two) in both), tolerance)
    if plain or isinstance(expected, (float, np.floating)):
        same = _close(np.asarray(expected), np.asarray(found), tolerance)
    else:
        same = bool(expected == found)
    return None if same else f"{here}: expected {expected!r}, found {found!r}"


def _close(expected: npt.NDArray[Any], found: npt.NDArray[Any], tolerance: float) -> bool:
    """Whether arrays of one shape and type are equal, floats up to a tolerance."""
    if expected.dtype.kind != "f":
        return np.array_equal(expected, found)
    near = np.abs(found - expected) <= tolerance * np.maximum(1.0, np.abs(expected))
    same = near | (expected == found) | (np.isnan(expected) & np.isnan(found))
    return bool(np.all(same))


def _first(pairs: Iterable[tuple[str, Any, Any]], tolerance: float) -> str | None:
    """Return the first difference of (path, expected, found) triples."""
    found = (difference(one, two, path, tolerance=tolerance) for path, one, two in pairs)
    return next((where for where in found if where is not None), None)


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
