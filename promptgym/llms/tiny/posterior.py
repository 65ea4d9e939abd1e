"""The oracle reader: the exact answers the text world gives to an instruction and an input.

A reader who sees an input and an instruction is unsure about three things: which question is
meant, whether to read carefully or hastily, and whether to answer what was read or something
else. The instruction's words shift all three (`promptgym.tasks.world.cues`). The answer
distribution is the mixture over them. Documents are written from it, so it is what the embedded
models learn to approximate; landscapes are calibrated on it before anything is trained.
"""

from __future__ import annotations

import functools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from promptgym.tasks.world import cues
from promptgym.tasks.world.inputs import QUESTIONS, Answer, Item, labels_of

FloatArray = npt.NDArray[np.float64]

ALL_QUESTIONS = tuple(question for family in QUESTIONS.values() for question in family)
CARE, PAIRED_CARE, PAIRED_SCOPE, HASTE, OWN_CARE, OWN_SURE = range(
    len(ALL_QUESTIONS), len(ALL_QUESTIONS) + 6
)
WIDTH = len(ALL_QUESTIONS) + 6
SHARPNESS = 1.3  # weight of a unit of evidence about the question, nats
# Strength for a question at which more words add little.
ENOUGH = {"review": 2.2, "news": 3.0, "words": 8.0}
ROOM = 6.0  # words an instruction may have before each counts less
OWN_QUESTION = 0.25  # largest strength of an ordinary word for a question
OWN_CARE_SCALE = 0.55  # largest strength of an ordinary word for careful reading ...
OWN_CARE_LIMIT = 0.5  # ... and the most that all of them add up to
OWN_SURE_SCALE = 1.25  # largest strength of an ordinary word for being sure ...
OWN_SURE_LIMIT = 1.0  # ... and the most that all of them add up to
HARM_AT = 0.3  # strength at which an unpaired word has done most of its harm
DEMONSTRATION_NOISE = 0.08  # chance that a demonstration's answer is any other one


def paired(strength: float) -> float:
    """What a careful word or one of scope counts where words count in pairs: all nearly alike."""
    return 0.5 + 0.4 * strength if strength else 0.0


@dataclass(frozen=True, slots=True)
class Reading:
    """How one question is read.

    Log-odds of careful reading = bias + gain - haste * H + spread * (the input's own), with H the
    instruction's strength in hasty words and

    - gain = care * C where careful words add up (C: their strength), or
    - gain = pair * 2CS / (C + S) - alone * (C + S) - harm * (tanh(C / HARM_AT) + tanh(S / HARM_AT))
      where `pair` is set: careful words (C) and words of scope (S) count in pairs, and a word
      without its partner does harm.

    Log-odds of giving the answer that was read, and not another one = sure + sure_haste * H +
    sure_gain * gain, or sure_loss * gain where the gain is negative. Below 0 a reader of two labels
    says the opposite of what was read.
    """

    bias: float
    care: float = 0.0
    pair: float = 0.0
    alone: float = 0.0
    harm: float = 0.0
    haste: float = 0.0
    sure: float = 2.2
    sure_haste: float = 0.0
    sure_gain: float = 0.0
    sure_loss: float = 0.0
    spread: float = 1.0

    def gain(self, features: FloatArray) -> FloatArray:
        """The gain of instructions, shape (P,), from their `strengths`."""
        if not self.pair:
            added: FloatArray = self.care * features[:, CARE]
            return added
        c, s = features[:, PAIRED_CARE], features[:, PAIRED_SCOPE]
        good_c, good_s = np.maximum(c, 0.0), np.maximum(s, 0.0)
        both = 2.0 * good_c * good_s / np.maximum(good_c + good_s, 1e-9)
        c, s = np.abs(c), np.abs(s)
        harm = np.tanh(c / HARM_AT) + np.tanh(s / HARM_AT)
        gain: FloatArray = self.pair * both - self.alone * (c + s) - self.harm * harm
        return gain


def _standard(bias: float, care: float) -> Reading:
    return Reading(
        bias,
        care,
        haste=0.8,
        sure=0.6,
        sure_haste=0.2,
        sure_gain=0.2,
        sure_loss=0.2,
        spread=2.6,
    )


def _hard(bias: float, pair: float) -> Reading:
    return Reading(
        bias,
        pair=pair,
        alone=0.3,
        harm=0.6,
        haste=1.0,
        sure=0.35,
        sure_gain=1.0,
        sure_loss=1.6,
    )


READINGS: dict[str, Reading] = {
    **dict.fromkeys(ALL_QUESTIONS, Reading(0.0)),
    "author": _standard(-4.9, 2.1),
    "critics": _standard(-5.2, 2.2),
    "topic": _standard(-4.9, 2.2),
    "price": _hard(-3.0, 4.7),
    "staff": _hard(-3.0, 5.0),
    "outcome": _hard(-3.4, 4.0),
    "tone": Reading(0.0, sure=0.9),
}
DEFAULTS: dict[str, float] = {
    **dict.fromkeys(ALL_QUESTIONS, 0.0),
    **dict.fromkeys(("author", "critics", "price", "staff", "topic"), 0.3),
    "desk": 0.4,
    "outcome": 0.9,
    "tone": 0.1,
    "first": 1.0,
    "last": 0.6,
}


@functools.cache
def word_table() -> tuple[Mapping[str, int], FloatArray]:
    """Row of every word, and strengths, shape (words + 1, WIDTH); the last row is for others."""
    words = cues.vocabulary()
    table = np.zeros((len(words) + 1, WIDTH))
    roles = {word for table_of in cues.QUESTION_CUES.values() for word in table_of}
    for row, word in enumerate(words):
        table[row, CARE] = cues.CARE.get(word, 0.0)
        table[row, PAIRED_CARE] = paired(cues.CARE.get(word, 0.0))
        table[row, PAIRED_SCOPE] = paired(cues.SCOPE.get(word, 0.0))
        table[row, HASTE] = cues.HASTE.get(word, 0.0)
        role = word in roles or table[row, [PAIRED_CARE, PAIRED_SCOPE]].any()
        own = 0.0 if role else 1.0  # else words with a role would lead a climber past the traps
        table[row, OWN_CARE] = own * OWN_CARE_SCALE * cues.fraction(f"{word}|care")
        table[row, OWN_SURE] = own * OWN_SURE_SCALE * cues.fraction(f"{word}|sure")
        for column, question in enumerate(ALL_QUESTIONS):
            strength = own * OWN_QUESTION * cues.fraction(f"{word}|{question}")
            table[row, column] = cues.QUESTION_CUES[question].get(word, strength)
    return {word: row for row, word in enumerate(words)}, table


def strengths(instructions: Sequence[Sequence[str]]) -> FloatArray:
    """Summed strengths of instructions' words, shape (P, WIDTH).

    A word after one of `cues.FLIPS` counts with the opposite sign; beyond `ROOM` words all count
    less, by sqrt(ROOM / length).
    """
    rows, table = word_table()
    out = np.zeros((len(instructions), WIDTH))
    for i, words in enumerate(instructions):
        if not words:
            continue
        index = [rows.get(word, -1) for word in words]
        sign = [-1.0 if j and words[j - 1] in cues.FLIPS else 1.0 for j in range(len(words))]
        out[i] = (np.asarray(sign) @ table[index]) * min(1.0, (ROOM / len(words)) ** 0.5)
    return out


@dataclass(frozen=True, slots=True)
class Beliefs:
    """What the reader believes about instructions x inputs of one family.

    Attributes:
        questions: the family's questions.
        weight: P(question, manner), shape (P, E, Q, 2), manner 0 careful, 1 hasty.
        sure: P(the answer is the one read | question), shape (P, E, Q); the rest is shared by
            the other answers.
    """

    questions: tuple[str, ...]
    weight: FloatArray
    sure: FloatArray


def _sigmoid(x: FloatArray) -> FloatArray:
    return 1.0 / (1.0 + np.exp(-x))


def believe(
    family: str,
    features: FloatArray,
    items: Sequence[Item],
    evidence: FloatArray | None = None,
    ease: float = 0.0,
    enough: float | None = None,
) -> Beliefs:
    """The posterior over questions and manners.

    Args:
        family: name of the inputs' family.
        features: `strengths` of the instructions, shape (P, WIDTH).
        items: inputs, E of them, all of this family.
        evidence: log-likelihood of demonstrations, shape (Q, 2), the same for all.
        ease: from 0 to 1, takes that share of the readings' bias and of the inputs' spread away
            (training's curriculum: with none of either, single words decide).
        enough: in place of the family's `ENOUGH` (training's curriculum).
    """
    questions = QUESTIONS[family]
    columns = [ALL_QUESTIONS.index(q) for q in questions]
    lean = np.array([[item.lean.get(q, -np.inf) for q in questions] for item in items])
    limit = ENOUGH[family] if enough is None else enough
    asked = limit * np.tanh(features[:, None, columns] / limit)
    logits = SHARPNESS * (asked + lean[None] + np.array([DEFAULTS[q] for q in questions]))
    care = np.array([item.care for item in items])
    manner, sure = np.empty(logits.shape), np.empty(logits.shape)
    own = OWN_CARE_LIMIT * np.tanh(features[:, OWN_CARE] / OWN_CARE_LIMIT)
    own_sure = OWN_SURE_LIMIT * np.tanh(features[:, OWN_SURE] / OWN_SURE_LIMIT)
    hasty = features[:, HASTE]
    for k, question in enumerate(questions):
        r = READINGS[question]
        gain = r.gain(features)
        lean_to_care = (1.0 - ease) * r.bias + gain - r.haste * hasty + own
        manner[:, :, k] = lean_to_care[:, None] + (r.spread + ease * (1.0 - r.spread)) * care
        lift = r.sure + r.sure_haste * np.maximum(hasty, 0.0) + own_sure
        lift += np.where(gain > 0.0, r.sure_gain, r.sure_loss) * gain
        sure[:, :, k] = lift[:, None]
    careful = _sigmoid(manner)
    joint = np.stack([careful, 1.0 - careful], axis=-1)
    with np.errstate(divide="ignore"):
        log_joint = logits[..., None] + np.log(joint)
    if evidence is not None:
        log_joint = log_joint + evidence
        sure = sure + 1.5 * float(np.ptp(evidence[np.isfinite(evidence)]) > 0.5)
    log_joint -= log_joint.max(axis=(2, 3), keepdims=True)
    weight = np.exp(log_joint)
    weight /= weight.sum(axis=(2, 3), keepdims=True)
    return Beliefs(questions, weight, _sigmoid(sure))


def evidence_of(family: str, item: Item, answer: Answer) -> FloatArray:
    """Log-likelihood of one demonstration under every question and manner, shape (Q, 2)."""
    out: FloatArray = np.log(np.full((len(QUESTIONS[family]), 2), DEMONSTRATION_NOISE))
    for k, question in enumerate(QUESTIONS[family]):
        for manner, given in enumerate(item.answers.get(question, ())):
            if given == answer:
                out[k, manner] = np.log(1.0 - DEMONSTRATION_NOISE)
    return out


def answer_distribution(
    beliefs: Beliefs, prompt: int, example: int, item: Item
) -> dict[Answer, float]:
    """Every possible answer with its probability, for one instruction and one input."""
    out: dict[Answer, float] = {}
    for k, question in enumerate(beliefs.questions):
        if question not in item.answers:
            continue
        sure = float(beliefs.sure[prompt, example, k])
        labels = labels_of(question)
        possible = (
            [(label,) for label in labels]
            if labels
            else list(dict.fromkeys(pair[0] for pair in item.answers.values()))
        )
        for manner, read in enumerate(item.answers[question]):
            weight = float(beliefs.weight[prompt, example, k, manner])
            out[read] = out.get(read, 0.0) + weight * sure
            others = [answer for answer in possible if answer != read]
            for other in others:
                out[other] = out.get(other, 0.0) + weight * (1.0 - sure) / len(others)
    return out


def label_probabilities(
    family: str,
    features: FloatArray,
    items: Sequence[Item],
    labels: Sequence[str],
) -> FloatArray:
    """P(label | instruction, input), shape (P, E, L); other answers have the rest."""
    beliefs = believe(family, features, items)
    out = np.zeros((len(features), len(items), len(labels)))
    for k, question in enumerate(beliefs.questions):
        closed = labels_of(question) or ()
        for manner in range(2):
            read = [item.answers.get(question, ((), ()))[manner] for item in items]
            weight, sure = beliefs.weight[:, :, k, manner], beliefs.sure[:, :, k]
            for column, label in enumerate(labels):
                hit = np.array([(label,) == answer for answer in read])
                out[:, :, column] += np.where(hit, weight * sure, 0.0)
                if label in closed:
                    other = weight * (1.0 - sure) / (len(closed) - 1)
                    out[:, :, column] += np.where(hit, 0.0, other)
    return out
