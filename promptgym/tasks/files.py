"""Reading tables from files: CSV, TSV, JSON lines and JSON. Every error names file and row."""

from __future__ import annotations

import codecs
import csv
import gzip
import io
import json
import zlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from promptgym.errors import TaskError
from promptgym.tasks.rows import Row, Table

DELIMITERS = {".csv": ",", ".tsv": "\t"}
JSON_LINES = (".jsonl", ".ndjson", ".jsonlines")
SUFFIXES = (*DELIMITERS, *JSON_LINES, ".json")

_WIDE = (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE, codecs.BOM_UTF32_LE, codecs.BOM_UTF32_BE)


def read_table(
    path: str | Path,
    *,
    encoding: str = "utf-8",
    delimiter: str | None = None,
    columns: Sequence[str] = (),
) -> Table:
    """Read one file.

    Args:
        path: a `.csv`, `.tsv`, `.jsonl` or `.json` file, or one of them behind `.gz`; any other
            suffix is read as delimited text if `delimiter` is given.
        encoding: of the text; a byte-order mark of UTF-8 is removed.
        delimiter: between fields, instead of the suffix's own.
        columns: names of the columns of a file *without* a header.

    Raises:
        TaskError: for a file that is missing, empty, of unknown kind, wrongly encoded or malformed;
            names the row.
    """
    path = Path(path)
    packed = path.suffix.lower() == ".gz"
    suffix = Path(path.stem).suffix.lower() if packed else path.suffix.lower()
    separator = delimiter or DELIMITERS.get(suffix)
    if suffix not in SUFFIXES and separator is None and path.is_file():
        raise TaskError(
            f"{path}: unknown kind of file; expected one of {', '.join(SUFFIXES)}, or give "
            "delimiter="
        )
    text = _decode(path, encoding)
    if suffix in DELIMITERS or suffix not in SUFFIXES:
        return _delimited(path, text, separator or ",", tuple(columns))
    if columns or delimiter:
        raise TaskError(
            f"{path}: JSON names its own columns; columns= and delimiter= are for delimited text"
        )
    return _json(path, text) if suffix == ".json" else _json_lines(path, text)


def _decode(path: Path, encoding: str) -> str:
    """Return a file's text, or say at which row it is not what the encoding says."""
    try:
        data = path.read_bytes()
        if path.suffix.lower() == ".gz":
            data = gzip.decompress(data)
    except FileNotFoundError:
        raise TaskError(f"{path}: there is no such file") from None
    except (OSError, EOFError, zlib.error) as error:
        raise TaskError(f"{path}: cannot be read: {error}") from None
    if not data.strip():
        raise TaskError(f"{path}: the file is empty; expected a header and at least one row")
    utf8 = encoding.lower().replace("_", "-") in ("utf-8", "utf8", "utf-8-sig")
    if not utf8 and data.startswith(codecs.BOM_UTF8):
        raise TaskError(f"{path}: begins with the mark of UTF-8; leave encoding={encoding!r} out")
    if utf8 and data.startswith(_WIDE):
        raise TaskError(f"{path}: the file is UTF-16 or UTF-32, not UTF-8; say encoding='utf-16'")
    try:
        text = data.decode("utf-8-sig" if utf8 else encoding)
    except LookupError:
        raise TaskError(f"{path}: unknown encoding {encoding!r}") from None
    except UnicodeDecodeError as error:
        row = data.count(b"\n", 0, error.start) + 1
        raise TaskError(
            f"{path}, row {row}: byte 0x{data[error.start]:02x} is not {encoding}; say which "
            "encoding it is (encoding='latin-1' or 'cp1252' are usual), or save the file as UTF-8"
        ) from None
    if "\x00" in text:
        row = text.count("\n", 0, text.index("\x00")) + 1
        raise TaskError(f"{path}, row {row}: holds a NUL character; is this a text file?")
    return text


def _parse(text: str, delimiter: str, quoted: bool) -> list[list[str]]:
    """Return all records of delimited text (blank lines are empty records).

    Raises:
        csv.Error: naming the line at which the faulty record begins.
    """
    limit = csv.field_size_limit(max(len(text), 131072))
    try:
        stream = io.StringIO(text, newline="")
        if quoted:
            reader = csv.reader(stream, delimiter=delimiter, strict=True)
            records: list[list[str]] = []
            line = 1
            try:
                for record in reader:
                    records.append(record)
                    line = reader.line_num + 1
            except csv.Error as error:
                raise csv.Error(line, error) from None
            return records
        return list(csv.reader(stream, delimiter=delimiter, quoting=csv.QUOTE_NONE))
    finally:
        csv.field_size_limit(limit)


def _rectangular(records: list[list[str]]) -> bool:
    return len({len(r) for r in records if r}) == 1


def _records(path: Path, text: str, delimiter: str) -> list[list[str]]:
    """Return records; tab-separated text may or may not use quotes, which is found out.

    Some tab-separated files are written by CSV libraries (a field with a quote is quoted), others
    (GLUE's) never quote. Quotes are data if the text cannot be read with them, or if reading it
    without them gives more, equally long records.
    """
    try:
        records = _parse(text, delimiter, quoted=True)
    except csv.Error as error:
        records = []
        if delimiter != "\t":
            line, what = error.args
            raise TaskError(
                f"{path}: not valid CSV in the record that begins at line {line}: {what}; close "
                'every quote, and write a quote inside of quotes as ""'
            ) from None
    if delimiter == "\t" and '"' in text:
        plain = _parse(text, delimiter, quoted=False)
        if _rectangular(plain) and (len(plain) > len(records) or not _rectangular(records)):
            return plain
        if not records:
            raise TaskError(f"{path}: neither quoted nor unquoted tab-separated text")
    return records


def _delimited(path: Path, text: str, delimiter: str, columns: tuple[str, ...]) -> Table:
    """Build a table from delimited text; blank lines are skipped, ragged rows refused."""
    records = _records(path, text, delimiter)
    numbered = [(n, r) for n, r in enumerate(records, start=1) if r]
    if not columns:
        columns = tuple(name.strip() for name in numbered[0][1])
        numbered = numbered[1:]
        if len(set(columns)) != len(columns) or "" in columns:
            raise TaskError(
                f"{path}, row 1: column names must be different and not empty, found "
                f"{list(columns)}; for a file without a header give columns=[...]"
            )
    if not numbered:
        raise TaskError(f"{path}: there is a header {list(columns)}, but no row under it")
    rows = []
    for number, record in numbered:
        if len(record) != len(columns):
            raise TaskError(
                f"{path}, row {number}: {len(record)} fields, expected {len(columns)} "
                f"({', '.join(columns)}); a field that holds {delimiter!r} must be quoted"
            )
        rows.append(Row(number, dict(zip(columns, record, strict=True))))
    return Table(str(path), columns, rows)


def _from_mappings(path: Path, items: Iterator[tuple[int, Any]]) -> Table:
    """Build a table from numbered JSON objects; the columns are those of all rows together."""
    columns: dict[str, None] = {}
    rows = []
    for number, item in items:
        if not isinstance(item, dict):
            raise TaskError(
                f"{path}, row {number}: expected an object like "
                f'{{"text": ..., "label": ...}}, found {json.dumps(item)[:60]}'
            )
        columns.update(dict.fromkeys(item))
        rows.append(Row(number, item))
    return Table(str(path), tuple(columns), rows)


def _json_lines(path: Path, text: str) -> Table:
    """Build a table from one JSON object a line."""

    def items() -> Iterator[tuple[int, Any]]:
        # Only real line ends separate rows: str.splitlines would also cut at U+2028.
        for number, line in enumerate(text.split("\n"), start=1):
            if line.strip():
                try:
                    yield number, json.loads(line)
                except json.JSONDecodeError as error:
                    raise TaskError(
                        f"{path}, row {number}: not JSON ({error.msg} at column {error.colno}); "
                        "expected one object a line"
                    ) from None

    return _from_mappings(path, items())


def _json(path: Path, text: str) -> Table:
    """Build a table from a list of objects, bare or under "examples", "data" or "rows"."""
    try:
        data = json.loads(text)
    except json.JSONDecodeError as error:
        raise TaskError(
            f"{path}, row {error.lineno}: not JSON ({error.msg}); is it JSON lines? Then name it "
            ".jsonl"
        ) from None
    if isinstance(data, dict):
        for key in ("examples", "data", "rows"):
            if isinstance(data.get(key), (list, dict)):
                data = data[key]
                break
    if isinstance(data, dict) and data and all(isinstance(v, dict) for v in data.values()):
        data = list(data.values())
    if not isinstance(data, list):
        raise TaskError(
            f"{path}: expected a list of objects, or one under 'examples', 'data' or 'rows'"
        )
    return _from_mappings(path, iter(enumerate(data, start=1)))
