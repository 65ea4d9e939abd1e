"""A benchmark that ran: killed and resumed it is the same, and its report says what cells found."""

from __future__ import annotations

import csv
import html
import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy.stats import trim_mean
from test_bench import ENVIRONMENT, run_here, suite_of

from promptgym.evaluation.bench import BenchFolder
from promptgym.evaluation.bench_cell import run_cell
from promptgym.evaluation.bench_report import write_bench_report
from promptgym.evaluation.suite_file import load_suite

SMALL = "options = {sizes = {train = 16, dev = 16, test = 40}}"
SUITE = f"""
budgets = [640]
seeds = 3
models = ["tiny"]
tasks = [{{task = "author", {SMALL}}}, {{task = "topic", {SMALL}}}]
methods = ["manual", "random_tokens", "hill_climbing"]
"""
Rows = list[list[str]]


def outcome(folder: Path) -> tuple[Any, Any]:
    """Return all that a cell found, without how long it took."""
    result, curve = (json.loads((folder / f).read_text()) for f in ("result.json", "anytime.json"))
    del result["spent"]["seconds"]
    return result, curve


def test_a_cell_killed_in_the_middle_is_resumed_to_the_same_result(tmp_path: Path) -> None:
    suite = load_suite("quick")
    cell = next(c for c in suite.cells() if c.method == "random_tokens")
    whole = BenchFolder.create(tmp_path / "whole", suite)
    run_cell(whole.job(cell))
    killed = BenchFolder.create(tmp_path / "killed", suite)
    journals = [b.folder(cell) / "checkpoints/journal.jsonl" for b in (whole, killed)]
    asked = journals[0].read_bytes().count(b"\n")
    command = [sys.executable, "-m", "promptgym.cli", "bench", "quick", "--only", cell.name]
    command += ["--out", str(killed.path), "--quiet", "--resume"]
    process = subprocess.Popen(command, env=ENVIRONMENT, start_new_session=True)
    while not journals[1].exists() or journals[1].read_bytes().count(b"\n") < asked // 2:
        assert process.poll() is None
        time.sleep(0.002)
    os.killpg(process.pid, signal.SIGKILL)  # the benchmark and the process of the cell
    process.wait()
    assert asked // 2 <= journals[1].read_bytes().count(b"\n") < asked
    assert not (killed.folder(cell) / "result.json").exists()
    subprocess.run(command, env=ENVIRONMENT, check=True, capture_output=True)
    assert outcome(killed.folder(cell)) == outcome(whole.folder(cell))
    assert journals[1].read_bytes().count(b"\n") == asked  # nothing was asked twice


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a benchmark that ran through, with its report."""
    folder = tmp_path_factory.mktemp("numbers")
    suite = suite_of(folder, SUITE)
    bench = BenchFolder.create(folder / "out", suite)
    assert run_here(bench, suite) == {}
    write_bench_report(bench.path)
    return bench.path


@pytest.fixture(scope="module")
def cells(finished: Path) -> dict[tuple[str, str, int], tuple[Any, Any]]:
    """(method, task, seed) -> result.json and anytime.json, read here and not by the package."""
    about = json.loads((finished / "bench.json").read_text())["cells"]
    found = {}
    for cell in about:
        folder = finished / "cells" / cell["name"]
        files = (json.loads((folder / f).read_text()) for f in ("result.json", "anytime.json"))
        result, curve = files
        found[cell["method"], cell["task"], cell["seed"]] = result, curve
    assert len(found) == 3 * 2 * 3
    return found


def tables(text: str) -> list[Rows]:
    """Return the tables of a Markdown text, the line under the head left out."""
    blocks = [b.splitlines() for b in text.split("\n\n") if b.startswith("| ")]
    return [
        [[c.strip() for c in r.strip("| ").split(" | ")] for r in b[:1] + b[2:]] for b in blocks
    ]


def shown(values: Any) -> str:
    return f"{float(values):.3f}"


def test_every_number_of_the_csv_is_that_of_its_cell(finished: Path, cells: Any) -> None:
    rows = list(csv.DictReader((finished / "results.csv").read_text().splitlines()))
    assert len(rows) == len(cells)
    for row in rows:
        result, curve = cells[row["method"], row["task"], int(row["seed"])]
        best, spent = result["best"], result["spent"]
        assert row["status"] == "finished" and row["budget"] == "queries=640"
        assert float(row["test"]) == best["test"]["value"] == curve[-1]["test"]
        assert float(row["dev"]) == best["dev"]["value"] == curve[-1]["dev"]
        assert float(row["reward"]) == best["reward"]
        assert row["prompt"] == best["prompt"]["instruction"]
        assert [float(row[k]) for k in ("queries", "tokens", "seconds")] == [
            spent[k] for k in ("queries", "tokens", "seconds")
        ]
        assert row["usd"] == "" and row["regret"] == ""


def test_the_tables_of_the_report_are_those_of_the_cells(finished: Path, cells: Any) -> None:
    by_task, summary, anytime = tables((finished / "report.md").read_text(encoding="utf-8"))
    assert by_task[0] == ["method", "author", "topic", "failed", "missing"]
    assert summary[0][:6] == ["method", "seeds", "iqm", "mean", "median", "optimality gap"]
    assert anytime[0] == ["IQM by", "160 queries", "320 queries", "640 queries"]
    methods = ["manual", "random_tokens", "hill_climbing"]
    assert [[row[0] for row in t[1:]] for t in (by_task, summary, anytime)] == [methods] * 3

    def matrix(method: str, at: float) -> Any:
        """Return test of what each seed and task had found by then; None where one had nothing."""
        out = []
        for seed in range(3):
            known = [
                [r["test"] for r in cells[method, task, seed][1] if r["queries"] <= at]
                for task in ("author", "topic")
            ]
            out.append([k[-1] if k else np.nan for k in known])
        whole = np.array(out)[~np.isnan(out).any(axis=1)]
        return whole if len(whole) else None

    final = {m: matrix(m, np.inf) for m in methods}
    strongest = max(methods, key=lambda m: trim_mean(final[m], 0.25, axis=None))
    assert summary[0][6:] == [f"P(better than {strongest})", "p"]
    for i, method in enumerate(methods, start=1):
        scores = final[method]
        for j, cell in enumerate(by_task[i][1:3]):
            point, low, high = map(float, re.findall(r"[\d.]+", cell))
            assert shown(point) == shown(scores[:, j].mean())
            assert scores[:, j].min() - 1e-3 <= low <= point <= high <= scores[:, j].max() + 1e-3
        assert by_task[i][3:] == ["0", "0"] and summary[i][1] == "3"
        own = (trim_mean(scores, 0.25, axis=None), scores.mean(), np.median(scores.mean(axis=0)))
        points = [cell.partition(" ")[0] for cell in summary[i][2:6]]
        assert points == [shown(v) for v in (*own, 1 - scores.mean())]
        if method != strongest:
            wins = np.sign(scores[:, None] - final[strongest][None]) / 2 + 0.5
            assert summary[i][6].startswith(shown(wins.mean()))
            assert 0 < float(summary[i][7]) <= 1
        for cell, at in zip(anytime[i][1:], (160, 320, np.inf), strict=True):
            then = matrix(method, at)
            expected = "-" if then is None else shown(trim_mean(then, 0.25, axis=None))
            assert cell.partition(" ")[0] == expected


def test_the_page_shows_the_same_tables(finished: Path) -> None:
    page = (finished / "report.html").read_text(encoding="utf-8")
    on_page = []
    for table in re.findall(r"<table>(.*?)</table>", page, re.DOTALL):
        rows = [re.findall(r"<t[hd]>(.*?)</t[hd]>", row) for row in table.split("<tr>")]
        on_page.append([[html.unescape(cell) for cell in row] for row in rows if row])
    text = (finished / "report.md").read_text(encoding="utf-8")
    assert on_page == tables(text)
    assert "18 of 18 cells finished, 0 failed" in page and "18 of 18 cells finished" in text
