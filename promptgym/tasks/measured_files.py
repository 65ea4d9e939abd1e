"""`read_measured`: the door to measured tables, in files and in folders."""

from __future__ import annotations

import os
import re
from functools import lru_cache
from pathlib import Path
from typing import Any

from promptgym.errors import TaskError
from promptgym.tasks.measured import MeasuredTable
from promptgym.tasks.measured_outcomes import read_outcomes
from promptgym.tasks.measured_rows import read_rows


def read_measured(name: str, data_dir: str | Path | None = None) -> MeasuredTable:
    """Read a measured table; the last few read are kept.

    One table is one task and one model; where a source holds several, the name says which.

    Args:
        name: `FILE`, `FOLDER`, or one of them with `#TASK/MODEL` behind it, of which either half
            may be left out; `$NAME` in a path is a variable of the environment. See `measured_rows`
            for files and `measured_outcomes` for folders.
        data_dir: for a folder of outcomes, where the questions lie.

    Raises:
        TaskError: naming file, row, what was found and what was expected.
    """
    place, _, select = name.partition("#")
    path = data_path(place)
    if path.is_dir():
        stamps = tuple((p.name, p.stat().st_mtime_ns) for p in sorted(path.iterdir()))
        return _folder(path, select, Path(data_dir) if data_dir else None, stamps)
    if data_dir is not None:
        raise TaskError(f"data_dir= goes with a folder of outcomes, and {place} is none")
    if not path.is_file():
        unset = re.match(r"\$\{?(\w+)", str(path))
        hint = f"; set the environment variable {unset[1]} to the folder it is in" if unset else ""
        raise TaskError(f"{path}: there is no such file or folder{hint}")
    return _file(path, select, path.stat().st_mtime_ns)


def data_path(place: str) -> Path:
    """Return a path; `$NAME` in it is a variable of the environment, `~` a user's home."""
    return Path(os.path.expandvars(place)).expanduser()


@lru_cache(maxsize=4)
def _file(path: Path, select: str, _: int) -> MeasuredTable:
    """Read a file, once as long as it does not change."""
    return read_rows(path, select)


@lru_cache(maxsize=4)
def _folder(path: Path, select: str, data_dir: Path | None, _: Any) -> MeasuredTable:
    """Read a folder, once as long as it does not change."""
    return read_outcomes(path, select, data_dir)
