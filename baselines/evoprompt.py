"""EvoPrompt: a population of prompts evolves, by a genetic algorithm or by differential evolution.

Source: Guo et al., "Connecting Large Language Models with Evolutionary Algorithms Yields Powerful
Prompt Optimizers" (ICLR 2024), algorithms 2 and 3: populations of 10, 10 generations, scored on
accuracy. There a language model carries out crossover and mutation; here both work on words. The
method that does (`children`, `trials`) is all that a subclass with other operators replaces.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from itertools import count
from typing import ClassVar, Literal

import numpy as np

from promptgym.baselines.asking import Memory, Objective, Values
from promptgym.baselines.hill_climbing import Words, edit
from promptgym.problem import Problem
from promptgym.prompts import Prompt
from promptgym.ranges import COUNT, NOT_NEGATIVE, Range, check_choices, check_ranges
from promptgym.search.driver import Search, SearchMethod
from promptgym.types import FloatArray

Parents = Literal["wheel", "random", "tournament"]
Donor = Literal["best", "random"]


@dataclass(frozen=True)
class EvoPrompt(SearchMethod):
    """What both variants share: the population and how it begins.

    The first population is the initial prompt and the task's manual prompts, the best of them if
    there are more than places; places left are filled with edits of those, where the paper has them
    paraphrased.

    Attributes:
        objective: what is climbed (see `promptgym.baselines.asking`).
        population: prompts that live at a time (N).
        iterations: generations (T); 0 goes on until the budget ends.
        longest: most words of a prompt.
    """

    objective: Objective = "accuracy"
    population: int = 10
    iterations: int = 10
    longest: int = 14

    def __post_init__(self) -> None:
        """Refuse unknown options."""
        check_choices(self.name, self)
        numbers = {Range(4): ("population",), NOT_NEGATIVE: ("iterations",), COUNT: ("longest",)}
        check_ranges(self.name, self, numbers)

    def steps(self) -> Iterable[int]:
        """Count the generations."""
        return range(self.iterations) if self.iterations else count()

    def mutated(self, prompt: Prompt, problem: Problem, rng: np.random.Generator) -> Prompt:
        """Return a prompt after one random edit."""
        longest = max(self.longest, len(prompt.words))
        return prompt.with_words(
            edit(prompt.words, problem.vocabulary, rng, longest=longest, swaps=True)
        )

    def first(self, problem: Problem, memory: Memory, rng: np.random.Generator) -> Values:
        """Ask the first population, which is then what the memory knows best."""
        given = list(dict.fromkeys([problem.initial_prompt, *problem.task.manual_prompts]))
        asked = dict.fromkeys(given)
        for _ in range(100 * self.population):
            if len(asked) >= self.population:
                break
            asked[self.mutated(given[int(rng.integers(len(given)))], problem, rng)] = None
        return (yield from memory.values(list(asked)))

    def fittest(self, memory: Memory, prompts: Iterable[Prompt]) -> list[Prompt]:
        """Return the best different prompts, as many as there are places."""
        ranked = sorted(dict.fromkeys(prompts), key=lambda p: -memory.known[p])
        return ranked[: self.population]


@dataclass(frozen=True)
class EvoPromptGA(EvoPrompt):
    """Each generation, two parents a child; the best of parents and children live on.

    Attributes:
        parents: how they are chosen: "wheel" with probability in proportion to their value (values
            below 0 are shifted to 0), "random", or "tournament" (the better of two, twice).
    """

    name: ClassVar[str] = "evoprompt_ga"
    parents: Parents = "wheel"

    def search(self, problem: Problem, rng: np.random.Generator) -> Search:
        """Evolve until generations or budget end."""
        memory = Memory(problem, self.objective)
        yield from self.first(problem, memory, rng)
        alive = self.fittest(memory, memory.known)
        for _ in self.steps():
            values = np.array([memory.known[p] for p in alive])
            pairs = [self._pair(alive, values, rng) for _ in range(self.population)]
            children = self.children(problem, pairs, rng)
            yield from memory.values(children)
            alive = self.fittest(memory, [*alive, *children])
            if memory.exhausted:
                return

    def children(
        self, problem: Problem, pairs: list[tuple[Prompt, Prompt]], rng: np.random.Generator
    ) -> list[Prompt]:
        """Return a child of each pair: the head of one and the tail of the other, edited once."""
        out = []
        for first, second in pairs:
            head = first.words[: int(rng.integers(len(first.words) + 1))]
            tail = second.words[int(rng.integers(len(second.words) + 1)) :]
            words = (*head, *tail)[: max(self.longest, len(first.words))]
            out.append(self.mutated(first.with_words(words), problem, rng))
        return out

    def _pair(
        self, alive: list[Prompt], values: FloatArray, rng: np.random.Generator
    ) -> tuple[Prompt, Prompt]:
        """Choose two parents, which may be one."""
        n = len(alive)
        if self.parents == "tournament":
            drawn = [max(rng.integers(n, size=2).tolist(), key=lambda i: values[i]) for _ in "ab"]
        else:
            shares = wheel(values) if self.parents == "wheel" else None
            drawn = rng.choice(n, size=2, p=shares).tolist()
        return alive[drawn[0]], alive[drawn[1]]


@dataclass(frozen=True)
class EvoPromptDE(EvoPrompt):
    """Each generation, a trial for every member, which takes its place if it is better.

    Attributes:
        donor: the prompt that the mutated differences go into: the "best" of the population, or a
            "random" one.
        exchange: probability that a word of the trial is the donor's and not the member's.
    """

    name: ClassVar[str] = "evoprompt_de"
    donor: Donor = "best"
    exchange: float = 0.5

    def __post_init__(self) -> None:
        """Refuse unknown options."""
        super().__post_init__()
        check_ranges(self.name, self, {Range(0, 1, above=True): ("exchange",)})

    def search(self, problem: Problem, rng: np.random.Generator) -> Search:
        """Evolve until generations or budget end."""
        memory = Memory(problem, self.objective)
        yield from self.first(problem, memory, rng)
        alive = self.fittest(memory, memory.known)
        if len(alive) < 4:
            return  # differences of two others and a donor are of no fewer
        for _ in self.steps():
            best = max(alive, key=lambda p: memory.known[p])
            quartets = []
            for j, member in enumerate(alive):
                others = [i for i in range(len(alive)) if i != j]
                a, b, c = (alive[i] for i in rng.choice(others, size=3, replace=False))
                quartets.append((member, a, b, best if self.donor == "best" else c))
            trials = self.trials(problem, quartets, rng)
            values = yield from memory.values(trials)
            alive = [
                trial if value > memory.known[member] else member
                for member, trial, value in zip(alive, trials, values.tolist(), strict=True)
            ]
            if memory.exhausted:
                return

    def trials(
        self,
        problem: Problem,
        quartets: list[tuple[Prompt, Prompt, Prompt, Prompt]],
        rng: np.random.Generator,
    ) -> list[Prompt]:
        """Return a trial of each (member, a, b, donor): the paper's four steps, on words.

        Where a and b differ, place by place, a word of the vocabulary or either of theirs is put
        into the donor with probability 1/2. The result and the member exchange words place by
        place; the trial is as long as one of the two, either with probability 1/2. A trial that is
        member or donor again, as all are where a population has become one prompt, is edited once.
        """
        out = []
        for member, a, b, c in quartets:
            words = self._trial(problem, member.words, a.words, b.words, c.words, rng)
            trial = member.with_words(words)
            out.append(self.mutated(trial, problem, rng) if trial in (member, c) else trial)
        return out

    def _trial(
        self, problem: Problem, x: Words, a: Words, b: Words, donor: Words, rng: np.random.Generator
    ) -> Words:
        """Return the words of one trial."""
        new = list(donor)
        for i in range(max(len(a), len(b))):
            theirs = [*a[i : i + 1], *b[i : i + 1]]
            differ = len(theirs) < 2 or theirs[0] != theirs[1]
            if differ and rng.random() < 0.5:
                drawn = problem.vocabulary[int(rng.integers(len(problem.vocabulary)))]
                choices = [drawn, *theirs]
                new[i : i + 1] = [choices[int(rng.integers(len(choices)))]]
        length = len(new) if rng.random() < 0.5 else len(x)
        out = []
        for i in range(min(length, max(self.longest, len(x)))):
            mine, other = new[i : i + 1], list(x[i : i + 1])
            first = mine if rng.random() < self.exchange else other
            out += first or mine or other
        return tuple(out)


def wheel(values: FloatArray) -> FloatArray:
    """Return probabilities in proportion to values, shape (N,); all alike where all are 0.

    Values below 0 are shifted, so that the least is 0; a prompt that failed (-inf) has none.
    """
    known = np.isfinite(values)
    least = min(0.0, values[known].min(initial=0.0))
    shares = np.where(known, values - least, 0.0)
    total = shares.sum()
    return np.asarray(shares / total if total > 0 else np.full(len(values), 1 / len(values)))
