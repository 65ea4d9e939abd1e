"""Events: the one stream in which a run says what happens; the log and the display listen."""

from __future__ import annotations

import json
import math
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from promptgym.errors import ConfigError
from promptgym.types import JSON


class EventSink(Protocol):
    """Anything that takes events: a log file, a display, a list."""

    def emit(self, kind: str, **fields: Any) -> None:
        """Take one event. Kinds in use are listed in docs/run-folder.md."""
        ...


class NullSink:
    """Takes events and forgets them."""

    def emit(self, kind: str, **fields: Any) -> None:
        """Do nothing."""


class ListSink:
    """Keeps events in memory, in order, as `{"kind": ..., ...}` dicts."""

    def __init__(self) -> None:
        """Start empty."""
        self.events: list[JSON] = []

    def emit(self, kind: str, **fields: Any) -> None:
        """Append the event."""
        self.events.append({"kind": kind, **fields})


class Tee:
    """Passes every event on to several sinks, in order."""

    def __init__(self, *sinks: EventSink) -> None:
        """Remember the sinks."""
        self.sinks = sinks

    def emit(self, kind: str, **fields: Any) -> None:
        """Pass the event on."""
        for sink in self.sinks:
            sink.emit(kind, **fields)


def plain(value: Any) -> Any:
    """Turn numpy values into plain JSON; NaN and infinities become None."""
    if isinstance(value, dict):
        return {str(k): plain(v) for k, v in value.items()}
    if isinstance(value, (list, tuple)):
        return [plain(v) for v in value]
    if isinstance(value, np.ndarray):
        return plain(value.tolist())
    if isinstance(value, np.generic):
        return plain(value.item())
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value


class EventLog:
    """Append-only `events.jsonl`: one JSON object a line, flushed at once."""

    def __init__(self, path: Path) -> None:
        """Open for appending; the file is created at the first event."""
        self.path = path
        self._started = time.monotonic()

    def emit(self, kind: str, **fields: Any) -> None:
        """Append one line with the event's kind and the seconds since this session began."""
        row = {"kind": kind, "t": round(time.monotonic() - self._started, 3), **plain(fields)}
        with self.path.open("a", encoding="utf-8") as file:
            file.write(json.dumps(row, ensure_ascii=False) + "\n")


def read_events(path: Path) -> Iterator[JSON]:
    """Yield the events of a log; a last line cut short by a kill is dropped.

    Raises:
        ConfigError: for another line that is no JSON.
    """
    with path.open(encoding="utf-8") as file:
        for number, line in enumerate(file, 1):
            if not line.endswith("\n"):
                return
            yield parsed(line, path, number)


def parsed(line: str | bytes, path: Path, number: int) -> JSON:
    """Return the object that a line of a log holds.

    Raises:
        ConfigError: if it holds none, naming file and line.
    """
    try:
        value = json.loads(line)
    except ValueError:
        value = None
    if not isinstance(value, dict):
        raise ConfigError(f"{path}, line {number}: not a JSON object; the file is damaged")
    return value
