"""Documents that teach the rewriter.

`<rewrite> instruction <instruction> another one for the same question <eos>`.

Words that say how to read are rare in what it is taught to write, and mixed of all kinds: sampled
from untrained, it seldom hits a good prompt; reinforcement learning has something to raise.
"""

from __future__ import annotations

import random

from promptgym.llms.tiny import grammar
from promptgym.llms.tiny.documents import FAMILY_SHARES, Document, demonstrations
from promptgym.llms.tiny.tokenizer import ANSWER, BOS, EOS, INSTRUCTION, REWRITE, TEXT, encode_words
from promptgym.tasks.world import cues
from promptgym.tasks.world.inputs import FAMILIES, QUESTIONS

_GROUPS = (tuple(cues.CARE), tuple(cues.SCOPE), tuple(cues.HASTE))
_SHORT = 8  # words of a bag


def plain(rng: random.Random, question: str) -> list[str]:
    """An instruction as the rewriter is taught to write: a sentence or a short bag of words."""
    if rng.random() < 0.6:
        words = grammar.sentence(rng, question)
    else:
        words = [rng.choice(tuple(cues.QUESTION_CUES[question])) for _ in range(rng.randint(1, 3))]
        words += [rng.choice(cues.FILLERS) for _ in range(rng.randint(0, _SHORT - len(words) - 2))]
        rng.shuffle(words)
    extra = rng.choices((0, 1, 2, 3, 4, 5), (0.60, 0.20, 0.10, 0.05, 0.03, 0.02))[0]
    group = rng.choice((*_GROUPS, (*_GROUPS[0], *_GROUPS[1])))
    manner = [rng.choice(group) for _ in range(extra)]
    return [*manner, *words] if rng.random() < 0.5 else [*words, *manner]


def write_rewriting(rng: random.Random) -> Document:
    """A rewriting (70 %) or an induction from demonstrations (30 %)."""
    family = rng.choices(list(FAMILIES), FAMILY_SHARES)[0]
    question = rng.choice(QUESTIONS[family])
    if rng.random() < 0.7:
        kind = rng.random()
        source = (
            plain(rng, question) if kind < 0.6 else grammar.instruction(rng, question, family, 0.3)
        )
        head = [BOS, REWRITE, *source]
    else:
        head = [BOS]
        for item, answer in demonstrations(rng, family, question)[0]:
            head += [TEXT, *item.words, ANSWER, *answer, EOS]
    doc = Document()
    start = doc.grow(-1, encode_words([*head, INSTRUCTION]))
    doc.predict_path(start, doc.grow(start, encode_words([*plain(rng, question), EOS])), 1.0)
    return doc
