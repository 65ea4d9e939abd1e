"""Texts that can be taken apart again: how the tasks of recorded tables are laid out."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from promptgym.prompts import Template
from promptgym.types import IntArray

SEPARATOR = "␞"
"""Between the parts of a text; no text of a table may hold it."""
PARTS = Template(f"{{system}}{SEPARATOR}{{prompt}}{SEPARATOR}{{input}}")


def parts_of(text: str) -> tuple[str, str, str] | None:
    """Return system text, prompt and input; None for a text that is laid out otherwise."""
    parts = text.split(SEPARATOR)
    return (parts[0], parts[1], parts[2]) if len(parts) == 3 else None


def count_words(texts: Sequence[str]) -> IntArray:
    """Return the number of words of every text, shape (N,): a table knows no other tokens."""
    return np.array([len(t.replace(SEPARATOR, " ").split()) for t in texts], dtype=np.int64)
