"""The bundled tasks of the text world."""

from __future__ import annotations

from dataclasses import dataclass

from promptgym.tasks.world.cues import vocabulary
from promptgym.tasks.world.inputs import labels_of


@dataclass(frozen=True, slots=True)
class WorldTask:
    """What a task of the text world is.

    Attributes:
        name: family and question, such as "review-author".
        family: kind of input: "review", "news" or "words".
        tier: "standard", "hard" or "generation".
        description: what is asked, for people and for models that write prompts.
        difficulty: how hard it is and why, for people only.
        labels: the closed set of answers, one word each; None where answers are generated.
        metric: "accuracy" or "exact_match".
        manual_prompt: what a person would write first.
        best_known_prompt: the best prompt found by search so far.
        vocabulary: the words a searcher may use.
    """

    name: str
    family: str
    tier: str
    description: str
    difficulty: str
    labels: tuple[str, ...] | None
    metric: str
    manual_prompt: str
    best_known_prompt: str
    vocabulary: tuple[str, ...]

    @property
    def question(self) -> str:
        """The question's name within its family."""
        return self.name.partition("-")[2]


_STANDARD = (
    "Standard: the default is hasty reading, which takes a negated or mislabelled input at its "
    "face value; every careful word helps a little, so there is a slope all the way up."
)
_HARD = (
    "Hard: careful words and words of scope help only together, two pairs or more; a word of one "
    "kind alone makes the reader doubt what was read: accuracy, likelihood and gap all fall."
)
_PAIRS = (
    "Standard: careful words and words of scope help only together, as in the hard tier, but most "
    "climbers of the likelihood find a pair."
)
_GENERATION = (
    "Generation: the answer's words are generated; several questions about the words compete for "
    "the prompt."
)
_DESCRIPTIONS = {
    "review-author": ("Did the author of a review like the product?", _STANDARD),
    "review-critics": ("Did the critics a review mentions like the product?", _STANDARD),
    "news-topic": ("Which topic is a news line about, whatever desk filed it?", _STANDARD),
    "review-price": ("Does a review find the price good?", _PAIRS),
    "review-staff": ("Does a review find the staff good?", _HARD),
    "news-outcome": ("Did the event in a news line end well?", _HARD),
    "words-opposite": ("The opposite of the adjective in a list of words.", _GENERATION),
    "words-code": ("The code word of the first noun in a list of words.", _GENERATION),
    "words-ends": ("The first and the last word of a list, two words.", _GENERATION),
}
_PROMPTS = {  # the manual one and the best known one
    "review-author": (
        "what is the opinion of the author ?",
        "closely precisely closely writer closely",
    ),
    "review-critics": (
        "what is the opinion of the critics ?",
        "carefully carefully precisely experts precisely",
    ),
    "news-topic": (
        "what is the topic of the news exactly ?",
        "precisely subject subject carefully closely precisely",
    ),
    "review-price": (
        "what is the view of the price ?",
        "carefully clause price each carefully",
    ),
    "review-staff": (
        "what is the view of the staff ?",
        "sentence carefully careful staff complete",
    ),
    "news-outcome": (
        "what is the outcome of the news ?",
        "clause closely result sentence precisely",
    ),
    "words-opposite": ("write the contrast word", "contrary contrast contrary inverse opposite"),
    "words-code": ("write the noun in secret", "code cipher translate"),
    "words-ends": ("write the first and last word", "ends extremes"),
}


def _labels(question: str) -> tuple[str, ...] | None:
    """The labels in a fixed order."""
    labels = labels_of(question)
    return tuple(labels) if labels else None


def _tier(labels: tuple[str, ...] | None, difficulty: str) -> str:
    """The tier a difficulty states."""
    return "generation" if labels is None else "hard" if difficulty == _HARD else "standard"


def _tasks() -> dict[str, WorldTask]:
    """All tasks by name."""
    words = vocabulary()
    tasks = {}
    for name, (description, difficulty) in _DESCRIPTIONS.items():
        family, _, question = name.partition("-")
        labels = _labels(question)
        tasks[name] = WorldTask(
            name=name,
            family=family,
            tier=_tier(labels, difficulty),
            description=description,
            difficulty=difficulty,
            labels=labels,
            metric="accuracy" if labels else "exact_match",
            manual_prompt=_PROMPTS[name][0],
            best_known_prompt=_PROMPTS[name][1],
            vocabulary=words,
        )
    return tasks


WORLD_TASKS: dict[str, WorldTask] = _tasks()
TEMPLATE = "<text> {input} <instruction> {prompt} <answer>"
MASKED_TEMPLATE = "<text> {input} <instruction> {prompt} <answer> {mask}"
DEMONSTRATION = "<text> {input} <answer> {answer} <eos> "
