"""`Definition`: what is fixed about a task before its rows are read."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Literal

from promptgym.prompts import Prompt, Template
from promptgym.tasks.hub import HubSource
from promptgym.tasks.metrics import Metric, PerExample

INPUT_COLUMNS = ("text", "sentence", "input", "question")
TARGET_COLUMNS = ("label", "target", "output", "answer")

DEFAULT_TEMPLATE = Template(
    "{demonstrations}{prompt}\nInput: {input}\nOutput:", "Input: {input}\nOutput: {answer}\n\n"
)
DEFAULT_MASKED = Template("{demonstrations}{input} {prompt} {mask} .", "{input} {answer} .\n")


@dataclass(frozen=True, slots=True, kw_only=True)
class Definition:
    """Everything about a task but its examples.

    Attributes:
        name: the name it is loaded by.
        aliases: other spellings of the name.
        description: one sentence.
        input: columns that may hold the input, the first found is taken; a name with braces is a
            format string over columns.
        target: columns that may hold the target.
        labels: the labels in index order; None for free answers; "auto" to look at the data.
        raw: raw label value in local files -> label.
        verbalizers: label -> the word a model answers with; empty for the label itself.
        template: for causal and encoder-decoder models.
        masked_template: for masked models.
        metric: name, or callable; None for accuracy with labels, exact match without.
        manual_prompts: prompts a person would write; the first is the default start.
        max_new_tokens: generation length of free answers.
        stop: where a free answer ends.
        hub: where the data lies on the Hub; None if it does not.
        headerless: the columns of files without a header, as the data set's authors ship them.
        clean: applied to a free answer.
        alternatives: column with further right answers.
        known_duplicates: the published files repeat inputs, so repeats are dropped by default.
        layout: "files" (train/dev/test files in a folder) or "induction" (induce/ and execute/).
        obtain: how to get the files when there is no Hub copy.
    """

    name: str
    aliases: tuple[str, ...] = ()
    description: str = ""
    input: tuple[str, ...] = INPUT_COLUMNS
    target: tuple[str, ...] = TARGET_COLUMNS
    labels: tuple[str, ...] | Literal["auto"] | None = "auto"
    raw: Mapping[str, str] = field(default_factory=dict)
    verbalizers: Mapping[str, str] = field(default_factory=dict)
    template: Template = DEFAULT_TEMPLATE
    masked_template: Template | None = DEFAULT_MASKED
    metric: str | Metric | PerExample | None = None
    manual_prompts: tuple[Prompt, ...] = (Prompt(""),)
    max_new_tokens: int = 16
    stop: tuple[str, ...] = ("\n",)
    hub: HubSource | None = None
    headerless: tuple[str, ...] = ()
    clean: Callable[[str], str] | None = None
    alternatives: str | None = None
    known_duplicates: bool = False
    layout: Literal["files", "induction"] = "files"
    obtain: str = ""
