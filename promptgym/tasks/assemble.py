"""From tables to a `Task`: labels, repeated rows, splits, few shots."""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import chain

from promptgym.errors import TaskError
from promptgym.tasks.definition import Definition
from promptgym.tasks.labels import (
    LabelsSpec,
    VerbalizersSpec,
    checked_metric,
    distinct_labels,
    given_labels,
    given_verbalizers,
    labels_from_data,
    metric_name,
    named_labels,
    suits_labels,
    targets_of,
)
from promptgym.tasks.metrics import METRICS, Metric, PerExample, get_metric, last_number
from promptgym.tasks.rows import LabelMap, Sourced, Table, find_column, to_examples
from promptgym.tasks.sampling import k_shots, split_off, subsample
from promptgym.tasks.sources import Source, read_tables
from promptgym.tasks.splits import SPLITS, labels_without_examples, resolve_duplicates
from promptgym.tasks.task import Task

HELD_OUT = 0.2
"""Share drawn for dev (and, from a single file, for test) where the source has none."""

Splits = dict[str, Sequence[Sourced]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """What the caller of `load_task` wants made of the rows; see there."""

    labels: LabelsSpec = "auto"
    verbalizers: VerbalizersSpec = None
    metric: str | Metric | PerExample | None = None
    dev: float | int | None = None
    test: float | int | None = None
    k_shot: int | None = None
    sizes: dict[str, int] = field(default_factory=dict)
    pool: int = 0
    seed: int = 0
    duplicates: str | None = None
    name: str = ""


def assemble(definition: Definition, source: Source, plan: Plan) -> Task:
    """Read the rows and build the task.

    Raises:
        TaskError: see `load_task`.
    """
    tables, raw = read_tables(definition, source)
    if plan.k_shot is not None:
        if plan.dev is not None or "dev" in (source.files or {}):
            raise TaskError("k_shot draws dev from train; leave dev= out")
        tables.pop("dev", None)
    for split, part in (("dev", plan.dev), ("test", plan.test)):
        if part is not None:
            tables.pop(split, None)
    first = tables.get("train") or tables["all"]
    labels, decided = _labels(definition, plan, first, raw)
    metric = checked_metric(plan.metric or definition.metric, labels)
    read: Splits = {split: _examples(definition, table, labels) for split, table in tables.items()}
    if metric_name(metric) == METRICS["numeric_match"].name:
        _refuse_without_number(read)
    from_hub = source.path is None and not source.files
    mode = plan.duplicates or ("drop" if from_hub or definition.known_duplicates else "error")
    single = "all" in read
    if single:
        read = {"train": read["all"]}
    kept, dropped = resolve_duplicates(read, mode, plan.name)
    try:
        splits = divide(kept, plan, single, labels is not None)
    except TaskError as error:
        raise TaskError(f"task {plan.name!r}: {error}") from None
    words = _verbalizers(definition, plan, labels)
    examples = {s: tuple(item.example for item in items) for s, items in splits.items()}
    task = Task(
        name=plan.name,
        description=definition.description,
        template=definition.template,
        masked_template=definition.masked_template,
        labels=labels.labels if labels else None,
        verbalizers=words,
        metric=get_metric(metric),
        manual_prompts=definition.manual_prompts,
        max_new_tokens=definition.max_new_tokens,
        stop=definition.stop,
        train=examples["train"],
        dev=examples.get("dev", ()),
        test_split=examples.get("test", ()),
        pool=examples.get("pool", ()),
        dropped=dropped,
        decided=f"{first.source}: {decided}" if decided else "",
    )
    _warn_of_unseen(task)
    return task


def _warn_of_unseen(task: Task) -> None:
    """Warn if more than a third of the labels have no training example: other data were meant."""
    unseen = labels_without_examples(task)
    if len(unseen) > len(task.labels or ()) / 3:
        warnings.warn(
            f"task {task.name!r}: no training example has the label "
            f"{' or '.join(map(repr, unseen))}, of {len(task.labels or ())} labels; are these its "
            "data? Other labels can be given: labels=[...]",
            stacklevel=2,
        )


def _labels(
    definition: Definition, plan: Plan, table: Table, raw: dict[str, str]
) -> tuple[LabelMap | None, str]:
    """Return the labels and, where it was found out, what was decided about them.

    They are the caller's, else the definition's, else what the data suggest.
    """
    if plan.labels is None:
        return None, ""
    if isinstance(plan.labels, str):
        fixed = definition.labels if plan.labels == "auto" else "auto"
        if fixed is None:
            return None, ""
        column = find_column(table, definition.target, "target")
        names = table.class_names.get(column, ())
        if fixed != "auto":
            # A copy that numbers the same classes in another order is taken at its own word.
            same = set(names) == set(fixed)
            return LabelMap(fixed, named_labels(names).raw if same else raw), ""
        return _found_labels(plan, table, column)
    names = table.class_names.get(find_column(table, definition.target, "target"), ())
    return given_labels(plan.labels, names), ""


def _found_labels(plan: Plan, table: Table, column: str) -> tuple[LabelMap | None, str]:
    """Return the labels that the data or the verbalizers' own names give."""
    if plan.labels == "data":
        if column in table.class_names:
            return named_labels(table.class_names[column]), ""
        return distinct_labels(targets_of(table, column)), ""
    if isinstance(plan.verbalizers, Mapping) and column not in table.class_names:
        keys = list(map(str, plan.verbalizers))
        found = distinct_labels(targets_of(table, column))
        return (found if set(keys) <= set(found.labels) else LabelMap(tuple(keys))), ""
    if suits_labels(plan.metric):
        return labels_from_data(table, column)
    name = metric_name(plan.metric)
    return None, f"free answers, since the metric {name!r} was given; labels='data' makes labels"


def _verbalizers(definition: Definition, plan: Plan, labels: LabelMap | None) -> dict[str, str]:
    """Return label -> word; {} lets `Task` use the labels themselves."""
    if labels is None:
        if plan.verbalizers is not None:
            raise TaskError("verbalizers are given, but the task has no labels; give labels=[...]")
        return {}
    words = given_verbalizers(plan.verbalizers, labels)
    if not words and labels.labels == definition.labels:
        words = dict(definition.verbalizers)
    return words


def _examples(definition: Definition, table: Table, labels: LabelMap | None) -> list[Sourced]:
    """Return a table's examples."""
    return to_examples(
        table,
        input_column=find_column(table, definition.input, "input"),
        target_column=find_column(table, definition.target, "target"),
        labels=labels,
        clean=definition.clean,
        alternatives=definition.alternatives,
    )


def _refuse_without_number(read: Splits) -> None:
    """Refuse targets that `numeric_match` could not be paid against."""
    for item in chain.from_iterable(read.values()):
        if last_number(item.example.target) is None:
            raise TaskError(
                f"{item.where}: the target {item.example.target!r} holds no number, which metric "
                "'numeric_match' needs"
            )


def divide(read: dict[str, list[Sourced]], plan: Plan, single: bool, labelled: bool) -> Splits:
    """Draw test, dev, pool and few shots from train, in this order; then cut to size.

    Args:
        read: split -> its examples.
        plan: what to draw.
        single: whether they came as one table, of which test is a part, too.
        labelled: whether targets are labels, by which draws are stratified.

    Raises:
        TaskError: there are too few examples.
    """
    check_sizes(plan.sizes)

    def classes(items: Sequence[Sourced]) -> list[str]:
        return [item.example.target if labelled else "" for item in items]

    out: Splits = dict(read)

    def draw(split: str, part: float | int) -> None:
        if part:
            items = out["train"]
            try:
                out["train"], out[split] = split_off(items, classes(items), part, plan.seed)
            except TaskError as error:
                raise TaskError(f"{split}: {error}; {split}=0 takes none") from None

    if "test" not in out:
        share = HELD_OUT if single else 0
        draw("test", share if plan.test is None else plan.test)
    if "dev" not in out and plan.k_shot is None:
        # Of a divided file, dev is that share of the whole, not of what test left of it.
        share = HELD_OUT / (1 - HELD_OUT) if single and plan.test is None else HELD_OUT
        draw("dev", share if plan.dev is None else plan.dev)
    draw("pool", plan.pool)
    if plan.k_shot is not None:
        train = out["train"]
        out["train"], out["dev"] = k_shots(train, classes(train), plan.k_shot, plan.seed)
    for split, size in plan.sizes.items():
        items = out.get(split, ())
        if size > len(items):
            raise TaskError(
                f"sizes: {size} {split} examples were asked for, there are {len(items)}"
            )
        out[split] = subsample(items, classes(items), size, plan.seed) if size else ()
    return out


def check_sizes(sizes: Mapping[str, int]) -> None:
    """Refuse sizes of splits that there are not, or that leave nothing to train on.

    Raises:
        TaskError: naming what was given.
    """
    if set(sizes) - set(SPLITS):
        raise TaskError(f"sizes: expected some of {list(SPLITS)}, got {sorted(sizes)}")
    for split, size in sizes.items():
        least = 1 if split == "train" else 0
        if size < least:
            raise TaskError(f"sizes: {split} must be at least {least}, got {size}")
