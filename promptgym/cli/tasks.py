"""`promptgym tasks`: the list of tasks, one task in detail, its landscape."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from promptgym.cli import options as o
from promptgym.cli.common import (
    examples,
    json_object,
    print_json,
    print_table,
    prompt_cell,
    task_options,
)
from promptgym.types import JSON

LIST = examples("promptgym tasks", "promptgym tasks show author", "promptgym tasks --json")
LANDSCAPE = examples(
    "promptgym tasks landscape author --climbers 0 --plot land.png --random-prompts 20 --edits 5 "
    """--task-options '{"sizes": {"dev": 16, "test": 50}}'""",
)
SHOW = examples("promptgym tasks show author", "promptgym tasks show critics --json")

app = typer.Typer(rich_markup_mode=None)

Name = Annotated[str, typer.Argument(help="A task's name, a data file or hub:NAME.")]
Model = Annotated[str, typer.Option(help="The model whose landscape it is.")]
Plot = Annotated[
    Path | None, typer.Option(help="Also draw a picture into this file (.png, .svg or .pdf).")
]
Randoms = Annotated[int, typer.Option(help="How many random prompts are asked.")]
Edits = Annotated[int, typer.Option(help="How many single edits of the manual prompt are asked.")]
Climbers = Annotated[int, typer.Option(help="How many hill climbers are sent up; 0 for none.")]
Climb = Annotated[int, typer.Option(help="Prompts a climber may ask.")]


@app.callback(invoke_without_command=True, epilog=LIST)
def tasks(context: typer.Context, as_json: o.AsJson = False) -> None:
    """List the tasks that have a name; data files of your own need none."""
    if context.invoked_subcommand is not None:
        return
    from promptgym.tasks import list_tasks

    found = list_tasks()
    if as_json:
        print_json([info._asdict() for info in found])
    else:
        rows = [[info.name, info.origin, info.kind, info.description] for info in found]
        print_table(["task", "origin", "kind", "what it asks"], rows)


@app.command("show", epilog=SHOW)
def show(
    task: Name,
    data_dir: o.DataDir = None,
    input_column: o.InputColumn = None,
    target_column: o.TargetColumn = None,
    labels: o.Labels = None,
    more_task: o.TaskOptions = None,
    as_json: o.AsJson = False,
) -> None:
    """Show one task: splits, labels, template, prompts and a few training examples."""
    from promptgym.tasks import describe_task, load_task

    options = task_options(
        more_task, labels, data_dir=data_dir, input=input_column, target=target_column
    )
    loaded = load_task(task, **(options or {}))
    about: JSON = describe_task(loaded)
    about["examples"] = [{"input": e.input, "target": e.target} for e in loaded.train[:5]]
    if as_json:
        print_json(about)
    else:
        print_task(about)


def print_task(about: JSON) -> None:
    """Print what a task is."""
    print(": ".join(filter(None, (about["name"], about["description"]))) + "\n")
    facts = [["kind", about["kind"]], ["metric", about["metric"]]]
    if about["labels"]:
        spoken = [f"{name} ({about['verbalizers'][name]})" for name in about["labels"]]
        facts.append(["labels", ", ".join(spoken)])
    facts += [["template", repr(about["template"])]]
    if about["masked_template"]:
        facts.append(["masked template", repr(about["masked_template"])])
    facts += [["manual prompt", prompt_cell(p)] for p in about["manual_prompts"]]
    facts += [["best known prompt", prompt_cell(p)] for p in about["reference_prompts"]]
    words = f"{about['vocabulary']} words" if about["vocabulary"] else "the words of the data"
    facts.append(["vocabulary", words])
    for name, split in about["splits"].items():
        if split is not None and split["examples"]:
            counts = ", ".join(f"{k} {v}" for k, v in (split["labels"] or {}).items())
            facts.append(
                [name, f"{split['examples']} examples" + (f": {counts}" if counts else "")]
            )
    if about["decided"]:
        facts.append(["decided", about["decided"]])
    if about["dropped"]:
        more = f"; and {len(about['dropped']) - 1} more" if len(about["dropped"]) > 1 else ""
        facts.append(["left out", about["dropped"][0] + more])
    width = max(len(name) for name, _ in facts)
    for name, value in facts:
        print(f"{name.ljust(width)}  {value}")
    print("\nfrom the training split:")
    print_table(["input", "target"], [[e["input"], e["target"]] for e in about["examples"]])


class Stages:
    """Says on standard error which stage a survey is in; counts on where that is a terminal."""

    def __init__(self) -> None:
        """Start before the first stage."""
        self._stage = ""

    def __call__(self, stage: str, done: int, total: int) -> None:
        """Say where the survey stands."""
        if sys.stderr.isatty():
            end = "\n" if done >= total else ""
            print(f"\r\x1b[K{stage}: {done:,} of {total:,}", end=end, file=sys.stderr, flush=True)
        elif stage != self._stage:
            print(f"{stage}: {total:,}", file=sys.stderr, flush=True)
        self._stage = stage


@app.command("landscape", epilog=LANDSCAPE)
def landscape(
    task: Name,
    model: Model = o.DEFAULT_MODEL,
    random_prompts: Randoms = 2000,
    edits: Edits = 600,
    climbers: Climbers = 5,
    climb_prompts: Climb = 2000,
    seed: o.PlainSeed = 0,
    plot: Plot = None,
    data_dir: o.DataDir = None,
    input_column: o.InputColumn = None,
    target_column: o.TargetColumn = None,
    labels: o.Labels = None,
    more_task: o.TaskOptions = None,
    more_model: o.ModelOptions = None,
    quiet: o.Quiet = False,
    as_json: o.AsJson = False,
) -> None:
    """Measure how a model's accuracy on a task depends on the prompt (minutes; asks test too)."""
    from promptgym.evaluation.landscape import landscape as survey
    from promptgym.evaluation.landscape_view import check_picture

    if plot is not None:
        check_picture(plot)
    found = survey(
        task,
        model,
        task_options=task_options(
            more_task, labels, data_dir=data_dir, input=input_column, target=target_column
        ),
        model_options=json_object(more_model, "--model-options"),
        n_random=random_prompts,
        n_edits=edits,
        climbers=climbers,
        climb_prompts=climb_prompts,
        seed=seed,
        on_progress=None if quiet else Stages(),
    )
    if as_json:
        print_json(found.to_json())
    else:
        print(found)
    if plot is not None:
        found.plot(plot)
