"""Test examples in prompts: what no submission may have."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator

from promptgym.leaderboard.files import Refused
from promptgym.prompts import Prompt
from promptgym.tasks import Task

FEWEST_WORDS = 4
"""A test input of fewer words may stand in a prompt by chance."""
BETWEEN = "\x1e"
MOST_TEXT = 32_000_000
"""Characters of the prompts of a run that are searched, at most."""


def leaks(prompts: Iterable[Prompt], task: Task) -> Iterator[str]:
    """Yield one sentence for every test example that a prompt holds (the first three).

    Compared is text in lower case with single spaces; an input of a demonstration is compared
    whole, other text by inputs of at least `FEWEST_WORDS` words that stand in it.

    Args:
        prompts: all that were asked about.
        task: with its test split open.

    Raises:
        Refused: for more text than is searched.
    """
    shown, texts = set(), []
    for prompt in prompts:
        texts += [_plain(prompt.instruction), _plain(prompt.system)]
        for example in prompt.demonstrations:
            shown.add(_plain(example.input))
            texts += [_plain(example.input), _plain(example.target)]
    everything = BETWEEN.join(dict.fromkeys(texts))
    if len(everything) > MOST_TEXT:
        raise Refused(f"the prompts of a run have more than {MOST_TEXT:,} characters")
    found = 0
    for example in task.test:
        text = _plain(example.input)
        whole = len(text.split()) >= FEWEST_WORDS and text in everything
        if whole or text in shown:
            found += 1
            if found <= 3:
                yield f"a prompt holds the test example {example.input[:60]!r}"


def _plain(text: str) -> str:
    """Return text in lower case with single spaces."""
    return re.sub(r"\s+", " ", text).strip().lower()
