"""`run_bench`: all cells of a suite, side by side, into one folder that can be resumed.

DIR/bench.json          version of promptgym, the suite and its cells
DIR/cells/NAME/         the run folder of a cell, with `anytime.json`
DIR/errors/NAME.txt     why a cell failed
DIR/logs/NAME.txt       what its process printed, if anything
"""

from __future__ import annotations

import json
from collections import deque
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Protocol

from promptgym import __version__
from promptgym.errors import ConfigError
from promptgym.evaluation.bench_cell import ANYTIME, Failure, Job
from promptgym.evaluation.suite import Cell, Suite
from promptgym.evaluation.workers import Workers
from promptgym.runs.environment import describe_environment
from promptgym.runs.events import plain
from promptgym.runs.folder import CONFIG, RunFolder, differences, write_json, write_text
from promptgym.types import JSON

BENCH, CELLS, ERRORS, LOGS = "bench.json", "cells", "errors", "logs"
TICK = 0.5
"""Seconds between two looks at the cells that run."""


class View(Protocol):
    """Shows how a benchmark goes on; entered before it and left after it."""

    def started(self, cell: Cell, folder: Path) -> None:
        """A cell runs."""
        ...

    def ended(self, cell: Cell, failure: Failure | None) -> None:
        """A cell has a result, or failed."""
        ...

    def tick(self) -> None:
        """Time passed."""
        ...


@dataclass(frozen=True, slots=True)
class BenchFolder:
    """The folder of a benchmark.

    Attributes:
        path: the folder.
        suite: as `bench.json` has it.
        version: of promptgym that made it.
        cells: name, task, model, method, start, budget and seed of each.
        environment: what its last session was made with (`describe_environment`).
    """

    path: Path
    suite: JSON
    version: str
    cells: list[JSON]
    environment: JSON

    @classmethod
    def create(cls, path: str | Path, suite: Suite) -> BenchFolder:
        """Begin a benchmark in a new or empty folder.

        Raises:
            ConfigError: if there is something in it.
        """
        path = Path(path)
        if (path / BENCH).exists():
            raise ConfigError(
                f"{path} holds a benchmark already; go on with it by --resume, or give another "
                "--out"
            )
        if path.exists() and (not path.is_dir() or any(path.iterdir())):
            raise ConfigError(f"{path} exists and is not an empty folder; give another --out")
        path.mkdir(parents=True, exist_ok=True)
        return cls._written(path, suite)

    @classmethod
    def open(cls, path: str | Path) -> BenchFolder:
        """Open a benchmark that exists.

        Raises:
            ConfigError: if there is none, or it cannot be read.
        """
        path = Path(path)
        try:
            found = json.loads((path / BENCH).read_text(encoding="utf-8"))
            cells = [{"name": cell["name"], **cell} for cell in found["cells"]]
            about = found.get("environment", {})
            return cls(path, found["suite"], found["promptgym"], cells, about)
        except (FileNotFoundError, NotADirectoryError):
            raise ConfigError(f"{path} holds no benchmark: there is no {BENCH} in it") from None
        except (ValueError, KeyError, TypeError) as error:
            raise ConfigError(f"{path / BENCH} is not a benchmark's ({error!r})") from None

    @classmethod
    def resume(cls, path: str | Path, suite: Suite) -> BenchFolder:
        """Open a benchmark to go on with it; the suite may have grown, but no cell changed or gone.

        Raises:
            ConfigError: for results of another version of promptgym, or a cell that was begun with
                another configuration, naming what differs.
        """
        path = Path(path)
        bench = cls.open(path)
        if bench.version != __version__:
            raise ConfigError(
                f"{path} has results of promptgym {bench.version} and this is {__version__}; "
                "results of two versions are not mixed: install that version, or give another --out"
            )
        for cell in suite.cells():
            folder = bench.folder(cell)
            if (folder / CONFIG).exists():
                config = RunFolder.open(folder).config
                before = {k: v for k, v in config.items() if k != "identity"}
                if found := differences(before, plain(asdict(cell.experiment))):
                    raise ConfigError(
                        f"cell {cell.name} of {path} was begun with another suite: "
                        f"{'; '.join(found)}; change the suite back, or give another --out"
                    )
        kept = {cell.name for cell in suite.cells()}
        begun = [c["name"] for c in bench.cells if (path / CELLS / c["name"] / CONFIG).exists()]
        if lost := [name for name in begun if name not in kept]:
            raise ConfigError(
                f"cell {lost[0]} of {path} was begun and is no cell of this suite, nor are "
                f"{len(lost) - 1} others; a suite may grow: put back what was taken out, or give "
                "another --out"
            )
        return cls._written(bench.path, suite)

    @classmethod
    def _written(cls, path: Path, suite: Suite) -> BenchFolder:
        """Write `bench.json`."""
        rows = [{"name": cell.name, **_identity(cell)} for cell in suite.cells()]
        about = {"promptgym": __version__, "suite": suite.to_json(), "cells": rows}
        environment = describe_environment()
        write_json(path / BENCH, {**about, "environment": environment})
        return cls(path, suite.to_json(), __version__, rows, environment)

    def folder(self, cell: Cell) -> Path:
        """Return the run folder of a cell."""
        return self.path / CELLS / cell.name

    def finished(self, cell: Cell) -> bool:
        """Whether a cell has all its results."""
        return (self.folder(cell) / ANYTIME).exists()

    def job(self, cell: Cell) -> Job:
        """Return what a process is told."""
        log = self.path / LOGS / f"{cell.name}.txt"
        return Job(cell.name, self.folder(cell), asdict(cell.experiment), log)

    def note(self, cell: Cell, failure: Failure | None) -> None:
        """Keep why a cell failed, or forget why it had failed."""
        file = self.path / ERRORS / f"{cell.name}.txt"
        if failure is None:
            file.unlink(missing_ok=True)
            return
        file.parent.mkdir(exist_ok=True)
        write_text(file, f"{failure.message}\n\n{failure.details}\n")


def _identity(cell: Cell) -> JSON:
    """Return what tells a cell from others, as tables call it."""
    names = ("task", "model", "method", "start", "budget", "seed")
    return {name: getattr(cell, name) for name in names}


def run_bench(
    bench: BenchFolder, cells: Iterable[Cell], workers: Workers, view: View
) -> dict[str, Failure]:
    """Run the cells that are not finished; one that fails stops no other.

    Args:
        bench: where everything goes.
        cells: what to run, in this order.
        workers: where; closed at the end, also when this is interrupted.
        view: is told.

    Returns:
        Why cells failed, by their names.
    """
    waiting = deque(cell for cell in cells if not bench.finished(cell))
    running: dict[str, Cell] = {}
    failed: dict[str, Failure] = {}
    try:
        while waiting or running:
            while waiting and len(running) < workers.slots:
                cell = waiting.popleft()
                workers.start(bench.job(cell))
                running[cell.name] = cell
                view.started(cell, bench.folder(cell))
            for name, failure in workers.wait(TICK):
                cell = running.pop(name)
                if failure is not None:
                    failed[name] = failure
                bench.note(cell, failure)
                view.ended(cell, failure)
            view.tick()
    finally:
        workers.close()
    return failed
