"""`table:NAME`: the model of a prompt table (see `promptgym.tasks.prompt_table`), at no cost.

It answers any prompt on the examples of its table: of an instruction it reads the first S words
that it knows, as a language model reads no further than its context. Everything between is what
runs with any model:

    problem = make_problem("table:staff", "table:staff", budget=6400)
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from promptgym.errors import ModelError, TaskError
from promptgym.llms.base import Completion, Kind, LabelLogprobs, Sampling
from promptgym.llms.shared import SharedModel
from promptgym.tasks.parts import count_words, parts_of
from promptgym.tasks.prompt_table import PromptTable, find_table, logprobs
from promptgym.types import FloatArray, IntArray

REMEMBERED = 100_000  # prompts whose row is kept


class TableModel(SharedModel):
    """A prompt table behind the contract of a language model. Tokens are words.

    Attributes:
        name: the spec and a hash of the table.
        table: what it answers from.
    """

    kind: Kind = "causal"
    mask_token = ""

    def __init__(self, table: PromptTable, *, spec: str) -> None:
        """Take a table, and the spec that it was loaded by."""
        self.table, self.spec, self.given = table, spec, {}
        self.name = f"{spec}@{table.digest}"
        self._rows: dict[str, int] = {}

    def check_labels(self, labels: Sequence[str]) -> None:
        """Raise ModelError for labels that are not the table's."""
        if tuple(labels) != self.table.labels:
            raise self._refuse(f"of the labels {self.table.labels}, not {tuple(labels)}")

    def label_logprobs(self, texts: Sequence[str], labels: Sequence[str]) -> LabelLogprobs:
        """Look every text up.

        Args:
            texts: N texts that the table's own task laid out.
            labels: the table's labels.

        Raises:
            ModelError: for other labels or texts laid out otherwise.
        """
        self.check_labels(labels)
        rows = np.empty(len(texts), dtype=np.int64)
        columns = np.zeros(len(texts), dtype=np.int64)
        failures: dict[int, str] = {}
        for i, text in enumerate(texts):
            rows[i], given = self._place(text)
            column = self.table.column(given)
            if column is None:
                failures[i] = f"refused: {given!r} is no input of {self.spec}"
            else:
                columns[i] = column
        found = logprobs(self.table.log_odds(rows, columns))
        found[list(failures)] = np.nan
        return LabelLogprobs(found, self.count_tokens(texts), failures)

    def _place(self, text: str) -> tuple[int, str]:
        """Return the row of a text's prompt, and its input."""
        parts = parts_of(text)
        if parts is None:
            raise self._refuse(f"on texts laid out by its own task, and was asked {text[:60]!r}")
        system, prompt, given = parts
        if system:
            raise self._refuse(f"under no system text, and there is {system[:60]!r}")
        row = self._rows.get(prompt)
        if row is None:
            if len(self._rows) >= REMEMBERED:
                self._rows.clear()
            row = self._rows[prompt] = self.table.row(prompt)
        return row, given

    def loglikelihood(self, contexts: Sequence[str], continuations: Sequence[str]) -> FloatArray:
        """Raise ModelError: nothing is known of likelihoods."""
        raise self._refuse("of labels, not likelihoods of texts")

    def generate(self, texts: Sequence[str], sampling: Sampling) -> list[Completion]:
        """Raise ModelError: a table writes nothing."""
        raise self._refuse("of labels, not completions")

    def count_tokens(self, texts: Sequence[str]) -> IntArray:
        """Return the number of words of every text, shape (N,)."""
        return count_words(texts)

    def _refuse(self, what: str) -> ModelError:
        """Say that a table cannot do what is asked."""
        return ModelError(
            f"{self.name} holds log-probabilities {what}; use it with the task it brings: "
            f"load_task({self.spec!r})"
        )


def load_table(name: str, *, spec: str, **options: Any) -> TableModel:
    """Return the model of a prompt table.

    Raises:
        ModelError: for options, or a table that is not there or damaged.
    """
    if options:
        raise ModelError(f"model {spec!r} takes no options, got {sorted(options)}")
    try:
        return TableModel(find_table(name), spec=spec)
    except TaskError as error:
        raise ModelError(f"model {spec!r}: {error}") from None
