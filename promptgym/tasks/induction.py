"""Instruction Induction (Honovich et al. 2022): definitions of its 24 tasks, and its folder layout.

`induce/NAME.json` gives train and dev, the held-out `execute/NAME.json` gives test, and
`annotations/NAME.json`, where it is present, the instructions that people wrote.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

from promptgym.errors import TaskError
from promptgym.prompts import Prompt, Template
from promptgym.tasks.definition import Definition
from promptgym.tasks.files import read_table
from promptgym.tasks.rows import Row, Table, cell, texts

PREFIX = "instruction-induction/"

_TEMPLATE = Template(
    "{demonstrations}Instruction: {prompt}\nInput: {input}\nOutput:",
    "Input: {input}\nOutput: {answer}\n\n",
)
_METRICS = {  # where the published evaluation does not ask for an exact match
    "common_concept": "induction_f1",
    "informal_to_formal": "induction_f1",
    "orthography_starts_with": "induction_exact_set",
    "taxonomy_animal": "induction_exact_set",
    "synonyms": "induction_contains",
}
_ALTERNATIVES = {  # column with every right answer
    "rhymes": "other_rhymes",
    "translation_en-de": "possible_translations",
    "translation_en-es": "possible_translations",
    "translation_en-fr": "possible_translations",
    "sentence_similarity": "possible_outputs",
    "word_in_context": "possible_outputs",
    "common_concept": "all_common_concepts",
}
_TASKS = {  # name -> what is asked for, and the plain instruction to start from
    "active_to_passive": "Write the sentence in the passive.",
    "antonyms": "Write an antonym.",
    "cause_and_effect": "Which of the two sentences is the cause?",
    "common_concept": "What do the things have in common?",
    "diff": "Subtract the second number from the first.",
    "first_word_letter": "Write the first letter of the word.",
    "informal_to_formal": "Write the sentence in a formal style.",
    "larger_animal": "Write the larger of the two animals.",
    "letters_list": "Write the letters of the word, with spaces between them.",
    "negation": "Negate the sentence.",
    "num_to_verbal": "Write the number in words.",
    "orthography_starts_with": "Write the words that start with the given letter.",
    "rhymes": "Write a word that rhymes.",
    "second_word_letter": "Write the second letter of the word.",
    "sentence_similarity": "How similar are the two sentences, from 0 to 5?",
    "sentiment": "Is the review positive or negative?",
    "singular_to_plural": "Write the plural of the word.",
    "sum": "Add the two numbers.",
    "synonyms": "Write a synonym.",
    "taxonomy_animal": "Write the animals in the list.",
    "translation_en-de": "Translate the word into German.",
    "translation_en-es": "Translate the word into Spanish.",
    "translation_en-fr": "Translate the word into French.",
    "word_in_context": "Does the word mean the same in both sentences?",
}

INDUCTION: tuple[Definition, ...] = tuple(
    Definition(
        name=PREFIX + name,
        description=instruction,
        input=("input",),
        target=("output",),
        labels=None,
        template=_TEMPLATE,
        masked_template=None,
        metric=_METRICS.get(name, "induction_exact_match"),
        manual_prompts=(Prompt(instruction), Prompt("")),
        max_new_tokens=32,
        alternatives=_ALTERNATIVES.get(name),
        known_duplicates=True,
        layout="induction",
        obtain="clone https://github.com/orhonovich/instruction-induction and give its folder "
        "data/raw as data_dir",
    )
    for name, instruction in _TASKS.items()
)


def _root(definition: Definition, data_dir: Path) -> tuple[Path, str]:
    """Return the folder that holds induce/ and execute/, and the task's name in it."""
    task = definition.name.removeprefix(PREFIX)
    for root in (data_dir, data_dir / "raw", data_dir / "data" / "raw"):
        if (root / "induce" / f"{task}.json").is_file():
            return root, task
    raise TaskError(
        f"{data_dir}: there is no induce/{task}.json in it, nor in its raw/ or data/raw/; "
        f"{definition.obtain}"
    )


def read_induction(
    definition: Definition, data_dir: Path, encoding: str = "utf-8"
) -> dict[str, Table]:
    """Read a task's files: train from `induce`, test from `execute`.

    Raises:
        TaskError: if a file is missing or malformed.
    """
    root, task = _root(definition, data_dir)
    files = {"train": root / "induce", "test": root / "execute"}
    tables = {s: read_table(p / f"{task}.json", encoding=encoding) for s, p in files.items()}
    return {split: _shaped(task, table) for split, table in tables.items()}


def _shaped(task: str, table: Table) -> Table:
    """Give the two tasks that have no input and output columns what the authors make of them."""
    if task == "cause_and_effect":
        rows = [Row(r.number, v) for r in table.rows for v in _both_orders(table, r)]
    elif task == "common_concept":
        rows = [Row(r.number, {**r.values, **_concept(table, r)}) for r in table.rows]
    else:
        return table
    return Table(table.source, (*table.columns, "input", "output"), rows)


def _both_orders(table: Table, row: Row) -> Iterator[dict[str, str]]:
    """Yield a pair of sentences in both orders; the cause is the answer."""
    cause, effect = (cell(table, row, name, name) for name in ("cause", "effect"))
    for first, second in ((cause, effect), (effect, cause)):
        yield {"input": f"Sentence 1: {first} Sentence 2: {second}", "output": cause}


def _concept(table: Table, row: Row) -> dict[str, str]:
    """Return what is asked about a list of things, and the first of the right answers."""
    items, answers = (texts(table, row, name) for name in ("items", "all_common_concepts"))
    if not items or not answers:
        raise TaskError(
            f"{table.where(row.number)}: found items {items} and all_common_concepts {answers}, "
            "expected at least one of each"
        )
    return {"input": ", ".join(items), "output": answers[0]}


def read_annotations(definition: Definition, data_dir: Path) -> tuple[Prompt, ...]:
    """Return the instructions that people wrote for a task; () where the file is absent.

    Raises:
        TaskError: if the file is there, but malformed.
    """
    root, task = _root(definition, data_dir)
    for folder in (root / "annotations", root.parent / "annotations"):
        path = folder / f"{task}.json"
        if path.is_file():
            try:
                found = json.loads(path.read_text("utf-8"))
            except ValueError as error:
                raise TaskError(f"{path}: not JSON ({error})") from None
            listed = found.get("annotations") if isinstance(found, dict) else None
            if not isinstance(listed, list) or not all(isinstance(text, str) for text in listed):
                raise TaskError(
                    f"{path}: found {str(found)[:60]}, expected {{'annotations': [texts]}}"
                )
            return tuple(map(Prompt, listed))
    return ()
