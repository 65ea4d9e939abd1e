"""Recorded answers: a file of `promptgym cache export` in place of the model that gave them."""

from __future__ import annotations

import copy
import dataclasses
import gzip
import json
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from promptgym import load_model, load_task
from promptgym.errors import ModelError
from promptgym.llms import LanguageModel, Sampling
from promptgym.problem import Problem, make_problem
from promptgym.prompts import Prompt
from promptgym.scoring.store import export_store, store_at
from promptgym.tasks import Task
from promptgym.testing.transparent import LABELS, TransparentModel, transparent_task

PROMPTS = [Prompt("alpha"), Prompt("one two"), Prompt("")]


class Named(TransparentModel):
    """A model of another name and other answers."""

    def __init__(self, name: str, bias: float) -> None:
        """Set both."""
        super().__init__(bias=bias)
        self.name = name


def export(folder: Path, *problems: Callable[[Any], Problem], name: str = "e.jsonl") -> str:
    """Score PROMPTS with problems that share a store, export it; return the spec."""
    store = store_at(folder / "scores.sqlite")
    for build in problems:
        build(store).score(PROMPTS)
    export_store(store, folder / name)
    return f"replay:{folder / name}"


def written_task() -> Task:
    """A task answered by generation."""
    return dataclasses.replace(transparent_task(), labels=None, verbalizers={}, stop=("\n",))


@pytest.mark.parametrize("model", ["tiny", "tiny-masked", TransparentModel()])
@pytest.mark.parametrize("name", ["e.jsonl", "e.jsonl.gz"])
def test_a_recording_answers_as_its_model_did(tmp_path: Path, model: Any, name: str) -> None:
    task = transparent_task() if isinstance(model, LanguageModel) else load_task("author")
    spec = export(tmp_path, lambda store: make_problem(task, model, cache=store), name=name)
    first = make_problem(task, model)
    again = make_problem(task, spec)
    assert again.model.kind == first.model.kind and again.model.name.startswith(f"{spec}@")
    assert getattr(again.model, "recorded") == first.model.name  # noqa: B009
    one, two = first.score(PROMPTS), again.score(PROMPTS)
    assert one.label_logprobs is not None and two.label_logprobs is not None
    # a text whose log-probabilities were computed in another batch may differ by 1e-4
    np.testing.assert_allclose(one.label_logprobs, two.label_logprobs, atol=1e-4)
    np.testing.assert_array_equal(one.values, two.values)
    assert first.ledger.tokens == again.ledger.tokens


def test_written_answers_are_replayed_with_the_tokens_they_cost(tmp_path: Path) -> None:
    task, model = written_task(), TransparentModel()
    spec = export(tmp_path, lambda store: make_problem(task, model, cache=store))
    first, again = make_problem(task, model), make_problem(task, spec)
    one, two = first.score(PROMPTS), again.score(PROMPTS)
    assert one.completions is not None and two.completions is not None
    assert one.completions.tolist() == two.completions.tolist()
    assert (one.mean == two.mean).all()
    assert first.ledger.snapshot()["tokens"] == again.ledger.snapshot()["tokens"]
    with pytest.raises(ModelError, match=r"no answers for decoding .*it has"):
        load_model(spec).generate(["x"], Sampling(seed=7))


def test_what_was_not_recorded_is_a_failure_that_names_it(tmp_path: Path) -> None:
    task = transparent_task()
    spec = export(tmp_path, lambda store: make_problem(task, TransparentModel(), cache=store))
    problem = make_problem(task, spec)
    scores = problem.score([PROMPTS[0], Prompt("beta")])
    assert not np.isnan(scores.mean[0]) and np.isnan(scores.mean[1])
    assert len(scores.failures) == len(task.train)
    assert "beta' is not among the texts that e.jsonl has answers to" in scores.failures[0].reason
    assert (make_problem(task, spec).score(PROMPTS, task.train[:3]).values == 1).size == 9
    with pytest.raises(ModelError, match=r"no answers for labels \['x', 'y'\].*it has"):
        problem.model.check_labels(["x", "y"])
    with pytest.raises(ModelError, match="no likelihoods"):
        problem.model.loglikelihood(["a"], ["b"])
    assert problem.model.count_tokens(["never asked before"]).tolist() == [3]


def test_one_of_several_models_is_chosen_behind_the_name(tmp_path: Path) -> None:
    task = transparent_task()
    names = {"small@1": -2.0, "large@1": 2.0}
    models = [Named(name, bias) for name, bias in names.items()]
    spec = export(tmp_path, *(lambda s, m=m: make_problem(task, m, cache=s) for m in models))
    with pytest.raises(ModelError, match=r"the models \[.*'small@1'.*asked for ''; expected one"):
        load_model(spec)
    for model in models:
        part = model.name.partition("@")[0]
        got = make_problem(task, f"{spec}#{part}").score(PROMPTS).label_logprobs
        want = make_problem(task, model).score(PROMPTS).label_logprobs
        assert got is not None and want is not None
        assert got.tolist() == want.tolist()


def test_a_recording_is_shared_copied_and_pickled_by_its_name(tmp_path: Path) -> None:
    task = transparent_task()
    spec = export(tmp_path, lambda store: make_problem(task, TransparentModel(), cache=store))
    model = load_model(spec)
    assert isinstance(model, LanguageModel)
    assert copy.copy(model) is model and copy.deepcopy(model) is model
    assert pickle.loads(pickle.dumps(model)) is model
    assert set(getattr(model, "prompts")) == set(PROMPTS)  # noqa: B009
    with pytest.raises(ModelError, match="data_dir"):
        load_model(spec, data_dir="x")


def lines_of(setting: dict[str, Any], *answers: list[list[float]]) -> list[dict[str, Any]]:
    """Return the lines of a small export, one row of answers each on a set of its own."""
    content = {
        "model": "m",
        "kind": "causal",
        "mask": "",
        "template": "{input} {prompt}",
        "demonstration": "{input} {answer}\n",
        "labels": list(LABELS),
        "verbalizers": {},
        "decoding": None,
        "version": 1,
        **setting,
    }
    out: list[dict[str, Any]] = [
        {"format": "promptgym-cache", "version": 1},
        {"kind": "setting", "id": "s", "content": content},
        {"kind": "examples", "id": "e", "examples": [{"input": "x", "target": LABELS[0]}]},
    ]
    row = {"kind": "answers", "setting": "s", "examples": "e", "prompt": {"instruction": "p"}}
    return out + [{**row, "answers": a, "tokens": [3]} for a in answers]


def write(path: Path, lines: list[dict[str, Any]]) -> str:
    """Write lines; return the spec."""
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    return f"replay:{path}"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda x: x[0].update(version=2), r"line 1: found .*another release of promptgym"),
        (lambda x: x[1]["content"].pop("kind"), r"line 2: not a line of a cache export \(KeyError"),
        (lambda x: x[3].update(kind="score"), r"line 4: .*kind 'score'"),
        (lambda x: x[3].update(answers=[[-1.0]]), r"line 4: .*expected 2 log-probabilities"),
        (lambda x: x[3].update(tokens=[]), r"line 4: "),
        (lambda x: x[3].update(answers=[[float("nan"), 0]]), r"line 4: .*expected 2"),
        (
            lambda x: x.append({**x[3], "answers": [[-3.0, -4.0]]}),
            r"line 5: the text 'x p' was answered by \(-3.0, -4.0\), in line 4 by \(-1.0, -2.0\)",
        ),
    ],
)
def test_a_faulty_recording_is_refused_by_its_line(
    tmp_path: Path, change: Callable[[list[dict[str, Any]]], Any], message: str
) -> None:
    lines = lines_of({}, [[-1.0, -2.0]])
    change(lines)
    with pytest.raises(ModelError, match=message):
        load_model(write(tmp_path / "e.jsonl", lines))


def test_half_a_recording_is_refused_and_two_that_agree_are_one(tmp_path: Path) -> None:
    lines = lines_of({}, [[-1.0, -2.0]], [[-1.00005, -2.0]])
    model = load_model(write(tmp_path / "e.jsonl", lines))
    assert model.label_logprobs(["x p"], LABELS).logprobs.tolist() == [[-1.0, -2.0]]
    text = (tmp_path / "e.jsonl").read_text()
    (tmp_path / "half.jsonl").write_text(text[:-20])
    with pytest.raises(ModelError, match="line 5: not a line"):
        load_model(f"replay:{tmp_path / 'half.jsonl'}")
    (tmp_path / "half.jsonl.gz").write_bytes(gzip.compress(text.encode() * 50)[:-30])
    with pytest.raises(ModelError):
        load_model(f"replay:{tmp_path / 'half.jsonl.gz'}")


def test_of_two_versions_of_the_scoring_the_newer_answers(tmp_path: Path) -> None:
    old, new = lines_of({}, [[-1.0, -2.0]]), lines_of({"version": 2}, [[-5.0, -6.0]])
    for line in new[1:]:
        for key in ("id", "setting"):
            if line.get(key) == "s":
                line[key] = "s2"
    lines = [*old[:2], new[1], old[2], old[3], new[3]]
    model = load_model(write(tmp_path / "e.jsonl", lines))
    assert model.label_logprobs(["x p"], LABELS).logprobs.tolist() == [[-5.0, -6.0]]
