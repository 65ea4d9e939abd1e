"""How the answers of one prompt on one set of examples become bytes, and come back."""

from __future__ import annotations

import json
import zlib
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from promptgym.types import FloatArray, IntArray, ObjectArray

Pair = tuple[FloatArray | ObjectArray, IntArray]


class Packed(NamedTuple):
    """One row as it is stored.

    Attributes:
        answers: little-endian float64 of shape (n, L), or a JSON list of n completions.
        tokens: little-endian int32 of shape (n,).
        check: CRC-32 of both.
    """

    answers: bytes
    tokens: bytes
    check: int


def pack(answers: FloatArray | ObjectArray, tokens: IntArray) -> Packed:
    """Pack answers, shape (n, L) or (n,) of text, and tokens read and written, shape (n,)."""
    if answers.dtype == np.object_:
        first = json.dumps(answers.tolist()).encode()
    else:
        first = np.ascontiguousarray(answers, dtype="<f8").tobytes()
    second = tokens.astype("<i4").tobytes()
    return Packed(first, second, zlib.crc32(second, zlib.crc32(first)))


def unpack(row: Packed, n: int, labels: int | None) -> Pair | None:
    """Return answers, shape (n, L) or (n,), and tokens, shape (n,), of one row."""
    return unpack_many([row], n, labels)[0]


def unpack_many(rows: Sequence[Packed], n: int, labels: int | None) -> list[Pair | None]:
    """Return answers and tokens of rows; None for one that is damaged.

    Args:
        rows: what was stored.
        n: examples of their set.
        labels: number of labels; None for completions.
    """
    if labels is None:
        return [_unpack_texts(row, n) for row in rows]
    sizes, crc = (8 * n * labels, 4 * n), zlib.crc32
    whole = [
        (len(first), len(second)) == sizes and crc(second, crc(first)) == check
        for first, second, check in rows
    ]
    good = [row for row, ok in zip(rows, whole, strict=True) if ok]
    answers = np.frombuffer(b"".join([row[0] for row in good]), dtype="<f8")
    tokens = np.frombuffer(b"".join([row[1] for row in good]), dtype="<i4")
    pairs = zip(answers.reshape(-1, n, labels), tokens.reshape(-1, n), strict=True)
    return [next(pairs) if ok else None for ok in whole]


def _unpack_texts(row: Packed, n: int) -> Pair | None:
    """Return the completions and tokens of a row; None if it is damaged."""
    answers, tokens = row.answers, row.tokens
    if zlib.crc32(tokens, zlib.crc32(answers)) != row.check or len(tokens) != 4 * n:
        return None
    texts = json.loads(answers)
    if len(texts) != n:
        return None
    out = np.empty(n, dtype=np.object_)
    out[:] = texts
    return out, np.frombuffer(tokens, dtype="<i4")
