"""The measurements behind a task's landscape. `promptgym.evaluation.landscape` judges them."""

from __future__ import annotations

import zlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np

from promptgym.baselines.hill_climbing import HillClimbing, edit
from promptgym.baselines.random_tokens import random_prompt
from promptgym.errors import ConfigError, TaskError
from promptgym.evaluation.evaluate import examples_of
from promptgym.llms import LanguageModel, Sampling
from promptgym.problem import Problem
from promptgym.prompts import Prompt
from promptgym.rewards import Reward, make_reward
from promptgym.scoring import Scorer, Scores
from promptgym.search.driver import (
    Answer,
    Note,
    Propose,
    Question,
    Search,
    SearchMethod,
    drive,
)
from promptgym.tasks import Task
from promptgym.types import FloatArray

Progress = Callable[[str, int, int], None]
CHUNK = 64  # prompts scored between two reports of progress
SOLVED = 0.95
CHECK_EVERY = 200  # prompts of a climber between two looks at test
GAP_RANGE = 380.0  # RLPrompt's gap reward lies in [-180, 200]


@dataclass(frozen=True, slots=True)
class Known:
    """A prompt with its metric on dev and test."""

    prompt: Prompt
    dev: float
    test: float


@dataclass(frozen=True, slots=True)
class Edits:
    """What single random edits of the manual prompt do on the training split.

    Attributes:
        gap: change of the gap reward, shape (N,); None for a task without labels.
        accuracy: change of the mean metric, shape (N,).
    """

    gap: FloatArray | None
    accuracy: FloatArray


@dataclass(frozen=True, slots=True)
class Staircase:
    """Mean dev metric of prompts made of k helpful words, k = 0 ... n.

    Attributes:
        words: the helpful words: those of the best known prompt, then the best single ones.
        means: mean metric over random subsets of each size, shape (n + 1,).
        known: how many of the words are of the best known prompt; the others were ranked on one
            small split, so that some may help by chance.
    """

    words: tuple[str, ...]
    means: FloatArray
    known: int = 0


@dataclass(frozen=True, slots=True)
class Climb:
    """One run of the keep-the-best hill climber.

    Attributes:
        seed: its seed.
        curve: (prompts asked, test metric of the climber's best) at every look.
        asked: prompts asked in all.
        final: the prompt that its dev split chose.
    """

    seed: int
    curve: tuple[tuple[int, float], ...]
    asked: int
    final: Known


@dataclass(frozen=True, slots=True)
class Demonstrations:
    """What solved examples in front of the manual prompt do.

    Attributes:
        none: the manual prompt alone.
        best: with the demonstrations that are best on dev.
        worst: with those that are worst on dev.
        dev: dev metric of every set tried, shape (N,).
    """

    none: Known
    best: Known
    worst: Known
    dev: FloatArray


@dataclass
class Survey:
    """A task, a model and a scorer without caps; every measurement has chance of its own.

    Attributes:
        task: the task, test split open.
        model: the model.
        seed: of everything random.
        on_progress: called with (stage, done, total).
    """

    task: Task
    model: LanguageModel
    seed: int = 0
    on_progress: Progress | None = None
    problem: Problem = field(init=False)
    scorer: Scorer = field(init=False)

    def __post_init__(self) -> None:
        """Set the scorer up."""
        for split in ("train", "dev", "test"):
            examples_of(self.task, split)
        self.problem = Problem(self.task, self.model)
        self.scorer = Scorer(self.task, self.model, self.problem.template)

    @property
    def manual(self) -> Prompt:
        """The task's plain prompt."""
        return self.task.manual_prompts[0]

    def rng(self, stage: str) -> np.random.Generator:
        """Return the generator of one measurement, independent of the others."""
        return np.random.default_rng([self.seed, zlib.crc32(stage.encode())])

    def report(self, stage: str, done: int, total: int) -> None:
        """Say how far a measurement is."""
        if self.on_progress is not None:
            self.on_progress(stage, done, total)

    def measure(
        self, stage: str, prompts: Sequence[Prompt], split: str, *rewards: Reward
    ) -> list[FloatArray]:
        """Score prompts on a split in chunks; return the metric, then each reward, all (P,)."""
        examples = examples_of(self.task, split)
        parts: list[list[FloatArray]] = []
        for start in range(0, len(prompts), CHUNK):
            scores: Scores = self.scorer.score(prompts[start : start + CHUNK], examples)
            parts.append([scores.mean, *(reward(scores) for reward in rewards)])
            self.report(stage, min(start + CHUNK, len(prompts)), len(prompts))
        return [np.concatenate(column) for column in zip(*parts, strict=True)]

    def know(self, stage: str, prompts: Sequence[Prompt]) -> list[Known]:
        """Score prompts on dev and test."""
        (dev,), (test,) = (self.measure(stage, prompts, split) for split in ("dev", "test"))
        return [Known(p, float(d), float(t)) for p, d, t in zip(prompts, dev, test, strict=True)]

    def floors(self) -> tuple[Known, Known, list[Known]]:
        """Return the empty prompt, the manual one, and the task's reference prompts."""
        prompts = [Prompt(), self.manual, *self.task.reference_prompts]
        empty, manual, *references = self.know("known prompts", prompts)
        return empty, manual, references

    def random_prompts(self, n: int) -> tuple[FloatArray, Known]:
        """Return the dev metric of n uniformly random prompts of 1-8 words, and the best by dev."""
        stage = "random prompts"
        rng = self.rng(stage)
        prompts = [random_prompt(self.problem, rng, 1, 8) for _ in range(n)]
        (dev,) = self.measure(stage, prompts, "dev")
        return dev, self.know(stage, [prompts[int(np.nanargmax(dev))]])[0]

    def edits(self, n: int) -> Edits:
        """Return what n random single edits of the manual prompt change on the training split."""
        stage = "single edits"
        rng = self.rng(stage)
        words, vocabulary = self.manual.words, self.problem.vocabulary
        longest = len(words) + 1
        prompts = [
            self.manual.with_words(edit(words, vocabulary, rng, longest=longest)) for _ in range(n)
        ]
        rewards = [make_reward("gap")] if self.task.labels else []
        metric, *gap = self.measure(stage, [self.manual, *prompts], "train", *rewards)
        return Edits(gap[0][1:] - gap[0][0] if gap else None, metric[1:] - metric[0])

    def staircase(self, best: Prompt, words: int = 8, subsets: int = 30) -> Staircase:
        """Return the mean dev metric against the number of helpful words.

        Words of the best known prompt count as helpful; the others are those that alone, as the
        whole prompt, raise the margin (the metric, without labels) over that of the empty prompt,
        the largest gains first, on the training split.

        Args:
            best: the best known prompt.
            words: how many helpful words, at most.
            subsets: random subsets, in random order, a size.
        """
        vocabulary = self.problem.vocabulary
        single = [Prompt(), *(Prompt(word) for word in vocabulary)]
        values = self.measure("single words", single, "train", self._objective())[1]
        gains = values[1:] - values[0]
        ranked = [vocabulary[i] for i in np.argsort(-gains, kind="stable") if gains[i] > 0]
        helpful = list(dict.fromkeys([*best.words, *ranked]))[:words]
        rng = self.rng("staircase")
        sets = [
            [Prompt(" ".join(rng.permutation(helpful)[:size])) for _ in range(subsets)]
            for size in range(len(helpful) + 1)
        ]
        (metric,) = self.measure("staircase", [p for group in sets for p in group], "dev")
        means = metric.reshape(len(sets), subsets).mean(axis=1)
        return Staircase(tuple(helpful), means, len(set(best.words) & set(helpful)))

    def climb(self, seed: int, prompts: int) -> Climb:
        """Run one hill climber on the margin for so many prompts; stop early once it is solved.

        Looking at test is the evaluator's business: it ends a climb that has arrived, and cannot
        help it to get there.
        """
        stage = f"hill climber {seed}"
        curve: list[tuple[int, float]] = []

        def look(asked: int, best: Prompt) -> bool:
            value = self._test(best)
            curve.append((asked, value))
            self.report(stage, min(asked, prompts), prompts)
            return value >= SOLVED

        problem = Problem(self.task, self.model, reward=self._objective())
        result = drive(_Observed(HillClimbing(), prompts, look), problem, seed)
        self.report(stage, prompts, prompts)
        dev = result.best.dev
        final = Known(
            result.best.prompt, float("nan") if dev is None else dev, self._test(result.best.prompt)
        )
        return Climb(seed, tuple(curve), int(result.stats["prompts"]), final)

    def demonstrations(self, sets: int = 40, largest: int = 3) -> Demonstrations | None:
        """Put random sets of 1-3 pool examples before the manual prompt; None without a pool."""
        if not self.task.pool or not self.problem.template.has_demonstrations:
            return None
        stage = "demonstrations"
        rng = self.rng(stage)
        pool = self.task.pool
        prompts = []
        for _ in range(sets):
            size = int(rng.integers(1, min(largest, len(pool)) + 1))
            chosen = rng.choice(len(pool), size=size, replace=False)
            prompts.append(Prompt(self.manual.instruction, tuple(pool[i] for i in chosen)))
        (dev,) = self.measure(stage, prompts, "dev")
        best, worst = prompts[int(np.nanargmax(dev))], prompts[int(np.nanargmin(dev))]
        none, first, last = self.know(stage, [self.manual, best, worst])
        return Demonstrations(none, first, last, dev)

    def rewriter(
        self, writer: LanguageModel, template: str, samples: int = 16, draws: int = 5
    ) -> tuple[Known, ...]:
        """Return the best by dev of so many untrained rewrites of the manual prompt, each draw."""
        stage = "rewriter"
        request = template.format(prompt=self.manual.instruction)
        best = []
        for draw in range(draws):
            seed = self.seed + draw
            sampling = Sampling(16, temperature=1.0, stop=("<eos>", "\n"), seed=seed)
            written = writer.generate([request] * samples, sampling)
            texts = list(dict.fromkeys(c.text.strip() for c in written if c.error is None))
            if not texts:
                raise TaskError(
                    f"rewriter {writer.name!r} failed {samples} times: {written[0].error}"
                )
            prompts = [Prompt(text) for text in texts]
            (dev,) = self.measure(stage, prompts, "dev")
            best.append(prompts[int(np.nanargmax(dev))])
        return tuple(self.know(stage, best))

    def _objective(self) -> Reward:
        """Return what is climbed: the margin, or the metric of a task without labels."""
        return make_reward("margin" if self.task.labels else "accuracy")

    def _test(self, prompt: Prompt) -> float:
        """Return a prompt's metric on test."""
        return float(self.scorer.score([prompt], examples_of(self.task, "test")).mean[0])


def _going_on(search: Search, answer: Answer | None) -> Question | None:
    """Return what a method asks after an answer; None at its end."""
    try:
        return search.send(answer)
    except StopIteration:
        return None


@dataclass(frozen=True)
class _Observed(SearchMethod):
    """A search method that is watched from outside and ends after so many prompts.

    Attributes:
        inner: the method.
        prompts: how many it may ask, at least.
        look: called with (prompts asked, best by reward) about every `CHECK_EVERY` prompts and at
            the end; True ends the search.
    """

    inner: SearchMethod
    prompts: int
    look: Callable[[int, Prompt], bool]

    @property
    def name(self) -> str:  # type: ignore[override]  # that of the method inside
        """The name of the method inside."""
        return self.inner.name

    def search(self, problem: Problem, rng: np.random.Generator) -> Search:
        """Pass questions and answers on, until the method ends or has asked enough."""
        search = self.inner.search(problem, rng)
        ask: Question | None = next(search)
        best, top, asked, looked = problem.initial_prompt, -np.inf, 0, 0
        while ask is not None:
            if isinstance(ask, Propose):
                raise ConfigError(f"{self.name} asks a proposer; a survey has none")
            if isinstance(ask, Note):
                ask = _going_on(search, (yield ask))
                continue
            answer: Answer = yield ask
            rewards = np.where(np.isnan(answer.rewards), -np.inf, answer.rewards)
            row = int(rewards.argmax())
            if rewards[row] > top:
                best, top = answer.scores.prompts[row], float(rewards[row])
            asked += len(rewards)
            ask = _going_on(search, answer)
            over = asked >= self.prompts or ask is None
            if over or (asked + len(rewards)) // CHECK_EVERY > looked:
                looked += 1
                if self.look(asked, best) or over:
                    return
