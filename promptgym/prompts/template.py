"""`Template`: how a prompt and an example become the text a model reads."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from string import Formatter

from promptgym.errors import TemplateError
from promptgym.prompts.prompt import Example, Prompt, lone_surrogate

PLACEHOLDERS = ("prompt", "input", "demonstrations", "mask", "answer", "system")
_OPTIONAL = frozenset({"prompt", "demonstrations", "system"})
_GAPS = (" ", "\n")

Segments = tuple[tuple[str, str | None], ...]


@cache
def _segments(text: str, what: str) -> Segments:
    """Split a format string into (literal, placeholder that follows or None).

    Raises:
        TemplateError: for text that is no format string, or an unknown placeholder.
    """
    allowed = ", ".join(f"{{{p}}}" for p in PLACEHOLDERS)
    out: list[tuple[str, str | None]] = []
    try:
        for literal, name, spec, conversion in Formatter().parse(text):
            if name is not None and (name not in PLACEHOLDERS or spec or conversion):
                shown = (
                    name + (f"!{conversion}" if conversion else "") + (f":{spec}" if spec else "")
                )
                raise TemplateError(
                    f"{what} {text!r} has the unknown placeholder {{{shown}}}; allowed: {allowed}"
                )
            out.append((literal, name))
    except TemplateError:
        raise
    except ValueError as error:
        raise TemplateError(
            f"{what} {text!r} is not a format string ({error}); write literal braces as {{{{ }}}}"
        ) from None
    return tuple(out)


def _names(segments: Segments) -> list[str]:
    return [name for _, name in segments if name is not None]


@dataclass(frozen=True, slots=True)
class Template:
    r"""A text with placeholders; prompt-first and input-first are both just an order of them.

    Attributes:
        text: e.g. `"{input} {prompt} {mask} ."` or `"{demonstrations}{prompt}\n{input}\nAnswer:"`.
            `{input}` is required. `{mask}` becomes the model's mask token. `{answer}` may stand
            only at the very end, where the answer is to follow; it renders as nothing.
        demonstration: how one demonstration is rendered, with `{input}` and `{answer}`; every
            rendered demonstration is followed by nothing, so put separators inside.
    """

    text: str
    demonstration: str = "{input} {answer}\n"

    def __post_init__(self) -> None:
        """Refuse a template that cannot render."""
        if not isinstance(self.text, str) or not isinstance(self.demonstration, str):
            raise TemplateError(f"a template is made of texts, got {self}")
        if lone_surrogate(self.text + self.demonstration) is not None:
            raise TemplateError(f"a template is valid Unicode, got {self}; take the character out")
        segments = _segments(self.text, "template")
        names = _names(segments)
        if "input" not in names:
            raise TemplateError(f"template {self.text!r} has no {{input}}")
        if names.count("mask") > 1:
            raise TemplateError(f"template {self.text!r} has more than one {{mask}}")
        if "answer" in names:
            last = next(i for i, (_, name) in enumerate(segments) if name == "answer")
            if any(literal.strip() or name for literal, name in segments[last + 1 :]):
                raise TemplateError(
                    f"template {self.text!r}: {{answer}} may stand only at the end, where the "
                    "model's answer follows; use {mask} for a masked model"
                )
            if "mask" in names:
                raise TemplateError(f"template {self.text!r} has both {{mask}} and {{answer}}")
        if set(_names(_segments(self.demonstration, "demonstration"))) != {"input", "answer"}:
            raise TemplateError(
                f"demonstration {self.demonstration!r} must hold {{input}} and {{answer}} only"
            )

    @property
    def has_mask(self) -> bool:
        """Whether the answer stands at a mask."""
        return "mask" in _names(_segments(self.text, "template"))

    @property
    def has_prompt(self) -> bool:
        """Whether the instruction is rendered at all."""
        return "prompt" in _names(_segments(self.text, "template"))

    @property
    def has_system(self) -> bool:
        """Whether a system message is rendered at all."""
        return "system" in _names(_segments(self.text, "template"))

    @property
    def has_demonstrations(self) -> bool:
        """Whether demonstrations are rendered at all."""
        return "demonstrations" in _names(_segments(self.text, "template"))

    def render_demonstration(
        self, example: Example, verbalizers: Mapping[str, str] | None = None
    ) -> str:
        """Return one solved example as it stands at `{demonstrations}`."""
        answer = (verbalizers or {}).get(example.target, example.target)
        fill = {"input": example.input, "answer": answer}
        return _fill(_segments(self.demonstration, "demonstration"), fill)

    def render(
        self,
        prompt: Prompt,
        example: Example | str,
        *,
        mask: str = "",
        verbalizers: Mapping[str, str] | None = None,
    ) -> str:
        """Return the text a model reads for one prompt and one example.

        An empty `{prompt}`, `{demonstrations}` or `{system}` takes one adjacent space or line break
        with it, so that it leaves no gap. Where the answer is to follow the text, trailing spaces
        are removed; around a mask, prompt and input stay as they are, to the character.

        Args:
            prompt: the prompt.
            example: the example, or its input text.
            mask: the model's mask token.
            verbalizers: label -> the words that stand for it in demonstrations.

        Returns:
            The rendered text.

        Raises:
            TemplateError: for demonstrations without `{demonstrations}`, for a system message
                without `{system}`, or for a mask template with no mask token. (A prompt that
                holds the mask token itself is rendered as it is; the masked model records such a
                text as a failure.)
        """
        segments = _segments(self.text, "template")
        if prompt.demonstrations and not self.has_demonstrations:
            raise TemplateError(
                f"template {self.text!r} has no {{demonstrations}}, but the prompt has "
                f"{len(prompt.demonstrations)}"
            )
        if prompt.system and not self.has_system:
            raise TemplateError(
                f"template {self.text!r} has no {{system}}, but the prompt has the system message "
                f"{prompt.system!r}; say where it stands"
            )
        fill = {
            "prompt": prompt.instruction,
            "input": example if isinstance(example, str) else example.input,
            "demonstrations": "".join(
                self.render_demonstration(d, verbalizers) for d in prompt.demonstrations
            ),
            "mask": mask,
            "answer": "",
            "system": prompt.system,
        }
        text = _fill(segments, fill)
        if not self.has_mask:
            return text.rstrip(" ")
        if not mask:
            raise TemplateError(
                f"template {self.text!r} has a {{mask}}, but the model has no mask token"
            )
        return text


def _fill(segments: Segments, fill: Mapping[str, str]) -> str:
    """Join literals and values; an empty optional value takes one adjacent gap with it."""
    out: list[str] = []
    swallow = False  # whether the next literal loses its first gap
    for i, (literal, name) in enumerate(segments):
        if swallow and literal.startswith(_GAPS):
            literal = literal[1:]
        swallow = False
        if literal:
            out.append(literal)
        if name is None:
            continue
        value = fill[name]
        if value:
            out.append(value)
        elif name in _OPTIONAL:
            follows = segments[i + 1][0] if i + 1 < len(segments) else ""
            at_end = i + 1 == len(segments)
            if not out or out[-1].endswith("\n"):
                swallow = True
            elif literal.endswith(" ") and (at_end or follows.startswith(_GAPS)):
                out[-1] = literal[:-1]
    return "".join(out)
