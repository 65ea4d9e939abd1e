"""`promptgym cache`: what the score cache holds; clear it, write it to a file, read one in."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Annotated

import typer

from promptgym.cli import options as o
from promptgym.cli.common import examples, print_json, print_table
from promptgym.errors import ConfigError
from promptgym.scoring.store import ScoreStore
from promptgym.types import JSON

INFO = examples("promptgym cache info", "promptgym cache info --json")
CLEAR = examples("promptgym cache clear --older-than-days 90 --yes")
EXPORT = examples("promptgym cache export scores.jsonl.gz")
IMPORT = examples("promptgym cache import scores.jsonl.gz")

app = typer.Typer(rich_markup_mode=None, no_args_is_help=True, help="The cache of scores.")

Place = Annotated[
    str | None,
    typer.Option(
        "--cache",
        help="Folder, .sqlite file or postgresql:// URL. "
        "[default: PROMPTGYM_CACHE or ~/.cache/promptgym]",
    ),
]
File = Annotated[Path, typer.Argument(help="JSON lines; gzip if the name ends in .gz.")]
OfModel = Annotated[
    str | None, typer.Option("--model", help="Only models whose name holds this text.")
]
Older = Annotated[float | None, typer.Option(help="Only what was written so many days ago.")]
Yes = Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")]


def _store(place: str | None) -> ScoreStore:
    """Return the store that was named."""
    from promptgym.scoring.store import default_place, store_at

    return store_at(default_place() if place is None else place)


def _check(store: ScoreStore) -> None:
    """Turn a store that went off into an error: here it is what the user asked for.

    Raises:
        ConfigError: if the store could not be used.
    """
    if store.off:
        raise ConfigError(f"{store!r} cannot be used: {store.off}")


@app.command("info", epilog=INFO)
def info(place: Place = None, as_json: o.AsJson = False) -> None:
    """Show where the cache is and what it holds, model by model."""
    from promptgym.scoring.store.admin import describe
    from promptgym.scoring.store.database import shown

    store = _store(place)
    path = store.path
    found = [] if path is not None and not path.exists() else describe(store)
    _check(store)
    where = shown(store.url)
    size = path.stat().st_size if path is not None and path.exists() else None
    if as_json:
        print_json({"place": where, "bytes": size, "settings": [i.to_json() for i in found]})
        return
    print(f"cache: {where}" + ("" if size is None else f" ({size / 1e6:.1f} MB)"))
    if not found:
        print("it is empty")
        return
    rows = [
        [
            i.content["model"],
            i.content["template"].replace("\n", "\\n"),
            "labels" if i.content["labels"] else "completions",
            f"{i.prompts:,}",
            f"{i.scores:,}",
            f"{i.size / 1e6:.1f}",
            time.strftime("%Y-%m-%d", time.localtime(i.written)),
        ]
        for i in found
    ]
    head = ["model", "template", "answers", "prompts", "scores", "MB", "last written"]
    print_table(head, rows, "lllrrrl")


@app.command("clear", epilog=CLEAR)
def clear(
    place: Place = None,
    model: OfModel = None,
    older_than_days: Older = None,
    yes: Yes = False,
    as_json: o.AsJson = False,
) -> None:
    """Delete scores: all, those of some models, or old ones."""
    from promptgym.scoring.store import admin

    if model == "":
        raise ConfigError("--model is empty, which every name holds; leave it out to clear all")
    if older_than_days is not None and not older_than_days >= 0:
        raise ConfigError(f"--older-than-days must be at least 0, got {older_than_days}")
    store = _store(place)
    deleted = 0
    if store.path is None or store.path.exists():
        if not yes:
            typer.confirm(f"Delete scores in {store!r}?", abort=True, err=True)
        deleted = admin.clear(store, model, older_than_days)
    _check(store)
    _say({"deleted": deleted}, f"deleted: {deleted:,} rows", as_json)


@app.command("export", epilog=EXPORT)
def export(
    file: File, place: Place = None, model: OfModel = None, as_json: o.AsJson = False
) -> None:
    """Write the cache to a file of JSON lines, which `import` and replay models read."""
    from promptgym.scoring.store import export_store

    store = _store(place)
    count = export_store(store, file, model)
    _check(store)
    _say({"exported": count, "file": str(file)}, f"{file}: {count:,} rows", as_json)


@app.command("import", epilog=IMPORT)
def import_(file: File, place: Place = None, as_json: o.AsJson = False) -> None:
    """Add the rows of an exported file; what is there already stays as it is."""
    from promptgym.scoring.store import import_store

    store = _store(place)
    count = import_store(store, file)
    _check(store)
    _say({"imported": count, "file": str(file)}, f"{file}: {count:,} rows read", as_json)


def _say(record: JSON, line: str, as_json: bool) -> None:
    """Print what was done."""
    if as_json:
        print_json(record)
    else:
        print(line)
