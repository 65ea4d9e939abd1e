"""From a name, a file or a folder to one table for each split."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from promptgym.errors import TaskError
from promptgym.tasks.definition import Definition
from promptgym.tasks.definitions import DEFINITIONS
from promptgym.tasks.files import SUFFIXES, read_table
from promptgym.tasks.hub import HubSource, is_saved_dataset, load_hub, load_saved
from promptgym.tasks.induction import read_induction
from promptgym.tasks.rows import Table

STEMS = {"train": ("train",), "dev": ("dev", "validation", "valid", "val"), "test": ("test",)}
PathLike = str | Path


@dataclass(frozen=True, slots=True, kw_only=True)
class Source:
    """Where the rows of a task lie.

    Attributes:
        path: a file or a folder; None for the Hub.
        files: split -> file, given one by one.
        columns: columns of files without a header.
        delimiter: between fields, if not the suffix's own.
        encoding: of the files.
    """

    path: Path | None = None
    files: Mapping[str, Path] | None = None
    columns: tuple[str, ...] = ()
    delimiter: str | None = None
    encoding: str = "utf-8"


def read_tables(definition: Definition, source: Source) -> tuple[dict[str, Table], dict[str, str]]:
    """Read every split that there is.

    Returns:
        Split ("train", "dev", "test") -> table, where a single table is the split "all"; and the
        raw label values of this copy of the data.

    Raises:
        TaskError: if nothing can be read.
    """
    raw = dict(definition.raw)
    tables: dict[str, Table] = {}
    if source.path is None and not source.files:
        if definition.hub is None:
            raise TaskError(f"task {definition.name!r} has no copy on the Hub: {definition.obtain}")
        advice = (
            f"Without a network, load it from files: load_task({definition.name!r}, "
            "data_dir='folder with train, dev and test files')"
            if definition.name in DEFINITIONS
            else ""
        )
        tables = _from_dataset(load_hub(definition.hub, advice), definition.hub)
        raw = definition.hub.raw or raw
    elif source.path is not None and is_saved_dataset(source.path):
        hub = definition.hub or HubSource("")
        tables = _from_dataset(load_saved(source.path), hub)
        raw = hub.raw or raw
    elif source.path is not None and definition.layout == "induction":
        tables = read_induction(definition, source.path, source.encoding)
    elif source.path is not None:
        files = (
            find_files(source.path, set(source.files or ()))
            if source.path.is_dir()
            else {"train" if source.files else "all": source.path}
        )
        tables = {split: _read(path, definition, source) for split, path in files.items()}
    for split, path in (source.files or {}).items():
        if split in tables and source.path is not None and source.path.is_file():
            raise TaskError(f"two training files: {source.path} and {path}; give one of them")
        tables[split] = _read(path, definition, source)
    if not {"train", "all"} & set(tables):
        raise TaskError(
            f"task {definition.name!r}: no training file among {sorted(map(str, tables))}; give "
            "train=, or data_dir= with a folder that has one"
        )
    if set(tables) == {"train"}:
        tables = {"all": tables["train"]}
    return tables, raw


def find_files(folder: Path, given: set[str]) -> dict[str, Path]:
    """Find the files of each split in a folder; test may lie one level up, as in LM-BFF's folders.

    Args:
        folder: where to look.
        given: splits that need not be there.

    Raises:
        TaskError: if there is no training file, or a split has two.
    """
    found: dict[str, Path] = {}
    for split, stems in STEMS.items():
        for place in (folder, folder.parent) if split == "test" else (folder,):
            names = [place / f"{stem}{suffix}" for stem in stems for suffix in SUFFIXES]
            present = [path for path in names if path.is_file()]
            if len(present) > 1 and split not in given:
                raise TaskError(
                    f"{folder}: two files for {split}: {', '.join(p.name for p in present)}; say "
                    f"which by {split}='...'"
                )
            if present:
                found[split] = present[0]
                break
    if "train" not in found and "train" not in given:
        inside = sorted(p.name for p in folder.iterdir())[:8]
        raise TaskError(
            f"{folder}: no train{SUFFIXES[0]}, train{SUFFIXES[1]}, train{SUFFIXES[2]} or "
            f"train{SUFFIXES[-1]} in it, and it was not written by save_to_disk; it holds {inside}"
        )
    return {split: path for split, path in found.items() if split not in given}


def _read(path: Path, definition: Definition, source: Source) -> Table:
    """Read one file; a file without a header is known by a raw label where the header stands."""
    table = read_table(
        path, encoding=source.encoding, delimiter=source.delimiter, columns=source.columns
    )
    names = definition.headerless
    if source.columns or not names or len(table.columns) != len(names):
        return table
    wanted = {*definition.input, *definition.target}
    first = dict(zip(names, table.columns, strict=True))
    labels = {*definition.raw, *(definition.labels or ())}
    if wanted.isdisjoint(table.columns) and any(first.get(t) in labels for t in definition.target):
        return read_table(path, encoding=source.encoding, delimiter=source.delimiter, columns=names)
    return table


def _from_dataset(tables: dict[str, Table], hub: HubSource) -> dict[str, Table]:
    """Bring a dataset's split names to ours."""
    if set(tables) == {"all"}:
        return tables
    out: dict[str, Table] = {}
    used = set(hub.splits.values())
    for split, stems in STEMS.items():
        wanted = (hub.splits[split],) if split in hub.splits else stems
        for name in wanted:
            if name in tables and (split in hub.splits or name not in used):
                out[split] = tables[name]
                break
    if "train" not in out:
        raise TaskError(
            f"{hub.name or 'the dataset'}: no split called train; it has {sorted(tables)}"
        )
    return out


def hub_source(name: str, config: str | None, revision: str | None) -> HubSource:
    """Parse "owner/name" or "owner/name:config"."""
    repository, _, inline = name.partition(":")
    if not repository or repository.count("/") > 1:
        raise TaskError(f"'hub:{name}': expected 'hub:owner/name' or 'hub:owner/name:config'")
    return HubSource(repository, config or inline or None, revision)


def with_hub(definition: Definition, config: str | None, revision: str | None) -> Definition:
    """Return a definition that reads another configuration or revision of its Hub copy."""
    if definition.hub is None or not (config or revision):
        return definition
    hub = definition.hub
    return replace(
        definition,
        hub=replace(hub, config=config or hub.config, revision=revision or hub.revision),
    )
