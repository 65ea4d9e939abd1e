"""One event loop in a background thread: what synchronous callers run asynchronous work on."""

from __future__ import annotations

import asyncio
import atexit
import contextlib
import os
import threading
from collections import deque
from collections.abc import Callable, Coroutine, Iterator
from concurrent.futures import Future
from typing import Any, TypeVar

T = TypeVar("T")
PART, PART_SECONDS = 64, 0.2
"""`stream` hands on what has come when it is so much, or when so much time has passed."""


class _Background:
    """The loop of this process, started when it is first needed."""

    def __init__(self) -> None:
        """Start nothing yet."""
        self.lock = threading.Lock()
        self.loop: asyncio.AbstractEventLoop | None = None
        self.thread: threading.Thread | None = None
        self.closers: list[Callable[[], Coroutine[Any, Any, None]]] = []

    def start(self) -> asyncio.AbstractEventLoop:
        """Return the running loop."""
        with self.lock:
            if self.loop is None:
                self.loop = asyncio.new_event_loop()
                self.thread = threading.Thread(
                    target=self.loop.run_forever, name="promptgym-http", daemon=True
                )
                self.thread.start()
            return self.loop

    def stop(self) -> None:
        """Cancel what runs on the loop, close what was opened there, end it."""
        with self.lock:
            loop, thread, closers = self.loop, self.thread, self.closers
            self.loop, self.thread, self.closers = None, None, []
        if loop is None or thread is None:
            return

        async def close() -> None:
            under_way = asyncio.all_tasks() - {asyncio.current_task()}
            for task in under_way:
                task.cancel()
            await asyncio.gather(*under_way, return_exceptions=True)
            await asyncio.gather(*(closer() for closer in closers), return_exceptions=True)

        with contextlib.suppress(TimeoutError):
            asyncio.run_coroutine_threadsafe(close(), loop).result(timeout=2)
        loop.call_soon_threadsafe(loop.stop)
        thread.join(timeout=2)
        if not thread.is_alive():
            loop.close()


_background = _Background()


def _after_fork() -> None:
    """Forget the loop in a forked child: its thread did not come along."""
    global _background
    _background = _Background()


os.register_at_fork(after_in_child=_after_fork)
atexit.register(lambda: _background.stop())


def run(work: Coroutine[Any, Any, T]) -> T:
    """Run a coroutine on the background loop and wait for its result, from any other thread.

    An interrupt (Ctrl-C) cancels the work.

    Raises:
        RuntimeError: called on the background loop itself, which would wait for itself.
    """
    future = _begin(work)
    try:
        return future.result()
    except BaseException:
        future.cancel()
        raise


def stream(
    begin: Callable[[Callable[[T], None]], Coroutine[Any, Any, object]],
) -> Iterator[list[T]]:
    """Run a coroutine as `run` does; yield what it hands over, in parts, while it goes on.

    An interrupt cancels the work, yields what was handed over before, and is raised then.

    Args:
        begin: makes the coroutine; it is given the function that hands something over.

    Raises:
        RuntimeError: as `run`.
    """
    handed: deque[T] = deque()
    enough = threading.Event()

    def hand_over(item: T) -> None:
        handed.append(item)
        if len(handed) >= PART:
            enough.set()

    future = _begin(begin(hand_over))
    future.add_done_callback(lambda _: enough.set())
    try:
        over = False
        while not over:
            enough.wait(PART_SECONDS)
            enough.clear()
            over = future.done()
            if handed:
                yield [handed.popleft() for _ in range(len(handed))]
        future.result()
    except KeyboardInterrupt:
        future.cancel()
        yield list(handed)
        raise
    finally:
        future.cancel()


def _begin(work: Coroutine[Any, Any, T]) -> Future[T]:
    """Have a coroutine run on the background loop.

    Raises:
        RuntimeError: called on that loop, which would wait for itself.
    """
    loop = _background.start()
    if threading.current_thread() is _background.thread:
        work.close()
        raise RuntimeError("what waits for the background loop cannot be called on it")
    return asyncio.run_coroutine_threadsafe(work, loop)


def soon(work: Callable[[], None]) -> None:
    """Have a function called on the background loop, before anything that is run there later."""
    loop = _background.start()
    if threading.current_thread() is _background.thread:
        work()
    else:
        loop.call_soon_threadsafe(work)


def at_close(closer: Callable[[], Coroutine[Any, Any, None]]) -> Callable[[], None]:
    """Have a coroutine function awaited before this process's loop ends.

    Returns:
        A function that has it awaited now instead, without waiting for it.
    """
    background = _background
    background.closers.append(closer)

    def close_now() -> None:
        if background is _background and background.loop and closer in background.closers:
            background.closers.remove(closer)
            asyncio.run_coroutine_threadsafe(closer(), background.loop)

    return close_now


def current() -> object:
    """Return what stands for this process's loop: another object after a fork."""
    return _background
