"""The run folder, the curve and the display: what a run leaves and what it shows."""

from __future__ import annotations

import io
import json
import math
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console

from promptgym import Problem
from promptgym.errors import ConfigError
from promptgym.runs import ListSink, Tee
from promptgym.runs.curve import Curve, read_curve, steps, svg, thin, ticks, write_png
from promptgym.runs.display import (
    LiveDisplay,
    PlainDisplay,
    Standing,
    clock,
    make_display,
    one_line,
)
from promptgym.runs.folder import RunFolder, differences, new_run_path, write_json
from promptgym.testing import TransparentModel, transparent_task
from promptgym.types import JSON

CONFIG = {"method": "random-search", "seed": 0, "options": {"length": 5, "lr": 0.001}}


def test_money_is_shown_when_it_is_the_tightest_cap() -> None:
    standing = Standing({"queries": 1000.0, "usd": 5.0})
    fields = {"rewards": [], "complete": [], "prompts": []}
    standing.take("scores", {**fields, "spent": {"queries": 10, "usd": 1.25}})
    assert standing.spending() == "1.2500 of 5.00 USD" and standing.fraction == 0.25
    standing.take("scores", {**fields, "spent": {"queries": 10, "usd": None}})
    assert standing.spending() == "10 of 1,000 queries"


def test_a_run_folder_reads_back_what_was_written(tmp_path: Path) -> None:
    run = RunFolder.create(tmp_path / "a" / "b", CONFIG)
    run.log.emit("scores", values=np.array([0.5, math.nan]))
    run.log.emit("incumbent", dev=np.float64(0.75))
    again = RunFolder.open(run.path)
    assert again.config == CONFIG
    assert [e["kind"] for e in again.events()] == ["scores", "incumbent"]
    assert next(again.events())["values"] == [0.5, None]
    assert not again.finished
    with pytest.raises(ConfigError, match=r"no result\.json yet.*--resume"):
        again.result()
    again.write_result({"dev": np.float64(0.5)})
    assert again.finished and again.result() == {"dev": 0.5}


def test_create_refuses_a_run_and_a_full_folder(tmp_path: Path) -> None:
    RunFolder.create(tmp_path / "run", CONFIG)
    with pytest.raises(ConfigError, match=r"holds a run already.*--resume"):
        RunFolder.create(tmp_path / "run", CONFIG)
    with pytest.raises(ConfigError, match="not an empty folder"):
        RunFolder.create(tmp_path, CONFIG)
    assert (tmp_path / "run" / "config.json").is_file()


def test_create_says_where_it_cannot_write(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(ConfigError, match=r"file/run cannot be written to \(Not a directory\)"):
        RunFolder.create(tmp_path / "file" / "run", CONFIG)


@pytest.mark.parametrize("content", [None, "{", "[1]"])
def test_open_refuses_what_is_no_run(tmp_path: Path, content: str | None) -> None:
    if content is not None:
        (tmp_path / "config.json").write_text(content)
    with pytest.raises(ConfigError, match="config"):
        RunFolder.open(tmp_path)


def test_resume_names_every_key_that_differs(tmp_path: Path) -> None:
    RunFolder.create(tmp_path / "run", CONFIG)
    RunFolder.resume(tmp_path / "run", json.loads(json.dumps(CONFIG)))
    other = {"method": "random-search", "seed": 1, "options": {"length": 6}, "new": None}
    with pytest.raises(ConfigError) as caught:
        RunFolder.resume(tmp_path / "run", other)
    message = str(caught.value)
    for part in (
        "seed was 0, is 1",
        "options.length was 5, is 6",
        "options.lr was 0.001, is not there",
        "new was not there, is null",
    ):
        assert part in message
    assert "method" not in message.replace("random-search", "")


def test_resume_cuts_a_torn_line_off(tmp_path: Path) -> None:
    run = RunFolder.create(tmp_path / "run", CONFIG)
    run.log.emit("scores", n=1)
    with (run.path / "events.jsonl").open("a") as file:
        file.write('{"kind": "scores", "n": 2, "tor')
    resumed = RunFolder.resume(run.path)
    resumed.log.emit("resumed")
    assert [e["kind"] for e in resumed.events()] == ["scores", "resumed"]


def test_a_failed_write_leaves_the_old_file(tmp_path: Path) -> None:
    path = tmp_path / "x.json"
    write_json(path, {"a": 1})
    with pytest.raises(TypeError):
        write_json(path, {"a": object()})
    with pytest.raises(UnicodeEncodeError):
        write_json(path, {"a": "\ud800"})
    assert json.loads(path.read_text()) == {"a": 1}
    assert [p.name for p in tmp_path.iterdir()] == ["x.json"]


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=5),
    lambda inner: st.dictionaries(st.text(max_size=3), inner, max_size=3),
    max_leaves=8,
)


@given(st.dictionaries(st.text(max_size=3), VALUES), st.dictionaries(st.text(max_size=3), VALUES))
def test_differences_are_none_exactly_for_equal_configs(
    a: dict[str, object], b: dict[str, object]
) -> None:
    assert differences(a, a) == []
    assert bool(differences(a, b)) == (a != b)


def test_new_run_path_takes_the_first_free_number(tmp_path: Path) -> None:
    assert new_run_path(tmp_path, "x").name == "x-1"
    (tmp_path / "x-1").mkdir()
    assert new_run_path(tmp_path, "x").name == "x-2"


@given(st.text())
def test_one_line_is_safe_for_a_terminal(text: str) -> None:
    line = one_line(text, 20)
    assert len(line) <= 20
    assert line.isprintable()


def test_one_line_takes_escape_sequences_out() -> None:
    assert one_line("a\x1b[2Jb\n c") == "a [2Jb c"


@pytest.mark.parametrize(
    ("seconds", "text"), [(None, "-:--"), (5, "0:05"), (65.4, "1:05"), (3725, "1:02:05")]
)
def test_clock(seconds: float | None, text: str) -> None:
    assert clock(seconds) == text


def _problem(*sinks: object, budget: int = 200) -> Problem:
    return Problem(
        transparent_task(),
        TransparentModel(),
        budget=budget,
        events=Tee(*sinks),  # type: ignore[arg-type]
    )


def test_standing_follows_a_real_problem() -> None:
    standing = Standing({"queries": 200.0})
    sink = ListSink()
    problem = _problem(sink)
    problem.score([problem.initial_prompt, problem.task.reference_prompts[0]])
    for event in sink.events:
        standing.take(event.pop("kind"), event)
    assert standing.spent["queries"] == 40
    assert standing.fraction == pytest.approx(0.2)
    assert standing.prompt == problem.task.reference_prompts[0]
    assert standing.reward is not None and standing.best_reward is not None
    assert standing.best_reward > standing.reward
    assert standing.spending() == "40 of 200 queries"
    standing.take("incumbent", {"dev": 0.5, "prompt": {"instruction": "one"}})
    assert "best dev 0.500" in standing.summary()
    assert standing.prompt_line(40) == "one"


def test_plain_display_prints_lines_without_control_characters() -> None:
    stream = io.StringIO()
    with PlainDisplay({"queries": 200.0}, stream, every=0.0) as display:
        problem = _problem(display)
        problem.score([problem.initial_prompt])
        problem.score([problem.task.reference_prompts[0]])
    lines = stream.getvalue().splitlines()
    assert len(lines) == 2
    assert lines[0].startswith("20 of 200 queries (10%) | eta -:--")
    assert lines[1].startswith("40 of 200 queries (20%) | eta 0:0")
    assert lines[1].endswith('"alpha beta gamma delta"')


def test_warnings_and_the_task_are_shown_at_once() -> None:
    stream = io.StringIO()
    with PlainDisplay({"queries": 200.0}, stream) as display:
        display.emit("warning", message="the policy\x1b[2J collapsed")
        display.emit("session", resume=False, task="data: free answer\x1b")
    said = stream.getvalue().splitlines()
    assert said == ["warning: the policy [2J collapsed", "data: free answer"]


def test_live_display_draws_on_a_terminal() -> None:
    stream = io.StringIO()
    console = Console(file=stream, force_terminal=True, width=80, color_system=None)
    with LiveDisplay({"queries": 200.0}, console) as display:
        display.emit("session", resume=False, task="mine: free answer")
        problem = _problem(display)
        problem.score([problem.task.reference_prompts[0]])
    drawn = stream.getvalue()
    assert "mine: free answer" in drawn
    assert any(line.strip() == "mine: free answer" for line in drawn.splitlines()), "by itself"
    assert "20 of 200 queries" in drawn
    assert "best prompt: alpha beta gamma delta" in drawn


def test_no_cap_means_no_eta(capsys: pytest.CaptureFixture[str]) -> None:
    with make_display({"queries": None}) as display:
        problem = _problem(display)
        problem.score([problem.initial_prompt])
    captured = capsys.readouterr()
    assert captured.out == ""
    assert "20 queries (0%) | eta -:--" in captured.err


def test_quiet_shows_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    with make_display({"queries": 100}, quiet=True) as display:
        problem = _problem(display)
        problem.score([problem.initial_prompt])
    assert capsys.readouterr() == ("", "")


def _scores(x: int, value: float | None, split: str = "train") -> JSON:
    return {"kind": "scores", "split": split, "values": [value], "spent": {"queries": x}}


def test_the_curve_drops_what_a_resumed_run_repeats() -> None:
    events: list[JSON] = [
        _scores(10, 0.1),
        {"kind": "incumbent", "queries": 10, "dev": 0.2},
        _scores(20, 0.2),
        {"kind": "incumbent", "queries": 20, "dev": 0.9},
        _scores(30, 0.3),
        {"kind": "resumed"},
        _scores(20, 0.5),
        _scores(25, None),
        _scores(28, 0.9, "dev"),
    ]
    curve = read_curve(events, metric="accuracy")
    assert curve.train == [(10.0, 0.1), (20.0, 0.5)]
    assert curve.dev == [(10.0, 0.2)]


def test_thin_and_steps() -> None:
    assert thin([(1, 0.0), (2, 1.0), (3, 5.0)], most=2) == [(2, 0.5), (3, 5.0)]
    assert steps([(1, 0.5), (3, 0.7)], 4) == [(1, 0.5), (3, 0.5), (3, 0.7), (4, 0.7)]
    assert steps([], 4) == []


@given(st.floats(-1e6, 1e6), st.floats(1e-6, 1e6))
def test_ticks_lie_within_the_range(low: float, width: float) -> None:
    marks = ticks(low, low + width)
    slack = width * 1e-6 + 1e-9
    assert 2 <= len(marks) <= 7
    assert all(low - slack <= m <= low + width + slack for m in marks)


def test_pictures_are_drawn(tmp_path: Path) -> None:
    curve = Curve([(1, 0.1), (9, 0.4)], [(5, 0.3)], {"manual": 0.2}, "accuracy")
    write_png(curve, tmp_path / "curve.png")
    assert (tmp_path / "curve.png").read_bytes().startswith(b"\x89PNG")
    assert [p.name for p in tmp_path.iterdir()] == ["curve.png"]
    drawing = svg(curve)
    assert drawing.count('<path class="level') == 1
    assert "NaN" not in drawing and "nan" not in drawing
    assert svg(Curve()).startswith("<svg")
