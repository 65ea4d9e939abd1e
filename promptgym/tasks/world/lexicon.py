"""The words of the text world: what inputs are made of.

Every list is plain English so that inputs and prompts stay readable. What a word in an
*instruction* does to the answer is not here but in `promptgym.tasks.world.cues`.
"""

from __future__ import annotations


def words(text: str) -> tuple[str, ...]:
    """The words of a text."""
    return tuple(text.split())


POSITIVE = words(
    "great good superb lovely brilliant charming excellent fine wonderful delightful solid "
    "strong fresh crisp smart sharp warm pleasant impressive perfect splendid graceful bright "
    "lively thrilling"
)
NEGATIVE = words(
    "terrible bad awful dull poor weak boring ugly horrible messy stale clumsy bland dreadful "
    "nasty grim lazy flat broken tedious shabby hollow rude noisy painful"
)
LOVED = words("loved enjoyed adored liked admired treasured")
HATED = words("hated disliked regretted loathed despised resented")
LOVE = words("love enjoy adore like admire treasure")
HATE = words("hate dislike regret loathe despise resent")
PRAISED = words("praised applauded cheered celebrated")
PANNED = words("panned mocked attacked dismissed")
CRITICS = words("critics experts papers judges columnists")
INTENSIFIERS = words("very quite really so rather")
NEGATORS = words("not never hardly")
ASPECTS = {
    "price": words("price cost fee bill ticket"),
    "staff": words("staff crew team service waiter"),
}
PRODUCTS = {
    "film": words("film movie drama comedy thriller sequel"),
    "book": words("book novel story memoir diary saga"),
    "food": words("meal soup curry pizza salad dinner"),
    "phone": words("phone tablet laptop camera speaker gadget"),
    "hotel": words("hotel inn hostel resort lodge cabin"),
}
SOURCES = words(
    "blog forum post letter column email survey magazine podcast newsletter journal notebook "
    "poster leaflet channel website bulletin thread comment memo"
)
PLACES = {
    "north": words("norvik halden frosta skarby iceholm borea"),
    "south": words("solara pampos merida zanzo calder austra"),
    "east": words("kyomo tanzhu sarim orienta dawnport leva"),
    "west": words("sundale westmar orlan ketch duskford vesper"),
}
SUBJECTS = {
    "sports": words("striker goalkeeper coach sprinter champion club swimmer"),
    "business": words("bank retailer airline investor broker startup banker"),
    "science": words("scientist laboratory physicist astronomer chemist telescope biologist"),
    "world": words("minister president senator king ambassador army mayor"),
}
OBJECTS = {
    "sports": words("match cup final race medal title"),
    "business": words("merger shares profit contract loan market"),
    "science": words("planet virus atom vaccine fossil particle"),
    "world": words("treaty election border parliament vote summit"),
}
EVENTS = {
    "sports": ("wins", "loses"),
    "business": ("gains", "cuts"),
    "science": ("solves", "misses"),
    "world": ("secures", "breaks"),
}
CHEERFUL = words("cheerfully luckily gladly proudly hopefully joyfully")
GLOOMY = words("gloomily sadly grimly bitterly wearily darkly")
AVERTED = ("almost", "nearly", "barely")
NOUNS = words(
    "river lamp table horse garden stone apple window bread boat chair cloud knife mirror "
    "forest wagon basket candle ladder engine flower hammer island jacket kettle magnet needle "
    "orange pencil rabbit saddle turtle violin wallet zebra anchor bottle carpet dragon eagle"
)
PLURALS = {noun: noun + "s" for noun in NOUNS} | {"knife": "knives"}
OPPOSITES: dict[str, str] = {}
for _a, _b in (
    pair.split("/")
    for pair in [
        "hot/cold",
        "big/small",
        "fast/slow",
        "old/young",
        "dark/light",
        "rich/needy",
        "wet/dry",
        "high/low",
        "hard/soft",
        "full/empty",
        "thick/thin",
        "loud/quiet",
        "wide/narrow",
        "early/late",
        "near/far",
        "open/shut",
    ]
):
    OPPOSITES[_a], OPPOSITES[_b] = _b, _a
CODES = dict(
    zip(
        NOUNS,
        [
            "bamox",
            "fetuk",
            "gilaz",
            "kenoq",
            "lutax",
            "mibez",
            "nokaq",
            "padux",
            "rifok",
            "sutez",
            "tavoq",
            "vulax",
            "zemik",
            "benuq",
            "dofaz",
            "fulix",
            "gepak",
            "holuz",
            "kasiq",
            "limex",
            "morak",
            "nubiz",
            "pelox",
            "ragik",
            "sibuz",
            "tofeq",
            "vadix",
            "woluk",
            "zanuq",
            "bilex",
            "dukaz",
            "famoq",
            "gutix",
            "lorez",
            "mavik",
            "nepuq",
            "pokax",
            "rulez",
            "senik",
            "tidoq",
        ],
        strict=True,
    )
)
GRAMMAR_WORDS = words("i me to did it felt found called was but while and , : . ? in desk this the")
POLARITY = ("terrible", "great")
OUTCOME = ("bad", "good")
TOPICS = tuple(SUBJECTS)
REGIONS = tuple(PLACES)
KINDS = tuple(PRODUCTS)


def content_words() -> list[str]:
    """All words that may occur in inputs or answers, in a fixed order, without repeats."""
    groups: list[tuple[str, ...]] = [
        GRAMMAR_WORDS,
        POSITIVE,
        NEGATIVE,
        LOVED,
        HATED,
        LOVE,
        HATE,
        PRAISED,
        PANNED,
    ]
    groups += [
        CRITICS,
        INTENSIFIERS,
        NEGATORS,
        AVERTED,
        CHEERFUL,
        GLOOMY,
        SOURCES,
        NOUNS,
        tuple(PLURALS.values()),
        tuple(OPPOSITES),
    ]
    groups += [tuple(CODES.values()), POLARITY, OUTCOME, TOPICS, REGIONS, KINDS]
    for table in (ASPECTS, PRODUCTS, PLACES, SUBJECTS, OBJECTS, EVENTS):
        groups += list(table.values())
    return list(dict.fromkeys(word for group in groups for word in group))
