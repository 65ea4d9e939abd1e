"""What the commands share: reading options, printing tables, saying what went wrong."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable, Sequence
from typing import Any

from promptgym.errors import ConfigError
from promptgym.runs.display import one_line
from promptgym.runs.events import plain
from promptgym.types import JSON


def examples(*lines: str) -> str:
    """Return the end of a help text: commands that run as printed."""
    return "\b\nExamples:\n" + "\n".join(f"  {line}" for line in lines)


def without_none(options: JSON) -> JSON | None:
    """Return the options that were given; None if none was."""
    return {name: value for name, value in options.items() if value is not None} or None


def parse_value(text: str | None) -> Any:
    """Read a value: JSON where it is JSON (`3`, `1e-3`, `true`, `[1, 2]`), else text or None."""
    if text is None:
        return None
    try:
        return json.loads(text)
    except json.JSONDecodeError:
        return text


def parse_settings(items: Iterable[str] | None) -> JSON | None:
    """Turn `["lr=1e-3", "length=5"]` into a dict; None if there are none.

    Raises:
        ConfigError: for an item without `=`, or a name given twice.
    """
    out: JSON = {}
    for item in items or ():
        name, equals, value = item.partition("=")
        name = name.strip()
        if not equals or not name:
            raise ConfigError(f"--set {item!r}: expected NAME=VALUE, e.g. --set length=5")
        if name in out:
            raise ConfigError(f"--set {name!r} is given twice")
        out[name] = parse_value(value)
    return out or None


def json_object(text: str | None, option: str) -> JSON | None:
    """Read an option that takes a JSON object; None if it was not given.

    Raises:
        ConfigError: if it is not one.
    """
    if text is None:
        return None
    try:
        value = json.loads(text)
    except json.JSONDecodeError as error:
        raise ConfigError(f"{option} {text!r} is not JSON ({error})") from None
    if not isinstance(value, dict):
        raise ConfigError(f"{option} takes a JSON object such as '{{\"name\": 1}}', got {text}")
    return value


def task_options(given: str | None, labels: str | None, **named: str | None) -> JSON | None:
    """Put the options about a task's data together; None if there are none.

    Args:
        given: the text of `--task-options`.
        labels: comma-separated labels, in order; or "auto", "data" or "none", see `load_task`.
        named: further arguments of `load_task`; None is left out.

    Raises:
        ConfigError: if something is given both ways.
    """
    options = json_object(given, "--task-options") or {}
    more = without_none(named) or {}
    if labels is not None:
        listed = [label.strip() for label in labels.split(",")]
        word = listed[0].lower() if len(listed) == 1 else ""
        more["labels"] = {"auto": "auto", "data": "data", "none": None}.get(word, listed)
    if twice := set(options) & set(more):
        raise ConfigError(f"given in --task-options and by an option of its own: {sorted(twice)}")
    return {**options, **more} or None


def print_json(value: Any) -> None:
    """Print a JSON document to standard output."""
    print(json.dumps(plain(value), indent=2, ensure_ascii=False))


def print_table(headers: Sequence[str], rows: Sequence[Sequence[str]], right: str = "") -> None:
    """Print a plain table; cells are made safe for a terminal, columns marked `r` align right.

    Args:
        headers: column titles.
        rows: cells, as text.
        right: one letter a column: `r` right, anything else left.
    """
    safe = [[one_line(cell, 100) for cell in row] for row in rows]
    widths = [max(len(h), *(len(r[i]) for r in safe), 0) for i, h in enumerate(headers)]
    for row in [list(headers), *safe]:
        cells = [
            c.rjust(w) if right[i : i + 1] == "r" else c.ljust(w)
            for i, (c, w) in enumerate(zip(row, widths, strict=True))
        ]
        print("  ".join(cells).rstrip())


def interval(low: float | None, high: float | None) -> str:
    """Return an interval as text; `-` if there is none."""
    return "-" if low is None or high is None else f"[{low:.3f}, {high:.3f}]"


def prompt_cell(prompt: JSON) -> str:
    """Return a prompt as a cell."""
    shots = len(prompt.get("demonstrations", ()))
    return str(prompt["instruction"] or "(empty)") + (
        f" (+{shots} demonstrations)" if shots else ""
    )


def complain(message: str) -> None:
    """Print one line about what went wrong to standard error."""
    print(f"error: {' '.join(str(message).split())}", file=sys.stderr)
