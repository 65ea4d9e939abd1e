"""Coordinate ascent: the best word for one place, the others held fixed, place after place.

The discrete kin of coordinate descent (Wright, Mathematical Programming 2015) and the search inside
AutoPrompt (Shin et al., EMNLP 2020), without gradients to shortlist the words. Defaults are this
library's.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal

import numpy as np

from promptgym.baselines.asking import Memory, Objective
from promptgym.baselines.random_tokens import random_prompt
from promptgym.problem import Problem
from promptgym.prompts import Prompt
from promptgym.ranges import COUNT, NOT_NEGATIVE, check_choices, check_ranges
from promptgym.search.driver import Search, SearchMethod

Start = Literal["initial", "random"]


@dataclass(frozen=True)
class CoordinateAscent(SearchMethod):
    """Sweeps over the places of a prompt in random order and puts the best word found into each.

    A sweep that changed nothing has found a local optimum (where it tried all words); the search
    then begins again from a random prompt.

    Attributes:
        objective: what is climbed (see `promptgym.baselines.asking`).
        start: the problem's initial prompt, or a random one; an empty initial prompt counts as
            random.
        length: words of a random prompt.
        words: random words tried for a place; 0 tries the whole vocabulary.
        batch: prompts asked at a time (a matter of speed only).
    """

    name: ClassVar[str] = "coordinate_ascent"
    objective: Objective = "margin"
    start: Start = "initial"
    length: int = 5
    words: int = 0
    batch: int = 64

    def __post_init__(self) -> None:
        """Refuse unknown options."""
        check_choices(self.name, self)
        check_ranges(self.name, self, {COUNT: ("length", "batch"), NOT_NEGATIVE: ("words",)})

    def search(self, problem: Problem, rng: np.random.Generator) -> Search:
        """Climb from start after start until the budget ends, or nothing is new."""
        memory = Memory(problem, self.objective)
        prompt = problem.initial_prompt
        if self.start == "random" or not prompt.words:
            prompt = random_prompt(problem, rng, self.length, self.length)
        while not memory.exhausted:
            yield from self._climb(prompt, problem, memory, rng)
            prompt = random_prompt(problem, rng, self.length, self.length)

    def _climb(
        self, prompt: Prompt, problem: Problem, memory: Memory, rng: np.random.Generator
    ) -> Search:
        """Sweep until a sweep changes nothing."""
        value = float((yield from memory.values([prompt]))[0])
        before = None
        while before != prompt and not memory.exhausted:
            before = prompt
            for place in rng.permutation(len(prompt.words)).tolist():
                tries = self._tries(prompt, place, problem, rng)
                for first in range(0, len(tries), self.batch):
                    asked = tries[first : first + self.batch]
                    values = yield from memory.values(asked)
                    top = int(values.argmax())
                    if values[top] > value:
                        prompt, value = asked[top], float(values[top])

    def _tries(
        self, prompt: Prompt, place: int, problem: Problem, rng: np.random.Generator
    ) -> list[Prompt]:
        """Return the prompt with other words in a place, in random order."""
        order = rng.permutation(len(problem.vocabulary))
        words = [problem.vocabulary[i] for i in order[: self.words or None]]
        head, tail = prompt.words[:place], prompt.words[place + 1 :]
        return [prompt.with_words((*head, w, *tail)) for w in words]
