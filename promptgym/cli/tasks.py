"""`promptgym tasks`: the list of tasks, one task in detail, its landscape."""

from __future__ import annotations

from typing import Annotated

import typer

from promptgym.cli import options as o
from promptgym.cli.common import (
    examples,
    print_json,
    print_table,
    prompt_cell,
    task_options,
)
from promptgym.types import JSON

LIST = examples("promptgym tasks", "promptgym tasks show author", "promptgym tasks --json")
SHOW = examples("promptgym tasks show author", "promptgym tasks show critics --json")

app = typer.Typer(rich_markup_mode=None)

Name = Annotated[
    str, typer.Argument(metavar="TASK", help="A task's name, a data file or hub:NAME.")
]


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
    name: Name,
    data_dir: o.DataDir = None,
    input_column: o.InputColumn = None,
    target_column: o.TargetColumn = None,
    labels: o.Labels = None,
    more_task: o.TaskOptions = None,
    as_json: o.AsJson = False,
) -> None:
    """Show one task: splits, labels, template, prompts and a few training examples."""
    from promptgym.tasks import describe_task, load_task

    columns = {"data_dir": data_dir, "input": input_column, "target": target_column}
    task = load_task(name, **(task_options(more_task, columns, labels) or {}))
    about: JSON = describe_task(task)
    about["examples"] = [{"input": e.input, "target": e.target} for e in task.train[:5]]
    if as_json:
        print_json(about)
    else:
        print_task(about)


def print_task(about: JSON) -> None:
    """Print what a task is."""
    print(f"{about['name']}: {about['description']}\n")
    facts = [["kind", about["kind"]], ["metric", about["metric"]]]
    if about["labels"]:
        words = [f"{name} ({about['verbalizers'][name]})" for name in about["labels"]]
        facts.append(["labels", ", ".join(words)])
    facts += [["template", repr(about["template"])]]
    if about["masked_template"]:
        facts.append(["masked template", repr(about["masked_template"])])
    facts += [["manual prompt", prompt_cell(p)] for p in about["manual_prompts"]]
    facts += [["best known prompt", prompt_cell(p)] for p in about["reference_prompts"]]
    facts.append(["vocabulary", f"{about['vocabulary']} words"])
    for name, split in about["splits"].items():
        if split is not None and split["examples"]:
            counts = ", ".join(f"{k} {v}" for k, v in (split["labels"] or {}).items())
            facts.append(
                [name, f"{split['examples']} examples" + (f": {counts}" if counts else "")]
            )
    width = max(len(name) for name, _ in facts)
    for name, value in facts:
        print(f"{name.ljust(width)}  {value}")
    print("\nfrom the training split:")
    print_table(["input", "target"], [[e["input"], e["target"]] for e in about["examples"]])
