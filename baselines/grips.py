"""GrIPS: gradient-free, edit-based instruction search.

Source: Prasad et al., "GrIPS: Gradient-free, Edit-based Instruction Search for Prompting Large
Language Models" (EACL 2023), algorithm 1 and section 4: 10 steps of 5 candidates, one edit each,
patience 2, score = 100 * balanced accuracy + 10 * entropy of the answers.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from promptgym.baselines.hill_climbing import Words
from promptgym.baselines.neighbours import NeighbourSearch
from promptgym.baselines.phrases import Edits, Kind, Level
from promptgym.problem import Problem
from promptgym.ranges import COUNT, check_ranges


@dataclass(frozen=True)
class Grips(NeighbourSearch):
    """Deletes, swaps and adds back phrases of the prompt; moves to the best candidate if better.

    GrIPS also paraphrases phrases with a model of its own (Pegasus). There is none here, so that it
    can only take away and put back what the start prompt says; `edits="words"` writes words of the
    vocabulary instead.

    Attributes:
        level: what is edited: a "phrase", a "word" or a "sentence".
        compose: edits that make one candidate (l).
    """

    name: ClassVar[str] = "grips"
    edits: Kind = "phrases"
    candidates: int = 5
    iterations: int = 10
    patience: int = 2
    level: Level = "phrase"
    compose: int = 1

    def __post_init__(self) -> None:
        """Refuse unknown options."""
        super().__post_init__()
        check_ranges(self.name, self, {COUNT: ("compose",)})

    def neighbourhood(self, problem: Problem) -> Edits:
        """Return the edits, and the units of the start."""
        return Edits.of(self.edits, problem, self.longest, self.level)

    def neighbours(self, units: Words, edits: Edits, rng: np.random.Generator) -> list[Words]:
        """Return the candidates of one step, each of `compose` edits."""
        asked = [units] * self.candidates
        for _ in range(self.compose):
            asked = [edits.draw(u, rng) for u in asked]
        return asked
