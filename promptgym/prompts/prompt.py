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
        """Fill in the content hash; lists become tuples, so that examples are hashable."""
        if not self.key:
            object.__setattr__(self, "key", content_key(self.input))
        if not isinstance(self.alternatives, tuple):
            object.__setattr__(self, "alternatives", tuple(self.alternatives))

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
        """Make a list of demonstrations a tuple; a prompt must be hashable."""
        if not isinstance(self.demonstrations, tuple):
            object.__setattr__(self, "demonstrations", tuple(self.demonstrations))

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
        for name in ("instruction", "system"):
            if not isinstance(value.get(name, ""), str):
                raise PromptGymError(f"a prompt's {name} is a text, got {value[name]!r}")
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
