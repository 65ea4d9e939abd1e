"""What a word in an instruction suggests: which question is meant, and how carefully to read.

Each word has graded strengths. Strengths of an instruction's words add up
(`promptgym.llms.tiny.posterior`), a word of `FLIPS` turns round the word after it, and every word
of the vocabulary has small strengths of its own, so that no edit is exactly neutral.
"""

from __future__ import annotations

import hashlib

from promptgym.tasks.world.lexicon import content_words, words


def _table(text: str) -> dict[str, float]:
    """Parse `word=strength` pairs."""
    return {word: float(value) for word, value in (item.split("=") for item in text.split())}


def _graded(
    strong: str, medium: str, weak: str, levels: tuple[float, float, float]
) -> dict[str, float]:
    """Words in three grades of strength."""
    grades = zip((strong, medium, weak), levels, strict=True)
    return {word: level for words, level in grades for word in words.split()}


QUESTION_CUES: dict[str, dict[str, float]] = {
    "author": _table(
        "author=3 writer=2.5 reviewer=2.5 own=1.2 personal=2 feel=1.5 feels=1.5 opinion=1 "
        "view=.8 person=.6 himself=1 sentiment=1.2 review=.8 overall=1 user=1.4 mood=.7 "
        "emotion=.9 narrator=1.8 blogger=1.6"
    ),
    "critics": _table(
        "critics=3 experts=2.2 press=2.6 papers=1.8 judges=2 opinion=.8 view=.6 public=1.5 "
        "others=2 columnists=2 reception=2.2 people=.6 sentiment=.5 reputation=1.8 media=1.8 "
        "consensus=1.4"
    ),
    "price": _table(
        "price=3 cost=2.8 money=2.2 fee=2 bill=1.8 value=1.8 expensive=1.6 cheap=1.5 pay=1.6 "
        "ticket=1.2 worth=1.4 buy=1.1 budget=1.6 dollars=1.4 afford=1.4 view=.4"
    ),
    "staff": _table(
        "staff=3 crew=2.4 team=2.2 service=2.6 waiter=1.6 people=1.1 workers=2.2 help=1 "
        "employees=2.2 friendly=1.2 manager=1.4 hosts=1.4 servants=1.4 polite=1.2 view=.4"
    ),
    "kind": _table(
        "domain=2.8 kind=1.6 product=2.4 item=2.2 object=1.6 category=2 type=1.2 about=1 "
        "subject=1 film=1 book=1 phone=1 hotel=1 food=1 genre=1.6 thing=1.2"
    ),
    "topic": _table(
        "topic=2.6 subject=2 content=2.4 about=1.4 theme=2.2 category=1.4 field=1.6 "
        "headline=1.4 event=1.2 area=1.4 news=.8 sports=.6 business=.6 science=.6 world=.6 "
        "matter=1.2 domain=1.2"
    ),
    "desk": _table(
        "desk=3 section=2.6 source=2.4 tag=2 label=1.6 filed=2.2 department=2.2 column=1.4 "
        "news=.4 topic=.4 editor=1.6 office=1.4"
    ),
    "outcome": _table(
        "outcome=2.8 result=2.6 good=.8 bad=.8 success=2 positive=.8 negative=.8 ended=1.8 "
        "ending=1.8 fortune=1.4 failure=1.8 consequence=1.8 effect=1.6 achieved=1.4 "
        "happened=1.4 finish=1 end=.8"
    ),
    "tone": _table(
        "tone=2.8 mood=2.2 feeling=2 sentiment=1.6 attitude=2 manner=1.4 spirit=1.6 "
        "cheerful=1.8 gloomy=1.8 good=.8 bad=.8 positive=1 negative=1 emotion=1.4 sad=1.4 "
        "happy=1.4 color=1"
    ),
    "region": _table(
        "region=3 place=2.2 where=2 map=2 location=2.6 compass=2.2 north=1.4 south=1.4 east=1.4 "
        "west=1.4 town=1.4 direction=1.6"
    ),
    "first": _table(
        "first=2.8 initial=2.2 start=1.8 begin=1.8 opening=1.4 beginning=1.8 leading=2 head=1.2"
    ),
    "last": _table(
        "last=2.8 final=2.2 end=2 closing=1.4 trailing=2 latter=1.2 tail=1.4 finish=1.4"
    ),
    "opposite": _table(
        "opposite=2.6 antonym=2.8 contrary=2.2 reverse=.8 inverse=1.4 adjective=1.4 "
        "contrast=1.6 against=1 contradict=1.4 flip=.8 unlike=1.4"
    ),
    "plural": _table(
        "plural=3 several=1.8 many=1.2 more=1.2 two=1 noun=1.2 plurals=2.4 multiple=2 number=1 "
        "plenty=1.2"
    ),
    "code": _table(
        "code=2.8 translate=2.4 translation=2.4 cipher=2.4 language=1.8 secret=1.8 encode=2.4 "
        "foreign=1.6 spy=1.4 noun=.8 cryptic=1.6"
    ),
    "ends": _table(
        "ends=2.8 outer=2.2 edges=2.2 extremes=2 borders=1.8 pair=1.4 corners=1.6 limits=1.4 "
        "outermost=2.4 endpoints=2.4 flank=1.4 sides=1.4 first=.5 last=.5"
    ),
    "swapped": _table(
        "swapped=2.8 backwards=2.6 reverse=2.2 reversed=2.4 exchanged=2 back=1.4 inverted=1.8 "
        "turned=1.2 backward=2.4 flip=1.4 switch=1.8 pair=.8"
    ),
}
CARE = _graded(
    "carefully closely precisely",
    "thoroughly attentively rigorously careful thorough exact exactly accurate accurately strictly "
    "diligently",
    "precise strict patiently properly expert truly think correct attention logic deep deeply "
    "faithful reliable verify check examine inspect weigh consider reason analyze study honest "
    "focus sober mindful prudent rigorous studious critically judicious factual seriously",
    (1.1, 0.65, 0.35),
)
SCOPE = _graded(
    "clause context sentence",
    "negation wording grammar whole every each entire complete fully phrase syntax",
    "meaning between lines literal all line part detail details both around beyond behind "
    "within through across scope span paragraph relation connect structure nuance passage "
    "entirely altogether order position sequence segment surrounding neighbours",
    (1.1, 0.65, 0.35),
)
HASTE = _graded(
    "quickly guess glance skim",
    "instantly surface quick roughly keyword keywords rough casual hurry brief",
    "snap lol whatever shallow easy simply just brisk rapid rapidly swift swiftly soon speedy "
    "lightly loosely hastily hasty blink gist rush impulse instinct hunch gut vague vaguely "
    "instant",
    (1.3, 0.65, 0.3),
)
FLIPS = frozenset(["not", "ignore", "forget", "without", "never", "avoid"])
FILLERS = words(
    "the a of is it this that to and in for with answer text word words you we by on at from "
    "as be will can one do or if , . : ? now here then also must should would what which who "
    "how whether their its there"
)
OTHER_WORDS = words(
    "only output paper ask need work out could determine came list into job want know name "
    "give your report write say state classify decide tell find read respond reply return "
    "choose pick option task prompt instruction input sense human robot model dear hello "
    "thanks kindly sir magic banana purple seven monday winter summer tea coffee green yellow "
    "blue red please step real brown silver tuesday friday autumn spring milk sugar butter "
    "pepper lemon cherry doctor farmer sailor painter teacher singer dancer brother sister "
    "uncle cousin kitchen cellar attic balcony hallway mountain valley desert ocean lake "
    "meadow thunder rain snow wind fog bicycle train tractor rocket zero three four five eight "
    "nine ten twenty hundred again maybe perhaps often today tomorrow yesterday morning "
    "evening midnight velvet cotton copper marble plastic rubber jump sing sleep walk swim "
    "climb carry throw push pull gentle curious sleepy clever silent tiny huge round square "
    "purely using based given express expressed said says thought judge rate was whom were "
    "they are"
)


def instruction_words() -> list[str]:
    """All words with a role in instructions, and the ordinary ones around them, without repeats."""
    groups = [*QUESTION_CUES.values(), CARE, SCOPE, HASTE, sorted(FLIPS), FILLERS, OTHER_WORDS]
    return list(dict.fromkeys(word for group in groups for word in group))


def vocabulary() -> tuple[str, ...]:
    """Every word of the world, sorted: the tokenizer's words and the searchers' action space."""
    return tuple(sorted({*content_words(), *instruction_words()}))


def fraction(text: str) -> float:
    """A fixed pseudo-random number in [-1, 1] for a text, the same on every machine."""
    digest = hashlib.md5(text.encode(), usedforsecurity=False).hexdigest()
    return int(digest[:8], 16) / 0xFFFFFFFF * 2.0 - 1.0
