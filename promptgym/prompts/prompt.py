"""`Example` and `Prompt`: the values that agents edit and models are asked with."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from promptgym.errors import PromptGymError


def content_key(input_text: str, target: str = "") -> str:
    """Return a stable hash of an example's content (16 hex digits; whitespace is folded)."""
    folded = " ".join(input_text.split()) + "\x1f" + " ".join(target.split())
    return hashlib.blake2b(folded.encode(), digest_size=8).hexdigest()


@dataclass(frozen=True, slots=True)
class Example:
    """One row of a task.

    Attributes:
        input: the text a model is asked about.
        target: the gold label or answer.
        key: content hash of `input` alone, made when not given: two rows with one input are one
            row as far as splits are concerned, whatever their labels.
    """

    input: str
    target: str
    key: str = ""

    def __post_init__(self) -> None:
        """Fill in the content hash."""
        if not self.key:
            object.__setattr__(self, "key", content_key(self.input))


@dataclass(frozen=True, slots=True)
class Prompt:
    """What agents edit: hashable, so it is a cache key and a dictionary key.

    Attributes:
        instruction: the text that stands at `{prompt}` in a template.
        demonstrations: solved examples, rendered at `{demonstrations}`, in order.
        system: system message for models that take one; "" for none.
    """

    instruction: str = ""
    demonstrations: tuple[Example, ...] = field(default=())
    system: str = ""

    @classmethod
    def of(cls, value: Prompt | str | dict[str, Any]) -> Prompt:
        """Build a prompt from text, from `to_json` output, or return the prompt given."""
        if isinstance(value, Prompt):
            return value
        if isinstance(value, str):
            return cls(value)
        if isinstance(value, dict):
            demonstrations = tuple(Example(**row) for row in value.get("demonstrations", ()))
            return cls(value.get("instruction", ""), demonstrations, value.get("system", ""))
        raise PromptGymError(f"expected a prompt, a string or a dict, got {type(value).__name__}")

    @property
    def words(self) -> tuple[str, ...]:
        """The instruction split at whitespace."""
        return tuple(self.instruction.split())

    def with_words(self, words: Sequence[str]) -> Prompt:
        """Return this prompt with its instruction replaced by `words` joined with spaces."""
        return replace(self, instruction=" ".join(words))

    def to_json(self) -> dict[str, Any]:
        """Return plain JSON values; `Prompt.of` reads them back."""
        out: dict[str, Any] = {"instruction": self.instruction}
        if self.demonstrations:
            out["demonstrations"] = [
                {"input": e.input, "target": e.target, "key": e.key} for e in self.demonstrations
            ]
        if self.system:
            out["system"] = self.system
        return out
