"""Random strings: the floor of every search, and a surprisingly high one.

Source: "Strings from the Library of Babel: Random Sampling as a Strong Baseline for Prompt
Optimisation" (Lu et al., NAACL 2024), which draws strings in three ways: words uniformly, words as
often as texts use them, and samples of a language model. There lengths are fixed; here they are
drawn as well by default.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Generator
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import numpy as np

from promptgym.errors import ConfigError
from promptgym.llms import Sampling
from promptgym.problem import Problem
from promptgym.prompts import Prompt
from promptgym.ranges import COUNT, Range, check_choices, check_ranges
from promptgym.scoring import Proposals, Race
from promptgym.search.driver import Ask, Propose, Search, SearchMethod
from promptgym.types import FloatArray

Source = Literal["uniform", "frequency", "model"]
Samples = Generator[Propose, Any, list[Prompt]]
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
            proposer, which may be the target model, goes on, at temperature 1, from what stands
            before the prompt in the template, with a random training example in it; cut to the
            words asked for.
    """

    name: ClassVar[str] = "random_tokens"
    shortest: int = 1
    longest: int = 8
    batch: int = 16
    keep: int | None = None
    generator: Source = "uniform"

    def __post_init__(self) -> None:
        """Refuse lengths that cannot be drawn, races without a winner and unknown generators."""
        check_choices(self.name, self)
        check_ranges(self.name, self, {COUNT: ("shortest", "batch")})
        wanted = {Range(self.shortest): ("longest",), Range(1, self.batch): ("keep",)}
        check_ranges(self.name, self, wanted)

    @property
    def proposes(self) -> bool:
        """Whether it asks the problem's proposer, as its generator says."""
        return self.generator == "model"

    def check(self, problem: Problem) -> None:
        """Refuse a generator that this problem does not have, too."""
        if self.proposes and problem.proposer is None:
            raise ConfigError(
                "random_tokens asks a proposer for its strings with generator='model', and the "
                "problem has none; give it a model that generates, e.g. the target itself "
                "(proposer='tiny', --proposer tiny), or use generator='uniform' or 'frequency'"
            )
        super().check(problem)
        if self.generator == "frequency":
            word_shares(problem)

    def search(self, problem: Problem, rng: np.random.Generator) -> Search:
        """Ask batch after batch."""
        rules = None if self.keep is None else Race(keep=self.keep)
        shares = word_shares(problem) if self.generator == "frequency" else None
        while True:
            if self.generator == "model":
                prompts = yield from self._samples(problem, rng)
            else:
                prompts = [
                    random_prompt(problem, rng, self.shortest, self.longest, shares)
                    for _ in range(self.batch)
                ]
            if prompts:
                yield Ask(prompts, race=rules)

    def _samples(self, problem: Problem, rng: np.random.Generator) -> Samples:
        """Return strings that the proposer wrote, those of a batch that have `shortest` words."""
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
        found: Proposals = yield Propose(texts, how)
        lengths = rng.integers(self.shortest, self.longest + 1, size=self.batch)
        words = [(text or "").split()[:n] for text, n in zip(found.parsed, lengths, strict=True)]
        return [start.with_words(w) for w in words if len(w) >= self.shortest]
