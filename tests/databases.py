"""Databases for tests: a PostgreSQL cluster of the tests' own, where the system has PostgreSQL."""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

USER = "postgres"


class Missing(Exception):
    """There is no PostgreSQL here; the message says what is missing."""


def program(name: str) -> str:
    """Return the path of a program of PostgreSQL; some systems keep them out of PATH."""
    found = shutil.which(name)
    if found is not None:
        return found
    kept = sorted(Path("/usr/lib/postgresql").glob(f"*/bin/{name}"))
    if not kept:
        raise Missing(f"no {name} found; install PostgreSQL to run this test")
    return str(kept[-1])


def as_owner(*command: str) -> None:
    """Run a command as a user that may own a cluster: root may not."""
    if os.geteuid() == 0:
        command = ("runuser", "-u", USER, "--", *command)
    try:
        subprocess.run(command, check=True, capture_output=True, text=True, cwd="/", timeout=120)
    except subprocess.CalledProcessError as error:
        raise Missing(f"{command[0]} failed: {error.stderr.strip()[-300:]}") from None
    except (OSError, subprocess.TimeoutExpired) as error:
        raise Missing(str(error)) from None


@contextmanager
def cluster() -> Iterator[str]:
    """Start a private cluster in a temporary folder; yield the folder of its socket.

    Raises:
        Missing: where that cannot be done.
    """
    initdb, pg_ctl = program("initdb"), program("pg_ctl")
    with tempfile.TemporaryDirectory(prefix="pg-", dir="/tmp") as name:
        data = Path(name) / "data"
        if os.geteuid() == 0:
            try:
                shutil.chown(name, USER)
            except LookupError:
                raise Missing(f"root cannot own a cluster and there is no user {USER!r}") from None
        as_owner(initdb, "-D", str(data), "-U", USER, "-A", "trust", "-N")
        options = f"-c listen_addresses='' -c unix_socket_directories={name} -c fsync=off"
        as_owner(pg_ctl, "-D", str(data), "-w", "-l", f"{name}/log", "-o", options, "start")
        try:
            yield name
        finally:
            as_owner(pg_ctl, "-D", str(data), "-w", "-m", "immediate", "stop")


def new_database(socket: str, name: str) -> str:
    """Make an empty database; return its URL."""
    import psycopg

    with psycopg.connect(f"host={socket} user={USER} dbname=postgres", autocommit=True) as server:
        server.execute(f'CREATE DATABASE "{name}"')  # type: ignore[arg-type]
    return f"postgresql://{USER}@/{name}?host={socket}"
