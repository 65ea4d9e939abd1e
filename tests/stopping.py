"""Runs that are stopped in the middle."""

from __future__ import annotations

from typing import Any

from promptgym.runs import ListSink


class Stopped(Exception):
    """What a test raises in the middle of a run."""


class StopAt(ListSink):
    """Raises at one event of a kind."""

    def __init__(self, kind: str, count: int, error: type[BaseException]) -> None:
        """Take the kind, which one of them, and what to raise."""
        super().__init__()
        self.kind, self.count, self.error = kind, count, error

    def emit(self, kind: str, **fields: Any) -> None:
        """Keep the event; raise at the one."""
        super().emit(kind, **fields)
        if kind == self.kind and sum(e["kind"] == kind for e in self.events) == self.count:
            raise self.error
