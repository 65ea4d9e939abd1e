"""How Instruction Induction (Honovich et al. 2022, section 3.2) compares an answer with the target.

The rules are those of its published evaluation: only the first sentence of the first line counts,
in lower case, without punctuation, hyphens as spaces, "and" between words dropped.
"""

from __future__ import annotations

import re
import string
from collections import Counter

_PUNCTUATION = str.maketrans("", "", string.punctuation)


def normalize(text: str) -> str:
    """Return an answer as Instruction Induction compares it."""
    for dropped in (" and ", "Sentence 1:", "Sentence 2:"):
        text = text.replace(dropped, " ")
    text = text.strip().split("\n")[0].split(".")[0]
    return text.lower().replace("-", " ").translate(_PUNCTUATION)


def exact_match(prediction: str, target: str) -> float:
    """1.0 if the normalized texts are equal (the default metric of the tasks)."""
    return float(normalize(prediction) == normalize(target))


def f1(prediction: str, target: str) -> float:
    """F1 between the bags of normalized words; 0 where either is empty."""
    got, want = normalize(prediction).split(), normalize(target).split()
    common = sum((Counter(got) & Counter(want)).values())
    if not common:
        return 0.0
    precision, recall = common / len(got), common / len(want)
    return 2 * precision * recall / (precision + recall)


def exact_set(prediction: str, target: str) -> float:
    """1.0 if the normalized words are the same set, in any order."""
    return float(set(normalize(prediction).split()) == set(normalize(target).split()))


def contains(prediction: str, target: str) -> float:
    """1.0 if the normalized target stands in the prediction as whole words."""
    want = re.escape(normalize(target))
    return float(re.search(rf"\b{want}\b", normalize(prediction)) is not None)
