"""API keys: read from the environment, sent in one header, shown nowhere."""

from __future__ import annotations

import os
import re
from typing import NoReturn
from urllib.parse import quote

from promptgym.errors import ModelError

HIDDEN = "***"
SHORTEST = 12  # characters of a key that is looked for in names and options
DEFAULT_VARIABLE = "PROMPTGYM_API_KEY"
_NAME = re.compile(r"[A-Z_][A-Z0-9_]*")
_LOOKS_SECRET = re.compile(
    r"(?i)(?<=bearer )[^\s\"',}]+|(?<=://)[^/@\s]+(?=@)|\b(?:sk|hf|gsk)[-_][\w*-]{8,}"
)


class Key:
    """A secret. Its text leaves this object in the header of a request and nowhere else."""

    __slots__ = ("_value",)

    def __init__(self, value: str = "") -> None:
        """Take the secret; "" is no key."""
        self._value = value

    def __bool__(self) -> bool:
        """Return whether there is a key."""
        return bool(self._value)

    def __repr__(self) -> str:
        """Say whether there is a key, not which."""
        return "Key(set)" if self else "Key(none)"

    def __reduce__(self) -> NoReturn:
        """Refuse to be pickled or copied to anywhere."""
        raise TypeError("an API key is read from the environment, it is not pickled")

    def headers(self) -> dict[str, str]:
        """Return the authorization header; empty without a key."""
        return {"Authorization": f"Bearer {self._value}"} if self else {}

    def stands_in(self, text: str) -> bool:
        """Return whether a text holds this key, as it is or as an address writes it.

        What is shorter than any real key ("EMPTY", "local") may stand in a text by chance.
        """
        return len(self._value) >= SHORTEST and any(form in text for form in self._forms())

    def _forms(self) -> tuple[str, ...]:
        """Return the ways in which the key may be written."""
        return self._value, quote(self._value, safe="")

    def scrub(self, text: str) -> str:
        """Return a text with this key, and whatever else looks like one, replaced by `***`."""
        if self:
            for form in self._forms():
                text = text.replace(form, HIDDEN)
        return _LOOKS_SECRET.sub(HIDDEN, text)


def read_key(spec: str, host: str, variable: str | None) -> Key:
    """Read the key of a server from the environment.

    Args:
        spec: the model, for messages.
        host: the server's host. `OPENAI_API_KEY` goes to api.openai.com by itself, to no other.
        variable: the environment variable that must hold the key; None: `OPENAI_API_KEY` for
            api.openai.com, else `PROMPTGYM_API_KEY`, and no key if that is not set.

    Raises:
        ModelError: the variable is not set, or what it holds cannot be sent in a header. The
            message has the variable's name, never its value.
    """
    if variable is not None and not _NAME.fullmatch(variable):
        raise ModelError(
            f"model {spec!r}: key_env is the NAME of an environment variable that holds the key "
            "(capitals, digits and _); what was given is not one, and is not shown here in case it "
            "is the key itself"
        )
    name = variable or ("OPENAI_API_KEY" if host == "api.openai.com" else DEFAULT_VARIABLE)
    value = os.environ.get(name, "").strip()
    if not value and variable is not None:
        raise ModelError(
            f"model {spec!r}: the environment variable {name} holds no key; set it, or leave out "
            "key_env for a server that wants none"
        )
    if not (value.isascii() and value.isprintable()) or " " in value:
        raise ModelError(
            f"model {spec!r}: the environment variable {name} holds spaces or characters that "
            "cannot stand in a header; expected a key and nothing else"
        )
    return Key(value)
