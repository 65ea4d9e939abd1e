"""Ready definitions of well-known data sets.

Verbalizers and the order of template parts are those of RLPrompt (Deng et al. 2022; its few-shot
classification code), which follow LM-BFF (Gao et al. 2021); "It was" and "This is" are LM-BFF's
manual prompts. Hub names and columns were taken from public code and dataset pages.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from promptgym.prompts import Prompt, Template
from promptgym.tasks.definition import Definition
from promptgym.tasks.hub import HubSource
from promptgym.tasks.induction import INDUCTION

_CAUSAL = Template("{demonstrations}{input} {prompt}", "{input} {answer}\n")
_MASKED = Template("{demonstrations}{input} {prompt} {mask} .", "{input} {answer} .\n")
_MASK_FIRST = Template("{demonstrations}{mask} {prompt} {input}", "{answer} {input}\n")
_LM_BFF = ("label", "text")  # LM-BFF's csv files have no header


def _classification(
    name: str,
    description: str,
    words: dict[str, str],
    *,
    hub: HubSource,
    manual: Sequence[str],
    aliases: tuple[str, ...] = (),
    text: tuple[str, ...] = ("text", "sentence"),
    target: tuple[str, ...] = ("label",),
    masked: Template = _MASKED,
) -> Definition:
    """Define a classification data set whose local files number the labels in this order."""
    return Definition(
        name=name,
        aliases=aliases,
        description=description,
        input=text,
        target=target,
        labels=tuple(words),
        raw={str(i): label for i, label in enumerate(words)},
        verbalizers=words,
        template=_CAUSAL,
        masked_template=masked,
        metric="accuracy",
        manual_prompts=tuple(map(Prompt, manual)),
        hub=hub,
        headerless=_LM_BFF,
    )


_POLARITY = {"negative": "terrible", "positive": "great"}
_OPINION = ("It was", "Overall , it was", "Is this positive or negative ? It was", "")


def without_annotations(answer: str) -> str:
    """Remove GSM8K's calculator annotations (`<<48/2=24>>`) from an answer."""
    return re.sub(r"<<[^>]*>>", "", answer)


_GSM8K = Definition(
    name="gsm8k",
    description="Solve a grade-school mathematics problem; the answer is a number.",
    input=("question",),
    target=("answer",),
    labels=None,
    template=Template("{demonstrations}Q: {input}\nA: {prompt}", "Q: {input}\nA: {answer}\n\n"),
    masked_template=None,
    metric="numeric_match",
    manual_prompts=(
        Prompt("Let's think step by step."),  # Kojima et al. 2022
        Prompt("First work out each step , then give the final number after ####"),
        Prompt(""),
    ),
    max_new_tokens=256,
    stop=("\nQ:",),
    hub=HubSource("openai/gsm8k", "main"),
    clean=without_annotations,
)

_ALL = (
    _classification(
        "sst2",
        "Is a sentence of a movie review negative or positive?",
        _POLARITY,
        aliases=("sst-2",),
        manual=_OPINION,
        text=("sentence", "text"),
        # The labels of the Hub's test split are not public; LM-BFF tests on validation, too.
        hub=HubSource("stanfordnlp/sst2", splits={"test": "validation"}),
    ),
    _classification(
        "sst5",
        "How positive is a sentence of a movie review, in five steps?",
        {
            "very negative": "terrible",
            "negative": "bad",
            "neutral": "okay",
            "positive": "good",
            "very positive": "great",
        },
        aliases=("sst-5",),
        manual=_OPINION,
        hub=HubSource("SetFit/sst5"),
    ),
    _classification(
        "mr",
        "Is a movie review's sentence negative or positive (Pang and Lee 2005)?",
        _POLARITY,
        aliases=("rotten_tomatoes",),
        manual=_OPINION,
        hub=HubSource("cornell-movie-review-data/rotten_tomatoes"),
    ),
    _classification(
        "cr",
        "Is a customer's sentence about a product negative or positive (Hu and Liu 2004)?",
        _POLARITY,
        manual=_OPINION,
        hub=HubSource("SetFit/SentEval-CR"),
    ),
    _classification(
        "subj",
        "Is a sentence about a movie subjective or objective?",
        {"subjective": "subjective", "objective": "objective"},
        manual=("This is", "This sentence is", ""),
        # Other copies number the labels the other way round, so names are preferred to numbers.
        target=("label_text", "label"),
        hub=HubSource("SetFit/subj"),
    ),
    _classification(
        "trec",
        "What kind of thing does a question ask for?",
        {
            name: name
            for name in ("Description", "Entity", "Expression", "Human", "Location", "Number")
        },
        manual=("The question asks for a", "It asks for", ""),
        target=("coarse_label", "label-coarse", "label"),
        hub=HubSource(
            "CogComp/trec",
            revision="refs/convert/parquet",
            raw={
                "0": "Expression",
                "1": "Entity",
                "2": "Description",
                "3": "Human",
                "4": "Location",
                "5": "Number",
            },
        ),
    ),
    _classification(
        "ag_news",
        "Is a news item about the world, sports, business or technology?",
        {"World": "World", "Sports": "Sports", "Business": "Business", "Sci/Tech": "Tech"},
        aliases=("agnews", "ag-news"),
        manual=("News:", "The topic of this news is", ""),
        masked=_MASK_FIRST,
        hub=HubSource("fancyzhx/ag_news"),
    ),
    _classification(
        "yelp_polarity",
        "Is a review of a business negative or positive?",
        _POLARITY,
        aliases=("yelp", "yelp-2", "yelp-polarity"),
        manual=_OPINION,
        hub=HubSource("fancyzhx/yelp_polarity"),
    ),
    _GSM8K,
    *INDUCTION,
)

DEFINITIONS: dict[str, Definition] = {definition.name: definition for definition in _ALL}
"""Every ready definition by name."""

ALIASES: dict[str, str] = {alias: d.name for d in _ALL for alias in d.aliases}
"""Other spellings of the names."""
