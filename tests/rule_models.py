"""A proposer for tests that answers whatever the baselines ask, by rule.

It reads the prompts that stand in the request, adds, drops or replaces a word of the best of them
(the last), and answers between the tags that the request names. So it is to a language model what
random edits are to rewriting, and methods that choose well climb with it.
"""

from __future__ import annotations

import re
from typing import Any

import additive
import numpy as np

from promptgym.agents import make_optimizer
from promptgym.problem import Problem
from promptgym.runs import ListSink
from promptgym.testing import RuleProposer
from promptgym.testing.transparent import FILLERS, WEIGHTS

WORDS = (*WEIGHTS, *FILLERS)
UNREADABLE = 0.1


def answer(text: str, rng: np.random.Generator) -> str:
    """Edit the last prompt of a request by a word; one answer in ten cannot be read."""
    tags = re.findall(r"between <(\w+)> and </\1>", text)
    prompts = re.findall(r"<prompt>(.*?)</prompt>", text, re.DOTALL)
    words = (prompts[-1] if prompts else "").split()
    at = int(rng.integers(len(words) + 1))
    operation = rng.choice(["insert", "insert", "replace", "delete"])
    new = [] if operation == "delete" else [str(rng.choice(WORDS))]
    words[at : at if operation == "insert" else at + 1] = new
    if rng.random() < UNREADABLE or not tags:
        return " ".join(words)
    return f"Here it is. <{tags[-1]}> {' '.join(words) or 'one'} </{tags[-1]}>"


def rule_proposer() -> RuleProposer:
    """Return the proposer."""
    return RuleProposer(answer, "edits a word")


def make(budget: Any = 8000, proposer: Any = None, **options: Any) -> Problem:
    """Return the transparent problem with a proposer, this one unless another is given."""
    proposer = rule_proposer() if proposer is None else proposer
    return additive.make(budget, proposer=proposer, **options)


def method(name: str, **options: Any) -> Any:
    """Return a method by name."""
    return make_optimizer(name, **options)


def events(sink: ListSink, kind: str) -> list[dict[str, Any]]:
    """Return the events of a kind."""
    return [e for e in sink.events if e["kind"] == kind]
