"""`Ensemble`: several prompts that answer together by a weighted vote."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from promptgym.prompts import Prompt
from promptgym.types import JSON, FloatArray, IntArray


@dataclass(frozen=True, slots=True)
class Ensemble:
    """A classifier made of N weak ones; each is a prompt with its own reading of the answer.

    Member n answers with the class whose word its prompt makes the likeliest, and has `weights[n]`
    votes for it.

    Attributes:
        prompts: of the members; a prompt may stand there several times, read differently.
        weights: votes of the members.
        words: which label word (by index) each member reads as which class: N rows of L indices.
            The task's own verbalizers are 0, 1, ... L - 1.
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

    def answers(self, prompts: Sequence[Prompt], logprobs: FloatArray) -> IntArray:
        """Return the class that gets most votes, shape (E,); -1 where no member has an answer.

        Args:
            prompts: P prompts, with all of the members among them.
            logprobs: log-probabilities of the label words, shape (P, E, L); NaN is a failure, and
                such a member does not vote.
        """
        place = {prompt: i for i, prompt in enumerate(prompts)}
        votes = np.zeros(logprobs.shape[1:])
        for prompt, weight, words in zip(self.prompts, self.weights, self.words, strict=True):
            read = logprobs[place[prompt]][:, list(words)]
            known = np.flatnonzero(~np.isnan(read).any(axis=1))
            votes[known, read[known].argmax(axis=1)] += weight
        return np.where(votes.any(axis=1), votes.argmax(axis=1), -1)

    def to_json(self) -> JSON:
        """Return the ensemble as plain JSON."""
        members = [
            {"prompt": prompt.to_json(), "weight": weight, "words": list(words)}
            for prompt, weight, words in zip(self.prompts, self.weights, self.words, strict=True)
        ]
        return {"members": members, "train": self.train, "dev": self.dev}
