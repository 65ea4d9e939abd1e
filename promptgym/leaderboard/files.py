"""Reading what strangers sent: JSON and compressed lines, within bounds, nothing ever executed.

A submission is two files of a folder. They are read as data only: no pickle, no code, no path of
theirs is followed, and whatever is larger than `Limits` is refused before it is in memory.
"""

from __future__ import annotations

import hashlib
import json
import lzma
import math
import os
import stat
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn

from promptgym.errors import ConfigError
from promptgym.types import JSON

MANIFEST, LOG = "submission.json", "log.jsonl.xz"
CHUNK = 1 << 20
DIGITS = 20
"""Digits of a whole number, at most."""
DEPTH = 40
"""How deep JSON may be nested."""


class Refused(ConfigError):
    """A submission that is not what its format says."""


@dataclass(frozen=True, slots=True)
class Limits:
    """What is read of a submission at most, in bytes.

    Attributes:
        manifest: of `submission.json`.
        packed: of the log as it lies there.
        unpacked: of the log in all, unpacked.
        line: of one of its lines.
        memory: that unpacking may use.
    """

    manifest: int = 8 << 20
    packed: int = 64 << 20
    unpacked: int = 1 << 30
    line: int = 32 << 20
    memory: int = 256 << 20


LIMITS = Limits()


def check_folder(folder: Path, limits: Limits = LIMITS) -> None:
    """Refuse a folder that holds anything but the two files of a submission.

    Raises:
        Refused: naming what is there, or missing, or too large.
    """
    if folder.is_symlink() or not folder.is_dir():
        raise Refused(f"{folder} is no folder; a submission is one, with {MANIFEST} and {LOG}")
    found = sorted(os.listdir(folder))
    if extra := [name for name in found if name not in (MANIFEST, LOG)]:
        raise Refused(f"{extra[0]!r} is no part of a submission, which is {MANIFEST} and {LOG}")
    for name, most in ((MANIFEST, limits.manifest), (LOG, limits.packed)):
        if name not in found:
            raise Refused(f"there is no {name}")
        about = os.lstat(folder / name)
        if not stat.S_ISREG(about.st_mode):
            raise Refused(f"{name} is no regular file (a link, perhaps); it must lie in the folder")
        if about.st_size > most:
            raise Refused(f"{name} has {about.st_size:,} bytes; at most {most:,} are read")


def read_manifest(folder: Path, limits: Limits = LIMITS) -> Any:
    """Return what `submission.json` holds.

    Raises:
        Refused: if it is no JSON, or too large.
    """
    with (folder / MANIFEST).open("rb") as file:
        data = file.read(limits.manifest + 1)
    if len(data) > limits.manifest:
        raise Refused(f"{MANIFEST} has more than {limits.manifest:,} bytes")
    return parse(data, MANIFEST)


def log_digest(folder: Path) -> str:
    """Return the SHA-256 of the log as it lies there."""
    with (folder / LOG).open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def read_log(folder: Path, limits: Limits = LIMITS) -> Iterator[JSON]:
    """Yield the rows of the log, unpacking as it goes.

    Raises:
        Refused: naming the line that is no JSON object, or the limit that is crossed.
    """
    for number, line in enumerate(_lines(folder / LOG, limits), 1):
        row = parse(line, f"{LOG}, line {number}")
        if not isinstance(row, dict):
            raise Refused(f"{LOG}, line {number}: not a JSON object")
        yield row


def _lines(path: Path, limits: Limits) -> Iterator[bytes]:
    """Yield the lines of a compressed file."""
    unpacker = lzma.LZMADecompressor(format=lzma.FORMAT_XZ, memlimit=limits.memory)
    total, rest = 0, b""
    with path.open("rb") as file:
        while not unpacker.eof:
            packed = file.read(CHUNK) if unpacker.needs_input else b""
            if unpacker.needs_input and not packed:
                raise Refused(f"{LOG} is cut short")
            try:
                data = unpacker.decompress(packed, max_length=CHUNK)
            except (lzma.LZMAError, MemoryError) as error:
                raise Refused(f"{LOG} is no xz file that can be unpacked ({error})") from None
            total += len(data)
            if total > limits.unpacked:
                raise Refused(f"{LOG} unpacks to more than {limits.unpacked:,} bytes")
            *whole, rest = (rest + data).split(b"\n")
            if len(rest) > limits.line:
                raise Refused(f"{LOG} has a line of more than {limits.line:,} bytes")
            yield from whole
        if unpacker.unused_data or file.read(1):
            raise Refused(f"{LOG} holds something behind its end")
    if rest:
        raise Refused(f"{LOG} does not end with a whole line")


def parse(data: bytes, what: str) -> Any:
    """Return the value of JSON text, strictly: UTF-8, finite numbers, no key twice, not too deep.

    Raises:
        Refused: saying what is wrong with it.
    """
    try:
        value = json.loads(
            data.decode("utf-8"),
            object_pairs_hook=_once,
            parse_constant=_finite,
            parse_float=_float,
            parse_int=_int,
        )
    except RecursionError:
        raise Refused(f"{what}: nested too deep") from None
    except ValueError as error:
        raise Refused(f"{what}: not JSON as it is written here ({error})") from None
    if _depth(value) > DEPTH:
        raise Refused(f"{what}: nested too deep")
    return value


def _once(pairs: list[tuple[str, Any]]) -> JSON:
    """Return an object whose keys stand once."""
    out = dict(pairs)
    if len(out) != len(pairs):
        raise ValueError("a key stands twice")
    return out


def _finite(text: str) -> NoReturn:
    """Refuse NaN and infinities."""
    raise ValueError(f"{text} is no number of JSON")


def _float(text: str) -> float:
    """Return a number; `1e400` would be infinite."""
    value = float(text)
    return value if math.isfinite(value) else _finite(text)


def _int(text: str) -> int:
    """Return a whole number that other types of numbers hold, too."""
    if len(text) > DIGITS:
        raise ValueError(f"a number of {len(text)} digits")
    return int(text)


def _depth(value: Any) -> int:
    """Return how deep a value is nested, without recursion."""
    depth, level = 0, [value]
    while level:
        depth += 1
        level = [
            inner
            for item in level
            if isinstance(item, (dict, list))
            for inner in (item.values() if isinstance(item, dict) else item)
        ]
    return depth
