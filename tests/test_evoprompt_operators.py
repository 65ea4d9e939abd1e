"""EvoPrompt's crossover and mutation by a proposer, inside a plain evolution."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import pytest
from rule_models import rule_proposer

from promptgym.baselines.evoprompt_operators import ProposerOperators
from promptgym.baselines.proposals import best_of, worth
from promptgym.problem import Problem
from promptgym.prompts import Prompt
from promptgym.search import Search
from promptgym.testing import RuleProposer, TransparentModel, transparent_task


def make(proposer: Any, budget: int = 10_000) -> Problem:
    return Problem(transparent_task(), TransparentModel(), budget=budget, proposer=proposer)


@dataclass(frozen=True)
class Evolution(ProposerOperators):
    """The smallest evolution that uses all operators; a trial replaces its member if better."""

    name: ClassVar[str] = "evolution"
    kind: str = "ga"

    def search(self, problem: Problem, rng: np.random.Generator) -> Search:
        """Evolve ten prompts."""
        start = [problem.initial_prompt]
        alive = [*start, *(yield from self.paraphrases(problem, start, 9, rng))]
        values = dict(zip(alive, worth((yield alive)).tolist(), strict=True))
        while True:
            alive = best_of(values, 10)
            if self.kind == "ga":
                drawn = rng.integers(len(alive), size=(10, 2)).tolist()
                pairs = [(alive[i], alive[j]) for i, j in drawn]
                new = yield from self.children(problem, pairs, rng)
            else:
                picks = [rng.integers(len(alive), size=2).tolist() for _ in alive]
                quartets = [
                    (p, alive[a], alive[b], alive[0])
                    for p, (a, b) in zip(alive, picks, strict=True)
                ]
                new = yield from self.trials(problem, quartets, rng)
            values |= dict(zip(new, worth((yield new)).tolist(), strict=True))


@pytest.mark.parametrize("kind", ["ga", "de"])
def test_an_evolution_with_the_operators_climbs_an_additive_problem(kind: str) -> None:
    result = Evolution(kind=kind).optimize(make(rule_proposer()), seed=0)
    assert {"alpha", "beta", "gamma"} <= set(result.best.prompt.words)
    assert "anti" not in result.best.prompt.words


def run(part: Any, problem: Problem) -> list[Prompt]:
    """Answer the one request of an operator."""
    ask = next(part)
    found = problem.propose(ask.texts, ask.sampling, tag=ask.tag)
    try:
        part.send(found)
    except StopIteration as end:
        return list(end.value)
    raise AssertionError("an operator makes one request")


def mute_at(number: int) -> RuleProposer:
    """Return a proposer that joins the prompts it is shown; one answer cannot be read."""
    said: list[int] = []

    def rule(text: str, rng: np.random.Generator) -> str:
        said.append(1)
        prompts = [t.split("</prompt>")[0] for t in text.split("<prompt>")[1:]]
        joined = " ".join(prompts)
        return joined if len(said) == number else f"<instruction>{joined}</instruction>"

    return RuleProposer(rule)


A, B, C, D = (Prompt(word) for word in ("alpha", "beta", "gamma", "delta"))


def test_the_operators_show_their_prompts_in_order_and_pass_over_what_cannot_be_read() -> None:
    rng, operators = np.random.default_rng(0), Evolution()
    problem = make(mute_at(2))
    children = run(operators.children(problem, [(A, B), (B, C), (C, D)], rng), problem)
    assert [p.instruction for p in children] == ["alpha beta", "gamma delta"]
    problem = make(mute_at(2))
    trials = run(operators.trials(problem, [(A, B, C, D), (D, C, B, A)], rng), problem)
    assert [p.instruction for p in trials] == ["beta gamma delta alpha", "delta"]
    problem = make(mute_at(2))
    assert [
        p.instruction for p in run(operators.paraphrases(problem, [A, B], 3, rng), problem)
    ] == ["alpha", "alpha"]
