"""`Scores`: what came of asking a model with every prompt about every example."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from promptgym.prompts import Example, Prompt
from promptgym.tasks import Metric
from promptgym.types import BoolArray, FloatArray, IntArray, ObjectArray, StatusArray

OK, PARSE_ERROR, REFUSED, API_ERROR, TIMEOUT, SKIPPED = range(6)
STATUS_NAMES = ("ok", "parse_error", "refused", "api_error", "timeout", "skipped")
FAILURES = (PARSE_ERROR, REFUSED, API_ERROR, TIMEOUT)


def status_of(reason: str) -> tuple[int, str]:
    """Read the kind of a failure off a backend's reason, e.g. `timeout: no answer in 30 s`.

    Returns:
        The status code (`API_ERROR` where the reason names no kind) and the rest of the text.
    """
    name, colon, rest = reason.partition(":")
    if colon and name in STATUS_NAMES[PARSE_ERROR:SKIPPED]:
        return STATUS_NAMES.index(name), rest.strip()
    return API_ERROR, reason


@dataclass(frozen=True, slots=True)
class Failure:
    """One evaluation that went wrong.

    Attributes:
        prompt: index of the prompt.
        example: index of the example.
        reason: what the backend said, without its kind.
        status: `PARSE_ERROR`, `REFUSED`, `API_ERROR` or `TIMEOUT`.
    """

    prompt: int
    example: int
    reason: str
    status: int = API_ERROR


@dataclass(frozen=True, slots=True)
class Scores:
    """Struct of arrays over P prompts and E examples. A failure is NaN and a record, never 0.

    Attributes:
        prompts: the P prompts.
        examples: the E examples.
        metric: how values are aggregated.
        values: metric of every pair, shape (P, E); NaN where status is not OK.
        status: of every evaluation, shape (P, E): OK; PARSE_ERROR (an answer that cannot be read),
            REFUSED, API_ERROR or TIMEOUT, the four ways to fail; SKIPPED (the budget did not
            reach). Their names are `STATUS_NAMES`.
        label_logprobs: log P(label | prompt, example), nats, shape (P, E, L); None for generation.
        targets: index of the gold label, shape (E,); None for generation.
        completions: the generated answers, shape (P, E); None for classification.
        failures: one record a failed pair.
        prompt_tokens: tokens of every instruction, shape (P,) (for length penalties).
    """

    prompts: tuple[Prompt, ...]
    examples: tuple[Example, ...]
    metric: Metric
    values: FloatArray
    status: StatusArray
    label_logprobs: FloatArray | None = None
    targets: IntArray | None = None
    completions: ObjectArray | None = None
    failures: Sequence[Failure] = field(default=())
    prompt_tokens: IntArray | None = None

    def __len__(self) -> int:
        """Return P."""
        return len(self.prompts)

    @property
    def mean(self) -> FloatArray:
        """The metric of every prompt over its valid examples, shape (P,); NaN if there is none."""
        return self.metric.aggregate(self.values, [e.target for e in self.examples])

    @property
    def mean_with_failures(self) -> FloatArray:
        """The metric with every failure counted as 0, shape (P,): what a user of it would see."""
        counted = np.where(self.failed, 0.0, self.values)
        return self.metric.aggregate(counted, [e.target for e in self.examples])

    @property
    def failed(self) -> BoolArray:
        """Whether an evaluation was asked and went wrong, shape (P, E)."""
        return np.asarray((self.status != OK) & (self.status != SKIPPED))

    def counts(self, row: int | None = None) -> dict[str, int]:
        """Count the failed evaluations by kind; kinds that did not occur are left out.

        Args:
            row: of this prompt only; None counts over all.
        """
        status = self.status if row is None else self.status[row]
        found = np.bincount(status.reshape(-1), minlength=len(STATUS_NAMES))
        return {STATUS_NAMES[s]: int(found[s]) for s in FAILURES if found[s]}

    @property
    def complete(self) -> BoolArray:
        """Whether every example of a prompt was asked (failed ones included), shape (P,)."""
        return np.asarray(~(self.status == SKIPPED).any(axis=1))

    @property
    def label_probabilities(self) -> FloatArray:
        """Softmax over the labels, shape (P, E, L); raises ValueError for generation tasks."""
        if self.label_logprobs is None:
            raise ValueError("a task answered by generation has no label probabilities")
        shifted = self.label_logprobs - self.label_logprobs.max(axis=-1, keepdims=True)
        exp = np.exp(shifted)
        return np.asarray(exp / exp.sum(axis=-1, keepdims=True))

    def select(self, rows: Sequence[int] | IntArray) -> Scores:
        """Return the scores of some prompts, by index."""
        index = [int(i) for i in rows]
        place = {old: new for new, old in enumerate(index)}
        return Scores(
            prompts=tuple(self.prompts[i] for i in index),
            examples=self.examples,
            metric=self.metric,
            values=self.values[index],
            status=self.status[index],
            label_logprobs=None if self.label_logprobs is None else self.label_logprobs[index],
            targets=self.targets,
            completions=None if self.completions is None else self.completions[index],
            failures=tuple(
                replace(f, prompt=place[f.prompt]) for f in self.failures if f.prompt in place
            ),
            prompt_tokens=None if self.prompt_tokens is None else self.prompt_tokens[index],
        )
