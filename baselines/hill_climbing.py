"""Keep-the-best hill climbing on single word edits: a (1 + n) evolution strategy on prompts.

The simplest local search there is, and a strong one wherever words simply add up; the landscapes of
the bundled tasks are described by what it reaches on them. Edit-based search on prompts: GrIPS
(Prasad et al., EACL 2023), which edits phrases.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal

import numpy as np

from promptgym.baselines.asking import Memory, Objective
from promptgym.baselines.random_tokens import random_prompt
from promptgym.problem import Problem
from promptgym.prompts import Prompt
from promptgym.ranges import COUNT, check_choices, check_ranges
from promptgym.search.driver import Search, SearchMethod

Words = tuple[str, ...]
Start = Literal["initial", "empty", "random"]


def edit(
    words: Words,
    vocabulary: Words,
    rng: np.random.Generator,
    *,
    longest: int,
    swaps: bool = False,
) -> Words:
    """Return `words` after one random edit: insert, replace, delete or (if `swaps`) swap a word.

    Operations that do not apply (insertion at `longest` words, deletion of nothing) are not drawn.
    """
    n = len(words)
    possible = [
        name
        for name, applies in (
            ("insert", n < longest),
            ("replace", n > 0),
            ("delete", n > 0),
            ("swap", swaps and n > 1),
        )
        if applies
    ]
    operation = possible[int(rng.integers(len(possible)))]
    out = list(words)
    if operation == "swap":
        i, j = rng.choice(n, size=2, replace=False)
        out[i], out[j] = out[j], out[i]
        return tuple(out)
    at = int(rng.integers(n + 1 if operation == "insert" else n))
    word = () if operation == "delete" else (vocabulary[int(rng.integers(len(vocabulary)))],)
    out[at : at if operation == "insert" else at + 1] = word
    return tuple(out)


@dataclass(frozen=True)
class HillClimbing(SearchMethod):
    """At each step asks random single edits of the best prompt and moves to the best if better.

    Attributes:
        objective: what is climbed: "margin" (mean log p(gold) over the labels, which moves where
            accuracy does not), another reward by name, or "reward" (the problem's own). A task
            without labels is climbed on its own reward where the one named needs labels.
        neighbours: edits asked a step.
        longest: most words of a prompt.
        start: the problem's initial prompt, the empty one, or a random one of 1-8 words.
        swaps: whether two words may change places.

    A prompt is asked once: the learned policies that it is compared with remember theirs as well.
    """

    name: ClassVar[str] = "hill_climbing"
    objective: Objective = "margin"
    neighbours: int = 16
    longest: int = 14
    start: Start = "initial"
    swaps: bool = False

    def __post_init__(self) -> None:
        """Refuse unknown options."""
        check_choices(self.name, self)
        check_ranges(self.name, self, {COUNT: ("neighbours", "longest")})

    def search(self, problem: Problem, rng: np.random.Generator) -> Search:
        """Climb until the budget is spent."""
        memory = Memory(problem, self.objective)
        best = self._first(problem, rng)
        value = float((yield from memory.values([best]))[0])
        while asked := self._neighbours(best, problem, rng, memory):
            values = yield from memory.values(asked)
            top = int(values.argmax())
            if values[top] > value:
                best, value = asked[top], float(values[top])

    def _neighbours(
        self, best: Prompt, problem: Problem, rng: np.random.Generator, memory: Memory
    ) -> list[Prompt]:
        """Return different edits of the best prompt that were never asked; none if none is found.

        The search ends where a hundred draws a neighbour find nothing new.
        """
        found: dict[Prompt, None] = {}
        for _ in range(100 * self.neighbours):
            words = edit(
                best.words,
                problem.vocabulary,
                rng,
                longest=max(self.longest, len(best.words)),
                swaps=self.swaps,
            )
            if (prompt := best.with_words(words)) not in memory.known:
                found[prompt] = None
            if len(found) == self.neighbours:
                break
        return list(found)

    def _first(self, problem: Problem, rng: np.random.Generator) -> Prompt:
        """Return the prompt to start from."""
        if self.start == "random":
            return random_prompt(problem, rng, 1, min(8, self.longest))
        return problem.initial_prompt if self.start == "initial" else Prompt("")
