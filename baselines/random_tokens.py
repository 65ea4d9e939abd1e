"""Random strings: the floor of every search, and a surprisingly high one.

Source: "Strings from the Library of Babel: Random Sampling as a Strong Baseline for Prompt
Optimisation" (Lu et al., NAACL 2024), which draws strings in three ways: words uniformly, words as
often as texts use them, and samples of a language model. There lengths are fixed; here they are
drawn as well by default.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import ClassVar, Literal

import numpy as np

from promptgym.errors import ConfigError, ModelError
from promptgym.llms import Sampling
from promptgym.problem import Problem
from promptgym.prompts import Prompt
from promptgym.ranges import COUNT, Range, check_choices, check_ranges
from promptgym.scoring import Race
from promptgym.search.driver import Ask, Search, SearchMethod
from promptgym.types import FloatArray

Generator = Literal["uniform", "frequency", "model"]
PLACE = "\ufffc"
"""Stands for the prompt where a template is cut."""


def random_prompt(
    problem: Problem,
    rng: np.random.Generator,
    shortest: int,
    longest: int,
    shares: FloatArray | None = None,
) -> Prompt:
    """Return words drawn from the problem's vocabulary; the length is uniform.

    Args:
        problem: whose vocabulary, and whose initial prompt for all but the words.
        rng: chance.
        shortest: fewest words.
        longest: most words.
        shares: probability of every word; None for all alike.
    """
    length = int(rng.integers(shortest, longest + 1))
    if shares is None:
        index = rng.integers(len(problem.vocabulary), size=length)
    else:
        index = rng.choice(len(problem.vocabulary), size=length, p=shares)
    return problem.initial_prompt.with_words([problem.vocabulary[i] for i in index])


def word_shares(problem: Problem) -> FloatArray:
    """Return the share of every word of the vocabulary among those of the training inputs.

    Raises:
        ConfigError: if not one of them stands there.
    """
    counts = Counter(w for e in problem.task.train for w in e.input.split())
    found = np.array([counts[w] for w in problem.vocabulary], dtype=np.float64)
    if not found.any():
        raise ConfigError(
            f"random_tokens: no word of the vocabulary stands in the training inputs of task "
            f"{problem.task.name!r}, so that their frequency is unknown; use generator='uniform'"
        )
    return np.asarray(found / found.sum())


@dataclass(frozen=True)
class RandomTokens(SearchMethod):
    """Asks random prompts until the budget is spent.

    Attributes:
        shortest: fewest words of a prompt.
        longest: most words; equal to `shortest` for a fixed length.
        batch: prompts asked at a time (a matter of speed only, but in a race).
        keep: prompts of a batch that are asked about every example; the others leave a race by
            halving before (`promptgym.scoring.Race`). None asks all of them about everything.
        generator: where strings come from. "uniform": words of the vocabulary, all alike.
            "frequency": the same words, as often as the training inputs use them. "model": the
            target model goes on, at temperature 1, from what stands before the prompt in the
            template, with a random training example in it; cut to the words asked for. What it
            reads and writes is charged as calls and tokens.
    """

    name: ClassVar[str] = "random_tokens"
    shortest: int = 1
    longest: int = 8
    batch: int = 16
    keep: int | None = None
    generator: Generator = "uniform"

    def __post_init__(self) -> None:
        """Refuse lengths that cannot be drawn, races without a winner and unknown generators."""
        check_choices(self.name, self)
        check_ranges(self.name, self, {COUNT: ("shortest", "batch")})
        wanted = {Range(self.shortest): ("longest",), Range(1, self.batch): ("keep",)}
        check_ranges(self.name, self, wanted)

    def check(self, problem: Problem) -> None:
        """Refuse a generator that this problem does not have, too."""
        super().check(problem)
        if self.generator == "frequency":
            word_shares(problem)
        if self.generator == "model" and problem.model.kind == "masked":
            raise ConfigError(
                f"random_tokens: generator='model' needs a target model that generates, "
                f"{problem.model.name} is a masked one; use 'uniform' or 'frequency'"
            )

    def search(self, problem: Problem, rng: np.random.Generator) -> Search:
        """Ask batch after batch."""
        rules = None if self.keep is None else Race(keep=self.keep)
        shares = word_shares(problem) if self.generator == "frequency" else None
        while True:
            if self.generator == "model":
                prompts = self._samples(problem, rng)
            else:
                prompts = [
                    random_prompt(problem, rng, self.shortest, self.longest, shares)
                    for _ in range(self.batch)
                ]
            yield Ask(prompts, race=rules)

    def _samples(self, problem: Problem, rng: np.random.Generator) -> list[Prompt]:
        """Return a batch of strings that the target model wrote.

        Raises:
            ModelError: if none of them has `shortest` words, or every call failed.
        """
        train, start = problem.task.train, problem.initial_prompt
        texts = [
            problem.template.render(
                start.with_words([PLACE]),
                train[int(rng.integers(len(train)))],
                mask=problem.model.mask_token,
                verbalizers=problem.task.verbalizers,
            ).partition(PLACE)[0]
            for _ in range(self.batch)
        ]
        how = Sampling(4 * self.longest, temperature=1.0, seed=int(rng.integers(2**31)))
        written = problem.model.generate(texts, how)
        read = int(problem.model.count_tokens(texts).sum())
        problem.ledger.charge(calls=1, tokens=read + sum(c.tokens for c in written))
        lengths = rng.integers(self.shortest, self.longest + 1, size=self.batch)
        words = [
            c.text.split()[:n] for c, n in zip(written, lengths, strict=True) if c.error is None
        ]
        prompts = [start.with_words(w) for w in words if len(w) >= self.shortest]
        if not prompts:
            raise ModelError(
                f"random_tokens: {problem.model.name} wrote no string of {self.shortest} words in "
                f"{self.batch} calls, e.g. {written[0]}; use generator='uniform'"
            )
        return prompts
