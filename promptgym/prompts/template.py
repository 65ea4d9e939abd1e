"""`Template`: how a prompt and an example become the text a model reads."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from string import Formatter
from typing import Any

from promptgym.errors import TemplateError
from promptgym.prompts.prompt import Example, Prompt

PLACEHOLDERS = ("prompt", "input", "demonstrations", "mask", "answer", "system")


def _fields(text: str, what: str) -> list[str]:
    """Return the placeholders of a format string, refusing unknown ones."""
    try:
        names = [name for _, name, _, _ in Formatter().parse(text) if name is not None]
    except ValueError as error:
        raise TemplateError(
            f"{what} {text!r} is not a format string ({error}); write literal braces as {{{{ }}}}"
        ) from None
    for name in names:
        if name not in PLACEHOLDERS:
            raise TemplateError(
                f"{what} {text!r} has the unknown placeholder {{{name}}}; allowed: "
                + ", ".join(f"{{{p}}}" for p in PLACEHOLDERS)
            )
    return names


@dataclass(frozen=True, slots=True)
class Template:
    """A text with placeholders; prompt-first and input-first are both just an order of them.

    Attributes:
        text: e.g. `"{input} {prompt} {mask} ."` or `"{demonstrations}{prompt}\\n{input}\\nAnswer:"`.
            `{input}` is required. `{mask}` becomes the model's mask token. `{answer}` may stand
            only at the very end, where the answer is to follow; it renders as nothing.
        demonstration: how one demonstration is rendered, with `{input}` and `{answer}`; every
            rendered demonstration is followed by nothing, so put separators inside.
    """

    text: str
    demonstration: str = "{input} {answer}\n"

    def __post_init__(self) -> None:
        """Refuse a template that cannot render."""
        names = _fields(self.text, "template")
        if "input" not in names:
            raise TemplateError(f"template {self.text!r} has no {{input}}")
        if names.count("mask") > 1:
            raise TemplateError(f"template {self.text!r} has more than one {{mask}}")
        if "answer" in names and not re.search(r"\{answer\}\s*$", self.text):
            raise TemplateError(
                f"template {self.text!r}: {{answer}} may stand only at the end, where the model's "
                "answer follows; use {mask} for a masked model"
            )
        inner = _fields(self.demonstration, "demonstration")
        if set(inner) != {"input", "answer"}:
            raise TemplateError(
                f"demonstration {self.demonstration!r} must hold {{input}} and {{answer}} only"
            )

    @property
    def has_mask(self) -> bool:
        """Whether the answer stands at a mask."""
        return "{mask}" in self.text

    @property
    def has_demonstrations(self) -> bool:
        """Whether demonstrations are rendered at all."""
        return "{demonstrations}" in self.text

    def render(
        self,
        prompt: Prompt,
        example: Example | str,
        *,
        mask: str = "",
        verbalizers: Mapping[str, str] | None = None,
    ) -> str:
        """Return the text a model reads for one prompt and one example.

        Args:
            prompt: the prompt; its demonstrations are dropped if the template has no place for
                them, which is refused as a mistake.
            example: the example, or its input text.
            mask: the model's mask token.
            verbalizers: label -> the words that stand for it in demonstrations.

        Returns:
            The rendered text, trailing space before the answer removed.

        Raises:
            TemplateError: for demonstrations without `{demonstrations}`, or a mask template with
                no mask token.
        """
        if prompt.demonstrations and not self.has_demonstrations:
            raise TemplateError(
                f"template {self.text!r} has no {{demonstrations}}, but the prompt has "
                f"{len(prompt.demonstrations)}"
            )
        if self.has_mask and not mask:
            raise TemplateError(
                f"template {self.text!r} has a {{mask}}, but the model has no mask token"
            )
        words: Mapping[str, str] = verbalizers or {}
        fill: dict[str, Any] = {
            "prompt": prompt.instruction,
            "input": example if isinstance(example, str) else example.input,
            "demonstrations": "".join(
                self.demonstration.format(input=d.input, answer=words.get(d.target, d.target))
                for d in prompt.demonstrations
            ),
            "mask": mask,
            "answer": "",
            "system": prompt.system,
        }
        text = self.text
        for name in ("prompt", "demonstrations", "system"):
            if not fill[name]:  # an empty part leaves no doubled space behind
                text = re.sub(rf" \{{{name}\}}(?= |$)|^\{{{name}\}} ", "", text)
        return text.format(**fill).rstrip()
