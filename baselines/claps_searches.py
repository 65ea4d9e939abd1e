"""The searches of ClaPS on a vocabulary: a genetic algorithm and a greedy one.

Source: Zhou et al. (Findings of EMNLP 2023), and the settings of its published code: prompts of 5
words, a population of 128, of which the best tenth has 64 mutants and 64 children, 30 generations.
(Its third search, a particle swarm, is not here.)
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import count
from typing import ClassVar, Literal

import numpy as np

from promptgym.baselines.asking import Memory, Objective
from promptgym.baselines.hill_climbing import Words
from promptgym.problem import Problem
from promptgym.ranges import COUNT, NOT_NEGATIVE, SHARE, check_choices, check_ranges
from promptgym.search.driver import Search, SearchMethod

Crossover = Literal["uniform", "published"]


@dataclass(frozen=True)
class ClapsGenetic(SearchMethod):
    """Begins with random prompts; the best have mutants and children, which the next best are of.

    Attributes:
        objective: what is climbed; "margin" is the paper's cross-entropy.
        length: words of a prompt.
        population: random prompts of the first generation.
        mutants: a generation.
        children: a generation.
        survivors: share of a generation that stays and breeds; one at least.
        mutation: probability that a mutant has another word in a place.
        crossover: "uniform": each word is that of one parent or the other, as likely. "published":
            a child is a copy of one of them, as the published code has it (a function that mixes
            the words stands there and is not called).
        generations: how many; 0 goes on until the budget ends.
    """

    name: ClassVar[str] = "claps_genetic"
    objective: Objective = "margin"
    length: int = 5
    population: int = 128
    mutants: int = 64
    children: int = 64
    survivors: float = 0.1
    mutation: float = 0.1
    crossover: Crossover = "uniform"
    generations: int = 30

    def __post_init__(self) -> None:
        """Refuse unknown options."""
        check_choices(self.name, self)
        check_ranges(
            self.name,
            self,
            {
                COUNT: ("length", "population"),
                NOT_NEGATIVE: ("mutants", "children", "generations"),
                SHARE: ("survivors", "mutation"),
            },
        )

    def search(self, problem: Problem, rng: np.random.Generator) -> Search:
        """Breed until generations or budget end, or nothing is new."""
        memory, vocabulary = Memory(problem, self.objective), problem.vocabulary
        index = rng.integers(len(vocabulary), size=(self.population, self.length))
        population = [tuple(vocabulary[i] for i in row) for row in index.tolist()]
        for _ in range(self.generations) if self.generations else count():
            asked = [problem.initial_prompt.with_words(words) for words in population]
            values = yield from memory.values(asked)
            if memory.exhausted:
                return
            stay = max(1, int(len(population) * self.survivors))
            best = [population[i] for i in np.argsort(-values, kind="stable")[:stay]]
            parents = rng.integers(len(best), size=(self.mutants + 2 * self.children)).tolist()
            drawn = [best[i] for i in parents]
            changed = [self._mutant(words, vocabulary, rng) for words in drawn[: self.mutants]]
            rest = drawn[self.mutants :]
            pairs = zip(rest[::2], rest[1::2], strict=True)
            population = [*best, *changed, *(self._child(*pair, rng) for pair in pairs)]

    def _mutant(self, words: Words, vocabulary: Words, rng: np.random.Generator) -> Words:
        """Return the words with other ones in some places."""
        hit = rng.random(len(words)) < self.mutation
        index = rng.integers(max(1, len(vocabulary) - 1), size=len(words)).tolist()
        out = list(words)
        for place in np.flatnonzero(hit).tolist():
            word = vocabulary[index[place]]
            out[place] = vocabulary[-1] if word == words[place] else word
        return tuple(out)

    def _child(self, first: Words, second: Words, rng: np.random.Generator) -> Words:
        """Return a child of two parents."""
        if self.crossover == "published":
            return first if rng.random() < 0.5 else second
        mine = rng.random(len(first)) < 0.5
        return tuple(np.where(mine, first, second).tolist())


@dataclass(frozen=True)
class ClapsGreedy(SearchMethod):
    """Appends the best of all words, place after place; it ends with the last one.

    Attributes:
        objective: what is climbed; "margin" is the paper's cross-entropy.
        length: words of a prompt.
        batch: prompts asked at a time (a matter of speed only).
    """

    name: ClassVar[str] = "claps_greedy"
    objective: Objective = "margin"
    length: int = 5
    batch: int = 64

    def __post_init__(self) -> None:
        """Refuse unknown options."""
        check_choices(self.name, self)
        check_ranges(self.name, self, {COUNT: ("length", "batch")})

    def search(self, problem: Problem, rng: np.random.Generator) -> Search:
        """Fill the places from left to right."""
        memory, words = Memory(problem, self.objective), problem.vocabulary
        prompt = problem.initial_prompt.with_words(())
        for _ in range(self.length):
            asked = [prompt.with_words((*prompt.words, word)) for word in words]
            values = []
            for first in range(0, len(asked), self.batch):
                values += (yield from memory.values(asked[first : first + self.batch])).tolist()
            prompt = asked[int(np.argmax(values))]
