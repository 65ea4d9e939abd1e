"""What a prompt's score is worth elsewhere: perturbed, formatted otherwise, on other models.

Four measures of one prompt, with the papers they are from: the drop under perturbations
(PromptBench, Zhu et al. 2023), the spread over formats (FormatSpread, Sclar et al. 2023), the
sensitivity of the model's own likelihoods (POSIX, Chatterjee et al. 2024), and transfer to models
that the prompt was not made for.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from promptgym.arguments import checked
from promptgym.errors import ConfigError, ModelError, TaskError
from promptgym.evaluation.evaluate import PromptLike, examples_of
from promptgym.evaluation.formats import Format, formats
from promptgym.evaluation.perturbations import KINDS, check_draws, perturbed
from promptgym.evaluation.sensitivity import generated_posix, label_lengths, label_posix
from promptgym.llms import LanguageModel
from promptgym.problem import choose_template, the_model, the_task
from promptgym.prompts import Example, Prompt, Template
from promptgym.scoring import Ledger, Scorer, Scores
from promptgym.scoring.store import CacheSpec, open_store
from promptgym.tasks import Task
from promptgym.types import JSON

__all__ = ["KINDS", "Variants", "formats", "kept", "measure_robustness", "perturbed"]


@dataclass(frozen=True, slots=True)
class Variants:
    """A prompt and all that it is compared with.

    Attributes:
        prompt: the prompt.
        perturbed: kind -> its variants; an empty list where there is nothing to change.
        formatted: formats, and the prompt in each.
    """

    prompt: Prompt
    perturbed: Mapping[str, list[Prompt]]
    formatted: list[tuple[Format, Prompt]]

    @classmethod
    def of(cls, prompt: PromptLike, task: Task, *, seed: int = 0, variants: int = 3) -> Variants:
        """Draw the variants of a prompt: the same ones whenever they are drawn.

        Raises:
            ConfigError: see `perturbed`.
        """
        prompt, keep = Prompt.of(prompt), kept(task)
        return cls(
            prompt,
            {
                kind: perturbed(prompt, kind, seed=seed, variants=variants, keep=keep)
                for kind in KINDS
            },
            [(f, f.apply(prompt, keep)) for f in formats(prompt, seed=seed, keep=keep)],
        )

    @property
    def same_intent(self) -> tuple[Prompt, ...]:
        """The prompt and its perturbed variants, each once: the N prompts of POSIX."""
        found = [self.prompt, *(v for kind in KINDS for v in self.perturbed[kind])]
        return tuple(dict.fromkeys(found))

    @property
    def distinct(self) -> tuple[Prompt, ...]:
        """Every prompt that is scored, each once."""
        return tuple(dict.fromkeys([*self.same_intent, *(p for _, p in self.formatted)]))


def kept(task: Task) -> tuple[str, ...]:
    """Return what no variant of a prompt changes: the labels of a task and the words for them."""
    labels = task.labels or ()
    return tuple(dict.fromkeys(text for name in labels for text in (name, task.words_for(name))))


@checked(ConfigError)
def measure_robustness(
    prompts: PromptLike | Sequence[PromptLike],
    task: str | Path | Task,
    model: str | LanguageModel,
    *,
    split: str = "test",
    template: Template | str | None = None,
    seed: int = 0,
    variants: int = 3,
    transfer: Sequence[str | LanguageModel] = (),
    limit: int | None = None,
    task_options: JSON | None = None,
    model_options: JSON | None = None,
    cache: CacheSpec = None,
) -> list[JSON]:
    """Measure how a prompt's score holds under changes that should not matter.

    All variants of all prompts are scored in one batch, equal ones once, in a ledger of their own;
    nothing is charged to any problem. What was not measured is None, never 0: a failed evaluation,
    a drop of a prompt whose metric is 0, a kind of perturbation with nothing to change.

    Args:
        prompts: one prompt or several.
        task: a task with its test split open, or what `load_task` takes.
        model: the target model, or what `load_model` takes.
        split: "test", "dev" or "train".
        template: instead of the task's own; also for transfer to models of the same kind.
        seed: of the variants (see `perturbed` and `formats`).
        variants: of each kind of perturbation.
        transfer: other target models, or what `load_model` takes.
        limit: score on the first examples only.
        task_options: further arguments of `load_task`.
        model_options: further arguments of `load_model` for `model`.
        cache: the cache that lasts, as `Problem` takes it.

    Returns:
        One dict a prompt, plain JSON:

        - `prompt`, `seed`, `split`, `examples`, and `value`, the metric of the prompt itself;
        - `character`, `word`, `sentence`, `semantic`: None if the kind has nothing to change,
          else `drop`, the mean over variants of PromptBench's performance drop rate
          `1 - M(variant) / M(prompt)`; `worst`, the largest; `variants`, each with `prompt` and
          `value`;
        - `format`: None for a prompt without words, else `spread` (FormatSpread: the largest metric
          minus the least), `low`, `high` and `variants`, each with `format` and `value`;
        - `posix`: the sensitivity index over the prompt and its perturbed variants, nats a token;
        - `transfer`: name of the model -> `value` and `drop`, `1 - M(other) / M(own)`; with
          `reason` if that model cannot do the task;
        - `spent`: the ledger of the whole measurement, all prompts together.

    Raises:
        TaskError: if the split is unknown, empty, or closed (the task of a `Problem`).
        ConfigError: for no prompts, fewer than one variant or example, a negative seed, or an
            argument of the wrong type.
        ModelError: an unknown model, or one that cannot do the task at all.
    """
    if isinstance(prompts, (Prompt, str, dict)):
        prompts = [prompts]
    if not prompts:
        raise ConfigError("there are no prompts to measure")
    if limit is not None and limit < 1:
        raise ConfigError(f"limit must be at least 1 or None, got {limit}")
    check_draws(variants=variants, seed=seed)
    task = the_task(task, **(task_options or {}))
    model = the_model(model, **(model_options or {}))
    others = {_name(other): the_model(other) for other in transfer}
    examples = examples_of(task, split)[:limit]
    asked = [Prompt.of(prompt) for prompt in prompts]
    distinct = dict.fromkeys(asked)
    plans = [Variants.of(prompt, task, seed=seed, variants=variants) for prompt in distinct]
    ledger = Ledger()
    scorer = _scorer(task, model, choose_template(task, model, template), ledger, cache)
    own = _Measured.of(scorer, [p for plan in plans for p in plan.distinct], examples)
    elsewhere = {
        name: _transferred([*distinct], task, other, template, examples, ledger, cache)
        for name, other in others.items()
    }
    about: JSON = {"seed": seed, "split": split, "examples": len(examples)}
    rows = {plan.prompt: _row(plan, about, own, elsewhere) for plan in plans}
    return [{**rows[prompt], "spent": ledger.snapshot()} for prompt in asked]


def template_for(task: Task, model: LanguageModel, template: Template | str | None) -> Template:
    """Return the template given if it is for a model's kind, else the task's own for that kind.

    Raises:
        TaskError: the task has none for this kind.
    """
    chosen = choose_template(task, model, template)
    fits = chosen.has_mask == (model.kind == "masked")
    return chosen if fits else choose_template(task, model, None)


def drop(value: float | None, original: float | None) -> float | None:
    """Return PromptBench's performance drop rate (Zhu et al. 2023).

    `1 - value / original`; None where one of them is unknown or the original is 0.
    """
    return None if value is None or not original else 1 - value / original


@dataclass(frozen=True)
class _Measured:
    """What a scorer found of many prompts."""

    scorer: Scorer
    scores: Scores
    row: Mapping[Prompt, int]
    means: Sequence[float]

    @classmethod
    def of(
        cls, scorer: Scorer, prompts: Sequence[Prompt], examples: Sequence[Example]
    ) -> _Measured:
        """Score every prompt once."""
        distinct = tuple(dict.fromkeys(prompts))
        scores = scorer.score(distinct, examples)
        return cls(scorer, scores, {p: i for i, p in enumerate(distinct)}, scores.mean.tolist())

    def value(self, prompt: Prompt) -> float | None:
        """Return a prompt's metric."""
        return finite(self.means[self.row[prompt]])

    def posix(self, prompts: Sequence[Prompt]) -> float | None:
        """Return the sensitivity index over prompts."""
        some = self.scores.select([self.row[p] for p in prompts])
        if some.label_logprobs is None:
            return finite(generated_posix(self.scorer, some))
        return finite(label_posix(some, label_lengths(self.scorer.model, self.scorer.words)))


def finite(value: float) -> float | None:
    """Return a number for JSON, which has no NaN and no infinity."""
    return value if math.isfinite(value) else None


def _name(model: str | LanguageModel) -> str:
    """Return how a model is called in the result: as it was given, else by its own name."""
    return model if isinstance(model, str) else model.name


def _scorer(
    task: Task, model: LanguageModel, template: Template, ledger: Ledger, cache: CacheSpec
) -> Scorer:
    """Return a scorer that goes on whatever fails: a failure is a None in the result."""
    store = open_store(cache, model)
    return Scorer(task, model, template, ledger=ledger, store=store, max_failures=1.0)


def _row(
    plan: Variants, about: JSON, own: _Measured, elsewhere: Mapping[str, Mapping[Prompt, JSON]]
) -> JSON:
    """Return what was found about one prompt."""
    value = own.value(plan.prompt)
    transfer = {name: found[plan.prompt] for name, found in elsewhere.items()}
    return {
        "prompt": plan.prompt.to_json(),
        **about,
        "value": value,
        **{kind: _drops(own, value, plan.perturbed[kind]) for kind in KINDS},
        "format": _spread(own, plan.formatted),
        "posix": own.posix(plan.same_intent),
        "transfer": {
            name: {**found, "drop": drop(found["value"], value)} for name, found in transfer.items()
        },
    }


def _drops(measured: _Measured, original: float | None, variants: Sequence[Prompt]) -> JSON | None:
    """Return what one kind of perturbation does to a prompt."""
    if not variants:
        return None
    values = [measured.value(variant) for variant in variants]
    known = [d for value in values if (d := drop(value, original)) is not None]
    return {
        "drop": float(np.mean(known)) if known else None,
        "worst": max(known, default=None),
        "variants": [
            {"prompt": variant.to_json(), "value": value}
            for variant, value in zip(variants, values, strict=True)
        ],
    }


def _spread(measured: _Measured, formatted: Sequence[tuple[Format, Prompt]]) -> JSON | None:
    """Return how far the metric lies apart over formats."""
    if not formatted:
        return None
    values = [measured.value(prompt) for _, prompt in formatted]
    known = [value for value in values if value is not None]
    return {
        "spread": max(known) - min(known) if known else None,
        "low": min(known, default=None),
        "high": max(known, default=None),
        "variants": [
            {"format": form.to_json(), "value": value}
            for (form, _), value in zip(formatted, values, strict=True)
        ],
    }


def _transferred(
    prompts: Sequence[Prompt],
    task: Task,
    model: LanguageModel,
    template: Template | str | None,
    examples: Sequence[Example],
    ledger: Ledger,
    cache: CacheSpec,
) -> dict[Prompt, JSON]:
    """Return the metric of the prompts on another model; None, with a reason, if it cannot."""
    try:
        chosen = template_for(task, model, template)
        found = _Measured.of(_scorer(task, model, chosen, ledger, cache), prompts, examples)
    except (ModelError, TaskError) as error:
        return {prompt: {"value": None, "reason": str(error)} for prompt in prompts}
    return {prompt: {"value": found.value(prompt)} for prompt in prompts}
