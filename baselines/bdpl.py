"""BDPL: a distribution over words for each place of a prompt, learned by policy gradient.

Source: Diao et al., "Black-box Prompt Learning for Pre-trained Language Models" (TMLR 2023),
section 3: 10 places, 200 candidates, 20 prompts a step, the variance-reduced estimator, projection
onto the simplex. Optimizer and its settings are those of the published code: AdamW at 1e-4, weight
decay 0.1, gradient norm clipped at 3.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from itertools import pairwise
from typing import ClassVar, Literal

import numpy as np

from promptgym.baselines.asking import Memory, Objective
from promptgym.baselines.hill_climbing import Words
from promptgym.errors import ConfigError
from promptgym.problem import Problem
from promptgym.prompts import Prompt
from promptgym.ranges import COUNT, FINITE, NOT_NEGATIVE, Range, check_choices, check_ranges
from promptgym.search.driver import Search, SearchMethod
from promptgym.types import FloatArray, IntArray

Estimator = Literal["score", "published"]
Candidates = Literal["vocabulary", "ngrams"]


@dataclass(frozen=True)
class BDPL(SearchMethod):
    """Draws prompts from independent categorical distributions and follows the policy gradient.

    Each step asks `samples` prompts and the likeliest one (which the paper evaluates).

    Attributes:
        objective: minus the loss (see `promptgym.baselines.asking`); "margin" is the paper's
            cross-entropy.
        length: places (n).
        candidates: what may stand at a place: words of the problem's "vocabulary", which is what
            every method here may write, or the paper's "ngrams" of the training inputs (`ngrams`).
        search_space: number of candidates (N): the most frequent n-grams, or random words; 0 takes
            all.
        samples: prompts drawn a step (I).
        learning_rate: of AdamW.
        weight_decay: of AdamW.
        clip: largest norm of the gradient.
        estimator: "score" takes the gradient of log p_ij: 1 / p_ij for the word drawn, 0 for the
            others. "published" takes -1 / p_ij for the others, as paper and code do.
    """

    name: ClassVar[str] = "bdpl"
    objective: Objective = "margin"
    length: int = 10
    candidates: Candidates = "vocabulary"
    search_space: int = 200
    samples: int = 20
    learning_rate: float = 1e-4
    weight_decay: float = 0.1
    clip: float = 3.0
    estimator: Estimator = "score"

    def __post_init__(self) -> None:
        """Refuse unknown options."""
        check_choices(self.name, self)
        numbers = {
            COUNT: ("length",),
            Range(2): ("samples",),
            NOT_NEGATIVE: ("search_space",),
            FINITE: ("learning_rate", "clip"),
            Range(0, below=True): ("weight_decay",),
        }
        check_ranges(self.name, self, numbers)

    def check(self, problem: Problem) -> None:
        """Refuse training inputs without a single n-gram, too."""
        super().check(problem)
        if self.candidates == "ngrams" and not ngrams([e.input for e in problem.task.train]):
            raise ConfigError(
                f"bdpl: candidates='ngrams' finds none of at most 3 words in the "
                f"{len(problem.task.train)} training inputs of task {problem.task.name!r}; give "
                "more of them, or candidates='vocabulary'"
            )

    def search(self, problem: Problem, rng: np.random.Generator) -> Search:
        """Learn until the budget ends, or the distribution draws nothing new."""
        memory, words = Memory(problem, self.objective), self._words(problem, rng)
        p = np.full((self.length, len(words)), 1 / len(words))
        optimizer = AdamW(self.learning_rate, self.weight_decay)
        while not memory.exhausted:
            drawn = sample(p, self.samples, rng)
            asked = [_prompt(problem, words, row) for row in (*drawn, p.argmax(axis=1))]
            values = yield from memory.values(asked)
            losses = -values[:-1]
            known = np.isfinite(losses)
            if known.sum() > 1:
                peer = self.estimator == "published"
                gradient = policy_gradient(p, drawn[known], losses[known], published=peer)
                norm = float(np.linalg.norm(gradient))
                p = optimizer.step(p, gradient * min(1.0, self.clip / (norm + 1e-6)))
                p = project(p)

    def _words(self, problem: Problem, rng: np.random.Generator) -> Words:
        """Return the candidates."""
        if self.candidates == "ngrams":
            found = ngrams([e.input for e in problem.task.train])
            return found[: self.search_space or None]
        words = problem.vocabulary
        if not 0 < self.search_space < len(words):
            return words
        chosen = np.sort(rng.choice(len(words), size=self.search_space, replace=False))
        return tuple(words[i] for i in chosen)


def _prompt(problem: Problem, words: Words, row: IntArray) -> Prompt:
    """Return the prompt of one draw."""
    return problem.initial_prompt.with_words([words[i] for i in row.tolist()])


def sample(p: FloatArray, n: int, rng: np.random.Generator) -> IntArray:
    """Draw a word for each place, `n` times, shape (n, length), by inverting the cumulative sums.

    Args:
        p: probabilities, shape (length, N), rows that add up to 1.
        n: how often.
        rng: chance.
    """
    cumulative = p.cumsum(axis=1)
    goal = rng.random((n, len(p), 1)) * cumulative[None, :, -1:]
    index = (cumulative[None] <= goal).sum(axis=2)
    last = p.shape[1] - 1 - (p[:, ::-1] > 0).argmax(axis=1)
    return np.asarray(np.minimum(index, last))


def policy_gradient(
    p: FloatArray, drawn: IntArray, losses: FloatArray, *, published: bool = False
) -> FloatArray:
    """Return the variance-reduced policy gradient (eq. 7), shape (length, N).

    1 / (I - 1) * sum over the I draws of (L - mean L) * d log P / dp.

    Args:
        p: probabilities, shape (length, N).
        drawn: words drawn, shape (I, length).
        losses: of the draws, shape (I,).
        published: whether entries that were not drawn count as -1 / p, not as 0.
    """
    advantage = (losses - losses.mean()) / (len(losses) - 1)
    hit = np.zeros_like(p)
    for place in range(len(p)):
        np.add.at(hit[place], drawn[:, place], advantage)
    if published:
        hit = 2 * hit - advantage.sum()
    return np.asarray(np.divide(hit, p, out=np.zeros_like(p), where=p > 1e-12))


def project(p: FloatArray) -> FloatArray:
    """Return the nearest distributions to rows, shape kept (Duchi et al., ICML 2008, algorithm 1).

    The published code finds the same shift by bisection.
    """
    ordered = -np.sort(-p, axis=1)
    excess = ordered.cumsum(axis=1) - 1
    counts = np.arange(1, p.shape[1] + 1)
    support = (ordered - excess / counts > 0).sum(axis=1)
    shift = excess[np.arange(len(p)), support - 1] / support
    return np.asarray(np.maximum(p - shift[:, None], 0.0))


class AdamW:
    """Adam with decoupled weight decay (Loshchilov & Hutter, ICLR 2019); betas 0.9 and 0.999."""

    def __init__(self, learning_rate: float, weight_decay: float) -> None:
        """Begin at step 0."""
        self.learning_rate, self.weight_decay = learning_rate, weight_decay
        self.first = self.second = np.zeros(())
        self.steps = 0

    def step(self, values: FloatArray, gradient: FloatArray) -> FloatArray:
        """Return the values after one step down the gradient."""
        self.steps += 1
        first = self.first = 0.9 * self.first + 0.1 * gradient
        second = self.second = 0.999 * self.second + 0.001 * gradient**2
        scale = np.sqrt(second / (1 - 0.999**self.steps)) + 1e-8
        move = first / (1 - 0.9**self.steps) / scale
        return np.asarray(values - self.learning_rate * (move + self.weight_decay * values))


def ngrams(texts: list[str], longest: int = 3) -> Words:
    """Return the n-grams of texts, most frequent first: the paper's candidates (section 3.3).

    A text is cut between two words wherever their pointwise mutual information is negative; the
    pieces of at most `longest` words are the candidates.
    """
    sentences = [text.split() for text in texts]
    words = Counter(w for sentence in sentences for w in sentence)
    pairs = Counter(pair for s in sentences for pair in pairwise(s))
    total = pairs.total()
    pieces: Counter[str] = Counter()
    for sentence in sentences:
        piece: list[str] = []
        for at, word in enumerate(sentence):
            before = sentence[at - 1] if at else ""
            if at and total * pairs[before, word] < words[before] * words[word]:
                pieces[" ".join(piece)] += len(piece) <= longest
                piece = []
            piece.append(word)
        pieces[" ".join(piece)] += bool(piece) and len(piece) <= longest
    return tuple(piece for piece, n in pieces.most_common() if n)
