"""Edits of phrases: what GrIPS and the metaheuristics of Plum do to a prompt.

Source: Prasad et al. (EACL 2023), section 3: a prompt is cut into phrases, and an edit deletes a
phrase, swaps two, or adds one back that was deleted before. (Their fourth edit, a paraphrase, takes
a second model.)
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import Literal

import numpy as np

from promptgym.baselines.hill_climbing import Words, edit
from promptgym.problem import Problem

Level = Literal["phrase", "word", "sentence"]
Kind = Literal["words", "phrases"]

FUNCTION_WORDS = frozenset(
    """
    a an the this that these those my your his her its our their each every some any no all both
    of in on at by for from to into onto with without about over under between among through
    during before after against as than and or but nor so if while when where because whether
    which who whom whose what how why is are was were be been being am do does did has have had
    will would can could shall should may might must not i you he she it we they
    """.split()  # noqa: SIM905 - a hundred quotation marks would hide the words
)
"""Words that a phrase begins with."""


def cut(words: Words, level: Level = "phrase") -> Words:
    """Cut a prompt into the units that are edited; joined with spaces they are the prompt again.

    A phrase is a run of function words and the content words after it (the chinks and chunks of
    Liberman & Church 1992), and ends at a punctuation mark. GrIPS takes the smallest phrases of a
    constituency parser, which come to much the same and would need a model.

    Args:
        words: of the prompt.
        level: what a unit is.
    """
    if level == "word":
        return words
    units: list[list[str]] = []
    open_, content = False, False
    for word in words:
        function = word.lower() in FUNCTION_WORDS
        mark = not any(c.isalnum() for c in word)
        begins = level == "phrase" and function and content
        if (not open_ and not (mark and units)) or begins:
            units.append([])
            content = False
        units[-1].append(word)
        content = content or not (function or mark)
        ends = ".!?" if level == "sentence" else ".!?,;:"
        open_ = word[-1] not in ends
    return tuple(" ".join(unit) for unit in units)


def phrase_edit(
    units: Words, start: Words, rng: np.random.Generator, whole: Words | None = None
) -> Words:
    """Return the units after one edit: delete one, swap two, or add one that the start had.

    Edits that do not apply (adding where nothing was deleted) are not drawn. An addition stands
    before all units or after any of them, each as likely.

    Args:
        units: what is edited.
        start: units of the prompt that everything began with.
        rng: chance.
        whole: all units of the prompt, where `units` are a part: what it has is not deleted.
    """
    deleted = list((Counter(start) - Counter(units if whole is None else whole)).elements())
    n = len(units)
    possible = ["delete"] * (n > 0) + ["swap"] * (n > 1) + ["add"] * bool(deleted)
    if not possible:
        return units
    operation = possible[int(rng.integers(len(possible)))]
    out = list(units)
    if operation == "delete":
        del out[int(rng.integers(n))]
    elif operation == "swap":
        i, j = rng.choice(n, size=2, replace=False)
        out[i], out[j] = out[j], out[i]
    else:
        out.insert(int(rng.integers(n + 1)), deleted[int(rng.integers(len(deleted)))])
    return tuple(out)


@dataclass(frozen=True)
class Edits:
    """A neighbourhood of prompts.

    Attributes:
        kind: "phrases": GrIPS's deletions, swaps and additions. "words": insert, replace, delete or
            swap single words of a vocabulary, as `hill_climbing` does.
        start: units of the initial prompt.
        vocabulary: words that may be written ("words" only).
        longest: most words of a prompt ("words" only).
    """

    kind: Kind
    start: Words
    vocabulary: Words
    longest: int

    @classmethod
    def of(cls, kind: Kind, problem: Problem, longest: int, level: Level = "phrase") -> Edits:
        """Return the edits of a problem's prompts; `level` says what a unit of "phrases" is."""
        words = problem.initial_prompt.words
        start = cut(words, level) if kind == "phrases" else words
        return cls(kind, start, problem.vocabulary, max(longest, len(words)))

    def draw(self, units: Words, rng: np.random.Generator, whole: Words | None = None) -> Words:
        """Return units after one random edit.

        Args:
            units: of a prompt, or of a part of it.
            rng: chance.
            whole: all units of the prompt, where `units` are a part.
        """
        if self.kind == "phrases":
            return phrase_edit(units, self.start, rng, whole)
        return edit(units, self.vocabulary, rng, longest=self.longest, swaps=True)
