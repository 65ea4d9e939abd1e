"""Scores a whole space of prompts, once: makes a prompt table (`promptgym.tasks.prompt_table`)."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from promptgym import __version__
from promptgym.errors import ConfigError, TooManyFailures
from promptgym.llms import LanguageModel
from promptgym.problem import check_words, choose_template
from promptgym.prompts import Example
from promptgym.scoring import Scorer
from promptgym.tasks import Task
from promptgym.tasks.prompt_table import Codes, PromptTable, every_prompt, make_table, space_size
from promptgym.tasks.splits import SPLITS
from promptgym.types import FloatArray

BATCH = 64  # prompts of a call
WIDEST = 127.5  # codes from -128 to 127, each the middle of its step


def build_table(
    task: Task,
    model: LanguageModel,
    words: Sequence[str],
    *,
    name: str,
    slots: int = 3,
    progress: Callable[[int, int], None] | None = None,
) -> PromptTable:
    """Score every prompt of at most `slots` words on all three splits, and record it.

    Args:
        task: a task of two labels, its test split open.
        model: what is asked.
        words: what prompts are made of.
        name: of the table.
        slots: most words of a prompt.
        progress: is told the prompts scored and their number.

    Raises:
        ConfigError: for words that are none, or a task of other than two labels.
        TaskError: for more prompts than a table may have.
        TooManyFailures: if a single call fails: a table has no gaps.
    """
    check_words(words)
    if task.labels is None or len(task.labels) != 2:
        raise ConfigError(f"a prompt table has two labels, task {task.name!r} has {task.labels}")
    template = choose_template(task, model, None)
    splits = {"train": task.train, "dev": task.dev, "test": task.test_split or ()}
    examples = [e for split in SPLITS for e in splits[split]]
    space_size(len(words), slots)
    prompts = every_prompt(words, slots).tolist()
    log_odds = np.empty((len(prompts), len(examples)))
    for first in range(0, len(prompts), BATCH):
        rows = slice(first, min(first + BATCH, len(prompts)))
        scorer = Scorer(task, model, template, max_failures=1.0)  # its memory ends with the batch
        scores = scorer.score(prompts[rows], examples)
        if scores.failures or scores.label_logprobs is None:
            raise TooManyFailures(f"a prompt table has no gaps: {scorer.outcomes.said(model.name)}")
        log_odds[rows] = scores.label_logprobs[..., 1] - scores.label_logprobs[..., 0]
        if progress is not None:
            progress(rows.stop, len(prompts))
    codes, step = quantized(log_odds)
    words_for = task.words_for
    return make_table(
        name,
        {
            "description": task.description,
            "task": task.name,
            "model": model.name,
            "template": template.text,
            "promptgym": __version__,
        },
        words=words,
        slots=slots,
        labels=[words_for(label) for label in task.labels],
        splits={s: [Example(e.input, words_for(e.target)) for e in splits[s]] for s in SPLITS},
        codes=codes,
        step=step,
    )


def quantized(log_odds: FloatArray) -> tuple[Codes, float]:
    """Return codes and step of log-odds: half a step at most is lost, and no sign.

    Where both labels are alike the first one counts as the likelier, as it does for a scorer.
    """
    step = float(np.abs(log_odds).max() / WIDEST) or 1.0
    return np.clip(np.ceil(log_odds / step) - 1, -128, 127).astype(np.int8), step
