"""Racing: score prompts on a few examples first, on the rest only those still in the race."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from promptgym.errors import BudgetExhausted, ConfigError
from promptgym.prompts import Example, Prompt
from promptgym.scoring.scores import SKIPPED, Failure, Scores
from promptgym.types import FloatArray, IntArray, StatusArray

Score = Callable[[Sequence[Prompt], Sequence[Example]], Scores]
Value = Callable[[Scores], FloatArray]


@dataclass(frozen=True, slots=True)
class Race:
    """The rules of a race.

    Attributes:
        keep: how many prompts run to the end at least.
        first: examples of the first heat.
        growth: factor by which the examples asked so far grow from heat to heat.
        rule: who is out after a heat. "halving": all but the best 1 / `growth` of those in it
            (successive halving, Jamieson & Talwalkar, AISTATS 2016). "bound": who is worse than
            `keep` others beyond chance (Hoeffding races, Maron & Moore, NIPS 1993, with Serfling's
            bound for draws without replacement, 1974); so with `confidence` none of the best
            `keep` prompts is out, and nobody need be.
        confidence: of "bound", over all prompts and heats together.
        span: of "bound": the range of an example's value (accuracy: 1; a gap reward: its two
            factors together).
        seed: of the order of the examples.
    """

    keep: int = 1
    first: int = 8
    growth: float = 2.0
    rule: Literal["halving", "bound"] = "halving"
    confidence: float = 0.95
    span: float = 1.0
    seed: int = 0

    def __post_init__(self) -> None:
        """Refuse rules that mean nothing.

        Raises:
            ConfigError: naming the field.
        """
        if self.rule not in ("halving", "bound"):
            raise ConfigError(f"race: rule must be 'halving' or 'bound', got {self.rule!r}")
        for name, least in (("keep", 1), ("first", 1), ("seed", 0)):
            value = getattr(self, name)
            if type(value) is not int or value < least:
                raise ConfigError(
                    f"race: {name} must be a whole number of at least {least}, got {value!r}"
                )
        if not 1 < self.growth < math.inf:
            raise ConfigError(f"race: growth must be finite and more than 1, got {self.growth}")
        if not (0 < self.confidence < 1 and self.span > 0):
            raise ConfigError(
                "race: confidence must be in (0, 1) and span above 0, got "
                f"{self.confidence} and {self.span}"
            )

    def heats(self, examples: int) -> list[int]:
        """Return the examples asked by the end of each heat; the last is all of them."""
        sizes = [min(self.first, examples)]
        while sizes[-1] < examples:
            sizes.append(min(max(sizes[-1] + 1, int(sizes[-1] * self.growth)), examples))
        return sizes

    def survivors(self, values: FloatArray, asked: int, examples: int, chances: int) -> IntArray:
        """Return who stays in, ascending.

        Args:
            values: mean over the examples asked, of every prompt in the race, shape (P,).
            asked: number of examples asked.
            examples: number of all examples.
            chances: comparisons of the whole race, P x heats, which share the doubt of "bound".
        """
        order = np.argsort(-np.nan_to_num(values, nan=-np.inf), kind="stable")
        if len(order) <= self.keep:
            return np.sort(order)
        if self.rule == "halving":
            return np.sort(order[: max(self.keep, math.ceil(len(order) / self.growth))])
        left = 1 - (asked - 1) / examples
        doubt = math.log(2 * chances / (1 - self.confidence))
        radius = self.span * math.sqrt(left * doubt / (2 * asked))
        line = values[order[self.keep - 1]] - 2 * radius
        return np.sort(order[~(values[order] < line)])


def race(
    score: Score,
    prompts: Sequence[Prompt],
    examples: Sequence[Example],
    value: Value,
    rules: Race,
) -> tuple[Scores, bool]:
    """Race prompts over examples.

    Args:
        score: asks the model: `Scorer.score` or `Problem.score`. It is charged for the pairs of
            each heat and nothing else.
        prompts: the P prompts.
        examples: the E examples.
        value: what is raced for, a mean over the examples asked (a reward), shape (P,).
        rules: of the race.

    Returns:
        Scores of all prompts on all examples, those that were not asked `SKIPPED` and NaN (so that
        `complete` says who ran to the end), and whether the race was run to its end: False if the
        budget cut it short.

    Raises:
        BudgetExhausted: the budget did not reach one prompt in the first heat.
    """
    examples = tuple(examples)
    order = np.random.default_rng(rules.seed).permutation(len(examples))
    heats = rules.heats(len(examples))
    running = np.arange(len(prompts))
    out: Scores | None = None
    start = 0
    for stop in heats:
        chosen = order[start:stop]
        try:
            got = score(
                [prompts[i] for i in running.tolist()], [examples[i] for i in chosen.tolist()]
            )
        except BudgetExhausted:
            if out is None:
                raise
            return out, False
        out = _merged(out, got, running, chosen, tuple(prompts), examples)
        if not got.complete.all():
            return out, False
        values = value(out.select(running))
        running = running[rules.survivors(values, stop, len(examples), len(prompts) * len(heats))]
        start = stop
    assert out is not None
    return out, True


def _merged(
    out: Scores | None,
    got: Scores,
    rows: IntArray,
    columns: IntArray,
    prompts: tuple[Prompt, ...],
    examples: tuple[Example, ...],
) -> Scores:
    """Return scores with those of a heat written in."""
    out = _blank(got, prompts, examples) if out is None else out
    cells = np.ix_(rows, columns)
    out.values[cells], out.status[cells] = got.values, got.status
    failures = [
        Failure(int(rows[f.prompt]), int(columns[f.example]), f.reason, f.status)
        for f in got.failures
    ]
    if out.label_logprobs is not None:
        out.label_logprobs[cells] = got.label_logprobs
    if out.targets is not None and got.targets is not None:
        out.targets[columns] = got.targets
    if out.completions is not None:
        out.completions[cells] = got.completions
    return Scores(
        prompts,
        examples,
        out.metric,
        out.values,
        out.status,
        out.label_logprobs,
        out.targets,
        out.completions,
        (*out.failures, *failures),
        out.prompt_tokens,
    )


def _blank(first: Scores, prompts: tuple[Prompt, ...], examples: tuple[Example, ...]) -> Scores:
    """Return scores of all prompts and examples of which none is asked yet."""
    shape = len(prompts), len(examples)
    status: StatusArray = np.full(shape, SKIPPED, dtype=np.int8)
    labels, said = first.label_logprobs, first.completions
    return Scores(
        prompts,
        examples,
        first.metric,
        np.full(shape, np.nan),
        status,
        None if labels is None else np.full((*shape, labels.shape[-1]), np.nan),
        None if first.targets is None else np.zeros(len(examples), dtype=np.int64),
        None if said is None else np.full(shape, None, dtype=np.object_),
        (),
        first.prompt_tokens,
    )
