"""Regret on prompt tables: curves out of a run's events, and what a benchmark's report says."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from env_problems import SIZE, TABLE

from promptgym.evaluation.bench import BenchFolder
from promptgym.evaluation.bench_cell import REGRET, run_cell
from promptgym.evaluation.bench_report import optimum_tables, regret_tables, write_bench_report
from promptgym.evaluation.bench_results import read_bench
from promptgym.evaluation.regret import POINTS, regrets, table_curve
from promptgym.evaluation.suite_file import load_suite
from promptgym.problem import Problem, make_problem
from promptgym.prompts import Prompt
from promptgym.scoring.tabulated import tabulate

BEST = "alpha beta gamma"  # of `env_problems.small_table`


def problem() -> Problem:
    return make_problem(TABLE, TABLE)


def event(prompts: list[str], queries: int, examples: int = SIZE, **more: Any) -> dict[str, Any]:
    return {
        "kind": "scores",
        "split": "train",
        "prompts": [Prompt(p).to_json() for p in prompts],
        "complete": [True] * len(prompts),
        "examples": examples,
        "spent": {"queries": queries},
        **more,
    }


def lacks(*prompts: str) -> list[float]:
    of = problem()
    worth = tabulate(of.task, of.model, of.reward)
    rows = [of.model.table.row(p) for p in prompts]  # type: ignore[attr-defined]
    return ((worth.optimum - worth.reward[rows]) / of.reward.scale).tolist()


def test_regret_is_that_of_the_best_asked_and_of_all_asked() -> None:
    one, two = lacks("alpha", "alpha beta")
    curve = table_curve(
        [event(["alpha"], 8), {"kind": "proposals"}, event(["alpha beta", "alpha"], 24),
         event(["one"], 32, split="dev"), event([BEST], 40)],
        problem(),
    )  # fmt: skip
    assert [row["queries"] for row in curve] == [8, 24, 40]
    assert [row["simple"] for row in curve] == pytest.approx([one, min(one, two), 0.0])
    assert [row["cumulative"] for row in curve] == pytest.approx(
        [one, 2 * one + two, 2 * one + two]
    )


def test_a_prompt_counts_as_found_once_all_of_it_was_asked() -> None:
    half = SIZE // 2
    cut = event(["alpha"], 16, complete=[False])
    curve = table_curve([event([BEST], 4, half), cut, event([BEST], 20, half)], problem())
    assert [row["simple"] for row in curve] == [None, None, 0.0]
    (one,) = lacks("alpha")
    assert table_curve([event(["alpha"], 4, half)], problem())[0]["cumulative"] == one / 2


def test_long_curves_are_thinned_and_keep_their_end() -> None:
    curve = table_curve([event(["alpha"], 8 * i) for i in range(1, 1001)], problem())
    assert len(curve) == POINTS and curve[-1]["queries"] == 8000


def test_regret_is_known_on_tables_only() -> None:
    of = problem()
    known = regrets([Prompt(BEST).to_json(), Prompt("one").to_json()], of.task, of)
    assert known is not None and known[0] == 0.0 < known[1]
    plain = make_problem("author")
    assert regrets([Prompt("closely").to_json()], plain.task, plain) is None


def test_a_benchmark_on_a_prompt_table_reports_regret(tmp_path: Path) -> None:
    file = tmp_path / "mine.toml"
    file.write_text(
        f'budgets = [{SIZE * 160}]\nseeds = 2\ntasks = [{{name = "t", task = "{TABLE}", model = '
        f'"{TABLE}"}}]\nmethods = ["empty", "hill_climbing"]'
    )
    suite = load_suite(file)
    bench = BenchFolder.create(tmp_path / "out", suite)
    jobs = [bench.job(cell) for cell in suite.cells()]
    for job in jobs:
        run_cell(job)
        curve = json.loads((job.folder / REGRET).read_text())
        simple = [row["simple"] for row in curve if row["simple"] is not None]
        assert simple == sorted(simple, reverse=True)
        assert (np.diff([row["cumulative"] for row in curve]) >= 0).all()
    findings, _ = read_bench(bench.path)
    ((head, rows),) = optimum_tables(findings).values()
    assert head == [
        "least regret", "by 320 queries", "by 640 queries", "by 1,280 queries", "found the optimum"
    ]  # fmt: skip
    assert [row[0] for row in rows] == ["empty", "hill_climbing"]
    assert rows[0][1][:5] == rows[0][3][:5] == f"{lacks('')[0]:.3f}"
    assert [row[4][:5] for row in rows] == ["0.000", "1.000"]  # weights add up: it climbs
    ((_, chosen),) = regret_tables(findings).values()
    assert chosen[0][1].startswith(f"{lacks('')[0]:.3f}")
    page, text, _ = (f.read_text() for f in write_bench_report(bench.path))
    assert "Least regret of the prompts asked: t, 1,280 queries" in text
    assert "Regret to the optimum, against queries" in page
