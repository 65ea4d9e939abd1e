"""Names that a site makes of names that somebody else chose: of files, of links, of text."""

from __future__ import annotations

import hashlib
import json
import re
from typing import Any
from urllib.parse import urlsplit

from promptgym.leaderboard.entries import Entry
from promptgym.prompts import Prompt
from promptgym.types import JSON

LONGEST_TEXT = 4000
"""Characters of a prompt that a page shows; the rest is counted."""


def file_id(name: str, *identity: Any) -> str:
    """Return a name for a file: what can be read of `name`, then what tells it from all others.

    Lower-case letters, digits and `-` only, at most 53 characters, never empty and never a name
    that an operating system keeps for itself.

    Args:
        name: as somebody chose it.
        identity: what the file is about, as JSON values; others get another name.
    """
    readable = re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-")[:40].strip("-")
    text = json.dumps([name, *identity], sort_keys=True, default=str)  # ASCII, whatever it holds
    return f"{readable or 'x'}-{hashlib.sha256(text.encode()).hexdigest()[:12]}"


def entry_id(entry: Entry) -> str:
    """Return the name of an entry's page; runs and descriptions may change without changing it."""
    kept = (entry.spec, entry.options, entry.shots, entry.start, entry.authors)
    return file_id(entry.name, *kept, entry.board)


def safe_url(url: str) -> str | None:
    """Return an address that may become a link: http or https with a host; None for others."""
    if not url.isprintable() or " " in url:
        return None
    try:
        parts = urlsplit(url)
    except ValueError:
        return None
    return url if parts.scheme in ("http", "https") and parts.hostname else None


def encodable(text: str) -> str:
    """Return text that can be written as UTF-8: half of a surrogate pair becomes `?`."""
    return text.encode("utf-8", "replace").decode("utf-8")


def prompt_text(prompt: JSON) -> str:
    """Return a prompt as plain text, cut where it is very long."""
    known = Prompt.of(prompt)
    parts = [f"[system] {known.system}"] if known.system else []
    parts += [f"{d.input} → {d.target}" for d in known.demonstrations]
    text = "\n".join([*parts, known.instruction])
    if len(text) > LONGEST_TEXT:
        return f"{text[:LONGEST_TEXT]} … ({len(text) - LONGEST_TEXT:,} more characters)"
    return text
