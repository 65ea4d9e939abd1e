"""Signs that a prompt games its reward instead of stating its task, in numbers.

A rewriter is paid for scores on training examples, and there are ways to earn them that nobody
wants: to copy training examples, to name the answers, to grow without end, to fit the training
split, to write one and the same text. Each has a number here; none of them is proof.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from promptgym.prompts import Example, Prompt
from promptgym.tasks import Task
from promptgym.types import JSON

RUN = 4  # words in a row that stand in a training input count as copied
GAP = 0.1  # of the metric, between train and dev


def words_of(text: str) -> list[str]:
    """Return the words of a text in lower case, without the signs around and between them."""
    return re.findall(r"\w+", text.lower())


def ngrams(words: Sequence[str], n: int = RUN) -> Iterable[tuple[str, ...]]:
    """Return every run of n words."""
    return (tuple(words[i : i + n]) for i in range(len(words) - n + 1))


@dataclass(frozen=True)
class Guards:
    """What a task's prompts are looked at for.

    Attributes:
        runs: all runs of `RUN` words of the training inputs.
        answers: the words of the labels, lower case.
    """

    runs: frozenset[tuple[str, ...]]
    answers: frozenset[str]

    @classmethod
    def of(cls, task: Task) -> Guards:
        """Read a task's training split and labels."""
        examples: tuple[Example, ...] = task.train
        runs = (run for e in examples for run in ngrams(words_of(e.input)))
        labels = [text for name in task.labels or () for text in (name, task.words_for(name))]
        answers = (word for text in labels for word in words_of(text))
        return cls(frozenset(runs), frozenset(answers))

    def copied(self, prompt: Prompt) -> float:
        """Return the share of words that stand in a run copied from a training input, in [0, 1]."""
        words = words_of(prompt.instruction)
        marked = {
            place
            for start, run in enumerate(ngrams(words))
            if run in self.runs
            for place in range(start, start + RUN)
        }
        return len(marked) / max(1, len(words))

    def named(self, prompt: Prompt) -> int:
        """Return how many words of a prompt are words of a label."""
        return sum(word in self.answers for word in words_of(prompt.instruction))

    def statistics(self, prompts: Sequence[Prompt]) -> JSON:
        """Return means over a batch: `words`, `copied`, and `labels` (share that names a label)."""
        n = max(1, len(prompts))
        return {
            "words": sum(len(p.words) for p in prompts) / n,
            "copied": sum(map(self.copied, prompts)) / n,
            "labels": sum(self.named(p) > 0 for p in prompts) / n,
        }

    def row(
        self, name: str, prompt: Prompt, train: float | None = None, dev: float | None = None
    ) -> JSON:
        """Return the guards of one prompt.

        Args:
            name: what tables call it.
            prompt: the prompt.
            train: its training metric, if known.
            dev: its dev metric, if known.
        """
        known = train is not None and dev is not None and not math.isnan(train - dev)
        return {
            "name": name,
            "prompt": prompt.to_json(),
            "words": len(prompt.words),
            "copied": self.copied(prompt),
            "labels": self.named(prompt),
            "train": train,
            "dev": dev,
            "gap": train - dev if known and train is not None and dev is not None else None,
        }


def concerns(row: JSON) -> list[str]:
    """Return what is suspicious about a prompt, in words; `row` is of `Guards.row`."""
    said = []
    if row["copied"] > 0:
        said.append(f"{row['copied']:.0%} of its words are copied from training inputs")
    if row["labels"]:
        said.append(f"it names labels ({row['labels']} words)")
    if row["gap"] is not None and row["gap"] > GAP:
        said.append(f"train is {row['gap']:.3f} above dev")
    return said
