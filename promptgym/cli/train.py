"""`promptgym train`: optimize a prompt and leave a run folder."""

from __future__ import annotations

import os
import warnings
from pathlib import Path
from typing import Any

import typer

from promptgym.cli import options as o
from promptgym.cli.common import (
    examples,
    interval,
    json_object,
    parse_settings,
    parse_value,
    print_json,
    print_table,
    prompt_cell,
    task_options,
    without_none,
)
from promptgym.errors import CacheWarning, ConfigError, TooManyFailures
from promptgym.types import JSON

EXAMPLES = examples(
    "promptgym train random_tokens --task author --budget 6400 --out runs/random",
    "promptgym train rlprompt --preset repaired --task author --budget 6400 --seed 1",
    "promptgym train hill_climbing --task critics --budget 6400 --set neighbours=8 --json",
    "promptgym train prewrite --task author --budget 25600 --set steps=3 --no-report",
    "promptgym train --resume runs/random",
)


def train(
    agent: o.Agent = None,
    task: o.TaskName = None,
    model: o.ModelName = None,
    proposer: o.ProposerName = None,
    budget: o.Budget = None,
    budget_tokens: o.BudgetTokens = None,
    budget_proposer_calls: o.BudgetProposerCalls = None,
    budget_proposer_tokens: o.BudgetProposerTokens = None,
    budget_seconds: o.BudgetSeconds = None,
    budget_usd: o.BudgetUsd = None,
    seed: o.Seed = None,
    out: o.Out = None,
    resume: o.Resume = None,
    preset: o.Preset = None,
    settings: o.Settings = None,
    reward: o.RewardSpec = None,
    prompt: o.Start = None,
    template: o.TemplateText = None,
    data_dir: o.DataDir = None,
    input_column: o.InputColumn = None,
    target_column: o.TargetColumn = None,
    labels: o.Labels = None,
    more_task: o.TaskOptions = None,
    more_model: o.ModelOptions = None,
    more_proposer: o.ProposerOptions = None,
    cache: o.Cache = None,
    dry_run: o.DryRun = False,
    max_failures: o.MaxFailures = 0.5,
    report: o.Report = None,
    quiet: o.Quiet = False,
    as_json: o.AsJson = False,
) -> None:
    """Optimize a prompt for a task; keep config, events, checkpoints, result and report."""
    caps = {"queries": budget, "tokens": budget_tokens, "seconds": budget_seconds}
    caps |= {"usd": budget_usd, "proposer_calls": budget_proposer_calls}
    caps["proposer_tokens"] = budget_proposer_tokens
    given: JSON = {
        "method": agent,
        "task": task,
        "model": model,
        "proposer": proposer,
        "budget": without_none(caps),
        "seed": seed,
        "preset": preset,
        "options": parse_settings(settings),
        "reward": reward_spec(reward),
        "initial_prompt": prompt,
        "template": template,
        "task_options": task_options(
            more_task, labels, data_dir=data_dir, input=input_column, target=target_column
        ),
        "model_options": json_object(more_model, "--model-options"),
        "proposer_options": json_object(more_proposer, "--proposer-options"),
    }
    given = without_none(given) or {}
    if resume is not None and out is not None and out != resume:
        raise ConfigError(f"--resume {resume} and --out {out} name two folders; give one")
    config = resumed_config(resume, given) if resume is not None else new_config(given)
    if dry_run:
        print_projection(config, as_json)
        return
    if follows(config, resume):
        return
    folder = resume or out or default_folder(config)
    record = launch(
        config,
        folder,
        resume=resume is not None,
        report=reports(resume) if report is None else report,
        quiet=quiet,
        cache=cache,
        max_failures=max_failures,
    )
    if as_json:
        print_json(record)
    else:
        print_outcome(record, folder)


def follows(config: JSON, resume: Path | None) -> bool:
    """Whether this is a further process of `accelerate launch`; if so, it has done its part.

    The first process keeps the run: folder, scores, display and report.
    """
    from promptgym.evaluation.experiment import Experiment, check_processes, follow_experiment

    processes = int(os.environ.get("WORLD_SIZE", "1"))
    experiment = Experiment.of(config)
    check_processes(experiment, processes)
    if processes == 1 or os.environ.get("RANK", "0") == "0":
        return False
    follow_experiment(experiment, resume)
    return True


def reward_spec(text: str | None) -> Any:
    """Read `--reward`: a name, or what has to be a JSON object where it starts like one."""
    if text is not None and text.lstrip().startswith("{"):
        return json_object(text, "--reward")
    return parse_value(text)


def new_config(given: JSON) -> JSON:
    """Fill in defaults.

    Raises:
        ConfigError: without an agent or a task.
    """
    for name, what in (("method", "an AGENT"), ("task", "a --task")):
        if name not in given:
            raise ConfigError(
                f"give {what}, e.g. `promptgym train rlprompt --task author`, or --resume DIR"
            )
    return {"model": o.DEFAULT_MODEL, "budget": {"queries": o.DEFAULT_BUDGET}, "seed": 0, **given}


def resumed_config(folder: Path, given: JSON) -> JSON:
    """Return the config of a run with what was given on top; `launch` refuses what differs."""
    from promptgym.runs.folder import RunFolder

    config = RunFolder.open(folder).config
    parts = ("budget", "options", "task_options", "model_options", "proposer_options")
    nested = {k: {**config[k], **given[k]} for k in parts if k in given}
    return {**config, **given, **nested}


def reports(resumed: Path | None) -> bool:
    """Whether a run is to have a report; one that is resumed, as its last session."""
    from promptgym.runs.folder import RunFolder

    if resumed is None:
        return True
    sessions = [e for e in RunFolder.open(resumed).events() if e.get("kind") == "session"]
    return bool(sessions[-1].get("report", True)) if sessions else True


def default_folder(config: JSON) -> Path:
    """Return runs/TASK-AGENT-N."""
    from promptgym.runs.folder import new_run_path

    name = f"{Path(config['task']).stem}-{config['method']}"
    return new_run_path("runs", "".join(c if c.isalnum() or c in "-_." else "-" for c in name))


def launch(
    config: JSON,
    folder: Path,
    *,
    resume: bool,
    report: bool,
    quiet: bool,
    cache: str | None = None,
    max_failures: float = 0.5,
) -> JSON:
    """Run an experiment with the display; on Ctrl-C say how to go on, and leave with 130.

    Raises:
        TooManyFailures: with the command that goes on.
    """
    from promptgym.evaluation.experiment import Experiment, run_experiment
    from promptgym.runs.display import make_display

    experiment = Experiment.of(config)
    display = make_display(experiment.budget, quiet=quiet)
    # Methods also say their warnings as events: the display shows them, the report lists them.
    warnings.filterwarnings("ignore", category=UserWarning, module=r"promptgym\.")
    warnings.filterwarnings("always", category=CacheWarning)
    try:
        return run_experiment(
            experiment,
            folder,
            resume=resume,
            display=display,
            report=report,
            cache=cache,
            max_failures=max_failures,
        )
    except TooManyFailures as error:
        raise TooManyFailures(
            f"{error}; continue with: promptgym train --resume {folder}"
        ) from None
    except KeyboardInterrupt:
        begun = (folder / "config.json").exists()
        how = f"continue with: promptgym train --resume {folder}" if begun else "nothing was begun"
        typer.echo(f"interrupted; {how}", err=True)
        raise typer.Exit(130) from None


def print_projection(config: JSON, as_json: bool) -> None:
    """Print what a run would cost, without asking its model."""
    from promptgym.evaluation.experiment import Experiment
    from promptgym.evaluation.projection import project

    found = project(Experiment.of(config))
    if as_json:
        print_json(found)
        return
    parts = {"search": "search", "held_out": "held-out scores and report", "total": "total"}
    rows = []
    for key, name in parts.items():
        counts = [f"{found[key][kind]:,}" for kind in ("queries", "calls", "tokens")]
        usd = found[key]["usd"]
        rows.append([name, *counts, "unknown" if usd is None else f"{usd:,.4f}"])
    print_table(["", "queries", "calls", "tokens", "USD"], rows, "lrrrr")
    print(f"\ndry run of {found['method']} on {found['task']}: {found['model']} was not asked")
    if found["measured"] < 1.0:
        print(f"search: extrapolated from the first {found['measured']:.0%} of the budget")


def print_outcome(record: JSON, folder: Path) -> None:
    """Print the learned prompt, the table of held-out scores and where everything is."""
    rows = [
        [r["name"], *scored(r["dev"]), *scored(r["test"]), prompt_cell(r["prompt"])]
        for r in record["compared"]
    ]
    if ensemble := record.get("ensemble"):
        scores = [*scored(ensemble["dev"]), *scored(ensemble["test"])]
        rows.append(["ensemble", *scores, ensemble["text"]])
    head = ["", "dev", "95 % interval", "test", "95 % interval", "prompt"]
    print_table(head, rows, "lrlrl")
    spent = record["spent"]
    print(f"\n{spent['queries']:,} queries in {spent['seconds']:.0f} s; run folder: {folder}")
    if (folder / "report.html").exists():
        print(f"report: {folder / 'report.html'}")


def scored(score: JSON | None) -> list[str]:
    """Return a score and its interval as cells."""
    if score is None or score["value"] is None:
        return ["-", "-"]
    return [f"{score['value']:.3f}", interval(score["low"], score["high"])]
