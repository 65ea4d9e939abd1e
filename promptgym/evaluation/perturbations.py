"""Seeded perturbations of a prompt, of the four kinds of PromptBench (Zhu et al. 2023).

The generators are our own. PromptBench searches for the worst change with an attack; here changes
are drawn by chance, so that the drop is that of an ordinary slip and costs a known number of
queries.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from promptgym.errors import ConfigError
from promptgym.evaluation.wording import (
    AGREEMENT,
    ARTICLES,
    NEIGHBOURS,
    OTHERS,
    POLITE,
    PREPOSITIONS,
    SYNONYMS,
    TAUTOLOGIES,
)
from promptgym.prompts import Prompt

KINDS = ("character", "word", "sentence", "semantic")
SHARE = 0.25  # of the words are changed by one variant, at least one
TRIES = 50  # draws for a variant that is a new one
ALPHABET = "abcdefghijklmnopqrstuvwxyz"
RANDOM_LENGTH = 10  # letters and digits of CheckList's meaningless string, as in PromptBench
SPECIAL = re.compile(r"<[^<>\s]+>|\[[A-Z_]+\d*\]|\{[^{}\s]*\}")
r"""Special tokens and placeholders: `<text>`, `<|user|>`, `[MASK]`, `{label}`."""


@dataclass(frozen=True, slots=True)
class Cut:
    """An instruction cut at whitespace.

    Attributes:
        words: its words.
        gaps: what stands before the first word, between words and behind the last: one more.
        free: whether a word may be changed.
    """

    words: tuple[str, ...]
    gaps: tuple[str, ...]
    free: tuple[bool, ...]

    @classmethod
    def of(cls, text: str, keep: Collection[str] = ()) -> Cut:
        """Cut a text; words that overlap a special token or a text of `keep` are not free."""
        kept = [m.span() for m in SPECIAL.finditer(text)]
        for phrase in keep:
            if phrase.strip():
                whole = rf"(?<!\w){re.escape(phrase.strip())}(?!\w)"
                kept += [m.span() for m in re.finditer(whole, text, re.IGNORECASE)]
        found = list(re.finditer(r"\S+", text))
        ends = [0, *(place for m in found for place in m.span()), len(text)]
        gaps = tuple(text[ends[i] : ends[i + 1]] for i in range(0, len(ends), 2))
        free = tuple(not any(a < m.end() and m.start() < b for a, b in kept) for m in found)
        return cls(tuple(m.group() for m in found), gaps, free)

    def text(self, words: Sequence[str] | None = None) -> str:
        """Return the text, with other words in the places of its own; "" is left out."""
        there = [(i, word) for i, word in enumerate(words or self.words) if word]
        joined = "".join(self.gaps[i] * (n > 0) + word for n, (i, word) in enumerate(there))
        return self.gaps[0] + joined + self.gaps[-1] * bool(self.words)

    def places(self, fits: Callable[[str], bool]) -> list[int]:
        """Return where free words stand of which something holds."""
        return [i for i, word in enumerate(self.words) if self.free[i] and fits(word)]


def perturbed(
    prompt: Prompt | str,
    kind: str,
    *,
    seed: int = 0,
    variants: int = 3,
    keep: Collection[str] = (),
) -> list[Prompt]:
    """Return variants of a prompt under one kind of perturbation.

    The instruction is changed; demonstrations and the system message stay as they are. The draws
    depend on the instruction, the kind and the seed alone: not on other prompts, and a longer list
    begins with the shorter one. Every variant differs from the prompt and, where there are enough
    ways to change it, from the others.

    - `character`: in a quarter of the words, at least one, two neighbouring characters change
      places, or one is left out, inserted, repeated or replaced by a neighbouring key.
    - `word`: a quarter of the words, at least one, is replaced (by a synonym if the table of
      `wording` has one), left out or doubled.
    - `sentence`: ten random letters and digits (CheckList), or a tautology (StressTest), stand
      behind the instruction.
    - `semantic`: the phrasing of speakers of another language: articles left out, prepositions
      exchanged, forms that do not agree, words in another order, polite words around.

    Args:
        prompt: the prompt.
        kind: one of `KINDS`.
        seed: of the draws.
        variants: how many.
        keep: words and phrases that are left as they are, in any casing, such as labels; so are
            special tokens and placeholders (`SPECIAL`) always.

    Returns:
        `variants` prompts; none if the kind has nothing to change (an empty prompt has no
        characters and no words).

    Raises:
        ConfigError: for an unknown kind, fewer than one variant or a negative seed.
    """
    prompt = Prompt.of(prompt)
    check_draws(kind=kind, variants=variants, seed=seed)
    cut = Cut.of(prompt.instruction, keep)
    rng = generator(prompt, kind, seed)
    change = _CHANGES[kind]
    found: list[Prompt] = []
    for _ in range(variants):
        repeated = None
        for _ in range(TRIES):
            drawn = replace(prompt, instruction=change(cut, rng))
            if drawn.words == prompt.words:
                continue
            repeated = drawn
            if drawn not in found:
                break
        if repeated is None:
            return []
        found.append(repeated)
    return found


def check_draws(*, kind: str = KINDS[0], variants: int = 1, seed: int = 0) -> None:
    """Refuse what no variant can be drawn with.

    Raises:
        ConfigError: naming what was given and what was expected.
    """
    if kind not in KINDS:
        raise ConfigError(f"unknown kind of perturbation {kind!r}; expected one of {list(KINDS)}")
    if variants < 1:
        raise ConfigError(f"variants must be at least 1, got {variants}")
    if seed < 0:
        raise ConfigError(f"seed must be 0 or more, got {seed}")


def generator(prompt: Prompt, what: str, seed: int) -> np.random.Generator:
    """Return the chance for one prompt and purpose, whatever other prompts are asked about."""
    text = f"{what}\0{prompt.instruction}".encode()
    digest = hashlib.blake2b(text, digest_size=8).digest()
    return np.random.default_rng([seed, int.from_bytes(digest)])


def _pick(options: Sequence[str], rng: np.random.Generator) -> str:
    """Draw one of some texts."""
    return options[int(rng.integers(len(options)))]


def _chosen(places: Sequence[int], rng: np.random.Generator) -> list[int]:
    """Draw the places to change: a share of them, at least one if there is any."""
    count = min(len(places), max(1, round(SHARE * len(places))))
    return sorted(rng.permutation(np.array(places, dtype=np.int64))[:count].tolist())


def _characters(cut: Cut, rng: np.random.Generator) -> str:
    """Change a character in some words."""
    words = list(cut.words)
    for i in _chosen(cut.places(_has_letters), rng):
        words[i] = _typo(words[i], rng)
    return cut.text(words)


def _has_letters(word: str) -> bool:
    """Whether there is a letter or digit in a word."""
    return any(map(str.isalnum, word))


def _typo(word: str, rng: np.random.Generator) -> str:
    """Change one letter or digit of a word, as TextBugger and DeepWordBug do."""
    at = int(rng.choice([i for i, c in enumerate(word) if c.isalnum()]))
    here, after = word[at], word[at + 1 :]
    near = NEIGHBOURS.get(here.lower(), ALPHABET)
    typed = _pick(near, rng)
    typed = typed.upper() if here.isupper() else typed
    done = {
        "swap": word[:at] + after[:1] + here + after[1:],
        "delete": word[:at] + after if len(word) > 1 else word,
        "insert": word[:at] + here + _pick(ALPHABET, rng) + after,
        "key": word[:at] + typed + after,
        "repeat": word[:at] + 2 * here + after,
    }
    return done[_pick(list(done), rng)]


def _words(cut: Cut, rng: np.random.Generator) -> str:
    """Replace, leave out or double some words."""
    words = list(cut.words)
    for i in _chosen(cut.places(_has_letters), rng):
        how = _pick(("replace", "drop", "double"), rng)
        if how == "replace":
            words[i] = _exchanged(words[i], SYNONYMS, rng, OTHERS)
        elif how == "double":
            words[i] = f"{words[i]} {words[i]}"
        elif sum(map(bool, words)) > 1:
            words[i] = ""
    return cut.text(words)


def _exchanged(
    word: str,
    table: Mapping[str, tuple[str, ...]],
    rng: np.random.Generator,
    others: tuple[str, ...] = (),
) -> str:
    """Replace a word by one of a table, else of `others`; signs around it and its case stay."""
    core, before, after = _bare(word)
    new = _pick(table.get(core.lower(), others), rng)
    if core.isupper() and len(core) > 1:
        new = new.upper()
    elif core[:1].isupper():
        new = new.capitalize()
    return before + new + after


def _bare(word: str) -> tuple[str, str, str]:
    """Return a word without the signs around it, and the signs before and behind it."""
    start = next((i for i, c in enumerate(word) if c.isalnum()), len(word))
    end = next((i for i in range(len(word), start, -1) if word[i - 1].isalnum()), start)
    return word[start:end], word[:start], word[end:]


def _sentence(cut: Cut, rng: np.random.Generator) -> str:
    """Put a string or a sentence without meaning for the task behind the text."""
    if rng.random() < 0.5:
        added = "".join(_pick(ALPHABET + "0123456789", rng) for _ in range(RANDOM_LENGTH))
    else:
        added = _pick(TAUTOLOGIES, rng)
    text = cut.text()
    return text + (" " if text and not text[-1].isspace() else "") + added


def _phrasing(cut: Cut, rng: np.random.Generator) -> str:
    """Phrase a text as a speaker of another language may."""
    if not cut.words:
        return cut.text()
    words = list(cut.words)
    edits = _slips(cut)
    count = int(rng.integers(1, len(edits) + 1))
    for i in sorted(rng.permutation(len(edits))[:count].tolist()):
        words = edits[i](words, rng)
    return cut.text(words)


Edit = Callable[[list[str], np.random.Generator], list[str]]


def _slips(cut: Cut) -> list[Edit]:
    """Return the slips that a text gives occasion for; each keeps the number of places."""

    def of(table: Collection[str]) -> list[int]:
        return cut.places(lambda word: _bare(word)[0].lower() in table)

    def articles(words: list[str], rng: np.random.Generator) -> list[str]:
        gone = set(of(ARTICLES)) if len(words) > len(of(ARTICLES)) else set()
        return ["" if i in gone else word for i, word in enumerate(words)]

    def exchange(table: Mapping[str, tuple[str, ...]]) -> Edit:
        def edit(words: list[str], rng: np.random.Generator) -> list[str]:
            i = int(rng.choice(of(table)))
            if _bare(words[i])[0].lower() not in table:  # left out or exchanged before
                return words
            return [*words[:i], _exchanged(words[i], table, rng), *words[i + 1 :]]

        return edit

    def order(words: list[str], rng: np.random.Generator) -> list[str]:
        i = int(rng.choice(pairs))
        return [*words[:i], words[i + 1], words[i], *words[i + 2 :]]

    def polite(words: list[str], rng: np.random.Generator) -> list[str]:
        before, after = POLITE[int(rng.integers(len(POLITE)))]
        before = before.capitalize() if words[0][:1].isupper() else before
        wrapped = list(words)
        wrapped[0] = f"{before} {wrapped[0]}".strip()
        wrapped[-1] = f"{wrapped[-1]} {after}".strip()
        return wrapped

    pairs = [i for i in range(len(cut.words) - 1) if cut.free[i] and cut.free[i + 1]]
    agreement = {word: (other,) for word, other in AGREEMENT.items()}
    offers: list[tuple[bool, Edit]] = [
        (bool(of(ARTICLES)), articles),
        (bool(of(PREPOSITIONS)), exchange(PREPOSITIONS)),
        (bool(of(agreement)), exchange(agreement)),
        (bool(pairs), order),
        (True, polite),
    ]
    return [edit for there, edit in offers if there]


_CHANGES: dict[str, Callable[[Cut, np.random.Generator], str]] = {
    "character": _characters,
    "word": _words,
    "sentence": _sentence,
    "semantic": _phrasing,
}
