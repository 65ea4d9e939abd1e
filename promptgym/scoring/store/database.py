"""Tables, engines, and what to do with a file that cannot be used. Imports SQLAlchemy."""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any, Literal

from sqlalchemy import (
    BigInteger,
    Column,
    ColumnElement,
    Connection,
    Dialect,
    Engine,
    Float,
    Insert,
    Integer,
    LargeBinary,
    MetaData,
    Table,
    Text,
    TypeDecorator,
    any_,
    bindparam,
    create_engine,
    event,
)
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.engine import URL, make_url

LAYOUT = 1
"""Version of the tables below; it stands in their names."""
APPLICATION = 0x50474D43
"""SQLite's application id of our files ("PGMC")."""
WAIT = 60.0
"""Seconds to wait for another process's write."""
DAMAGED = {sqlite3.SQLITE_IOERR, sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB}


class Bytes(TypeDecorator[bytes]):
    """A blob that is handed on as the driver gives it: both drivers give bytes."""

    impl = LargeBinary
    cache_ok = True

    def result_processor(self, dialect: Dialect, coltype: object) -> None:
        """Process nothing: this runs once a value of a large read."""


metadata = MetaData()
settings = Table(
    f"promptgym_settings_{LAYOUT}",
    metadata,
    Column("key", LargeBinary(16), primary_key=True),
    Column("content", Text, nullable=False),
)
example_sets = Table(
    f"promptgym_examples_{LAYOUT}",
    metadata,
    Column("key", LargeBinary(16), primary_key=True),
    Column("size", Integer, nullable=False),
    Column("content", LargeBinary, nullable=False),  # canonical JSON, deflated
)
prompts = Table(
    f"promptgym_prompts_{LAYOUT}",
    metadata,
    Column("key", LargeBinary(16), primary_key=True),
    Column("content", Text, nullable=False),
)
answers = Table(
    f"promptgym_answers_{LAYOUT}",
    metadata,
    Column("setting", LargeBinary(16), primary_key=True),
    Column("prompt", Bytes(16), primary_key=True),
    Column("examples", Bytes(16), primary_key=True),
    Column("answers", Bytes, nullable=False),
    Column("tokens", Bytes, nullable=False),
    Column("check", BigInteger, nullable=False),
    Column("written", Float, nullable=False),  # seconds since 1970
)


def insert(table: Table, dialect: str) -> Insert:
    """Return an INSERT that leaves rows alone whose key is there already."""
    if dialect == "postgresql":
        return postgresql.insert(table).on_conflict_do_nothing()
    return sqlite.insert(table).on_conflict_do_nothing()


def among(column: ColumnElement[bytes], name: str, connection: Connection) -> ColumnElement[bool]:
    """Return the condition that a column is one of the values of a parameter.

    PostgreSQL takes them as one array, which costs it half the time of a list of parameters.
    """
    if connection.dialect.name == "postgresql":
        return column == any_(bindparam(name, type_=postgresql.ARRAY(LargeBinary)))
    return column.in_(bindparam(name, expanding=True))


def shown(url: str) -> str:
    """Return a URL or path without a password."""
    if url.startswith("sqlite:///"):
        return url.removeprefix("sqlite:///")
    return make_url(url).render_as_string(hide_password=True)


def open_server(url: str) -> Engine:
    """Open a database server and make the tables that are missing."""
    from psycopg import Cursor, pq

    class BinaryCursor(Cursor[Any]):
        """Has rows sent as they are, not as text."""

        def __init__(self, *args: Any, **kwargs: Any) -> None:
            super().__init__(*args, **kwargs)
            self.format = pq.Format.BINARY

    arguments = {"connect_timeout": 10, "cursor_factory": BinaryCursor}
    engine = create_engine(url, pool_pre_ping=True, connect_args=arguments)
    with engine.begin() as connection:
        # Two processes that make the same table at once would trip over each other.
        connection.exec_driver_sql(f"SELECT pg_advisory_xact_lock({APPLICATION})")
        metadata.create_all(connection)
    return engine


def open_file(path: Path) -> tuple[Engine, list[str]]:
    """Open a SQLite file in WAL mode, making it if need be.

    Returns:
        The engine, and what was found in the way, a line each.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    said: list[str] = []
    with locked(path):
        found = state_of(path)
        if found == "foreign":
            beside = path.with_name(f"{path.stem}-promptgym{path.suffix}")
            said.append(
                f"{path} is a database of another program; it is left alone, scores are kept in "
                f"{beside}"
            )
            path, found = beside, state_of(beside)
        if found in ("broken", "foreign"):
            aside = set_aside(path)
            said.append(
                f"{path} is damaged, no database or of another version; it was set aside as "
                f"{aside.name} and a new cache was begun"
            )
        engine = create_engine(
            URL.create("sqlite", database=str(path)), connect_args={"timeout": WAIT}
        )
        event.listen(engine, "connect", _prepare)
        with engine.begin() as connection:
            metadata.create_all(connection)
            connection.exec_driver_sql(f"PRAGMA application_id = {APPLICATION}")
    return engine, said


def _prepare(connection: sqlite3.Connection, _: Any) -> None:
    """Set up a connection: WAL, so that readers and a writer do not wait for each other."""
    for pragma in ("journal_mode = WAL", "synchronous = NORMAL", "cache_size = -65536"):
        connection.execute(f"PRAGMA {pragma}")


def state_of(path: Path, *, thorough: bool = False) -> Literal["new", "ours", "foreign", "broken"]:
    """Say what a file is.

    Args:
        path: the file; it may be missing.
        thorough: read all of it, not its beginning only.

    Raises:
        OSError, sqlite3.OperationalError: if it cannot be read at all.
    """
    if not path.exists() or not path.stat().st_size:
        return "new"
    with path.open("rb") as file:
        if file.read(16) != b"SQLite format 3\0":
            return "broken"
    try:
        with closing(sqlite3.connect(path, timeout=WAIT)) as connection:
            tables = [row[0] for row in connection.execute("SELECT name FROM sqlite_master")]
            application = connection.execute("PRAGMA application_id").fetchone()[0]
            known = [table for table in metadata.tables.values() if table.name in tables]
            fits = all(_has_columns(connection, table) for table in known)
            if thorough and connection.execute("PRAGMA quick_check(1)").fetchone()[0] != "ok":
                return "broken"
    except sqlite3.DatabaseError as error:
        if is_damage(error):
            return "broken"
        raise
    if application == APPLICATION:
        return "ours" if fits else "broken"
    return "ours" if not tables or (known and fits) else "foreign"


def _has_columns(connection: sqlite3.Connection, table: Table) -> bool:
    """Return whether a file's table of this name has all our columns."""
    found = {row[1] for row in connection.execute(f'PRAGMA table_info("{table.name}")')}
    return found >= {column.name for column in table.columns}


def is_damage(error: BaseException | None) -> bool:
    """Return whether an error of SQLite means that the file is damaged or no database."""
    code = getattr(error, "sqlite_errorcode", None)
    return code is not None and code & 0xFF in DAMAGED


def set_aside(path: Path) -> Path:
    """Rename a file, and its log, out of the way; return the new name."""
    stamp = time.strftime("%Y%m%d-%H%M%S")
    number = 0
    while (aside := path.with_name(f"{path.name}.broken-{stamp}-{number}")).exists():
        number += 1
    for suffix in ("-wal", "-shm", ""):
        part = path.with_name(path.name + suffix)
        if part.exists():
            part.rename(aside.with_name(aside.name + suffix))
    return aside


def repair(path: Path) -> str | None:
    """Set a file aside that SQLite complained about, unless another process did so already.

    Returns:
        What was done, or None if the file is whole.
    """
    with locked(path):
        if state_of(path, thorough=True) in ("new", "ours"):
            return None
        return f"{path} is damaged; it was set aside as {set_aside(path).name}"


@contextmanager
def locked(path: Path) -> Iterator[None]:
    """Hold the lock of a file against other processes (where the system has such locks)."""
    try:
        import fcntl
    except ImportError:  # Windows: there an open file cannot be renamed under its users anyway
        yield
        return
    with path.with_name(f"{path.name}.lock").open("a") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield
