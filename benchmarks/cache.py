"""The cache that lasts: a million scores written, and read again by one process and by two.

    python benchmarks/cache.py                        # SQLite
    python benchmarks/cache.py --place postgresql://user@host/database

A score is what one prompt did on one example: log-probabilities of two labels and a token count.
Every prompt has its scores on the same examples, 16 (a few-shot split) or 256. Writing and reading
go through `Shelf`, in batches of as many prompts as one call of the scorer holds (8,192 scores).
Readers are fresh processes that know nothing but have imported SQLAlchemy; their clock starts when
all are ready and stops when each has read everything, opening the database included, and what they
read is compared with what was written. The files were just written, so they are in the system's
page cache. Medians of rounds.
"""

from __future__ import annotations

import argparse
import importlib
import multiprocessing
import statistics
import tempfile
import time
from collections.abc import Iterator
from multiprocessing.synchronize import Barrier
from pathlib import Path

import numpy as np

from promptgym.prompts import Example, Prompt
from promptgym.scoring.store import Answered, ExampleSet, Setting, Shelf, store_at
from promptgym.types import FloatArray, IntArray

BATCH = 8192


def shelf_at(place: str) -> Shelf:
    """Return a shelf that knows nothing yet."""
    setting = Setting("benchmark@1", "causal", "", "{input} {prompt}", "", ("no", "yes"))
    return Shelf(store_at(place), setting)


def example_set(size: int) -> ExampleSet:
    """Return the examples."""
    return ExampleSet(tuple(Example(f"a sentence with the number {i}", "yes") for i in range(size)))


def batches(scores: int, size: int) -> Iterator[list[Prompt]]:
    """Yield the prompts, batch by batch."""
    count, step = scores // size, max(1, BATCH // size)
    for start in range(0, count, step):
        numbers = range(start, min(start + step, count))
        yield [Prompt(f"please read prompt number {i} with care") for i in numbers]


def answers_of(start: int, size: int) -> FloatArray:
    """Return the answers of a prompt: some numbers that differ."""
    values = start + np.arange(2.0 * size) / (2 * size)
    return np.asarray(-values.reshape(size, 2))


def write(place: str, scores: int, size: int) -> float:
    """Write all scores; return the seconds it took."""
    shelf, examples = shelf_at(place), example_set(size)
    tokens: IntArray = np.arange(size)
    start, number = time.perf_counter(), 0
    for prompts in batches(scores, size):
        rows = []
        for prompt in prompts:
            rows.append(Answered(prompt, examples, answers_of(number, size), tokens))
            number += 1
        shelf.write(rows)
    return time.perf_counter() - start


def read(place: str, scores: int, size: int, ready: Barrier, out: object) -> None:
    """Read all scores in a process of its own; report the seconds it took."""
    importlib.import_module("sqlalchemy")
    shelf, examples = shelf_at(place), example_set(size)
    ready.wait()
    start = time.perf_counter()
    got: list[FloatArray] = []
    for prompts in batches(scores, size):
        found = shelf.read(prompts, [examples] * len(prompts))
        got += [f.answers for f in found if f is not None]  # type: ignore[misc]
    seconds = time.perf_counter() - start
    assert len(got) == scores // size
    assert all((got[i] == answers_of(i, size)).all() for i in range(0, len(got), 97))
    out.put(seconds)  # type: ignore[attr-defined]


def readers(place: str, scores: int, size: int, count: int) -> float:
    """Return the seconds until the last of some readers had read everything."""
    spawn = multiprocessing.get_context("spawn")
    ready, out = spawn.Barrier(count), spawn.Queue()
    arguments = (place, scores, size, ready, out)
    processes = [spawn.Process(target=read, args=arguments) for _ in range(count)]
    for process in processes:
        process.start()
    slowest = max(out.get() for _ in processes)
    for process in processes:
        process.join()
    return float(slowest)


def measure(args: argparse.Namespace, size: int) -> list[str]:
    """Return one row of the table: scores a second."""
    scores = args.scores // size * size
    times: dict[str, list[float]] = {"write": [], "one": [], "two": []}
    megabytes = 0.0
    for number in range(args.rounds):
        with tempfile.TemporaryDirectory() as folder:
            place = args.place or str(Path(folder) / f"{number}.sqlite")
            times["write"].append(write(place, scores, size))
            times["one"].append(readers(place, scores, size, 1))
            times["two"].append(readers(place, scores, size, 2))
            store = store_at(place)
            store.close()
            if store.path is not None:
                megabytes = store.path.stat().st_size / 1e6
    wrote, one, two = (statistics.median(t) for t in times.values())
    return [
        f"{size}",
        f"{scores:,}",
        f"{scores / wrote:,.0f}",
        f"{scores / one:,.0f}",
        f"{scores / two:,.0f}",
        f"{2 * scores / two:,.0f}",
        f"{megabytes:.0f}" if megabytes else "-",
    ]


def main() -> None:
    """Parse arguments and print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--scores", type=int, default=1_000_000)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--place", help="an empty database instead of new SQLite files")
    args = parser.parse_args()
    columns = [
        "examples a prompt",
        "scores",
        "written/s",
        "read/s, one process",
        "read/s, each of two at once",
        "both together",
        "MB",
    ]
    print("| " + " | ".join(columns) + " |")
    print("|" + " --- |" * len(columns))
    for size in (16, 256):
        print("| " + " | ".join(measure(args, size)) + " |", flush=True)


if __name__ == "__main__":
    main()
