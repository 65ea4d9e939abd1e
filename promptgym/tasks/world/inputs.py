"""Inputs of the text world, with every answer that can be given to them.

An input supports several questions. To each there are two answers: the careful one, and the one of
a reader who goes by surface words (misses "not", believes the desk's name). An input also leans to
one question or another and to careful or hasty reading, a little differently for every word in it:
that spread is what makes accuracy rise in small steps.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache

from promptgym.tasks.world import lexicon as lx
from promptgym.tasks.world.cues import fraction

Answer = tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Item:
    """One input.

    Attributes:
        words: the input's words.
        answers: question -> (careful answer, hasty answer), each a tuple of words.
        lean: question -> log-weight the input itself gives to that question.
        care: log-odds the input itself adds to careful reading.
    """

    words: tuple[str, ...]
    answers: dict[str, tuple[Answer, Answer]]
    lean: dict[str, float]
    care: float

    @property
    def text(self) -> str:
        """The input as a string."""
        return " ".join(self.words)


@cache
def _lean(word: str, question: str) -> float:
    """What one input word adds to a question, in [-1, 1]."""
    return fraction(f"{word}/{question}")


def _polarity(rng: random.Random, agree: bool, balance: float) -> bool:
    """The second of two opinions agrees with the first with probability `balance`."""
    return agree if rng.random() < balance else not agree


def _clause(
    rng: random.Random, aspect: str, truth: bool, negation: float
) -> tuple[list[str], bool]:
    """One clause of a review; returns its words and the polarity of its surface words."""
    negated = rng.random() < negation
    surface = truth != negated
    adjective = rng.choice(lx.POSITIVE if surface else lx.NEGATIVE)
    end = [*([rng.choice(lx.INTENSIFIERS)] if rng.random() < 0.3 else []), adjective]
    negator = [rng.choice(lx.NEGATORS)] if negated else []
    form = rng.random()
    if aspect == "author":
        if form < 0.4:
            verb = rng.choice(
                (lx.LOVE if surface else lx.HATE)
                if negated
                else (lx.LOVED if surface else lx.HATED)
            )
            return (
                ["i", "did", rng.choice(("not", "never")), verb, "it"]
                if negated
                else ["i", verb, "it"]
            ), surface
        start = ["to", "me", "it", "felt"] if form < 0.7 else ["i", "found", "it"]
    elif aspect == "critics":
        critics = rng.choice(lx.CRITICS)
        if form < 0.5:
            verb = rng.choice(lx.PRAISED if surface else lx.PANNED)
            return [critics, *(["never"] if negated else []), verb, "it"], surface
        start = [critics, "called", "it"]
    else:
        start = ["the", rng.choice(lx.ASPECTS[aspect]), "was"]
    return [*start, *negator, *end], surface


def review(rng: random.Random, need: str | None = None, simple: bool = False) -> Item:
    """A review of a product: two or three opinions that may disagree."""
    kind = rng.choice(lx.KINDS)
    product, source = rng.choice(lx.PRODUCTS[kind]), rng.choice(lx.SOURCES)
    aspects = rng.sample(
        ["author", "critics", "price", "staff"], 1 if simple else rng.choice([2, 3, 3])
    )
    if need in ("author", "critics", "price", "staff") and need not in aspects:
        aspects[0] = need
    rng.shuffle(aspects)
    overall = rng.random() < 0.5
    words = [source, product, ":"]
    answers: dict[str, tuple[Answer, Answer]] = {}
    for i, aspect in enumerate(aspects):
        truth = _polarity(rng, overall, 0.58)
        clause, surface = _clause(rng, aspect, truth, 0.1 if simple else 0.42)
        words += ([rng.choice(["but", "and", ",", "while"])] if i else []) + clause
        answers[aspect] = ((lx.POLARITY[truth],), (lx.POLARITY[surface],))
    answers["kind"] = ((kind,), (kind,))
    lean = {
        q: _lean(product, q) + 0.5 * _lean(source, q) - (0.6 if q == "kind" else 0.0)
        for q in answers
    }
    care = 1.2 * _lean(source, "care") + 1.0 * _lean(product, "care")
    return Item((*words, "."), answers, lean, care)


def news(rng: random.Random, need: str | None = None, simple: bool = False) -> Item:
    """A line of news, filed by some desk that is often not the one of its topic."""
    topic, region = rng.choice(lx.TOPICS), rng.choice(lx.REGIONS)
    good, averted = rng.random() < 0.5, rng.random() < (0.1 if simple else 0.42)
    desk = topic if rng.random() < 0.4 else rng.choice(lx.TOPICS)
    surface = good != averted
    subject, place = rng.choice(lx.SUBJECTS[topic]), rng.choice(lx.PLACES[region])
    cheerful = rng.random() < 0.5
    adverb = rng.choice(lx.CHEERFUL if cheerful else lx.GLOOMY)
    words = [desk, "desk", ":", adverb, subject, *([rng.choice(lx.AVERTED)] if averted else [])]
    words += [
        lx.EVENTS[topic][0 if surface else 1],
        rng.choice(lx.OBJECTS[topic]),
        "in",
        place,
        ".",
    ]
    answers: dict[str, tuple[Answer, Answer]] = {
        "topic": ((topic,), (desk,)),
        "desk": ((desk,), (desk,)),
        "outcome": ((lx.OUTCOME[good],), (lx.OUTCOME[surface],)),
        "region": ((region,), (region,)),
        "tone": ((lx.OUTCOME[cheerful],), (lx.OUTCOME[cheerful],)),
    }
    lean = {q: _lean(subject, q) + 0.5 * _lean(place, q) for q in answers}
    care = 1.2 * _lean(place, "care") + 1.0 * _lean(subject, "care")
    return Item(tuple(words), answers, lean, care)


def word_list(rng: random.Random, need: str | None = None, simple: bool = False) -> Item:
    """Three or four words, one of them an adjective."""
    nouns = rng.sample(lx.NOUNS, rng.choice([2, 3]))
    adjective = rng.choice(tuple(lx.OPPOSITES))
    words = nouns[:]
    words.insert(rng.randrange(len(words) + 1), adjective)
    first, last, noun = words[0], words[-1], nouns[0]
    both: dict[str, Answer] = {
        "first": (first,),
        "last": (last,),
        "opposite": (lx.OPPOSITES[adjective],),
        "plural": (lx.PLURALS[noun],),
        "code": (lx.CODES[noun],),
        "ends": (first, last),
        "swapped": (last, first),
    }
    lean = {q: 1.2 * _lean(noun, q) + 1.2 * _lean(adjective, q) for q in both}
    return Item(tuple(words), {q: (a, a) for q, a in both.items()}, lean, 0.0)


FAMILIES: dict[str, Callable[[random.Random, str | None, bool], Item]] = {
    "review": review,
    "news": news,
    "words": word_list,
}
QUESTIONS: dict[str, tuple[str, ...]] = {
    "review": ("author", "critics", "price", "staff", "kind"),
    "news": ("topic", "desk", "outcome", "region", "tone"),
    "words": ("first", "last", "opposite", "plural", "code", "ends", "swapped"),
}
ANSWERS: dict[str, tuple[str, ...]] = {
    **dict.fromkeys(("author", "critics", "price", "staff"), lx.POLARITY),
    "kind": lx.KINDS,
    "topic": lx.TOPICS,
    "desk": lx.TOPICS,
    "outcome": lx.OUTCOME,
    "tone": lx.OUTCOME,
    "region": lx.REGIONS,
}


def labels_of(question: str) -> Sequence[str] | None:
    """The closed set of answers to a question, or None where the answer is any word."""
    return ANSWERS.get(question)
