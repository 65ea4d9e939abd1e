"""`recall`: one call of a model, of which a store answers what it knows and keeps what is new."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from promptgym.prompts import Example, Prompt
from promptgym.scoring.asking import Answers, Asker
from promptgym.scoring.store import Answered, ExampleSet, Shelf
from promptgym.types import BoolArray, IntArray

PAGE = 256
"""Examples of a prompt that are kept together where a model answers in parts."""
KEPT_EVERY = 2.0
"""Seconds after which pages that are not all answered are kept, too: what a kill may lose."""


@dataclass(slots=True)
class _Page:
    """One prompt on the examples that become a row of the store.

    Attributes:
        prompt: the prompt.
        places: which examples, shape (n,).
        texts: which text each of them is, shape (n,).
        unkept: which of them the store lacks, shape (n,).
    """

    prompt: Prompt
    places: IntArray
    texts: IntArray
    unkept: BoolArray


def recall(
    shelf: Shelf,
    asker: Asker,
    asked: Sequence[tuple[Prompt, IntArray]],
    examples: tuple[Example, ...],
    texts: Sequence[str],
    index: IntArray,
    landed: Callable[[], None],
) -> Answers:
    """Answer texts from the shelf where it can, from the model where not; keep what is new.

    Tokens are counted alike for both, so that a call costs the same whoever answers it. Answers are
    kept as they come, and when the call breaks off those that came.

    Args:
        shelf: the answers known.
        asker: asks the model.
        asked: prompts, each with the places of its examples.
        examples: all examples, shape (E,).
        texts: the N different texts of the call.
        index: which text is which pair, prompt by prompt, shape (pairs,).
        landed: called whenever the model is about to be asked, and whenever answers have come.
    """
    answers = asker.blank((len(texts),))
    tokens = np.zeros(len(texts), dtype=np.int64)
    known = np.zeros(len(texts), dtype=np.bool_)
    pages = _pages(asked, index, PAGE if asker.in_parts else len(examples))
    sets = _Sets(shelf, examples)
    found = shelf.read([page.prompt for page in pages], [sets.of(page.places) for page in pages])
    for page, one in zip(pages, found, strict=True):
        if one is not None:
            at = page.texts[one.hit]
            answers[at], tokens[at], known[at] = one.answers[one.hit], one.tokens[one.hit], True
            page.unkept = ~one.hit
    reasons: dict[int, str] = {}

    def keep(*, whole: bool) -> None:
        """Write the pages that are answered as a whole, or what is answered of any page."""
        nonlocal pages
        new: list[Answered] = []
        for page in pages:
            here = known[page.texts]
            if whole and not here.all():
                continue
            ready = page.unkept & here
            page.unkept &= ~here
            if reasons:
                ready &= [text not in reasons for text in page.texts.tolist()]
            if ready.any():
                at = page.texts[ready]
                some = sets.of(page.places[ready])
                new.append(Answered(page.prompt, some, answers[at], tokens[at]))
        pages = [page for page in pages if page.unkept.any()]
        shelf.write(new)

    kept = time.monotonic()
    try:
        missing = np.flatnonzero(~known)
        if len(missing):
            landed()
            for where, got in asker.ask_parts([texts[i] for i in missing.tolist()]):
                at = missing[where]
                answers[at], tokens[at], known[at] = got.answers, got.tokens, True
                reasons.update({int(at[i]): reason for i, reason in got.reasons.items()})
                due = time.monotonic() - kept >= KEPT_EVERY
                keep(whole=not due)
                kept = time.monotonic() if due else kept
                landed()
    finally:
        keep(whole=False)
    return Answers(answers, tokens, reasons)


def _pages(asked: Sequence[tuple[Prompt, IntArray]], index: IntArray, size: int) -> list[_Page]:
    """Cut the pairs of a call into pages."""
    pages: list[_Page] = []
    start = 0
    for prompt, places in asked:
        for first in range(0, len(places), size):
            part = places[first : first + size]
            texts = index[start + first : start + first + len(part)]
            pages.append(_Page(prompt, part, texts, np.ones(len(part), dtype=np.bool_)))
        start += len(places)
    return pages


class _Sets:
    """The sets of examples of a call: pages on the same examples share one."""

    def __init__(self, shelf: Shelf, examples: tuple[Example, ...]) -> None:
        """Take all examples of the call."""
        self._shelf, self._examples = shelf, examples
        self._known: dict[bytes, ExampleSet] = {}

    def of(self, places: IntArray) -> ExampleSet:
        """Return some of the examples as a set."""
        key = places.tobytes()
        if key not in self._known:
            every = self._examples
            whole = len(places) == len(every)
            some = every if whole else tuple(every[i] for i in places.tolist())
            self._known[key] = self._shelf.set_of(some)
        return self._known[key]
