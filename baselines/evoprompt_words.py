"""EvoPrompt's operators on words, for an evolution without a second model.

The steps are those that the paper asks of a language model (Guo et al., ICLR 2024, sections 3.2 and
3.3); places of a text stand for its parts.
"""

from __future__ import annotations

import numpy as np

from promptgym.baselines.evoprompt_operators import Quartet
from promptgym.baselines.hill_climbing import Words, edit
from promptgym.problem import Problem
from promptgym.prompts import Prompt


def mutated(prompt: Prompt, problem: Problem, rng: np.random.Generator, longest: int) -> Prompt:
    """Return a prompt after one random edit; it grows to `longest` words at most."""
    longest = max(longest, len(prompt.words))
    return prompt.with_words(
        edit(prompt.words, problem.vocabulary, rng, longest=longest, swaps=True)
    )


def child(
    pair: tuple[Prompt, Prompt], problem: Problem, rng: np.random.Generator, longest: int
) -> Prompt:
    """Return the head of one parent and the tail of the other, edited once."""
    first, second = pair
    head = first.words[: int(rng.integers(len(first.words) + 1))]
    tail = second.words[int(rng.integers(len(second.words) + 1)) :]
    words = (*head, *tail)[: max(longest, len(first.words))]
    return mutated(first.with_words(words), problem, rng, longest)


def trial(
    quartet: Quartet, problem: Problem, rng: np.random.Generator, longest: int, exchange: float
) -> Prompt:
    """Return a trial of (member, a, b, donor): the paper's four steps.

    A trial that is member or donor again, as all are where a population has become one prompt, is
    edited once.

    Args:
        quartet: the four prompts.
        problem: for its vocabulary.
        rng: chance.
        longest: most words.
        exchange: probability that a word is the donor's and not the member's.
    """
    member, a, b, donor = quartet
    new = mixed(a.words, b.words, donor.words, problem, rng)
    out = member.with_words(crossed(member.words, new, rng, longest, exchange))
    return mutated(out, problem, rng, longest) if out in (member, donor) else out


def mixed(
    a: Words, b: Words, donor: Words, problem: Problem, rng: np.random.Generator
) -> list[str]:
    """Put mutated differences of a and b into the donor.

    Where they differ, place by place, a word of the vocabulary or either of theirs replaces the
    donor's with probability 1/2.
    """
    new = list(donor)
    for i in range(max(len(a), len(b))):
        theirs = [*a[i : i + 1], *b[i : i + 1]]
        differ = len(theirs) < 2 or theirs[0] != theirs[1]
        if differ and rng.random() < 0.5:
            drawn = problem.vocabulary[int(rng.integers(len(problem.vocabulary)))]
            choices = [drawn, *theirs]
            new[i : i + 1] = [choices[int(rng.integers(len(choices)))]]
    return new


def crossed(
    member: Words, new: list[str], rng: np.random.Generator, longest: int, exchange: float
) -> Words:
    """Exchange words place by place; the result is as long as one of the two, either at 1/2."""
    length = len(new) if rng.random() < 0.5 else len(member)
    words: list[str] = []
    for i in range(min(length, max(longest, len(member)))):
        mine, other = new[i : i + 1], list(member[i : i + 1])
        first = mine if rng.random() < exchange else other
        words += first or mine or other
    return tuple(words)
