"""What requests used and cost. What is not known stays unknown; it is never 0."""

from __future__ import annotations

import threading
from contextvars import ContextVar
from dataclasses import dataclass, replace
from typing import Any

MILLION = 1e6
MOST = 2**40  # tokens that a request may claim to have read or written


@dataclass(frozen=True, slots=True)
class Price:
    """USD per million tokens read and written; None is unknown."""

    read: float | None = None
    written: float | None = None

    def usd(self, tokens_in: int, tokens_out: int) -> float | None:
        """Return what tokens cost; None if a price that counts is unknown."""
        total = 0.0
        for price, tokens in ((self.read, tokens_in), (self.written, tokens_out)):
            if tokens and price is None:
                return None
            total += tokens * (price or 0.0) / MILLION
        return total


@dataclass(frozen=True, slots=True)
class Usage:
    """What a model's requests have used so far.

    Attributes:
        requests: requests that were answered.
        attempts: requests sent, those that failed and were sent again included.
        tokens_in: tokens read, as the server counts them.
        tokens_out: tokens written, as the server counts them.
        unmetered: requests whose use is unknown: answered without a count, timed out or cut off.
        known_usd: what is known to have been spent; a lower bound of the true sum.
        unpriced: requests whose cost is unknown: no price, or no count.
        under_way: attempts sent of which nothing is known yet.
    """

    requests: int = 0
    attempts: int = 0
    tokens_in: int = 0
    tokens_out: int = 0
    unmetered: int = 0
    known_usd: float = 0.0
    unpriced: int = 0
    under_way: int = 0

    @property
    def usd(self) -> float | None:
        """What was spent; None as soon as the cost of a single request is unknown."""
        return None if self.unpriced else self.known_usd


def tokens_of(body: dict[str, Any]) -> tuple[int, int] | None:
    """Return (read, written) of an answer's `usage`; None if it has none that makes sense."""
    usage = body.get("usage")
    if not isinstance(usage, dict):
        return None
    counts = usage.get("prompt_tokens"), usage.get("completion_tokens", 0)
    read, written = (0 if n is None and i else n for i, n in enumerate(counts))
    for count in (read, written):
        if not isinstance(count, int) or isinstance(count, bool) or not 0 <= count < MOST:
            return None
    return read, written


class Meter:
    """Adds up usage; may be read from any thread."""

    def __init__(self, price: Price) -> None:
        """Start at nothing."""
        self.price = price
        self._usage = Usage()
        self._lock = threading.Lock()

    def __getstate__(self) -> dict[str, Any]:
        """Pickle price and use, without the lock."""
        return {"price": self.price, "_usage": self._usage}

    def __setstate__(self, state: dict[str, Any]) -> None:
        """Take price and use, with a lock of its own."""
        vars(self).update(state)
        self._lock = threading.Lock()

    def sent(self) -> None:
        """Count an attempt."""
        self._add(attempts=1, under_way=1)

    def back(self) -> None:
        """Count an attempt as over, whatever came of it."""
        self._add(under_way=-1)

    def answered(self, tokens: tuple[int, int] | None) -> None:
        """Count an answer and what it says it used; None if it does not say."""
        usd = None if tokens is None else self.price.usd(*tokens)
        self._add(
            requests=1,
            tokens_in=tokens[0] if tokens else 0,
            tokens_out=tokens[1] if tokens else 0,
            unmetered=int(tokens is None),
            known_usd=usd or 0.0,
            unpriced=int(usd is None),
        )

    def lost(self) -> None:
        """Count an attempt that may have been billed, though no answer came of it."""
        self._add(unmetered=1, unpriced=1)

    def _add(self, **more: float) -> None:
        """Add to what was used, here and in the book of whom the work is for."""
        book = BOOK.get()
        for meter in (self,) if book is None else (self, book):
            with meter._lock:
                old = meter._usage
                meter._usage = replace(old, **{n: getattr(old, n) + x for n, x in more.items()})

    def usage(self) -> Usage:
        """Return what was used so far."""
        return self._usage


BOOK: ContextVar[Meter | None] = ContextVar("book", default=None)
"""A second meter, of whoever has the requests under way made; None for nobody's."""
