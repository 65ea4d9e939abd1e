"""Counting tokens of texts before they are sent."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

from promptgym.errors import ModelError
from promptgym.types import IntArray

Counter = Callable[[Sequence[str]], IntArray]
BYTES_A_TOKEN = 3  # English has about 4 with today's vocabularies; estimates should not be too low


def estimate(texts: Sequence[str]) -> IntArray:
    """Return about how many tokens texts have, shape (N,): a third of their UTF-8 bytes, up."""
    sizes = [len(t.encode("utf-8", "surrogatepass")) for t in texts]
    return -(-np.array(sizes, dtype=np.int64) // BYTES_A_TOKEN)


def counter(spec: str, name: str | None) -> Counter:
    """Return a function that counts with a tokenizer; the estimate if there is none.

    Args:
        spec: the model, for messages.
        name: a folder with a `tokenizer.json`, or a name on the Hub; None for the estimate.

    Raises:
        ModelError: the tokenizer cannot be loaded.
    """
    if name is None:
        return estimate
    from tokenizers import Tokenizer

    try:
        file = Path(name) / "tokenizer.json"
        found = Tokenizer.from_file(str(file)) if file.exists() else Tokenizer.from_pretrained(name)
    except Exception as error:  # the library raises bare Exception
        raise ModelError(
            f"model {spec!r}: tokenizer {name!r} cannot be loaded ({error}); give a folder with a "
            "tokenizer.json or a name on the Hub, or leave it out to have tokens estimated"
        ) from None
    found.no_truncation()
    found.no_padding()

    def count(texts: Sequence[str]) -> IntArray:
        encodings = found.encode_batch_fast(list(texts), add_special_tokens=False)
        return np.array([len(e) for e in encodings], dtype=np.int64)

    return count
