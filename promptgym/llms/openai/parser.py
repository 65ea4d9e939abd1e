"""From a written answer to a label, strictly: what is not plainly one label is none."""

from __future__ import annotations

import re
from collections.abc import Sequence

from promptgym.errors import ModelError

_EDGES = " \t\r\n\"'`*_.,;:!?()[]{}<>"
_QUOTES = {0x2018: "'", 0x2019: "'", 0x201C: '"', 0x201D: '"'}  # curly ones
_NAMED = re.compile(
    r"(?:the\s+|my\s+)?(?:final\s+|correct\s+|best\s+)?"
    r"(?:answer|label|class|category|sentiment|topic|output|prediction)"
    r"(?:\s*[:=]\s*|\s+is\s*:?\s*)(.+)",
    re.IGNORECASE,
)
_THOUGHTS = re.compile(r"\s*<think>.*?</think>", re.DOTALL)
_REFUSALS = re.compile(
    r"i'?m (?:very |so )?sorry|i am sorry|sorry,|i apologi[sz]e|"
    r"i (?:can ?not|can't|won't|will not) "
    r"(?:help|assist|answer|comply|provide|do|fulfill|classify|engage)|"
    r"i'?m (?:unable|not able) to|i am (?:unable|not able) to|as an ai\b",
    re.IGNORECASE,
)


class LabelParser:
    """Reads labels from answers.

    An answer means a label if, case and surrounding punctuation aside, it *is* the label, its first
    line is, or a line of it says so (`Answer: positive`, `The category is world news.`). Labels
    that contain one another are told apart, since whole texts are compared. Lines that name
    different labels mean none, and so does a label in the middle of a sentence ("not positive").
    Thoughts before the answer (`<think>...</think>`) are left out.

    With `continues=True` the answer continues the text, as a completion does: it means the longest
    label that it begins with and that ends at the end of a word.
    """

    def __init__(self, labels: Sequence[str], *, continues: bool = False) -> None:
        """Take the labels.

        Raises:
            ModelError: there are none, or two cannot be told apart in an answer.
        """
        self.labels = tuple(labels)
        self.continues = continues
        self._index: dict[str, int] = {}
        if not self.labels:
            raise ModelError("no labels were given")
        for number, label in enumerate(self.labels):
            bare = bare_text(label)
            if not bare:
                raise ModelError(f"label {label!r} has no letters to be recognized by: give a word")
            if bare in self._index:
                other = self.labels[self._index[bare]]
                raise ModelError(
                    f"labels {other!r} and {label!r} cannot be told apart in a written answer "
                    "(case and punctuation around them do not count): change one verbalizer"
                )
            self._index[bare] = number
        longest = sorted(self._index, key=len, reverse=True)
        self._begin = re.compile(rf"({'|'.join(map(re.escape, longest))})(?!\w)")

    def parse(self, answer: str) -> int | None:
        """Return the index of the label an answer means; None if it means none or several."""
        if self.continues:
            line = " ".join(answer.translate(_QUOTES).casefold().split())
            found = self._begin.match(line.lstrip(_EDGES))
            return None if found is None else self._index[found[1]]
        if thoughts := _THOUGHTS.match(answer):
            answer = answer[thoughts.end() :]
        whole = self._index.get(bare_text(answer))
        if whole is not None:
            return whole
        lines = [line for line in answer.splitlines() if line.strip()]
        named = {self._index.get(bare_text(lines[0]))} if lines else set()
        for line in lines:
            match = _NAMED.fullmatch(line.strip(_EDGES))
            if match:
                named.add(self._index.get(bare_text(match[1])))
        named.discard(None)
        return named.pop() if len(named) == 1 else None


def bare_text(text: str) -> str:
    """Return a text in lower case, runs of whitespace as one space, punctuation at its ends off."""
    return " ".join(text.translate(_QUOTES).casefold().split()).strip(_EDGES)


def is_refusal(answer: str) -> bool:
    """Return whether an answer begins as refusals do."""
    return _REFUSALS.match(answer.translate(_QUOTES).lstrip(_EDGES)) is not None
