"""`RunFolder`: what a run leaves on disk, and the check that a resumed run is the same run."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from promptgym.errors import ConfigError
from promptgym.runs.events import EventLog, plain, read_events
from promptgym.types import JSON

CONFIG, EVENTS, RESULT = "config.json", "events.jsonl", "result.json"


def write_text(path: Path, text: str) -> None:
    """Write a file so that it is there whole or not at all."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        temporary.write_text(text, encoding="utf-8")
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


def write_json(path: Path, value: Any) -> None:
    """Write JSON (numpy values made plain, NaN as null), whole or not at all."""
    write_text(path, json.dumps(plain(value), indent=2, ensure_ascii=False) + "\n")


def differences(before: JSON, now: JSON, prefix: str = "") -> list[str]:
    """Return one line for every key at which two configurations differ, by its dotted name."""
    out: list[str] = []
    for key in sorted(set(before) | set(now)):
        name = f"{prefix}{key}"
        old, new = before.get(key), now.get(key)
        if isinstance(old, dict) and isinstance(new, dict):
            out += differences(old, new, f"{name}.")
        elif old != new or (key in before) != (key in now):
            was = json.dumps(old, ensure_ascii=False) if key in before else "not there"
            is_now = json.dumps(new, ensure_ascii=False) if key in now else "not there"
            out.append(f"{name} was {was}, is {is_now}")
    return out


class RunFolder:
    """A folder with `config.json`, `events.jsonl`, `checkpoints/`, `result.json` and the report.

    Attributes:
        path: the folder.
        config: what the run was started with, as plain JSON.
    """

    def __init__(self, path: Path, config: JSON) -> None:
        """Use `create`, `resume` or `open`."""
        self.path = path
        self.config = config

    @classmethod
    def create(cls, path: str | Path, config: JSON) -> RunFolder:
        """Start a run in a new or empty folder.

        Raises:
            ConfigError: if a run, or anything else, is there already.
        """
        path = Path(path)
        if (path / CONFIG).exists():
            raise ConfigError(
                f"{path} holds a run already; continue it with --resume, or give another --out"
            )
        if path.exists() and (not path.is_dir() or any(path.iterdir())):
            raise ConfigError(f"{path} exists and is not an empty folder; give another --out")
        config = plain(config)
        try:
            path.mkdir(parents=True, exist_ok=True)
            write_json(path / CONFIG, config)
        except OSError as error:
            raise ConfigError(
                f"{path} cannot be written to ({error.strerror}); give another --out"
            ) from None
        return cls(path, config)

    @classmethod
    def open(cls, path: str | Path) -> RunFolder:
        """Open a run that exists.

        Raises:
            ConfigError: if there is no run, or its config cannot be read.
        """
        path = Path(path)
        try:
            config = json.loads((path / CONFIG).read_text(encoding="utf-8"))
        except (FileNotFoundError, NotADirectoryError):
            raise ConfigError(f"{path} holds no run: there is no {CONFIG} in it") from None
        except (json.JSONDecodeError, UnicodeDecodeError) as error:
            raise ConfigError(f"{path / CONFIG} is not JSON ({error})") from None
        except OSError as error:
            raise ConfigError(f"{path / CONFIG} cannot be read ({error.strerror})") from None
        if not isinstance(config, dict):
            raise ConfigError(f"{path / CONFIG} must hold a JSON object")
        return cls(path, config)

    @classmethod
    def resume(cls, path: str | Path, config: JSON | None = None) -> RunFolder:
        """Open a run to continue it; an event line cut short by a kill is taken off the log.

        Args:
            path: the run folder.
            config: what the run would be started with now; None takes what it was started with.

        Raises:
            ConfigError: if there is no run, or a key of the config differs (each is named).
        """
        run = cls.open(path)
        if config is not None:
            run.check_same(config)
        run._drop_torn_line()
        return run

    def check_same(self, config: JSON) -> None:
        """Raise ConfigError naming every key in which `config` is not the run's own."""
        found = differences(self.config, plain(config))
        if found:
            raise ConfigError(
                f"{self.path} cannot be resumed with another configuration: {'; '.join(found)}; "
                "use the values it was started with, or start a new run with another --out"
            )

    def _drop_torn_line(self) -> None:
        """Cut an unfinished last line off the log, so that what is appended stays readable."""
        log = self.path / EVENTS
        if not log.exists():
            return
        data = log.read_bytes()
        if data and not data.endswith(b"\n"):
            with log.open("r+b") as file:
                file.truncate(data.rfind(b"\n") + 1)

    def discard(self) -> None:
        """Remove a run that could not start."""
        shutil.rmtree(self.path)

    @property
    def checkpoints(self) -> Path:
        """Where the optimizer keeps what it needs to go on; made on first use."""
        folder = self.path / "checkpoints"
        folder.mkdir(exist_ok=True)
        return folder

    @property
    def log(self) -> EventLog:
        """An appender to the run's event log."""
        return EventLog(self.path / EVENTS)

    def events(self) -> Iterator[JSON]:
        """Yield the run's events, oldest first; nothing if there are none yet."""
        if (self.path / EVENTS).exists():
            yield from read_events(self.path / EVENTS)

    @property
    def finished(self) -> bool:
        """Whether the run has a result."""
        return (self.path / RESULT).exists()

    def write_result(self, result: JSON) -> None:
        """Write `result.json`, whole or not at all."""
        write_json(self.path / RESULT, result)

    def result(self) -> JSON:
        """Read `result.json`.

        Raises:
            ConfigError: if the run is not finished.
        """
        if not self.finished:
            raise ConfigError(
                f"{self.path} has no {RESULT} yet; finish it with "
                f"`promptgym train --resume {self.path}`"
            )
        value: JSON = json.loads((self.path / RESULT).read_text(encoding="utf-8"))
        return value


def new_run_path(root: str | Path, name: str) -> Path:
    """Return the first of `root/name-1`, `root/name-2`, ... that does not exist."""
    number = 1
    while (path := Path(root) / f"{name}-{number}").exists():
        number += 1
    return path
