"""`promptgym demo`: a policy learns a prompt offline, and is compared on held-out examples."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from promptgym.cli.common import examples, print_table, prompt_cell
from promptgym.cli.options import PlainSeed, Quiet
from promptgym.cli.train import launch, scored
from promptgym.types import JSON

EXAMPLES = examples("promptgym demo --budget 3200 --quiet")
TASK, BUDGET = "author", 128_000
METHODS: dict[str, JSON] = {
    "learned (RLPrompt)": {"method": "rlprompt", "preset": "repaired"},
    "random search": {"method": "random_tokens"},
    "hill climbing": {"method": "hill_climbing"},
}

TaskName = Annotated[str, typer.Option("--task", help="A task.")]
ModelName = Annotated[str, typer.Option("--model", help="The frozen target model.")]
Budget = Annotated[int, typer.Option(help="Queries each method may spend.")]
Out = Annotated[Path | None, typer.Option(help="Folder of the runs. [default: runs/demo-N]")]


def demo(
    task: TaskName = TASK,
    model: ModelName = "tiny",
    budget: Budget = BUDGET,
    seed: PlainSeed = 0,
    out: Out = None,
    quiet: Quiet = False,
) -> None:
    """Train a prompt policy on the embedded language model; compare it on held-out examples.

    Nothing is downloaded. Every method has the same task, model and number of queries and is chosen
    on dev; the table is of the test split, which no method has seen.
    """
    from promptgym.runs.folder import new_run_path

    folder = out or new_run_path("runs", "demo")
    records: dict[str, JSON] = {}
    for name, method in METHODS.items():
        typer.echo(f"{name}: {budget:,} queries on {task}, model {model}", err=True)
        config = {
            **method,
            "task": task,
            "model": model,
            "budget": {"queries": budget},
            "seed": seed,
        }
        target = folder / str(method["method"])
        records[name] = launch(config, target, resume=False, report=True, quiet=quiet)
    print_comparison(records)
    print(f"\nruns: {folder}\nreport: {folder / 'rlprompt' / 'report.html'}")


def print_comparison(records: dict[str, JSON]) -> None:
    """Print the test scores of every method beside the prompts nobody learned."""
    first = next(iter(records.values()))
    rows = [
        [f"{row['name']} prompt", *scored(row["test"]), "0", "0:00", prompt_cell(row["prompt"])]
        for row in first["compared"]
        if row["name"] != "learned"
    ]
    for name, record in records.items():
        spent = record["spent"]
        seconds = round(spent["seconds"])
        time = f"{seconds // 60}:{seconds % 60:02d}"
        best = record["best"]
        rows.append(
            [
                name,
                *scored(best["test"]),
                f"{spent['queries']:,}",
                time,
                prompt_cell(best["prompt"]),
            ]
        )
    count = first["best"]["test"]["examples"]
    print(
        f"\n{first['task']}: {first['metric']} on {count} held-out examples, seed {first['seed']}"
    )
    print_table(["", "test", "95 % interval", "queries", "time", "prompt"], rows, "lrlrrl")
