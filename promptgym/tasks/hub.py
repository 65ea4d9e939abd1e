"""Tables from the `datasets` library: by Hub name, or from a folder written by `save_to_disk`."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, overload

from promptgym.errors import TaskError
from promptgym.tasks.rows import Row, Table


@dataclass(frozen=True, slots=True)
class HubSource:
    """Where a dataset lies on the Hub.

    Attributes:
        name: repository, "owner/name".
        config: its configuration, if it has several.
        revision: branch, tag or commit.
        splits: our split -> the repository's (`{"test": "validation"}`).
        raw: raw label value -> label, for this copy of the data.
    """

    name: str
    config: str | None = None
    revision: str | None = None
    splits: dict[str, str] = field(default_factory=dict)
    raw: dict[str, str] = field(default_factory=dict)


class _Rows(Sequence[Row]):
    """Rows of a `datasets.Dataset`, made when they are asked for."""

    def __init__(self, dataset: Any) -> None:
        self.dataset = dataset

    def __len__(self) -> int:
        return len(self.dataset)

    def __iter__(self) -> Iterator[Row]:
        # Iteration reads whole batches; asking for one row at a time is several times slower.
        return (Row(i, values) for i, values in enumerate(self.dataset, start=1))

    @overload
    def __getitem__(self, index: int) -> Row: ...
    @overload
    def __getitem__(self, index: slice) -> Sequence[Row]: ...
    def __getitem__(self, index: int | slice) -> Row | Sequence[Row]:
        if isinstance(index, slice):
            return [self[i] for i in range(*index.indices(len(self)))]
        if not -len(self) <= index < len(self):
            raise IndexError(index)
        index %= len(self)
        return Row(index + 1, self.dataset[index])


def is_saved_dataset(path: Path) -> bool:
    """Whether a folder was written by `Dataset.save_to_disk` or `DatasetDict.save_to_disk`."""
    return (path / "dataset_dict.json").is_file() or (path / "state.json").is_file()


def load_saved(path: Path) -> dict[str, Table]:
    """Read a folder that `save_to_disk` wrote; a single dataset is the split "all".

    Raises:
        TaskError: if it cannot be read.
    """
    return _load(str(path), lambda datasets: datasets.load_from_disk(str(path)), "")


def load_hub(source: HubSource, advice: str = "") -> dict[str, Table]:
    """Download (or take from the local cache) a dataset of the Hub.

    Args:
        source: what to load.
        advice: what to do without a network; stands at the end of the error.

    Raises:
        TaskError: unknown name, no network, or a format that `datasets` refuses.
    """
    advice = advice or "Without a network, load it from files: load_task('path/to/data.csv')"
    return _load(
        f"hub:{source.name}",
        lambda datasets: datasets.load_dataset(
            source.name, source.config, revision=source.revision
        ),
        f". {advice}",
    )


def _load(name: str, load: Callable[[Any], Any], advice: str) -> dict[str, Table]:
    """Call `load` with the datasets module and turn what it returns into tables."""
    import datasets

    try:
        found = load(datasets)
    except (OSError, ValueError, RuntimeError, LookupError) as error:
        reason = " ".join(str(error).split())[:300]
        raise TaskError(
            f"{name} cannot be loaded ({type(error).__name__}: {reason}){advice}"
        ) from error
    if isinstance(found, datasets.Dataset):
        found = {"all": found}
    return {str(split): _table(f"{name} [{split}]", data) for split, data in found.items()}


def _table(source: str, dataset: Any) -> Table:
    """Wrap a dataset; the names of its integer classes are kept beside it."""
    names = {
        column: tuple(feature.names)
        for column, feature in dataset.features.items()
        if type(feature).__name__ == "ClassLabel" and feature.names
    }
    return Table(source, tuple(dataset.column_names), _Rows(dataset), names)
