"""The report of a benchmark: tables, plots and page, of cells whose scores are known."""

from __future__ import annotations

import csv
import io
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from matplotlib.image import imread
from test_bench import suite_of

from promptgym.cli import main
from promptgym.errors import ConfigError
from promptgym.evaluation import stats
from promptgym.evaluation.bench import BenchFolder
from promptgym.evaluation.bench_cell import Failure
from promptgym.evaluation.bench_plots import featured, plots
from promptgym.evaluation.bench_report import (
    NO_SCORES,
    anytime_table,
    summary_table,
    task_table,
    write_bench_report,
)
from promptgym.evaluation.bench_results import Finding, Setting, read_bench
from promptgym.runs.folder import write_json

SUITE = """
budgets = [640]
seeds = 4
models = ["tiny"]
tasks = ["author", "topic"]
methods = ["manual", "random_tokens", "hill_climbing", {name = "<rl|>", method = "rlprompt"}]
"""
LEVELS = {"manual": 0.5, "random_tokens": 0.5, "hill_climbing": 0.7, "<rl|>": 0.9}


def write(bench: BenchFolder, cell: Any, test: float) -> None:
    """Write what a cell leaves that a report reads."""
    folder = bench.folder(cell)
    folder.mkdir(parents=True)
    score = {"value": test}
    prompt = {"instruction": "a, b"}
    best = {"prompt": prompt, "reward": 1.5, "dev": score, "test": score}
    spent = {"queries": 600, "tokens": 9000, "usd": None, "seconds": 2.5}
    write_json(folder / "result.json", {"best": best, "spent": spent})
    curve = [{"queries": q, "dev": test, "test": test - down} for q, down in ((300, 0.1), (600, 0))]
    write_json(folder / "anytime.json", curve)


@pytest.fixture
def bench(tmp_path: Path) -> BenchFolder:
    """A benchmark: seed s of a method scores its level + s / 100; one cell failed, one is missing.

    The manual prompt scores the same with every seed.
    """
    suite = suite_of(tmp_path, SUITE)
    bench = BenchFolder.create(tmp_path / "out", suite)
    for cell in suite.cells():
        if cell.method == "random_tokens" and cell.seed == 3:
            if cell.task == "topic":
                bench.note(cell, Failure("ModelError: none", "details"))
            continue
        luck = 0.0 if cell.method == "manual" else cell.seed / 100
        write(bench, cell, LEVELS[cell.method] + luck)
    return bench


def test_methods_are_summed_up_against_the_strongest_baseline(bench: BenchFolder) -> None:
    findings, (setting,) = read_bench(bench.path)
    assert len(findings) == 32 and setting.name == "tiny, start manual, 640 queries"
    assert setting.reference == "hill_climbing"
    assert {m: s.shape for m, s in setting.scores.items()} == {
        "manual": (4, 2),
        "random_tokens": (3, 2),
        "hill_climbing": (4, 2),
        "<rl|>": (4, 2),
    }
    rows = {row["method"]: row for row in setting.summary()}
    assert rows["manual"]["iqm"] == [0.5, 0.5, 0.5]
    assert rows["<rl|>"]["mean"][0] == pytest.approx(0.915)
    assert 0.9 <= rows["<rl|>"]["mean"][1] < 0.915 < rows["<rl|>"]["mean"][2] <= 0.93
    assert rows["<rl|>"]["improvement"] == [1.0, 1.0, 1.0]
    assert rows["manual"]["improvement"] == [0.0, 0.0, 0.0]
    assert rows["hill_climbing"]["p"] is None
    pairs = [(setting.scores[m], setting.scores["hill_climbing"]) for m in rows if m[0] != "h"]
    alone = [stats.permutation_test(*p, rng=np.random.default_rng(0)).p for p in pairs]
    found = [row["p"] for m, row in rows.items() if m[0] != "h"]
    np.testing.assert_allclose(found, stats.holm(alone))
    assert max(found) < 0.05


def test_failed_and_missing_cells_have_columns_of_their_own(bench: BenchFolder) -> None:
    _, (setting,) = read_bench(bench.path)
    head, rows = task_table(setting)
    assert head == ["method", "author", "topic", "failed", "missing"]
    table = {row[0]: row[1:] for row in rows}
    assert table["random_tokens"][2:] == ["1", "1"] and table["manual"][2:] == ["0", "0"]
    assert table["manual"][0] == "0.500 [0.500, 0.500]"
    assert table["random_tokens"][0].startswith("0.510 [")


def test_curves_hold_each_score_until_the_next(bench: BenchFolder) -> None:
    _, (setting,) = read_bench(bench.path)
    rows = setting.curves("<rl|>", "topic", np.array([0.0, 299, 300, 599, 600, 700]))
    assert rows.shape == (4, 6) and np.isnan(rows[:, :2]).all()
    np.testing.assert_allclose(rows[2, 2:], [0.82, 0.82, 0.92, 0.92])


def test_smaller_budgets_are_read_off_the_curves(bench: BenchFolder) -> None:
    _, (setting,) = read_bench(bench.path)
    head, rows = anytime_table(setting) or ([], [])
    assert head == ["IQM by", "160 queries", "320 queries", "640 queries"]
    table = {row[0]: row[1:] for row in rows}
    assert table["manual"] == ["-", "0.400 [0.400, 0.400]", "0.500 [0.500, 0.500]"]
    assert table["<rl|>"][1].startswith("0.815 [") and table["<rl|>"][2].startswith("0.915 [")


def test_the_report_is_three_files_and_the_page_holds_all_of_it(
    bench: BenchFolder, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as left:
        main(["report", str(bench.path)])
    assert not left.value.code
    files = [Path(line) for line in capsys.readouterr().out.splitlines()]
    assert [f.name for f in files] == ["report.html", "report.md", "results.csv"]
    page, text, rows = (f.read_text(encoding="utf-8") for f in files)
    assert page.count("data:image/png;base64,iVBOR") == 4
    assert not re.search(r'(src|href)="(?!data:)', page) and "<rl|>" not in page
    assert "30 of 32 cells finished, 1 failed" in page and "30 of 32 cells finished" in text
    assert "| method | author | topic | failed | missing |" in text and "<rl\\|>" in text
    read = list(csv.DictReader(rows.splitlines()))
    assert len(read) == 32 and {r["status"] for r in read} == {"finished", "failed", "missing"}
    assert read[0]["prompt"] == "a, b" and float(read[0]["test"]) == 0.5
    assert read[0]["budget"] == "queries=640" and read[0]["usd"] == ""


def test_one_seed_of_one_method_has_a_report_too(tmp_path: Path) -> None:
    suite = suite_of(tmp_path, SUITE)
    bench = BenchFolder.create(tmp_path / "out", suite)
    with pytest.raises(ConfigError, match="no cell has finished yet"):
        write_bench_report(bench.path)
    write(bench, suite.cells()[0], 0.5)
    _, (setting,) = read_bench(bench.path)
    assert setting.scores == {} and setting.reference is None and setting.summary() == []
    assert list(plots(setting)) == ["Test score of the best prompt by dev, against queries"]
    files = write_bench_report(bench.path)
    assert all(file.stat().st_size for file in files)
    for text in (file.read_text(encoding="utf-8") for file in files[:2]):
        assert NO_SCORES in text and "better than" not in text and "IQM by" not in text


def test_without_a_baseline_there_is_nothing_to_be_better_than(tmp_path: Path) -> None:
    lines = SUITE.partition("methods")[0] + 'methods = ["rlprompt", "ppo_edit"]'
    suite = suite_of(tmp_path, lines)
    bench = BenchFolder.create(tmp_path / "out", suite)
    for cell in suite.cells():
        write(bench, cell, 0.5)
    _, (setting,) = read_bench(bench.path)
    head, rows = summary_table(setting) or ([], [])
    assert head == ["method", "seeds", "iqm", "mean", "median", "optimality gap"]
    assert [len(row) for row in rows] == [6, 6]


def test_the_page_is_light_or_dark_and_so_are_its_plots(bench: BenchFolder) -> None:
    page = write_bench_report(bench.path)[0].read_text(encoding="utf-8")
    assert "color-scheme: light dark" in page
    dark = page.partition("@media (prefers-color-scheme: dark) {")[2]
    assert "--ground:" in dark and "img { filter: invert" in dark
    _, (setting,) = read_bench(bench.path)
    for png in plots(setting).values():
        ground = imread(io.BytesIO(png))[0, 0]
        assert len(ground) == 4 and ground[3] == 0  # what stands behind it shows through


def test_of_many_methods_the_floors_and_the_best_have_a_colour() -> None:
    methods = ["manual", *(f"m{i:02d}" for i in range(14)), "random_tokens"]
    findings = []
    for place, method in enumerate(methods):
        for seed in range(3):
            cell = {"method": method, "task": "t", "seed": seed, "model": "m", "budget": {}}
            score = place / 20 if method.startswith("m0") or method.startswith("m1") else 0.0
            rows = [{"queries": 10, "dev": score, "test": score}]
            findings.append(Finding({**cell, "start": "manual"}, "finished", score, {}, rows))
    many = Setting("s", tuple(methods), ("t",), tuple(findings), ())
    assert featured(many) == ["manual", *(f"m{i:02d}" for i in range(6, 14)), "random_tokens"]
    few = Setting("s", tuple(methods[:10]), ("t",), tuple(findings[:30]), ())
    assert featured(few) == methods[:10]
    assert set(plots(many)) == set(plots(few))
