"""Tabu search: move to the best neighbour, even a worse one, but not to where one has just been.

Sources: Glover (ORSA Journal on Computing 1989); Pan et al., "Plum" (Findings of ACL 2024) and its
published code: a list of 5 prompts, and a forbidden one that passes with probability 0.5.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Container, Iterable
from dataclasses import dataclass
from typing import ClassVar, Literal

import numpy as np

from promptgym.baselines.asking import Memory
from promptgym.baselines.hill_climbing import Words
from promptgym.baselines.neighbours import NeighbourSearch
from promptgym.problem import Problem
from promptgym.ranges import COUNT, SHARE, check_ranges
from promptgym.search.driver import Search

Moves = Literal["best", "better"]


@dataclass(frozen=True)
class Tabu(NeighbourSearch):
    """Walks over the best candidates that the list lets pass; patience counts new best prompts.

    Attributes:
        tabu: how many of the last best candidates are forbidden.
        passing: probability that a forbidden one passes all the same, drawn each time it comes up:
            0.5 in Plum's published code, 0 in Glover's search.
        moves: "best" goes to the best candidate in any case (Glover). "better" goes only where it
            is better, as Plum's published code does; then the list merely saves questions.
    """

    name: ClassVar[str] = "tabu"
    tabu: int = 5
    passing: float = 0.5
    moves: Moves = "best"

    def __post_init__(self) -> None:
        """Refuse unknown options."""
        super().__post_init__()
        check_ranges(self.name, self, {COUNT: ("tabu",), SHARE: ("passing",)})

    def allowed(
        self, units: Iterable[Words], forbidden: Container[Words], rng: np.random.Generator
    ) -> list[Words]:
        """Return the candidates that the list lets pass."""
        return [u for u in units if u not in forbidden or rng.random() < self.passing]

    def walk(self, problem: Problem, memory: Memory, rng: np.random.Generator) -> Search:
        """Walk until steps, patience or budget end."""
        start, edits = problem.initial_prompt, self.neighbourhood(problem)
        here, waited = edits.start, 0
        value = best = float((yield from memory.values([start.with_words(here)]))[0])
        forbidden: deque[Words] = deque([here], maxlen=self.tabu)
        for _ in self.steps():
            asked = self.allowed(self.neighbours(here, edits, rng), forbidden, rng)
            values = yield from memory.values([start.with_words(u) for u in asked])
            waited += 1
            if asked:
                top = int(values.argmax())
                forbidden.append(asked[top])
                if self.moves == "best" or values[top] > value:
                    here, value = asked[top], float(values[top])
                if values[top] > best:
                    best, waited = float(values[top]), 0
            if self.is_over(waited, memory):
                return
