"""Benchmarks: cells side by side, failures kept, kills survived, versions and suites not mixed."""

from __future__ import annotations

import io
import json
import multiprocessing
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

import promptgym
from promptgym.cli import main
from promptgym.errors import ConfigError
from promptgym.evaluation import evaluate
from promptgym.evaluation.bench import BenchFolder, run_bench
from promptgym.evaluation.bench_cell import Failure, Job, attempt, run_cell
from promptgym.evaluation.bench_view import Board, LiveView, PlainView
from promptgym.evaluation.suite import Cell, Suite
from promptgym.evaluation.suite_file import load_suite
from promptgym.evaluation.workers import Outcome, Processes, RayTasks
from promptgym.runs.folder import write_json

SUITE = """
budgets = [640, 1280]
seeds = 2
models = ["tiny"]
tasks = [{task = "author", options = {sizes = {train = 16, dev = 16, test = 40}}}]
methods = ["manual", "random_tokens", "hill_climbing"]
"""
SMALLER = SUITE.replace(", 1280", "")
ENVIRONMENT = {**os.environ, "PYTHONPATH": str(Path(promptgym.__file__).parents[1])}


class Here:
    """Runs cells one after another in this process."""

    slots = 1

    def __init__(self) -> None:
        """Start with nothing to do."""
        self.jobs: list[Job] = []

    def start(self, job: Job) -> None:
        """Take a job."""
        self.jobs.append(job)

    def wait(self, seconds: float) -> list[Outcome]:
        """Do it."""
        return [(job.name, attempt(job)) for job in [self.jobs.pop()]]

    def close(self) -> None:
        """Forget what is left."""
        self.jobs = []


def suite_of(folder: Path, text: str = SUITE) -> Suite:
    path = folder / "mine.toml"
    path.write_text(text, encoding="utf-8")
    return load_suite(path)


def run_here(bench: BenchFolder, suite: Suite, stream: io.StringIO | None = None) -> Any:
    view = PlainView(Board(bench, suite.cells(), 1), stream)
    with view:
        return run_bench(bench, suite.cells(), Here(), view)


def results(out: Path) -> dict[str, Any]:
    """Return what every cell found, without how long it took."""
    found = {}
    for folder in (out / "cells").iterdir():
        if not (folder / "anytime.json").exists():
            continue
        names = ("result.json", "anytime.json")
        result, curve = (json.loads((folder / name).read_text()) for name in names)
        found[folder.name] = (result["best"], result["history"], result["spent"]["queries"], curve)
    return found


def call(*arguments: str) -> int:
    with pytest.raises(SystemExit) as left:
        main(arguments)
    return left.value.code if isinstance(left.value.code, int) else 0


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """A benchmark that ran through in this process, and what was printed."""
    folder = tmp_path_factory.mktemp("bench")
    suite, printed = suite_of(folder), io.StringIO()
    assert run_here(BenchFolder.create(folder / "out", suite), suite, printed) == {}
    return folder / "out", printed.getvalue()


def test_every_cell_has_a_run_folder_and_a_curve_on_test(whole: tuple[Path, str]) -> None:
    found = results(whole[0])
    assert len(found) == 3 * 2 * 2
    for best, history, queries, curve in found.values():
        assert [row["queries"] for row in curve] == [row["queries"] for row in history]
        assert curve[-1]["queries"] <= queries
        assert curve[-1]["dev"] == best["dev"]["value"]
        assert curve[-1]["test"] == best["test"]["value"]  # of the same 40 examples
    first = history[0]
    again = evaluate(first["prompt"], "author", "tiny", task_options={"sizes": {"test": 40}})
    assert again.mean[0] == curve[0]["test"]


def test_the_plain_view_counts_cells_spend_and_time(whole: tuple[Path, str]) -> None:
    out, printed = whole
    lines = printed.splitlines()
    assert lines[0] == "0 of 12 cells | 0 queries, 0 tokens | eta -:--"
    assert lines[1].startswith("finished author.tiny.manual.manual.q640.s0 in 0:")
    spent = [json.loads(p.read_text())["spent"] for p in out.glob("cells/*/result.json")]
    queries, tokens = (sum(s[kind] for s in spent) for kind in ("queries", "tokens"))
    assert (
        lines[-1].strip() == f"12 of 12 cells | {queries:,} queries, {tokens:,} tokens | eta 0:00"
    )


def test_finished_cells_are_not_run_again(whole: tuple[Path, str], tmp_path: Path) -> None:
    suite = suite_of(tmp_path)
    before = {p: p.stat().st_mtime_ns for p in (whole[0] / "cells").rglob("*")}
    assert run_here(BenchFolder.resume(whole[0], suite), suite) == {}
    assert before == {p: p.stat().st_mtime_ns for p in (whole[0] / "cells").rglob("*")}


def test_a_failing_cell_stops_no_other_and_is_run_again(tmp_path: Path) -> None:
    data = tmp_path / "mine.csv"
    rows = [f"the film was {'good' if i % 2 else 'bad'} in {i} ways,{i % 2}" for i in range(40)]
    data.write_text("\n".join(["text,label", *rows]))
    words = 'verbalizers = {"0" = "terrible", "1" = "great"}, labels = ["0", "1"]'
    options = f'input = "text", target = "label", {words}, template = "{{input}} {{prompt}}"'
    task = f'{{task = "{data}", name = "mine", options = {{{options}}}}}, '
    text = SMALLER.replace("tasks = [", f"tasks = [{task}").replace("seeds = 2", "seeds = 1")
    suite = suite_of(tmp_path, text)
    content = data.read_text()
    data.unlink()
    out, printed = tmp_path / "out", io.StringIO()
    bench = BenchFolder.create(out, suite)
    failed = run_here(bench, suite, printed)
    assert len(failed) == 3 and all(name.startswith("mine.") for name in failed)
    name = "mine.tiny.manual.manual.q640.s0"
    assert failed[name].message.startswith(f"TaskError: {data}: there is no such file")
    kept = (out / "errors" / f"{name}.txt").read_text()
    assert kept.startswith(failed[name].message) and "Traceback" in kept
    assert f"failed {name} in 0:" in printed.getvalue()
    assert "3 of 6 cells, 3 failed | " in printed.getvalue()
    assert len(results(out)) == 3
    data.write_text(content)
    assert run_here(BenchFolder.resume(out, suite), suite) == {}
    assert len(results(out)) == 6 and not list((out / "errors").iterdir())


def test_processes_find_what_this_process_finds(
    whole: tuple[Path, str], tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    suite_of(tmp_path)
    out = tmp_path / "out"
    command = ("bench", str(tmp_path / "mine.toml"), "--out", str(out), "--jobs", "2", "--json")
    assert call(*command) == 0
    printed = capfd.readouterr()
    assert json.loads(printed.out) == {
        "folder": str(out),
        "cells": 12,
        "finished": 12,
        "failed": {},
    }
    assert "12 of 12 cells" in printed.err
    assert results(out) == results(whole[0])
    assert not multiprocessing.active_children()


def test_a_process_that_dies_fails_its_own_cell_only(tmp_path: Path) -> None:
    suite = suite_of(tmp_path)
    bench = BenchFolder.create(tmp_path / "out", suite)
    short, long, third, _ = (c for c in suite.cells() if c.method == "random_tokens")
    endless = replace(long, experiment=replace(long.experiment, budget={"queries": 10**8}))
    workers, ended = Processes(2), dict[str, Failure | None]()
    try:
        workers.start(bench.job(endless))
        (victim,) = multiprocessing.active_children()
        workers.start(bench.job(short))
        while not (bench.folder(long) / "events.jsonl").exists():
            ended.update(workers.wait(0.1))
        os.kill(victim.pid or 0, signal.SIGKILL)
        while len(ended) < 2:
            ended.update(workers.wait(0.1))
        failure = ended[long.name]
        assert failure is not None and failure.message == "the process ended with exit status -9"
        assert ended[short.name] is None and bench.finished(short)
        workers.start(bench.job(third))
        while third.name not in ended:
            ended.update(workers.wait(0.1))
        assert ended[third.name] is None
    finally:
        workers.close()
    assert not multiprocessing.active_children()


@pytest.fixture
def _interruptible() -> Iterator[None]:
    """What is begun here hears of SIGINT, also where a shell runs the tests in the background."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.mark.usefixtures("_interruptible")
@pytest.mark.skipif(not Path("/proc/self/task").exists(), reason="children are found in /proc")
@pytest.mark.parametrize("with_signal", [signal.SIGINT, signal.SIGKILL])
def test_a_stopped_benchmark_goes_on_where_it_was(
    with_signal: signal.Signals, whole: tuple[Path, str], tmp_path: Path
) -> None:
    suite, out = suite_of(tmp_path, SMALLER), tmp_path / "out"
    command = [sys.executable, "-m", "promptgym.cli", "bench", str(tmp_path / "mine.toml")]
    process = subprocess.Popen(
        [*command, "--out", str(out)], env=ENVIRONMENT, stderr=subprocess.PIPE, text=True
    )
    second = out / "cells" / suite.cells()[1].name / "events.jsonl"
    while not second.exists():
        assert process.poll() is None
        time.sleep(0.01)
    children = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
    process.send_signal(with_signal)
    _, said = process.communicate()
    if with_signal == signal.SIGINT:
        assert process.returncode == 130 and "--resume" in said and "Traceback" not in said
    while any(Path(f"/proc/{child}").exists() for child in children):
        time.sleep(0.01)
    assert not (out / "cells" / suite.cells()[-1].name).exists()
    assert run_here(BenchFolder.resume(out, suite), suite) == {}
    found, expected = results(out), results(whole[0])
    assert len(found) == 6 and found == {name: expected[name] for name in found}


def test_ray_tasks_find_what_this_process_finds(whole: tuple[Path, str], tmp_path: Path) -> None:
    pytest.importorskip("ray", reason="the extra `ray` is not installed")
    text = SUITE.replace("[640, 1280]", "[640, {queries = 10}]").replace("seeds = 2", "seeds = 1")
    suite = suite_of(tmp_path, text.replace('"hill_climbing"', ""))
    bench = BenchFolder.create(tmp_path / "out", suite)
    workers = RayTasks(2)
    assert workers.slots == 2
    view = PlainView(Board(bench, suite.cells(), 2), None)
    failed = run_bench(bench, suite.cells(), workers, view)
    assert {n: f.message[:38] for n, f in failed.items()} == {
        "author.tiny.random_tokens.manual.q10.s0": "ConfigError: the budget of 10 queries ",
        "author.tiny.manual.manual.q10.s0": "ConfigError: the budget of 10 queries ",
    }
    found, expected = results(bench.path), results(whole[0])
    assert set(found) == {f"author.tiny.{m}.manual.q640.s0" for m in ("manual", "random_tokens")}
    assert found == {name: expected[name] for name in found}


def test_results_of_two_versions_are_not_mixed(tmp_path: Path) -> None:
    suite, out = suite_of(tmp_path), tmp_path / "out"
    BenchFolder.create(out, suite)
    about = json.loads((out / "bench.json").read_text())
    write_json(out / "bench.json", {**about, "promptgym": "0.0.9"})
    with pytest.raises(ConfigError, match=r"results of promptgym 0\.0\.9 and this is .*not mixed"):
        BenchFolder.resume(out, suite)


def test_a_suite_may_grow_but_no_cell_may_change(whole: tuple[Path, str], tmp_path: Path) -> None:
    more = suite_of(tmp_path, SUITE.replace('"hill_climbing"', '"hill_climbing", "empty"'))
    bench = BenchFolder.resume(whole[0], more)
    assert sum(not bench.finished(cell) for cell in more.cells()) == 4
    other = suite_of(tmp_path, SUITE.replace("test = 40", "test = 50"))
    with pytest.raises(
        ConfigError, match=r"cell author\.tiny.* was begun .* task_options.sizes.test was 40, is 50"
    ):
        BenchFolder.resume(whole[0], other)


def test_what_was_begun_stays_in_the_suite(whole: tuple[Path, str], tmp_path: Path) -> None:
    fewer = suite_of(tmp_path, SUITE.replace(', "hill_climbing"', ""))
    with pytest.raises(
        ConfigError, match=r"hill_climbing.* was begun and is no cell of this suite"
    ):
        BenchFolder.resume(whole[0], fewer)


def test_cells_that_met_other_data_are_not_mixed(tmp_path: Path) -> None:
    data = tmp_path / "mine.csv"
    rows = [f"a film {i},{'good' if i % 2 else 'bad'}" for i in range(40)]
    data.write_text("\n".join(["text,label", *rows]))
    suite = suite_of(
        tmp_path,
        f'budgets = [900]\nseeds = 2\nmodels = ["tiny"]\ntasks = ["{data}"]\nmethods = ["empty"]',
    )
    bench = BenchFolder.create(tmp_path / "out", suite)
    first, second = suite.cells()
    run_cell(bench.job(first))
    data.write_text("\n".join(["text,label", *rows[2:], "a book,good", "a song,bad"]))
    with pytest.raises(ConfigError, match=r"is not what cell .*s0 met: .*two data sets are not"):
        run_cell(bench.job(second))
    assert not bench.folder(second).exists()


def test_a_folder_with_something_else_in_it_is_refused(tmp_path: Path) -> None:
    suite = suite_of(tmp_path)
    with pytest.raises(ConfigError, match="not an empty folder"):
        BenchFolder.create(tmp_path, suite)
    with pytest.raises(ConfigError, match="holds no benchmark"):
        BenchFolder.resume(tmp_path, suite)
    BenchFolder.create(tmp_path / "out", suite)
    with pytest.raises(ConfigError, match="--resume"):
        BenchFolder.create(tmp_path / "out", suite)
    (tmp_path / "bench.json").write_text("[]")
    with pytest.raises(ConfigError, match="is not a benchmark's"):
        BenchFolder.open(tmp_path)


def test_the_live_view_shows_what_runs_and_what_failed(
    whole: tuple[Path, str], tmp_path: Path
) -> None:
    suite = suite_of(tmp_path)
    done, bench = BenchFolder.open(whole[0]), BenchFolder.create(tmp_path / "out", suite)
    stream = io.StringIO()
    console = Console(file=stream, force_terminal=True, width=120, height=40)
    view = LiveView(Board(bench, suite.cells(), 2), console)
    runs = [c for c in suite.cells() if c.method == "random_tokens"]
    with view:
        view.started(runs[0], done.folder(runs[0]))  # its events are all there
        view.started(runs[1], bench.folder(runs[1]))  # nothing is there yet
        view.tick()
        view.ended(runs[1], Failure("ModelError: no \x1b[31m such model", "details"))
        with console.capture() as shown:
            console.print(view.draw())
    text = shown.get()
    spent = json.loads((done.folder(runs[0]) / "result.json").read_text())["spent"]["queries"]
    assert f"0 of 12 cells, 1 failed | {spent:,} queries" in text
    assert f"{runs[0].name} " in text and f"{spent:,} of 640 queries" in text
    assert f"failed: {runs[1].name}: ModelError: no [31m such model" in text


def test_the_eta_is_that_of_cells_of_the_same_kind(whole: tuple[Path, str]) -> None:
    bench = BenchFolder.open(whole[0])
    cells: list[Cell] = suite_of(whole[0].parent).cells()
    board = Board(bench, cells, 2)
    assert board.finished == 12 and board.eta() == 0
    more = [replace(c, seed=c.seed + 7) for c in cells if c.method == "hill_climbing"]
    board = Board(bench, [*cells, *more], 2)
    seconds = {
        budget: [
            json.loads((bench.folder(c) / "result.json").read_text())["spent"]["seconds"]
            for c in cells
            if c.method == "hill_climbing" and c.budget["queries"] == budget
        ]
        for budget in (640, 1280)
    }
    assert board.eta() == pytest.approx(sum(map(sum, seconds.values())) / 2)


def test_a_dry_run_counts_all_cells(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    suite_of(tmp_path)
    path = str(tmp_path / "mine.toml")
    assert call("bench", path, "--dry-run", "--json", "--only", ".random_tokens.") == 0
    (row,) = json.loads(capsys.readouterr().out)["rows"]
    assert row["cells"] == 4
    assert 0.8 * 2 * (640 + 1280) < row["queries"] - 4 * 40 * 3 < 1.6 * 2 * (640 + 1280)
    assert call("bench", path, "--dry-run", "--only", ".manual.manual.") == 0
    assert "total" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("more", "says"),
    [
        ((), "give the folder of the benchmark, e.g. --out runs/mine"),
        (("--out", "x", "--jobs", "0"), "--jobs must be at least 1"),
        (("--out", "x", "--gpus-per-cell", "1"), "--gpus-per-cell goes with --ray"),
        (("--out", "x", "--only", "nobody"), "--only nobody: no cell is named so, but e.g. author"),
        (("--out", "x", "--resume"), "x holds no benchmark"),
    ],
)
def test_mistakes_are_told_before_anything_is_written(
    more: tuple[str, ...],
    says: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    suite_of(tmp_path)
    assert call("bench", "mine.toml", *more) == 2
    assert says in capsys.readouterr().err
    assert [p.name for p in tmp_path.iterdir()] == ["mine.toml"]
