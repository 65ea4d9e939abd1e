"""The words that perturbations of a prompt are made with: own tables, plain English."""

from __future__ import annotations

from collections.abc import Iterable

from promptgym.tasks.world.lexicon import words


def _rings(text: str) -> dict[str, tuple[str, ...]]:
    """Read lines of words that may stand for one another into word -> the others of its line."""
    found: dict[str, tuple[str, ...]] = {}
    for line in text.strip().splitlines():
        ring = words(line)
        for word in ring:
            others = (*found.get(word, ()), *(other for other in ring if other != word))
            found[word] = tuple(dict.fromkeys(others))
    return found


SYNONYMS = _rings(
    """
    author writer
    critics reviewers experts judges
    reviewer critic
    opinion view judgement stance
    sentiment feeling mood
    review critique
    price cost
    money cash funds
    staff crew team
    service help
    topic subject theme
    kind type sort
    category class
    product item
    outcome result
    tone manner
    region area
    place location
    first initial
    last final
    start beginning
    end finish
    opposite contrary
    contrast difference
    reverse inverse
    plural multiple
    code cipher
    secret hidden
    pair couple
    news report
    text passage
    sentence clause
    context surroundings
    word term
    words terms
    line row
    list series
    name title
    story tale
    film movie
    book volume
    meaning sense
    carefully cautiously attentively
    closely attentively
    precisely exactly
    careful cautious
    precise exact
    accurate correct
    accurately correctly
    thoroughly completely
    strictly rigorously
    whole entire complete
    every each
    quickly rapidly swiftly
    quick rapid swift
    roughly approximately
    simply plainly
    really truly
    very quite
    also too
    now currently
    good fine
    bad poor
    great excellent
    terrible awful
    happy glad
    sad unhappy
    big large
    small little
    positive favourable
    negative unfavourable
    following next
    given supplied
    only solely
    classify categorize sort
    decide determine
    determine establish
    tell inform
    say state
    state declare
    write compose
    read study
    find locate
    choose select pick
    answer respond reply
    answers responses replies
    question query
    explain clarify
    describe depict
    identify recognize
    label tag
    labels tags
    output produce
    input entry
    return give
    show display
    use employ
    make create
    consider weigh
    check verify
    think reason
    judge assess
    evaluate appraise
    predict forecast
    translate render
    ask enquire
    task job
    option alternative
    options alternatives
    example instance
    examples instances
    expression phrase
    whether if
    should must
    but however
    because since
    like enjoy
    dislike hate
    feel sense
    person individual
    people persons
    customer client
    user operator
    """
)
"""Word -> words that may stand for it; lower case."""

OTHERS = words(
    "window paper garden number river table minute colour letter winter street music bottle corner "
    "ticket market animal summer island pencil kitchen mountain machine morning picture blanket "
    "station village teacher doctor"
)
"""Words that a word without a synonym is exchanged for."""

ARTICLES = frozenset(["a", "an", "the"])

PREPOSITIONS = _rings("in on at\nof from\nto for\nwith by\nabout over\nbetween among\ninto inside")
"""Preposition -> those that a speaker of another language may take it for."""

AGREEMENT = {
    "is": "are",
    "are": "is",
    "was": "were",
    "were": "was",
    "has": "have",
    "have": "has",
    "does": "do",
    "do": "does",
    "this": "these",
    "these": "this",
    "that": "those",
    "those": "that",
    "a": "an",
    "an": "a",
}
"""Word -> the form that does not agree."""

POLITE = (
    ("please", ""),
    ("kindly", ""),
    ("please kindly", "thank you"),
    ("dear friend ,", ""),
    ("i ask you ,", "please"),
    ("if it is possible ,", "thanks"),
    ("hello , i need that you do it :", ""),
    ("", "please , thanks you"),
    ("be so kind ,", ""),
    ("for me now ,", "okay ?"),
)
"""What stands before and behind an instruction in polite, not always idiomatic, English."""

TAUTOLOGIES = tuple(
    f"and {left} is {right}"
    for left, right in (
        *((name, name) for name in ("red", "water", "monday", "seven", "the moon", "a stone")),
        ("north", "not south"),
        ("two", "not three"),
        ("a circle", "not a square"),
        ("today", "not yesterday"),
        ("no cat", "a dog"),
        ("every day", "a day"),
    )
)
"""True sentences that say nothing about any task."""

KEYBOARD = ("`1234567890-=", "qwertyuiop[]", "asdfghjkl;'", "zxcvbnm,./")
"""Rows of keys; a key's neighbours stand left and right of it, above and below."""


def _neighbours(rows: Iterable[str]) -> dict[str, str]:
    """Return key -> the letters and digits beside, above and below it."""
    grid = {(y, x): key for y, row in enumerate(rows) for x, key in enumerate(row)}
    near = ((0, -1), (0, 1), (-1, 0), (1, 0), (-1, 1), (1, -1))
    return {
        key: "".join(
            other for dy, dx in near if (other := grid.get((y + dy, x + dx), "")).isalnum()
        )
        for (y, x), key in grid.items()
        if key.isalnum()
    }


NEIGHBOURS = _neighbours(KEYBOARD)
"""Letter or digit -> the letters and digits next to it on a US keyboard."""
