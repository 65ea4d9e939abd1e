"""Overhead of one evaluation: what promptgym adds to a model that answers at once.

    python benchmarks/overhead.py                     # the scorer, in memory
    python benchmarks/overhead.py --store             # the cache that lasts as well
    python benchmarks/overhead.py --driver            # whole searches: driver, journal, events

The model returns an array it made beforehand, so that the time measured is promptgym's alone:
rendering, removing repeats, batching, bookkeeping, the metric, the cache. *Uncached* prompts are
new; *cached* ones were scored just before; *stored* (with `--store`) were written by an earlier
scorer and are read from SQLite by one that knows nothing. Wall-clock time on one thread, medians
(ranges) over rounds, microseconds an evaluation.

With `--driver`, methods search within budgets of 1,000 to 100,000 queries: *in memory*, and with
journal and event log on disk, as `promptgym train` keeps them. A proposer answers at once, too. The
time is the processor's, a query of the budget spent.
"""

from __future__ import annotations

import argparse
import itertools
import statistics
import tempfile
import time
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

import numpy as np

from promptgym.agents import make_optimizer
from promptgym.llms import Completion, LabelLogprobs, Sampling
from promptgym.problem import Problem
from promptgym.prompts import Prompt
from promptgym.runs.events import EventLog
from promptgym.scoring import Scorer
from promptgym.scoring.store import store_at
from promptgym.tasks import Task
from promptgym.testing import TransparentModel, transparent_task
from promptgym.types import FloatArray, IntArray

WORDS = ("alpha", "beta", "gamma", "delta", "one", "two", "three", "four", "five", "six")
VOCABULARY = tuple(f"word{i}" for i in range(1_000))
"""Enough that no search runs out of new prompts, though all are worth the same."""
METHODS: dict[str, dict[str, int]] = {
    "random_tokens": {},
    "genetic": {"iterations": 0, "patience": 0},
    "protegi": {"rounds": 1_000_000},
}
"""What `--driver` runs: searches that only the budget ends."""
BUDGETS = (1_000, 10_000, 100_000)


class Instant(TransparentModel):
    """Answers anything with the same numbers, at once."""

    def __init__(self) -> None:
        """Prepare the answers."""
        super().__init__()
        self.table: FloatArray = np.tile(np.log([0.3, 0.7]), (200_000, 1))
        self.read: IntArray = np.full(200_000, 12, dtype=np.int64)
        self.written = 0

    def label_logprobs(self, texts: Sequence[str], labels: Sequence[str]) -> LabelLogprobs:
        """Answer with views of the table."""
        return LabelLogprobs(self.table[: len(texts)], self.read[: len(texts)])

    def count_tokens(self, texts: Sequence[str]) -> IntArray:
        """Answer with a view of the table."""
        return self.read[: len(texts)]

    def generate(self, texts: Sequence[str], sampling: Sampling) -> list[Completion]:
        """Write something new to each text, in the tags that ProTeGi reads."""
        start, self.written = self.written, self.written + len(texts)
        said = "<reason>vague</reason> <instruction>alpha beta gamma {}</instruction>"
        return [Completion(said.format(i), 12) for i in range(start, self.written)]


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
    cells = [spread(times, 2) for times in columns]
    return [str(len(task.train)), f"{count * len(task.train):,}", *cells]


def spread(times: Sequence[float], digits: int) -> str:
    """Return median and range."""
    median, least, most = statistics.median(times), min(times), max(times)
    return f"{median:.{digits}f} ({least:.{digits}f}-{most:.{digits}f})"


def search(name: str, task: Task, budget: int, folder: Path | None, seed: int) -> float:
    """Return the CPU-microseconds that a search takes a query.

    Args:
        name: the method.
        task: the task.
        budget: in queries.
        folder: for journal and events; None keeps none.
        seed: of the search.
    """
    events = None if folder is None else EventLog(folder / "events.jsonl")
    problem = Problem(
        task,
        Instant(),
        budget=budget,
        events=events,
        proposer=Instant(),
        vocabulary=VOCABULARY,
    )
    method = make_optimizer(name, **METHODS[name])
    start = time.process_time()
    result = method.optimize(problem, seed, checkpoint_dir=folder)
    seconds, queries = time.process_time() - start, result.spent["queries"]
    if queries < 0.7 * budget:
        raise SystemExit(f"{name} ended after {queries:,} of {budget:,} queries: no such search")
    return seconds / queries * 1e6


def driver_rows(task: Task, rounds: int) -> Iterator[list[str]]:
    """Yield the rows of `--driver`."""
    for name, budget in itertools.product(METHODS, BUDGETS):
        cells = []
        for on_disk in (False, True):
            times = []
            for seed in range(rounds + 1):  # the first one imports
                with tempfile.TemporaryDirectory() as folder:
                    place = Path(folder) if on_disk else None
                    times.append(search(name, task, budget, place, seed))
            cells.append(spread(times[1:], 1))
        yield [name, f"{budget:,}", *cells]


def table(columns: Sequence[str], rows: Iterable[Sequence[str]]) -> None:
    """Print a table as its rows come."""
    print("| " + " | ".join(columns) + " |")
    print("|" + " --- |" * len(columns), flush=True)
    for cells in rows:
        print("| " + " | ".join(cells) + " |", flush=True)


def main() -> None:
    """Parse arguments and print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--store", action="store_true", help="with the cache that lasts")
    parser.add_argument("--driver", action="store_true", help="whole searches instead")
    parser.add_argument("--examples", type=int, default=64, help="a prompt, with --driver")
    args = parser.parse_args()
    if args.driver:
        columns = ["method", "queries", "in memory, us a query", "journal and events, us a query"]
        table(columns, driver_rows(transparent_task(args.examples), args.rounds))
        return
    columns = ["examples a prompt", "evaluations", "uncached, us", "cached, us"]
    columns += ["stored, us"] if args.store else []
    settings = itertools.product((16, 100), (1_000, 100_000))
    table(columns, (row(transparent_task(n), size, args) for n, size in settings))


if __name__ == "__main__":
    main()
