"""ProTeGi: mistakes, reasons, edits, variants; and the bandits that choose among them."""

from __future__ import annotations

from typing import Any, get_args

import numpy as np
import pytest
from rule_models import events, make, method, rule_proposer

from promptgym.baselines.bandits import Kind, Means, Pulls, bound, choose, phases
from promptgym.errors import ConfigError
from promptgym.problem import Problem
from promptgym.prompts import Prompt
from promptgym.runs import ListSink
from promptgym.search import Answer, Ask


def test_protegi_shows_mistakes_takes_the_reason_and_mends() -> None:
    proposer, sink = rule_proposer(), ListSink()
    problem = make(8000, proposer, events=sink)
    method("protegi", rounds=1).optimize(problem, seed=0)
    criticize, edit, vary = [e for e in sink.events if e["kind"] == "proposals"]
    assert len(criticize["texts"]) == 4
    targets = {e.input: e.target for e in problem.task.train}
    for text in criticize["texts"]:
        assert f"<prompt>{problem.initial_prompt.instruction}</prompt>" in text
        for block in text.split("Input: ")[1:]:
            lines = block.split("\n")
            given, right = lines[1].split(": ")[1], lines[2].split(": ")[1]
            assert right == targets[lines[0]] and given != right, "a mistake, with the answer given"
    reasons = [r for r in criticize["parsed"] if r]
    assert len(edit["texts"]) == len(reasons)
    assert all(f"instruction: {r}\n" in t for r, t in zip(reasons, edit["texts"], strict=True))
    edited = [t for t in edit["parsed"] if t]
    edited.append(problem.initial_prompt.instruction)
    assert len(vary["texts"]) == 2 * len(edited)
    assert all(f"<prompt>{edited[i // 2]}</prompt>" in t for i, t in enumerate(vary["texts"]))


def test_protegi_expands_each_prompt_by_eight_at_most_and_keeps_four() -> None:
    sink = ListSink()
    options = {"gradients": 8, "edits": 2, "selection": "all"}
    method("protegi", **options).optimize(make(60_000, events=sink), seed=0)
    sizes = [len(e["prompts"]) for e in events(sink, "scores") if e["split"] == "train"]
    assert max(sizes) == 4 + 4 * 8 and 1 + 8 in sizes


@pytest.mark.parametrize("selection", get_args(Kind))
def test_protegi_climbs_an_additive_problem_with_every_bandit(selection: str) -> None:
    result = method("protegi", selection=selection).optimize(make(60_000), seed=0)
    assert {"alpha", "beta"} <= set(result.best.prompt.words)
    assert "anti" not in result.best.prompt.words
    fewer = method("protegi", selection=selection, rounds=1).optimize(make(60_000), seed=0)
    assert fewer.best.reward < result.best.reward


def drive(choice: Any, problem: Problem) -> tuple[list[int], list[Ask]]:
    """Answer a bandit until it has chosen."""
    asks, answer = [], None
    while True:
        try:
            ask = choice.send(answer)
        except StopIteration as end:
            return end.value, asks
        asks.append(ask)
        scores = problem.score(ask.prompts, ask.examples)
        answer = Answer(scores, problem.rewards(scores))


ARMS = ["one", "alpha", "two", "alpha beta", "anti", "three", "alpha beta gamma", "four", "beta"]


@pytest.mark.parametrize("kind", ["ucb", "ucb-e", "sr"])
def test_a_bandit_finds_the_best_arms_within_its_pulls(kind: Any) -> None:
    problem = make(None)
    pulls = Pulls(rounds=8, prompts=3, examples=8)
    rng = np.random.default_rng(0)
    prompts = [Prompt(text) for text in ARMS]
    kept, asks = drive(choose(kind, problem, rng, prompts, 2, pulls), problem)
    assert ARMS.index("alpha beta gamma") in kept and len(kept) == 2
    queries = sum(len(a.prompts) * len(a.examples or ()) for a in asks)
    assert queries <= pulls.total if kind == "sr" else queries == pulls.total
    if kind == "sr":
        sizes = [len(a.prompts) for a in asks]
        assert sizes == sorted(sizes, reverse=True)
        seen = [e.key for a in asks for e in a.examples or ()]
        assert len(seen) == len(set(seen)), "no example twice"
    else:
        first = [p.instruction for a in asks[:3] for p in a.prompts]
        assert sorted(first) == sorted(ARMS), "each arm once before any is asked again"


def test_the_bounds_and_phases_are_the_papers() -> None:
    means = Means(3)
    means.sums[:2], means.counts[:2] = [3, 8], [4, 16]
    np.testing.assert_allclose(
        bound("ucb", means, 5, 2.0),
        [0.75 + 2 * (np.log(5) / 4) ** 0.5, 0.5 + 2 * (np.log(5) / 16) ** 0.5, np.inf],
    )
    np.testing.assert_allclose(
        bound("ucb-e", means, 5, 2.0),
        [0.75 + 2 * (2 / 4) ** 0.5, 0.5 + 2 * (2 / 16) ** 0.5, np.inf],
    )
    # K = 3: log_bar = 1/2 + 1/2 + 1/3, n_1 = 97 / (4/3 * 3), n_2 = 97 / (4/3 * 2)
    assert phases(3, 1, 100) == [25, 37]
    assert phases(3, 2, 100) == [25]


def test_protegi_refuses_unknown_selections() -> None:
    with pytest.raises(ConfigError, match=r"protegi: .*selection .*'ucb-e'.* got 'best'"):
        method("protegi", selection="best")
