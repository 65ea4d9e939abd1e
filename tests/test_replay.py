"""Measured tables: scores of real models as tasks and environments that need no model."""

from __future__ import annotations

import copy
import gzip
import itertools
import json
import pickle
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import pytest

from promptgym import evaluate, load_model, load_task
from promptgym.agents import make_optimizer
from promptgym.errors import ModelError, RewardError, TaskError
from promptgym.evaluation.experiment import Experiment, run_experiment
from promptgym.llms import LanguageModel, Sampling
from promptgym.problem import make_problem
from promptgym.prompts import Prompt
from promptgym.tasks.measured import PREFIX
from promptgym.tasks.parts import SEPARATOR

ROW = {"task": "t", "model": "m", "prompt": "p", "score": 0.5}


def write(path: Path, rows: list[dict[str, Any]]) -> str:
    """Write rows as JSON lines; return the spec."""
    text = "".join(json.dumps(row) + "\n" for row in rows)
    if path.suffix == ".gz":
        path.write_bytes(gzip.compress(text.encode()))
    else:
        path.write_text(text)
    return f"replay:{path}"


def examples_of(scores: dict[str, list[float]], **more: Any) -> list[dict[str, Any]]:
    """Return rows of single examples: input i has target i."""
    return [
        {**ROW, "prompt": prompt, "score": s, "input": f"question {i}", "target": str(i), **more}
        for prompt, row in scores.items()
        for i, s in enumerate(row)
    ]


@pytest.mark.parametrize("name", ["t.jsonl", "t.jsonl.gz"])
def test_means_are_scored_as_they_stand_under_a_budget(tmp_path: Path, name: str) -> None:
    rows = [{**ROW, "prompt": f"p{i}", "score": i / 10} for i in range(5)]
    spec = write(tmp_path / name, [*rows, {**ROW, "prompt": "", "score": 0.25, "n": 3}])
    problem = make_problem(spec, spec, budget=10)
    assert isinstance(problem.model, LanguageModel)
    assert problem.reward.name == "accuracy"
    assert [p.instruction for p in problem.task.reference_prompts] == ["p4"]
    scores = problem.score([*problem.task.manual_prompts, Prompt("p1")])
    assert scores.mean.tolist() == [0.0, 0.1, 0.2, 0.3, 0.4, 0.25, 0.1]
    assert problem.ledger.queries == 7
    assert not problem.task.dev and not load_task(spec).test


def test_a_prompt_that_was_not_measured_is_a_failure_that_names_it(tmp_path: Path) -> None:
    spec = write(tmp_path / "t.jsonl", [ROW, {**ROW, "prompt": "q", "system": "be brief"}])
    problem = make_problem(spec, spec)
    asked = [Prompt("p"), Prompt("new words"), Prompt("q"), Prompt("q", system="be brief")]
    scores = problem.score(asked)
    np.testing.assert_array_equal(scores.mean, [0.5, np.nan, np.nan, 0.5])
    assert [f.prompt for f in scores.failures] == [1, 2]
    assert "'new words' is not among the 2 prompts" in scores.failures[0].reason
    assert "t.jsonl" in scores.failures[0].reason
    assert scores.counts() == {"refused": 2}


def test_examples_are_scored_one_by_one_and_holes_are_failures(tmp_path: Path) -> None:
    rows = examples_of({"a": [1.0] * 9 + [0.0], "b": [0.0] * 9 + [1.0]}, split="train")
    held = examples_of({"a": [0.5], "b": [0.75]}, split="test", input="held out")
    spec = write(tmp_path / "t.jsonl", [*rows[:-1], *held])
    task = load_task(spec, dev=0)
    assert (len(task.train), len(task.dev), len(task.test)) == (10, 0, 1)
    assert [e.target for e in task.train] == [str(i) for i in range(10)]
    scores = make_problem(task, spec).score([Prompt("a"), Prompt("b")])
    assert scores.values[0].tolist() == [1.0] * 9 + [0.0]
    assert scores.values[1, :9].tolist() == [0.0] * 9 and np.isnan(scores.values[1, 9])
    assert "'b' was not measured on the input 'question 9'" in scores.failures[0].reason
    found = evaluate(["a", "b"], task, spec)
    assert found.mean.tolist() == [0.5, 0.75]


def test_a_table_without_splits_is_divided_as_any_file_is(tmp_path: Path) -> None:
    rows = examples_of({"a": list(np.linspace(0, 1, 20)), "b": [0.5] * 20})
    spec = write(tmp_path / "t.jsonl", rows)
    task = load_task(spec, seed=1)
    assert (len(task.train), len(task.dev), len(task.test)) == (12, 4, 4)
    small = load_task(spec, sizes={"train": 5}, dev=2, test=3, name="mine")
    assert (len(small.train), len(small.dev), len(small.test), small.name) == (5, 2, 3, "mine")
    values = {row["input"]: row["score"] for row in rows if row["prompt"] == "a"}
    scores = make_problem(task, spec).score([Prompt("a")], split="dev")
    assert scores.values[0].tolist() == [values[e.input] for e in task.dev]


def test_an_environment_and_baselines_run_on_a_table_alone(tmp_path: Path) -> None:
    words = ["a", "b", "c"]
    texts = [" ".join(t) for n in (1, 2, 3) for t in itertools.product(words, repeat=n)]
    rows = [{**ROW, "prompt": t, "score": (t.count("c") + 1) / 4} for t in texts]
    spec = write(tmp_path / "t.jsonl", rows)
    arguments = {"task": spec, "model": spec, "vocabulary": words, "initial_prompt": "a b"}
    env = gym.make(
        "promptgym:PromptEdit-v0", **arguments, horizon=4, max_words=3, shaping="absolute"
    )
    _, info = env.reset(seed=0)
    assert info["score"] == 0.25
    rng = np.random.default_rng(0)
    for _ in range(30):
        legal = np.flatnonzero(info["action_mask"][: env.unwrapped.mdp.action_space.nvec[0]])  # type: ignore[attr-defined]
        action = [int(rng.choice(legal)), int(rng.integers(2)), int(rng.integers(3))]
        _, _, terminated, truncated, info = env.step(np.array(action))
        if info["prompt"]:
            assert info["score"] == (info["prompt"].count("c") + 1) / 4
        if terminated or truncated:
            _, info = env.reset()
    best = make_optimizer("hill_climbing").optimize(
        make_problem(spec, spec, vocabulary=words, initial_prompt="a b", budget=2000), seed=0
    )
    assert best.best.train == 1.0
    chosen = make_optimizer("manual", every=True).optimize(make_problem(spec, spec), seed=0)
    assert chosen.best.prompt == Prompt("c c c")


@pytest.mark.parametrize("size", [0, 20, 2000])
def test_a_run_on_a_table_ends_with_a_report(tmp_path: Path, size: int) -> None:
    texts = ["a long prompt of many words", "another one"]
    rows = [{**ROW, "prompt": t, "score": i / 2} for i, t in enumerate(texts)]
    if size:
        rows = examples_of({t: [i / 2] * size for i, t in enumerate(texts)})
    spec = write(tmp_path / "t.jsonl", rows)
    experiment = Experiment(method="manual", task=spec, model=spec, options={"every": True})
    record = run_experiment(experiment, tmp_path / "run")
    assert record["best"]["prompt"]["instruction"] == "another one"
    page = (tmp_path / "run" / "report.html").read_text("utf-8")
    assert ("Not known:" in page and "is not among the 2 prompts" in page) is (size == 2000)
    assert ("What each word does" in page) is (size > 0)


def test_a_table_holds_no_log_probabilities_and_its_answers_are_no_scores(tmp_path: Path) -> None:
    spec = write(tmp_path / "t.jsonl", [ROW])
    with pytest.raises(ModelError, match=r"holds scores of prompts.*load_task\('replay:"):
        make_problem("author", spec)
    with pytest.raises(ModelError, match="laid out by its own template"):
        load_model(spec).generate(["plain text"], Sampling())
    with pytest.raises(ModelError, match="not likelihoods"):
        load_model(spec).loglikelihood(["a"], ["b"])
    with pytest.raises((TaskError, RewardError), match="needs labels"):
        make_problem(spec, spec, reward="loglikelihood")
    with pytest.raises(TaskError, match="as it was measured"):
        load_task(spec, metric="exact_match")
    task = load_task(spec)
    with pytest.raises(TaskError, match="reads the scores of a measured table"):
        task.metric.score("0.5", task.train[0])
    text = f"{SEPARATOR}p{SEPARATOR}{task.train[0].input}"
    assert load_model(spec).generate([text], Sampling())[0].text == f"{PREFIX}0.5"


def test_a_table_is_shared_copied_and_pickled_by_its_name(tmp_path: Path) -> None:
    spec = write(tmp_path / "t.jsonl", [ROW])
    model = load_model(spec)
    assert load_model(spec) is model and copy.deepcopy(model) is model
    assert copy.copy(model) is model and pickle.loads(pickle.dumps(model)) is model
    assert model.name.startswith(f"{spec}@")
    problem = make_problem(spec, spec)
    again = pickle.loads(pickle.dumps(problem.task))
    assert again == problem.task


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ([ROW, {**ROW, "color": 1}], r"row 2: unknown column 'color'; expected task, model"),
        ([{"task": "t", "model": "m", "prompt": "p"}], r"row 1: no column 'score'"),
        ([{**ROW, "llm": "m"}], r"row 1: two columns say 'model'"),
        ([ROW, {**ROW, "score": 0.6}], r"row 2: score 0.6 for what row 1 gives 0.5: prompt 'p'"),
        ([{**ROW, "score": "high"}], r"row 1: the score is 'high', expected a number from 0 to 1"),
        ([{**ROW, "score": 86.2}], r"row 1: the score is 86.2, expected a number"),
        ([{**ROW, "score": None}], r"row 1: the score is None"),
        ([{**ROW, "prompt": 3}], r"row 1: column 'prompt' holds 3, expected a text"),
        ([{**ROW, "prompt": f"a{SEPARATOR}"}], r"row 1: the prompt holds"),
        (
            [ROW, {**ROW, "task": "u"}],
            r"row 2: task 'u' of model 'm', while row 1 is task 't' of 'm'.*'#u/m' \(1 rows\)",
        ),
        ([ROW, {**ROW, "input": "x"}], r"row 2: an input, while row 1 has none"),
        ([{**ROW, "input": "x", "split": "dev2"}], r"row 1: the split is 'dev2', expected one of"),
        (
            [{**ROW, "input": "x", "target": "1"}, {**ROW, "input": "x", "target": "2"}],
            r"row 2: the input 'x' has target '2'.*in row 1 '1'",
        ),
        ([{**ROW, "input": "x", "split": "test"}], r"'train' among them"),
    ],
)
def test_a_faulty_table_is_refused_by_file_row_found_and_expected(
    tmp_path: Path, rows: list[dict[str, Any]], message: str
) -> None:
    spec = write(tmp_path / "t.jsonl", rows)
    with pytest.raises(TaskError, match=message) as told:
        load_task(spec)
    assert "t.jsonl" in str(told.value)
    with pytest.raises(ModelError, match=message):
        load_model(spec)


def test_one_of_several_tables_is_chosen_behind_the_name(tmp_path: Path) -> None:
    rows = [
        {**ROW, "task": t, "model": m, "score": s}
        for t, m, s in (("t", "m", 0.1), ("t", "n", 0.2), ("u", "m", 0.3))
    ]
    spec = write(tmp_path / "t.jsonl", rows)
    for chosen, score in (("#t/m", 0.1), ("#/n", 0.2), ("#u", 0.3)):
        problem = make_problem(spec + chosen, spec + chosen)
        assert problem.score([Prompt("p")]).mean.tolist() == [score]
    with pytest.raises(TaskError, match=r"nothing was measured of 'v'; there is '#t/m'"):
        load_task(spec + "#v")
    with pytest.raises(TaskError, match="no such file"):
        load_task("replay:nowhere.jsonl")
    with pytest.raises(ModelError, match="unknown options"):
        load_model(spec, dtype="float16")


def outcomes(folder: Path, **names: Any) -> str:
    """Write a folder of outcomes with its questions beside it; return the spec."""
    (folder / "o").mkdir()
    (folder / "t").mkdir()
    listed: dict[str, Any] = {"prompts": ["think", "guess"]}
    for split, key, size in (("train", "training_set", 6), ("test", "test_set", 3)):
        questions = [{"question": f"{split} {i}", "answer": "1"} for i in range(size + 1)]
        write(folder / "t" / f"{split}.jsonl", questions)
        for i, prompt in enumerate(("x", "y")):
            np.save(folder / "o" / f"t_{split}_{prompt}.npy", np.arange(size) % 2 == i)
            listed.setdefault(key, []).append(f"llm/t_{split}_{prompt}.npy")
    (folder / "o" / "t_names.json").write_text(json.dumps({**listed, **names}))
    return f"replay:{folder / 'o'}"


def test_a_folder_of_outcomes_is_a_table(tmp_path: Path) -> None:
    spec = outcomes(tmp_path)
    task = load_task(spec, dev=2)
    assert (len(task.train), len(task.dev), len(task.test), task.name) == (4, 2, 3, "t/llm")
    found = evaluate(["think", "guess"], task, spec)
    assert found.values.tolist() == [[1.0, 0.0, 1.0], [0.0, 1.0, 0.0]]
    (tmp_path / "t").rename(tmp_path / "elsewhere")
    with pytest.raises(TaskError, match="the questions of 't' are not in"):
        load_task(spec + "#t")
    there = str(tmp_path / "elsewhere")
    options = {"data_dir": there}
    problem = make_problem(spec, spec, task_options=options, model_options=options)
    assert problem.score([Prompt("think")]).values.shape == (1, 5)


@pytest.mark.parametrize(
    ("names", "message"),
    [
        ({"more": 1}, r"found \['more', 'prompts'"),
        ({"prompts": ["think"]}, r"2 entries in 'training_set', expected 1"),
        ({"prompts": ["think", "think"]}, "stands twice"),
        ({"test_set": ["llm/t_test_x.npy", "other/t_test_y.npy"]}, r"models \['llm', 'other'\]"),
        ({"test_set": ["llm/t_test_x.npy", "llm/none.npy"]}, r"none.npy: cannot be read"),
        (
            {"test_set": ["llm/t_test_x.npy", "llm/t_train_y.npy"]},
            r"6 outcomes, .* has 3",
        ),
    ],
)
def test_a_faulty_folder_is_refused(tmp_path: Path, names: dict[str, Any], message: str) -> None:
    with pytest.raises(TaskError, match=message):
        load_task(outcomes(tmp_path, **names))


def test_the_measured_prompts_of_three_models(shared: Path) -> None:
    file = shared / "data/measured-prompts/prompt_scores.jsonl.gz"
    rows = [json.loads(line) for line in gzip.decompress(file.read_bytes()).splitlines()]
    for task, model in {(row["task"], row["llm"]) for row in rows}:
        spec = f"replay:{file}#{task}/{model}"
        mine = [r for r in rows if (r["task"], r["llm"]) == (task, model)]
        prompts = [Prompt(r["prompt"], system=r.get("system_prompt", "")) for r in mine]
        found = make_problem(spec, spec).score(prompts).mean
        assert found.tolist() == [r["test_score"] for r in mine]


def test_the_outcomes_of_prompt_oirl(shared: Path) -> None:
    spec = f"replay:{shared / 'data/prompt-oirl'}"
    task = load_task(spec)
    assert (len(task.train), len(task.dev), len(task.test)) == (5978, 1495, 1000)
    found = evaluate(list(task.manual_prompts), task, spec)
    assert found.mean.max() == 0.248  # the figures of the data's own description
    assert found.values.max(axis=0).mean() == 0.501
