"""The live table of a benchmark: which cells run, how far they are, what failed, spend and ETA."""

from __future__ import annotations

import json
import time
from collections import defaultdict
from collections.abc import Iterable
from itertools import chain
from pathlib import Path
from typing import TextIO

from rich.console import Console, Group
from rich.live import Live
from rich.table import Table
from rich.text import Text

from promptgym.evaluation.bench import BenchFolder
from promptgym.evaluation.bench_cell import Failure
from promptgym.evaluation.suite import Cell
from promptgym.runs.display import Standing, clock, one_line
from promptgym.runs.events import parsed
from promptgym.runs.folder import EVENTS, RESULT
from promptgym.types import JSON

SHOWN = 5
"""Cells that ended, and cells that failed, that stay in the table."""


class Follower:
    """Where a running cell stands, read from the events that it writes."""

    def __init__(self, cell: Cell, folder: Path) -> None:
        """Begin at the start of the log, which may not be there yet."""
        self.standing = Standing(cell.budget)
        self.since = time.monotonic()
        self._log = folder / EVENTS
        self._read = 0

    def look(self) -> Standing:
        """Take the events that were written since the last look."""
        if self._log.exists():
            with self._log.open("rb") as file:
                file.seek(self._read)
                for number, line in enumerate(file, 1):
                    if not line.endswith(b"\n"):
                        break
                    self._read += len(line)
                    event = parsed(line, self._log, number)
                    self.standing.take(event.pop("kind"), event)
        return self.standing


class Board:
    """What is known of a benchmark's cells.

    Attributes:
        total: how many cells there are.
        finished: how many have a result.
        failed: cells and why they failed, latest last.
        running: cells and their followers.
        ended: lines about the last cells that ended.
    """

    def __init__(self, bench: BenchFolder, cells: Iterable[Cell], slots: int) -> None:
        """Count what earlier sessions finished."""
        self.bench, self.slots = bench, slots
        self._waiting = {cell.name: cell for cell in cells}
        self.total = len(self._waiting)
        self.finished = 0
        self.failed: dict[str, Failure] = {}
        self.running: dict[str, tuple[Cell, Follower]] = {}
        self.ended: list[str] = []
        self._spent: dict[str, float] = defaultdict(float)
        self._seconds: dict[tuple[str, str], list[float]] = defaultdict(list)
        for cell in list(self._waiting.values()):
            if bench.finished(cell):
                del self._waiting[cell.name]
                self.finished += 1
                self._book(cell, self._result(cell)["spent"])

    def started(self, cell: Cell, folder: Path) -> None:
        """Follow a cell."""
        self._waiting.pop(cell.name, None)
        self.running[cell.name] = cell, Follower(cell, folder)

    def end(self, cell: Cell, failure: Failure | None) -> str:
        """Return one line about a cell that ended."""
        _, follower = self.running.pop(cell.name)
        seconds = clock(time.monotonic() - follower.since)
        if failure is not None:
            self.failed[cell.name] = failure
            self._book(None, follower.look().spent)
            line = f"failed {cell.name} in {seconds}: {failure.message}"
        else:
            self.finished += 1
            result = self._result(cell)
            self._book(cell, result["spent"])
            score = (result["best"]["test"] or {}).get("value")
            shown = "" if score is None else f", test {score:.3f}"
            line = f"finished {cell.name} in {seconds}{shown}"
        self.ended = [*self.ended, line][-SHOWN:]
        return line

    def headline(self) -> str:
        """Return counts, spend and ETA on one line."""
        spent = dict(self._spent)
        for _, follower in self.running.values():
            for kind in ("queries", "tokens", "usd"):
                spent[kind] = spent.get(kind, 0) + (follower.standing.spent.get(kind) or 0)
        failed = f", {len(self.failed)} failed" if self.failed else ""
        money = f", {spent['usd']:,.4f} USD" if spent.get("usd") else ""
        return (
            f"{self.finished} of {self.total} cells{failed} | {spent.get('queries', 0):,.0f} "
            f"queries, {spent.get('tokens', 0):,.0f} tokens{money} | eta {clock(self.eta())}"
        )

    def eta(self) -> float | None:
        """Return the seconds that are left, by how long cells of a method took; None if unknown."""
        left = [seconds for cell in self._waiting.values() if (seconds := self._expected(cell))]
        if len(left) < len(self._waiting):
            return None
        for cell, follower in self.running.values():
            by_pace, expected = follower.standing.eta, self._expected(cell)
            if by_pace is None and expected is None:
                return None
            elapsed = time.monotonic() - follower.since
            left.append(max(0.0, (expected or 0.0) - elapsed) if by_pace is None else by_pace)
        return sum(left) / max(1, min(self.slots, len(left)))

    def _expected(self, cell: Cell) -> float | None:
        """Return how long such cells took: of its method and budget, else of any."""
        of_kind = self._seconds.get(_kind(cell)) or list(chain(*self._seconds.values()))
        return sum(of_kind) / len(of_kind) if of_kind else None

    def _book(self, cell: Cell | None, spent: JSON) -> None:
        """Count what a cell spent."""
        for kind in ("queries", "tokens", "usd"):
            self._spent[kind] += spent.get(kind) or 0
        if cell is not None:
            self._seconds[_kind(cell)].append(float(spent["seconds"]))

    def _result(self, cell: Cell) -> JSON:
        """Read a result."""
        text = (self.bench.folder(cell) / RESULT).read_text(encoding="utf-8")
        result: JSON = json.loads(text)
        return result


def _kind(cell: Cell) -> tuple[str, str]:
    """Return what decides how long a cell takes."""
    return cell.method, str(cell.budget)


class LiveView:
    """A table that is redrawn in place on a terminal."""

    def __init__(self, board: Board, console: Console) -> None:
        """Prepare; nothing is drawn before `with`."""
        self.board, self._console = board, console
        self._live = Live(console=console, get_renderable=self.draw, refresh_per_second=2)

    def started(self, cell: Cell, folder: Path) -> None:
        """A cell runs."""
        self.board.started(cell, folder)

    def ended(self, cell: Cell, failure: Failure | None) -> None:
        """A cell has a result, or failed."""
        self.board.end(cell, failure)

    def tick(self) -> None:
        """Read what the running cells wrote."""
        for _, follower in self.board.running.values():
            follower.look()

    def draw(self) -> Group:
        """Return what stands on the screen."""
        width = max(40, self._console.width - 2)
        table = Table("running", "done", "eta", "spent", "best dev", box=None, expand=False)
        for name, (_, follower) in list(self.board.running.items()):
            s = follower.standing
            dev = "" if s.dev is None else f"{s.dev:.3f}"
            cells = (one_line(name, 60), f"{s.fraction:.0%}", clock(s.eta), s.spending(), dev)
            table.add_row(*(Text(cell) for cell in cells))
        failed = list(self.board.failed.items())[-SHOWN:]
        lines = [Text(one_line(line, width)) for line in self.board.ended]
        lines += [
            Text(one_line(f"failed: {name}: {why.message}", width), style="red")
            for name, why in failed
        ]
        head = Text(one_line(self.board.headline(), width), style="bold")
        return Group(head, table, *lines)

    def __enter__(self) -> LiveView:
        """Start drawing."""
        self._live.start()
        return self

    def __exit__(self, *_: object) -> None:
        """Draw once more and stop."""
        self._live.stop()


class PlainView:
    """A line for every cell that ends, with counts, spend and ETA, for logs and pipes."""

    def __init__(self, board: Board, stream: TextIO | None) -> None:
        """Print to a stream; None prints nothing."""
        self.board, self._stream = board, stream

    def started(self, cell: Cell, folder: Path) -> None:
        """A cell runs."""
        self.board.started(cell, folder)

    def ended(self, cell: Cell, failure: Failure | None) -> None:
        """Print how a cell ended."""
        line = self.board.end(cell, failure)
        if self._stream is not None:
            print(one_line(line, 500), file=self._stream)
            print(f"  {self.board.headline()}", file=self._stream, flush=True)

    def tick(self) -> None:
        """Read what the running cells wrote."""
        for _, follower in self.board.running.values():
            follower.look()

    def __enter__(self) -> PlainView:
        """Print where it begins."""
        if self._stream is not None:
            print(self.board.headline(), file=self._stream, flush=True)
        return self

    def __exit__(self, *_: object) -> None:
        """Do nothing."""


def make_view(board: Board, stream: TextIO, *, quiet: bool = False) -> LiveView | PlainView:
    """Return the view for standard error: a live table on a terminal, lines elsewhere."""
    console = Console(file=stream)
    if not quiet and console.is_terminal and not console.is_dumb_terminal:
        return LiveView(board, console)
    return PlainView(board, None if quiet else stream)
