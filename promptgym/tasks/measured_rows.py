"""Measured tables in rows: (task, model, prompt) -> score, as CSV, TSV or JSON lines.

Columns are `task`, `model` (or `llm`), `prompt` and `score` (or `test_score`), in [0, 1]; optional
are `system` (or `system_prompt`) and `n`, which is not used. Without more, each row is a mean. With
`input` (and `target` and `split`, if there are any) each row is one prompt on one example.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from promptgym.errors import TaskError
from promptgym.prompts import Example, Prompt
from promptgym.tasks.files import read_table
from promptgym.tasks.measured import MeasuredTable, digest_of
from promptgym.tasks.parts import SEPARATOR
from promptgym.tasks.rows import Row, Sourced, Table
from promptgym.tasks.splits import SPLITS
from promptgym.types import FloatArray

ALIASES = {"llm": "model", "test_score": "score", "system_prompt": "system"}
NEEDED = ("task", "model", "prompt", "score")
OPTIONAL = ("system", "n", "input", "target", "split")


class _Measurement(NamedTuple):
    """One row, checked: `input` is None for a mean."""

    row: Row
    prompt: Prompt
    score: float
    input: str | None
    target: str
    split: str


def read_rows(path: Path, select: str) -> MeasuredTable:
    """Read a table of rows.

    Args:
        path: the file.
        select: "task/model", either half or both empty where there is but one.

    Raises:
        TaskError: naming file, row, what was found and what was expected.
    """
    table = _renamed(read_table(path))
    pairs = [(_text(table, r, "task"), _text(table, r, "model")) for r in table.rows]
    task, model = _chosen(table, pairs, select)
    rows = [
        _measurement(table, row)
        for row, pair in zip(table.rows, pairs, strict=True)
        if pair == (task, model)
    ]
    single = rows[0].input is not None
    for row in rows:
        if (row.input is not None) != single:
            raise TaskError(
                f"{table.where(row.row.number)}: {'no' if single else 'an'} input, while row "
                f"{rows[0].row.number} has {'one' if single else 'none'}; expected one input a "
                "row, or means only"
            )
    prompts = tuple(dict.fromkeys(row.prompt for row in rows))
    splits = _splits(table, rows, task) if single else {"mean": (_whole(table, task),)}
    return MeasuredTable(
        source=str(path),
        task=task,
        model=model,
        prompts=prompts,
        splits=splits,
        values=_values(table, rows, prompts, splits),
        digest=digest_of([path]),
    )


def _renamed(table: Table) -> Table:
    """Bring the columns to their names; refuse those that are missing or unknown."""
    known = {**{name: name for name in (*NEEDED, *OPTIONAL)}, **ALIASES}
    expected = f"{', '.join(NEEDED)} and, if need be, {', '.join(OPTIONAL)}"
    for row in table.rows:
        names = [known.get(column, "") for column in row.values]
        for column, name in zip(row.values, names, strict=True):
            if not name:
                raise TaskError(
                    f"{table.where(row.number)}: unknown column {column!r}; expected {expected}"
                )
            if names.count(name) > 1:
                raise TaskError(f"{table.where(row.number)}: two columns say {name!r}")
        missing = [name for name in NEEDED if name not in names]
        if missing:
            raise TaskError(
                f"{table.where(row.number)}: no column {missing[0]!r} among "
                f"{list(row.values)}; expected {expected}"
            )
    rows = [Row(r.number, {known[c]: v for c, v in r.values.items()}) for r in table.rows]
    return Table(table.source, tuple(dict.fromkeys(c for r in rows for c in r.values)), rows)


def _text(table: Table, row: Row, column: str, *, empty: bool = False) -> str:
    """Return a cell that must be text."""
    value = row.values.get(column)
    if value is None and empty:
        return ""
    if not isinstance(value, str) or not (value or empty):
        raise TaskError(
            f"{table.where(row.number)}: column {column!r} holds {value!r}, expected a text"
        )
    if SEPARATOR in value:
        raise TaskError(
            f"{table.where(row.number)}: the {column} holds {SEPARATOR!r}, which separates the "
            "parts of a replayed text; expected any other character"
        )
    return value


def _measurement(table: Table, row: Row) -> _Measurement:
    """Check one row."""
    where, value = table.where(row.number), row.values["score"]
    try:
        score = float(value)
    except (TypeError, ValueError):
        score = math.nan
    if not 0 <= score <= 1:
        raise TaskError(
            f"{where}: the score is {value!r}, expected a number from 0 to 1 (leave the row out "
            "where a measurement failed)"
        )
    split = _text(table, row, "split", empty=True) or "all"
    if split not in (*SPLITS, "all"):
        raise TaskError(f"{where}: the split is {split!r}, expected one of {list(SPLITS)}")
    prompt = Prompt(
        _text(table, row, "prompt", empty=True), system=_text(table, row, "system", empty=True)
    )
    text = _text(table, row, "input") if row.values.get("input") is not None else None
    return _Measurement(row, prompt, score, text, _text(table, row, "target", empty=True), split)


def _chosen(table: Table, pairs: Sequence[tuple[str, str]], select: str) -> tuple[str, str]:
    """Return the one (task, model) that is meant.

    Raises:
        TaskError: it is not there, or several are and none was chosen.
    """
    counts = Counter(pairs)
    task, _, model = select.partition("/")
    found = [p for p in counts if (not task or p[0] == task) and (not model or p[1] == model)]
    if len(found) == 1:
        return found[0]
    shown = ", ".join(f"'#{t}/{m}' ({n:,} rows)" for (t, m), n in counts.items())
    if not found:
        raise TaskError(f"{table.source}: nothing was measured of {select!r}; there is {shown}")
    second = table.rows[pairs.index(found[1])].number
    first = table.rows[pairs.index(found[0])].number
    raise TaskError(
        f"{table.where(second)}: task {found[1][0]!r} of model {found[1][1]!r}, while row {first} "
        f"is task {found[0][0]!r} of {found[0][1]!r}; expected one task and one model: choose one "
        f"behind the file's name: {shown}"
    )


def _whole(table: Table, task: str) -> Sourced:
    """Return the example that stands for all examples behind a mean."""
    return Sourced(Example(f"all examples of {task}", ""), table.source)


def _splits(
    table: Table, rows: Sequence[_Measurement], task: str
) -> dict[str, tuple[Sourced, ...]]:
    """Return the examples of every split; refuse an example that rows tell differently."""
    seen: dict[str, _Measurement] = {}
    for row in rows:
        first = seen.setdefault(str(row.input), row)
        if (row.target, row.split) != (first.target, first.split):
            raise TaskError(
                f"{table.where(row.row.number)}: the input {row.input!r} has target "
                f"{row.target!r} and split {row.split!r}, in row {first.row.number} "
                f"{first.target!r} and {first.split!r}; expected the same"
            )
    out: dict[str, list[Sourced]] = {}
    for text, row in seen.items():
        item = Sourced(Example(text, row.target), table.where(row.row.number))
        out.setdefault(row.split, []).append(item)
    if ("all" in out and len(out) > 1) or not {"all", "train"} & set(out):
        raise TaskError(
            f"{table.source}: the examples of {task!r} lie in the splits {sorted(out)}; expected a "
            "split in every row, 'train' among them, or in none"
        )
    return {split: tuple(items) for split, items in out.items()}


def _values(
    table: Table,
    rows: Sequence[_Measurement],
    prompts: Sequence[Prompt],
    splits: Mapping[str, Sequence[Sourced]],
) -> FloatArray:
    """Fill the matrix, shape (P, E); refuse two rows that differ about one cell."""
    line = {prompt: i for i, prompt in enumerate(prompts)}
    inputs = [item.example.input for items in splits.values() for item in items]
    column = {text: i for i, text in enumerate(inputs)}
    values = np.full((len(prompts), len(inputs)), np.nan)
    first: dict[tuple[int, int], int] = {}
    for row in rows:
        at = line[row.prompt], 0 if row.input is None else column[row.input]
        before = first.setdefault(at, row.row.number)
        if before != row.row.number and values[at] != row.score:
            raise TaskError(
                f"{table.where(row.row.number)}: score {row.score} for what row {before} gives "
                f"{values[at]}: prompt {row.prompt.instruction[:60]!r}; expected one score for a "
                "prompt" + ("" if row.input is None else " and an input")
            )
        values[at] = row.score
    return values
