"""Training documents: an input, questions about it, and the oracle's answer distributions.

A document is a tree: every token sees its ancestors only and its position is its depth, so that
each path from the root is exactly the text a user would write, while what paths share is read once.
The trunk is `<bos> [demonstrations] <text> input`; from it grow instructions, `<instruction> words
<answer> answer <eos>`. At many words of an instruction `<answer>` branches off, and other words
followed by `<answer>`: what each single word does to the answer is seen beside the same words
without it. At answers the target is the posterior's distribution rather than one sampled word,
which says as much as hundreds of samples.

The masked model reads both ways, so its documents are one path, with one question.
"""

from __future__ import annotations

import random
from dataclasses import dataclass, field

import numpy as np

from promptgym.llms.tiny import grammar
from promptgym.llms.tiny.posterior import (
    READINGS,
    answer_distribution,
    believe,
    evidence_of,
    strengths,
)
from promptgym.llms.tiny.tokenizer import (
    ANSWER,
    BOS,
    EOS,
    INSTRUCTION,
    MASK,
    TEXT,
    encode_words,
    token_ids,
)
from promptgym.tasks.world.inputs import FAMILIES, QUESTIONS, Answer, Item

CHOICES = 8  # most tokens with probability at one position
ANSWER_WEIGHT, INSTRUCTION_WEIGHT, TEXT_WEIGHT = 1.0, 0.12, 0.05
SETTLED_WEIGHT = 0.1  # of a later answer token that can only be one, such as <eos> after a label
FAMILY_SHARES = (0.52, 0.28, 0.20)  # in the order of `FAMILIES`

Target = list[tuple[int, float]]


@dataclass(slots=True)
class Document:
    """A tree of tokens.

    `parents[i]` is the place of the token before token i, -1 for the first; `positions[i]` is its
    depth. `targets[i]` is the distribution to predict at place i (the next token for a causal
    model, the masked one for a masked model) and `weights[i]` its weight in the loss.
    """

    ids: list[int] = field(default_factory=list)
    parents: list[int] = field(default_factory=list)
    positions: list[int] = field(default_factory=list)
    targets: list[Target] = field(default_factory=list)
    weights: list[float] = field(default_factory=list)

    def grow(self, parent: int, tokens: list[int]) -> int:
        """Add a path of tokens below a place; returns the place of the last."""
        for token in tokens:
            self.ids.append(token)
            self.parents.append(parent)
            self.positions.append(self.positions[parent] + 1 if parent >= 0 else 0)
            self.targets.append([])
            self.weights.append(0.0)
            parent = len(self.ids) - 1
        return parent

    def predict(self, place: int, target: Target, weight: float) -> None:
        """Set what is to be predicted at a place."""
        self.targets[place], self.weights[place] = target, weight

    def predict_path(self, start: int, end: int, weight: float) -> None:
        """Let every token of the path below `start` down to `end` be predicted at its parent."""
        while end != start:
            self.predict(self.parents[end], [(self.ids[end], 1.0)], weight)
            end = self.parents[end]


@dataclass(frozen=True, slots=True)
class Recipe:
    """What documents are made of.

    Attributes:
        masked: one path with a masked answer, for the masked model.
        questions: instructions a document.
        probes: share of an instruction's words after which the answer is asked for.
        branches: other words tried in each instruction.
        shown: share of documents with one to four demonstrations.
        clean: share of clean instructions (the curriculum).
        sharp: exponent on the answer distributions of instructions (the curriculum).
        ease: see `posterior.believe` (the curriculum).
        enough: see `posterior.believe` (the curriculum).
        manners: share of instructions made to show what words of manner do.
        climbs: share of instructions such as searches try.
        arrived: share of these that are such as searches end with.
        hard: share of these about one of the hard tier's questions, whatever the others are about.
        twins: share of documents about a review of price and staff, which are told apart last, with
            instructions that ask for either.
        shares: of the families, in the order of `FAMILIES`.
    """

    masked: bool = False
    questions: int = 4
    probes: float = 0.6
    branches: int = 4
    shown: float = 0.2
    clean: float = 0.2
    sharp: float = 1.0
    ease: float = 0.0
    enough: float | None = None
    manners: float = 0.0
    climbs: float = 0.0
    arrived: float = 0.4
    hard: float = 0.3
    twins: float = 0.0
    shares: tuple[float, ...] = FAMILY_SHARES


def _sharpened(distribution: dict[Answer, float], exponent: float) -> dict[Answer, float]:
    """The distribution to a power; `answer_targets` normalizes it."""
    if exponent == 1.0:
        return distribution
    return {answer: share**exponent for answer, share in distribution.items()}


def answer_targets(distribution: dict[Answer, float], drawn: Answer) -> list[Target]:
    """Distribution of each token of an answer given the drawn ones before it, and of <eos>."""
    ids = token_ids()
    out: list[Target] = []
    for place in range(len(drawn) + 1):
        mass: dict[int, float] = {}
        for answer, share in distribution.items():
            if answer[:place] == drawn[:place]:
                token = ids[answer[place]] if len(answer) > place else ids[EOS]
                mass[token] = mass.get(token, 0.0) + share
        best = sorted(mass.items(), key=lambda pair: -pair[1])[:CHOICES]
        total = sum(share for _, share in best)
        out.append([(token, share / total) for token, share in best])
    return out


def demonstrations(
    rng: random.Random, family: str, question: str
) -> tuple[list[tuple[Item, Answer]], np.ndarray]:
    """One to four demonstrations of one question, read in one manner, and their evidence."""
    manner = 0 if rng.random() < 0.6 else 1
    shown: list[tuple[Item, Answer]] = []
    for _ in range(rng.randint(1, 4)):
        item = FAMILIES[family](rng, question, False)
        answer = item.answers[question][manner]
        if rng.random() < 0.06:
            answer = rng.choice(list(item.answers.values()))[0]
        shown.append((item, answer))
    return shown, np.sum([evidence_of(family, item, answer) for item, answer in shown], axis=0)


def _trunk(item: Item, shown: list[tuple[Item, Answer]], learn: bool) -> tuple[Document, int]:
    """A document of demonstrations and the input; returns it and the place of its last token."""
    words: list[str] = [BOS]
    for example, answer in shown:
        words += [TEXT, *example.words, ANSWER, *answer, EOS]
    doc = Document()
    end = doc.grow(-1, encode_words([*words, TEXT, *item.words]))
    if learn:
        doc.predict_path(0, end, TEXT_WEIGHT)
    return doc, end


def other_word(rng: random.Random, family: str) -> str:
    """A word to try in place of an instruction's next one: one with a role, or any."""
    kind = rng.random()
    if kind < 0.35:
        return grammar.manner_word(rng, rng.randrange(3))
    if kind < 0.45:
        return rng.choice(grammar.CUES[rng.choice(QUESTIONS[family])])
    return rng.choice(grammar.WORDS)


@dataclass(frozen=True, slots=True)
class Probe:
    """A place where the answer is asked for: the words read by then, and the last of them."""

    words: list[str]
    at: int


def _grow_instruction(
    doc: Document, rng: random.Random, root: int, words: list[str], family: str, recipe: Recipe
) -> list[Probe]:
    """One instruction with its side branches; the whole instruction's probe comes first."""
    ids = token_ids()
    start = at = doc.grow(root, [ids[INSTRUCTION]])
    tried = [rng.randrange(len(words) + 1) for _ in range(recipe.branches)]
    probes: list[Probe] = []
    for count in range(len(words) + 1):
        if count:
            at = doc.grow(at, encode_words([words[count - 1]]))
        if count < len(words) and rng.random() < recipe.probes:
            probes.append(Probe(words[:count], at))
        for _ in range(tried.count(count)):
            other = other_word(rng, family)
            probes.append(Probe([*words[:count], other], doc.grow(at, encode_words([other]))))
    doc.predict_path(start, at, INSTRUCTION_WEIGHT)
    return [Probe(words, at), *probes]


def _ask(
    doc: Document, probe: Probe, rng: random.Random, distribution: dict[Answer, float], whole: bool
) -> None:
    """`<answer>` below a probe; below a whole instruction a drawn answer and <eos> too."""
    drawn = rng.choices(list(distribution), list(distribution.values()))[0]
    targets = answer_targets(distribution, drawn)
    place = doc.grow(probe.at, encode_words([ANSWER]))
    doc.predict(place, targets[0], ANSWER_WEIGHT)
    if whole:
        for word, target in zip(drawn, targets[1:], strict=True):
            place = doc.grow(place, encode_words([word]))
            doc.predict(place, target, SETTLED_WEIGHT if len(target) == 1 else ANSWER_WEIGHT)


def _ask_masked(
    doc: Document, end: int, words: list[str], distribution: dict[Answer, float], drawn: Answer
) -> None:
    """One question as the masked model sees it: a mask for each word of the answer, then <eos>."""
    ids = token_ids()
    targets = answer_targets(distribution, drawn)[:-1]
    place = doc.grow(end, encode_words([INSTRUCTION, *words, ANSWER]))
    for target in targets:
        place = doc.grow(place, [ids[MASK]])
        doc.predict(place, target, ANSWER_WEIGHT)
    doc.grow(place, [ids[EOS]])


def _twins(rng: random.Random) -> Item:
    """A review that says one thing of the price and another of the staff."""
    while True:
        item = FAMILIES["review"](rng, "price", False)
        if "staff" in item.answers and item.answers["staff"] != item.answers["price"]:
            return item


def _instruction(rng: random.Random, asked_of: list[str], family: str, recipe: Recipe) -> list[str]:
    """One instruction of a document, about one of some questions."""
    question = rng.choice(asked_of)
    if recipe.climbs and rng.random() < recipe.climbs:
        hard = [q for q in asked_of if READINGS[q].pair]
        if hard and rng.random() < recipe.hard:
            question = rng.choice(hard)
        if rng.random() < recipe.arrived:
            return grammar.arrived(rng, question, bool(READINGS[question].pair))
        return grammar.climbed(rng, question)
    if recipe.manners and rng.random() < recipe.manners:
        return grammar.with_manners(rng, question)
    return grammar.instruction(rng, question, family, recipe.clean)


def write_document(rng: random.Random, recipe: Recipe) -> Document:
    """One document."""
    if recipe.twins and rng.random() < recipe.twins:
        item = _twins(rng)
        doc, end = _trunk(item, [], learn=False)
        asked = [rng.choice(("price", "staff")) for _ in range(recipe.questions)]
        instructions = [grammar.arrived(rng, question, True) for question in asked]
        return _answered(doc, end, rng, recipe, "review", item, instructions, None)
    family = rng.choices(list(FAMILIES), recipe.shares)[0]
    shown: list[tuple[Item, Answer]] = []
    evidence = None
    if rng.random() < recipe.shown:
        about = rng.choice(QUESTIONS[family])
        shown, evidence = demonstrations(rng, family, about)
        item = FAMILIES[family](rng, about, False)
        asked_of = [about, *item.answers]
    else:
        item = FAMILIES[family](rng, None, False)
        asked_of = list(item.answers)
    doc, end = _trunk(item, shown, learn=not recipe.masked and rng.random() < 0.2)
    instructions = [_instruction(rng, asked_of, family, recipe) for _ in range(recipe.questions)]
    if shown:
        instructions[0] = []
    return _answered(doc, end, rng, recipe, family, item, instructions, evidence)


def _answered(
    doc: Document,
    end: int,
    rng: random.Random,
    recipe: Recipe,
    family: str,
    item: Item,
    instructions: list[list[str]],
    evidence: np.ndarray | None,
) -> Document:
    """The document with instructions about its input and the oracle's answers to them."""
    if recipe.masked:
        probes = [Probe(instructions[0], end)]
    else:
        grown = [_grow_instruction(doc, rng, end, w, family, recipe) for w in instructions]
        whole = {branch[0].at for branch in grown}
        probes = [probe for branch in grown for probe in branch]
    features = strengths([probe.words for probe in probes])
    beliefs = believe(family, features, [item], evidence, recipe.ease, recipe.enough)
    for number, probe in enumerate(probes):
        distribution = _sharpened(answer_distribution(beliefs, number, 0, item), recipe.sharp)
        if recipe.masked:
            drawn = rng.choices(list(distribution), list(distribution.values()))[0]
            _ask_masked(doc, end, probe.words, distribution, drawn)
        else:
            _ask(doc, probe, rng, distribution, probe.at in whole)
    return doc


def write_reading(rng: random.Random, simple: float, manners: bool) -> Document:
    """Short questions about everything an input says, answered as a careful reader would.

    Reading past a negation is learned from this in minutes, and hardly from the world as it is,
    where most prompts leave it out. What words of manner do is learned the same way.

    Args:
        rng: of the document.
        simple: share of inputs with one clause and few negations.
        manners: with one to three words of a manner: after hasty words the answer is the hasty
            reader's, after others the careful one's, and without any it may be either.
    """
    family = rng.choices(list(FAMILIES), FAMILY_SHARES)[0]
    item = FAMILIES[family](rng, None, rng.random() < simple)
    doc, end = _trunk(item, [], learn=rng.random() < 0.2)
    for question, (careful, hasty) in item.answers.items():
        strong = list(grammar.CUES[question][:3])
        words = [rng.choice(strong)] if rng.random() < 0.6 else grammar.sentence(rng, question)
        distribution = {careful: 1.0}
        if manners:
            group = rng.choice((0, 0, 1, 2, 2, 2, None))
            if group is not None:
                extra = [grammar.manner_word(rng, group) for _ in range(rng.randint(1, 3))]
                words = [*extra, *words] if rng.random() < 0.5 else [*words, *extra]
            if group == 2:
                distribution = {hasty: 1.0}
            elif group is None and careful != hasty:
                distribution = {careful: 0.5, hasty: 0.5}
        last = doc.grow(end, encode_words([INSTRUCTION, *words]))
        _ask(doc, Probe(words, last), rng, distribution, True)
    return doc


def write_instruction(rng: random.Random) -> Document:
    """`<bos> [demonstrations] <instruction> words <eos>`: teaches to write instructions."""
    family = rng.choices(list(FAMILIES), FAMILY_SHARES)[0]
    question = rng.choice(QUESTIONS[family])
    shown = demonstrations(rng, family, question)[0][:3] if rng.random() < 0.5 else []
    words: list[str] = [BOS]
    for example, answer in shown:
        words += [TEXT, *example.words, ANSWER, *answer, EOS]
    doc = Document()
    start = doc.grow(-1, encode_words(words))
    start = doc.grow(start, encode_words([INSTRUCTION]))
    body = encode_words([*grammar.instruction(rng, question, family, 0.3), EOS])
    doc.predict_path(start, doc.grow(start, body), INSTRUCTION_WEIGHT)
    return doc
