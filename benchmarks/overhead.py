"""Overhead of one evaluation: what the scorer adds to a model that answers at once.

    python benchmarks/overhead.py                     # in memory
    python benchmarks/overhead.py --store             # the cache that lasts as well

The model returns an array it made beforehand, so that the time measured is promptgym's alone:
rendering, removing repeats, batching, bookkeeping, the metric, the cache. *Uncached* prompts are
new; *cached* ones were scored just before; *stored* (with `--store`) were written by an earlier
scorer and are read from SQLite by one that knows nothing. Wall-clock time on one thread, medians
(ranges) over rounds, microseconds an evaluation.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from promptgym.llms import LabelLogprobs
from promptgym.prompts import Prompt
from promptgym.scoring import Scorer
from promptgym.scoring.store import store_at
from promptgym.tasks import Task
from promptgym.testing import TransparentModel, transparent_task
from promptgym.types import FloatArray, IntArray

WORDS = ("alpha", "beta", "gamma", "delta", "one", "two", "three", "four", "five", "six")


class Instant(TransparentModel):
    """Answers anything with the same numbers, at once."""

    def __init__(self) -> None:
        """Prepare the answers."""
        super().__init__()
        self.table: FloatArray = np.tile(np.log([0.3, 0.7]), (200_000, 1))
        self.read: IntArray = np.full(200_000, 12, dtype=np.int64)

    def label_logprobs(self, texts: Sequence[str], labels: Sequence[str]) -> LabelLogprobs:
        """Answer with views of the table."""
        return LabelLogprobs(self.table[: len(texts)], self.read[: len(texts)])

    def count_tokens(self, texts: Sequence[str]) -> IntArray:
        """Answer with a view of the table."""
        return self.read[: len(texts)]


def new_prompts(count: int, rng: np.random.Generator) -> list[Prompt]:
    """Return prompts that no round has seen."""
    return [
        Prompt(" ".join([*rng.choice(WORDS, 7), str(rng.integers(1 << 40))])) for _ in range(count)
    ]


def one_round(task: Task, count: int, place: str | None, rng: np.random.Generator) -> list[float]:
    """Return microseconds an evaluation: uncached, cached and, with a place, stored."""
    model, prompts = Instant(), new_prompts(count, rng)
    pairs = count * len(task.train)
    store = None if place is None else store_at(place)

    def score(scorer: Scorer) -> float:
        start = time.perf_counter()
        scorer.score(prompts, task.train)
        return (time.perf_counter() - start) / pairs * 1e6

    scorer = Scorer(task, model, task.template, store=store)
    times = [score(scorer), score(scorer)]
    if store is not None:
        times.append(score(Scorer(task, model, task.template, store=store)))
        store.close()
    return times


def row(task: Task, evaluations: int, args: argparse.Namespace) -> list[str]:
    """Return one row of the table."""
    rng = np.random.default_rng(0)
    count = max(1, evaluations // len(task.train))
    found = []
    with tempfile.TemporaryDirectory() as folder:
        for number in range(args.rounds + 1):
            place = str(Path(folder) / f"{number}.sqlite") if args.store else None
            found.append(one_round(task, count, place, rng))
    columns = zip(*found[1:], strict=True)
    cells = [f"{statistics.median(t):.2f} ({min(t):.2f}-{max(t):.2f})" for t in columns]
    return [str(len(task.train)), f"{count * len(task.train):,}", *cells]


def main() -> None:
    """Parse arguments and print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--store", action="store_true", help="with the cache that lasts")
    args = parser.parse_args()
    columns = ["examples a prompt", "evaluations", "uncached, us", "cached, us"]
    columns += ["stored, us"] if args.store else []
    print("| " + " | ".join(columns) + " |")
    print("|" + " --- |" * len(columns))
    for examples in (16, 100):
        task = transparent_task(examples)
        for size in (1_000, 100_000):
            print("| " + " | ".join(row(task, size, args)) + " |", flush=True)


if __name__ == "__main__":
    main()
