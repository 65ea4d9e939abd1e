"""What a run would cost: its own loop, run against a stand-in that answers at once.

The method, its budget, the scorer and the model's own count of tokens are the real ones; only the
answers are made up. So the counts come of the loop itself and not of a formula beside it. A method
that reacts to its scores may ask somewhat more or less of the real model.
"""

from __future__ import annotations

import time
import zlib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from promptgym.errors import ConfigError, ModelError, TaskError
from promptgym.evaluation.evaluate import PromptLike, evaluate
from promptgym.evaluation.experiment import Experiment
from promptgym.evaluation.robustness import Variants, template_for
from promptgym.llms import Completion, Kind, LabelLogprobs, LanguageModel, Sampling
from promptgym.problem import Problem, the_model, the_task
from promptgym.prompts import Prompt, Template
from promptgym.scoring import Budget, Ledger
from promptgym.scoring.asking import label_cost
from promptgym.tasks import Task
from promptgym.types import JSON, FloatArray, IntArray

KINDS = ("queries", "calls", "tokens")


class _Enough(Exception):
    """The time for the projection is over."""


@dataclass
class _Usage:
    """What the stand-in would have been paid."""

    known_usd: float = 0.0
    unpriced: int = 0


class StandIn:
    """Answers in place of a model: numbers that depend on the text alone, and no tokens spent.

    Attributes:
        calls: how often it was asked.
        usage: what the model's prices make of the tokens.
    """

    def __init__(self, model: LanguageModel, seconds: float) -> None:
        """Stand before a model; refuse to answer once so many seconds are over (but once)."""
        self._behind = model
        self.name: str = model.name
        self.kind: Kind = model.kind
        self.mask_token: str = model.mask_token
        self.usage = _Usage()
        self.calls = 0
        self._until = time.monotonic() + seconds

    def __getattr__(self, name: str) -> Any:
        """Lend whatever else the model has, such as its tokenizer."""
        if name in ("_behind", "remote"):
            raise AttributeError(name)
        return getattr(self._behind, name)

    def check_labels(self, labels: Sequence[str]) -> None:
        """Refuse what the model refuses."""
        self._behind.check_labels(labels)

    def count_tokens(self, texts: Sequence[str]) -> IntArray:
        """Count as the model does."""
        return self._behind.count_tokens(texts)

    def label_logprobs(self, texts: Sequence[str], labels: Sequence[str]) -> LabelLogprobs:
        """Make up log-probabilities."""
        read, written = label_cost(self._behind, texts, labels)
        self._pay(int(read.sum()), int(written.sum()))
        rates = np.array([[_share(f"{text}\0{label}") for label in labels] for text in texts])
        return LabelLogprobs(np.log(rates).reshape(len(texts), len(labels)), read + written)

    def loglikelihood(self, contexts: Sequence[str], continuations: Sequence[str]) -> FloatArray:
        """Make up log-probabilities."""
        return np.log([_share(c + x) for c, x in zip(contexts, continuations, strict=True)])

    def generate(self, texts: Sequence[str], sampling: Sampling) -> list[Completion]:
        """Make up completions, each as long as it may be."""
        written = sampling.max_new_tokens
        self._pay(int(self.count_tokens(texts).sum()), written * len(texts))
        return [Completion(f"answer {_share(text):.3f}", written) for text in texts]

    def _pay(self, read: int, written: int) -> None:
        """Count what a call would cost.

        Raises:
            _Enough: if the time is over.
        """
        if self.calls and time.monotonic() > self._until:
            raise _Enough
        self.calls += 1
        options = getattr(self._behind, "options", None)
        prices = [getattr(options, name, None) for name in ("price_in", "price_out")]
        if prices[0] is None or (written and prices[1] is None):
            self.usage.unpriced += 1
        else:
            self.usage.known_usd += (read * prices[0] + written * (prices[1] or 0.0)) / 1e6


def _share(text: str) -> float:
    """Return a number in (0, 1) that depends on a text."""
    return (zlib.crc32(text.encode("utf-8", "surrogatepass")) + 1) / (2**32 + 1)


def project(experiment: Experiment, seconds: float = 30.0) -> JSON:
    """Return what an experiment would cost, without asking its model.

    Args:
        experiment: the run.
        seconds: how long the loop may run; a longer one is extrapolated by its budget.

    Returns:
        `search`, `held_out` and `total`, each with queries, calls, tokens and usd (None: unknown);
        `measured`, the share of the budget that was run through, 1.0 for a whole run.

    Raises:
        ConfigError: for a budget of seconds only, or a method that asks a proposer.
    """
    budget = replace(Budget.of(experiment.budget), seconds=None)
    if budget == Budget() and experiment.budget:
        raise ConfigError(
            "a dry run knows no model's speed, so a budget of seconds alone cannot be projected; "
            "give queries, calls, tokens or usd as well"
        )
    optimizer = experiment.build()
    if getattr(optimizer, "proposes", False):
        raise ConfigError(
            f"a dry run asks no model, and what {experiment.method} does depends on what its "
            "proposer writes; cap the run instead (--budget, --budget-proposer-tokens)"
        )
    task, model = experiment.load()
    caps = {k: v for k, v in experiment.budget.items() if k != "seconds"}
    stand_in = StandIn(model, seconds)
    problem = replace(experiment, budget=caps).problem(task, stand_in, cache=False)
    best, share = problem.initial_prompt, 1.0
    voters: tuple[Prompt, ...] = ()
    try:
        result = optimizer.optimize(problem, experiment.seed)
        best = result.best.prompt
        voters = () if result.ensemble is None else result.ensemble.distinct
    except _Enough:
        share = problem.ledger.fraction
    search = _counts(problem.ledger, share)
    held_out = _held_out(problem, task, StandIn(model, float("inf")), best, voters)
    return {
        "method": experiment.method,
        "task": task.name,
        "model": model.name,
        "search": search,
        "held_out": held_out,
        "total": added(search, held_out),
        "measured": share,
    }


def project_evaluation(
    prompts: Sequence[PromptLike],
    task: str | Path | Task,
    model: str | LanguageModel,
    *,
    model_options: JSON | None = None,
    **options: Any,
) -> JSON:
    """Return what `evaluate` would cost: queries, calls, tokens and usd (None: unknown).

    Args:
        prompts: what would be evaluated.
        task: as `evaluate` takes it.
        model: as `evaluate` takes it.
        model_options: further arguments of `load_model`.
        options: further arguments of `evaluate`.
    """
    stand_in = StandIn(the_model(model, **(model_options or {})), float("inf"))
    spent = evaluate(prompts, task, stand_in, **{**options, "cache": False}).spent
    ledger = Ledger()
    ledger.charge(**{kind: spent[kind] for kind in KINDS})
    ledger.charge(usd=stand_in.usage.known_usd, unpriced=stand_in.usage.unpriced)
    return _counts(ledger)


def project_robustness(
    prompts: Sequence[PromptLike],
    task: str | Path | Task,
    model: str | LanguageModel,
    *,
    seed: int = 0,
    variants: int = 3,
    transfer: Sequence[str | LanguageModel] = (),
    template: Template | str | None = None,
    task_options: JSON | None = None,
    model_options: JSON | None = None,
    **options: Any,
) -> JSON:
    """Return what `measure_robustness` would cost: queries, calls, tokens and usd (None: unknown).

    The likelihoods that POSIX asks of a generating task depend on its answers and are not counted;
    nor is a model of `transfer` that cannot do the task.

    Args:
        prompts: what would be measured.
        task: as `measure_robustness` takes it, like everything else.
        model: see there.
        seed: see there.
        variants: see there.
        transfer: see there.
        template: see there.
        task_options: see there.
        model_options: see there.
        options: split, limit and cache.
    """
    task = the_task(task, **(task_options or {}))
    plans = [Variants.of(prompt, task, seed=seed, variants=variants) for prompt in prompts]
    everything = dict.fromkeys(p for plan in plans for p in plan.distinct)
    own = the_model(model, **(model_options or {}))
    total = project_evaluation([*everything], task, own, template=template, **options)
    asked = [*dict.fromkeys(plan.prompt for plan in plans)]
    for other in map(the_model, transfer):
        try:
            chosen = template_for(task, other, template)
            total = added(total, project_evaluation(asked, task, other, template=chosen, **options))
        except (ModelError, TaskError):
            continue
    return total


def added(one: JSON, other: JSON) -> JSON:
    """Return the sum of two projections."""
    money = one["usd"], other["usd"]
    counts: JSON = {kind: one[kind] + other[kind] for kind in KINDS}
    return {**counts, "usd": None if None in money else sum(money)}


def _counts(ledger: Ledger, share: float = 1.0) -> JSON:
    """Return what a ledger counted, as if `share` of it were the whole."""
    counts: JSON = {kind: round(getattr(ledger, kind) / share) for kind in KINDS}
    known = ledger.usd is not None and not ledger.unpriced
    return {**counts, "usd": (ledger.usd or 0.0) / share if known else None}


def _held_out(
    problem: Problem, task: Task, model: StandIn, best: Prompt, voters: Sequence[Prompt]
) -> JSON:
    """Return what the comparison at the end and the report cost.

    Three prompts, those of an ensemble, and on dev the best one without every word.
    """
    prompts = [Prompt(), task.manual_prompts[0], replace(best, instruction=f"{best.instruction} .")]
    prompts += voters
    words = best.words
    shorter = [best.with_words(words[:i] + words[i + 1 :]) for i in range(len(words))]
    ledger = Ledger()
    for split, asked in (("dev", [*prompts, *shorter]), ("test", prompts)):
        if getattr(task, split):
            spent = evaluate(
                asked, task, model, split=split, template=problem.template, cache=False
            ).spent
            ledger.charge(**{kind: spent[kind] for kind in KINDS})
    ledger.charge(usd=model.usage.known_usd, unpriced=model.usage.unpriced)
    return _counts(ledger)
