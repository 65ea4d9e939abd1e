"""`Example` and `Prompt`: the values that agents edit and models are asked with."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from promptgym.errors import PromptGymError


def content_key(input_text: str, target: str = "") -> str:
    """Return a stable hash of an example's content (16 hex digits; whitespace is folded)."""
    folded = " ".join(input_text.split()) + "\x1f" + " ".join(target.split())
    return hashlib.blake2b(folded.encode("utf-8", "surrogatepass"), digest_size=8).hexdigest()


def check_text(value: object, what: str) -> None:
    r"""Refuse what no model could read.

    Args:
        value: what was given for a text.
        what: how it is called.

    Raises:
        PromptGymError: for anything but a text, and for one with a half of a surrogate pair (bytes
            of a command line that are not UTF-8, "\ud800" in a JSON file).
    """
    if not isinstance(value, str):
        raise PromptGymError(f"{what} is a text, got {value!r}")
    at = lone_surrogate(value)
    if at is not None:
        raise PromptGymError(
            f"{what} is not valid Unicode at character {at + 1}: {value!r}; expected text that "
            "UTF-8 can write. Take the character out"
        )


def lone_surrogate(text: str) -> int | None:
    """Return where a text holds a half of a surrogate pair, which no tokenizer reads, or None."""
    if text.isascii():
        return None
    try:
        text.encode()
    except UnicodeEncodeError as error:
        return error.start
    return None


@dataclass(frozen=True, slots=True)
class Example:
    """One row of a task.

    Attributes:
        input: the text a model is asked about.
        target: the gold label or answer.
        key: content hash of `input` alone, made when not given: two rows with one input are one
            row as far as splits are concerned, whatever their labels.
        alternatives: further answers that are right, too (rhymes, translations).
    """

    input: str
    target: str
    key: str = ""
    alternatives: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        """Fill in the content hash; lists become tuples, so that examples are hashable.

        Raises:
            PromptGymError: for what is no text.
        """
        check_text(self.input, "an example's input")
        check_text(self.target, "an example's target")
        if not self.key:
            object.__setattr__(self, "key", content_key(self.input))
        if isinstance(self.alternatives, str):
            raise PromptGymError(
                f"an example's alternatives are a list of texts, got {self.alternatives!r}"
            )
        if not isinstance(self.alternatives, tuple):
            object.__setattr__(self, "alternatives", tuple(self.alternatives))
        for other in self.alternatives:
            check_text(other, "an example's alternative")

    @property
    def answers(self) -> tuple[str, ...]:
        """Every answer that is right, the target first."""
        return (self.target, *self.alternatives)

    def to_json(self) -> dict[str, Any]:
        """Return plain JSON values; `Example(**values)` reads them back."""
        out: dict[str, Any] = {"input": self.input, "target": self.target, "key": self.key}
        if self.alternatives:
            out["alternatives"] = list(self.alternatives)
        return out


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

    def __post_init__(self) -> None:
        """Make a list of demonstrations a tuple; a prompt must be hashable.

        Raises:
            PromptGymError: for what is no text, or no example.
        """
        check_text(self.instruction, "a prompt's instruction")
        if self.system != "":
            check_text(self.system, "a prompt's system message")
        if not isinstance(self.demonstrations, tuple):
            object.__setattr__(self, "demonstrations", tuple(self.demonstrations))
        for shown in self.demonstrations:
            if not isinstance(shown, Example):
                raise PromptGymError(f"a prompt's demonstrations are Examples, got {shown!r}")

    @classmethod
    def of(cls, value: Prompt | str | Mapping[str, Any]) -> Prompt:
        """Build a prompt from text, from `to_json` output, or return the prompt given.

        Raises:
            PromptGymError: for anything else, or for keys that a prompt does not have.
        """
        if isinstance(value, Prompt):
            return value
        if isinstance(value, str):
            return cls(value)
        if not isinstance(value, Mapping):
            raise PromptGymError(
                f"expected a prompt, a string or a dict, got {type(value).__name__}"
            )
        unknown = set(value) - {"instruction", "demonstrations", "system"}
        if unknown:
            raise PromptGymError(
                f"a prompt has no {', '.join(map(repr, sorted(unknown)))}; its keys are "
                "'instruction', 'demonstrations' and 'system'"
            )
        try:
            demonstrations = tuple(
                row if isinstance(row, Example) else Example(**row)
                for row in value.get("demonstrations", ())
            )
        except (TypeError, AttributeError) as error:
            raise PromptGymError(
                f"a demonstration is {{'input': text, 'target': text}}: {error}"
            ) from None
        return cls(value.get("instruction", ""), demonstrations, value.get("system", ""))

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
            out["demonstrations"] = [e.to_json() for e in self.demonstrations]
        if self.system:
            out["system"] = self.system
        return out


PromptsLike = Prompt | str | Sequence[Prompt | str]
"""One prompt or several, or their texts."""


def prompts_of(given: PromptsLike) -> tuple[Prompt, ...]:
    """Return what was given as prompts.

    Raises:
        PromptGymError: for what is neither a prompt nor a text.
    """
    return tuple(map(Prompt.of, [given] if isinstance(given, (Prompt, str)) else given))
