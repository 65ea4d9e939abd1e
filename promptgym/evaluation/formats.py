"""Formats of a prompt: the same words in other clothes, after FormatSpread (Sclar et al. 2023).

Their grammar writes a field as `casing(descriptor) + separator + text` and puts a space between
fields. Here the prompt is the descriptor: its words are cased, a separator follows, then a space,
then whatever the template has behind `{prompt}`. Input, template and special tokens stay as they
are, so a format is a prompt like any other. Their choices for enumerations and options have nothing
to apply to, and `<sep>` is left out, which would look like a special token.
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import dataclass, replace

from promptgym.errors import ConfigError
from promptgym.evaluation.perturbations import Cut, check_draws, generator
from promptgym.prompts import Prompt
from promptgym.types import JSON

FORMATS = 10  # of a prompt, its own included
CASINGS: dict[str, Callable[[str], str]] = {
    "as written": str,
    "title": str.title,
    "upper": str.upper,
    "lower": str.lower,
}
SEPARATORS = ("", ":", " :", "::", ":::", " -", " --", " ||", ";", ",", ".")
SPACES = ("", " ", "  ", "\t", "\n", " \n", "\n ", "\n\t", "\n    ")


@dataclass(frozen=True, slots=True)
class Format:
    """How a prompt is written.

    Attributes:
        casing: of its words, one of `CASINGS`.
        separator: the signs behind it, one of `SEPARATORS`.
        space: the whitespace behind those, one of `SPACES`.
    """

    casing: str = "as written"
    separator: str = ""
    space: str = ""

    def apply(self, prompt: Prompt, keep: Collection[str] = ()) -> Prompt:
        """Write a prompt's instruction in this format.

        Args:
            prompt: the prompt.
            keep: words and phrases whose casing stays; that of special tokens does always.
        """
        cut = Cut.of(prompt.instruction, keep)
        case = CASINGS[self.casing]
        words = [case(w) if free else w for w, free in zip(cut.words, cut.free, strict=True)]
        return replace(prompt, instruction=cut.text(words) + self.separator + self.space)

    def to_json(self) -> JSON:
        """Return plain JSON values; `Format(**values)` reads them back."""
        return {"casing": self.casing, "separator": self.separator, "space": self.space}


PLAIN = Format()


def formats(
    prompt: Prompt | str, *, seed: int = 0, count: int = FORMATS, keep: Collection[str] = ()
) -> list[Format]:
    """Return formats of a prompt, drawn without replacement, that write it differently.

    The first is the prompt as it stands. The draws depend on the instruction and the seed alone,
    and a longer list begins with the shorter one.

    Args:
        prompt: the prompt.
        seed: of the draws.
        count: how many at most.
        keep: see `Format.apply`.

    Returns:
        The formats; none for a prompt without words, which has nothing to be formatted.

    Raises:
        ConfigError: for fewer than one format or a negative seed.
    """
    prompt = Prompt.of(prompt)
    check_draws(seed=seed)
    if count < 1:
        raise ConfigError(f"formats: count must be at least 1, got {count}")
    if not prompt.words:
        return []
    grammar = [Format(c, mark, gap) for c in CASINGS for mark in SEPARATORS for gap in SPACES]
    rng = generator(prompt, "format", seed)
    order = [PLAIN, *(grammar[i] for i in rng.permutation(len(grammar)).tolist())]
    found: dict[Prompt, Format] = {}
    for drawn in order:
        found.setdefault(drawn.apply(prompt, keep), drawn)
        if len(found) == count:
            break
    return list(found.values())
