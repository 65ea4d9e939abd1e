"""The input embeddings of words in a target model: what is known of a word before it is asked."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from promptgym.types import FloatArray


def has_embeddings(model: Any) -> bool:
    """Whether the embeddings of a model can be read: one of transformers, loaded here."""
    weights = getattr(model, "model", None)
    return hasattr(model, "tokenizer") and hasattr(weights, "get_input_embeddings")


def word_embeddings(model: Any, words: Sequence[str]) -> FloatArray | None:
    """Return the input embeddings of words; a word of several tokens gets the mean of theirs.

    Args:
        model: any target model.
        words: V words.

    Returns:
        Shape (V, D); None if the model has none to read.
    """
    if not has_embeddings(model):
        return None
    table = model.model.get_input_embeddings().weight.detach().float().cpu().numpy()
    ids = [model.tokenizer.encode(f" {word}", add_special_tokens=False) for word in words]
    rows = [table[i].mean(axis=0) if i else np.zeros(table.shape[1]) for i in ids]
    return np.stack(rows).astype(np.float64)
