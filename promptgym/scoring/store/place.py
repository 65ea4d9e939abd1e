"""Where the cache lies, and whether it is used."""

from __future__ import annotations

import importlib.util
import os
import threading
from pathlib import Path

from promptgym.errors import ConfigError, ExtraMissingError
from promptgym.llms import LanguageModel
from promptgym.scoring.asking import is_remote
from promptgym.scoring.store.store import ScoreStore

VARIABLE = "PROMPTGYM_CACHE"
FILE = "scores.sqlite"
SUFFIXES = (".sqlite", ".sqlite3", ".db")
CacheSpec = bool | str | Path | ScoreStore | None
"""None: as the model says; True, "on", False, "off"; a folder, a file, a URL; an open store."""

_stores: dict[str, ScoreStore] = {}
_lock = threading.Lock()


def default_place() -> str:
    """Return what `PROMPTGYM_CACHE` names, else `~/.cache/promptgym`."""
    given = os.environ.get(VARIABLE, "").strip()
    if given:
        return given
    home = os.environ.get("XDG_CACHE_HOME") or "~/.cache"
    return str(Path(home).expanduser() / "promptgym")


def open_store(cache: CacheSpec, model: LanguageModel) -> ScoreStore | None:
    """Return the store that a `cache` argument means for a model, or None for none.

    Args:
        cache: None for the default (on for models asked over a network, off for others); True or
            "on" for the default place; False or "off" for none; else the place itself.
        model: the model that is to be asked.

    Raises:
        ConfigError: for a place that cannot be one.
        ExtraMissingError: for PostgreSQL without its driver.
    """
    if isinstance(cache, ScoreStore):
        return cache
    if cache is None:
        cache = is_remote(model)
    if cache is False or cache == "off":
        return None
    return store_at(default_place() if cache is True or cache == "on" else cache)


def store_at(place: str | Path) -> ScoreStore:
    """Return the store of a place, one a process; nothing is opened yet.

    Args:
        place: a folder (which gets `scores.sqlite`), a file that ends in .sqlite, .sqlite3 or .db,
            or a URL `postgresql://user:password@host/database`.

    Raises:
        ConfigError: for a place that cannot be one.
        ExtraMissingError: for PostgreSQL without its driver.
    """
    url = url_of(place)
    with _lock:
        if url not in _stores:
            _stores[url] = ScoreStore(url)
        return _stores[url]


def url_of(place: str | Path) -> str:
    """Return the database URL of a place; the message of an error never holds a password."""
    if not isinstance(place, (str, Path)) or not str(place).strip():
        raise ConfigError(
            f"cache: {place!r} is no place; expected True or False, a folder, a file that ends in "
            ".sqlite, or postgresql://user@host/database"
        )
    text = str(place)
    if "://" in text:
        scheme, _, rest = text.partition("://")
        if scheme in ("postgresql", "postgres", "postgresql+psycopg"):
            if importlib.util.find_spec("psycopg") is None:
                raise ExtraMissingError(
                    "a cache in PostgreSQL needs its driver: pip install 'promptgym[postgres]'"
                )
            return f"postgresql+psycopg://{rest}"
        if scheme != "sqlite":
            raise ConfigError(
                f"cache: a URL of {scheme!r} is not supported; expected postgresql://..., a folder "
                "or a file that ends in .sqlite"
            )
        text = rest.removeprefix("/")
    path = Path(text).expanduser()
    if path.suffix not in SUFFIXES:
        if path.is_file():
            raise ConfigError(
                f"cache: {path} is a file; expected a folder, or a file that ends in "
                f"{', '.join(SUFFIXES)}"
            )
        path = path / FILE
    return f"sqlite:///{path.absolute()}"
