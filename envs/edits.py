"""Edits of sequences: the same for words and for demonstrations."""

from __future__ import annotations

from typing import TypeVar

T = TypeVar("T")


def edit(items: tuple[T, ...], operation: str, position: int, item: T) -> tuple[tuple[T, ...], str]:
    """Edit a sequence at a position; beyond the last place means the last.

    Args:
        items: the sequence.
        operation: "insert" (before the position), "replace", "delete" or "remove", "swap" (with
            the next; the last with the first).
        position: where, from 0.
        item: what to insert or to replace by.

    Returns:
        The new sequence and a note of what was done, e.g. `'exactly' at 3`.

    Raises:
        ValueError: for an operation that does not exist, or on an empty sequence.
    """
    if operation == "insert":
        at = min(position, len(items))
        return (*items[:at], item, *items[at:]), f"{item!r} at {at}"
    if not items:
        raise ValueError(f"{operation} needs a sequence with something in it")
    at = min(position, len(items) - 1)
    head, old, tail = items[:at], items[at], items[at + 1 :]
    if operation == "replace":
        return (*head, item, *tail), f"{old!r} by {item!r} at {at}"
    if operation in ("delete", "remove"):
        return (*head, *tail), f"{old!r} at {at}"
    if operation == "swap":
        other = (at + 1) % len(items)
        swapped = list(items)
        swapped[at], swapped[other] = swapped[other], swapped[at]
        return tuple(swapped), f"{old!r} and {items[other]!r}"
    raise ValueError(f"unknown operation {operation!r}")
