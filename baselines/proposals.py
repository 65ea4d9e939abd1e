"""What the baselines share that ask a proposer: how it is asked, and how its prompts are taken.

A request is a text of the method's own wording, in which prompts stand between <prompt> and
</prompt>; the proposer answers between tags, which are read strictly
(`promptgym.scoring.proposing.tagged`). The embedded rewriter understands no such text: it is given
the prompt in question in the form it was trained on, and what it writes is taken whole. So is what
a model that fills gaps writes, where a method has a text with a gap for it.
"""

from __future__ import annotations

from collections.abc import Generator, Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import numpy as np

from promptgym.llms import Sampling
from promptgym.llms.base import FillsGaps
from promptgym.llms.tiny import REWRITE_TEMPLATE
from promptgym.problem import Problem
from promptgym.prompts import Example, Prompt
from promptgym.ranges import COUNT, NOT_NEGATIVE, check_choices, check_ranges
from promptgym.search.driver import Answer, Propose, SearchMethod
from promptgym.types import FloatArray

REWRITER = "tiny-rewriter@"
REWRITER_TOKENS = 64  # its prompts are sentences, and it reads 192 tokens with what it writes
INSTRUCTION = "instruction"
GAP = "[GAP]"
"""Stands for an instruction that is left out of a text."""
END = f"Write it between <{INSTRUCTION}> and </{INSTRUCTION}>."
VARIATION = f"""This instruction is given to a language model:
<prompt>{{prompt}}</prompt>
Say the same in other words. {END}"""


class Request(NamedTuple):
    """One text for the proposer.

    Attributes:
        text: what it is asked.
        about: the instruction in question, for a proposer that can only rewrite.
        around: the same as a text that holds `GAP` where the answer stands, for a proposer that
            fills gaps (`promptgym.llms.base.FillsGaps`); "" asks that one in words, too.
    """

    text: str
    about: str
    around: str = ""


@dataclass(frozen=True)
class ProposingMethod(SearchMethod):
    """Base of the methods that ask a proposer.

    Attributes:
        temperature: of the proposer's draws.
        max_tokens: longest completion.
    """

    temperature: float = 1.0
    max_tokens: int = 256

    def __post_init__(self) -> None:
        """Refuse settings that mean nothing."""
        check_ranges(self.name, self, {NOT_NEGATIVE: ("temperature",), COUNT: ("max_tokens",)})
        check_choices(self.name, self)

    @property
    def proposes(self) -> bool:
        """Whether it asks the problem's proposer: it does."""
        return True

    def write(
        self,
        problem: Problem,
        rng: np.random.Generator,
        requests: Sequence[Request],
        tag: str = INSTRUCTION,
        temperature: float | None = None,
    ) -> Generator[Propose, Any, list[str | None]]:
        """Have the proposer answer requests, all at once.

        Args:
            problem: for its proposer.
            rng: draws the seed of the request.
            requests: N of them; equal ones are answered independently.
            tag: what the answers stand between.
            temperature: instead of the method's.

        Returns:
            N texts; None for one that cannot be read.
        """
        model = None if problem.proposer is None else problem.proposer.model
        rewrites_only = model is not None and model.name.startswith(REWRITER)
        gap = model.gap_token if isinstance(model, FillsGaps) else ""
        sampling = Sampling(
            max_new_tokens=min(self.max_tokens, REWRITER_TOKENS)
            if rewrites_only
            else self.max_tokens,
            temperature=self.temperature if temperature is None else temperature,
            seed=int(rng.integers(2**31)),
        )
        if rewrites_only:
            texts = [REWRITE_TEMPLATE.format(prompt=r.about) for r in requests]
            found = yield Propose(texts, sampling)
        elif gap and all(r.around for r in requests):
            found = yield Propose([r.around.replace(GAP, gap) for r in requests], sampling)
        else:
            found = yield Propose([r.text for r in requests], sampling, tag)
        return list(found.parsed)


def fresh(texts: Iterable[str | None], start: Prompt, seen: set[Prompt]) -> list[Prompt]:
    """Return new prompts of the texts that could be read, each once, and note them in `seen`.

    Args:
        texts: instructions.
        start: whose demonstrations and system message they take over.
        seen: prompts that were asked before.
    """
    out = []
    for text in texts:
        prompt = None if text is None else replace(start, instruction=text)
        if prompt is not None and prompt not in seen:
            seen.add(prompt)
            out.append(prompt)
    return out


def worth(answer: Answer) -> FloatArray:
    """Return the rewards, shape (P,); what failed, or left a race, is worth -inf."""
    known = answer.scores.complete & ~np.isnan(answer.rewards)
    return np.where(known, answer.rewards, -np.inf)


def percent(answer: Answer) -> FloatArray:
    """Return the metric of every prompt in percent, shape (P,); -inf where all calls failed."""
    return np.nan_to_num(100 * answer.scores.mean, nan=-np.inf)


def best_of(values: dict[Prompt, float], count: int) -> list[Prompt]:
    """Return the `count` prompts of largest value, best first; of equal ones the earlier."""
    return sorted(values, key=lambda p: -values[p])[:count]


def draw(rng: np.random.Generator, examples: Sequence[Example], count: int) -> list[Example]:
    """Return different examples, at random; all of them if there are fewer."""
    index = rng.choice(len(examples), size=min(count, len(examples)), replace=False)
    return [examples[i] for i in index.tolist()]


def shown(problem: Problem, examples: Iterable[Example], said: Sequence[str] = ()) -> str:
    """Return examples with their right answers as lines, and what the model said to each."""
    lines = []
    for i, example in enumerate(examples):
        labels = problem.task.labels
        words = problem.task.words_for
        lines += [f"Input: {example.input}"]
        if said:
            given = words(said[i]) if labels and said[i] in labels else said[i]
            lines += [f"The model's answer: {given}"]
        right = words(example.target) if labels else example.target
        lines += [f"Right answer: {right}", ""]
    return "\n".join(lines).rstrip()
