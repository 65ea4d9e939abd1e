"""Hygiene of prompts: length, perplexity, words copied and labels named."""

from __future__ import annotations

import json
import math

import pytest

from promptgym.agents.guards import words_of
from promptgym.errors import ConfigError
from promptgym.evaluation.hygiene import measure_hygiene
from promptgym.llms import load_model
from promptgym.tasks import load_task
from promptgym.testing import TransparentModel, transparent_task


def test_the_numbers_of_a_prompt() -> None:
    task, model = load_task("author"), load_model("tiny")
    run = " ".join(words_of(task.train[0].input)[:4])
    prompts = ["carefully author", f"great {run} now now", "", "carefully author"]
    rows = measure_hygiene(prompts, task, model)
    assert json.loads(json.dumps(rows, allow_nan=False)) == rows
    assert [r["prompt"]["instruction"] for r in rows] == prompts
    assert [r["tokens"] for r in rows] == model.count_tokens(prompts).tolist()
    assert [r["words"] for r in rows] == [2, 7, 0, 2]
    logp = float(model.loglikelihood([""], [prompts[0]])[0])
    assert rows[0]["perplexity"] == pytest.approx(math.exp(-logp / 2), rel=1e-4)
    assert rows[2]["perplexity"] is None
    assert rows[0]["copied"] == 0 < rows[1]["copied"] <= 1
    assert rows[0]["labels"] == 0 < rows[1]["labels"]
    assert rows[0]["spent"]["queries"] == 2 and rows[0]["spent"]["calls"] == 1


def test_a_model_without_likelihoods_has_no_perplexity() -> None:
    [row] = measure_hygiene("carefully author", "author", "tiny-masked")
    assert row["perplexity"] is None and row["tokens"] == 2 and row["spent"]["calls"] == 0


def test_a_prompt_that_cannot_be_read_spoils_no_other() -> None:
    long, short = measure_hygiene(["carefully " * 300, "carefully"], "author", "tiny")
    assert long["perplexity"] is None and long["tokens"] == 300
    assert short["perplexity"] > 0


def test_a_perplexity_beyond_numbers_is_none() -> None:
    class Sure(TransparentModel):
        def loglikelihood(self, contexts, continuations):  # type: ignore[no-untyped-def]
            return super().loglikelihood(contexts, continuations) - 1e4

    [row] = measure_hygiene("one", transparent_task(), Sure())
    assert row["perplexity"] is None


def test_mistakes_are_refused_by_name() -> None:
    with pytest.raises(ConfigError, match="task takes"):
        measure_hygiene("a", 3, "tiny")  # type: ignore[arg-type]
