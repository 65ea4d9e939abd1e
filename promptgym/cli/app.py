"""The commands, put together."""

from __future__ import annotations

from typing import Annotated

import typer

from promptgym import __version__
from promptgym.cli import (
    bench,
    cache,
    demo,
    envs,
    evaluate,
    leaderboard,
    report,
    submit,
    table,
    tasks,
    train,
)

app = typer.Typer(
    help="Reinforcement-learning environments, agents and baselines for prompt optimization.",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
)


def _version(asked: bool) -> None:
    """Print the version and leave."""
    if asked:
        print(f"promptgym {__version__}")
        raise typer.Exit


@app.callback()
def options(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    """Reinforcement-learning environments, agents and baselines for prompt optimization."""


app.command("train", epilog=train.EXAMPLES)(train.train)
app.command("evaluate", epilog=evaluate.EXAMPLES)(evaluate.evaluate)
app.command("bench", epilog=bench.EXAMPLES)(bench.bench)
app.command("report", epilog=report.EXAMPLES)(report.report)
app.command("submit", epilog=submit.EXAMPLES)(submit.submit)
app.add_typer(leaderboard.app, name="leaderboard")
app.command("envs", epilog=envs.EXAMPLES)(envs.envs)
app.add_typer(tasks.app, name="tasks")
app.add_typer(table.app, name="table")
app.add_typer(cache.app, name="cache")
app.command("demo", epilog=demo.EXAMPLES)(demo.demo)
