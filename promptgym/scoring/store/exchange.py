"""A store as a text file, and back: `promptgym cache export | import`.

The file is JSON lines in UTF-8 (gzip if its name ends in .gz), every kind before what refers to it:

    {"format": "promptgym-cache", "version": 1}
    {"kind": "setting", "id": "9f..", "content": {"model": ..., "template": ..., "labels": ...}}
    {"kind": "examples", "id": "3a..", "examples": [{"input": ..., "target": ..., "key": ...}]}
    {"kind": "answers", "setting": "9f..", "examples": "3a..", "prompt": {"instruction": ...},
     "answers": [[-0.1, -2.3], ...], "tokens": [12, ...]}

`answers` has one item an example of the set: the log-probabilities of the labels (nats) in the
order of the setting's `labels` (null is minus infinity), or the completion. Numbers are exact. Ids
tie lines together; an import computes them anew from the content.
"""

from __future__ import annotations

import gzip
import json
import os
import zlib
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

import numpy as np

from promptgym.errors import ConfigError
from promptgym.prompts import Example, Prompt
from promptgym.scoring.store.rows import Packed, unpack
from promptgym.scoring.store.setting import ExampleSet, Setting
from promptgym.scoring.store.shelf import Answered, Shelf
from promptgym.scoring.store.store import ScoreStore
from promptgym.types import JSON, FloatArray, ObjectArray

if TYPE_CHECKING:
    from sqlalchemy import Connection

HEADER: JSON = {"format": "promptgym-cache", "version": 1}
BATCH = 1000


def export_store(store: ScoreStore, path: str | Path, model: str | None = None) -> int:
    """Write a store to a file; the file appears when it is whole.

    Args:
        store: what to write.
        path: where to; gzip if it ends in .gz.
        model: only settings of models whose name holds this text.

    Returns:
        The number of rows written.

    Raises:
        ConfigError: if the store cannot be used, or the file cannot be written.
    """
    path = Path(path)
    if not path.name or path.is_dir():
        raise ConfigError(f"{path}: a folder; give the name of a file to export to")
    partial = path.with_name(f".{os.getpid()}.{path.name}")  # keeps the suffix, .gz or not
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with _open(partial, "wt") as file:

            def put(row: JSON) -> None:
                file.write(json.dumps(row, ensure_ascii=False) + "\n")

            put(HEADER)
            count = store.run(lambda c: _export(c, put, model), 0)
        if store.off:
            raise ConfigError(f"{store!r} cannot be used: {store.off}")
        partial.replace(path)
    except OSError as error:
        raise ConfigError(f"{path} cannot be written: {error}") from None
    finally:
        with suppress(OSError):
            partial.unlink(missing_ok=True)
    return count


def _open(path: Path, mode: str) -> IO[str]:
    """Open a text file, gzip if its name says so."""
    if path.suffix == ".gz":
        return gzip.open(path, mode, encoding="utf-8")  # type: ignore[return-value]
    return path.open(mode.replace("t", ""), encoding="utf-8")


def _export(connection: Connection, put: Callable[[JSON], None], model: str | None) -> int:
    """Write settings, sets and answers; damaged rows are left out."""
    from sqlalchemy import select

    from promptgym.scoring.store import database as d

    labels: dict[bytes, int | None] = {}
    for key, content in connection.execute(select(d.settings.c.key, d.settings.c.content)).all():
        setting = json.loads(content)
        if model is None or model in setting["model"]:
            labels[key] = None if setting["labels"] is None else len(setting["labels"])
            put({"kind": "setting", "id": key.hex(), "content": setting})
    uses = select(d.answers.c.setting, d.answers.c.examples).distinct()
    used = {examples for setting, examples in connection.execute(uses) if setting in labels}
    sizes: dict[bytes, int] = {}
    sets = select(d.example_sets.c.key, d.example_sets.c.size, d.example_sets.c.content)
    for key, size, packed in connection.execute(sets):
        if key not in used:
            continue
        sizes[key] = size
        put({"kind": "examples", "id": key.hex(), "examples": json.loads(zlib.decompress(packed))})
    a, p = d.answers, d.prompts
    query = select(
        a.c.setting, a.c.examples, p.c.content, a.c.answers, a.c.tokens, a.c.check
    ).select_from(a.join(p, p.c.key == a.c.prompt))
    count = 0
    for key, examples, content, *packed in connection.execution_options(yield_per=BATCH).execute(
        query
    ):
        if key not in labels or examples not in sizes:
            continue
        got = unpack(Packed(*packed), sizes[examples], labels[key])
        if got is None:
            continue
        put(
            {
                "kind": "answers",
                "setting": key.hex(),
                "examples": examples.hex(),
                "prompt": json.loads(content),
                "answers": _plain(got[0]),
                "tokens": got[1].tolist(),
            }
        )
        count += 1
    return count


def _plain(answers: FloatArray | ObjectArray) -> list[Any]:
    """Return answers as JSON values, which have no infinity."""
    rows: list[Any] = answers.tolist()
    if answers.dtype == np.object_ or np.isfinite(answers).all():
        return rows
    return [[x if np.isfinite(x) else None for x in row] for row in rows]


def import_store(store: ScoreStore, path: str | Path) -> int:
    """Add the rows of a file to a store; what is there already stays as it is.

    Returns:
        The number of rows read.

    Raises:
        ConfigError: for a file that is no export, naming the line; rows before it are kept.
    """
    path = Path(path)
    if not path.is_file():
        raise ConfigError(f"{path}: there is no such file")
    shelves: dict[str, Shelf] = {}
    waiting: dict[str, list[Answered]] = {}
    count = 0
    for setting, shelf, row in _read(path, store):
        shelves[setting] = shelf
        waiting.setdefault(setting, []).append(row)
        count += 1
        if len(waiting[setting]) >= BATCH:
            shelf.write(waiting.pop(setting))
    for setting, rows in waiting.items():
        shelves[setting].write(rows)
    return count


def _read(path: Path, store: ScoreStore) -> Iterator[tuple[str, Shelf, Answered]]:
    """Yield (id of the setting, its shelf, row) of a file."""
    shelves: dict[str, Shelf] = {}
    sets: dict[str, ExampleSet] = {}
    number = 0
    try:
        with _open(path, "rt") as file:
            for number, line in enumerate(file, 1):
                row = json.loads(line)
                if number == 1:
                    if row != HEADER:
                        raise ValueError(f"expected the header {json.dumps(HEADER)}")
                elif row["kind"] == "setting":
                    shelves[row["id"]] = Shelf(store, Setting.from_json(row["content"]))
                elif row["kind"] == "examples":
                    sets[row["id"]] = ExampleSet(tuple(Example(**e) for e in row["examples"]))
                else:
                    shelf = shelves[row["setting"]]
                    yield row["setting"], shelf, _answered(row, shelf, sets[row["examples"]])
    except (OSError, EOFError, ValueError, KeyError, TypeError, zlib.error) as error:
        raise ConfigError(
            f"{path}, line {number}: not a line of a cache export "
            f"({type(error).__name__}: {error}); expected a file of `promptgym cache export`"
        ) from None


def _answered(row: dict[str, Any], shelf: Shelf, examples: ExampleSet) -> Answered:
    """Read one row of answers and check its shape."""
    labels = shelf.setting.labels
    answers: FloatArray | ObjectArray
    if labels is None:
        answers = np.empty(len(row["answers"]), dtype=np.object_)
        answers[:] = [str(text) for text in row["answers"]]
    else:
        rows = [[-np.inf if x is None else x for x in one] for one in row["answers"]]
        answers = np.array(rows, dtype=np.float64).reshape(-1, len(labels))
        if np.isnan(answers).any():
            raise ValueError("an answer is NaN")
    tokens = np.array(row["tokens"], dtype=np.int64)
    if len(answers) != len(examples) or tokens.shape != (len(examples),):
        raise ValueError(
            f"{len(answers)} answers and {len(tokens)} token counts for {len(examples)} examples"
        )
    return Answered(Prompt.of(row["prompt"]), examples, answers, tokens)
