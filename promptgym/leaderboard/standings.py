"""What a leaderboard says: boards, the place of every method on them, estimates with intervals.

A board is a suite, a version of the environments, a budget and target models: only within one are
methods compared. Everything is computed from the runs of the entries; pages only show it.
"""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from promptgym.evaluation import stats
from promptgym.evaluation.perturbations import KINDS
from promptgym.leaderboard.entries import Entry, Run
from promptgym.leaderboard.names import entry_id, file_id
from promptgym.types import JSON, FloatArray

Value = Callable[[Run], float | None]


@dataclass(frozen=True, slots=True)
class Estimate:
    """A number with its 95 % bootstrap interval over seeds.

    Attributes:
        value: of the runs as they are.
        low: lower end.
        high: upper end.
        runs: how many runs it is of.
    """

    value: float
    low: float
    high: float
    runs: int


@dataclass(frozen=True, slots=True)
class Row:
    """One method on a board.

    Attributes:
        entry: what was submitted, recomputed.
        id: of its page.
        rank: place by `score`, equal scores share one; None without a score.
        score: IQM over the tasks of the board; None for a method that lacks one of them.
        tasks: by name of the task, the mean over seeds; only those with a value.
        numbers: by column, further numbers; only those that are known.
        seeds: how many seeds `score` is of.
    """

    entry: Entry
    id: str
    rank: int | None
    score: Estimate | None
    tasks: dict[str, Estimate]
    numbers: dict[str, float]
    seeds: int


@dataclass(frozen=True)
class Board:
    """Methods that are compared with one another.

    Attributes:
        id: of the board, in links.
        key: suite, version, budget and models.
        measure: "test", or "regret" where no run has a test score.
        ranked: the tasks that the IQM is of: those that at least half of the methods ran.
        tasks: all tasks: name -> id of the page.
        rows: the methods, best first; those without a place last, by name.
    """

    id: str
    key: tuple[str, str, str, str]
    measure: str
    ranked: tuple[str, ...]
    tasks: dict[str, str]
    rows: tuple[Row, ...] = field(repr=False)

    @property
    def name(self) -> str:
        """Return the key in words."""
        suite, version, budget, models = self.key
        return f"{suite} · promptgym {version} · {budget.replace('_', ' ')} · {models}"

    @property
    def lower_is_better(self) -> bool:
        """Whether small values of the measure are good."""
        return self.measure == "regret"

    @property
    def scale(self) -> tuple[float, float]:
        """Return the range that the intervals of the scores are drawn on."""
        known = [row.score for row in self.rows if row.score]
        return span(end for e in known for end in (e.low, e.high))


def boards_of(entries: Iterable[Entry]) -> list[Board]:
    """Return the boards of entries: the suite of most methods first, its latest version first."""
    groups: dict[tuple[str, str, str, str], list[Entry]] = {}
    for entry in entries:
        groups.setdefault(entry.board, []).append(entry)
    newest = sorted(groups, key=lambda key: _natural(key[1]), reverse=True)
    most = {suite: max(len(groups[k]) for k in groups if k[0] == suite) for suite, *_ in groups}
    ordered = sorted(newest, key=lambda key: (-most[key[0]], key[0]))
    return [_board(key, groups[key]) for key in ordered]


def measured(run: Run, measure: str) -> float | None:
    """Return the number of a run that its board ranks by; None where it has none."""
    return finite(run.test if measure == "test" else run.regret)


def finite(value: float | None) -> float | None:
    """Return a number; None for what is not one (None, NaN, infinite)."""
    return value if value is not None and math.isfinite(value) else None


def span(values: Iterable[float]) -> tuple[float, float]:
    """Return least and greatest value, a little apart; (0, 1) if there are none."""
    known = list(values)
    if not known:
        return 0.0, 1.0
    pad = max(0.005, 0.03 * (max(known) - min(known)))
    return min(known) - pad, max(known) + pad


def estimate(
    runs: Sequence[Run], tasks: Sequence[str], statistic: stats.Statistic, value: Value
) -> Estimate | None:
    """Return a statistic of runs with its interval; None if no seed has them all.

    Args:
        runs: of one method.
        tasks: each of them with each of the method's target models is a column of scores.
        statistic: of a matrix of scores (seeds, columns).
        value: what a run counts with.
    """
    found = {(run.seed, run.task, run.model): finite(value(run)) for run in runs}
    models = dict.fromkeys(run.model for run in runs)
    columns = [(task, model) for task in tasks for model in models]
    rows = [[found.get((seed, *c)) for c in columns] for seed in sorted({r.seed for r in runs})]
    whole = [row for row in rows if None not in row]
    if not whole or not columns:
        return None
    scores: FloatArray = np.array(whole, dtype=np.float64)
    drawn = stats.stratified_bootstrap(statistic, scores, rng=np.random.default_rng(0))
    return Estimate(float(drawn.point), float(drawn.low), float(drawn.high), scores.size)


def mean_of(values: Iterable[float | None]) -> float | None:
    """Return the mean of the known values; None if there are none."""
    known = [v for value in values if (v := finite(value)) is not None]
    return sum(known) / len(known) if known else None


def robustness(run: Run) -> dict[str, float]:
    """Return the robustness of a run's prompt by column; what was not measured is left out.

    By kind of perturbation the performance drop rate, `format` the spread of the metric over
    formats, `posix` the sensitivity index, `transfer:MODEL` the metric on a target model that the
    prompt was not made for: see `promptgym.evaluation.robustness`.
    """
    record = run.robustness or {}
    out = {kind: _part(record.get(kind), "drop") for kind in KINDS}
    out |= {"format": _part(record.get("format"), "spread"), "posix": record.get("posix")}
    others = record.get("transfer") or {}
    out |= {f"transfer:{model}": _part(others[model], "value") for model in sorted(others)}
    return {key: value for key, v in out.items() if (value := finite(v)) is not None}


def numbers_of(runs: Sequence[Run]) -> dict[str, float]:
    """Return the numbers of runs by column: means a run; failures are a sum."""
    columns: dict[str, Sequence[float | None]] = {
        "queries": [run.queries for run in runs],
        "tokens": [run.tokens for run in runs],
        "proposer_tokens": [run.proposer_tokens for run in runs],
        "seconds": [run.seconds for run in runs],
        "train": [run.train for run in runs],
        "dev": [run.dev for run in runs],
        "gap": [run.gap for run in runs],
        "regret": [run.regret for run in runs],
    }
    probed = [robustness(run) for run in runs]
    for key in sorted({key for found in probed for key in found}):
        columns[key] = [found.get(key) for found in probed]
    out = {key: value for key, c in columns.items() if (value := mean_of(c)) is not None}
    out["failures"] = float(sum(run.failures for run in runs))
    out["rescored"] = float(sum(run.rescored for run in runs))
    out["seeds"] = float(len({run.seed for run in runs}))
    return out


def _part(record: JSON | None, name: str) -> float | None:
    """Return a number of a record; None if it was not measured."""
    return None if record is None else record.get(name)


def _board(key: tuple[str, str, str, str], entries: list[Entry]) -> Board:
    """Put the entries of a board in order."""
    runs = [run for entry in entries for run in entry.runs]
    tested = any(finite(run.test) is not None for run in runs)
    measure = "test" if tested or all(run.regret is None for run in runs) else "regret"
    count = Counter(task for entry in entries for task in entry.tasks)
    ranked = tuple(task for task in count if 2 * count[task] >= len(entries))
    made = [_row(entry, id, ranked, measure) for id, entry in _with_ids(entries)]
    sign = 1.0 if measure == "regret" else -1.0
    worth = {row.id: sign * row.score.value if row.score else math.inf for row in made}
    made.sort(key=lambda row: (worth[row.id], row.entry.name, row.id))
    rows = [
        replace(row, rank=1 + sum(w < worth[row.id] for w in worth.values())) if row.score else row
        for row in made
    ]
    tasks = {task: file_id(task, key) for task in count}
    return Board(file_id(key[0], key), key, measure, ranked, tasks, tuple(rows))


def _with_ids(entries: Sequence[Entry]) -> list[tuple[str, Entry]]:
    """Return entries with ids; those that are the same in all an id is made of are numbered."""
    seen: Counter[str] = Counter()
    out = []
    for entry in entries:
        id = entry_id(entry)
        seen[id] += 1
        out.append((id if seen[id] == 1 else f"{id}-{seen[id]}", entry))
    return out


def _row(entry: Entry, id: str, ranked: tuple[str, ...], measure: str) -> Row:
    """Compute a method's numbers."""

    def value(run: Run) -> float | None:
        return measured(run, measure)

    score = estimate(entry.runs, ranked, stats.iqm, value)
    found = {task: estimate(entry.of(task), [task], stats.mean, value) for task in entry.tasks}
    tasks = {task: e for task, e in found.items() if e is not None}
    columns = len(ranked) * len(entry.models)
    seeds = score.runs // columns if score else 0
    return Row(entry, id, None, score, tasks, numbers_of(entry.runs), seeds)


def _natural(version: str) -> list[tuple[int, int, str]]:
    """Return what versions are sorted by: numbers as numbers."""
    parts = re.findall(r"[0-9]{1,9}|[^0-9]+", version)
    return [(1, int(p), "") if p.isdecimal() else (0, 0, p) for p in parts]
