"""What an answer depends on: `Setting`, prompts and sets of examples, with their hashes."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from functools import cached_property
from json.encoder import encode_basestring_ascii

from promptgym.llms import LanguageModel, Sampling
from promptgym.prompts import Example, Prompt, Template
from promptgym.types import JSON

SCORING_VERSION = 1
"""Version of the code between a prompt and an answer; part of every key.

Raise it whenever rendering, a backend or the reading of answers changes what is said to the same
question by more than 1e-4 nats; what was stored before is then never read again.
"""

_encode = json.JSONEncoder(sort_keys=True, ensure_ascii=True, separators=(",", ":")).encode


def canonical(value: JSON | list[JSON]) -> str:
    """Return JSON text that is equal for equal values."""
    return _encode(value)


def digest(text: str) -> bytes:
    """Return a hash of a text, 16 bytes."""
    return hashlib.blake2b(text.encode(), digest_size=16).digest()


@dataclass(frozen=True)
class Setting:
    """Everything beside prompt and example that an answer depends on.

    Attributes:
        model: identity and revision.
        kind: causal, masked or seq2seq.
        mask: the model's mask token; "" for none.
        template: how prompt and input are laid out.
        demonstration: how one demonstration is.
        labels: the words scored, in order; None for generation.
        verbalizers: label -> the word that stands for it in demonstrations.
        decoding: fields of `Sampling`, its seed being the sample index; None for labels.
        version: `SCORING_VERSION` when it was asked.
    """

    model: str
    kind: str
    mask: str
    template: str
    demonstration: str
    labels: tuple[str, ...] | None
    verbalizers: Mapping[str, str] = field(default_factory=dict)
    decoding: JSON | None = None
    version: int = SCORING_VERSION

    @classmethod
    def of(
        cls,
        model: LanguageModel,
        template: Template,
        words: tuple[str, ...] | None,
        verbalizers: Mapping[str, str],
        sampling: Sampling,
    ) -> Setting:
        """Return the setting of a scorer."""
        decoding = None if words is not None else {**asdict(sampling), "stop": [*sampling.stop]}
        return cls(
            model=model.name,
            kind=model.kind,
            mask=model.mask_token,
            template=template.text,
            demonstration=template.demonstration,
            labels=words,
            verbalizers=dict(verbalizers),
            decoding=decoding,
        )

    @classmethod
    def from_json(cls, content: JSON) -> Setting:
        """Read what `to_json` wrote.

        Raises:
            TypeError: for keys that are missing or unknown.
        """
        labels = content.get("labels")
        return cls(**{**content, "labels": None if labels is None else tuple(labels)})

    def to_json(self) -> JSON:
        """Return plain JSON values."""
        return {**asdict(self), "labels": None if self.labels is None else list(self.labels)}

    @cached_property
    def content(self) -> str:
        """The setting as canonical JSON."""
        return canonical(self.to_json())

    @cached_property
    def key(self) -> bytes:
        """The hash of the content."""
        return digest(self.content)


@dataclass(frozen=True)
class ExampleSet:
    """Some examples in their order, the columns of a stored row.

    Attributes:
        examples: n examples.
    """

    examples: tuple[Example, ...]

    @classmethod
    def from_content(cls, content: str) -> ExampleSet:
        """Read what `content` is."""
        return cls(tuple(Example(**row) for row in json.loads(content)))

    def __len__(self) -> int:
        """Return n."""
        return len(self.examples)

    @cached_property
    def content(self) -> str:
        """The examples as canonical JSON."""
        return canonical([e.to_json() for e in self.examples])

    @cached_property
    def key(self) -> bytes:
        """The hash of the content."""
        return digest(self.content)


def prompt_content(prompt: Prompt) -> str:
    """Return a prompt as canonical JSON."""
    if not prompt.demonstrations and not prompt.system:  # the same, several times as fast
        return f'{{"instruction":{encode_basestring_ascii(prompt.instruction)}}}'
    return canonical(prompt.to_json())
