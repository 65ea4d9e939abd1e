"""`replay:NAME`: what a model said or scored before, in place of the model.

Two kinds of record are replayed, each by the smallest contract that invents nothing.

**What a model said** (`promptgym cache export`, see `promptgym.llms.recorded`): log-probabilities
or completions of texts. That is all a `LanguageModel` is asked for, so the recording *is* one, for
the user's own task, metric and reward.

**What a model scored** (a measured table, see `promptgym.tasks.measured`): prompts and scores, one
a prompt or one a prompt and example. A model answers texts and a table knows no answers; to make
some up (log-probabilities that would give the score) would hand rewards numbers that nobody
measured. A second scorer beside `Scorer` would need its own budget, caches, statuses and journals.
So the table brings its own task: `load_task("replay:NAME")`, whose texts can be taken apart again
and whose metric reads the score that `MeasuredModel` "generates". Everything between is what runs
with any model:

    problem = make_problem("replay:scores.jsonl#agnews/llama", "replay:scores.jsonl#agnews/llama")

What is not in the record is a failure that names it, never a score: NaN in `Scores`, a truncated
episode in an environment.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from promptgym.errors import ModelError, TaskError
from promptgym.llms.base import Completion, Kind, LabelLogprobs, LanguageModel, Sampling
from promptgym.llms.recorded import RecordedModel, is_recording
from promptgym.llms.shared import SharedModel
from promptgym.tasks.measured import PREFIX, MeasuredTable
from promptgym.tasks.measured_files import data_path, read_measured
from promptgym.tasks.parts import count_words, parts_of
from promptgym.types import FloatArray, IntArray


def load_replay(name: str, *, spec: str, **options: Any) -> LanguageModel:
    """Return the model of a record.

    Args:
        name: a file of `promptgym cache export`, with `#MODEL` behind it if it holds several
            models; or what `promptgym.tasks.measured_files.read_measured` takes.
        spec: with the scheme.
        options: `data_dir`, as `load_task` takes it.

    Raises:
        ModelError: an option or a file that cannot be used, naming the line.
    """
    unknown = sorted(set(options) - {"data_dir"})
    if unknown:
        raise ModelError(f"model {spec!r}: unknown options {unknown}; allowed: ['data_dir']")
    place, _, select = name.partition("#")
    path = data_path(place)
    if is_recording(path):
        if options:
            raise ModelError(f"model {spec!r}: data_dir= goes with a folder of outcomes only")
        return RecordedModel(path, select, spec=spec)
    try:
        return MeasuredModel(read_measured(name, **options), spec=spec, given=options)
    except TaskError as error:
        raise ModelError(f"model {spec!r}: {error}") from None


class MeasuredModel(SharedModel):
    """A measured table behind the contract of a language model: it "generates" scores.

    Tokens are words: a table knows no tokenizer.

    Attributes:
        name: the spec and a hash of everything that was read.
        table: what was measured.
        prompts: the prompts that were measured, shape (P,).
    """

    kind: Kind = "causal"
    mask_token = ""

    def __init__(self, table: MeasuredTable, *, spec: str, given: dict[str, Any]) -> None:
        """Take a table, and how it was loaded."""
        self.table = table
        self.spec, self.given = spec, given
        self.name = f"{spec}@{table.digest}"
        self.prompts = table.prompts

    def _refuse(self, what: str) -> ModelError:
        """Say that a table cannot do what is asked."""
        return ModelError(
            f"{self.name} holds scores of prompts, {what}; use it with the task it brings: "
            f"load_task({self.spec!r})"
        )

    def check_labels(self, labels: Sequence[str]) -> None:
        """Raise ModelError: nothing is known of labels."""
        raise self._refuse("not what a model thinks of labels")

    def label_logprobs(self, texts: Sequence[str], labels: Sequence[str]) -> LabelLogprobs:
        """Raise ModelError: nothing is known of labels."""
        raise self._refuse("not what a model thinks of labels")

    def loglikelihood(self, contexts: Sequence[str], continuations: Sequence[str]) -> FloatArray:
        """Raise ModelError: nothing is known of likelihoods."""
        raise self._refuse("not likelihoods of texts")

    def count_tokens(self, texts: Sequence[str]) -> IntArray:
        """Return the number of words of every text, shape (N,)."""
        return count_words(texts)

    def generate(self, texts: Sequence[str], sampling: Sampling) -> list[Completion]:
        """Answer every text with its score; sampling plays no part.

        Raises:
            ModelError: for a text that the table's own task did not lay out.
        """
        return [self._answer(text) for text in texts]

    def _answer(self, text: str) -> Completion:
        """Look one text up."""
        parts = parts_of(text)
        if parts is None:
            raise self._refuse(f"laid out by its own template, and was asked {text[:60]!r}")
        found = self.table.find(*parts)
        if isinstance(found, str):
            return Completion("", error=f"refused: {found}")
        return Completion(f"{PREFIX}{found!r}")
