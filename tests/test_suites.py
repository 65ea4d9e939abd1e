"""Suites: those of the package are whole; wrong ones are refused by file, key and what may be."""

from __future__ import annotations

import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from promptgym import load_model, load_task
from promptgym.agents import AGENTS
from promptgym.baselines import BASELINES, manual
from promptgym.errors import ConfigError
from promptgym.evaluation.suite import Suite
from promptgym.evaluation.suite_file import load_suite, suites
from promptgym.llms import forget_models, registry
from promptgym.llms.registry import TINY

SMALL = """
description = "small"
seeds = [3, 5]
budgets = [640, {queries = 1280, usd = 0.5}]
tasks = ["author", {task = "news-topic", name = "topic", options = {sizes = {train = 8}}}]
models = ["tiny", {model = "hf:gpt2", name = "gpt2"}]
methods = ["manual", {method = "rlprompt:repaired", name = "rl", options = {length = 3}}]
reward = "accuracy"

[[starts]]
name = "task's own"

[[starts]]
name = "empty"
prompt = ""
"""


@dataclass(frozen=True)
class Asking(manual.ManualPrompts):
    """A method that asks a proposer, if its option says so."""

    asks: bool = True

    @property
    def proposes(self) -> bool:
        """Whether it does."""
        return self.asks


def write(folder: Path, text: str) -> Path:
    path = folder / "mine.toml"
    path.write_text(text, encoding="utf-8")
    return path


def test_a_suite_is_the_product_of_its_parts(tmp_path: Path) -> None:
    suite = load_suite(write(tmp_path, SMALL))
    cells = suite.cells()
    assert suite.name == "mine" and len(cells) == len({c.name for c in cells}) == 2**6
    assert cells[0].name == "author.tiny.manual.task-s-own.q640.s3"
    (last,) = (c for c in cells if c.name == "topic.gpt2.rl.empty.q1280-u0-5.s5")
    run = last.experiment
    assert (run.task, run.model, run.method) == ("news-topic", "hf:gpt2", "rlprompt:repaired")
    assert run.options == {"length": 3} and run.task_options == {"sizes": {"train": 8}}
    assert run.budget == {"queries": 1280, "usd": 0.5} and run.seed == 5
    assert run.initial_prompt == "" and cells[0].experiment.initial_prompt is None
    assert run.reward == "accuracy"
    run.build()


def test_seeds_can_be_those_of_the_data(tmp_path: Path) -> None:
    text = 'split_by_seed = true\nbudgets = [640]\ntasks = ["author"]\nseeds = 2\n'
    suite = load_suite(write(tmp_path, text + 'models = ["tiny"]\nmethods = ["manual"]'))
    assert [c.experiment.task_options for c in suite.cells()] == [{"seed": 0}, {"seed": 1}]


def test_a_task_can_bring_its_model(tmp_path: Path) -> None:
    table = tmp_path / "scores.jsonl"
    table.write_text('{"task": "t", "model": "m", "prompt": "p", "score": 0.5}\n')
    spec = f"replay:{table}"
    text = f"budgets = [10]\nmethods = ['manual']\ntasks = [{{task = '{spec}', model = '{spec}'"
    (cell,) = load_suite(write(tmp_path, text + ", name = 't'}]")).cells()
    assert cell.experiment.model == spec and cell.task == "t"
    both = load_suite(write(tmp_path, text + "}, 'author']\nmodels = ['tiny']"))
    assert [(c.task, c.model) for c in both.cells()] == [(spec, spec), ("author", "tiny")]


@pytest.mark.parametrize("name", sorted(set(suites()) - {"measured"}))
def test_the_suites_of_the_package_are_whole(name: str) -> None:
    suite = load_suite(name)
    assert suite.description
    tables = {**AGENTS, **BASELINES}
    assert {m.spec.partition(":")[0] for m in suite.methods} <= set(tables)
    assert {"empty", "manual", "random_tokens"} <= {m.spec for m in suite.methods}  # the floors
    for cell in suite.cells():
        cell.experiment.build()


@pytest.mark.parametrize("name", ["quick", "table", "tiny"])
def test_the_offline_suites_need_no_hub(name: str) -> None:
    suite = load_suite(name)
    assert {m.spec for m in suite.models} <= {*TINY, "table:staff"}
    for task in suite.tasks:
        runs = [c.experiment for c in suite.cells() if c.task == task.name]
        run = next((run for run in runs if run.proposer), runs[0])
        problem = run.problem(load_task(task.spec), load_model(run.model))
        for other in {run.method: run for run in runs}.values():
            other.build().check(problem)
    if name == "tiny":  # the standard one: whatever is registered
        assert len(suite.tasks) >= 3 and len(suite.seeds) >= 5
        assert {m.spec.partition(":")[0] for m in suite.methods} == {*AGENTS, *BASELINES}
    if name == "table":  # but those that want demonstrations, or prompts of people
        others = {"random_demonstrations", "mmr_demonstrations", "select"}
        specs = {m.spec.partition(":")[0] for m in suite.methods}
        assert specs == {*AGENTS, *BASELINES} - others


@pytest.mark.parametrize(
    ("before", "after", "says"),
    [
        ("description", "descripton", r"descripton: there is no such key; allowed: description, s"),
        ("seeds = [3, 5]", "seeds = 0", "seeds: expected how many, or a list"),
        ("[3, 5]", "[3, 3]", "seeds: '3' stands twice; name each seed once"),
        ("[3, 5]", "'five'", "seeds: expected int or list"),
        ("budgets = [640,", "budgets = [-1,", r"budgets\[0\]: budget: queries takes a positive"),
        (
            "usd = 0.5",
            "usd = 0.5, prompts = 3",
            r"budgets\[1\]: budget: unknown \['prompts'\]",
        ),
        ("{queries = 1280, usd = 0.5}", "{}", r"budgets\[1\]: names no cap"),
        ('"author"', '"autor"', r"tasks\[0\]: unknown task 'autor'; did you mean 'author'"),
        ("{train = 8}", "{trian = 8}", r"tasks\[1\]: sizes: expected some of"),
        ("sizes = {train = 8}", "k_shots = 8", r"tasks\[1\]: load_task has no argument 'k_shots'"),
        ('name = "topic"', 'name = "author"', "tasks: 'author' stands twice"),
        ('"tiny"', '"tinny"', r"models\[0\]: unknown model 'tinny'; known: tiny, "),
        ("model = ", "modle = ", r"models\[1\].modle: there is no such key; allowed: model, name"),
        ('"manual"', '"manuel"', r"methods\[0\]: unknown optimizer 'manuel'; agents: .*baselines"),
        ("length = 3", "lenght = 3", r"methods\[1\]: rlprompt has no setting 'lenght'; did you"),
        ("length = 3", "self = 3", r"methods\[1\]: rlprompt has no setting 'self'"),
        ("length = 3", "name = 'x'", r"methods\[1\]: rlprompt has no setting 'name'"),
        ("sizes = {train = 8}", "name_or_path = 'x'", r"tasks\[1\]: load_task: name_or_path is"),
        (
            '{task = "news-topic", name = "topic", options = {sizes = {train = 8}}}',
            '{task = "sst2", options = {name_or_path = "x"}}',
            r"tasks\[1\]: load_task has no argument 'name_or_path'",
        ),
        (
            'name = "rl"',
            f'name = "{"ä" * 120}"',
            "cells: 'author.tiny.ää.*has 2.. bytes, and a folder",
        ),
        (":repaired", ":mended", r"methods\[1\]: .*mended"),
        ('methods = ["manual", ', 'methods = [["manual"], ', r"methods\[0\]: expected a table"),
        ('reward = "accuracy"', 'reward = "acuracy"', "reward: .*acuracy"),
        ('prompt = ""', "prompt = 3", r"starts\[1\].prompt: expected str, got 3"),
        ('name = "empty"\n', "", r"starts\[1\].name: is missing"),
        ("models = [", "#", "models: is missing or empty, and not every task names"),
        ("tasks = [", "#", "tasks: is missing or empty"),
        ("seeds = ", "seeds == ", "is not TOML"),
    ],
)
def test_a_wrong_suite_is_refused(tmp_path: Path, before: str, after: str, says: str) -> None:
    assert before in SMALL
    path = write(tmp_path, SMALL.replace(before, after))
    with pytest.raises(ConfigError, match=says) as refusal:
        load_suite(path)
    assert str(refusal.value).startswith(str(path))


def test_an_unknown_suite_is_refused_by_what_there_is() -> None:
    with pytest.raises(ConfigError, match=r"no suite 'quik'.*few-shot, measured, quick, table"):
        load_suite("quik")


def test_a_method_that_asks_a_proposer_needs_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(BASELINES, "asking", f"{__name__}:Asking")
    text = SMALL.replace('"manual"', '"asking"')
    with pytest.raises(ConfigError, match=r"methods\[0\]: asking asks a proposer .*tiny-rewriter"):
        load_suite(write(tmp_path, text))
    with pytest.raises(ConfigError, match=r"proposer: unknown model 'rewriter'"):
        load_suite(write(tmp_path, 'proposer = "rewriter"\n' + text))


def test_a_proposer_that_writes_nothing_is_refused_with_the_suite(
    tmp_path: Path, built: Any
) -> None:
    forget_models()
    masked = built("masked", "roberta")
    text = SMALL.replace('"manual"', '"opro"')
    for spec, what in {
        "tiny-masked": "a masked model",
        masked: "a masked model",
        f"ray:{masked}": "a masked model",
        "table:staff": "a prompt table",
    }.items():
        path = write(tmp_path, f'proposer = "{spec}"\n{text}')
        with pytest.raises(ConfigError, match=f"is {what} and writes .*: tiny-rewriter") as told:
            load_suite(path)
        named = spec.removeprefix("ray:")
        assert str(told.value).startswith(f"{path}: proposer: proposer {named!r} is ")
    given = f'proposer = {{model = "{masked}", options = {{device = "cpu"}}}}\n'
    with pytest.raises(ConfigError, match=r"mine.toml: proposer: .* is a masked model"):
        load_suite(write(tmp_path, given + text))
    assert not registry._loaded
    writers = (built("causal", "gpt2"), built("seq2seq", "t5"), "tiny", "openai:http://no.where#m")
    for spec in (*writers, "hf:nobody/was-ever-here"):
        assert load_suite(write(tmp_path, f'proposer = "{spec}"\n{text}')).proposer


def test_a_config_in_the_hub_s_cache_tells_and_none_is_fetched(tmp_path: Path, built: Any) -> None:
    folder = tmp_path / "hub/hub/models--some--encoder"
    (folder / "refs").mkdir(parents=True)
    (folder / "refs/main").write_text("0" * 40)
    (folder / "snapshots" / ("0" * 40)).mkdir(parents=True)
    config = Path(built("masked", "bert").removeprefix("hf:"), "config.json").read_text()
    (folder / "snapshots" / ("0" * 40) / "config.json").write_text(config)
    text = 'proposer = "hf:some/encoder"\n' + SMALL.replace('"manual"', '"opro"')
    ran = subprocess.run(
        [sys.executable, "-m", "promptgym.cli", "bench", str(write(tmp_path, text)), "--dry-run"],
        env={
            **os.environ,
            "HF_HOME": str(tmp_path / "hub"),
            "PYTHONPATH": os.pathsep.join(sys.path),
        },
        capture_output=True,
        text=True,
        check=False,
    )
    assert ran.returncode == 2
    assert "mine.toml: proposer: proposer 'hf:some/encoder' is a masked model" in ran.stderr


def test_options_decide_whether_a_method_asks_a_proposer(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(BASELINES, "asking", f"{__name__}:Asking")
    silent = '{method = "asking", name = "silent", options = {asks = false}}'
    text = SMALL.replace('"manual"', silent)
    assert all(c.experiment.proposer is None for c in load_suite(write(tmp_path, text)).cells())
    both = SMALL.replace('"manual"', f'{silent}, "asking"')
    with pytest.raises(ConfigError, match=r"mine.toml: methods\[1\]: asking asks a proposer"):
        load_suite(write(tmp_path, both))
    cells = load_suite(write(tmp_path, 'proposer = "tiny-rewriter"\n' + both)).cells()
    given = {c.method for c in cells if c.experiment.proposer == "tiny-rewriter"}
    assert given == {"asking"} and {c.method for c in cells} == {"silent", "asking", "rl"}


def test_a_suite_is_a_value() -> None:
    suite = load_suite("quick")
    assert isinstance(suite, Suite) and suite == load_suite("quick")
    assert suite.to_json()["methods"][0]["name"] == "empty"
