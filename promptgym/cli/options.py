"""The options of the commands, each described once."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from promptgym.errors import ConfigError

DEFAULT_MODEL, DEFAULT_BUDGET = "tiny", 200_000


def checked_seed(seed: int | None) -> int | None:
    """Pass a seed on.

    Raises:
        ConfigError: for one that no generator takes.
    """
    if seed is not None and seed < 0:
        raise ConfigError(f"--seed must be at least 0, got {seed}")
    return seed


Agent = Annotated[
    str | None,
    typer.Argument(help="An agent or baseline, e.g. rlprompt, hill_climbing, random_tokens."),
]
TaskName = Annotated[
    str | None,
    typer.Option("--task", help="A bundled task (see `promptgym tasks`), a data file or hub:NAME."),
]
ModelName = Annotated[
    str | None,
    typer.Option("--model", help=f"The frozen target model. [default: {DEFAULT_MODEL}]"),
]
ProposerName = Annotated[
    str | None,
    typer.Option(
        "--proposer",
        help="The model that writes prompts, for methods that ask one, e.g. tiny-rewriter.",
    ),
]
Budget = Annotated[
    int | None,
    typer.Option(help=f"Queries (prompt x example pairs) at most. [default: {DEFAULT_BUDGET:,}]"),
]
BudgetTokens = Annotated[int | None, typer.Option(help="Tokens of the target model at most.")]
BudgetProposerCalls = Annotated[
    int | None, typer.Option(help="Texts that the proposer is asked at most.")
]
BudgetProposerTokens = Annotated[int | None, typer.Option(help="Tokens of the proposer at most.")]
BudgetSeconds = Annotated[float | None, typer.Option(help="Seconds at most.")]
BudgetUsd = Annotated[float | None, typer.Option(help="Money (USD) at most.")]
MaxFailures = Annotated[
    float, typer.Option(help="Stop when more than this share of all evaluations has failed.")
]
Cache = Annotated[
    str | None,
    typer.Option(
        help="The cache of scores: on, off, or its place (a folder, a .sqlite file or a "
        "postgresql:// URL). [default: on for served models, off for models of this machine]",
    ),
]
DryRun = Annotated[
    bool, typer.Option("--dry-run", help="Ask no model; print what it would cost, about.")
]
Seed = Annotated[
    int | None, typer.Option(callback=checked_seed, help="Seed of the method. [default: 0]")
]
PlainSeed = Annotated[
    int, typer.Option("--seed", callback=checked_seed, help="Seed of everything random.")
]
Out = Annotated[Path | None, typer.Option(help="The run folder. [default: runs/TASK-AGENT-N]")]
Resume = Annotated[
    Path | None,
    typer.Option(help="Continue the run of this folder; whatever else is given must agree."),
]
Preset = Annotated[str | None, typer.Option(help="Preset of an agent's settings.")]
Settings = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="NAME=VALUE", help="One setting of the method; repeatable."),
]
RewardSpec = Annotated[
    str | None, typer.Option(help="The reward: a name or a JSON object. [default: gap]")
]
Start = Annotated[
    str | None,
    typer.Option("--prompt", help="Where editing starts. [default: the task's manual prompt]"),
]
TemplateText = Annotated[
    str | None, typer.Option("--template", help="Template text, e.g. '{input} {prompt} {mask} .'")
]
DataDir = Annotated[str | None, typer.Option(help="Folder with the task's files.")]
InputColumn = Annotated[str | None, typer.Option(help="Column of the inputs.")]
TargetColumn = Annotated[str | None, typer.Option(help="Column of the answers.")]
Labels = Annotated[
    str | None,
    typer.Option(
        help="The labels in order, comma-separated; or data (every different target is one), none "
        "(free answers). [default: auto, found out]"
    ),
]
TaskOptions = Annotated[
    str | None,
    typer.Option("--task-options", metavar="JSON", help="Further arguments of load_task."),
]
ModelOptions = Annotated[
    str | None,
    typer.Option("--model-options", metavar="JSON", help="Further arguments of load_model."),
]
ProposerOptions = Annotated[
    str | None,
    typer.Option(
        "--proposer-options", metavar="JSON", help="Further arguments of load_model for it."
    ),
]
Report = Annotated[
    bool | None,
    typer.Option(
        "--report/--no-report",
        help="Write report.html; asks the model a little more. With --resume: as before.",
        show_default="report",
    ),
]
Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="No progress display.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON instead of a table.")]
