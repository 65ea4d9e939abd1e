"""Search from neighbour to neighbour: the loop that GrIPS and half of Plum's methods share.

Sources: Prasad et al. (EACL 2023), algorithm 1; Pan et al., "Plum: Prompt Learning using
Metaheuristic" (Findings of ACL 2024). Plum's settings are those of its published commands: 10
candidates a step, 50 steps, patience 7, scored as GrIPS scores.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from itertools import count

import numpy as np

from promptgym.baselines.asking import Memory, Objective
from promptgym.baselines.hill_climbing import Words
from promptgym.baselines.phrases import Edits, Kind
from promptgym.problem import Problem
from promptgym.ranges import COUNT, NOT_NEGATIVE, check_choices, check_ranges
from promptgym.search.driver import Search, SearchMethod


@dataclass(frozen=True)
class NeighbourSearch(SearchMethod):
    """At each step asks edits of the prompt it stands at, and moves to the best if it is accepted.

    Attributes:
        objective: what is climbed (see `promptgym.baselines.asking`); "grips" is 100 * balanced
            accuracy + 10 * entropy of the answers.
        edits: "words" of the problem's vocabulary, as in `hill_climbing`: so the methods differ in
            nothing but how they search; "phrases" deletes, swaps and adds back phrases of the
            initial prompt, as Plum does beside its paraphrases.
        candidates: edits asked a step (m).
        iterations: steps (n); 0 goes on until the budget ends.
        patience: steps in a row without progress after which it ends; 0 is endless patience.
        longest: most words of a prompt, where edits are of words.
        restarts: where steps or patience end before the budget, begin again at the initial prompt
            with other draws, until the budget ends; what was asked is remembered. The papers stop.
    """

    objective: Objective = "grips"
    edits: Kind = "words"
    candidates: int = 10
    iterations: int = 50
    patience: int = 7
    longest: int = 14
    restarts: bool = False

    def __post_init__(self) -> None:
        """Refuse unknown options."""
        check_choices(self.name, self)
        numbers = {COUNT: ("candidates", "longest"), NOT_NEGATIVE: ("iterations", "patience")}
        check_ranges(self.name, self, numbers)

    def neighbourhood(self, problem: Problem) -> Edits:
        """Return the edits, and the units of the start."""
        return Edits.of(self.edits, problem, self.longest)

    def neighbours(self, units: Words, edits: Edits, rng: np.random.Generator) -> list[Words]:
        """Return the candidates of one step."""
        return [edits.draw(units, rng) for _ in range(self.candidates)]

    def steps(self) -> Iterable[int]:
        """Count the steps, from 1 on."""
        return range(1, self.iterations + 1) if self.iterations else count(1)

    def is_over(self, waited: int, memory: Memory) -> bool:
        """Whether patience is lost, or nothing is new any more."""
        return memory.exhausted or 0 < self.patience <= waited

    def accepts(self, gain: float, step: int, rng: np.random.Generator) -> bool:
        """Whether to move to a prompt that is not better: `gain` <= 0."""
        return False

    def search(self, problem: Problem, rng: np.random.Generator) -> Search:
        """Walk once; with `restarts` until the budget ends or nothing is new."""
        memory = Memory(problem, self.objective)
        yield from self.walk(problem, memory, rng)
        while self.restarts and not memory.exhausted:
            yield from self.walk(problem, memory, rng)

    def walk(self, problem: Problem, memory: Memory, rng: np.random.Generator) -> Search:
        """Walk from the initial prompt until steps, patience or budget end."""
        start, edits = problem.initial_prompt, self.neighbourhood(problem)
        here, waited = edits.start, 0
        value = float((yield from memory.values([start.with_words(here)]))[0])
        for step in self.steps():
            asked = self.neighbours(here, edits, rng)
            values = yield from memory.values([start.with_words(u) for u in asked])
            top = int(values.argmax())
            gain = float(values[top]) - value
            waited = 0 if gain > 0 else waited + 1
            if gain > 0 or self.accepts(gain, step, rng):
                here, value = asked[top], float(values[top])
            if self.is_over(waited, memory):
                return
