"""How instructions are written: from plain sentences to bags of words.

The embedded models must read what searchers try, not only what people write, so training
instructions cover sentences, damaged sentences, bags of cues in all combinations and words drawn
at random.
"""

from __future__ import annotations

import random

from promptgym.tasks.world import cues
from promptgym.tasks.world.inputs import QUESTIONS


def _split(text: str) -> tuple[str, ...]:
    """The parts of a text between bars."""
    return tuple(text.split("|"))


FRAMES = _split(
    "tell me {}|what is {} ?|decide {}|classify {}|please give {}|state {} .|{} ?|find {} in "
    "this text|say {}|report {} now|{} :|your job is to give {}|i want to know {}|read the "
    "text and name {}|output {} only|write {}|could you work out {} ?|determine {} from the "
    "passage|we need {} here|i ask you for {}"
)
PHRASES: dict[str, tuple[str, ...]] = {
    question: _split(text)
    for question, text in {
        "author": (
            "the opinion of the author|how the writer feels|the sentiment of the reviewer|the "
            "personal view|the author sentiment|how the user feels|the overall mood of the "
            "writer|the emotion of the narrator"
        ),
        "critics": (
            "the opinion of the critics|what the press said|the view of the experts|the "
            "reception by others|how the papers judge it|the public reputation|the critics "
            "sentiment|the media consensus"
        ),
        "price": (
            "the view of the price|how the cost was|what it said of money|the value for the "
            "money|the price sentiment|how the bill was|if you can afford it|what is said of the "
            "fee"
        ),
        "staff": (
            "the view of the staff|how the service was|what it said of the crew|how the team "
            "was|the staff sentiment|how polite the workers were|what is said of the "
            "employees|the service of the hosts"
        ),
        "kind": (
            "the kind of product|the item domain|what the review is about|the product "
            "category|the type of item|the genre"
        ),
        "topic": (
            "the topic of the news|what the news is about|the subject of the headline|the theme "
            "of the event|the content category|the field of the text|the area it is about"
        ),
        "desk": (
            "the desk it came from|the section of the paper|the source tag|which department "
            "filed it|the desk label|the office of the editor"
        ),
        "outcome": (
            "the outcome of the news|how the result was|whether it ended with success|the result "
            "of the event|success or failure|the ending of the text|the fortune of it"
        ),
        "tone": (
            "the tone of the news|the mood of the text|the feeling of it|the attitude of the "
            "desk|if it is cheerful or gloomy|the spirit of the text"
        ),
        "region": (
            "the region of the place|where on the map it is|the location|the compass direction "
            "of the town"
        ),
        "first": (
            "the first word|the initial word|the word at the start|the leading word|the opening "
            "word"
        ),
        "last": (
            "the last word|the final word|the word at the end|the closing word|the trailing word"
        ),
        "opposite": (
            "the opposite of the adjective|the antonym|the contrary word|the opposite word|the "
            "contrast of the adjective|the inverse adjective"
        ),
        "plural": (
            "the plural of the noun|the plural|the word for several|the noun in plural|the "
            "multiple word"
        ),
        "code": (
            "the code of the noun|the translation into code|the secret language word|the noun in "
            "code|the cipher word|the code translation"
        ),
        "ends": (
            "the outer words|the words at both ends|the ends of the list|the edges of the "
            "text|the outermost pair|the extremes of the list"
        ),
        "swapped": (
            "the ends swapped|the outer words in reverse order|the pair backwards|the edges "
            "exchanged|the ends reversed"
        ),
    }.items()
}
CUES = {question: tuple(table) for question, table in cues.QUESTION_CUES.items()}
_ASKED = {  # what a user would ask first, where searches start
    **{q: f"what is the opinion of the {q} ?".split() for q in ("author", "critics")},
    **{q: f"what is the view of the {q} ?".split() for q in ("price", "staff")},
    **{q: f"what is the {q} of the news ?".split() for q in ("topic", "outcome")},
    "opposite": ["write", "the", "contrast", "word"],
    "code": ["write", "the", "noun", "in", "secret"],
    "ends": ["write", "the", "first", "and", "last", "word"],
}
MANNERS = (cues.CARE, cues.SCOPE, cues.HASTE)
_GRADES = tuple(
    tuple(
        tuple(word for word, strength in table.items() if strength == grade)
        for grade in sorted(set(table.values()))
    )
    for table in MANNERS
)
_FLIPS = tuple(sorted(cues.FLIPS))
WORDS = cues.vocabulary()
_LENGTHS = (1, 2, 3, 4, 5, 5, 5, 6, 7, 8, 8, 10, 12, 14)


def sentence(rng: random.Random, question: str) -> list[str]:
    """A plain sentence that asks a question."""
    return rng.choice(FRAMES).format(rng.choice(PHRASES[question])).split()


def manner_word(rng: random.Random, group: int) -> str:
    """A word of a group of `MANNERS`; weak, medium and strong ones alike often."""
    return rng.choice(rng.choice(_GRADES[group]))


def manner_words(rng: random.Random, most: int) -> list[str]:
    """Words that say how to read, each group absent half of the time."""
    out: list[str] = []
    for group in range(len(MANNERS)):
        if rng.random() < 0.5:
            out += [manner_word(rng, group) for _ in range(rng.randint(1, most))]
    rng.shuffle(out)
    return out


def clean(rng: random.Random, question: str) -> list[str]:
    """A sentence with words of one manner only: the beginning of the curriculum."""
    words = sentence(rng, question)
    groups = rng.choice(((0, 1), (0, 1), (2,)))
    extra = [manner_word(rng, g) for g in groups for _ in range(rng.randint(1, 3))]
    rng.shuffle(extra)
    return [*extra, *words] if rng.random() < 0.5 else [*words, *extra]


def damaged(rng: random.Random, words: list[str]) -> list[str]:
    """The words after one to four random edits."""
    words = list(words)
    for _ in range(rng.randint(1, 4)):
        at, kind = rng.randrange(len(words) + 1), rng.random()
        if kind < 0.4:
            words.insert(at, rng.choice(WORDS))
        elif words and kind < 0.75:
            words[at - 1] = rng.choice(WORDS)
        elif len(words) > 1:
            del words[at - 1]
    return words


def bag(rng: random.Random, question: str, family: str) -> list[str]:
    """A bag of words with its own mixture of roles."""
    shares = [rng.random() ** 2 for _ in range(8)]
    shares[rng.randrange(8)] += 0.7
    out = []
    for role in rng.choices(range(8), shares, k=rng.choice(_LENGTHS)):
        if role < 2:
            asked = question if role == 0 or rng.random() < 0.6 else rng.choice(QUESTIONS[family])
            out.append(rng.choice(CUES[asked]))
        elif role < 5:
            out.append(manner_word(rng, role - 2))
        elif role == 5:
            out.append(rng.choice(_FLIPS if rng.random() < 0.2 else cues.FILLERS))
        else:
            out.append(rng.choice(WORDS))
    return out


def with_manners(rng: random.Random, question: str) -> list[str]:
    """A question, up to eight words of one manner or two, and up to three other words."""
    kind = rng.random()
    if kind < 0.4:
        words = sentence(rng, question)
    elif kind < 0.9:
        words = [rng.choice(CUES[question]) for _ in range(rng.randint(1, 2))]
    else:
        words = []
    groups = rng.choice(((0,), (0,), (1,), (0, 1), (0, 1), (0, 1), (0, 2), (0, 1, 2)))
    start = rng.randrange(len(groups))
    count = rng.randint(0, 8)
    extra = [manner_word(rng, groups[(start + i) % len(groups)]) for i in range(count)]
    extra += [rng.choice(WORDS) for _ in range(rng.choice((0, 0, 1, 2, 3)))]
    rng.shuffle(extra)
    return [*extra, *words] if rng.random() < 0.5 else [*words, *extra]


def arrived(rng: random.Random, question: str, pairs: bool) -> list[str]:
    """What searches end with: the question's words, many words of manner, often the same ones.

    With `pairs`, careful words and words of scope, else mostly careful words alone.
    """
    words = [rng.choice(CUES[question]) for _ in range(rng.randint(1, 3))]
    groups = rng.choice(((0,), (0, 1), (0, 1), (0, 1, 1)) if pairs else ((0,), (0,), (0, 1)))
    few = [manner_word(rng, rng.choice(groups)) for _ in range(rng.randint(1, 5))]
    count = rng.randint(3, 8)
    if rng.random() < 0.5:
        words += [rng.choice(few) for _ in range(count)]
    else:
        words += [manner_word(rng, groups[i % len(groups)]) for i in range(count)]
    words += [rng.choice(WORDS) for _ in range(rng.choice((0, 0, 0, 1, 2, 4)))]
    rng.shuffle(words)
    return words


def climbed(rng: random.Random, question: str) -> list[str]:
    """What hill climbers try: a manual prompt or less, words of one manner or two, random edits."""
    kind = rng.random()
    if kind < 0.5:
        words = list(_ASKED.get(question) or sentence(rng, question))
    elif kind < 0.9:
        words = [rng.choice(CUES[question]) for _ in range(rng.randint(1, 3))]
    else:
        words = []
    kinds = ((0,), (0,), (1,), (1,), (0, 1), (0, 1), (0, 1), (2,), (0, 2), (), (), (), ())
    groups = rng.choice(kinds)
    for group in groups:
        for _ in range(rng.randint(1, 4)):
            at = rng.randrange(len(words) + 1)
            added = manner_word(rng, group)
            words[at:at] = [rng.choice(_FLIPS), added] if rng.random() < 0.06 else [added]
    for _ in range(rng.choice((0, 0, 1, 1, 2, 3, 5))):
        at, kind = rng.randrange(len(words) + 1), rng.random()
        if not words or kind < 0.45:
            words.insert(at, rng.choice(WORDS))
        elif kind < 0.8:
            words[at - 1] = rng.choice(WORDS)
        else:
            del words[at - 1]
    return words[:14]


def misspelled(rng: random.Random, word: str) -> str:
    """A word with one letter dropped, doubled or changed."""
    if len(word) < 4:
        return word
    at = rng.randrange(1, len(word) - 1)
    return word[:at] + rng.choice(("", word[at] * 2, rng.choice("aeiorstn"))) + word[at + 1 :]


def instruction(rng: random.Random, question: str, family: str, clean_share: float) -> list[str]:
    """One instruction meant for `question`; what it says is for the posterior to decide."""
    if rng.random() < clean_share:
        return clean(rng, question)
    kind = rng.random()
    if kind < 0.05:
        return []
    if kind < 0.40:
        words = sentence(rng, question)
        extra = manner_words(rng, 3)
        words = [*extra, *words] if rng.random() < 0.5 else [*words, *extra]
        words = damaged(rng, words) if rng.random() < 0.6 else words
        words = words[:16]
    elif kind < 0.92:
        words = bag(rng, question, family)
    else:
        words = [rng.choice(WORDS) for _ in range(rng.choice(_LENGTHS))]
    return [misspelled(rng, word) if rng.random() < 0.01 else word for word in words]
