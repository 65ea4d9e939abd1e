"""The command line: what it prints, what it leaves, what it refuses, and that its examples run."""

from __future__ import annotations

import csv
import json
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from promptgym.arguments import fits
from promptgym.cli import main
from promptgym.cli.common import parse_settings, parse_value, print_table, task_options
from promptgym.errors import ConfigError
from promptgym.llms import LabelLogprobs, forget_models
from promptgym.llms.registry import LOADERS
from promptgym.registration import ENVIRONMENTS, MULTI_AGENT
from promptgym.runs.display import make_display
from promptgym.tasks import list_tasks
from promptgym.testing import TransparentModel

COMMANDS = (
    ("train",),
    ("evaluate",),
    ("bench",),
    ("report",),
    ("envs",),
    ("tasks",),
    ("tasks", "show"),
    ("tasks", "landscape"),
    ("demo",),
)
FILES = ("checkpoints", "config.json", "curve.png", "events.jsonl", "report.html", "result.json")


class Stopping(TransparentModel):
    """Interrupts, as Ctrl-C would, at its n-th call; never if n is 0."""

    stop_at = 0

    def label_logprobs(self, texts: Any, labels: Any) -> LabelLogprobs:
        """Count calls, stop when it is time."""
        if self.calls + 1 == Stopping.stop_at:
            Stopping.stop_at = 0
            raise KeyboardInterrupt
        return super().label_logprobs(texts, labels)


@pytest.fixture
def data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A CSV file in the working directory, and a model `transparent:x` that can be named."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setitem(LOADERS, "transparent", lambda name, *, spec, **options: Stopping())
    with (tmp_path / "data.csv").open("w", newline="") as file:
        rows = csv.writer(file)
        rows.writerow(["text", "label"])
        for i in range(120):
            word = ("minus", "plus")[i % 2]
            rows.writerow([f"row{i} {word} hard{i // 2 % 5}", word])
    forget_models()
    yield tmp_path / "data.csv"
    Stopping.stop_at = 0
    forget_models()


OWN = [
    *("--task", "data.csv", "--labels", "minus,plus", "--model", "transparent:x"),
    *("--template", "{input} {prompt}", "--input-column", "text", "--target-column", "label"),
    *("--task-options", '{"manual_prompts": ["one anti", "alpha beta gamma delta"]}'),
]


def call(*arguments: str) -> int:
    """Run a command line and return its exit status."""
    with pytest.raises(SystemExit) as left:
        main(arguments)
    code = left.value.code
    return code if isinstance(code, int) else 0


def train(out: str, *more: str, budget: int = 15_000) -> int:
    """Train random search on the CSV file."""
    return call(
        "train", "random_tokens", *OWN, "--budget", str(budget), "--out", out, "--quiet", *more
    )


def test_train_leaves_a_run_folder_and_prints_json(
    data: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert train("run", "--seed", "3", "--json") == 0
    printed = capsys.readouterr()
    assert printed.err == ""
    record = json.loads(printed.out)
    assert sorted(p.name for p in Path("run").iterdir()) == sorted(FILES)
    assert record == json.loads(Path("run/result.json").read_text())
    assert record["seed"] == 3 and record["spent"]["queries"] <= 15_000
    learned, manual = record["compared"][-1], record["compared"][1]
    assert manual["prompt"] == {"instruction": "one anti"}
    assert learned["prompt"] == record["best"]["prompt"]
    assert learned["test"]["low"] <= learned["test"]["value"] <= learned["test"]["high"]
    assert learned["test"]["value"] > manual["test"]["value"]
    config = json.loads(Path("run/config.json").read_text())
    assert config["task_options"]["input"] == "text"
    assert config["budget"] == {"queries": 15_000}


def test_train_prints_a_table_and_plain_progress_lines(
    data: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert call("train", "random_tokens", *OWN, "--budget", "15000") == 0
    printed = capsys.readouterr()
    assert printed.out.splitlines()[0].split()[:2] == ["dev", "95"]
    assert "run folder: runs/data-random_tokens-1" in printed.out
    assert printed.err.startswith("data: classification, 2 labels, accuracy; train ")
    assert "of 15,000 queries" in printed.err and "eta" in printed.err
    assert "\x1b" not in printed.err


def test_an_interrupted_run_resumes_to_the_same_result(
    data: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert train("whole") == 0
    forget_models()
    Stopping.stop_at = 4
    assert train("broken") == 130
    assert "continue with: promptgym train --resume broken" in capsys.readouterr().err
    assert not Path("broken/result.json").exists()
    assert call("train", "--resume", "broken", "--quiet") == 0
    whole, broken = (json.loads(Path(r, "result.json").read_text()) for r in ("whole", "broken"))
    for record in (whole, broken):
        record["spent"].pop("seconds")
    assert broken == whole
    assert "resumed" in Path("broken/events.jsonl").read_text()


def test_an_interrupt_before_the_run_has_a_folder_promises_nothing(
    data: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupt(*args: Any, **options: Any) -> Any:
        raise KeyboardInterrupt

    monkeypatch.setattr("promptgym.evaluation.experiment.load_task", interrupt)
    assert train("early") == 130
    assert capsys.readouterr().err == "interrupted; nothing was begun\n"


def test_a_finished_run_resumes_to_its_result(
    data: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert train("run", "--json") == 0
    first = capsys.readouterr().out
    before = Path("run/events.jsonl").read_text()
    assert call("train", "--resume", "run", "--json") == 0
    assert capsys.readouterr().out == first
    assert Path("run/events.jsonl").read_text() == before


def test_resume_refuses_what_changed_by_name(
    data: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert train("run") == 0
    assert call("train", "--resume", "run", "--seed", "7", "--set", "batch=5") == 2
    error = capsys.readouterr().err
    assert "seed was 0, is 7" in error and "options.batch was not there, is 5" in error
    data.write_text(data.read_text().replace("row7 plus", "row7 new plus"))
    assert call("train", "--resume", "run") == 2
    assert "identity." in capsys.readouterr().err


def test_resume_takes_options_that_agree(data: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert train("run", "--budget-seconds", "1000", "--set", "batch=8") == 0
    assert call("train", "--resume", "run", "--budget", "15000", "--quiet") == 0
    assert call("train", "--resume", "run", "--set", "batch=9") == 2
    error = capsys.readouterr().err
    assert "options.batch was 8, is 9" in error and "budget" not in error


REFUSED = {
    "train": "give an AGENT",
    "train rlprompt": "give a --task",
    "train nobody --task author": "unknown optimizer 'nobody'; agents: ",
    "train rlprompt --preset wrong --task author": "unknown preset 'wrong'; known: published",
    "train random_tokens --task nothing": "unknown task 'nothing'",
    "train random_tokens --task data.csv --input-column nope": "nope",
    "train random_tokens --task author --model gpt9": "unknown model 'gpt9'",
    "train random_tokens --task author --set batch": "expected NAME=VALUE",
    "train random_tokens --task author --set bach=3": "no setting 'bach'; did you mean 'batch'?",
    "train random_tokens --task author --set batch=many": "batch takes int, got 'many'",
    "train random_tokens --task author --set a=1 --set a=2": "'a' is given twice",
    "train rlprompt --task author --preset repaired --set preset=published": "given twice",
    """train random_tokens --task author --task-options '{"name_or_path":"x"}'""": "is 'author'",
    "train random_tokens --task author --budget -1": "queries takes a positive whole number",
    "train random_tokens --task author --budget 70": "budget of 70 queries is too small",
    "train rlprompt --task author --budget 84": "give at least 85",
    "train rlprompt --task author --budget 10": "give at least 85",
    "train ppo_edit --task author --budget 90": "set aside",
    "train random_tokens --task author --model-options 3": "takes a JSON object",
    "train random_tokens --task author --model-options {": "is not JSON",
    "train random_tokens --task author --reward '{1}'": "--reward '{1}' is not JSON",
    """train random_tokens --task author --reward '{"name":"gap","right":"x"}'""": "takes float",
    "train random_tokens --task author --template x": "has no {input}",
    "train random_tokens --task author --template {input}": "has no {prompt}",
    "train random_tokens --task author --max-failures 3": "a share from 0 to 1, got 3",
    "train random_tokens --task author --preset x": "is a baseline and has no presets",
    "train random_tokens --task author --labels a,b": "takes no labels",
    "train random_tokens --task author --seed -1": "--seed must be at least 0",
    "evaluate --prompt x --task author --limit 0": "limit must be at least 1",
    "train --resume nowhere": "nowhere holds no run",
    "train --resume a --out b": "name two folders",
    "train random_tokens --task author --out .": "not an empty folder",
    "evaluate --task author": "nothing to evaluate",
    "evaluate --prompt x": "give --task T",
    "evaluate --prompt x --task data.csv --split tset": "unknown split 'tset'",
    "evaluate --prompt '\udcff bad' --task author": "not valid Unicode at character 1",
    "evaluate --run nowhere": "nowhere holds no run",
    "envs NoSuch-v0": "unknown environment 'NoSuch-v0'; known: PromptEdit-v0",
    "tasks show nothing": "unknown task 'nothing'",
    "tasks landscape author --random-prompts 0": "n_random must be at least 1, got 0",
    "tasks landscape author --climbers -1": "climbers must be at least 0, got -1",
    "tasks landscape author --plot land.gif": "land.gif: no kind of picture; expected a name in",
}


@pytest.mark.parametrize("line", REFUSED)
def test_a_mistake_is_one_line_and_status_2(
    line: str, data: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    model = ["--model", "transparent:x"] if "evaluate" in line and "data.csv" in line else []
    assert call(*shlex.split(line), *model) == 2
    printed = capsys.readouterr()
    assert printed.out == ""
    assert printed.err.startswith("error: ") and printed.err.count("\n") == 1
    assert REFUSED[line] in printed.err
    assert not Path("runs").exists(), "what cannot start leaves no folder"


def test_evaluate_takes_prompts_and_runs(data: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert train("run") == 0
    capsys.readouterr()
    assert call("evaluate", "--run", "run", "--prompt", "", "--split", "dev", "--json") == 0
    result = json.loads(capsys.readouterr().out)
    record = json.loads(Path("run/result.json").read_text())
    assert result["split"] == "dev"
    assert [r["prompt"] for r in result["prompts"]] == [
        {"instruction": ""},
        record["best"]["prompt"],
    ]
    assert result["prompts"][1]["value"] == record["best"]["dev"]["value"]
    assert call("evaluate", "--prompt", "alpha", *OWN, "--limit", "5") == 0
    out = capsys.readouterr().out
    assert out.startswith("accuracy  95 % interval") and "5 test examples of data" in out


def test_envs_lists_the_registry_and_shows_pages(capsys: pytest.CaptureFixture[str]) -> None:
    assert call("envs", "--json") == 0
    rows = json.loads(capsys.readouterr().out)
    assert [r["id"] for r in rows] == [*ENVIRONMENTS, *MULTI_AGENT]
    assert all(r["summary"].endswith(".") for r in rows)
    for env_id in (*ENVIRONMENTS, *MULTI_AGENT):
        assert call("envs", env_id) == 0
        page = capsys.readouterr().out
        for title in ("## Action Space", "## Observation Space", "## Rewards", "## Arguments"):
            assert title in page


def test_tasks_lists_and_shows(capsys: pytest.CaptureFixture[str]) -> None:
    assert call("tasks", "--json") == 0
    rows = json.loads(capsys.readouterr().out)
    assert [r["name"] for r in rows] == [info.name for info in list_tasks()]
    assert call("tasks", "show", "author") == 0
    text = capsys.readouterr().out
    assert "what is the opinion of the author ?" in text and "test" in text
    assert call("tasks", "show", "author", "--json") == 0
    about = json.loads(capsys.readouterr().out)
    assert len(about["examples"]) == 5 and about["splits"]["test"]["examples"] > 0


def examples_in(text: str) -> list[str]:
    """Return the command lines of a help text's examples."""
    lines = text.partition("Examples:")[2].splitlines()
    return [line.strip() for line in lines if line.strip().startswith("promptgym ")]


def test_the_examples_of_the_help_run_as_printed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "80")
    for command in COMMANDS:
        assert call(*command, "--help") == 0
        lines = examples_in(capsys.readouterr().out)
        assert lines, f"{command} has no example"
        for line in lines:
            assert call(*shlex.split(line)[1:]) == 0, line
            printed = capsys.readouterr()
            assert printed.out.strip(), line
            if "--json" in line:
                json.loads(printed.out)
    assert sorted(p.name for p in Path("runs/random").iterdir()) == sorted(FILES)
    demo = [p.name for p in Path("runs/demo-1").iterdir()]
    assert sorted(demo) == ["hill_climbing", "random_tokens", "rlprompt"]


@pytest.mark.parametrize(
    ("text", "value"),
    [("3", 3), ("1e-3", 0.001), ("true", True), ("[1, 2]", [1, 2]), ("word", "word"), (None, None)],
)
def test_values_are_json_where_they_can_be(text: str | None, value: object) -> None:
    assert parse_value(text) == value
    assert type(parse_value(text)) is type(value)


def test_settings_keep_an_equals_sign_in_the_value() -> None:
    assert parse_settings(["a=b=c", "n=1"]) == {"a": "b=c", "n": 1}
    assert parse_settings(None) is None


def test_task_options_refuse_what_is_given_twice() -> None:
    assert task_options('{"seed": 1}', "x, y", input="a", target=None) == {
        "seed": 1,
        "input": "a",
        "labels": ["x", "y"],
    }
    with pytest.raises(ConfigError, match="input"):
        task_options('{"input": "a"}', None, input="b")


@pytest.mark.parametrize(
    ("value", "hint", "right"),
    [
        (1, int, True),
        (True, int, False),
        (1, float, True),
        (1.5, int, False),
        ([1, 2], tuple[int, int], True),
        ([1], tuple[int, int], False),
        ([1, 2, 3], tuple[int, ...], True),
        ([1, "a"], tuple[int, ...], False),
        ("ab", tuple[str, ...], False),
        (None, int | None, True),
        ("x", int | None, False),
        ({}, dict[str, Any], True),
        (3, dict[str, Any], False),
        ("a", np.ndarray, True),
    ],
)
def test_types_of_settings(value: object, hint: object, right: bool) -> None:
    assert fits(value, hint) is right


def test_tables_line_up_and_are_safe(capsys: pytest.CaptureFixture[str]) -> None:
    print_table(["a", "number"], [["x\x1b[1m", "1"], ["long one", "22"]], "lr")
    assert capsys.readouterr().out.splitlines() == [
        "a         number",
        "x [1m          1",
        "long one      22",
    ]


def test_make_display_is_plain_for_a_pipe() -> None:
    assert type(make_display({"queries": 5})).__name__ == "PlainDisplay"
