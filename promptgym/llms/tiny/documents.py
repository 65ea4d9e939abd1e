"""Training documents: an input, questions about it, and the oracle's answer distributions.

A document is a prefix `<bos> [demonstrations] <text> input` and blocks `<instruction> words
<answer> answer <eos>`. Every block attends to the prefix and to itself only and counts positions
on from the prefix, so each is exactly the text a user would write, while the input is read once.
At answers the target is the posterior's distribution rather than one sampled word, which says as
much as hundreds of samples.
"""

from __future__ import annotations

import random
from dataclasses import dataclass, field

import numpy as np

from promptgym.llms.tiny import grammar
from promptgym.llms.tiny.posterior import (
    DIALS,
    FINAL,
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
    """Token ids with, for each, its block, its position and what should be predicted there.

    `targets[i]` is the distribution to predict at place i (the next token for a causal model, the
    masked one for a masked model) and `weights[i]` its weight in the loss.
    """

    ids: list[int] = field(default_factory=list)
    blocks: list[int] = field(default_factory=list)
    positions: list[int] = field(default_factory=list)
    targets: list[Target] = field(default_factory=list)
    weights: list[float] = field(default_factory=list)

    def append(self, token: int, block: int, position: int) -> None:
        """Add a token with nothing to predict."""
        self.ids.append(token)
        self.blocks.append(block)
        self.positions.append(position)
        self.targets.append([])
        self.weights.append(0.0)

    def predict(self, place: int, target: Target, weight: float) -> None:
        """Set what is to be predicted at a place."""
        self.targets[place], self.weights[place] = target, weight


@dataclass(frozen=True, slots=True)
class Recipe:
    """What documents are made of.

    Attributes:
        masked: answers are masked tokens, for the masked model.
        questions: blocks a document.
        shown: share of documents with one to four demonstrations.
        clean: share of clean instructions (the curriculum).
        simple: share of inputs with one clause and few negations (the curriculum).
        sharp: exponent on the answer distributions of instructions (the curriculum).
        shift: added to the log-odds of careful reading (the curriculum).
        enough, louder: see `posterior.believe` (the curriculum).
        manners: share of instructions made to show what words of manner do.
        climbs: share of instructions such as hill climbers try.
        hard: share of these about one of the hard tier's questions, whatever the others are about.
        dial: key of `posterior.DIALS`, which answers follow.
        shares: of the families, in the order of `FAMILIES`.
    """

    masked: bool = False
    questions: int = 6
    shown: float = 0.2
    clean: float = 0.2
    simple: float = 0.0
    sharp: float = 1.0
    shift: float = 0.0
    enough: float | None = None
    louder: float | None = None
    manners: float = 0.0
    climbs: float = 0.0
    hard: float = 0.5
    dial: str = "early"
    shares: tuple[float, ...] = FAMILY_SHARES


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


def _write_prefix(doc: Document, item: Item, shown: list[tuple[Item, Answer]], learn: bool) -> int:
    """Demonstrations and the input; returns the next free position."""
    words: list[str] = [BOS]
    for example, answer in shown:
        words += [TEXT, *example.words, ANSWER, *answer, EOS]
    ids = encode_words([*words, TEXT, *item.words])
    for position, token in enumerate(ids):
        doc.append(token, 0, position)
        if learn and position:
            doc.predict(position - 1, [(token, 1.0)], TEXT_WEIGHT)
    return len(ids)


def _write_block(
    doc: Document, block: int, start: int, words: list[str], targets: list[Target], drawn: Answer
) -> None:
    """One question as the causal model sees it."""
    head = encode_words([INSTRUCTION, *words, ANSWER])
    ids = [*head, *encode_words(drawn)]
    first = len(doc.ids)
    for offset, token in enumerate(ids):
        doc.append(token, block, start + offset)
        if 0 < offset < len(head):
            doc.predict(first + offset - 1, [(token, 1.0)], INSTRUCTION_WEIGHT)
    for place, target in enumerate(targets):
        settled = place > 0 and len(target) == 1
        doc.predict(
            first + len(head) - 1 + place, target, SETTLED_WEIGHT if settled else ANSWER_WEIGHT
        )


def _write_masked_block(
    doc: Document, block: int, start: int, words: list[str], targets: list[Target]
) -> None:
    """One question as the masked model sees it: a mask for each word of the answer, then <eos>."""
    ids = token_ids()
    body = [
        *encode_words([INSTRUCTION, *words, ANSWER]),
        *[ids[MASK]] * (len(targets) - 1),
        ids[EOS],
    ]
    first = len(doc.ids)
    for offset, token in enumerate(body):
        doc.append(token, block, start + offset)
    for place, target in enumerate(targets[:-1]):
        doc.predict(first + len(body) - len(targets) + place, target, ANSWER_WEIGHT)


def _instruction(rng: random.Random, asked_of: list[str], family: str, recipe: Recipe) -> list[str]:
    """One instruction of a document, about one of some questions."""
    question = rng.choice(asked_of)
    if recipe.climbs and rng.random() < recipe.climbs:
        hard = [q for q in asked_of if FINAL.readings[q].folded]
        about_hard = bool(hard) and rng.random() < recipe.hard
        return grammar.climbed(rng, rng.choice(hard) if about_hard else question)
    if recipe.manners and rng.random() < recipe.manners:
        return grammar.with_manners(rng, question)
    return grammar.instruction(rng, question, family, recipe.clean)


def write_document(rng: random.Random, recipe: Recipe) -> Document:
    """One document."""
    family = rng.choices(list(FAMILIES), recipe.shares)[0]
    shown: list[tuple[Item, Answer]] = []
    evidence = None
    if rng.random() < recipe.shown:
        asked = rng.choice(QUESTIONS[family])
        shown, evidence = demonstrations(rng, family, asked)
        item = FAMILIES[family](rng, asked, False)
        asked_of = [asked, *item.answers]
    else:
        item = FAMILIES[family](rng, None, rng.random() < recipe.simple)
        asked_of = list(item.answers)
    doc = Document()
    start = _write_prefix(doc, item, shown, learn=not recipe.masked and rng.random() < 0.2)
    count = recipe.questions
    instructions = [_instruction(rng, asked_of, family, recipe) for _ in range(count)]
    if shown:
        instructions[0] = []
    beliefs = believe(
        family,
        strengths(instructions),
        [item],
        evidence,
        recipe.shift,
        recipe.enough,
        recipe.louder,
        DIALS[recipe.dial],
    )
    for block, words in enumerate(instructions, start=1):
        distribution = answer_distribution(beliefs, block - 1, 0, item)
        if recipe.sharp != 1.0:
            distribution = {answer: share**recipe.sharp for answer, share in distribution.items()}
        drawn = rng.choices(list(distribution), list(distribution.values()))[0]
        targets = answer_targets(distribution, drawn)
        if recipe.masked:
            _write_masked_block(doc, block, start, words, targets)
        else:
            _write_block(doc, block, start, words, targets, drawn)
    return doc


def write_instruction(rng: random.Random) -> Document:
    """`<bos> [demonstrations] <instruction> words <eos>`: teaches to write instructions."""
    family = rng.choices(list(FAMILIES), FAMILY_SHARES)[0]
    question = rng.choice(QUESTIONS[family])
    shown = demonstrations(rng, family, question)[0][:3] if rng.random() < 0.5 else []
    words: list[str] = [BOS]
    for example, answer in shown:
        words += [TEXT, *example.words, ANSWER, *answer, EOS]
    head = encode_words(words)
    body = encode_words([INSTRUCTION, *grammar.instruction(rng, question, family, 0.3), EOS])
    doc = Document()
    for position, token in enumerate([*head, *body]):
        doc.append(token, 0, position)
        if position > len(head):
            doc.predict(position - 1, [(token, 1.0)], INSTRUCTION_WEIGHT)
    return doc
