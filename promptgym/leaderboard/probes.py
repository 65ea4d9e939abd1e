"""The robustness columns: how a chosen prompt is perturbed, and what a log may say came of it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Any, Literal

import numpy as np
from pydantic import Field, ValidationError

from promptgym.evaluation.robustness import KINDS, Variants, drop, measure_robustness
from promptgym.leaderboard.files import Refused
from promptgym.leaderboard.submission import Count, Fraction, Line, Name, Record
from promptgym.leaderboard.trust import is_own_model
from promptgym.llms.table import TableModel
from promptgym.problem import Problem
from promptgym.prompts import Prompt
from promptgym.tasks import Task
from promptgym.types import JSON, FloatArray

SEED, VARIANTS, EXAMPLES = 0, 3, 200
"""Of the variants; variants of each kind; of test, the first so many examples."""
NEAR = 1e-9
TIES = 0.011
"""Two answers of 200 may differ where the same prompt is asked in other company."""

Number = Fraction | None


class Variant(Record):
    """One variant of a prompt and its metric."""

    prompt: dict[str, Any]
    value: Number


class Drops(Record):
    """What one kind of perturbation does."""

    drop: Number
    worst: Number
    variants: Annotated[list[Variant], Field(max_length=VARIANTS)]


class Formatted(Record):
    """The metric of a prompt in one format."""

    format: dict[str, Any]
    value: Number


class Spread(Record):
    """What formats do."""

    spread: Number
    low: Number
    high: Number
    variants: Annotated[list[Formatted], Field(max_length=100)]


class Elsewhere(Record):
    """What another model does with a prompt."""

    value: Number
    drop: Number
    reason: Line | None = None


class Robustness(Record):
    """What `measure_robustness` says of one prompt."""

    prompt: dict[str, Any]
    seed: Literal[0]
    split: Literal["test"]
    examples: Count
    value: Number
    character: Drops | None
    word: Drops | None
    sentence: Drops | None
    semantic: Drops | None
    format: Spread | None
    posix: Number
    transfer: Annotated[dict[Name, Elsewhere], Field(max_length=20)]
    spent: dict[str, Any]


def probe(
    prompt: Prompt, task: Task, problem: Problem, transfer: Sequence[str] = ()
) -> JSON | None:
    """Return how a prompt fares when it is perturbed; None where it cannot be asked about.

    A prompt table answers for its own prompts only, and a task without test has nobody to ask.

    Args:
        prompt: that was chosen.
        task: with its test split open.
        problem: whose model and template are used.
        transfer: other models to ask.
    """
    if isinstance(problem.model, TableModel) or not task.test:
        return None
    (found,) = measure_robustness(
        [prompt],
        task,
        problem.model,
        template=problem.template,
        seed=SEED,
        variants=VARIANTS,
        transfer=transfer,
        limit=EXAMPLES,
        cache=False,
    )
    return found


def check_robustness(said: Any, chosen: Prompt, task: Task, on_test: FloatArray) -> list[str]:
    """Check what a log says of a prompt's robustness, but for asking the model.

    Args:
        said: the row of the log.
        chosen: the prompt that it should be about.
        task: with its test split open.
        on_test: its outcomes there by the log, shape (E,).

    Returns:
        The other models that were asked.

    Raises:
        Refused: for other variants than those of the prompt, numbers that do not follow from them,
            or a model that a check does not load.
    """
    try:
        found = Robustness.model_validate(said)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        where = ".".join(map(str, first["loc"]))
        raise Refused(f"robustness.{where}: {first['msg']}") from None
    plans = Variants.of(chosen, task, seed=SEED, variants=VARIANTS)
    if found.prompt != chosen.to_json() or found.examples != min(EXAMPLES, len(task.test)):
        raise Refused(
            f"robustness is of another prompt, or not on {min(EXAMPLES, len(task.test))} examples"
        )
    answers = [example.target for example in task.test[:EXAMPLES]]
    value = float(task.metric.aggregate(on_test[None, :EXAMPLES], answers)[0])
    if found.value is None or abs(found.value - value) > TIES:
        raise Refused(f"robustness.value is {found.value}, the answers on test give {value}")
    for kind in KINDS:
        own = [variant.to_json() for variant in plans.perturbed[kind]]
        _check_drops(kind, getattr(found, kind), own, found.value)
    _check_spread(found.format, [form.to_json() for form, _ in plans.formatted])
    for name, other in found.transfer.items():
        if not is_own_model(name):
            raise Refused(f"robustness: transfer to {name!r}, which is no model of the package")
        _same(f"transfer.{name}", other.drop, drop(other.value, found.value))
    return list(found.transfer)


def _check_drops(kind: str, said: Drops | None, own: list[JSON], original: Number) -> None:
    """Check one kind of perturbation."""
    if (said is None) != (not own) or [v.prompt for v in (said.variants if said else ())] != own:
        raise Refused(f"robustness.{kind}: its variants are not those of the prompt")
    if said is None:
        return
    known = [d for v in said.variants if (d := drop(v.value, original)) is not None]
    _same(f"{kind}.drop", said.drop, float(np.mean(known)) if known else None)
    _same(f"{kind}.worst", said.worst, max(known, default=None))


def _check_spread(said: Spread | None, own: list[JSON]) -> None:
    """Check the formats."""
    if (said is None) != (not own) or [v.format for v in (said.variants if said else ())] != own:
        raise Refused("robustness.format: its formats are not those of the prompt")
    if said is None:
        return
    known = [v.value for v in said.variants if v.value is not None]
    _same("format.low", said.low, min(known, default=None))
    _same("format.high", said.high, max(known, default=None))
    _same("format.spread", said.spread, max(known) - min(known) if known else None)


def _same(name: str, said: Number, found: Number) -> None:
    """Refuse a number that does not follow from the others."""
    if (said is None) != (found is None) or (
        said is not None and found is not None and abs(said - found) > NEAR
    ):
        raise Refused(f"robustness.{name} is {said}, its variants give {found}")
