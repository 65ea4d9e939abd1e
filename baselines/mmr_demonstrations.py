"""MMR demonstrations: examples that are like the question and unlike each other.

Sources: Carbonell & Goldstein (SIGIR 1998), maximal marginal relevance; Ye et al., "Complementary
Explanations for Effective In-Context Learning" (Findings of ACL 2023), section 5, which chooses
exemplars by it.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from promptgym.baselines.asking import ask_batches
from promptgym.baselines.demonstrations import DemonstrationSearch
from promptgym.problem import Problem
from promptgym.ranges import SHARE, check_ranges
from promptgym.search.driver import Search

Vector = dict[str, float]


@dataclass(frozen=True)
class MMRDemonstrations(DemonstrationSearch):
    """Asks the set chosen for all training inputs together, then those chosen for single ones.

    The paper chooses a set for each test question. A prompt here is one for all questions, so the
    sets of training inputs, in random order, are the candidates, and dev decides. Similarity is the
    cosine of word counts weighted by inverse document frequency, where the paper's takes a second
    model (BERTScore) or the target's log-probabilities.

    Attributes:
        trade_off: weight of relevance against redundancy (lambda): 1 takes the nearest examples;
            0.5 is that of the published code (which shows 8 examples, `shots`).
    """

    name: ClassVar[str] = "mmr_demonstrations"
    endless: ClassVar[bool] = False
    trade_off: float = 0.5

    def __post_init__(self) -> None:
        """Refuse unknown options."""
        super().__post_init__()
        check_ranges(self.name, self, {SHARE: ("trade_off",)})

    def search(self, problem: Problem, rng: np.random.Generator) -> Search:
        """Ask a set for each question; equal sets once."""
        examples, train = self.examples(problem), problem.task.train
        vectors = weighted([e.input for e in (*examples, *train)])
        shown, questions = vectors[: len(examples)], vectors[len(examples) :]
        queries: list[tuple[Vector, str]] = [(mean(questions), "")]
        queries += [(questions[i], train[i].key) for i in rng.permutation(len(train)).tolist()]
        prompts = []
        for query, key in queries:
            others = [i for i, e in enumerate(examples) if e.key != key]
            chosen = mmr(query, [shown[i] for i in others], self.shots, self.trade_off)
            prompts.append(self.showing(problem, [examples[others[i]] for i in chosen]))
        yield from ask_batches(prompts, self.batch)


def weighted(texts: Sequence[str]) -> list[Vector]:
    """Return a unit vector of every text: word -> count * log((1 + N) / (1 + texts with it))."""
    counts = [Counter(text.lower().split()) for text in texts]
    spread = Counter(word for words in counts for word in words)
    out = []
    for words in counts:
        raw = {w: n * math.log((1 + len(texts)) / (1 + spread[w])) for w, n in words.items()}
        out.append(unit(raw))
    return out


def unit(vector: Vector) -> Vector:
    """Return a vector of length 1 (or of 0, where it is 0)."""
    norm = math.sqrt(sum(x * x for x in vector.values())) or 1.0
    return {word: x / norm for word, x in vector.items()}


def mean(vectors: Sequence[Vector]) -> Vector:
    """Return the direction of the sum of vectors."""
    total: Vector = {}
    for vector in vectors:
        for word, x in vector.items():
            total[word] = total.get(word, 0.0) + x
    return unit(total)


def cosine(a: Vector, b: Vector) -> float:
    """Return the cosine of two unit vectors."""
    short, long = (a, b) if len(a) <= len(b) else (b, a)
    return sum(x * long[word] for word, x in short.items() if word in long)


def mmr(query: Vector, vectors: Sequence[Vector], k: int, trade_off: float) -> list[int]:
    """Choose `k` of N vectors by maximal marginal relevance (Ye et al., equation 1).

    Each choice is argmax of trade_off * S(query, x) - (1 - trade_off) * max over those chosen of
    S(x, chosen); of equals, the first.

    Returns:
        Their indices in the order of choice.
    """
    relevance = np.array([cosine(query, v) for v in vectors])
    redundancy = np.zeros(len(vectors))
    chosen: list[int] = []
    while len(chosen) < min(k, len(vectors)):
        gain = trade_off * relevance - (1 - trade_off) * redundancy
        gain[chosen] = -np.inf
        chosen.append(int(gain.argmax()))
        last = vectors[chosen[-1]]
        redundancy = np.maximum(redundancy, [cosine(v, last) for v in vectors])
    return chosen
