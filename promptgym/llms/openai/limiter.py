"""`Limiter`: when the next request may go to a server. One for all models of a server."""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

MINUTE = 60.0
CONCURRENCY = 32


@dataclass(slots=True)
class Ticket:
    """One admitted request: when, and how many tokens it is counted with."""

    time: float
    tokens: float


class Window:
    """What was admitted within the last 60 seconds, against a limit.

    The sum over any 60 seconds never crosses the limit, unless a single request is larger than the
    limit: that one goes when the window is empty.
    """

    def __init__(self, limit: float) -> None:
        """Start empty; `limit` is per minute."""
        self.limit = limit
        self.total = 0.0
        self.held: deque[tuple[Ticket, float]] = deque()

    def wait(self, now: float, amount: float) -> float:
        """Return the seconds until an amount fits; 0 if it does now."""
        self._drop(now)
        if not self.held or self.total + amount <= self.limit:
            return 0.0
        left, last = self.total, now
        for ticket, held in self.held:
            left, last = left - held, ticket.time
            if left + amount <= self.limit:
                break
        return max(last + MINUTE - now, 0.001)

    def add(self, ticket: Ticket, amount: float) -> None:
        """Count an admitted amount."""
        self.held.append((ticket, amount))
        self.total += amount

    def change(self, ticket: Ticket, amount: float) -> None:
        """Put the true amount of a request in place of the expected one."""
        for place in range(len(self.held) - 1, -1, -1):
            if self.held[place][0] is ticket:
                self.total += amount - self.held[place][1]
                self.held[place] = (ticket, amount)
                return

    def _drop(self, now: float) -> None:
        """Forget what is a minute old."""
        while self.held and self.held[0][0].time + MINUTE <= now:
            self.total -= self.held.popleft()[1]
        if not self.held:
            self.total = 0.0


class Limiter:
    """Admits requests in the order they ask. For use on one event loop.

    Attributes:
        concurrency: requests under way at a time.
        in_flight: requests under way now.
        most_in_flight: the most there ever were.
    """

    def __init__(
        self,
        *,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        """Start with 32 at a time and no limit per minute."""
        self.concurrency = CONCURRENCY
        self.in_flight = 0
        self.most_in_flight = 0
        self._requests: Window | None = None
        self._tokens: Window | None = None
        self._paused_until = float("-inf")
        self._waiting: deque[asyncio.Future[None]] = deque()
        self._turn = asyncio.Lock()
        self._clock = clock
        self._sleep = sleep

    def set(
        self, concurrency: int | None, requests: float | None = None, tokens: float | None = None
    ) -> None:
        """Change limits from now on; None leaves one as it is.

        Args:
            concurrency: requests at a time.
            requests: requests a minute.
            tokens: tokens a minute.
        """
        if concurrency is not None:
            self.concurrency = concurrency
            self._admit_waiting()
        if requests is not None:
            self._requests = self._requests or Window(requests)
            self._requests.limit = requests
        if tokens is not None:
            self._tokens = self._tokens or Window(tokens)
            self._tokens.limit = tokens

    async def acquire(self, tokens: float) -> Ticket:
        """Wait until a request of so many tokens may go; `release` must follow."""
        await self._slot()
        try:
            if self._requests or self._tokens or self.paused_for() > 0:
                async with self._turn:  # first come, first served
                    while (wait := self._wait(tokens)) > 0:
                        await self._sleep(wait)
                    return self._count(tokens)
            return Ticket(0.0, tokens)
        except BaseException:
            self._free()
            raise

    def release(self, ticket: Ticket, tokens: float | None = None) -> None:
        """End a request.

        Args:
            ticket: what `acquire` gave.
            tokens: how many it truly had, if that is known.
        """
        if tokens is not None and self._tokens is not None:
            self._tokens.change(ticket, tokens)
        self._free()

    def pause(self, seconds: float) -> None:
        """Admit nothing for so many seconds: the server has asked for it."""
        self._paused_until = max(self._paused_until, self._clock() + seconds)

    def paused_for(self) -> float:
        """Return the seconds a pause still lasts; 0 or less if there is none."""
        return self._paused_until - self._clock()

    def _wait(self, tokens: float) -> float:
        """Return the seconds until a request may go."""
        now = self._clock()
        wait = max(self._paused_until - now, 0.0)
        if self._requests is not None:
            wait = max(wait, self._requests.wait(now, 1))
        if self._tokens is not None:
            wait = max(wait, self._tokens.wait(now, tokens))
        return wait

    def _count(self, tokens: float) -> Ticket:
        """Book an admitted request."""
        ticket = Ticket(self._clock(), tokens)
        if self._requests is not None:
            self._requests.add(ticket, 1)
        if self._tokens is not None:
            self._tokens.add(ticket, tokens)
        return ticket

    async def _slot(self) -> None:
        """Wait for one of the places under way."""
        if self.in_flight < self.concurrency and not self._waiting:
            self._enter()
            return
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.append(future)
        try:
            await future
        except BaseException:
            if future.done() and not future.cancelled():
                self._free()  # a place was given in the very moment of being cancelled
            elif future in self._waiting:
                self._waiting.remove(future)
            raise

    def _enter(self) -> None:
        """Take a place."""
        self.in_flight += 1
        self.most_in_flight = max(self.most_in_flight, self.in_flight)

    def _free(self) -> None:
        """Give a place back."""
        self.in_flight -= 1
        self._admit_waiting()

    def _admit_waiting(self) -> None:
        """Hand free places to those who wait, in order."""
        while self._waiting and self.in_flight < self.concurrency:
            future = self._waiting.popleft()
            if not future.cancelled():
                self._enter()
                future.set_result(None)
