"""Choosing among given prompts: the method, and the suite of measured tables with its regret."""

from __future__ import annotations

import csv
import json
from dataclasses import replace
from pathlib import Path
from typing import Any, get_args

import numpy as np
import pytest
from additive import batches, make

from promptgym.baselines.bandits import Kind
from promptgym.baselines.select import Select, own_prompts, race_cost
from promptgym.errors import ConfigError
from promptgym.evaluation.bench import BenchFolder
from promptgym.evaluation.bench_cell import run_cell
from promptgym.evaluation.bench_report import regret_tables, write_bench_report
from promptgym.evaluation.bench_results import read_bench
from promptgym.evaluation.suite_file import load_suite
from promptgym.problem import Problem, make_problem
from promptgym.prompts import Prompt
from promptgym.scoring import Race
from promptgym.testing import TransparentModel, transparent_task

PROMPTS, EXAMPLES, BEST = 12, 60, 7


def table(folder: Path, *, tested: bool = True) -> str:
    """Write answers of a model: prompt 7 is right in 9 of 10 cases, the others in 4 of 10 or less.

    On test they are right in shares of 0.01 times their number, prompt 7 in 0.8.
    """
    rng = np.random.default_rng(0)
    rows: list[dict[str, Any]] = []
    for i in range(PROMPTS):
        right = rng.random(EXAMPLES) < (0.9 if i == BEST else 0.4 - 0.02 * i)
        of = {"task": "t", "model": "m", "prompt": f"prompt {i}", "target": ""}
        rows += [
            {**of, "input": f"q{j}", "score": float(r), "split": "train"}
            for j, r in enumerate(right)
        ]
        if tested:
            score = 0.8 if i == BEST else 0.01 * i
            rows.append({**of, "input": "held out", "score": score, "split": "test"})
    file = folder / "scores.jsonl"
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return f"replay:{file}"


def problem(folder: Path, budget: int | None) -> Problem:
    spec = table(folder)
    return make_problem(spec, spec, budget=budget, task_options={"dev": 0})


@pytest.mark.parametrize("kind", get_args(Kind))
def test_each_bandit_finds_the_best_prompt_within_the_budget(tmp_path: Path, kind: Any) -> None:
    budget = PROMPTS * EXAMPLES if kind == "all" else 480
    asked = problem(tmp_path, budget)
    found = [Select(selection=kind).optimize(problem(tmp_path, budget), seed) for seed in range(5)]
    assert [r.best.prompt.instruction for r in found] == [f"prompt {BEST}"] * 5
    assert all(r.spent["queries"] <= budget for r in found)
    assert asked.task.reference_prompts == (found[0].best.prompt,)


@pytest.mark.parametrize("kind", get_args(Kind))
@pytest.mark.parametrize("budget", [70, 97, 150, 300])
def test_a_small_budget_is_kept_and_what_it_cannot_reach_is_left_out_at_random(
    tmp_path: Path, kind: Any, budget: int
) -> None:
    method = Select(selection=kind)
    runs = [method.optimize(problem(tmp_path, budget), seed) for seed in range(4)]
    assert all(r.spent["queries"] <= budget for r in runs)
    asked = problem(tmp_path, budget)
    reached = method.reach(asked, budget)
    assert 1 <= reached <= PROMPTS
    if kind == "all":
        assert reached == budget // EXAMPLES
        assert all(r.stats["prompts"] == reached for r in runs)
        assert len({r.best.prompt for r in runs}) > 1


@pytest.mark.parametrize("kind", get_args(Kind))
@pytest.mark.parametrize("prompts", [1, 2])
def test_what_the_budget_reaches_whole_is_asked_once_and_no_more(kind: Any, prompts: int) -> None:
    start = "one two" if prompts == 1 else "alpha"  # "one two" is the task's own
    for budget in (80 * prompts, 80_000):  # a quarter is set aside for dev
        asked = make(budget, initial_prompt=start)
        examples = len(asked.task.train)
        choosing = [len(b) for b in batches(Select(selection=kind), asked)]
        result = Select(selection=kind).optimize(make(budget, initial_prompt=start), 0)
        on_dev = prompts * len(asked.task.dev)
        assert result.best.prompt.instruction == start and sum(choosing) >= prompts
        assert result.spent["queries"] <= prompts * examples + on_dev
        if kind.startswith("ucb"):
            assert choosing == [prompts]
            assert result.stats["distinct"] == prompts


def test_one_prompt_needs_no_budget_and_more_than_there_are_can_be_kept() -> None:
    alone = make(None, initial_prompt="one two")
    result = Select().optimize(alone, 0)
    assert result.stats == {"asks": 1, "prompts": 1, "distinct": 1}
    with pytest.raises(ConfigError, match="give the problem a budget of queries"):
        Select().optimize(make(None, initial_prompt="alpha"), 0)
    both = Select(keep=5).optimize(make(None, initial_prompt="alpha"), 0)
    assert both.best.prompt.instruction == "alpha" and both.stats["distinct"] == 2


def test_a_prompt_that_is_given_twice_is_one_candidate() -> None:
    task = replace(transparent_task(), manual_prompts=tuple(map(Prompt.of, ["alpha"] * 3)))
    again = Problem(task, TransparentModel(), budget=80_000, initial_prompt="alpha")
    assert own_prompts(again) == [Prompt("alpha")]
    assert Select().optimize(again, 0).stats == {"asks": 1, "prompts": 1, "distinct": 1}


def test_a_round_asks_no_more_prompts_than_there_are(tmp_path: Path) -> None:
    few, many = Select(pulled=PROMPTS), Select(pulled=100)
    for budget in (PROMPTS * 8 + EXAMPLES, 500):
        results = [m.optimize(problem(tmp_path, budget), 0) for m in (few, many)]
        assert results[0].stats == results[1].stats
        assert results[0].history == results[1].history
    with pytest.raises(ConfigError, match=r"leaves 155 queries .*too few"):
        many.optimize(problem(tmp_path, PROMPTS * 8 + EXAMPLES - 1))


def test_the_cost_of_a_race_is_what_it_spends(tmp_path: Path) -> None:
    for count in (1, 3, 12):
        asked = problem(tmp_path, None)
        Select(selection="sh", keep=2).optimize(asked, seed=0)
        assert asked.ledger.queries == race_cost(PROMPTS, 2, EXAMPLES)
        assert race_cost(count, 2, EXAMPLES) <= count * EXAMPLES
    assert race_cost(4, 1, 8) == 4 * 8  # the first heat of 8 examples is all there is
    assert Race(keep=1).heats(16) == [8, 16] and race_cost(4, 1, 16) == 4 * 8 + 2 * 8


def test_wrong_options_and_budgets_are_refused(tmp_path: Path) -> None:
    for wrong in ({"selection": "best"}, {"keep": 0}, {"samples": 0}, {"exploration": -1.0}):
        with pytest.raises(ConfigError, match="select: "):
            Select(**wrong)  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match="give the problem a budget of queries"):
        Select().optimize(problem(tmp_path, None))
    with pytest.raises(ConfigError, match=r"leaves 60 queries .* too few"):
        Select().optimize(problem(tmp_path, EXAMPLES))
    with pytest.raises(ConfigError, match="budget of 59 queries is too small"):
        Select(selection="all").optimize(problem(tmp_path, EXAMPLES - 1))


@pytest.mark.parametrize("tested", [True, False])
def test_a_suite_on_a_table_reports_regret(tmp_path: Path, tested: bool) -> None:
    spec = table(tmp_path, tested=tested)
    file = tmp_path / "mine.toml"
    file.write_text(
        f'budgets = [480]\nseeds = 2\ntasks = [{{name = "t", task = "{spec}", model = "{spec}", '
        'options = {dev = 0, sizes = {train = 40}}}]\nmethods = ["manual", "select"]'
    )
    suite = load_suite(file)
    bench = BenchFolder.create(tmp_path / "out", suite)
    for cell in suite.cells():
        run_cell(bench.job(cell))
    findings, _ = read_bench(bench.path)
    task = make_problem(spec, spec, task_options={"dev": 0, "sizes": {"train": 40}})
    if tested:
        first = 0.8 - 0.0
    else:
        means = task.score(own_prompts(task)).mean
        first = float(means[BEST] - means[0])
        assert means.argmax() == BEST
    regret = {f.cell["method"]: f.regret for f in findings}
    assert regret == {"manual": pytest.approx(first), "select": 0.0}
    head, rows = regret_tables(findings)["480 queries"]
    assert head == ["method", "t", "failed", "missing"]
    assert [row[1] for row in rows] == [
        f"{first:.3f} [{first:.3f}, {first:.3f}]",
        "0.000 [0.000, 0.000]",
    ]
    page, text, cells = (f.read_text() for f in write_bench_report(bench.path))
    assert "## Simple regret of the prompt chosen, to the best of the table, 480 queries" in text
    assert ("start manual, 480 queries" in text) is tested and "Simple regret" in page
    assert [float(r["regret"]) for r in csv.DictReader(cells.splitlines())][1] == 0.0


def test_the_measured_suite_says_what_is_missing(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.delenv("PROMPTGYM_DATA", raising=False)
    with pytest.raises(
        ConfigError,
        match=r"measured.toml: tasks\[0\]: .*prompt_scores.jsonl.gz: "
        "there is no such file or folder; set .* variable PROMPTGYM_DATA",
    ):
        load_suite("measured")
    monkeypatch.setenv("PROMPTGYM_DATA", str(tmp_path))
    with pytest.raises(ConfigError, match=f"{tmp_path}/measured-prompts/.*no such file"):
        load_suite("measured")


def test_the_measured_suite_runs_where_its_data_is(
    shared: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("PROMPTGYM_DATA", str(shared / "data"))
    suite = load_suite("measured")
    assert suite.description and len(suite.tasks) == 7 and len(suite.seeds) >= 5
    for cell in suite.cells():
        cell.experiment.build()
    bench = BenchFolder.create(tmp_path / "out", suite)
    for task in ("subj/qwen", "gsm8k/llama-2"):
        for method in ("random", "ucb"):
            cell = next(c for c in suite.cells() if (c.task, c.method) == (task, method))
            run_cell(bench.job(cell))
    found = [f for f in read_bench(bench.path)[0] if f.status == "finished"]
    assert len(found) == 4
    for finding in found:
        assert finding.regret is not None and 0 <= finding.regret < 0.1
