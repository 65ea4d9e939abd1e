"""Rows of a journal: which examples they are about; what a benchmark says it was made with."""

from __future__ import annotations

import json
import platform
from pathlib import Path

import pytest

import promptgym
from promptgym.agents import make_optimizer
from promptgym.errors import ConfigError
from promptgym.runs.environment import describe_environment
from promptgym.search.journal import FILE
from promptgym.search.records import subset_of
from promptgym.tasks import split_hash
from promptgym.testing import TransparentModel, transparent_task


def test_a_subset_is_places_in_its_split() -> None:
    task = transparent_task()
    assert subset_of(task.train, task.train) is None
    assert subset_of([task.train[2], task.train[0]], task.train) == [2, 0]
    assert subset_of(task.train[::-1], task.train) == [*range(len(task.train))][::-1]
    with pytest.raises(ConfigError, match="not in its split"):
        subset_of([task.dev[0]], task.train)


def test_rows_of_a_race_say_which_examples_they_are_about(tmp_path: Path) -> None:
    task = transparent_task()
    problem = promptgym.Problem(task, TransparentModel(), budget=2_000)
    search = make_optimizer("random_tokens", batch=8, keep=2)
    search.optimize(problem, seed=0, checkpoint_dir=tmp_path)
    lines = (tmp_path / FILE).read_text(encoding="utf-8").splitlines()[1:]
    rows = [row for row in map(json.loads, lines) if "prompts" in row]
    assert {row["split"] for row in rows} == {"train", "dev"}
    assert any(row["subset"] for row in rows)
    for row in rows:
        split = problem.examples(row["split"])
        asked = split if row["subset"] is None else [split[place] for place in row["subset"]]
        assert split_hash(asked) == row["examples"]


def test_an_environment_names_versions_and_the_commit_of_a_checkout() -> None:
    about = describe_environment()
    assert about["promptgym"] == promptgym.__version__
    assert about["python"] == platform.python_version()
    assert {"numpy", "torch", "transformers", "gymnasium"} <= set(about["packages"])
    assert about["git"] is None or len(about["git"].removesuffix("+changed")) == 40
