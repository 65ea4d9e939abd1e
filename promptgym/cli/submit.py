"""`promptgym submit`: submissions for the leaderboard, packed and checked."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from promptgym.cli import options as o
from promptgym.cli.common import examples, print_json
from promptgym.errors import ConfigError

EXAMPLES = examples(
    'promptgym submit runs/tiny --out submissions --authors "A. Author" --transfer tiny-masked',
    "promptgym submit --check submissions/rlprompt",
)

Folder = Annotated[
    Path, typer.Argument(metavar="DIR", help="A finished benchmark; with --check a submission.")
]
CheckOnly = Annotated[
    bool, typer.Option("--check", help="Check a submission: recompute all of it from its log.")
]
Out = Annotated[Path | None, typer.Option(help="Where submissions go, a folder a method.")]
Authors = Annotated[str | None, typer.Option(help="Who submits.")]
Url = Annotated[str, typer.Option(help="Of a paper or of code (http or https).")]
Description = Annotated[str, typer.Option(help="What there is to say of it.")]
Methods = Annotated[list[str] | None, typer.Option("--method", help="Only this one; repeatable.")]
Transfer = Annotated[
    list[str] | None,
    typer.Option(help="Also ask this model about the chosen prompts; repeatable."),
]
Robustness = Annotated[bool, typer.Option(help="Perturb the chosen prompts and ask again.")]
Jobs = Annotated[int, typer.Option(min=1, help="Methods packed at a time, one thread each.")]
Sample = Annotated[
    int | None, typer.Option(help="--check: prompts to ask again, beside the chosen. [default: 32]")
]
Seed = Annotated[
    int | None,
    typer.Option(help="--check: of the sample; give one that its sender cannot know."),
]
Load = Annotated[
    list[str] | None,
    typer.Option(
        help="--check: a task or model not of the package that may be loaded; repeatable."
    ),
]


def submit(
    folder: Folder,
    check: CheckOnly = False,
    out: Out = None,
    authors: Authors = None,
    url: Url = "",
    description: Description = "",
    method: Methods = None,
    transfer: Transfer = None,
    robustness: Robustness = True,
    jobs: Jobs = 1,
    sample: Sample = None,
    seed: Seed = None,
    load: Load = None,
    as_json: o.AsJson = False,
) -> None:
    """Pack a finished benchmark into submissions, one folder a method; or check one.

    The exit status of --check is 1 if something does not match.
    """
    of_check = {"--sample": sample, "--seed": seed, "--load": load}
    of_packing = {
        **{"--out": out, "--authors": authors, "--method": method, "--transfer": transfer},
        **{"--url": url or None, "--description": description or None},
    }
    if lost := [k for k, v in (of_packing if check else of_check).items() if v is not None]:
        raise ConfigError(f"{lost[0]} goes {'without' if check else 'with'} --check")
    if check:
        run_check(folder, sample, o.checked_seed(seed), load or (), as_json)
        return
    if out is None or authors is None:
        raise ConfigError("give --out and --authors; or --check, for a submission that there is")
    from promptgym.leaderboard.packing import About, pack_bench

    paths = pack_bench(
        folder,
        out,
        About(authors=authors, url=url, description=description),
        methods=method or (),
        robust=robustness,
        transfer=transfer or (),
        jobs=jobs,
    )
    if as_json:
        print_json([str(path) for path in paths])
        return
    for path in paths:
        print(path)


def run_check(
    folder: Path, sample: int | None, seed: int | None, load: list[str] | tuple[()], as_json: bool
) -> None:
    """Check, print what came of it, and leave with 1 if something does not match."""
    from promptgym.leaderboard.check import SAMPLE, check_submission

    if sample is not None and sample < 0:
        raise ConfigError(f"--sample must be at least 0, got {sample}")
    count = SAMPLE if sample is None else sample
    done = check_submission(folder, sample=count, seed=seed, allowed=tuple(load))
    if as_json:
        names = ("problems", "rows", "queries", "rescored", "seed", "seconds")
        print_json({"path": str(folder), **{name: getattr(done, name) for name in names}})
    else:
        for problem in done.problems:
            print(problem)
        verdict = f"{len(done.problems)} do not match" if done.problems else "everything matches"
        print(
            f"{folder}: {verdict}; {done.rows:,} rows, {done.queries:,} queries, "
            f"{done.rescored} prompts asked again (seed {done.seed}), {done.seconds:.1f} s"
        )
    if done.problems:
        raise typer.Exit(1)
