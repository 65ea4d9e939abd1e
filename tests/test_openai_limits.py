"""What the openai: backend waits for: its limiter, and what is tried again when."""

from __future__ import annotations

import asyncio
import itertools
import time
from collections.abc import Callable, Coroutine
from email.utils import formatdate
from typing import Any

import pytest

from promptgym.llms.openai.limiter import MINUTE, Limiter
from promptgym.llms.openai.retry import Policy, fault_of_answer, retry_after


class Clock:
    """Time that passes when somebody sleeps, and how the event loop wakes sleepers in order."""

    def __init__(self) -> None:
        """Start at 0."""
        self.now = 0.0
        self.sleepers: list[tuple[float, int, asyncio.Future[None]]] = []
        self.order = itertools.count()

    async def sleep(self, seconds: float) -> None:
        """Sleep until the clock has moved on."""
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.sleepers.append((self.now + seconds, next(self.order), future))
        await future

    async def drive(self, work: Coroutine[Any, Any, Any]) -> None:
        """Move on to the next sleeper whenever everybody sleeps."""
        task = asyncio.ensure_future(work)
        while not task.done():
            for _ in range(50):
                await asyncio.sleep(0)
            if self.sleepers and not task.done():
                self.sleepers.sort(key=lambda s: s[:2])
                self.now, _, future = self.sleepers.pop(0)
                future.set_result(None)
        await task


def simulate(
    limits: dict[str, float], tokens: list[float], seconds: float = 1.0
) -> list[tuple[float, float, int]]:
    """Return (time, tokens, number) of every admission."""
    clock = Clock()
    limiter = Limiter(clock=lambda: clock.now, sleep=clock.sleep)
    admitted: list[tuple[float, float, int]] = []

    async def one(number: int) -> None:
        ticket = await limiter.acquire(tokens[number])
        admitted.append((clock.now, tokens[number], number))
        await clock.sleep(seconds)
        limiter.release(ticket)

    async def every() -> None:
        limiter.set(int(limits.get("concurrency", 1000)), limits.get("rpm"), limits.get("tpm"))
        await asyncio.gather(*(one(n) for n in range(len(tokens))))
        assert limiter.in_flight == 0
        assert limiter.most_in_flight <= limits.get("concurrency", 1000)

    asyncio.run(clock.drive(every()))
    return admitted


def most_in_a_minute(times: list[tuple[float, float]]) -> float:
    """The largest sum of amounts within any 60 seconds."""
    return max(sum(a for t, a in times if s <= t < s + MINUTE - 1e-9) for s, _ in times)


def test_requests_per_minute_are_never_exceeded_and_fully_used() -> None:
    admitted = simulate({"rpm": 10}, [1.0] * 35)
    assert most_in_a_minute([(t, 1.0) for t, _, _ in admitted]) == 10
    assert [n for _, _, n in admitted] == list(range(35))
    assert admitted[-1][0] == pytest.approx(3 * MINUTE)


def test_tokens_per_minute_are_never_exceeded_and_a_giant_goes_alone() -> None:
    tokens = [40.0, 50.0, 20.0, 500.0, 30.0, 30.0, 30.0, 30.0]
    admitted = simulate({"tpm": 100}, tokens)
    times = [(t, a) for t, a, _ in admitted]
    assert most_in_a_minute([(t, min(a, 100.0)) for t, a in times]) <= 100
    assert [n for _, _, n in admitted] == list(range(8))
    giant = next(t for t, a in times if a == 500)
    assert [a for t, a in times if abs(t - giant) < MINUTE - 1e-9] == [500]


def test_concurrency_is_respected_and_first_come_is_first_served() -> None:
    admitted = simulate({"concurrency": 3}, [1.0] * 10, seconds=1.0)
    assert [n for _, _, n in admitted] == list(range(10))
    assert [t for t, _, _ in admitted] == [0, 0, 0, 1, 1, 1, 2, 2, 2, 3]


def run_with(limiter_test: Callable[[Limiter, Clock], Coroutine[Any, Any, None]]) -> None:
    clock = Clock()
    asyncio.run(
        clock.drive(limiter_test(Limiter(clock=lambda: clock.now, sleep=clock.sleep), clock))
    )


def test_the_true_tokens_of_a_request_replace_the_expected_ones() -> None:
    async def check(limiter: Limiter, clock: Clock) -> None:
        limiter.set(None, None, 100)
        limiter.release(await limiter.acquire(90), 10)
        limiter.release(await limiter.acquire(90))
        assert clock.now == 0
        limiter.release(await limiter.acquire(1))
        assert clock.now == pytest.approx(MINUTE)

    run_with(check)


def test_a_pause_holds_everybody() -> None:
    async def check(limiter: Limiter, clock: Clock) -> None:
        limiter.pause(7)
        limiter.pause(3)
        ticket = await limiter.acquire(1)
        assert clock.now == 7
        limiter.release(ticket)

    run_with(check)


def test_a_cancelled_request_frees_its_place() -> None:
    async def check(limiter: Limiter, clock: Clock) -> None:
        limiter.set(1)
        held = await limiter.acquire(1)
        waiting = [asyncio.ensure_future(limiter.acquire(1)) for _ in range(3)]
        await asyncio.sleep(0)
        waiting[0].cancel()
        await asyncio.sleep(0)
        limiter.release(held)
        waiting[1].cancel()  # in the moment in which it is let in
        ticket = await waiting[2]
        assert limiter.in_flight == 1
        limiter.release(ticket)
        assert limiter.in_flight == 0

    run_with(check)


def test_limits_may_change_while_requests_wait() -> None:
    async def check(limiter: Limiter, clock: Clock) -> None:
        limiter.set(1)
        first = await limiter.acquire(1)
        others = [asyncio.ensure_future(limiter.acquire(1)) for _ in range(2)]
        await asyncio.sleep(0)
        limiter.set(3)
        tickets = await asyncio.gather(*others)
        limiter.set(1)
        last = asyncio.ensure_future(limiter.acquire(1))
        for ticket in (first, *tickets):
            await asyncio.sleep(0)
            assert not last.done()
            limiter.release(ticket)
        limiter.release(await last)

    run_with(check)


@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        ({}, None),
        ({"Retry-After": "3"}, 3.0),
        ({"Retry-After": "0.25"}, 0.25),
        ({"Retry-After": "-4"}, 0.0),
        ({"Retry-After": "soon"}, None),
        ({"Retry-After": "nan"}, None),
        ({"Retry-After": "9", "retry-after-ms": "40"}, 0.04),
        ({"Retry-After": formatdate(0, usegmt=True)}, 0.0),
    ],
)
def test_retry_after_is_read(headers: dict[str, str], seconds: float | None) -> None:
    assert retry_after(headers) == seconds


def test_retry_after_may_be_a_date() -> None:
    found = retry_after({"Retry-After": formatdate(time.time() + 30, usegmt=True)})
    assert found is not None
    assert 25 < found <= 30


@pytest.mark.parametrize(
    ("http", "code", "status", "again"),
    [
        (429, "rate_limit_exceeded", "api_error", True),
        (429, "insufficient_quota", "api_error", False),
        (500, "", "api_error", True),
        (503, "", "api_error", True),
        (504, "", "timeout", True),
        (401, "invalid_api_key", "api_error", False),
        (404, "", "api_error", False),
        (400, "content_filter", "refused", False),
        (301, "", "api_error", False),
    ],
)
def test_what_is_tried_again(http: int, code: str, status: str, again: bool) -> None:
    fault = fault_of_answer(http, code, "what", {})
    assert (fault.status, fault.again) == (status, again)
    assert fault.reason().startswith(f"{status}: ")
    assert not fault_of_answer(500, "", "what", {"x-should-retry": "false"}).again


def test_pauses_grow_have_jitter_and_are_never_shorter_than_asked() -> None:
    policy = Policy()
    for attempt, full in enumerate([0.5, 1, 2, 4, 8, 16, 30, 30]):
        pauses = [policy.pause(attempt, None) for _ in range(50)]
        assert full / 2 <= min(pauses) < max(pauses) <= full
    assert all(5.0 <= policy.pause(0, 5.0) <= 5.5 for _ in range(50))
