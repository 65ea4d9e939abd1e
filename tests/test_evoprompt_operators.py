"""EvoPrompt as the paper has it: a proposer carries out crossover and mutation."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from rule_models import events, make, method

from promptgym.baselines.evoprompt import EvoPromptDE, EvoPromptGA
from promptgym.problem import Problem
from promptgym.prompts import Prompt
from promptgym.runs import ListSink
from promptgym.testing import RuleProposer

BOTH = ["evoprompt_ga", "evoprompt_de"]


@pytest.mark.parametrize("name", BOTH)
def test_an_evolution_by_a_proposer_climbs_an_additive_problem(name: str) -> None:
    evolution = method(name, operators="proposer", objective="margin", iterations=0)
    result = evolution.optimize(make(10_000), seed=0)
    assert {"alpha", "beta"} <= set(result.best.prompt.words)
    assert "anti" not in result.best.prompt.words


@pytest.mark.parametrize("name", BOTH)
def test_the_first_population_is_paraphrased_and_every_generation_is_one_request(name: str) -> None:
    sink = ListSink()
    method(name, operators="proposer").optimize(make(10_000, events=sink), seed=0)
    asked = [e["texts"] for e in events(sink, "proposals")]
    generations = [texts for texts in asked if "mutate" in texts[0] or "Step 1" in texts[0]]
    paraphrased = asked[: -len(generations)]
    assert all("Say the same" in text for texts in paraphrased for text in texts)
    assert len(paraphrased[0]) == 9 and "<prompt>one two</prompt>" in paraphrased[0][0]
    assert [len(texts) for texts in generations] == [10] * 10
    scored = next(e for e in events(sink, "scores") if e["split"] == "train")
    assert len(scored["prompts"]) == 10 and scored["prompts"][0]["instruction"] == "one two"


@pytest.mark.parametrize("name", BOTH)
def test_a_proposer_that_repeats_itself_ends_an_evolution(name: str) -> None:
    parrot = RuleProposer(lambda text, rng: "<instruction>one two</instruction>")
    result = method(name, operators="proposer").optimize(make(10_000, parrot), seed=0)
    assert result.best.prompt == Prompt("one two") and result.stats["prompts"] == 1


def run(part: Any, problem: Problem) -> list[str]:
    """Answer the one request of an operator; return what it makes of it."""
    ask = next(part)
    found = problem.propose(ask.texts, ask.sampling, tag=ask.tag)
    with pytest.raises(StopIteration) as end:
        part.send(found)
    return [p.instruction for p in end.value.value]


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
    rng, problem = np.random.default_rng(0), make(None, mute_at(2))
    genetic = EvoPromptGA(operators="proposer")
    children = run(genetic.children(problem, [(A, B), (B, C), (C, D)], rng), problem)
    assert children == ["alpha beta", "gamma delta"]
    problem = make(None, mute_at(2))
    differential = EvoPromptDE(operators="proposer")
    trials = run(differential.trials(problem, [(A, B, C, D), (D, C, B, A)], rng), problem)
    assert trials == ["beta gamma delta alpha", "delta"]
