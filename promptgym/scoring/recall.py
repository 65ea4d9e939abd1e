"""`recall`: one call of a model, of which a store answers what it knows."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from promptgym.prompts import Example, Prompt
from promptgym.scoring.asking import Answers, Asker
from promptgym.scoring.store import Answered, ExampleSet, Shelf
from promptgym.types import IntArray


def recall(
    shelf: Shelf,
    asker: Asker,
    asked: Sequence[tuple[Prompt, IntArray]],
    examples: tuple[Example, ...],
    texts: Sequence[str],
    index: IntArray,
) -> Answers:
    """Answer texts from the shelf where it can, from the model where not; keep what is new.

    Tokens are counted alike for both, so that a call costs the same whoever answers it.

    Args:
        shelf: the answers known.
        asker: asks the model.
        asked: prompts, each with the places of its examples.
        examples: all examples, shape (E,).
        texts: the N different texts of the call.
        index: which text is which pair, prompt by prompt, shape (pairs,).
    """
    sets = _sets(shelf, asked, examples)
    bounds = np.cumsum([0, *(len(places) for _, places in asked)]).tolist()
    answers = asker.blank((len(texts),))
    tokens = np.zeros(len(texts), dtype=np.int64)
    known = np.zeros(len(texts), dtype=np.bool_)
    stored = [np.zeros(0, dtype=np.bool_)] * len(asked)
    for i, found in enumerate(shelf.read([prompt for prompt, _ in asked], sets)):
        part = index[bounds[i] : bounds[i + 1]]
        stored[i] = np.zeros(len(part), dtype=np.bool_) if found is None else found.hit
        if found is not None:
            at = part[found.hit]
            answers[at], tokens[at] = found.answers[found.hit], found.tokens[found.hit]
            known[at] = True
    reasons: dict[int, str] = {}
    missing = np.flatnonzero(~known)
    if len(missing):
        got = asker.ask([texts[i] for i in missing.tolist()])
        answers[missing], tokens[missing] = got.answers, got.tokens
        reasons = {int(missing[i]): reason for i, reason in got.reasons.items()}
    if not all(hit.all() for hit in stored):
        failed = np.zeros(len(texts), dtype=np.bool_)
        failed[list(reasons)] = True
        new: list[Answered] = []
        for i, (prompt, places) in enumerate(asked):
            part = index[bounds[i] : bounds[i + 1]]
            keep = ~stored[i] & ~failed[part]
            if keep.any():
                kept = sets[i] if keep.all() else shelf.set_of(_some(examples, places[keep]))
                new.append(Answered(prompt, kept, answers[part[keep]], tokens[part[keep]]))
        shelf.write(new)
    return Answers(answers, tokens, reasons)


def _sets(
    shelf: Shelf, asked: Sequence[tuple[Prompt, IntArray]], examples: tuple[Example, ...]
) -> list[ExampleSet]:
    """Return the examples of every prompt; prompts on the same examples share one set."""
    known: dict[bytes, ExampleSet] = {}
    out = []
    for _, places in asked:
        key = places.tobytes()
        if key not in known:
            whole = len(places) == len(examples)
            known[key] = shelf.set_of(examples if whole else _some(examples, places))
        out.append(known[key])
    return out


def _some(examples: tuple[Example, ...], places: IntArray) -> tuple[Example, ...]:
    """Return some of the examples."""
    return tuple(examples[i] for i in places.tolist())
