"""PromptBoosting: AdaBoost over a pool of prompts, each read by verbalizers of its own.

Source: Hou et al., "PromptBoosting: Black-Box Text Classification with Ten Forward Passes" (ICML
2023), and its published code: a pool of 10 prompts, 200 weak learners at most;
each is a prompt of the pool (all of them in random order, again and again) with the verbalizer of
least weighted error; weights of learners and examples are those of SAMME, the multi-class AdaBoost
(Zhu et al., Statistics and Its Interface 2009); of the ensembles of the first 1, 2, ... learners
the best on dev is kept. Where a learner makes no error at all there is nothing to boost, and the
best single learner on dev is taken, as the paper does on SST-2 and MR.

What departs from the paper, and why:

- A verbalizer there names any word of the language model's vocabulary for a class, the best of
  20,000 combinations of screened words. Models here tell the probabilities of the task's label
  words only, so a verbalizer is a permutation of those: which of them stands for which class. So
  few need no screening; the permutation of least error is found exactly (an assignment problem).
- The pool there was written by T5 from the training examples (LM-BFF). Here it is the start prompt,
  the prompts that a person would write, and random words of the vocabulary, which all methods may
  write.
- The ensemble is a classifier, not a prompt, and takes a query of each of its prompts for every
  answer. It stands in `Result.ensemble` and has a line of its own in reports; `Result.best` is, as
  for all methods, the single prompt that is best on dev with the task's own verbalizers.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import ClassVar, Literal

import numpy as np
from scipy.optimize import linear_sum_assignment

from promptgym.baselines.random_tokens import random_prompt
from promptgym.errors import ConfigError
from promptgym.problem import Problem
from promptgym.prompts import Prompt
from promptgym.ranges import COUNT, FINITE, Range, check_choices, check_ranges
from promptgym.scoring import Scores
from promptgym.search.driver import Answer, Ask, Note, Search, SearchMethod
from promptgym.search.ensemble import Ensemble, paid, reading, vote
from promptgym.search.selection import dev_reserve
from promptgym.types import FloatArray, IntArray

Verbalizers = Literal["permuted", "task"]
Learner = tuple[Prompt, tuple[int, ...]]


@dataclass(frozen=True)
class PromptBoosting(SearchMethod):
    """Asks a pool of prompts once, then boosts without asking any more.

    Attributes:
        pool: prompts that are boosted.
        candidates: prompts that are asked on the training split; more than `pool` is the paper's
            refinement: the pool is then the best of them, by the error of their weak learners.
        learners: weak learners at most.
        verbalizers: "permuted": each learner takes the permutation of the label words with the
            least weighted error. "task": all take the task's own.
        learning_rate: factor on the weights of learners.
        length: words of a random prompt.
    """

    name: ClassVar[str] = "promptboosting"
    endless: ClassVar[bool] = False
    pool: int = 10
    candidates: int = 10
    learners: int = 200
    verbalizers: Verbalizers = "permuted"
    learning_rate: float = 1.0
    length: int = 5

    def __post_init__(self) -> None:
        """Refuse unknown options."""
        check_choices(self.name, self)
        check_ranges(
            self.name,
            self,
            {
                COUNT: ("pool", "learners", "length"),
                Range(self.pool): ("candidates",),
                FINITE: ("learning_rate",),
            },
        )

    def check(self, problem: Problem) -> None:
        """Refuse a task without labels, and a budget that the pool does not fit in."""
        super().check(problem)
        task, cap = problem.task, problem.ledger.budget.queries
        if task.labels is None:
            raise ConfigError(
                f"{self.name} boosts classifiers, and task {task.name!r} is answered by generation"
            )
        needed = self.candidates * len(task.train) + self.pool * len(task.dev)
        if cap is not None and cap - (reserve := dev_reserve(task, cap)) < needed:
            raise ConfigError(
                f"{self.name}: {self.candidates} prompts on train and {self.pool} on dev take "
                f"{needed:,} queries, and {reserve:,} of {cap:,} are set aside for choosing at the "
                "end; give a larger budget, or fewer candidates and a smaller pool"
            )

    def search(self, problem: Problem, rng: np.random.Generator) -> Search:
        """Ask the candidates on train, the pool on dev; boost."""
        answer: Answer = yield self._candidates(problem, rng)
        train = answer.scores
        weights = np.full(len(train.examples), 1 / len(train.examples))
        fits = [self.fit(train, prompt, weights) for prompt in train.prompts]
        errors = np.array([error for _, error, _ in fits])
        rows = np.argsort(errors, kind="stable")[: self.pool]
        pool = [train.prompts[i] for i in rows.tolist()]
        dev: Scores | None = None
        if problem.task.dev:
            told: Answer = yield Ask(pool, dev=True)
            dev = told.scores
        labels = problem.task.labels or ()
        if errors.min() > 0:
            members, votes = self.boost(train, pool, rng)
            size = _best_size(members, votes, train if dev is None else dev, labels)
        else:
            singles = [fits[i][0] for i in rows.tolist()]
            members, votes = [_best_single(singles, train if dev is None else dev, labels)], [1.0]
            size = 1
        ensemble = None
        if size:
            prompts, words = zip(*members[:size], strict=True)
            ensemble = Ensemble(prompts, tuple(votes[:size]), words)
            ensemble = replace(
                ensemble,
                train=_metric(ensemble.values(train, labels), train),
                dev=None if dev is None else _metric(ensemble.values(dev, labels), dev),
            )
        yield Note({"learners": len(members), "kept_learners": size}, ensemble)

    def _candidates(self, problem: Problem, rng: np.random.Generator) -> list[Prompt]:
        """Return the start prompt, the manual ones and random ones; fewer if there are no more."""
        found = dict.fromkeys([problem.initial_prompt, *problem.task.manual_prompts])
        for _ in range(100 * self.candidates):
            if len(found) >= self.candidates:
                break
            found[random_prompt(problem, rng, self.length, self.length)] = None
        return list(found)[: self.candidates]

    def fit(
        self, train: Scores, prompt: Prompt, weights: FloatArray
    ) -> tuple[Learner, float, IntArray]:
        """Return the weak learner of a prompt, its weighted error, and what it answers, (E,).

        With the verbalizers permuted, class c is read where the likeliest word is p(c). The error
        is least where the sum over c of the weight of the examples of class c with that likeliest
        word is largest: an assignment of words to classes.

        Args:
            train: with the prompt among its own.
            prompt: which.
            weights: of the examples, shape (E,), adding up to 1.
        """
        assert train.label_logprobs is not None and train.targets is not None
        classes = train.label_logprobs.shape[-1]
        own = tuple(range(classes))
        answers = reading(train, prompt, own)
        right = np.zeros((classes, classes + 1))
        np.add.at(right, (train.targets, answers), weights)
        words = own
        if self.verbalizers == "permuted":
            found = linear_sum_assignment(right[:, :classes], maximize=True)[1].tolist()
            if right[own, found].sum() > right[own, own].sum() + 1e-12:
                words = tuple(found)
                answers = reading(train, prompt, words)
        return (prompt, words), float(weights[answers != train.targets].sum()), answers

    def boost(
        self, train: Scores, pool: list[Prompt], rng: np.random.Generator
    ) -> tuple[list[Learner], list[float]]:
        """Return weak learners and their votes, by SAMME.

        A learner with weighted error e has log((1 - e) / e) + log(L - 1) votes, and the weight of
        the examples that it gets wrong grows by the exponential of that. One that is no better than
        chance (1 - 1 / L) has none.

        Args:
            train: scores of the pool, no learner of which is without error.
            pool: prompts.
            rng: chance, of their order.
        """
        assert train.label_logprobs is not None
        classes = train.label_logprobs.shape[-1]
        weights = np.full(len(train.examples), 1 / len(train.examples))
        members: list[Learner] = []
        votes: list[float] = []
        order: list[int] = []
        for _ in range(self.learners):
            order = order or rng.permutation(len(pool)).tolist()
            learner, error, answers = self.fit(train, pool[order.pop()], weights)
            if not 0 < error < 1 - 1 / classes - 1e-12:
                continue
            alpha = self.learning_rate * (math.log((1 - error) / error) + math.log(classes - 1))
            weights = weights * np.exp(alpha * (answers != train.targets))
            weights /= weights.sum()
            members.append(learner)
            votes.append(alpha)
        return members, votes


def _metric(values: FloatArray, scores: Scores) -> float:
    """Return the task's metric of per-example values."""
    return float(scores.metric.aggregate(values[None], [e.target for e in scores.examples])[0])


def _best_size(
    members: list[Learner], votes: list[float], scores: Scores, labels: tuple[str, ...]
) -> int:
    """Return how many of the first members vote best; as many as do, as the published code does."""
    if not members:
        return 0
    answers = np.stack([reading(scores, prompt, words) for prompt, words in members])
    together = vote(answers, votes, len(labels))
    found = [_metric(paid(row, scores, labels), scores) for row in together]
    return max(range(1, len(found) + 1), key=lambda n: (np.nan_to_num(found[n - 1], nan=-1.0), n))


def _best_single(learners: list[Learner], scores: Scores, labels: tuple[str, ...]) -> Learner:
    """Return the learner that does best by itself, the first of equals."""
    found = [_metric(paid(reading(scores, *one), scores, labels), scores) for one in learners]
    return learners[int(np.argmax(np.nan_to_num(found, nan=-1.0)))]
