"""`promptgym bench`: run a suite of tasks, models, methods and seeds into one folder."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from promptgym.cli import options as o
from promptgym.cli.common import examples, print_json, print_table
from promptgym.errors import ConfigError, PromptGymError
from promptgym.types import JSON

if TYPE_CHECKING:
    from promptgym.evaluation.bench import BenchFolder
    from promptgym.evaluation.suite import Cell

EXAMPLES = examples(
    "promptgym bench quick --only .random_tokens. --dry-run",
    "promptgym bench quick --only .empty. --out runs/quick",
    "promptgym bench quick --only .empty. --out runs/quick --jobs 2 --resume --json",
)
COUNTS = ("queries", "calls", "tokens")
SECONDS = 3.0
"""How long the loop of a method runs in a dry run before the rest is extrapolated."""

SuiteName = Annotated[
    str,
    typer.Argument(
        metavar="SUITE", help="quick, tiny, few-shot, measured, or a TOML file of your own."
    ),
]
Out = Annotated[Path | None, typer.Option(help="The folder of the benchmark; new or empty.")]
Resume = Annotated[bool, typer.Option("--resume", help="Go on in --out; what failed is run again.")]
Jobs = Annotated[
    int | None,
    typer.Option(help="Cells at a time, one thread each. [default: 1; with --ray one a core]"),
]
Only = Annotated[
    str | None, typer.Option(help="Run only cells with this text in their name, e.g. .rlprompt.")
]
UseRay = Annotated[
    bool, typer.Option("--ray", help="Ray tasks (RAY_ADDRESS) instead of processes.")
]
Gpus = Annotated[float, typer.Option(help="GPUs of each cell, with --ray; a fraction shares one.")]


def bench(
    suite: SuiteName,
    out: Out = None,
    jobs: Jobs = None,
    ray: UseRay = False,
    gpus_per_cell: Gpus = 0.0,
    only: Only = None,
    resume: Resume = False,
    dry_run: o.DryRun = False,
    quiet: o.Quiet = False,
    as_json: o.AsJson = False,
) -> None:
    """Run every cell of a suite; cells that fail are kept with their error, and the rest runs on.

    The exit status is 1 if a cell failed.
    """
    from promptgym.evaluation.bench import BenchFolder
    from promptgym.evaluation.suite_file import load_suite

    chosen = load_suite(suite)
    cells = [cell for cell in chosen.cells() if only is None or only in cell.name]
    if not cells:
        raise ConfigError(f"--only {only}: no cell is named so, but e.g. {chosen.cells()[0].name}")
    if dry_run:
        print_costs(cells, as_json)
        return
    if out is None:
        raise ConfigError(f"give the folder of the benchmark, e.g. --out runs/{chosen.name}")
    if gpus_per_cell and not ray:
        raise ConfigError("--gpus-per-cell goes with --ray; processes share what they see")
    if jobs is not None and jobs < 1:
        raise ConfigError(f"--jobs must be at least 1, got {jobs}")
    folder = BenchFolder.resume(out, chosen) if resume else BenchFolder.create(out, chosen)
    failed = launch(folder, cells, jobs, ray, gpus_per_cell, quiet)
    outcome = {
        "folder": str(out),
        "cells": len(cells),
        "finished": sum(map(folder.finished, cells)),
        "failed": failed,
    }
    if as_json:
        print_json(outcome)
    else:
        print(f"{outcome['finished']} of {outcome['cells']} cells are finished in {out}")
        if failed:
            rows = [[name, why] for name, why in failed.items()]
            print_table(["failed (more in errors/)", "why"], rows)
    if failed:
        raise typer.Exit(1)


def launch(
    bench: BenchFolder,
    cells: list[Cell],
    jobs: int | None,
    ray: bool,
    gpus: float,
    quiet: bool,
) -> dict[str, str]:
    """Run the cells with the view; on Ctrl-C say how to go on, and leave with 130."""
    from promptgym.evaluation.bench import run_bench
    from promptgym.evaluation.bench_view import Board, make_view
    from promptgym.evaluation.workers import Processes, RayTasks, Workers

    workers: Workers = RayTasks(jobs, gpus) if ray else Processes(jobs or 1)
    try:
        with make_view(Board(bench, cells, workers.slots), sys.stderr, quiet=quiet) as view:
            failed = run_bench(bench, cells, workers, view)
    except KeyboardInterrupt:
        how = "go on with the same command and --resume"
        typer.echo(f"interrupted; {how}", err=True)
        raise typer.Exit(130) from None
    return {name: failure.message for name, failure in failed.items()}


def print_costs(cells: list[Cell], as_json: bool) -> None:
    """Print what cells would cost, one row a task, model and method, without asking a model."""
    rows = costs(cells)
    if as_json:
        print_json({"cells": len(cells), "rows": rows})
        return
    lines = [
        [row["task"], row["model"], row["method"], str(row["cells"]), *_counts(row)] for row in rows
    ]
    known = [row for row in rows if "error" not in row]
    total: JSON = {kind: sum(row[kind] for row in known) for kind in COUNTS}
    money = [row["usd"] for row in known]
    total["usd"] = None if None in money else sum(money)
    lines.append(["total", "", "", str(len(cells)), *_counts(total)])
    head = ["task", "model", "method", "cells", *COUNTS, "USD"]
    print_table(head, lines, "lllrrrrr")
    print("\ndry run: no model was asked; longer searches are extrapolated")
    for row in rows:
        if "error" in row:
            print(f"unknown: {row['task']}, {row['model']}, {row['method']}: {row['error']}")


def costs(cells: list[Cell]) -> list[JSON]:
    """Return the projected cost of each task, model and method over all its cells.

    Seeds cost alike, so one stands for all. What cannot be projected has its `error`.
    """
    from promptgym.evaluation.projection import project

    seeds: dict[tuple[str, ...], list[Cell]] = {}
    for cell in cells:
        key: tuple[str, ...] = (cell.task, cell.model, cell.method, cell.start, str(cell.budget))
        seeds.setdefault(key, []).append(cell)
    rows: dict[tuple[str, ...], JSON] = {}
    for key, alike in seeds.items():
        first = dict(zip(("task", "model", "method"), key[:3], strict=True))
        row = rows.setdefault(key[:3], {**first, "cells": 0, **dict.fromkeys(COUNTS, 0), "usd": 0})
        row["cells"] += len(alike)
        try:
            found = project(alike[0].experiment, SECONDS)["total"]
        except (PromptGymError, OSError) as error:
            row["error"] = str(error)
            continue
        for kind in COUNTS:
            row[kind] += found[kind] * len(alike)
        money = row["usd"], found["usd"]
        row["usd"] = None if None in money else money[0] + money[1] * len(alike)
    return list(rows.values())


def _counts(row: JSON) -> list[str]:
    """Return the cells of what a row costs."""
    if "error" in row:
        return ["unknown"] * 4
    usd = row["usd"]
    return [*(f"{row[kind]:,}" for kind in COUNTS), "unknown" if usd is None else f"{usd:,.4f}"]
