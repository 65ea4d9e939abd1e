"""Measured tables in folders of outcomes, as Sun et al. 2024 publish them.

("Query-Dependent Prompt Evaluation and Optimization with Offline Inverse RL", ICLR.)
`TASK_names.json` lists prompts and files; each file, `MODEL/TASK_SPLIT_PROMPT.npy` in the list and
without the model's folder on disk, says for every question whether the model was right. The
questions lie elsewhere, in the order of the outcomes: `train.jsonl` and `test.jsonl` in `data_dir`,
in a folder named like the task beside this one, or inside it.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from promptgym.errors import TaskError
from promptgym.prompts import Prompt
from promptgym.tasks.definition import Definition
from promptgym.tasks.definitions import DEFINITIONS
from promptgym.tasks.files import read_table
from promptgym.tasks.measured import MeasuredTable, digest_of
from promptgym.tasks.rows import Sourced, Table, find_column, to_examples
from promptgym.types import FloatArray


def read_outcomes(folder: Path, select: str, data_dir: Path | None) -> MeasuredTable:
    """Read a folder of outcomes.

    Args:
        folder: with the lists of names and the outcomes.
        select: "task/model", either half or both empty where there is but one.
        data_dir: where the questions lie; None to look beside the folder.

    Raises:
        TaskError: naming file, what was found and what was expected.
    """
    lists = {p.name.removesuffix("_names.json"): p for p in sorted(folder.glob("*_names.json"))}
    wanted, _, model = select.partition("/")
    if not lists or (wanted or next(iter(lists))) not in lists or (len(lists) > 1 and not wanted):
        raise TaskError(
            f"{folder}: tasks {list(lists)} (by their TASK_names.json), asked for {wanted!r}; "
            "expected one of them, behind the folder's name: FOLDER#TASK"
        )
    task = wanted or next(iter(lists))
    names = _names(lists[task])
    prompts = tuple(Prompt(text) for text in names["prompts"])
    if len(set(prompts)) != len(prompts):
        raise TaskError(f"{lists[task]}: a prompt stands twice; expected different ones")
    columns: list[FloatArray] = []
    splits: dict[str, tuple[Sourced, ...]] = {}
    used = [lists[task]]
    models = {Path(name).parent.name for key in ("training_set", "test_set") for name in names[key]}
    if len(models) != 1 or (model and {model} != models):
        raise TaskError(
            f"{lists[task]}: models {sorted(models)}, asked for {model!r}; expected one"
        )
    for split, key in (("train", "training_set"), ("test", "test_set")):
        files = [folder / Path(name).name for name in names[key]]
        columns.append(_matrix(files))
        questions = _questions(folder, task, split, data_dir)
        splits[split] = _examples(questions, task, columns[-1].shape[1], files[0])
        used += [*files, questions]
    return MeasuredTable(
        source=str(folder),
        task=task,
        model=models.pop() or task,
        prompts=prompts,
        splits=splits,
        values=np.concatenate(columns, axis=1),
        digest=digest_of(used),
    )


def _names(path: Path) -> dict[str, list[str]]:
    """Read the list of prompts and files."""
    keys = ("prompts", "training_set", "test_set")
    try:
        found = json.loads(path.read_text("utf-8"))
    except ValueError as error:
        raise TaskError(f"{path}: not JSON ({error})") from None
    if not isinstance(found, dict) or set(found) != set(keys):
        shown = sorted(found) if isinstance(found, dict) else type(found).__name__
        raise TaskError(f"{path}: found {shown}, expected an object with {list(keys)}")
    for key in keys:
        value = found[key]
        if not isinstance(value, list) or not all(isinstance(text, str) for text in value):
            raise TaskError(f"{path}: {key!r} is {str(value)[:60]!r}, expected a list of texts")
        if len(value) != len(found["prompts"]):
            raise TaskError(
                f"{path}: {len(value)} entries in {key!r}, expected {len(found['prompts'])}, one a "
                "prompt, in the order of 'prompts'"
            )
    return found


def _outcomes(path: Path) -> FloatArray:
    """Read one vector of right (1) and wrong (0), shape (E,)."""
    try:
        found = np.load(path, allow_pickle=False)
    except (OSError, ValueError) as error:
        raise TaskError(f"{path}: cannot be read: {error}") from None
    if found.ndim != 1 or found.dtype != np.bool_ or not len(found):
        raise TaskError(f"{path}: {found.dtype} of shape {found.shape}, expected booleans, (E,)")
    return np.asarray(found, dtype=np.float64)


def _matrix(files: Sequence[Path]) -> FloatArray:
    """Read one vector a prompt, shape (P, E)."""
    vectors = [_outcomes(path) for path in files]
    for path, vector in zip(files, vectors, strict=True):
        if len(vector) != len(vectors[0]):
            raise TaskError(
                f"{path}: {len(vector)} outcomes, {files[0].name} has {len(vectors[0])}; expected "
                "one for each question of the split"
            )
    return np.stack(vectors)


def _questions(folder: Path, task: str, split: str, data_dir: Path | None) -> Path:
    """Find the file with the questions of a split."""
    places = [data_dir] if data_dir else [folder.parent / task, folder / task]
    tried = [place / f"{split}.jsonl" for place in places]
    for path in tried:
        if path.is_file():
            return path
    raise TaskError(
        f"{folder}: the questions of {task!r} are not in {', '.join(map(str, tried))}; give the "
        f"folder that has its train.jsonl and test.jsonl: data_dir='...'"
    )


def _examples(path: Path, task: str, size: int, outcomes: Path) -> tuple[Sourced, ...]:
    """Return the first `size` examples of a file."""
    table = read_table(path)
    if len(table.rows) < size:
        raise TaskError(
            f"{path}: {len(table.rows)} questions for the {size} outcomes of {outcomes.name}; "
            "expected at least as many"
        )
    known = DEFINITIONS.get(task, Definition(name=task))
    return tuple(
        to_examples(
            Table(table.source, table.columns, table.rows[:size]),
            input_column=find_column(table, known.input, "input"),
            target_column=find_column(table, known.target, "target"),
            labels=None,
            clean=known.clean,
        )
    )
