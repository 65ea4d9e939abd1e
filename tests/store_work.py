"""What the processes of test_store_processes.py do: write, read and check a store, one job each."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np

from promptgym.prompts import Example, Prompt
from promptgym.scoring.store import Answered, ExampleSet, Setting, Shelf, store_at
from promptgym.types import FloatArray

SETTING = Setting("work@1", "causal", "", "{input} {prompt}", "", ("no", "yes"))
SIZE = 40
EXAMPLES = ExampleSet(tuple(Example(f"example {i}", "yes") for i in range(SIZE)))


def truth(number: int) -> FloatArray:
    """Return the answers of a prompt."""
    return np.asarray(-(number + np.arange(2.0 * SIZE).reshape(SIZE, 2) / 7))


def prompt(number: int) -> Prompt:
    """Return a prompt."""
    return Prompt(f"prompt {number}")


def write(place: str, first: int, last: int, batch: int, progress: Path | None = None) -> None:
    """Write prompts first ... last - 1, saying after each batch how far it is."""
    shelf = Shelf(store_at(place), SETTING)
    for start in range(first, last, batch):
        numbers = range(start, min(start + batch, last))
        tokens = np.full(SIZE, 3)
        shelf.write([Answered(prompt(n), EXAMPLES, truth(n), tokens) for n in numbers])
        if progress is not None:
            said = progress.with_suffix(".new")
            said.write_text(str(numbers.stop))
            said.replace(progress)  # a kill must not leave it empty
    assert not shelf.store.off, shelf.store.off


def read(place: str, first: int, last: int) -> list[int]:
    """Return which prompts are known; what is known must be true."""
    shelf = Shelf(store_at(place), SETTING)
    found = shelf.read([prompt(n) for n in range(first, last)], [EXAMPLES] * (last - first))
    assert not shelf.store.off, shelf.store.off
    for number, one in zip(range(first, last), found, strict=True):
        if one is not None:
            assert one.hit.all()
            np.testing.assert_array_equal(one.answers, truth(number))
    return [n for n, one in zip(range(first, last), found, strict=True) if one is not None]


if __name__ == "__main__":
    job, place, first, last, batch, progress = sys.argv[1:]
    if job == "write":
        write(place, int(first), int(last), int(batch), Path(progress))
    else:
        for _ in range(int(batch)):
            read(place, int(first), int(last))
