"""`promptgym leaderboard`: the static site of checked submissions; build it, look at it."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from promptgym.cli import options as o
from promptgym.cli.common import examples

BUILD = examples("promptgym leaderboard build submissions --out site")
SERVE = examples("promptgym leaderboard serve site --port 8080")

app = typer.Typer(
    rich_markup_mode=None, no_args_is_help=True, help="The site of checked submissions."
)

Submissions = Annotated[
    Path, typer.Argument(help="Folder of submissions, each a folder that `promptgym submit` wrote.")
]
Out = Annotated[Path, typer.Option(metavar="DIR", help="Where the pages go.")]
Seed = Annotated[
    int | None,
    typer.Option(help="Of the prompts that are asked again; give one that no sender can know."),
]
Load = Annotated[
    list[str] | None,
    typer.Option(help="A task or model not of the package that may be loaded; repeatable."),
]
Title = Annotated[str, typer.Option(help="Title of the site.")]
Jobs = Annotated[int, typer.Option(min=1, help="Submissions checked at a time.")]
Site = Annotated[Path, typer.Argument(metavar="DIR", help="What `build` wrote.")]
Port = Annotated[int, typer.Option(min=0, max=65535, help="0 takes a free one.")]


@app.command("build", epilog=BUILD)
def build(
    submissions: Submissions,
    out: Out,
    title: Title = "promptgym leaderboard",
    seed: Seed = None,
    load: Load = None,
    jobs: Jobs = 1,
) -> None:
    """Check every submission and write the pages of those that pass.

    The others are listed with the reasons on refused.html.
    """
    from promptgym.leaderboard.check import check_submissions
    from promptgym.leaderboard.site import build_site

    entries, refused = check_submissions(
        submissions, allowed=tuple(load or ()), seed=o.checked_seed(seed), jobs=jobs
    )
    files = build_site(entries, out, refused=refused, title=title)
    print(f"{len(entries)} submissions shown, {len(refused)} refused, {len(files)} files")
    print(out / "index.html")


@app.command("serve", epilog=SERVE)
def serve(folder: Site, port: Port = 8000) -> None:
    """Show a site in a browser of this machine, until Ctrl-C."""
    from promptgym.leaderboard.serve import serve_site

    serve_site(folder, port=port)
