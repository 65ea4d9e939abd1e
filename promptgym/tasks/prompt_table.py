"""Prompt tables: a small space of prompts of which every one was scored, so its optimum is known.

The space is every sequence of at most S words out of V: a row each, the empty prompt first, then by
length, then in the order of the words. What one model answered to each of them on every example is
one number, the log-odds of the second of two labels against the first, kept in 8 bits. The table is
not an approximation of that model but a model of its own (`promptgym.llms.table`): whatever is
asked of it has one true answer, so regret to the optimum is exact. Which label is likelier is as in
the model that was recorded; log-odds differ from its own by half a `step` at most.

The idea is that of tabular benchmarks of neural architecture search: Ying et al. 2019,
"NAS-Bench-101: Towards Reproducible Neural Architecture Search", ICML.
"""

from __future__ import annotations

import hashlib
import json
import zipfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache
from importlib import resources
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from promptgym.errors import TaskError
from promptgym.prompts import Example, Prompt
from promptgym.tasks.metrics import get_metric
from promptgym.tasks.parts import PARTS, SEPARATOR
from promptgym.tasks.splits import SPLITS
from promptgym.tasks.task import Task
from promptgym.types import JSON, FloatArray, IntArray

SCHEME = "table:"
FORMAT = 1
MOST_ROWS = 2_000_000

Codes = npt.NDArray[np.int8]


@dataclass(frozen=True, eq=False)
class PromptTable:
    """What one model answered to every prompt of a space.

    Attributes:
        name: of the table.
        about: what was recorded, for people: model, task, template, command.
        words: the V words.
        slots: most words of a prompt (S).
        labels: the two labels.
        splits: split -> its examples.
        codes: log-odds of the second label, split after split, shape (P, E): code c stands for
            (c + 0.5) `step` nats, so that no two labels are ever alike.
        step: see `codes`.
        digest: hash of everything above but `about`.
    """

    name: str
    about: JSON
    words: tuple[str, ...]
    slots: int
    labels: tuple[str, ...]
    splits: Mapping[str, tuple[Example, ...]]
    codes: Codes
    step: float
    digest: str

    def __len__(self) -> int:
        """Return P."""
        return len(self.codes)

    @cached_property
    def offsets(self) -> IntArray:
        """Row of the first prompt of every length, and P behind the last; shape (S + 2,)."""
        return np.cumsum([0, *(len(self.words) ** n for n in range(self.slots + 1))])

    @cached_property
    def prompts(self) -> npt.NDArray[np.object_]:
        """The text of every prompt, shape (P,)."""
        return every_prompt(self.words, self.slots)

    def row(self, text: str) -> int:
        """Return the row of a prompt: of the first S of its words that the table knows.

        That makes the table a model of any prompt: words it does not know say nothing to it, and it
        reads no further than S of them.
        """
        index = self._index
        known = [index[w] for w in text.split() if w in index][: self.slots]
        number = 0
        for word in known:
            number = number * len(self.words) + word
        return int(self.offsets[len(known)]) + number

    def columns(self, split: str) -> slice:
        """Return where a split's examples stand."""
        start = 0
        for name in SPLITS:
            if name == split:
                return slice(start, start + len(self.splits[name]))
            start += len(self.splits[name])
        raise TaskError(f"split must be one of {SPLITS}, got {split!r}")

    def column(self, text: str) -> int | None:
        """Return the column of an input; None for one that was not recorded."""
        return self._columns.get(text)

    def log_odds(self, rows: Any, columns: Any) -> FloatArray:
        """Return log P(second label) - log P(first label), in nats, of `codes[rows, columns]`."""
        return (np.asarray(self.codes[rows, columns], dtype=np.float64) + 0.5) * self.step

    @cached_property
    def _index(self) -> dict[str, int]:
        return {word: i for i, word in enumerate(self.words)}

    @cached_property
    def _columns(self) -> dict[str, int]:
        inputs = [e.input for split in SPLITS for e in self.splits[split]]
        return {text.rstrip(" "): i for i, text in enumerate(inputs)}  # as a template renders it


def logprobs(log_odds: FloatArray) -> FloatArray:
    """Return log-probabilities of both labels, nats, shape (..., 2)."""
    return -np.logaddexp(0.0, np.stack([log_odds, -log_odds], axis=-1))


def tables() -> dict[str, Path]:
    """Return the tables that come with the package: name -> file."""
    folder = Path(str(resources.files("promptgym.tasks"))) / "tables"
    return {path.stem: path for path in sorted(folder.glob("*.npz"))}


def find_table(name: str) -> PromptTable:
    """Return a table of the package by name, or one of a file; read once while it stays the same.

    Raises:
        TaskError: there is none, or it is damaged.
    """
    known = tables()
    path = known.get(name, Path(name).expanduser())
    if not path.is_file():
        raise TaskError(
            f"there is no prompt table {name!r}; give the path of a file that `promptgym table "
            f"build` wrote, or one of: {', '.join(known)}"
        )
    stamp = path.stat()
    return _read(path, (stamp.st_mtime_ns, stamp.st_size))


@lru_cache(maxsize=4)
def _read(path: Path, _: Any) -> PromptTable:
    """Read a file of `write_table`; nothing in it is executed.

    Raises:
        TaskError: it is none, or damaged.
    """
    try:
        with np.load(path, allow_pickle=False) as file:
            head = json.loads(str(file["head"]))
            if head["format"] != FORMAT:
                raise TaskError(f"{path}: format {head['format']!r}, this version reads {FORMAT}")
            codes = np.cumsum(file["steps"], axis=1, dtype=np.int8).T.copy()
        table = make_table(
            path.stem,
            head["about"],
            words=head["words"],
            slots=head["slots"],
            labels=head["labels"],
            splits={s: [Example(*pair) for pair in head["splits"][s]] for s in SPLITS},
            codes=codes,
            step=head["step"],
        )
        if table.digest != head["digest"]:
            raise TaskError(f"{path}: the content is not what was written; get the file again")
        return table
    except TaskError:
        raise
    except (KeyError, TypeError, ValueError, OSError, EOFError, zipfile.BadZipFile) as error:
        raise TaskError(f"{path}: not a prompt table, or a damaged one ({error!r})") from None


def make_table(
    name: str,
    about: JSON,
    *,
    words: Sequence[str],
    slots: int,
    labels: Sequence[str],
    splits: Mapping[str, Sequence[Example]],
    codes: Codes,
    step: float,
) -> PromptTable:
    """Return a table; see `PromptTable` for the parts.

    Raises:
        TaskError: for parts that do not fit together.
    """
    words, labels = tuple(words), tuple(labels)
    examples = [e for split in SPLITS for e in splits[split]]
    wanted = (space_size(len(words), slots), len(examples))
    if len(labels) != 2 or codes.shape != wanted or codes.dtype != np.int8 or not step > 0:
        raise TaskError(
            f"prompt table {name!r}: expected two labels, a positive step and int8 codes of shape "
            f"{wanted} for {len(words)} words in {slots} slots; got {len(labels)} labels, step "
            f"{step} and {codes.dtype} codes of shape {codes.shape}"
        )
    if bad := [e.input for e in examples if SEPARATOR in e.input]:
        raise TaskError(
            f"prompt table {name!r}: {SEPARATOR!r} stands between the parts of a text, "
            f"and the input {bad[0]!r} holds it"
        )
    fixed = {
        "words": words,
        "slots": slots,
        "labels": labels,
        "step": step,
        "splits": {s: [(e.input, e.target) for e in splits[s]] for s in SPLITS},
    }
    digest = hashlib.blake2b(json.dumps(fixed, sort_keys=True).encode(), digest_size=6)
    digest.update(hashlib.blake2b(np.ascontiguousarray(codes).data).digest())
    return PromptTable(
        name=name,
        about=dict(about),
        words=words,
        slots=slots,
        labels=labels,
        splits={s: tuple(splits[s]) for s in SPLITS},
        codes=codes,
        step=step,
        digest=digest.hexdigest(),
    )


def write_table(table: PromptTable, path: Path) -> None:
    """Write a table into a file, whole or not at all.

    Codes are written example by example, as differences between neighbouring prompts, which are
    smaller when compressed.
    """
    head = {
        "format": FORMAT,
        "about": table.about,
        "words": table.words,
        "slots": table.slots,
        "labels": table.labels,
        "step": table.step,
        "splits": {s: [(e.input, e.target) for e in table.splits[s]] for s in SPLITS},
        "digest": table.digest,
    }
    steps = np.diff(table.codes.T, axis=1, prepend=np.int8(0))
    scratch = path.with_name(f"{path.name}.part")
    with scratch.open("wb") as file:
        np.savez_compressed(file, head=np.array(json.dumps(head)), steps=steps)
    scratch.replace(path)


def every_prompt(words: Sequence[str], slots: int) -> npt.NDArray[np.object_]:
    """Return the texts of all prompts of at most `slots` words, in a table's order."""
    texts, longer = [""], [""]
    for _ in range(slots):
        longer = [f"{text} {word}".lstrip() for text in longer for word in words]
        texts += longer
    return np.array(texts, dtype=object)


def space_size(words: int, slots: int) -> int:
    """Return the number of prompts of at most `slots` words out of `words`.

    Raises:
        TaskError: for no words or slots, or more prompts than a table may have.
    """
    if words < 1 or slots < 1:
        raise TaskError(f"a prompt table needs words and slots, got {words} and {slots}")
    size = 1
    for _ in range(slots):
        size = size * words + 1
        if size > MOST_ROWS:
            raise TaskError(
                f"{words} words in {slots} slots are too many prompts to score all of them; at "
                f"most {MOST_ROWS:,}: take fewer words or slots"
            )
    return size


def table_task(table: PromptTable) -> Task:
    """Return the task of a table; its optimum on train (by the metric) is the reference prompt."""
    train = table.columns("train")
    right = np.array([table.labels.index(e.target) for e in table.splits["train"]], dtype=bool)
    accuracy = ((table.codes[:, train] >= 0) == right).mean(axis=1)
    return Task(
        name=f"{SCHEME}{table.name}",
        description=str(table.about.get("description", "")),
        template=PARTS,
        metric=get_metric("accuracy"),
        labels=table.labels,
        verbalizers={label: label for label in table.labels},
        manual_prompts=(Prompt(""),),
        reference_prompts=(Prompt(str(table.prompts[int(accuracy.argmax())])),),
        vocabulary=table.words,
        stop=(),
        train=table.splits["train"],
        dev=table.splits["dev"],
        test_split=table.splits["test"],
    )
