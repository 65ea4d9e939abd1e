"""`Ensemble`: several prompts that answer together by a weighted vote."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from promptgym.prompts import Prompt
from promptgym.scoring import Scores
from promptgym.types import JSON, FloatArray, IntArray


@dataclass(frozen=True, slots=True)
class Ensemble:
    """A classifier made of N weak ones; each is a prompt with its own reading of the answer.

    Member n answers with the class whose word its prompt makes the likeliest, and has `weights[n]`
    votes for it.

    Attributes:
        prompts: of the members; a prompt may stand there several times, read differently.
        weights: votes of the members.
        words: which label word (by index) each member reads as which class: N permutations of L
            indices; 0, 1, ... L - 1 are the task's own verbalizers.
        train: metric on the training split.
        dev: metric on dev; None if it was not asked.
    """

    prompts: tuple[Prompt, ...]
    weights: tuple[float, ...]
    words: tuple[tuple[int, ...], ...]
    train: float | None = None
    dev: float | None = None

    @property
    def distinct(self) -> tuple[Prompt, ...]:
        """The different prompts: an answer takes one query of each."""
        return tuple(dict.fromkeys(self.prompts))

    def values(self, scores: Scores, labels: Sequence[str]) -> FloatArray:
        """Return what the vote is paid on every example, shape (E,); NaN where nobody answered.

        Args:
            scores: of prompts with all of the members among them.
            labels: the task's labels, in their order.
        """
        answers = [reading(scores, p, w) for p, w in zip(self.prompts, self.words, strict=True)]
        return paid(vote(np.stack(answers), self.weights, len(labels))[-1], scores, labels)

    def to_json(self) -> JSON:
        """Return the ensemble as plain JSON."""
        members = [
            {"prompt": prompt.to_json(), "weight": weight, "words": list(words)}
            for prompt, weight, words in zip(self.prompts, self.weights, self.words, strict=True)
        ]
        return {"members": members, "train": self.train, "dev": self.dev}


def reading(scores: Scores, prompt: Prompt, words: Sequence[int]) -> IntArray:
    """Return the class that a prompt answers on every example, shape (E,); -1 is a failure.

    Args:
        scores: with the prompt among its own.
        prompt: which.
        words: which label word is read as which class, L indices.
    """
    assert scores.label_logprobs is not None
    logprobs = scores.label_logprobs[scores.prompts.index(prompt)]
    known = ~np.isnan(logprobs).any(axis=1)
    class_of = np.argsort(np.array(words))
    return np.where(known, class_of[np.where(known[:, None], logprobs, 0.0).argmax(axis=1)], -1)


def vote(answers: IntArray, weights: Sequence[float], classes: int) -> IntArray:
    """Return what the first 1, 2, ... N members answer together, shape (N, E).

    Args:
        answers: class that each member answers, shape (N, E); one of -1 does not vote, and where
            nobody does, the answer is -1.
        weights: votes of each member.
        classes: how many there are.
    """
    ballots = np.eye(classes + 1)[answers][..., :classes] * np.array(weights)[:, None, None]
    votes = ballots.cumsum(axis=0)
    return np.where(votes.any(axis=-1), votes.argmax(axis=-1), -1)


def paid(answers: IntArray, scores: Scores, labels: Sequence[str]) -> FloatArray:
    """Return the metric of the classes answered on every example (E,), NaN where it is -1."""
    score = scores.metric.score
    pairs = zip(answers.tolist(), scores.examples, strict=True)
    return np.array([np.nan if i < 0 else score(labels[i], example) for i, example in pairs])
