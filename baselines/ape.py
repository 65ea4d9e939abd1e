"""APE: a proposer guesses the instruction from examples; the best guesses are varied.

Source: Zhou et al., "Large Language Models Are Human-Level Prompt Engineers", ICLR 2023, algorithm
1: forward or reverse generation (section 3.1) of candidates from small sets of examples; scores on
a growing part of the training split, with candidates that look poor left behind (section 3.2);
iterative Monte Carlo search (section 3.3), where the proposer writes variants of the best
candidates. The wording of the requests is this library's.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from math import ceil
from typing import ClassVar, Literal

import numpy as np

from promptgym.baselines.proposals import (
    END,
    GAP,
    VARIATION,
    ProposingMethod,
    Request,
    best_of,
    draw,
    fresh,
    shown,
    worth,
)
from promptgym.envs.text import fill
from promptgym.errors import ConfigError
from promptgym.problem import Problem
from promptgym.prompts import Example
from promptgym.ranges import COUNT, Range, check_ranges
from promptgym.scoring import Race
from promptgym.search.driver import Answer, Ask, Search

FORWARD = f"""Somebody was given one instruction and followed it for each of these inputs:

{{cases}}

What was the instruction? {END}"""

REVERSE = f"""An instruction was left out of this text, which does what it says:

{{text}}

The instruction stood at {GAP}. What was it? {END}"""
Generation = Literal["forward", "reverse"]


@dataclass(frozen=True)
class APE(ProposingMethod):
    """Guesses instructions, keeps the best, asks for variants of those, until the budget is spent.

    Attributes:
        subsets: sets of training examples that candidates are guessed from.
        cases: examples of a set.
        per_subset: candidates guessed from each set. 3 sets of 5 examples with 30 candidates each
            are those of the published experiments on instruction induction, as is the temperature.
        keep: share of the candidates that are kept in a round, and varied; the paper leaves open
            which one.
        race: ask few examples first and all of them only for candidates that do well there, by
            halving; False asks all.
        generation: how candidates are guessed from examples: "forward", the instruction is asked
            for after them; "reverse", it is filled in where the template has the prompt. A proposer
            that fills gaps, such as a T5, gets that text itself, and the variants as gaps as well;
            any other is asked in words what stood there.
    """

    name: ClassVar[str] = "ape"
    temperature: float = 0.9
    subsets: int = 3
    cases: int = 5
    per_subset: int = 30
    keep: float = 0.2
    race: bool = True
    generation: Generation = "forward"

    def __post_init__(self) -> None:
        """Refuse numbers that mean nothing."""
        super().__post_init__()
        counts = ("subsets", "cases", "per_subset")
        between = Range(0, 1, above=True, below=True)
        check_ranges(self.name, self, {COUNT: counts, between: ("keep",)})
        if self.kept >= (size := self.subsets * self.per_subset):
            raise ConfigError(
                f"{self.name}: keep={self.keep} of the {size} candidates of a round are "
                f"{self.kept}, which leaves none to vary; keep a smaller share, or guess more"
            )

    @property
    def kept(self) -> int:
        """Return how many candidates of a round are kept."""
        return ceil(self.keep * (self.subsets * self.per_subset))

    def search(self, problem: Problem, rng: np.random.Generator) -> Search:
        """Guess once, then vary the best, round after round."""
        start = problem.initial_prompt
        size, best = self.subsets * self.per_subset, self.kept
        answer: Answer = yield [start]
        pool = {start: float(worth(answer)[0])}
        requests = self._guesses(problem, rng)
        while True:
            texts = yield from self.write(problem, rng, requests)
            if new := fresh(texts, start, set(pool)):
                rules = Race(keep=min(best, len(new)), seed=int(rng.integers(2**31)))
                answer = yield Ask(new, race=rules if self.race else None)
                pool |= dict(zip(new, worth(answer).tolist(), strict=True))
            if len(pool) == 1:  # nothing could be read: guess again
                requests = self._guesses(problem, rng)
                continue
            parents = best_of(pool, best)
            varied = [parents[i % len(parents)] for i in range(size - best)]
            requests = [self._variant(parent.instruction) for parent in varied]

    def _guesses(self, problem: Problem, rng: np.random.Generator) -> list[Request]:
        """Return requests for instructions that sets of examples might come from."""
        out = []
        for _ in range(self.subsets):
            cases = draw(rng, problem.task.train, self.cases)
            about, around = problem.initial_prompt.instruction, ""
            if self.generation == "forward":
                text = fill(FORWARD, {"cases": shown(problem, cases)})
            else:
                around = with_gap(problem, cases)
                text = fill(REVERSE, {"text": around})
            out += [Request(text, about, around)] * self.per_subset
        return out

    def _variant(self, instruction: str) -> Request:
        """Return the request for a variant; in reverse, as a gap as well."""
        request = vary(instruction)
        if self.generation == "reverse":
            request = request._replace(around=f"{instruction} In other words: {GAP}")
        return request


def with_gap(problem: Problem, cases: Sequence[Example]) -> str:
    """Return solved examples as the target model reads them, with `GAP` in place of the prompt.

    All but the last are demonstrations, at the front where the template has no place for them.
    """
    task, template = problem.task, problem.template
    *solved, last = cases
    right = task.words_for(last.target) if task.labels else last.target
    prompt, before = replace(problem.initial_prompt, instruction=GAP, demonstrations=()), ""
    if template.has_demonstrations:
        prompt = replace(prompt, demonstrations=tuple(solved))
    else:
        before = "".join(template.render_demonstration(e, task.verbalizers) for e in solved)
    text = template.render(prompt, last, mask=right, verbalizers=task.verbalizers)
    return before + (text if template.has_mask else f"{text} {right}")


def vary(instruction: str) -> Request:
    """Return the request for a variant of an instruction that means the same."""
    return Request(fill(VARIATION, {"prompt": instruction}), instruction)
