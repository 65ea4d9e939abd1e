"""One cell of a benchmark, in the process that runs it: a run folder, and its curve on test."""

from __future__ import annotations

import os
import shutil
import sys
import traceback
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from promptgym.errors import ConfigError
from promptgym.evaluation.evaluate import evaluate
from promptgym.evaluation.experiment import Experiment, run_experiment
from promptgym.evaluation.regret import is_prompt_table, regrets, table_curve
from promptgym.llms import forget_models
from promptgym.problem import Problem
from promptgym.runs.events import plain, read_events
from promptgym.runs.folder import CONFIG, EVENTS, RunFolder, differences, write_json
from promptgym.tasks import Task
from promptgym.types import JSON

DATA = ("task", "task_options", "model", "model_options")
"""What names data and model in the configuration of a cell."""
ANYTIME = "anytime.json"
"""The last file that a cell writes: with it, the cell is finished."""
REGRET = "regret.json"
"""Simple and cumulative regret of a run on a prompt table, against queries."""


@dataclass(frozen=True, slots=True)
class Job:
    """What a process is told to do.

    Attributes:
        name: of the cell.
        folder: its run folder.
        config: the experiment as `config.json` has it.
        log: file for whatever the process prints.
    """

    name: str
    folder: Path
    config: JSON
    log: Path


class Failure(NamedTuple):
    """Why a cell failed.

    Attributes:
        message: one line.
        details: the traceback, or what else is known.
    """

    message: str
    details: str


def attempt(job: Job) -> Failure | None:
    """Run a cell; return why it failed, or None."""
    try:
        run_cell(job)
    except Exception as error:
        what = str(error).strip().splitlines()
        return Failure(f"{type(error).__name__}: {what[0] if what else ''}", traceback.format_exc())
    return None


def run_cell(job: Job) -> None:
    """Run a cell on one thread, or go on with it; ask test about the prompts of its curve.

    Models are loaded anew: the key/values that one remembers from other cells would change scores
    in their last bits, and so which cells went before in this process would.
    """
    import torch

    torch.set_num_threads(1)
    forget_models()
    experiment = Experiment.of(job.config)
    check_data(job, experiment)
    begun = (job.folder / CONFIG).exists()
    if job.folder.exists() and not begun:  # killed while it wrote its very first file
        shutil.rmtree(job.folder)
    record = run_experiment(experiment, job.folder, resume=begun, report=False)
    if not (job.folder / ANYTIME).exists():
        task, model = experiment.load()
        problem = experiment.problem(task, model, cache=False)
        if is_prompt_table(model):
            events = read_events(job.folder / EVENTS)
            write_json(job.folder / REGRET, table_curve(events, problem))
        write_json(job.folder / ANYTIME, anytime(task, problem, record["history"]))


def check_data(job: Job, experiment: Experiment) -> None:
    """Refuse data, or a model, other than what a cell before met under the same name.

    Raises:
        ConfigError: naming that cell and what differs.
    """
    met = plain(experiment.config(*experiment.load()))["identity"]
    for folder in sorted(job.folder.parent.glob("*")):
        if folder == job.folder or not (folder / CONFIG).exists():
            continue
        config = RunFolder.open(folder).config
        if any(config[name] != plain(job.config[name]) for name in DATA):
            continue
        if found := differences(config["identity"], met):
            raise ConfigError(
                f"{experiment.task} with {experiment.model} is not what cell {folder.name} met: "
                f"{'; '.join(found)} here; results on two data sets are not mixed: bring the old "
                "one back, or give another --out"
            )
        return


def anytime(task: Task, problem: Problem, history: list[JSON]) -> list[JSON]:
    """Return the anytime curve of a run: queries, dev and test metric of each incumbent.

    Test is asked after the run, at no cost to its budget; it is None for a task without. Where the
    best prompt is known, each row has its `regret`, too.

    Args:
        task: with its test split open.
        problem: of the run.
        history: its incumbents.
    """
    distinct = {str(row["prompt"]): row["prompt"] for row in history}
    test: dict[str, float | None] = dict.fromkeys(distinct)
    if task.test and distinct:
        scored = evaluate(
            [*distinct.values()], task, problem.model, template=problem.template, cache=False
        )
        test = dict(zip(distinct, (row["value"] for row in scored.rows()), strict=True))
    rows = [
        {"queries": row["queries"], "dev": row["dev"], "test": test[str(row["prompt"])]}
        for row in history
    ]
    lacking = regrets([*distinct.values()], task, problem)
    if lacking is not None:
        of = dict(zip(distinct, lacking, strict=True))
        for row, was in zip(rows, history, strict=True):
            row["regret"] = of[str(was["prompt"])]
    return rows


def print_to(log: Path) -> None:
    """Send what this process and its libraries print to a file, away from the table."""
    log.parent.mkdir(parents=True, exist_ok=True)
    sys.stdout.flush()
    sys.stderr.flush()
    with log.open("ab", buffering=0) as file:
        for descriptor in (1, 2):
            os.dup2(file.fileno(), descriptor)
