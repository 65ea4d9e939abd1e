"""ClaPS: a search on the few words of a vocabulary that move the target model's answers.

Source: Zhou et al., "Survival of the Most Influential Prompts: Efficient Black-Box Prompt Search
via Clustering and Pruning" (Findings of EMNLP 2023), and its published code: K-means on the
embeddings of the vocabulary, 2,000 clusters; of each the word nearest to the centre; of those the
tenth kept that earns most as a prompt of one word; a search on what is left, by default a genetic
algorithm (`promptgym.baselines.claps_searches`).

Two things are as the paper means them and not as its code has them: cross-entropy is that of the
label probabilities (the code takes the softmax of those once more), and children are mixed of two
parents (`crossover`). A vocabulary here has words, where the paper's has those tokens that begin
one; one of up to `clusters` words is not clustered at all, each word stands for itself.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Generator, Sequence
from dataclasses import dataclass, field
from importlib import import_module
from typing import Any, ClassVar, Literal

import numpy as np

from promptgym.arguments import check_arguments, hints
from promptgym.baselines import BASELINES
from promptgym.baselines.asking import Memory, Objective
from promptgym.baselines.clustering import representatives
from promptgym.baselines.hill_climbing import Words
from promptgym.errors import ConfigError
from promptgym.llms.embeddings import has_embeddings, word_embeddings
from promptgym.problem import Problem
from promptgym.prompts import Example
from promptgym.ranges import COUNT, Range, check_choices, check_ranges
from promptgym.scoring import Scores
from promptgym.search.driver import Answer, Ask, Note, Search, SearchMethod
from promptgym.types import JSON, FloatArray

Influence = Literal["reward", "kl"]
Representatives = Literal["kmeans", "random"]
Pruning = Generator[Any, Any, Words]

OWN = {
    "claps_genetic": "promptgym.baselines.claps_searches:ClapsGenetic",
    "claps_greedy": "promptgym.baselines.claps_searches:ClapsGreedy",
}
"""The paper's searches."""
SHARED = (
    "bdpl",
    "coordinate_ascent",
    "evoprompt_de",
    "evoprompt_ga",
    "genetic",
    "harmony_search",
    "hill_climbing",
    "random_edits",
    "random_tokens",
    "simulated_annealing",
    "tabu",
)
"""Baselines that write words of the problem's vocabulary."""
ELSEWHERE = {"edits": "phrases", "generator": "model", "candidates": "ngrams"}
"""Their options with which they take words from elsewhere."""


@dataclass(frozen=True)
class ClaPS(SearchMethod):
    """Prunes the vocabulary, then hands it to a search.

    Pruning asks the prompt without words and one prompt for each representative; all of it is
    charged, and is the first part of the run. `Result.stats` has the words kept.

    Attributes:
        objective: what a word earns (see `promptgym.baselines.asking`); "margin" is the paper's
            cross-entropy.
        clusters: words that are asked by themselves, at most.
        representatives: "kmeans": those nearest to the centres of clusters of the target model's
            input embeddings, which must be a model of transformers, loaded here. "random": random
            ones, of any model.
        influence: "reward": what a word earns more than no word. "kl": how far it moves the label
            probabilities, KL(with the word || without), summed over the examples.
        keep: share of the words asked that are kept; one at least.
        examples: training examples that words are asked about, at most, drawn at random.
        method: the search that follows: "claps_genetic", "claps_greedy", or a baseline that writes
            words of the vocabulary.
        method_options: its options.
        batch: words asked at a time (a matter of speed only).
    """

    name: ClassVar[str] = "claps"
    objective: Objective = "margin"
    clusters: int = 2000
    representatives: Representatives = "kmeans"
    influence: Influence = "reward"
    keep: float = 0.1
    examples: int = 2000
    method: str = "claps_genetic"
    method_options: JSON = field(default_factory=dict)
    batch: int = 64

    def __post_init__(self) -> None:
        """Refuse unknown options, also those of the search."""
        check_choices(self.name, self)
        counts = ("clusters", "examples", "batch")
        check_ranges(self.name, self, {COUNT: counts, Range(0, 1, above=True): ("keep",)})
        self.build()

    def build(self) -> SearchMethod:
        """Return the search that follows.

        Raises:
            ConfigError: if it is unknown, takes no word of the vocabulary, or has not such options.
        """
        known = {**OWN, **{name: BASELINES[name] for name in SHARED}}
        if self.method not in known:
            raise ConfigError(
                f"{self.name}: method must be a search that writes words of the vocabulary, "
                f"{', '.join(known)}; got {self.method!r}"
            )
        module, _, attribute = known[self.method].partition(":")
        built: Any = getattr(import_module(module), attribute)
        who = f"{self.name}: method {self.method}"
        check_arguments(who, hints(built), self.method_options, ConfigError, what="setting")
        for option, value in ELSEWHERE.items():
            if self.method_options.get(option) == value:
                raise ConfigError(
                    f"{who} with {option}={value!r} takes no word of the vocabulary that is pruned "
                    "for it; leave that option out"
                )
        method: SearchMethod = built(**self.method_options)
        if method.proposes:
            raise ConfigError(f"{who} has its words from a proposer, not from the vocabulary")
        return method

    def check(self, problem: Problem) -> None:
        """Refuse a model whose words cannot be clustered, and what the search refuses."""
        super().check(problem)
        self.build().check(problem)
        if self._clusters(problem) and not has_embeddings(problem.model):
            raise ConfigError(
                f"{self.name}: {problem.model.name} shows no embeddings by which its "
                f"{len(problem.vocabulary):,} words could be clustered (only models of "
                "transformers that are loaded here do); use representatives='random', or clusters "
                "as many as there are words"
            )
        if self.influence == "kl" and problem.task.labels is None:
            raise ConfigError(
                f"{self.name}: influence='kl' compares label probabilities, and task "
                f"{problem.task.name!r} is answered by generation; use influence='reward'"
            )

    def search(self, problem: Problem, rng: np.random.Generator) -> Search:
        """Prune, then search."""
        words = yield from self.prune(problem, rng)
        narrow = copy.copy(problem)
        narrow.vocabulary = words
        yield from self.build().search(narrow, rng)

    def prune(self, problem: Problem, rng: np.random.Generator) -> Pruning:
        """Ask each representative and return those with the largest influence."""
        words, examples = self._chosen(problem, rng), self._examples(problem, rng)
        needed = (1 + len(words)) * len(examples or problem.task.train)
        self._warn(problem, needed)
        start, memory = problem.initial_prompt, Memory(problem, self.objective)
        without: Answer = yield Ask([start.with_words(())], examples)
        base = memory.read(without)[0]
        influence: list[float] = []
        for first in range(0, len(words), self.batch):
            asked = [start.with_words((word,)) for word in words[first : first + self.batch]]
            answer: Answer = yield Ask(asked, examples)
            if self.influence == "kl":
                influence += divergences(answer.scores, without.scores).tolist()
            else:
                influence += (memory.read(answer) - (base if np.isfinite(base) else 0.0)).tolist()
        best = np.argsort(-np.array(influence), kind="stable")[: math.ceil(self.keep * len(words))]
        kept = tuple(words[i] for i in np.sort(best).tolist())
        yield Note({"asked_words": len(words), "kept_words": list(kept)})
        return kept

    def _clusters(self, problem: Problem) -> bool:
        """Whether words have to be clustered."""
        return self.representatives == "kmeans" and self.clusters < len(problem.vocabulary)

    def _chosen(self, problem: Problem, rng: np.random.Generator) -> Words:
        """Return the words that are asked, in the vocabulary's order."""
        words = problem.vocabulary
        if self.clusters >= len(words):
            return words
        rows = word_embeddings(problem.model, words) if self._clusters(problem) else None
        if rows is None:
            index = np.sort(rng.choice(len(words), size=self.clusters, replace=False))
        else:
            index = representatives(rows, self.clusters, rng)
        return tuple(words[i] for i in index.tolist())

    def _examples(self, problem: Problem, rng: np.random.Generator) -> Sequence[Example] | None:
        """Return the training examples to ask about; None for all of them."""
        train = problem.task.train
        if self.examples >= len(train):
            return None
        index = np.sort(rng.choice(len(train), size=self.examples, replace=False))
        return [train[i] for i in index.tolist()]

    def _warn(self, problem: Problem, needed: int) -> None:
        """Say so where nothing will be left for the search."""
        left = problem.ledger.queries_left
        if left is not None and needed >= left:
            problem.events.emit(
                "warning",
                message=f"{self.name}: pruning alone takes {needed:,} queries, of {left:,} that "
                "are left, and leaves none for the search; take fewer clusters or examples",
            )


def divergences(scores: Scores, without: Scores) -> FloatArray:
    """Return the influence of P prompts by KL(with || without), nats summed over examples, (P,).

    An example that failed on either side is left out; -inf where none is left.

    Args:
        scores: of the prompts.
        without: of the one prompt without words, on the same examples.
    """
    p, q = scores.label_probabilities, without.label_probabilities
    tiny = np.finfo(np.float64).tiny
    each = (p * (np.log(np.maximum(p, tiny)) - np.log(np.maximum(q, tiny)))).sum(axis=-1)
    known = ~np.isnan(each)
    return np.where(known.any(axis=1), np.where(known, each, 0.0).sum(axis=1), -np.inf)
