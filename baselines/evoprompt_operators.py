"""EvoPrompt's operators as the paper has them: a proposer carries out crossover and mutation.

Source: Guo et al., "Connecting Large Language Models with Evolutionary Algorithms Yields Powerful
Prompt Optimizers", ICLR 2024, sections 3.2 (genetic algorithm) and 3.3 (differential evolution),
and section 3.1 for the first population, which is filled with paraphrases. Each function is a part
of a search, for `yield from`: one request for all prompts of a generation. The wording of the
requests is this library's.
"""

from __future__ import annotations

from collections.abc import Generator, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from promptgym.baselines.ape import vary
from promptgym.baselines.proposals import END, ProposingMethod, Request
from promptgym.envs.text import fill
from promptgym.problem import Problem
from promptgym.prompts import Prompt
from promptgym.search.driver import Propose

Written = Generator[Propose, Any, list[Prompt]]
Quartet = tuple[Prompt, Prompt, Prompt, Prompt]
"""Member, a, b and donor of differential evolution."""
GENETIC = f"""These two instructions are for the same task:
<prompt>{{first}}</prompt>
<prompt>{{second}}</prompt>
First cross them: make one instruction of parts of both. Then mutate it: change some of its words.
Only the mutated one counts. {END}"""
DIFFERENTIAL = f"""These four instructions are for the same task; call them A, B, C and D:
A: <prompt>{{a}}</prompt>
B: <prompt>{{b}}</prompt>
C: <prompt>{{donor}}</prompt>
D: <prompt>{{member}}</prompt>
Step 1: find where A and B differ. Step 2: change these parts. Step 3: put the changed parts into C,
in place of what they correspond to. Step 4: cross the result with D, so that it has parts of both.
Only what comes of step 4 counts. {END}"""


def paraphrases(
    method: ProposingMethod,
    problem: Problem,
    prompts: Sequence[Prompt],
    count: int,
    rng: np.random.Generator,
) -> Written:
    """Return paraphrases of prompts, taken in turn; those of `count` that could be read."""
    parents = [prompts[i % len(prompts)] for i in range(count)]
    texts = yield from method.write(problem, rng, [vary(p.instruction) for p in parents])
    return _read(parents, texts)


def written_children(
    method: ProposingMethod,
    problem: Problem,
    pairs: Sequence[tuple[Prompt, Prompt]],
    rng: np.random.Generator,
) -> Written:
    """Return a child of each pair of parents, crossed and mutated; those that could be read."""
    requests = []
    for first, second in pairs:
        slots = {"first": first.instruction, "second": second.instruction}
        requests.append(Request(fill(GENETIC, slots), second.instruction))
    texts = yield from method.write(problem, rng, requests)
    return _read([second for _, second in pairs], texts)


def written_trials(
    method: ProposingMethod,
    problem: Problem,
    quartets: Sequence[Quartet],
    rng: np.random.Generator,
) -> Written:
    """Return a trial of each quartet; the member where it cannot be read."""
    requests = []
    for member, a, b, donor in quartets:
        slots = {"a": a, "b": b, "donor": donor, "member": member}
        text = fill(DIFFERENTIAL, {name: p.instruction for name, p in slots.items()})
        requests.append(Request(text, member.instruction))
    texts = yield from method.write(problem, rng, requests)
    members = [quartet[0] for quartet in quartets]
    return [
        member if text is None else replace(member, instruction=text)
        for member, text in zip(members, texts, strict=True)
    ]


def _read(parents: Sequence[Prompt], texts: Sequence[str | None]) -> list[Prompt]:
    """Return prompts with the texts that could be read, all else as their parents have it."""
    return [
        replace(parent, instruction=text)
        for parent, text in zip(parents, texts, strict=True)
        if text is not None
    ]
