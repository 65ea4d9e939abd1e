"""What a prompt does, shown on dev: the part of each word, and answers before and after."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from promptgym.problem import Problem
from promptgym.prompts import Example, Prompt
from promptgym.scoring import OK, Ledger, Scorer, Scores
from promptgym.types import FloatArray


@dataclass(frozen=True, slots=True)
class WordEffect:
    """What taking one word out of a prompt does on dev.

    Attributes:
        word: the word.
        added: whether the prompt that editing started from lacks it.
        metric: metric with the word minus metric without it.
        reward: the same for the training reward.
        fixed: examples answered better with the word than without.
        broken: examples answered worse with it.
    """

    word: str
    added: bool
    metric: float
    reward: float
    fixed: int
    broken: int


@dataclass(frozen=True, slots=True)
class Answer:
    """What a model answered: the text, the probability of the gold label (if any), the metric."""

    text: str
    gold: float | None
    value: float


@dataclass(frozen=True, slots=True)
class Change:
    """One dev example with its answers under two prompts."""

    example: Example
    before: Answer
    after: Answer

    @property
    def gain(self) -> float:
        """How much better the second answer is."""
        return self.after.value - self.before.value


def own_scorer(problem: Problem) -> Scorer:
    """Return a scorer with a ledger of its own: explaining is not part of a run's budget."""
    return Scorer(
        problem.task, problem.model, problem.template, ledger=Ledger(), store=problem.store
    )


def word_effects(problem: Problem, prompt: Prompt, most: int = 40) -> list[WordEffect]:
    """Take every word of a prompt's instruction out, one at a time, and score on dev.

    Args:
        problem: for task, model, template and reward; its budget is not touched.
        prompt: the prompt; demonstrations and system message stay as they are.
        most: only the first so many words (each costs one pass over dev).
    """
    words = prompt.words
    if not words or not problem.task.dev:
        return []
    shorter = [prompt.with_words(words[:i] + words[i + 1 :]) for i in range(min(len(words), most))]
    scores = own_scorer(problem).score([prompt, *shorter], problem.task.dev)
    metric, reward = scores.mean, problem.reward(scores)
    delta = scores.values[:1] - scores.values[1:]
    start = set(problem.initial_prompt.words)
    return [
        WordEffect(
            word=words[i],
            added=words[i] not in start,
            metric=float(metric[0] - metric[i + 1]),
            reward=float(reward[0] - reward[i + 1]),
            fixed=int(np.sum(delta[i] > 0)),
            broken=int(np.sum(delta[i] < 0)),
        )
        for i in range(len(shorter))
    ]


def changes(problem: Problem, before: Prompt, after: Prompt) -> list[Change]:
    """Answer every dev example under two prompts, in the order of dev; failed calls left out."""
    examples = problem.task.dev
    scores = own_scorer(problem).score([before, after], examples)
    labels = problem.task.labels
    chance = None if scores.label_logprobs is None else scores.label_probabilities
    return [
        Change(example, *(_answer(scores, chance, labels, row, i) for row in (0, 1)))
        for i, example in enumerate(examples)
        if bool((scores.status[:, i] == OK).all())
    ]


def telling(found: Sequence[Change], most: int = 12) -> list[Change]:
    """Choose the changes to show: mended ones, spoiled ones, and a few that stayed wrong or right.

    Half of the places go to mended examples and a quarter to spoiled ones; places that one kind
    does not fill fall to the next.
    """
    mended = sorted((c for c in found if c.gain > 0), key=lambda c: -c.gain)
    spoiled = sorted((c for c in found if c.gain < 0), key=lambda c: c.gain)
    same = sorted((c for c in found if c.gain == 0), key=lambda c: c.after.value)
    chosen = mended[: most // 2] + spoiled[: most // 4]
    for pool in (same[: most - len(chosen)], mended[most // 2 :], spoiled[most // 4 :]):
        chosen += pool[: most - len(chosen)]
    return sorted(chosen, key=lambda c: -c.gain)


def _answer(
    scores: Scores, chance: FloatArray | None, labels: Sequence[str] | None, row: int, column: int
) -> Answer:
    """Return the answer to one pair."""
    value = float(scores.values[row, column])
    if chance is None or labels is None or scores.targets is None:
        text = "" if scores.completions is None else str(scores.completions[row, column])
        return Answer(text, None, value)
    gold = float(chance[row, column, int(scores.targets[column])])
    return Answer(labels[int(chance[row, column].argmax())], gold, value)
