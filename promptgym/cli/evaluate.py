"""`promptgym evaluate`: held-out scores of prompts, with intervals."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from promptgym.cli import options as o
from promptgym.cli.common import (
    complain,
    examples,
    interval,
    json_object,
    print_json,
    print_table,
    prompt_cell,
    task_options,
    without_none,
)
from promptgym.errors import ConfigError
from promptgym.types import JSON

EXAMPLES = examples(
    "promptgym evaluate --prompt '' --prompt 'what is the opinion of the author ?' --task author",
    "promptgym evaluate --run runs/random --split test --json",
    "promptgym evaluate --prompt 'the author , closely' --task author --limit 50 --robustness",
)

Prompts = Annotated[
    list[str] | None, typer.Option("--prompt", help="A prompt; repeatable. '' is the empty one.")
]
Run = Annotated[
    Path | None, typer.Option("--run", help="Take prompt, task and model of this run folder.")
]
Split = Annotated[str, typer.Option(help="test, dev or train.")]
Limit = Annotated[int | None, typer.Option(help="Only the first so many examples.")]
Robustness = Annotated[
    bool,
    typer.Option(
        "--robustness", help="Also measure perturbed and reformatted prompts, and sensitivity."
    ),
]
Transfer = Annotated[
    list[str] | None,
    typer.Option(
        "--transfer", metavar="MODEL", help="With --robustness: another model; repeatable."
    ),
]
Variants = Annotated[
    int | None, typer.Option(help="With --robustness: of each kind of perturbation. [default: 3]")
]
Seed = Annotated[int | None, typer.Option(help="With --robustness: of the variants. [default: 0]")]


def evaluate(
    prompts: Prompts = None,
    run: Run = None,
    task: o.TaskName = None,
    model: o.ModelName = None,
    split: Split = "test",
    template: o.TemplateText = None,
    limit: Limit = None,
    data_dir: o.DataDir = None,
    input_column: o.InputColumn = None,
    target_column: o.TargetColumn = None,
    labels: o.Labels = None,
    more_task: o.TaskOptions = None,
    more_model: o.ModelOptions = None,
    cache: o.Cache = None,
    robustness: Robustness = False,
    transfer: Transfer = None,
    variants: Variants = None,
    seed: Seed = None,
    dry_run: o.DryRun = False,
    as_json: o.AsJson = False,
) -> None:
    """Score prompts on a held-out split; their 95 % intervals are over its examples."""
    given: JSON = {
        "task": task,
        "model": model,
        "template": template,
        "task_options": task_options(
            more_task, labels, data_dir=data_dir, input=input_column, target=target_column
        ),
        "model_options": json_object(more_model, "--model-options"),
    }
    asked: list[str | JSON] = list(prompts or ())
    setup: JSON = {"model": o.DEFAULT_MODEL}
    if run is not None:
        trained, learned = from_run(run)
        setup.update(trained)
        asked.append(learned)
    setup.update(without_none(given) or {})
    if not asked:
        raise ConfigError("nothing to evaluate: give --prompt TEXT or --run DIR")
    if "task" not in setup:
        raise ConfigError("give --task T, or --run DIR to take the run's")
    setup["cache"] = cache
    drawn = without_none({"transfer": transfer or None, "variants": variants, "seed": seed})
    if drawn and not robustness:
        raise ConfigError(f"--{next(iter(drawn))} is about --robustness; give that, too")
    (project if dry_run else measure)(
        asked,
        {**setup, "split": split, "limit": limit},
        drawn or {} if robustness else None,
        as_json,
    )


def from_run(folder: Path) -> tuple[JSON, JSON]:
    """Return what a run was asked with (task, model, template) and its best prompt."""
    from promptgym.runs.folder import RunFolder

    run = RunFolder.open(folder)
    keys = ("task", "task_options", "model", "model_options", "template")
    setup = {k: run.config[k] for k in keys if run.config.get(k) is not None}
    best: JSON = run.result()["best"]["prompt"]
    return setup, best


def measure(asked: list[str | JSON], setup: JSON, drawn: JSON | None, as_json: bool) -> None:
    """Score the prompts and print what came out.

    Args:
        asked: the prompts.
        setup: arguments of `evaluate`.
        drawn: further arguments of `measure_robustness`; None does not measure it.
        as_json: print JSON instead of tables.

    Raises:
        typer.Exit: with status 1, if every evaluation failed.
    """
    from promptgym.evaluation import evaluate as score_prompts
    from promptgym.evaluation.robustness import measure_robustness

    robust = None if drawn is None else measure_robustness(asked, **setup, **drawn)
    found = score_prompts(asked, **setup)
    result = found.to_json()
    if robust is not None:
        result["robustness"] = robust
    if as_json:
        print_json(result)
    else:
        print_scores(result, setup["split"])
        if robust is not None:
            print_robustness(robust)
    if found.scores.failed.all():
        complain(f"every evaluation failed; the first: {found.scores.failures[0].reason}")
        raise typer.Exit(1)


def print_scores(result: JSON, split: str) -> None:
    """Print the table of the prompts' scores."""
    rows = []
    for row in result["prompts"]:
        score = "-" if row["value"] is None else f"{row['value']:.3f}"
        ends = interval(row["low"], row["high"])
        rows.append([score, ends, failed_cell(row), prompt_cell(row["prompt"])])
    print_table([result["metric"], "95 % interval", "failed", "prompt"], rows, "rlr")
    count = result["prompts"][0]["examples"]
    print(f"\n{count} {split} examples of {result['task']}, model {result['model']}")


def failed_cell(row: JSON) -> str:
    """Return the failures of a prompt, their kinds, and the score that counts them as 0."""
    if not row["failures"]:
        return "0"
    kinds = ", ".join(f"{count} {kind}" for kind, count in row["statuses"].items())
    counted = row["value_with_failures"]
    return f"{kinds}" + ("" if counted is None else f"; {counted:.3f} with them")


def print_robustness(rows: list[JSON]) -> None:
    """Print the table of drops, spreads and sensitivity."""
    from promptgym.evaluation.robustness import KINDS

    def cell(part: JSON | None, key: str) -> str:
        value = None if part is None else part[key]
        return "-" if value is None else f"{value:.3f}"

    others = list(rows[0]["transfer"])
    table = [
        [
            *(cell(row[kind], "drop") for kind in KINDS),
            cell(row["format"], "spread"),
            cell(row, "posix"),
            *(cell(row["transfer"][name], "drop") for name in others),
            prompt_cell(row["prompt"]),
        ]
        for row in rows
    ]
    headers = [*KINDS, "format", "posix", *others]
    print("\nrobustness: drops (1 - changed / own), spread over formats, nats a token")
    print_table([*headers, "prompt"], table, "r" * len(headers))


def project(asked: list[str | JSON], setup: JSON, drawn: JSON | None, as_json: bool) -> None:
    """Print what measuring would cost, without asking the model."""
    from promptgym.evaluation.projection import added, project_evaluation, project_robustness

    found = project_evaluation(asked, **setup)
    if drawn is not None:
        found = added(found, project_robustness(asked, **setup, **drawn))
    if as_json:
        print_json(found)
        return
    usd = "unknown" if found["usd"] is None else f"{found['usd']:,.4f}"
    counts = [f"{found[kind]:,}" for kind in ("queries", "calls", "tokens")]
    print_table(["queries", "calls", "tokens", "USD"], [[*counts, usd]], "rrrr")
    print(f"\ndry run: {setup['model']} was not asked")
