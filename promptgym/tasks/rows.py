"""Rows of a table, whatever file they came from, and how they become examples."""

from __future__ import annotations

import math
import string
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from difflib import get_close_matches
from typing import Any, NamedTuple

from promptgym.errors import TaskError
from promptgym.prompts import Example
from promptgym.prompts.prompt import lone_surrogate


class Row(NamedTuple):
    """One row and where it stands: `number` is what a spreadsheet shows (a header is row 1)."""

    number: int
    values: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Table:
    """What was read from one file or one split of a dataset.

    Attributes:
        source: the name used in error messages.
        columns: column names, in order.
        rows: the rows.
        class_names: column -> names of its integer classes (`datasets.ClassLabel`).
    """

    source: str
    columns: tuple[str, ...]
    rows: Sequence[Row]
    class_names: Mapping[str, tuple[str, ...]] = field(default_factory=dict)

    def where(self, number: int) -> str:
        """Return "file, row n"."""
        return f"{self.source}, row {number}"


class Sourced(NamedTuple):
    """An example and the place it came from, for messages."""

    example: Example
    where: str


@dataclass(frozen=True, slots=True)
class LabelMap:
    """Raw label values -> labels.

    Attributes:
        labels: the labels, in index order.
        raw: further raw values that stand for a label (`{"0": "negative"}`).
    """

    labels: tuple[str, ...]
    raw: Mapping[str, str] = field(default_factory=dict)

    def find(self, value: str, where: str) -> str:
        """Return the label of a raw value.

        Raises:
            TaskError: for a value that stands for no label; names the nearest one.
        """
        if value in self.raw:
            return self.raw[value]
        if value in self.labels:
            return value
        accepted = list(dict.fromkeys((*self.labels, *self.raw)))
        message = f"{where}: label {value!r} is not one of {accepted}"
        close = get_close_matches(value, accepted, n=1) or get_close_matches(
            value.lower(), [a.lower() for a in accepted], n=1, cutoff=0.8
        )
        raise TaskError(message + (f"; did you mean {close[0]!r}?" if close else ""))


def as_text(value: Any) -> str | None:
    """Return a cell as text: strings as they are, numbers and booleans as JSON writes them.

    Returns None for an empty cell and for a value that is no text (a list, a dict, half a surrogate
    pair, which JSON can hold).
    """
    if isinstance(value, str):
        return value if value.strip() and lone_surrogate(value) is None else None
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int):
        return str(value)
    if isinstance(value, float) and math.isfinite(value):
        return str(int(value)) if value.is_integer() else repr(value)
    return None


def fields_of(column: str) -> list[str]:
    """Return the columns that a format string over columns names; [] for a plain column.

    Raises:
        TaskError: for braces that do not match, or hold more than a name.
    """
    try:
        fields = [part for part in string.Formatter().parse(column) if part[1] is not None]
    except ValueError:
        fields = [("", "", None, "?")]
    if any(spec or conversion for _, _, spec, conversion in fields):
        raise TaskError(
            f"column {column!r} is not a format string over columns; expected something like "
            "'{premise} ? {hypothesis}'"
        )
    return [str(name) for _, name, _, _ in fields]


def find_column(table: Table, wanted: Sequence[str], role: str) -> str:
    """Return the first of the wanted columns that a table has.

    A wanted name with braces is a format string over columns (`"{premise} ? {hypothesis}"`).

    Raises:
        TaskError: if there is none; lists the table's columns.
    """
    for name in wanted:
        if name in table.columns or ("{" in name and set(fields_of(name)) <= set(table.columns)):
            return name
    shown = " or ".join(map(repr, wanted))
    close = get_close_matches(wanted[0], table.columns, n=1)
    hint = f"; did you mean {close[0]!r}?" if close else ""
    others = [c for c in ",;\t|" if len(table.columns) == 1 and c in table.columns[0]]
    if others:
        hint = f"; is another character the separator? Say delimiter={others[0]!r}"
    raise TaskError(
        f"{table.source}: no column {shown} for the {role}; the columns are "
        f"{list(table.columns)}{hint}"
        + ("" if hint else f". Say {role}='...' (for a file without a header, columns=[...])")
    )


def cell(table: Table, row: Row, column: str, role: str) -> str:
    """Return a cell's text; `column` may be a format string over columns.

    Raises:
        TaskError: for an empty cell or one that is no text.
    """
    if column not in table.columns and "{" in column:
        return column.format(**{f: cell(table, row, f, role) for f in fields_of(column)})
    value = row.values.get(column)
    text = as_text(value)
    if text is None:
        found = "nothing" if value is None or value == "" else repr(value)
        bad = isinstance(value, str) and lone_surrogate(value) is not None
        raise TaskError(
            f"{table.where(row.number)}: column {column!r} holds {found}, expected the {role} "
            "as text" + (" (it is not valid Unicode; take the lone surrogate out)" if bad else "")
        )
    return text


def texts(table: Table, row: Row, column: str) -> list[str]:
    """Return a cell that holds a list of texts; nothing counts as the empty list.

    Raises:
        TaskError: for anything else.
    """
    value = row.values.get(column)
    found = [as_text(item) for item in (value if isinstance(value, list) else ())]
    if None in found or not (value is None or isinstance(value, list)):
        raise TaskError(
            f"{table.where(row.number)}: column {column!r} holds {value!r}, expected a list of "
            "texts"
        )
    return [text for text in found if text is not None]


def to_examples(
    table: Table,
    *,
    input_column: str,
    target_column: str,
    labels: LabelMap | None,
    clean: Callable[[str], str] | None = None,
    alternatives: str | None = None,
) -> list[Sourced]:
    """Turn the rows of a table into examples.

    Args:
        table: the rows.
        input_column: column of the input, or a format string over columns.
        target_column: column of the target.
        labels: how raw targets become labels; None for free answers.
        clean: applied to a free answer.
        alternatives: column with a list of further right answers, if it has one.

    Raises:
        TaskError: naming file and row, for an empty cell or an unknown label.
    """
    if not table.rows:
        raise TaskError(f"{table.source}: no rows; expected at least one example")
    out = []
    for row in table.rows:
        text = cell(table, row, input_column, "input")
        target = cell(table, row, target_column, "target").strip()
        others: tuple[str, ...] = ()
        if labels is not None:
            target = labels.find(target, table.where(row.number))
        else:
            target = clean(target) if clean else target
            listed = texts(table, row, alternatives) if alternatives else []
            others = tuple(dict.fromkeys(text for text in listed if text != target))
        out.append(Sourced(Example(text, target, alternatives=others), table.where(row.number)))
    return out
