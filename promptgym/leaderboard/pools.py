"""Many submissions side by side, each in a process of one thread."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from typing import TypeVar

In = TypeVar("In")
Out = TypeVar("Out")


def side_by_side(function: Callable[[In], Out], items: Iterable[In], jobs: int) -> list[Out]:
    """Return what a function makes of each item, in their order.

    Args:
        function: can be pickled.
        items: likewise.
        jobs: how many at a time.
    """
    with ProcessPoolExecutor(jobs, get_context("spawn"), one_thread) as pool:
        return list(pool.map(function, items))


def one_thread() -> None:
    """Keep a process to one core: several that take all of them wait for each other."""
    import torch

    torch.set_num_threads(1)
