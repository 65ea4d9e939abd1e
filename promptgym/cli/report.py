"""`promptgym report`: tables and plots of a benchmark."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from promptgym.cli.common import examples

EXAMPLES = examples("promptgym report runs/quick")

Folder = Annotated[Path, typer.Argument(metavar="DIR", help="What `promptgym bench` wrote into.")]


def report(folder: Folder) -> None:
    """Write report.html, report.md and results.csv of a benchmark into its folder."""
    from promptgym.evaluation.bench_report import write_bench_report

    for file in write_bench_report(folder):
        print(file)
