"""The outcomes of prompts x examples as a log holds them: one bit each where they are 0 or 1."""

from __future__ import annotations

import base64
import binascii
from collections.abc import Sequence
from typing import Any

import numpy as np

from promptgym.leaderboard.files import Refused
from promptgym.prompts import Example, Prompt
from promptgym.scoring import Scores
from promptgym.scoring.scores import OK, SKIPPED, STATUS_NAMES
from promptgym.tasks import Metric
from promptgym.types import JSON

DIGITS = 6
"""Decimals that are kept of outcomes between 0 and 1."""
MOST_PAIRS = 20_000_000
"""Prompts x examples of one row, at most."""


def to_json(scores: Scores) -> JSON:
    """Return outcomes as JSON.

    Args:
        scores: of P prompts and E examples.

    Returns:
        `bits`, the P x E outcomes, row by row, eight a byte, in base64; or `values`, numbers, where
        some are neither 0 nor 1. `failed` lists [place, status] of those that are no outcome: what
        is written for them means nothing.
    """
    flat, status = scores.values.reshape(-1), scores.status.reshape(-1)
    bad = np.flatnonzero(status != OK)
    kept = np.where(status == OK, flat, 0.0)
    failed = [[int(place), STATUS_NAMES[status[place]]] for place in bad]
    if np.isin(kept, (0.0, 1.0)).all():
        bits = base64.b64encode(np.packbits(kept.astype(bool)).tobytes()).decode()
        return {"bits": bits, "failed": failed}
    return {"values": [round(float(value), DIGITS) for value in kept], "failed": failed}


def from_json(
    row: Any, prompts: Sequence[Prompt], examples: Sequence[Example], metric: Metric
) -> Scores:
    """Return the scores that `to_json` was given, as far as outcomes go.

    Raises:
        Refused: if there are not as many outcomes as pairs, or they are none.
    """
    shape = len(prompts), len(examples)
    size = shape[0] * shape[1]
    if size > MOST_PAIRS:
        raise Refused(f"a row of {size:,} outcomes; at most {MOST_PAIRS:,} are read")
    if not isinstance(row, dict) or set(row) not in ({"bits", "failed"}, {"values", "failed"}):
        raise Refused("outcomes are bits or values, and those that failed")
    values = _bits(row["bits"], size) if "bits" in row else _numbers(row["values"], size)
    status = np.full(size, OK, dtype=np.int8)
    for pair in _list(row["failed"]):
        place, name = pair if isinstance(pair, list) and len(pair) == 2 else (None, None)
        if type(place) is not int or not 0 <= place < size or name not in STATUS_NAMES[1:]:
            raise Refused(f"{pair!r} is no failed outcome of {size}")
        status[place], values[place] = STATUS_NAMES.index(name), np.nan
    return Scores(
        prompts=tuple(prompts),
        examples=tuple(examples),
        metric=metric,
        values=values.reshape(shape),
        status=status.reshape(shape),
    )


def check_answered(scores: Scores, rewards: Sequence[Any]) -> None:
    """Refuse outcomes and rewards that no scorer gives, and with which a prompt could be hidden.

    A prompt is asked about all examples of a row or, where the budget ends, about none. It has a
    reward if it was answered at all.

    Raises:
        Refused: saying which it is.
    """
    skipped = scores.status == SKIPPED
    if (skipped.any(axis=1) & ~skipped.all(axis=1)).any():
        raise Refused("a prompt was asked about some of the examples, and others were skipped")
    for reward, answered in zip(rewards, (scores.status == OK).any(axis=1), strict=True):
        if reward is None and answered:
            raise Refused("a prompt that was answered has no reward")
        if reward is not None and type(reward) not in (int, float):
            raise Refused(f"{reward!r} is no reward")


def _bits(text: Any, size: int) -> np.ndarray[Any, np.dtype[np.float64]]:
    """Return outcomes that are bits."""
    try:
        data = base64.b64decode(text, validate=True)
    except (TypeError, ValueError, binascii.Error):
        raise Refused("bits are not base64") from None
    if len(data) != (size + 7) // 8:
        raise Refused(f"{len(data)} bytes of bits are not {size} outcomes")
    return np.unpackbits(np.frombuffer(data, np.uint8), count=size).astype(np.float64)


def _numbers(given: Any, size: int) -> np.ndarray[Any, np.dtype[np.float64]]:
    """Return outcomes that are numbers."""
    found = _list(given)
    if len(found) != size or not all(type(v) in (int, float) for v in found):
        raise Refused(f"{len(found)} values are not {size} outcomes")
    return np.array(found, dtype=np.float64)


def _list(given: Any) -> list[Any]:
    """Return a list that should be one."""
    if not isinstance(given, list):
        raise Refused(f"expected a list of outcomes, got {type(given).__name__}")
    return given
