"""What a benchmark found: its cells read back, grouped into settings, and summed up with intervals.

A setting is a model, a start prompt and a budget: only within one are methods compared.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

import numpy as np

from promptgym.baselines import BASELINES
from promptgym.errors import ConfigError
from promptgym.evaluation import stats
from promptgym.evaluation.bench import CELLS, ERRORS, BenchFolder
from promptgym.evaluation.bench_cell import ANYTIME, REGRET
from promptgym.runs.folder import RESULT
from promptgym.types import JSON, FloatArray


@dataclass(frozen=True, slots=True)
class Finding:
    """One cell.

    Attributes:
        cell: task, model, method, start, budget and seed.
        status: "finished", "failed" or "missing".
        test: test metric of the prompt chosen on dev; None if there is none.
        result: its `result.json`; empty unless finished.
        curve: its `anytime.json`; empty unless finished.
        lacking: its `regret.json`; empty unless finished on a prompt table.
    """

    cell: JSON
    status: str
    test: float | None
    result: JSON
    curve: list[JSON]
    lacking: list[JSON] = field(default_factory=list)

    @property
    def setting(self) -> str:
        """Return model, start and budget in words."""
        return f"{self.cell['model']}, start {self.cell['start']}, {self.budget}"

    @property
    def budget(self) -> str:
        """Return the budget in words."""
        return ", ".join(f"{value:,} {kind}" for kind, value in self.cell["budget"].items())

    def test_at(self, queries: float) -> float | None:
        """Return the test metric of the incumbent when so many queries were spent."""
        known: list[float | None] = [r["test"] for r in self.curve if r["queries"] <= queries]
        return known[-1] if known else None

    def regret_at(self, queries: float) -> float | None:
        """Return the least regret of what was asked when so many queries were spent."""
        known: list[float | None] = [r["simple"] for r in self.lacking if r["queries"] <= queries]
        return known[-1] if known else None

    @property
    def regret(self) -> float | None:
        """Return what the prompt lacks to the best there is; None where that is not known."""
        found: float | None = self.curve[-1].get("regret") if self.curve else None
        return found


@dataclass(frozen=True)
class Setting:
    """The cells of one model, start prompt and budget.

    Attributes:
        name: in words.
        methods: in the suite's order.
        tasks: likewise.
        findings: the cells.
        baselines: those of the methods that are search baselines.
    """

    name: str
    methods: tuple[str, ...]
    tasks: tuple[str, ...]
    findings: tuple[Finding, ...]
    baselines: tuple[str, ...]

    @cached_property
    def scores(self) -> dict[str, FloatArray]:
        """Return test scores (R, T) of every method, of the seeds that finished on all tasks."""
        return self.matrices(lambda finding: finding.test)

    def matrices(self, value: Callable[[Finding], float | None]) -> dict[str, FloatArray]:
        """Return a value (R, T) of every method, of the seeds that have it on all tasks."""
        out = {}
        for method in self.methods:
            found = {(f.cell["seed"], f.cell["task"]): value(f) for f in self.of(method)}
            seeds = sorted({seed for seed, _ in found})
            rows = [[found.get((seed, task)) for task in self.tasks] for seed in seeds]
            whole = [row for row in rows if None not in row]
            if whole:
                out[method] = np.array(whole, dtype=np.float64)
        return out

    def of(self, method: str, task: str | None = None) -> list[Finding]:
        """Return the cells of a method, on one task or all."""
        return [
            f
            for f in self.findings
            if f.cell["method"] == method and task in (None, f.cell["task"])
        ]

    @cached_property
    def reference(self) -> str | None:
        """Return the strongest baseline by IQM; None if there is none."""
        known = [m for m in self.baselines if m in self.scores]
        return max(known, key=lambda m: float(stats.iqm(self.scores[m])), default=None)

    def summary(self, resamples: int = 10_000) -> list[JSON]:
        """Return one row a method: aggregates with 95 % intervals, and against the reference.

        `improvement` is the probability of improvement over the reference and its interval, `p` the
        two-sided p-value of the permutation test within tasks, by Holm's correction over methods.
        """
        rows = []
        for method, scores in self.scores.items():
            row: JSON = {"method": method, "seeds": len(scores)}
            for name, aggregate in stats.AGGREGATES.items():
                found = stats.stratified_bootstrap(
                    aggregate, scores, rng=np.random.default_rng(0), resamples=resamples
                )
                row[name] = _triple(found)
            rows.append({**row, **self._against(method, resamples)})
        tested = [row for row in rows if row["p"] is not None]
        for row, p in zip(tested, stats.holm([row["p"] for row in tested]), strict=True):
            row["p"] = float(p)
        return rows

    def _against(self, method: str, resamples: int) -> JSON:
        """Return a method's row against the reference."""
        if self.reference in (None, method):
            return {"improvement": None, "p": None}
        pair = self.scores[method], self.scores[str(self.reference)]
        found = stats.stratified_bootstrap(
            stats.probability_of_improvement,
            *pair,
            rng=np.random.default_rng(0),
            resamples=resamples,
        )
        p = stats.permutation_test(*pair, rng=np.random.default_rng(0)).p
        return {"improvement": _triple(found), "p": p}

    def curves(self, method: str, task: str, grid: FloatArray) -> FloatArray:
        """Return test of the incumbent at each query count, shape (R, K); NaN before the first."""
        rows = []
        for finding in self.of(method, task):
            if finding.curve and finding.test is not None:
                at = [row["queries"] for row in finding.curve]
                values = np.array([np.nan, *(row["test"] for row in finding.curve)])
                rows.append(values[np.searchsorted(at, grid, side="right")])
        return np.array(rows).reshape(-1, len(grid))

    def regret_curves(self, method: str, task: str, kind: str, grid: FloatArray) -> FloatArray:
        """Return "simple" or "cumulative" regret at each query count, shape (R, K); NaN before."""
        rows = []
        for finding in self.of(method, task):
            if finding.lacking:
                at = [row["queries"] for row in finding.lacking]
                values = np.array([np.nan, *(row[kind] for row in finding.lacking)], dtype=float)
                rows.append(values[np.searchsorted(at, grid, side="right")])
        return np.array(rows).reshape(-1, len(grid))


def read_bench(path: str | Path) -> tuple[list[Finding], list[Setting]]:
    """Return the cells of a benchmark and its settings.

    Raises:
        ConfigError: if there is none, or no cell has finished.
    """
    bench = BenchFolder.open(path)
    findings = [_finding(bench.path, cell) for cell in bench.cells]
    if not any(f.status == "finished" for f in findings):
        raise ConfigError(f"{path}: no cell has finished yet; go on with promptgym bench --resume")
    specs = {m["name"]: m["spec"].partition(":")[0] for m in bench.suite["methods"]}
    settings = []
    for name in dict.fromkeys(f.setting for f in findings):
        own = tuple(f for f in findings if f.setting == name)
        methods = _distinct([f.cell["method"] for f in own])
        tasks = _distinct([f.cell["task"] for f in own])
        baselines = tuple(m for m in methods if specs[m] in BASELINES)
        settings.append(Setting(name, methods, tasks, own, baselines))
    return findings, settings


def _finding(path: Path, cell: JSON) -> Finding:
    """Read one cell."""
    folder = path / CELLS / cell["name"]
    if not (folder / ANYTIME).exists():
        failed = (path / ERRORS / f"{cell['name']}.txt").exists()
        return Finding(cell, "failed" if failed else "missing", None, {}, [])
    result = json.loads((folder / RESULT).read_text(encoding="utf-8"))
    curve = json.loads((folder / ANYTIME).read_text(encoding="utf-8"))
    test = (result["best"]["test"] or {}).get("value")
    regret = folder / REGRET
    lacking = json.loads(regret.read_text(encoding="utf-8")) if regret.exists() else []
    return Finding(cell, "finished", test, result, curve, lacking)


def _triple(found: stats.Interval) -> list[float]:
    """Return point and ends."""
    return [float(found.point), float(found.low), float(found.high)]


def _distinct(names: Sequence[str]) -> tuple[str, ...]:
    """Return names without repeats, in order."""
    return tuple(dict.fromkeys(names))
