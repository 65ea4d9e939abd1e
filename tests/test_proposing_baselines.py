"""The baselines that ask a proposer: what all of them promise, then each one's own algorithm."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from rule_models import rule_proposer

from promptgym import make_problem
from promptgym.agents import make_optimizer
from promptgym.baselines import BASELINES
from promptgym.errors import ConfigError
from promptgym.problem import Problem
from promptgym.runs import ListSink
from promptgym.search.result import Result
from promptgym.testing import RuleProposer, TransparentModel, transparent_task

PROPOSING = [name for name in sorted(BASELINES) if getattr(make_optimizer(name), "proposes", False)]


def make(budget: Any = 8000, proposer: Any = None, **options: Any) -> Problem:
    proposer = rule_proposer() if proposer is None else proposer
    return Problem(
        transparent_task(), TransparentModel(), budget=budget, proposer=proposer, **options
    )


def method(name: str, **options: Any) -> Any:
    return make_optimizer(name, **options)


def outcome(result: Result) -> dict[str, Any]:
    row = asdict(result)
    row["spent"].pop("seconds")
    return row


def events(sink: ListSink, kind: str) -> list[dict[str, Any]]:
    return [e for e in sink.events if e["kind"] == kind]


def trained(sink: ListSink) -> list[str]:
    """Return the instructions asked on the training split, in order."""
    rows = [e for e in events(sink, "scores") if e["split"] == "train"]
    return [p["instruction"] for row in rows for p in row["prompts"]]


# -- what all of them promise --------------------------------------------------


@pytest.mark.parametrize("name", PROPOSING)
def test_it_runs_on_the_embedded_rewriter(name: str) -> None:
    sizes = {"train": 16, "dev": 16}
    problem = make_problem(
        "author",
        "tiny",
        task_options={"sizes": sizes},
        proposer="tiny-rewriter",
        budget={"queries": 1200, "proposer_calls": 150},
    )
    result = method(name).optimize(problem, seed=0)
    assert result.best.dev is not None
    assert 0 < result.spent["proposer"]["calls"] <= 150 and result.spent["queries"] <= 1200
    assert result.spent["proposer"]["tokens"] > 0


@pytest.mark.parametrize("name", PROPOSING)
def test_its_proposer_budget_is_hard(name: str) -> None:
    proposer = rule_proposer()
    problem = make({"queries": 50_000, "proposer_calls": 60}, proposer)
    result = method(name).optimize(problem, seed=1)
    assert result.spent["proposer"]["calls"] == len(proposer.asked) <= 60
    assert result.best.dev is not None


@pytest.mark.parametrize("name", PROPOSING)
def test_what_cannot_be_read_is_logged_and_paid(name: str) -> None:
    sink = ListSink()
    mute = RuleProposer(lambda text, rng: "I would rather not.")
    problem = make(3000, mute, events=sink)
    result = method(name).optimize(problem, seed=0)
    rows = events(sink, "proposals")
    assert rows and all(found is None for row in rows for found in row["parsed"])
    assert result.stats["unparsable"] == result.stats["proposals"] == len(mute.asked)
    words = sum(len(text.split()) for text in mute.asked) + 4 * len(mute.asked)
    assert result.spent["proposer"] == {"calls": len(mute.asked), "tokens": words}
    assert result.best.prompt == problem.initial_prompt, "nothing else could be asked"


@pytest.mark.parametrize("name", PROPOSING)
def test_killed_between_two_records_it_repeats_no_call(name: str, tmp_path: Path) -> None:
    def go(proposer: Any, resume: bool = False) -> dict[str, Any]:
        problem = make(2500, proposer)
        return outcome(method(name).optimize(problem, 4, checkpoint_dir=tmp_path, resume=resume))

    first = rule_proposer()
    whole = go(first)
    file = tmp_path / "journal.jsonl"
    lines = file.read_bytes().splitlines(keepends=True)
    for kept in {2, 3, len(lines) // 2, len(lines) - 1}:
        file.write_bytes(b"".join(lines[:kept]))
        known = [json.loads(line) for line in lines[1:kept]]
        served = sum(len(row["completions"]) for row in known if "asked" in row)
        again = rule_proposer()
        assert go(again, resume=True) == whole
        assert again.asked == first.asked[served:]


@pytest.mark.parametrize("name", PROPOSING)
def test_settings_that_mean_nothing_are_refused(name: str) -> None:
    for wrong in ({"temperature": -1.0}, {"max_tokens": 0}):
        with pytest.raises(ConfigError, match=f"{name}: {next(iter(wrong))}"):
            method(name, **wrong)


# -- best of N -----------------------------------------------------------------


def test_best_of_n_rewrites_the_initial_prompt_alone_and_stops_at_n() -> None:
    proposer, sink = rule_proposer(), ListSink()
    problem = make(20_000, proposer, initial_prompt="one alpha", events=sink)
    result = method("best_of_n", limit=40).optimize(problem, seed=0)
    assert len(proposer.asked) == 40
    assert {text.count("<prompt>one alpha</prompt>") for text in proposer.asked} == {1}
    asked = [
        p["instruction"]
        for e in events(sink, "scores")
        if e["split"] == "train"
        for p in e["prompts"]
    ]
    assert len(asked) == len(set(asked)) and asked[0] == "one alpha"
    parsed = {t for e in events(sink, "proposals") for t in e["parsed"] if t}
    assert set(asked) == parsed | {"one alpha"}
    assert "alpha" in result.best.prompt.words and len(result.best.prompt.words) <= 3


# -- APE -----------------------------------------------------------------------


def test_ape_guesses_from_sets_of_examples_then_varies_the_best() -> None:
    proposer, sink = rule_proposer(), ListSink()
    problem = make(6000, proposer, events=sink)
    method("ape", race=False).optimize(problem, seed=0)
    guesses, rest = proposer.asked[:50], proposer.asked[50:]
    assert len(set(guesses)) == 5 and all(g.count("Right answer") == 5 for g in guesses)
    targets = {e.input: e.target for e in problem.task.train}
    shown = [b.split("\nRight answer: ") for b in guesses[0].split("Input: ")[1:]]
    assert all(targets[b[0]] == b[1].split("\n")[0] for b in shown), "with their own answers"
    assert len(rest) >= 40 and all("<prompt>" in text for text in rest)
    first = events(sink, "scores")[:2]
    rewards = {
        p["instruction"]: float(r)
        for e in first
        for p, r in zip(e["prompts"], e["rewards"], strict=True)
    }
    best = sorted(rewards, key=lambda p: -rewards[p])[:10]
    varied = {text.split("<prompt>")[1].split("</prompt>")[0] for text in rest[:40]}
    assert varied == set(best)


def test_ape_finds_the_optimum_of_an_additive_problem_and_racing_saves_queries() -> None:
    result = method("ape").optimize(make(15_000), seed=0)
    assert {"alpha", "beta", "gamma"} <= set(result.best.prompt.words)
    raced = method("ape").optimize(make(3000), seed=0)
    whole = method("ape", race=False).optimize(make(3000), seed=0)
    assert raced.stats["prompts"] > 1.2 * whole.stats["prompts"]
    with pytest.raises(ConfigError, match="ape: keep"):
        method("ape", keep=1.0)


# -- OPRO ----------------------------------------------------------------------


def test_opro_shows_the_best_with_their_scores_in_ascending_order() -> None:
    proposer, sink = rule_proposer(), ListSink()
    method("opro", trajectory=4).optimize(make(6000, proposer, events=sink), seed=0)
    scores: dict[str, float] = {}
    steps = [e for e in sink.events if e["kind"] == "proposals" or e.get("split") == "train"]
    checked = 0
    for event in steps:
        if event["kind"] == "scores":
            names = [p["instruction"] for p in event["prompts"]]
            scores |= dict(zip(names, (100 * np.asarray(event["values"])).tolist(), strict=True))
            continue
        assert len(event["texts"]) == 8 and len(set(event["texts"])) == 1
        blocks = event["texts"][0].split("<prompt>")[1:]
        shown = [(b.split("</prompt>")[0], int(b.split("score: ")[1].split()[0])) for b in blocks]
        values = [scores[name] for name, _ in shown]
        assert values == sorted(values) and values == sorted(scores.values())[-4:]
        assert [score for _, score in shown] == [round(v) for v in values]
        assert event["texts"][0].count("Right answer") == 3
        checked += len(shown) == 4
    assert checked > 5


def test_opro_climbs_an_additive_problem() -> None:
    result = method("opro").optimize(make(20_000), seed=0)
    assert {"alpha", "beta", "gamma"} <= set(result.best.prompt.words)
