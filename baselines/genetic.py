"""Genetic algorithms on prompts, with and without crossover.

Source: Pan et al., "Plum: Prompt Learning using Metaheuristic" (Findings of ACL 2024), and its
published code: tournaments of 5; with crossover a population of 10 of which each member mutates
with probability 0.5. Where its scripts differ, the first (`run.sh`) is followed; the later one for
crossover with Phi-2 takes 5 offspring, 2 candidates and tournaments of 2. With crossover the code
counts patience after the children and again after the mutants, and that script doubles it to 14:
here a generation counts once.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from promptgym.baselines.asking import Memory
from promptgym.baselines.hill_climbing import Words
from promptgym.baselines.neighbours import NeighbourSearch
from promptgym.baselines.phrases import Edits
from promptgym.problem import Problem
from promptgym.ranges import COUNT, SHARE, check_ranges
from promptgym.search.driver import Search

Scored = list[tuple[float, Words]]


def crossed(first: Words, second: Words, rng: np.random.Generator) -> Words:
    """Return the head of one parent and the tail of the other, both cut at the same place."""
    at = int(rng.integers(max(len(first), len(second), 1)))
    return first[:at] + second[at:]


def tournament(population: Scored, size: int, rng: np.random.Generator) -> Words:
    """Return the best of `size` members drawn with replacement."""
    drawn = rng.integers(len(population), size=size).tolist()
    best: int = max(drawn, key=lambda i: population[i][0])
    return population[best][1]


@dataclass(frozen=True)
class Genetic(NeighbourSearch):
    """Breeds a population of prompts; patience counts generations without a new best prompt.

    Attributes:
        crossover: True: `offspring` children of tournament winners join and the best `population`
            stay; each of those has `candidates` mutants with probability `mutation`, and again the
            best `population` stay. False: one tournament winner has `candidates` mutants, of
            which the best joins; nobody leaves.
        tournament: members drawn for a tournament.
        population: members that stay, with crossover.
        offspring: children a generation. The published command line's default is none, which is no
            crossover; here it is one a member.
        mutation: probability that a member has mutants, with crossover.
    """

    name: ClassVar[str] = "genetic"
    crossover: bool = True
    tournament: int = 5
    population: int = 10
    offspring: int = 10
    mutation: float = 0.5

    def __post_init__(self) -> None:
        """Refuse unknown options."""
        super().__post_init__()
        counts = ("tournament", "population", "offspring")
        check_ranges(self.name, self, {COUNT: counts, SHARE: ("mutation",)})

    def walk(self, problem: Problem, memory: Memory, rng: np.random.Generator) -> Search:
        """Breed until generations, patience or budget end."""
        start, edits = problem.initial_prompt, self.neighbourhood(problem)
        value = float((yield from memory.values([start.with_words(edits.start)]))[0])
        population, best, waited = [(value, edits.start)], value, 0
        for _ in self.steps():
            if self.crossover:
                children = self._children(population, rng)
                values = yield from memory.values([start.with_words(u) for u in children])
                population = self._fittest(population, values.tolist(), children)
            mutants = self._mutants(population, edits, rng)
            values = yield from memory.values([start.with_words(u) for u in mutants])
            if self.crossover:
                population = self._fittest(population, values.tolist(), mutants)
            else:
                top = int(values.argmax())
                population.append((float(values[top]), mutants[top]))
            now = max(v for v, _ in population)
            waited = 0 if now > best else waited + 1
            best = max(best, now)
            if self.is_over(waited, memory):
                return

    def _children(self, population: Scored, rng: np.random.Generator) -> list[Words]:
        """Return children of tournament winners."""
        return [
            crossed(
                tournament(population, self.tournament, rng),
                tournament(population, self.tournament, rng),
                rng,
            )
            for _ in range(self.offspring)
        ]

    def _mutants(self, population: Scored, edits: Edits, rng: np.random.Generator) -> list[Words]:
        """Return mutants: of a tournament's winner, or of each member by chance."""
        if not self.crossover:
            return self.neighbours(tournament(population, self.tournament, rng), edits, rng)
        lucky = [units for _, units in population if rng.random() < self.mutation]
        return [mutant for units in lucky for mutant in self.neighbours(units, edits, rng)]

    def _fittest(self, population: Scored, values: list[float], units: list[Words]) -> Scored:
        """Return the best different members of a population and those that join it."""
        known = {u: v for v, u in population}
        known.update(zip(units, values, strict=True))
        ranked = sorted(known.items(), key=lambda item: -item[1])
        return [(v, u) for u, v in ranked[: self.population]]
