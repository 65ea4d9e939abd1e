"""Which failures are tried again, and when."""

from __future__ import annotations

import random
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from email.utils import parsedate_to_datetime
from typing import Literal

Status = Literal["api_error", "timeout", "refused", "parse_error"]

FIRST_WAIT = 0.5
LONGEST_WAIT = 30.0
AGAIN = frozenset({408, 425, 429, 500, 502, 503, 504, 520, 522, 524, 529})
_NEVER_CODES = frozenset({"insufficient_quota", "billing_hard_limit_reached"})
_REFUSED_CODES = frozenset({"content_filter", "content_policy_violation"})


@dataclass(frozen=True, slots=True)
class Fault:
    """What went wrong in one attempt.

    Attributes:
        status: the word a failure's reason starts with.
        what: what happened; holds no secret.
        again: whether another attempt may help.
        after: seconds the server asks to wait (Retry-After); None if it says nothing.
        http: the HTTP status; None if there was no whole answer.
        item: whether the request itself is at fault, so that others may still work.
        unmetered: whether the server may have done (and billed) work of unknown size.
    """

    status: Status
    what: str
    again: bool = False
    after: float | None = None
    http: int | None = None
    item: bool = False
    unmetered: bool = False

    def reason(self, attempts: int = 1) -> str:
        """Return the reason of a failure: `status: what happened (after n attempts)`."""
        tried = f" (after {attempts} attempts)" if attempts > 1 else ""
        return f"{self.status}: {self.what}{tried}"


def fault_of_answer(http: int, code: str, what: str, headers: Mapping[str, str]) -> Fault:
    """Return the fault that an HTTP status other than 200 stands for.

    Args:
        http: the status.
        code: `error.code` or `error.type` of the body; "" if there is none.
        what: what the server says, scrubbed.
        headers: of the answer.
    """
    if code in _REFUSED_CODES:
        return Fault("refused", f"HTTP {http}: {what}", http=http, item=True)
    again = http in AGAIN and code not in _NEVER_CODES
    if headers.get("x-should-retry") == "false":
        again = False
    word: Status = "timeout" if http in (408, 504, 524) else "api_error"
    item = http in (400, 413, 422)
    after = retry_after(headers) if again else None
    return Fault(word, f"HTTP {http}: {what}", again, after, http, item)


def retry_after(headers: Mapping[str, str]) -> float | None:
    """Return the seconds of `Retry-After` (a number or a date) or `retry-after-ms`; None without.

    What cannot be read counts as not there.
    """
    try:
        if (ms := headers.get("retry-after-ms")) is not None:
            return _seconds(float(ms) / 1000)
        value = headers.get("Retry-After")
        return None if value is None else _seconds(float(value))
    except ValueError:
        pass
    try:
        return _seconds(
            parsedate_to_datetime(str(headers.get("Retry-After"))).timestamp() - time.time()
        )
    except (ValueError, TypeError, OverflowError):
        return None


def _seconds(value: float) -> float | None:
    """Return a waiting time that is a number, at least 0."""
    return max(value, 0.0) if value == value else None


@dataclass(frozen=True, slots=True)
class Policy:
    """How long one request is tried.

    Attributes:
        timeout: seconds an attempt may take.
        deadline: seconds of all attempts and the pauses between them.
        retries: attempts after the first.
        random: where jitter comes from; private, so that no seeded generator is touched.
    """

    timeout: float = 60.0
    deadline: float = 300.0
    retries: int = 5
    random: random.Random = field(default_factory=random.Random, compare=False, repr=False)

    def pause(self, attempt: int, after: float | None) -> float:
        """Return the seconds to wait after an attempt that failed (counted from 0).

        The wait doubles from half a second to 30 seconds, and is drawn from its upper half; it is
        never shorter than what the server asked for.
        """
        full = min(FIRST_WAIT * 2.0**attempt, LONGEST_WAIT)
        wait = full * self.random.uniform(0.5, 1.0)
        return wait if after is None else after + self.random.uniform(0.0, min(full, 0.5))


class Streak:
    """Counts requests that failed in a row, so that a call does not go on with a dead server."""

    def __init__(self, limit: int) -> None:
        """Start at none."""
        self.limit = limit
        self.count = 0
        self.last = ""

    def note(self, fault: Fault | None) -> None:
        """Take note of how a request ended; None is well."""
        if fault is None:
            self.count = 0
        elif not fault.item and fault.status in ("api_error", "timeout"):
            self.count += 1
            self.last = fault.reason()

    def broken(self) -> Fault | None:
        """Return the fault of every further request, once too many failed."""
        if self.count < self.limit:
            return None
        what = f"not asked, since the last {self.count} requests of this call failed; the last: "
        return Fault("api_error", what + self.last)
