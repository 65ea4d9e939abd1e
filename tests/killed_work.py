"""Runs in processes of their own that can be killed, and what is left of them to compare.

For `test_killed_runs.py` and `benchmarks/resume.py`. Each run is forked from a process that has
imported this module, and so the libraries and the models.
"""

from __future__ import annotations

import json
import multiprocessing
import os
import signal
import time
from collections.abc import Generator
from hashlib import blake2b
from itertools import pairwise
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any, ClassVar
from unittest import mock

import matplotlib.backends.backend_agg  # each run draws its curve with these
import matplotlib.figure  # noqa: F401
import numpy as np
import torch

from promptgym import load_model
from promptgym.evaluation.experiment import Experiment, run_experiment
from promptgym.problem import Problem
from promptgym.search import Optimizer

torch.set_num_threads(1)
load_model("tiny")
load_model("tiny-rewriter")


class Noted(Experiment):
    """An experiment whose search method notes the state of its random generator at each question.

    A resumed run draws everything again, so it begins the file again.
    """

    draws: ClassVar[Path]

    def build(self) -> Optimizer:
        """Return the optimizer; an agent as it is."""
        method: Any = super().build()
        search = getattr(method, "search", None)
        if search is not None:
            object.__setattr__(method, "search", lambda *args: noted(search, self.draws, *args))
        return method  # type: ignore[no-any-return]


def noted(
    search: Any, file: Path, problem: Problem, rng: np.random.Generator
) -> Generator[Any, Any, None]:
    """Search, and write a hash of the generator's state into a file whenever something is asked."""
    inner, answer = search(problem, rng), None
    with file.open("w") as out:
        while True:
            try:
                ask = inner.send(answer)
            except StopIteration:
                return
            state = repr(rng.bit_generator.state).encode()
            out.write(blake2b(state, digest_size=8).hexdigest() + "\n")
            out.flush()
            answer = yield ask


def train(config: dict[str, Any], out: str, resume: bool, cache: str | None) -> None:
    """Train as `promptgym train` does, without a report."""
    # A shell that begins a command in the background lets it ignore interrupts.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    Noted.draws = Path(out) / "draws.txt"
    run_experiment(Noted(**config), out, resume=resume, report=False, cache=cache)


def start(*work: Any) -> BaseProcess:
    """Start a run in a process of its own."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["killed_work"])  # so that each run begins quickly
    process = context.Process(target=train, args=work)
    # The server of forks ignores the path it is given (Python 3.11) and what it fails to import.
    paths = [str(Path(__file__).parent), os.environ.get("PYTHONPATH", "")]
    with mock.patch.dict(os.environ, PYTHONPATH=os.pathsep.join(filter(None, paths))):
        process.start()
    return process


def finish(process: BaseProcess) -> None:
    """Wait for a run that goes well."""
    process.join(120)
    assert process.exitcode == 0


def without(value: Any, *names: str) -> Any:
    """Return JSON without some keys, wherever they stand."""
    if isinstance(value, dict):
        return {k: without(v, *names) for k, v in value.items() if k not in names}
    return [without(v, *names) for v in value] if isinstance(value, list) else value


def outcome(run: Path, *names: str) -> dict[str, Any]:
    """Return what a run logged, but for the seconds and some keys.

    That is its result, its journal, its events (a kill between an event and its record has the
    event said twice), and the states of a search's generator.
    """
    names = ("seconds", "exhausted", "t", *names)  # exhausted: a message, with the seconds in it
    result = json.loads((run / "result.json").read_text(encoding="utf-8"))
    said = [e for e in rows(run / "events.jsonl") if e["kind"] in ("scores", "proposals")]
    events = without(said, *names)
    draws = run / "draws.txt"
    return {
        "result": without(result, *names),
        "journal": without(rows(journal(run)), *names),
        "events": events[:1] + [b for a, b in pairwise(events) if a != b],
        "draws": draws.read_text().split() if draws.exists() else [],
    }


def rows(file: Path) -> list[Any]:
    """Return the objects of a file of JSON lines."""
    return [json.loads(line) for line in file.read_text(encoding="utf-8").splitlines()]


def journal(run: Path) -> Path:
    """Return the file of a run's scores."""
    return run / "checkpoints" / "journal.jsonl"


def lines(file: Path) -> int:
    """Return how many lines a file has by now."""
    return file.read_bytes().count(b"\n") if file.exists() else 0


def kill_at(process: BaseProcess, file: Path, count: int, later: float) -> None:
    """Kill a run some seconds after a file has so many lines."""
    deadline = time.monotonic() + 120
    while lines(file) < count and process.is_alive() and time.monotonic() < deadline:
        time.sleep(0.002)
    time.sleep(later)
    process.kill()
    process.join()
