"""Texts as actions and observations: a declared character set, and what is done to the rest."""

from __future__ import annotations

import re
import string
import unicodedata
from collections.abc import Iterable, Mapping
from string import Formatter

from promptgym.errors import ConfigError

ASCII = frozenset(string.ascii_letters + string.digits + string.punctuation + " \n")
_PLAIN = str.maketrans(
    {
        **dict.fromkeys("\u2018\u2019\u201a\u2032", "'"),
        **dict.fromkeys("\u201c\u201d\u201e\u00ab\u00bb\u2033", '"'),
        **dict.fromkeys("\u2010\u2011\u2012\u2013\u2014\u2015\u2212", "-"),
        "\u2026": "...",
        **dict.fromkeys("\u2044\u2215\u00f7", "/"),
        **{"\u00d7": "x", "\u2260": "!=", "\u2264": "<=", "\u2265": ">=", "\u00b1": "+/-"},
        **{"\u2190": "<-", "\u2192": "->", "\u21d2": "=>", "\u2248": "~"},
        # Letters that Unicode does not take apart.
        **{"\u00e6": "ae", "\u00c6": "AE", "\u0153": "oe", "\u0152": "OE", "\u00df": "ss"},
        **{
            "\u00f8": "o",
            "\u00d8": "O",
            "\u0142": "l",
            "\u0141": "L",
            "\u0111": "d",
            "\u0110": "D",
        },
        **{"\u00f0": "d", "\u00d0": "D", "\u00fe": "th", "\u00de": "Th", "\u0131": "i"},
        "\u2022": "-",
        "\r": "\n",
    }
)


def characters(texts: Iterable[str], more: str = "") -> frozenset[str]:
    """Return printable ASCII, space, line break, and every other character of the texts.

    Args:
        texts: what will have to be written or shown, e.g. a task's data.
        more: further characters.
    """
    return ASCII | {c for text in (*texts, more) for c in text}


def clean(text: str, allowed: frozenset[str], limit: int | None = None) -> str:
    """Return a text in a character set, without space around it, at most `limit` characters long.

    What is outside the set is written with what is inside, where that says the same (typographic
    quotes, dashes, ligatures, fractions, powers, signs, other compatibility forms, letters without
    their accents); anything else becomes a space.
    """
    if any(c not in allowed for c in text):
        text = unicodedata.normalize("NFC", text.replace("\r\n", "\n"))
        text = "".join(
            c if c in allowed else _plain(c, before, allowed)
            for before, c in zip(" " + text, text, strict=False)
        )
    return text.strip()[:limit].strip()


def _plain(character: str, before: str, allowed: frozenset[str]) -> str:
    """Return what stands for a character that is not allowed, after the one before it."""
    form = unicodedata.decomposition(character)
    near = unicodedata.normalize("NFKD", character.translate(_PLAIN)).translate(_PLAIN)
    if before.isdigit() and form.startswith("<fraction>"):
        near = f" {near}"  # 1 1/2, which is not 11/2
    elif before.isalnum() and form.startswith("<super>") and near.isdigit():
        near = f"^{near}"  # 10^2, which is not 102
    kept = "".join(c if c in allowed else "" if unicodedata.combining(c) else " " for c in near)
    return kept if kept.strip() else "" if unicodedata.combining(character) else " "


def check_slots(template: str, needed: str, optional: Iterable[str], what: str) -> None:
    """Refuse a template without its needed `{slot}`, or with one that there is not.

    Raises:
        ConfigError: naming the slot.
    """
    known = (needed, *optional)
    shown = ", ".join(f"{{{name}}}" for name in known)
    try:
        names = [name for _, name, _, _ in Formatter().parse(template) if name is not None]
    except ValueError as error:
        raise ConfigError(f"{what} {template!r} is no template ({error}); slots: {shown}") from None
    if wrong := [name for name in names if name not in known]:
        raise ConfigError(f"{what} has the unknown slot {{{wrong[0]}}}; slots: {shown}")
    if needed not in names:
        raise ConfigError(f"{what} {template!r} must hold {{{needed}}}")


def fill(template: str, values: Mapping[str, str]) -> str:
    """Return a template with its slots filled; braces in the values mean nothing."""
    slots = "|".join(map(re.escape, values))
    return re.sub(f"{{({slots})}}", lambda found: values[found[1]], template)
