"""Log-probabilities of a label from the echoed tokens of text and label."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from promptgym.llms.openai.retry import Fault

ROUNDING = 1e-3  # by which a log-probability may be above 0
_RAW = str.maketrans({"Ġ": " ", "▁": " ", "Ċ": "\n"})  # how some servers write spaces


def joined(text: str, label: str) -> str:
    """Return text and label as one: one space between, unless there is whitespace already."""
    return f"{text}{label}" if not text or label[:1].isspace() else f"{text} {label}"


def tail_logprob(
    choice: Mapping[str, Any], text: str, label: str, generated: int | None
) -> float | Fault:
    """Return log P(label | text), nats, from an echoed completion of `joined(text, label)`.

    The label's tokens are found from the end, by their text with whitespace and case left out:
    begin tokens and the several ways in which servers write spaces do not matter. A token that
    holds the last character of the text and the first of the label counts as the label's.

    Args:
        choice: of the completion.
        text: what stands before the label.
        label: as it was joined to the text.
        generated: tokens at the end that the model wrote; None if the server does not say.
    """
    found = choice.get("logprobs")
    if not isinstance(found, dict):
        return Fault("api_error", "the answer holds no log-probabilities")
    tokens, values = found.get("tokens"), found.get("token_logprobs")
    if (
        not isinstance(tokens, list)
        or not isinstance(values, list)
        or len(tokens) != len(values)
        or not all(isinstance(t, str) for t in tokens)
    ):
        return Fault("api_error", "the answer's log-probabilities are not one a token")
    for extra in (1, 0) if generated is None else (generated,):
        end = max(len(tokens) - extra, 0)
        start = _start(tokens[:end], text, label, check_text=generated is None)
        if start is not None:
            return _total(values[start:end])
    return Fault(
        "api_error",
        "the echoed tokens do not end with the label; the server may not echo the prompt, or "
        "write tokens in a form of its own: load the model with labels='generate'",
    )


def generated_tokens(
    usage: Any, choice: Mapping[str, Any], prompt: str, prompts: int
) -> int | None:
    """Return how many tokens the model wrote behind an echoed prompt: 0, 1, or None for unknown."""
    total = usage.get("completion_tokens") if isinstance(usage, dict) else None
    if total in (0, prompts):
        return int(total == prompts)
    text = choice.get("text")
    if isinstance(text, str) and text.startswith(prompt) and len(text) > len(prompt):
        return 1
    return None


def _start(tokens: Sequence[str], text: str, label: str, *, check_text: bool) -> int | None:
    """Return the index of the label's first token, None if the tokens do not end with it."""
    want = _bare(label)
    kept, start = "", len(tokens)
    while start > 0 and len(kept) < len(want):
        start -= 1
        kept = _bare(tokens[start]) + kept
    if not want or not kept.endswith(want) or not (_bare(text) + want).endswith(kept):
        return None
    if check_text:
        near = _bare(text)[-32:].removesuffix(kept[: len(kept) - len(want)])
        if not "".join(_bare(t) for t in tokens[max(start - 64, 0) : start]).endswith(near):
            return None
    space_is_label = bool(text) and not text[-1].isspace()
    while space_is_label and start > 0 and tokens[start - 1] and not _bare(tokens[start - 1]):
        start -= 1
    return start


def _bare(text: str) -> str:
    """Return a text without whitespace, in lower case."""
    return "".join(text.translate(_RAW).split()).casefold()


def _total(values: Sequence[Any]) -> float | Fault:
    """Add log-probabilities up."""
    total = 0.0
    for value in values:
        if not isinstance(value, int | float) or isinstance(value, bool) or math.isnan(value):
            what = "a token of the label has no log-probability (is the text before it empty?)"
            return Fault("api_error", what)
        if value > ROUNDING:
            return Fault("api_error", f"a token of the label has the log-probability {value}")
        total += value
    return total
