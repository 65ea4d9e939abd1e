"""`promptgym table`: prompt tables, spaces of prompts of which every one was scored."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from promptgym.cli import options as o
from promptgym.cli.common import examples, json_object, print_json
from promptgym.errors import ConfigError

SHOW = examples("promptgym table show staff", "promptgym table show staff --plot table.png --json")
BUILD = examples(
    'promptgym table build staff --words "closely clause staff" --slots 2 --out mine.npz '
    """--task-options '{"sizes": {"train": 8, "dev": 8, "test": 8}}'""",
    "promptgym table show mine.npz",
)

app = typer.Typer(
    rich_markup_mode=None,
    no_args_is_help=True,
    help="Prompt tables: spaces of prompts whose every score is known.",
)

Name = Annotated[str, typer.Argument(help="A table of the package, or a file of `build`.")]
Reward = Annotated[str, typer.Option(help="What is climbed.")]
Plot = Annotated[
    Path | None, typer.Option(help="Also draw a picture into this file (.png, .svg or .pdf).")
]
OfTask = Annotated[str, typer.Argument(help="A task of two labels, as for `promptgym train`.")]
Words = Annotated[str, typer.Option(help="What prompts are made of, with spaces between.")]
Slots = Annotated[int, typer.Option(min=1, help="Most words of a prompt.")]
Out = Annotated[Path, typer.Option(help="The file that is written (.npz).")]
Model = Annotated[str, typer.Option(help="The model that is asked.")]


@app.command("show", epilog=SHOW)
def show(name: Name, reward: Reward = "gap", plot: Plot = None, as_json: o.AsJson = False) -> None:
    """Show a table's landscape: scores, local optima, how far greedy and random search get."""
    from promptgym.evaluation.landscape_view import check_picture
    from promptgym.evaluation.table_landscape import table_landscape
    from promptgym.problem import make_problem

    if plot is not None:
        check_picture(plot)
    land = table_landscape(make_problem(f"table:{name}", f"table:{name}", reward=reward))
    if as_json:
        print_json(land.to_json())
    else:
        print(land)
    if plot is not None:
        print(f"plot: {land.plot(plot)}", file=sys.stderr)


@app.command("build", epilog=BUILD)
def build(
    task: OfTask,
    words: Words,
    out: Out,
    slots: Slots = 3,
    model: Model = o.DEFAULT_MODEL,
    more_task: o.TaskOptions = None,
) -> None:
    """Score every prompt of up to SLOTS words on train, dev and test, and write the table."""
    from promptgym.evaluation.table_builder import build_table
    from promptgym.llms import load_model
    from promptgym.tasks import load_task
    from promptgym.tasks.prompt_table import write_table

    if out.suffix != ".npz" or not out.parent.is_dir():
        raise ConfigError(f"--out {out}: expected a file named *.npz in a folder that exists")
    options = json_object(more_task, "--task-options") or {}
    table = build_table(
        load_task(task, **options),
        load_model(model),
        words.split(),
        name=out.stem,
        slots=slots,
        progress=_progress if sys.stderr.isatty() else None,
    )
    write_table(table, out)
    print(f"{out}: {len(table):,} prompts x {table.codes.shape[1]:,} examples")


def _progress(done: int, total: int) -> None:
    """Say on standard error how many prompts are scored."""
    end = "\n" if done >= total else ""
    print(f"\r\x1b[K{done:,} of {total:,} prompts", end=end, file=sys.stderr, flush=True)
