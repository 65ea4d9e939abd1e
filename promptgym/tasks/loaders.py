"""`load_task`: one door to every task, bundled, ready-defined, on the Hub or in your own files."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from difflib import get_close_matches
from inspect import signature
from pathlib import Path
from typing import Any

from promptgym.arguments import checked
from promptgym.errors import TaskError
from promptgym.prompts import Prompt, Template
from promptgym.tasks.assemble import Plan, assemble
from promptgym.tasks.bundled import bundled_name, load_bundled
from promptgym.tasks.definition import Definition
from promptgym.tasks.definitions import ALIASES, DEFINITIONS
from promptgym.tasks.files import SUFFIXES
from promptgym.tasks.hub import is_saved_dataset
from promptgym.tasks.induction import read_annotations
from promptgym.tasks.labels import LabelsSpec, VerbalizersSpec
from promptgym.tasks.measured import measured_task
from promptgym.tasks.measured_files import read_measured
from promptgym.tasks.metrics import Metric, PerExample, get_metric
from promptgym.tasks.prompt_table import SCHEME, find_table, table_task
from promptgym.tasks.sources import PathLike, Source, hub_source, with_hub
from promptgym.tasks.task import Task

Part = PathLike | float | int | None

_OF_TASK = (
    *("template", "masked_template", "demonstration", "metric", "name", "description"),
    *("manual_prompts", "max_new_tokens", "stop"),
)
"""Options of `load_task` that are fields of any task."""

_ABOUT_DATA = (
    *("data_dir", "train", "dev", "test", "input", "target", "columns", "delimiter", "encoding"),
    *("labels", "verbalizers", "k_shot", "duplicates", "config", "revision"),
)
"""Options of `load_task` for reading data."""


@checked(TaskError)
def load_task(
    name_or_path: PathLike,
    *,
    data_dir: PathLike | None = None,
    train: PathLike | None = None,
    dev: Part = None,
    test: Part = None,
    input: str | None = None,
    target: str | None = None,
    columns: Sequence[str] = (),
    delimiter: str | None = None,
    encoding: str = "utf-8",
    labels: LabelsSpec = "auto",
    verbalizers: VerbalizersSpec = None,
    k_shot: int | None = None,
    sizes: Mapping[str, int] | None = None,
    pool: int | None = None,
    seed: int = 0,
    duplicates: str | None = None,
    metric: str | Metric | PerExample | None = None,
    template: str | Template | None = None,
    demonstration: str | None = None,
    masked_template: str | Template | None = None,
    name: str | None = None,
    description: str | None = None,
    manual_prompts: Sequence[str | Prompt | Mapping[str, Any]] | None = None,
    max_new_tokens: int | None = None,
    stop: Sequence[str] | None = None,
    config: str | None = None,
    revision: str | None = None,
) -> Task:
    """Load a task by name, from files or from the Hub.

    Names and plain values only are JSON, so every argument may stand in an environment's arguments.

    Args:
        name_or_path: one of
            a bundled task ("review-author", or "author" for short),
            a ready definition ("sst2", "gsm8k", "instruction-induction/sum"; see `list_tasks`),
            a file (CSV, TSV, JSON lines, JSON),
            a folder with train, dev and test files, or one that `datasets` wrote with
            `save_to_disk`,
            "hub:owner/name" or "hub:owner/name:config", read through `datasets`,
            "table:NAME" or "table:FILE" for a prompt table (see `promptgym.tasks.prompt_table`),
            "replay:FILE" or "replay:FOLDER" with scores that were measured (see
            `promptgym.tasks.measured`), with "#TASK/MODEL" behind it if there are several.
        data_dir: for a ready definition, the folder with its files, instead of the Hub. A test
            file may lie one level above the others, as in LM-BFF's folders. For a replayed folder
            of outcomes, the folder with the questions.
        train: training file, where splits are given one by one.
        dev: dev file; or what to draw from train instead, a fraction (0.2) or a number of
            examples (100). Without a dev split 0.2 is drawn.
        test: the same for test. A single file is divided 0.6 : 0.2 : 0.2; 0 draws none.
        input: column of the input, or several as "{premise} ? {hypothesis}".
        target: column of the target.
        columns: the columns' names, for files without a header.
        delimiter: between fields, where it is not the suffix's.
        encoding: of the files.
        labels: a list of labels in order; a dict raw value -> label; "data" for every different
            target; None for free answers; "auto" to find out: at most 20 different targets in at
            least twice as many rows are labels, targets that all differ (or more than 20 in less
            than twice as many rows) are free answers, and anything else is an error; with a
            metric other than accuracy and balanced accuracy all targets are free answers.
            `Task.decided` says what was found.
        verbalizers: raw value or label -> word that the model answers with, or a list of words.
        k_shot: draw k examples a class for train and k others for dev, both from train, as LM-BFF
            does (see `few_shot_split`); a dev split of the source is then not used.
        sizes: keep only so many examples ({"train": 64, "dev": 64, "test": 500}), stratified; for
            bundled tasks, generate so many.
        pool: take this many examples out of train as a pool of demonstrations.
        seed: of every draw.
        duplicates: what to do about an input that stands twice: "error" (default), or "drop"
            (default for Hub copies and sets that are published with repeats). What was dropped is
            listed in `Task.dropped`.
        metric: name, callable, or "package.module:function".
        template: text with placeholders (see `Template`).
        demonstration: how one demonstration is rendered.
        masked_template: the same with `{mask}`, for masked models.
        name: the task's name; default the definition's, or the file's stem.
        description: one sentence for people and proposers.
        manual_prompts: prompts a person would write; the first is the default start.
        max_new_tokens: generation length of free answers.
        stop: strings at which a free answer ends.
        config: configuration of a Hub dataset.
        revision: revision of a Hub dataset.

    Raises:
        TaskError: naming file, row, what was found, what was expected and what to do.
        TemplateError: for a template that cannot render.
    """
    given = dict(locals())
    _refuse_impossible(given)
    changes = _changes(given)
    if isinstance(name_or_path, str) and name_or_path.startswith("replay:"):
        _refuse_for_replay(given)
        table = read_measured(name_or_path.removeprefix("replay:"), data_dir)
        parts = {"dev": _share(dev), "test": _share(test)}
        return _changed(measured_task(table, **parts, sizes=sizes, seed=seed), changes)
    if isinstance(name_or_path, str) and name_or_path.startswith(SCHEME):
        _refuse_for_table(given)
        return _changed(table_task(find_table(name_or_path.removeprefix(SCHEME))), changes)
    # A Path is never taken for a name.
    bundled = bundled_name(name_or_path) if isinstance(name_or_path, str) else None
    if bundled is not None:
        _refuse_for_bundled(given)
        return _changed(load_bundled(bundled, sizes=sizes, seed=seed, pool=pool), changes)
    definition, source = _locate(name_or_path, data_dir, config, revision)
    definition = _with_columns(definition, input, target)
    source = replace(
        source,
        files=_files(train=train, dev=dev, test=test),
        columns=tuple(columns),
        delimiter=delimiter,
        encoding=encoding,
    )
    _refuse_without_files(given, source)
    plan = Plan(
        labels=labels,
        verbalizers=verbalizers,
        metric=metric,
        dev=_share(dev),
        test=_share(test),
        k_shot=k_shot,
        sizes=dict(sizes or {}),
        pool=pool or 0,
        seed=seed,
        duplicates=duplicates,
        name=name or definition.name,
    )
    return _changed(_assembled(definition, source, plan), changes)


def _files(**parts: Part) -> dict[str, Path]:
    """Return the files among the parts of a task, by split."""
    return {
        split: Path(part).expanduser()
        for split, part in parts.items()
        if isinstance(part, (str, Path))
    }


def _share(part: Part) -> float | int | None:
    """Return what to draw from train for a part, None for a part with a file."""
    return None if isinstance(part, (str, Path)) else part


def _with_columns(definition: Definition, input: str | None, target: str | None) -> Definition:
    """Return the definition with the columns the caller names."""
    if input is not None:
        definition = replace(definition, input=(input,))
    if target is not None:
        definition = replace(definition, target=(target,))
    return definition


def _assembled(definition: Definition, source: Source, plan: Plan) -> Task:
    """Return the task; people's own instructions, where the folder has them, are its references."""
    task = assemble(definition, source, plan)
    if definition.layout == "induction" and source.path is not None:
        return replace(task, reference_prompts=read_annotations(definition, source.path))
    return task


def _locate(
    name_or_path: PathLike,
    data_dir: PathLike | None,
    config: str | None,
    revision: str | None,
) -> tuple[Definition, Source]:
    """Find the definition and the place of the rows that a name or path stands for."""
    spelled, is_name = str(name_or_path), isinstance(name_or_path, str)
    known = ALIASES.get(spelled.lower(), spelled.lower())
    if is_name and known in DEFINITIONS:
        definition = with_hub(DEFINITIONS[known], config, revision)
        if data_dir is None:
            return definition, Source()
        return definition, Source(path=_existing(Path(data_dir).expanduser()))
    if data_dir is not None:
        raise TaskError(
            f"data_dir= goes with a ready definition, and {spelled!r} is none; load the folder "
            f"itself: load_task({str(data_dir)!r}). Ready: {', '.join(_short_names())}"
        )
    if is_name and spelled.startswith("hub:"):
        hub = hub_source(spelled.removeprefix("hub:"), config, revision)
        return Definition(name=hub.name, hub=hub), Source()
    path = Path(spelled).expanduser()
    if not spelled.strip():
        raise TaskError(f"the task has no name: {spelled!r}; for this folder, say '.'")
    if path.exists():
        name = path.resolve().name if path.is_dir() else path.stem
        return Definition(name=name), Source(path=path)
    if path.suffix.lower() in SUFFIXES or (len(path.parts) > 1 and path.parent.is_dir()):
        raise TaskError(f"{spelled}: there is no such file or folder")
    names = _all_names()
    close = get_close_matches(spelled.lower(), names, n=1, cutoff=0.6)
    raise TaskError(
        f"unknown task {spelled!r}"
        + (f"; did you mean {close[0]!r}?" if close else ".")
        + " Give the name of a bundled task or a ready definition (promptgym.tasks.list_tasks() "
        "lists them), the path of a file or folder, or 'hub:owner/name'"
    )


def _existing(path: Path) -> Path:
    if not path.is_dir():
        raise TaskError(f"data_dir: there is no folder {path}")
    return path


def _short_names() -> list[str]:
    """Names of the ready definitions, Instruction Induction as one."""
    return [n for n in DEFINITIONS if "/" not in n] + ["instruction-induction/..."]


def _all_names() -> list[str]:
    from promptgym.tasks.world import WORLD_TASKS

    short = [name.partition("-")[2] for name in WORLD_TASKS]
    return [*WORLD_TASKS, *short, *DEFINITIONS, *ALIASES]


def _set(given: dict[str, Any], options: Sequence[str]) -> list[str]:
    """Return those of the options that the caller gave another value than the default."""
    defaults = signature(load_task).parameters
    return [option for option in options if given[option] != defaults[option].default]


def _refuse_for_replay(given: dict[str, Any]) -> None:
    """Refuse options that would change what was measured, rather than ignore them."""
    kept = ("data_dir", "dev", "test", "name", "description", "manual_prompts")
    useless = _set(given, [o for o in (*_ABOUT_DATA, *_OF_TASK, "pool") if o not in kept])
    useless += [split for split in ("dev", "test") if isinstance(given[split], (str, Path))]
    if useless:
        raise TaskError(
            f"a replayed task is as it was measured, so it takes no {', '.join(useless)}: of the "
            "options about data, metric and templates it takes data_dir, dev and test (shares or "
            "numbers), sizes and seed only"
        )


def _refuse_for_table(given: dict[str, Any]) -> None:
    """Refuse options that would change what a prompt table answers to."""
    kept = ("name", "description", "manual_prompts")
    useless = _set(given, [o for o in (*_ABOUT_DATA, *_OF_TASK, "pool", "sizes") if o not in kept])
    if useless:
        raise TaskError(
            f"{given['name_or_path']} is as it was recorded, so it takes no {', '.join(useless)}; "
            f"of the options it takes {', '.join(kept)}"
        )


def _refuse_without_files(given: dict[str, Any], source: Source) -> None:
    """Refuse options about text files or the Hub for data that comes from elsewhere."""
    from_hub = source.path is None and not source.files
    saved = source.path is not None and is_saved_dataset(source.path)
    useless = [] if from_hub else _set(given, ("config", "revision"))
    if from_hub or (saved and not source.files):
        useless += _set(given, ("columns", "delimiter", "encoding"))
    if useless:
        raise TaskError(
            f"{given['name_or_path']!s}: {', '.join(useless)} would change nothing: config and "
            "revision are for the Hub, columns, delimiter and encoding for text files"
        )


def _refuse_for_bundled(given: dict[str, Any]) -> None:
    """Refuse options that a bundled task has no use for, rather than ignore them."""
    name, useless = given["name_or_path"], _set(given, _ABOUT_DATA)
    if useless:
        raise TaskError(
            f"{name!r} is a bundled task and reads no data, so it takes no {', '.join(useless)}: "
            "of the options about data it takes sizes, pool and seed only. To load a file or "
            f"folder of that name, say './{name}'"
        )


def _refuse_impossible(given: dict[str, Any]) -> None:
    """Refuse values of the right type that mean nothing."""
    for option, least in {"seed": 0, "pool": 0, "max_new_tokens": 1}.items():
        if given[option] is not None and given[option] < least:
            raise TaskError(f"load_task: {option} must be at least {least}, got {given[option]}")
    delimiter = given["delimiter"]
    if delimiter is not None and len(delimiter) != 1:
        raise TaskError(f"load_task: delimiter must be one character, got {delimiter!r}")


def _changes(given: dict[str, Any]) -> dict[str, Any]:
    """Return the fields of the task that the caller sets, without those left alone."""
    out = {key: given[key] for key in _OF_TASK if given[key] is not None}
    if "metric" in out:
        out["metric"] = get_metric(out["metric"])
    if "stop" in out:
        out["stop"] = tuple(out["stop"])
    if "manual_prompts" in out:
        if not out["manual_prompts"]:
            raise TaskError("manual_prompts is empty: expected a list of prompts")
        out["manual_prompts"] = tuple(map(Prompt.of, out["manual_prompts"]))
    return out


def _changed(task: Task, changes: dict[str, Any]) -> Task:
    """Return the task with the caller's fields; a template as text keeps the demonstration."""
    if not changes:
        return task
    changes = dict(changes)
    demonstration = changes.pop("demonstration", None)
    for field in ("template", "masked_template"):
        old: Template | None = getattr(task, field)
        new = changes.get(field, old)
        if new is None:
            continue
        text = new.text if isinstance(new, Template) else new
        inner = (
            new.demonstration if isinstance(new, Template) else (old or task.template).demonstration
        )
        changes[field] = Template(text, demonstration or inner)
    masked = changes.get("masked_template")
    if masked is not None and not masked.has_mask:
        raise TaskError(f"masked_template {masked.text!r} has no {{mask}}")
    return replace(task, **changes)
