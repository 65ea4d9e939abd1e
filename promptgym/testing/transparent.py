"""A model whose every score is a formula: for tests of search, agents and environments.

`TransparentModel` reads the words of a text, adds up their weights and is the surer of the right
answer the larger the sum is. The best prompt is therefore known in closed form.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from promptgym.llms import Completion, Kind, LabelLogprobs, Sampling
from promptgym.prompts import Example, Prompt, Template
from promptgym.tasks import Task
from promptgym.types import FloatArray, IntArray

WEIGHTS = {"alpha": 1.0, "beta": 0.8, "gamma": 0.6, "delta": 0.4, "anti": -1.0}
FILLERS = ("one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten")
LABELS = ("minus", "plus")


class TransparentModel:
    """P(right answer) = sigmoid(bias + sum of the weights of the distinct words of the text).

    The right answer of a text is "plus" if the word `plus` stands in it, else "minus". An input may
    hold `hardK` (K = 0 ... 9), which lowers the sum by K / 2, so that accuracy rises in steps.
    """

    kind: Kind = "causal"
    mask_token = ""

    def __init__(self, weights: Mapping[str, float] | None = None, bias: float = -0.5) -> None:
        """Take the weights of words (default `WEIGHTS`) and the bias."""
        self.weights = dict(WEIGHTS if weights is None else weights)
        self.bias = bias
        self.name = f"transparent:{bias}:{sorted(self.weights.items())}"
        self.calls = 0

    def check_labels(self, labels: Sequence[str]) -> None:
        """Accept any labels."""

    def logit(self, text: str) -> float:
        """Return the log-odds of the right answer."""
        words = sorted(set(text.split()))  # a fixed order: sums must not depend on the hash seed
        hard = sum(int(w[4:]) for w in words if w.startswith("hard") and w[4:].isdecimal())
        return self.bias + sum(self.weights.get(w, 0.0) for w in words) - hard / 2

    def label_logprobs(self, texts: Sequence[str], labels: Sequence[str]) -> LabelLogprobs:
        """Score every label of every text."""
        self.calls += 1
        out = np.empty((len(texts), len(labels)))
        for i, text in enumerate(texts):
            z = self.logit(text)
            right = "plus" if "plus" in text.split() else "minus"
            for j, label in enumerate(labels):
                out[i, j] = -np.logaddexp(0.0, -z if label.strip() == right else z)
        return LabelLogprobs(out, self.count_tokens(texts))

    def loglikelihood(self, contexts: Sequence[str], continuations: Sequence[str]) -> FloatArray:
        """Score each continuation as a label of its context."""
        pairs = zip(contexts, continuations, strict=True)
        return np.array([self.label_logprobs([c], [x]).logprobs[0, 0] for c, x in pairs])

    def generate(self, texts: Sequence[str], sampling: Sampling) -> list[Completion]:
        """Answer with the likelier label."""
        best = self.label_logprobs(texts, LABELS).logprobs.argmax(axis=1)
        return [Completion(LABELS[i], 1) for i in best]

    def count_tokens(self, texts: Sequence[str]) -> IntArray:
        """Count words."""
        return np.array([len(t.split()) for t in texts], dtype=np.int64)


def transparent_task(n: int = 20) -> Task:
    """Return a task for `TransparentModel`: `n` examples a split, classes and hardness mixed."""

    def split(name: str) -> tuple[Example, ...]:
        return tuple(
            Example(f"{name}{i} {LABELS[i % 2]} hard{i // 2 % 5}", LABELS[i % 2]) for i in range(n)
        )

    return Task(
        name="transparent",
        template=Template("{input} {prompt}"),
        train=split("train"),
        dev=split("dev"),
        test_split=split("test"),
        labels=LABELS,
        manual_prompts=(Prompt("one two"),),
        reference_prompts=(Prompt("alpha beta gamma delta"),),
        vocabulary=(*WEIGHTS, *FILLERS),
        description="answer with the sign",
    )
