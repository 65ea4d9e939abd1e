"""Labels as tokens: which ones they are, and whether a model can tell them apart."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from promptgym.errors import ModelError
from promptgym.llms.base import Normalization
from promptgym.types import FloatArray, IntArray

if TYPE_CHECKING:
    from promptgym.llms.transformers_common import TransformersModel


@dataclass(frozen=True, slots=True)
class LabelTokens:
    """The tokens of L labels.

    Attributes:
        ids: tokens of every label.
        first: the different first tokens, shape (F,).
        place: where in `first` each label's first token is, shape (L,).
        longest: tokens of the longest label.
    """

    ids: list[list[int]]
    first: IntArray
    place: IntArray
    longest: int

    @classmethod
    def of(cls, ids: list[list[int]]) -> LabelTokens:
        """Index the first tokens."""
        first, place = np.unique([tokens[0] for tokens in ids], return_inverse=True)
        return cls(ids, first, place, max(map(len, ids)))


def check_distinct(
    model: TransformersModel,
    labels: Sequence[str],
    ids: Sequence[Sequence[int]],
    *,
    prefixes: bool,
    single: str = "",
) -> None:
    """Refuse labels that a model cannot tell apart, naming label, tokens and what was expected.

    Args:
        model: for its name and its tokens' names.
        labels: the texts.
        ids: their tokens.
        prefixes: refuse a label that begins with another one, too.
        single: where a label must be a single token ("at the mask after a space"); "" for anywhere.

    Raises:
        ModelError: the first label at fault.
    """
    if len(labels) < 1:
        raise ModelError(f"{model.name}: no labels were given")
    unknown = model.tokenizer.unk_token_id
    seen: dict[tuple[int, ...], str] = {}
    for label, tokens in zip(labels, ids, strict=True):
        names = model.tokenizer.convert_ids_to_tokens(list(tokens))
        what = f"label {label!r} becomes the tokens {names} {single}".rstrip() + f" in {model.name}"
        if not tokens or not label.strip():
            raise ModelError(f"{what}; expected at least one token: give a word")
        if unknown is not None and unknown in tokens:
            raise ModelError(
                f"{what}, where {model.tokenizer.unk_token} is the unknown token; expected tokens "
                "the model knows: choose another verbalizer"
            )
        if single and len(tokens) != 1:
            raise ModelError(
                f"{what}; expected exactly one token, since the model fills one mask: choose "
                "another verbalizer"
            )
        if tuple(tokens) in seen:
            raise ModelError(
                f"labels {seen[tuple(tokens)]!r} and {label!r} both become the tokens {names} in "
                f"{model.name}; expected different ones: change one verbalizer"
            )
        seen[tuple(tokens)] = label
    if not prefixes:
        return
    for tokens, label in seen.items():
        for n in range(1, len(tokens)):
            if tokens[:n] in seen:
                raise ModelError(
                    f"label {label!r} ({len(tokens)} tokens in {model.name}) begins with the "
                    f"tokens of {seen[tokens[:n]]!r} and can never be the likelier one; expected "
                    "labels of which none begins another: change one, or load the model with "
                    "normalize='tokens'"
                )


def normalized(
    values: FloatArray, how: Normalization, labels: Sequence[str], ids: Sequence[Sequence[int]]
) -> FloatArray:
    """Return log-probabilities as they are, per token or per character, shape (N, L)."""
    if how == "tokens":
        return np.asarray(values / np.array([len(tokens) for tokens in ids]))
    if how == "characters":
        return np.asarray(values / np.array([len(label.strip()) for label in labels]))
    return values
