"""Where cells run: in spawned processes of this machine, or as Ray tasks.

Both take jobs and hand back outcomes. A process that dies fails the cell it had, and no other.
"""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
import time
from collections.abc import Mapping
from multiprocessing.connection import Connection, wait
from multiprocessing.context import SpawnProcess
from typing import Any, Protocol

from promptgym.errors import ConfigError
from promptgym.evaluation.bench_cell import Failure, Job, attempt, print_to
from promptgym.llms.ray_cluster import RayOptions, connect, first_line, is_own

Outcome = tuple[str, Failure | None]
"""Name of a cell, and why it failed if it did."""
_ENVIRONMENT: Mapping[str, str] = {"OMP_NUM_THREADS": "1", "TOKENIZERS_PARALLELISM": "false"}


class Workers(Protocol):
    """What runs cells.

    Attributes:
        slots: how many at a time.
    """

    slots: int

    def start(self, job: Job) -> None:
        """Begin a cell; at most `slots` may be under way."""
        ...

    def wait(self, seconds: float) -> list[Outcome]:
        """Return what has ended, after so many seconds at most."""
        ...

    def close(self) -> None:
        """Stop whatever still runs; it can be resumed."""
        ...


class Processes:
    """Spawned processes, each for one cell after another, so that libraries are loaded once."""

    def __init__(self, jobs: int) -> None:
        """Start none yet.

        Raises:
            ConfigError: for fewer than one.
        """
        if jobs < 1:
            raise ConfigError(f"jobs must be at least 1, got {jobs}")
        self.slots = jobs
        self._context = multiprocessing.get_context("spawn")
        self._idle: list[tuple[SpawnProcess, Connection]] = []
        self._busy: dict[str, tuple[SpawnProcess, Connection]] = {}

    def start(self, job: Job) -> None:
        """Hand a cell to an idle process, or to a new one."""
        process, pipe = self._idle.pop() if self._idle else self._spawn()
        pipe.send(job)
        self._busy[job.name] = process, pipe

    def wait(self, seconds: float) -> list[Outcome]:
        """Return what has ended."""
        wait([thing for p, c in self._busy.values() for thing in (c, p.sentinel)], seconds)
        out: list[Outcome] = []
        for name, (process, pipe) in list(self._busy.items()):
            alive = process.is_alive()  # before the pipe is looked at: it may say goodbye there
            try:
                if pipe.poll():
                    out.append((name, pipe.recv()))
                    self._idle.append(self._busy.pop(name))
                    continue
            except (EOFError, OSError):
                alive = False
            if not alive:
                del self._busy[name]
                process.join()
                what = f"the process ended with exit status {process.exitcode}"
                out.append((name, Failure(what, f"{what}; what it printed is in logs/{name}.txt")))
        return out

    def close(self) -> None:
        """Stop all processes."""
        for process, pipe in (*self._idle, *self._busy.values()):
            pipe.close()
            process.terminate()
            process.join()
        self._idle, self._busy = [], {}

    def _spawn(self) -> tuple[SpawnProcess, Connection]:
        """Start a process; its libraries take one thread each unless the environment says so."""
        ours, theirs = self._context.Pipe()
        before = {name: os.environ.get(name) for name in _ENVIRONMENT}
        os.environ.update({n: v for n, v in _ENVIRONMENT.items() if before[n] is None})
        try:
            process = self._context.Process(target=_serve, args=(theirs,))
            process.start()
        finally:
            for name in (n for n, value in before.items() if value is None):
                del os.environ[name]
        theirs.close()
        return process, ours


def _serve(pipe: Connection) -> None:
    """Run cell after cell, until the pipe is closed or the parent is gone.

    Ctrl-C reaches every process of a terminal; the parent alone answers it.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=_end_with_parent, daemon=True).start()
    while True:
        try:
            job: Job = pipe.recv()
        except EOFError:
            return
        print_to(job.log)
        failure = attempt(job)
        if not job.log.stat().st_size:
            job.log.unlink()
        pipe.send(failure)


def _end_with_parent() -> None:
    """Leave as soon as the parent is gone, so that nobody else's resumed run is written to."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        wait([parent.sentinel])
        os._exit(1)


class RayTasks:
    """Ray tasks, each with its share of a cluster whose machines see the same folder."""

    def __init__(self, jobs: int | None = None, gpus: float = 0.0) -> None:
        """Connect to a cluster (`RAY_ADDRESS`), or start one on this machine.

        Args:
            jobs: cells at a time; None for one a core of the cluster.
            gpus: of each cell; a fraction shares one.

        Raises:
            ConfigError: for fewer than one job, or a negative number of GPUs.
            ExtraMissingError: ray is not installed.
        """
        if (jobs is not None and jobs < 1) or gpus < 0:
            raise ConfigError(f"jobs must be at least 1 and gpus 0, got {jobs} and {gpus}")
        self._ray = connect(RayOptions())
        self.slots = jobs or max(1, int(self._ray.cluster_resources().get("CPU", 1)))
        cores = 1.0 if jobs is None else 0.0  # a number that is asked for is not rationed
        options = {"num_cpus": cores, "num_gpus": gpus, "max_retries": 0}
        self._task = self._ray.remote(**options)(attempt)
        self._busy: dict[Any, str] = {}

    def start(self, job: Job) -> None:
        """Submit a cell."""
        self._busy[self._task.remote(job)] = job.name

    def wait(self, seconds: float) -> list[Outcome]:
        """Return what has ended."""
        if not self._busy:
            time.sleep(seconds)
            return []
        ready, _ = self._ray.wait(list(self._busy), num_returns=1, timeout=seconds)
        return [(self._busy.pop(task), self._outcome(task)) for task in ready]

    def _outcome(self, task: Any) -> Failure | None:
        """Return what a task returned; a task that Ray lost is a failure."""
        try:
            failure: Failure | None = self._ray.get(task)
        except self._ray.exceptions.RayError as error:
            return Failure(first_line(error), str(error))
        return failure

    def close(self) -> None:
        """Stop what runs, and the cluster if it is one of our own."""
        for task in self._busy:
            self._ray.cancel(task, force=True)
        self._busy = {}
        if is_own(self._ray):
            self._ray.shutdown()
