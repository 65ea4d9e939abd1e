"""EvoPrompt: a population of prompts evolves, by a genetic algorithm or by differential evolution.

Source: Guo et al., "Connecting Large Language Models with Evolutionary Algorithms Yields Powerful
Prompt Optimizers" (ICLR 2024), algorithms 2 and 3: populations of 10, 10 generations, scored on
accuracy. There a language model carries out crossover and mutation: `operators="proposer"`. By
default both work on words (`promptgym.baselines.evoprompt_words`), which needs no second model.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from itertools import count
from typing import ClassVar, Literal

import numpy as np

from promptgym.baselines.asking import Memory, Objective
from promptgym.baselines.evoprompt_operators import (
    Quartet,
    Written,
    paraphrases,
    written_children,
    written_trials,
)
from promptgym.baselines.evoprompt_words import child, mutated, trial
from promptgym.baselines.proposals import ProposingMethod
from promptgym.problem import Problem
from promptgym.prompts import Prompt
from promptgym.ranges import COUNT, NOT_NEGATIVE, Range, check_ranges
from promptgym.search.driver import Search
from promptgym.types import FloatArray

Operators = Literal["words", "proposer"]
Parents = Literal["wheel", "random", "tournament"]
Donor = Literal["best", "random"]


@dataclass(frozen=True)
class EvoPrompt(ProposingMethod):
    """What both variants share: the population and how it begins.

    The first population is the initial prompt and the task's manual prompts, the best of them if
    there are more than places; places left are filled with edits of those, or with paraphrases.

    Attributes:
        operators: what fills the first population, crosses and mutates: "words", random edits of
            words; or the paper's, "proposer", which a language model carries out
            (`promptgym.baselines.evoprompt_operators`). Temperature and longest completion of the
            latter are those of the released code (its top_p of 0.95 is left out).
        objective: what is climbed (see `promptgym.baselines.asking`).
        population: prompts that live at a time (N).
        iterations: generations (T); 0 goes on until the budget ends.
        longest: most words of a prompt that words are put into; a proposer may write more.
    """

    temperature: float = 0.5
    max_tokens: int = 1000
    operators: Operators = "words"
    objective: Objective = "accuracy"
    population: int = 10
    iterations: int = 10
    longest: int = 14

    def __post_init__(self) -> None:
        """Refuse unknown options."""
        super().__post_init__()
        numbers = {Range(4): ("population",), NOT_NEGATIVE: ("iterations",), COUNT: ("longest",)}
        check_ranges(self.name, self, numbers)

    @property
    def proposes(self) -> bool:
        """Whether it asks the problem's proposer, as its operators say."""
        return self.operators == "proposer"

    def steps(self) -> Iterable[int]:
        """Count the generations."""
        return range(self.iterations) if self.iterations else count()

    def first(self, problem: Problem, memory: Memory, rng: np.random.Generator) -> Search:
        """Ask the first population, which is then what the memory knows best."""
        given = list(dict.fromkeys([problem.initial_prompt, *problem.task.manual_prompts]))
        asked = dict.fromkeys(given)
        tries = self.population if self.proposes else 100 * self.population
        for _ in range(tries):
            if (missing := self.population - len(asked)) <= 0:
                break
            if self.proposes:
                new = yield from paraphrases(self, problem, given, missing, rng)
            else:
                prompt = given[int(rng.integers(len(given)))]
                new = [mutated(prompt, problem, rng, self.longest)]
            asked |= dict.fromkeys(new)
        yield from memory.values(list(asked))

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
            children = yield from self.children(problem, pairs, rng)
            yield from memory.values(children)
            alive = self.fittest(memory, [*alive, *children])
            if memory.exhausted:
                return

    def children(
        self, problem: Problem, pairs: list[tuple[Prompt, Prompt]], rng: np.random.Generator
    ) -> Written:
        """Return children of the pairs, one each; of a proposer's those that could be read."""
        if self.proposes:
            return (yield from written_children(self, problem, pairs, rng))
        return [child(pair, problem, rng, self.longest) for pair in pairs]

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
        exchange: probability that a word of the trial is the donor's and not the member's; a
            proposer decides by itself.
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
            trials = yield from self.trials(problem, quartets, rng)
            values = yield from memory.values(trials)
            alive = [
                trial if value > memory.known[member] else member
                for member, trial, value in zip(alive, trials, values.tolist(), strict=True)
            ]
            if memory.exhausted:
                return

    def trials(
        self, problem: Problem, quartets: list[Quartet], rng: np.random.Generator
    ) -> Written:
        """Return a trial of each quartet."""
        if self.proposes:
            return (yield from written_trials(self, problem, quartets, rng))
        return [trial(q, problem, rng, self.longest, self.exchange) for q in quartets]


def wheel(values: FloatArray) -> FloatArray:
    """Return probabilities in proportion to values, shape (N,); all alike where all are 0.

    Values below 0 are shifted, so that the least is 0; a prompt that failed (-inf) has none.
    """
    known = np.isfinite(values)
    least = min(0.0, values[known].min(initial=0.0))
    shares = np.where(known, values - least, 0.0)
    total = shares.sum()
    return np.asarray(shares / total if total > 0 else np.full(len(values), 1 / len(values)))
