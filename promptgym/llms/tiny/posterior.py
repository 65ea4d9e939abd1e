"""The oracle reader: the exact answers the text world gives to an instruction and an input.

A reader who sees an input and an instruction is unsure about three things: which question is
meant, whether to read carefully or hastily, and whether to answer at all or to guess. The
instruction's words shift all three (`promptgym.tasks.world.cues`). The answer distribution is the
mixture over them. Documents are written from it, so it is what the embedded models learn to
approximate; landscapes are calibrated on it before anything is trained.
"""

from __future__ import annotations

import functools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from promptgym.tasks.world import cues
from promptgym.tasks.world.inputs import QUESTIONS, Answer, Item, labels_of

FloatArray = npt.NDArray[np.float64]

ALL_QUESTIONS = tuple(question for family in QUESTIONS.values() for question in family)
CARE, SCOPE, HASTE, OWN_CARE, OWN_SURE = range(len(ALL_QUESTIONS), len(ALL_QUESTIONS) + 5)
WIDTH = len(ALL_QUESTIONS) + 5
SHARPNESS = 1.3  # weight of a unit of evidence about the question, nats
# Strength for a question at which more words add little.
ENOUGH = {"review": 2.2, "news": 3.0, "words": 8.0}
ROOM = 6.0  # words an instruction may have before each counts less
OWN_QUESTION = 0.25  # largest strength of an ordinary word for a question
OWN_CARE_SCALE = 0.22
OWN_SURE_SCALE = 0.5
DEMONSTRATION_NOISE = 0.08  # chance that a demonstration's answer is any other one


@dataclass(frozen=True, slots=True)
class Reading:
    """How one question is read.

    Log-odds of careful reading = bias + care * C + scope * S + both * 2CS/(C+S) - haste * H + the
    input's own, with C, S, H the instruction's strengths in careful, scope and hasty words. With
    `both` high and `care`, `scope` negative, a word of one group alone does harm and only a pair
    helps: a conjunction. Log-odds of being sure of the answer = sure + sure_haste * H + sure_care
    * (what care adds, if positive).
    """

    bias: float
    care: float
    scope: float
    both: float
    haste: float
    sure: float
    sure_haste: float
    sure_care: float
    spread: float = 1.0
    louder: float = 1.0
    sure_harm: float = 0.0
    folded: bool = False


STANDARD = Reading(-2.05, 0.8, 0.3, 0.0, 0.8, 0.2, 0.2, 0.4, louder=1.8)
TOPIC = Reading(-1.5, 0.75, 0.25, 0.0, 0.8, 0.2, 0.2, 0.4, louder=2.2)
HARD = Reading(-1.9, -0.3, -0.3, 4.0, 1.0, -0.4, 0.2, 1.1, louder=1.05)
HARD_NEWS = Reading(-1.95, -0.3, -0.3, 4.0, 1.0, -0.4, 0.2, 1.1, louder=1.2)
DIM = Reading(0.0, 0.0, 0.0, 0.0, 0.0, -0.6, 0.0, 0.0)
PLAIN = Reading(0.0, 0.0, 0.0, 0.0, 0.0, 2.0, 0.0, 0.0)
READINGS: dict[str, Reading] = {
    **dict.fromkeys(ALL_QUESTIONS, PLAIN),
    "author": STANDARD,
    "critics": STANDARD,
    "topic": TOPIC,
    "price": HARD,
    "staff": HARD,
    "outcome": HARD_NEWS,
    "tone": DIM,
}


@dataclass(frozen=True, slots=True)
class Dial:
    """How difficult the questions are.

    Attributes:
        readings: question -> how it is read.
        own_care: ordinary words' strengths for careful reading, times `OWN_CARE_SCALE`.
        own_sure: ordinary words' strengths for being sure, times `OWN_SURE_SCALE`.
        own_limit: the most that all ordinary words together add to careful reading.
    """

    readings: Mapping[str, Reading]
    own_care: float = 1.0
    own_sure: float = 1.0
    own_limit: float = np.inf


EARLY = Dial(READINGS)
TRAPS = Dial(
    {
        **READINGS,
        "author": Reading(-2.9, 0.8, 0.2, 0.0, 0.8, 0.2, 0.2, 0.4, louder=1.6),
        "critics": Reading(-2.9, 0.8, 0.2, 0.0, 0.8, 0.2, 0.2, 0.4, louder=1.55),
        "topic": Reading(-2.5, 0.8, 0.2, 0.0, 0.8, 0.2, 0.2, 0.4, louder=1.7),
        **dict.fromkeys(
            ("price", "staff", "outcome"),
            Reading(
                -1.5, -1.1, -1.1, 3.95, 1.0, 0.6, 0.2, 0.6, louder=1.2, sure_harm=1.2, folded=True
            ),
        ),
    },
    own_care=2.5,
    own_sure=3.0,
    own_limit=0.5,
)
FINAL = replace(  # louder than calibration asks for: the model reacts less than the oracle
    TRAPS,
    readings={
        **TRAPS.readings,
        "author": replace(TRAPS.readings["author"], louder=2.3),
        "critics": replace(TRAPS.readings["critics"], louder=2.1),
        "topic": replace(TRAPS.readings["topic"], louder=2.1),
        **{
            question: replace(TRAPS.readings[question], sure_harm=2.0)
            for question in ("price", "staff", "outcome")
        },
    },
)
DIALS = {"early": EARLY, "traps": TRAPS, "final": FINAL}
DEFAULTS: dict[str, float] = {
    **dict.fromkeys(ALL_QUESTIONS, 0.0),
    **dict.fromkeys(("author", "critics", "price", "staff", "topic", "outcome"), 0.3),
    "desk": 0.4,
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
        table[row, SCOPE] = cues.SCOPE.get(word, 0.0)
        table[row, HASTE] = cues.HASTE.get(word, 0.0)
        role = word in roles or table[row, [CARE, SCOPE]].any()
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
        sure: P(not guessing | question), shape (P, E, Q).
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
    shift: float = 0.0,
    enough: float | None = None,
    louder: float | None = None,
    dial: Dial = EARLY,
) -> Beliefs:
    """The posterior over questions and manners.

    Args:
        family: name of the inputs' family.
        features: `strengths` of the instructions, shape (P, WIDTH).
        items: inputs, E of them, all of this family.
        evidence: log-likelihood of demonstrations, shape (Q, 2), the same for all.
        shift: added to the log-odds of careful reading (training's curriculum).
        louder: in place of the readings' own (training's curriculum).
        enough: in place of the family's `ENOUGH` (training's curriculum).
        dial: how difficult the questions are.
    """
    questions = QUESTIONS[family]
    columns = [ALL_QUESTIONS.index(q) for q in questions]
    lean = np.array([[item.lean.get(q, -np.inf) for q in questions] for item in items])
    limit = ENOUGH[family] if enough is None else enough
    asked = limit * np.tanh(features[:, None, columns] / limit)
    logits = SHARPNESS * (asked + lean[None] + np.array([DEFAULTS[q] for q in questions]))
    care = np.array([item.care for item in items])
    manner, sure = np.empty(logits.shape), np.empty(logits.shape)
    own = dial.own_care * features[:, OWN_CARE]
    if np.isfinite(dial.own_limit):
        own = dial.own_limit * np.tanh(own / dial.own_limit)
    c, s, h = (np.maximum(features[:, k], 0.0) for k in (CARE, SCOPE, HASTE))
    both = 2.0 * c * s / np.maximum(c + s, 1e-9)
    for k, question in enumerate(questions):
        r = dial.readings[question]
        factor = r.louder if louder is None else louder
        careful_words, scope_words, hasty = (features[:, j] for j in (CARE, SCOPE, HASTE))
        if r.folded:
            careful_words, scope_words, hasty = np.abs(careful_words), np.abs(scope_words), h
        gain = r.care * careful_words + r.scope * scope_words + r.both * both
        manner[:, :, k] = (r.bias + shift + factor * gain - r.haste * hasty + own)[
            :, None
        ] + r.spread * care
        lift = r.sure + r.sure_haste * h + r.sure_care * np.maximum(gain, 0.0)
        lift += r.sure_harm * np.minimum(gain, 0.0) + dial.own_sure * features[:, OWN_SURE]
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
        others = (
            [(label,) for label in labels]
            if labels
            else [pair[0] for pair in item.answers.values()]
        )
        share = float(beliefs.weight[prompt, example, k].sum()) * (1.0 - sure) / len(others)
        for other in others:
            out[other] = out.get(other, 0.0) + share
        for manner, answer in enumerate(item.answers[question]):
            out[answer] = (
                out.get(answer, 0.0) + float(beliefs.weight[prompt, example, k, manner]) * sure
            )
    return out


def label_probabilities(
    family: str,
    features: FloatArray,
    items: Sequence[Item],
    labels: Sequence[str],
    dial: Dial = FINAL,
) -> FloatArray:
    """P(label | instruction, input), shape (P, E, L); other answers have the rest."""
    beliefs = believe(family, features, items, dial=dial)
    out = np.zeros((len(features), len(items), len(labels)))
    guess = beliefs.weight.sum(axis=3) * (1.0 - beliefs.sure)
    for k, question in enumerate(beliefs.questions):
        closed = labels_of(question) or ()
        for column, label in enumerate(labels):
            if label in closed:
                out[:, :, column] += guess[:, :, k] / len(closed)
            for manner in range(2):
                hit = np.array(
                    [(label,) == item.answers.get(question, ((), ()))[manner] for item in items]
                )
                out[:, :, column] += hit * beliefs.weight[:, :, k, manner] * beliefs.sure[:, :, k]
    return out
