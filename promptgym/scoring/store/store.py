"""`ScoreStore`: the database behind a cache, opened when it is used and off when it fails."""

from __future__ import annotations

import os
import threading
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from promptgym.errors import CacheWarning

if TYPE_CHECKING:
    from sqlalchemy import Connection, Engine

T = TypeVar("T")


class ScoreStore:
    """A database of answers. Nothing is opened before it is used; troubles turn it off.

    Threads may share a store; a forked or unpickled one opens the database anew.

    Attributes:
        url: `sqlite:///PATH` or `postgresql+psycopg://...`.
        off: why the store is not used any more; "" while it is.
    """

    def __init__(self, url: str) -> None:
        """Name the place; `place.store_at` makes URLs of folders and files."""
        self.url = url
        self.off = ""
        self._engine: Engine | None = None
        self._owner = 0
        self._lock = threading.RLock()

    def __repr__(self) -> str:
        """Name the place, without a password."""
        from promptgym.scoring.store.database import shown

        return f"ScoreStore({shown(self.url)!r})"

    def __reduce__(self) -> tuple[type[ScoreStore], tuple[str]]:
        """Pickle the place, not the connection."""
        return ScoreStore, (self.url,)

    @property
    def path(self) -> Path | None:
        """The file given; None for a server."""
        prefix = "sqlite:///"
        return Path(self.url.removeprefix(prefix)) if self.url.startswith(prefix) else None

    def run(self, work: Callable[[Connection], T], default: T) -> T:
        """Do something in a transaction; `default` where the store is or goes off.

        A damaged file is set aside and the work done again on a new one.
        """
        from sqlalchemy.exc import SQLAlchemyError

        for attempt in (0, 1):
            if self.off:
                return default
            try:
                with self._open().begin() as connection:
                    return work(connection)
            except (SQLAlchemyError, OSError, ValueError) as error:
                self._trouble(error, last=attempt > 0)
        return default

    def _open(self) -> Engine:
        """Return the engine, opened if need be; a child process opens its own."""
        from promptgym.scoring.store.database import open_file, open_server

        with self._lock:
            if self._engine is not None and self._owner != os.getpid():
                self._engine.dispose(close=False)
                self._engine = None
            if self._engine is None:
                path = self.path
                if path is None:
                    self._engine = open_server(self.url)
                else:
                    self._engine, said = open_file(path)
                    for line in said:
                        warn(line)
                self._owner = os.getpid()
            return self._engine

    def vacuum(self) -> None:
        """Give the space of deleted rows back (SQLite; a server does that by itself)."""
        from sqlalchemy.exc import SQLAlchemyError

        try:
            with self._open().connect() as connection:
                connection.exec_driver_sql("VACUUM")
                connection.exec_driver_sql("PRAGMA wal_checkpoint(TRUNCATE)")
        except (SQLAlchemyError, OSError) as error:
            warn(f"{self!r}: the space of deleted rows could not be given back: {error}")

    def close(self) -> None:
        """Close all connections; the next use opens them again."""
        with self._lock:
            if self._engine is not None:
                self._engine.dispose(close=self._owner == os.getpid())
            self._engine = None

    def _trouble(self, error: Exception, *, last: bool) -> None:
        """Set a damaged file aside; turn the store off for anything else."""
        from promptgym.scoring.store.database import is_damage, repair, shown

        cause = getattr(error, "orig", None) or error
        with self._lock:
            path = self.path
            if not last and path is not None and is_damage(cause):
                if self._engine is not None:
                    path = Path(str(self._engine.url.database))
                self.close()
                try:
                    done = repair(path)
                except Exception as second:
                    cause = second
                else:
                    if done is not None:
                        warn(done)
                    return
            if not self.off:
                self.off = f"{type(cause).__name__}: {' '.join(str(cause).split())}"
                warn(f"the cache {shown(self.url)} is not used any more: {self.off}")
            self.close()


def warn(message: str) -> None:
    """Say what happened to the cache."""
    warnings.warn(message, CacheWarning, stacklevel=2)
