"""`Shelf`: the answers of one setting in a store, read and written in batches."""

from __future__ import annotations

import threading
import time
import zlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from promptgym.prompts import Example, Prompt
from promptgym.scoring.store.rows import Packed, pack, unpack, unpack_many
from promptgym.scoring.store.setting import ExampleSet, Setting, digest, prompt_content
from promptgym.scoring.store.store import ScoreStore
from promptgym.types import BoolArray, FloatArray, IntArray, ObjectArray

if TYPE_CHECKING:
    from sqlalchemy import Connection

CHUNK = 1024
"""Prompts of one SELECT."""
Rows = dict[bytes, list[Any]]
"""Hash of a prompt -> its rows: (prompt, examples, answers, tokens, check)."""


@dataclass(frozen=True, slots=True)
class Found:
    """What is known of one prompt on n examples.

    Attributes:
        hit: which examples are known, shape (n,).
        answers: shape (n, L) or (n,) of text; meaningless where not hit.
        tokens: what the answers cost, shape (n,).
    """

    hit: BoolArray
    answers: FloatArray | ObjectArray
    tokens: IntArray


@dataclass(frozen=True, slots=True)
class Answered:
    """New answers of one prompt, one an example of the set."""

    prompt: Prompt
    examples: ExampleSet
    answers: FloatArray | ObjectArray
    tokens: IntArray


class _Columns:
    """A set of n examples as column numbers, ready for look-ups."""

    def __init__(self, numbers: IntArray) -> None:
        self.numbers = numbers
        self.all = np.ones(len(numbers), dtype=np.bool_)
        self.order = np.argsort(numbers, kind="stable")
        self.sorted = numbers[self.order]


class Shelf:
    """The answers of one setting. Reads and writes whole batches, one transaction each.

    Threads may share a shelf.

    Attributes:
        store: where they are.
        setting: what they depend on.
        served: prompt x example pairs that were answered from here.
    """

    def __init__(self, store: ScoreStore, setting: Setting) -> None:
        """Bind store and setting."""
        self.store = store
        self.setting = setting
        self.served = 0
        self._labels = None if setting.labels is None else len(setting.labels)
        self._numbers: dict[Example, int] = {}
        self._sets: dict[bytes, _Columns] = {}
        self._last = ExampleSet(())
        self._lock = threading.Lock()

    def __reduce__(self) -> tuple[type[Shelf], tuple[ScoreStore, Setting]]:
        """Pickle what it is, not what it has learned."""
        return Shelf, (self.store, self.setting)

    def set_of(self, examples: tuple[Example, ...]) -> ExampleSet:
        """Return some examples as a set; the one asked about last is at hand."""
        last = self._last
        if last.examples is not examples:
            self._last = last = ExampleSet(examples)
        return last

    def read(self, prompts: Sequence[Prompt], sets: Sequence[ExampleSet]) -> list[Found | None]:
        """Look up prompts, each on a set of its own; None where nothing is known.

        A row of the very set is returned as it is; others serve the examples they share with it.
        """
        keys = [digest(prompt_content(p)) for p in prompts]
        rows: Rows = {}
        found: list[Any] = self.store.run(lambda c: self._select(c, keys), [])
        for row in found:
            rows.setdefault(row[0], []).append(row)
        out: list[Found | None] = [None] * len(prompts)
        if not rows:
            return out
        for wanted in {s.key: s for s in sets}.values():
            self._learn(wanted)
        damaged: list[tuple[bytes, bytes]] = []
        self._take_whole(keys, sets, rows, out, damaged)
        left = [i for i, key in enumerate(keys) if out[i] is None and key in rows]
        if left:
            self._learn_sets({row[1] for i in left for row in rows[keys[i]]})
            for i in left:
                out[i] = self._put_together(sets[i], rows[keys[i]], damaged)
        if damaged:
            self.store.run(lambda c: self._drop(c, damaged), None)
        self.served += sum(int(np.count_nonzero(f.hit)) for f in out if f is not None)
        return out

    def _take_whole(
        self,
        keys: Sequence[bytes],
        sets: Sequence[ExampleSet],
        rows: Rows,
        out: list[Found | None],
        damaged: list[tuple[bytes, bytes]],
    ) -> None:
        """Fill in the prompts that have a row of the very set that is asked for."""
        groups: dict[bytes, tuple[list[int], list[Packed]]] = {}
        for i, (key, wanted) in enumerate(zip(keys, sets, strict=True)):
            for row in rows.get(key, ()):
                if row[1] == wanted.key:
                    places, packed = groups.setdefault(wanted.key, ([], []))
                    places.append(i)
                    packed.append(Packed(row[2], row[3], row[4]))
        for key, (places, packed) in groups.items():
            everything = self._sets[key].all
            got = unpack_many(packed, len(everything), self._labels)
            for i, pair in zip(places, got, strict=True):
                if pair is None:
                    damaged.append((keys[i], key))
                else:
                    out[i] = Found(everything, *pair)

    def write(self, rows: Sequence[Answered]) -> None:
        """Keep new answers; what is there already stays as it is."""
        rows = [row for row in rows if len(row.examples)]
        if rows:
            self.store.run(lambda c: self._insert(c, rows), None)

    def _select(self, connection: Connection, keys: Sequence[bytes]) -> list[Any]:
        """Return (prompt, examples, answers, tokens, check) of every row of some prompts."""
        from sqlalchemy import bindparam, select

        from promptgym.scoring.store.database import among
        from promptgym.scoring.store.database import answers as t

        query = select(t.c.prompt, t.c.examples, t.c.answers, t.c.tokens, t.c.check).where(
            t.c.setting == bindparam("setting"), among(t.c.prompt, "prompts", connection)
        )
        out: list[Any] = []
        for start in range(0, len(keys), CHUNK):
            some = list(dict.fromkeys(keys[start : start + CHUNK]))
            out += connection.execute(query, {"setting": self.setting.key, "prompts": some}).all()
        return out

    def _learn(self, examples: ExampleSet) -> None:
        """Give the examples of a set their column numbers."""
        with self._lock:
            if examples.key not in self._sets:
                known = self._numbers
                numbers = [known.setdefault(e, len(known)) for e in examples.examples]
                self._sets[examples.key] = _Columns(np.array(numbers, dtype=np.int64))

    def _learn_sets(self, keys: Iterable[bytes]) -> None:
        """Read the sets of rows that another scorer has asked for."""
        unknown = set(keys) - self._sets.keys()
        if unknown:
            contents: list[str] = self.store.run(lambda c: _select_sets(c, unknown), [])
            for content in contents:
                self._learn(ExampleSet.from_content(content))

    def _put_together(
        self, wanted: ExampleSet, rows: Sequence[Any], damaged: list[tuple[bytes, bytes]]
    ) -> Found | None:
        """Put what is known of one prompt together from rows of other sets."""
        n = len(wanted)
        columns = self._sets[wanted.key].numbers
        out: Found | None = None
        for prompt, key, *packed in rows:
            known = self._sets.get(key)
            if known is None or key == wanted.key:
                continue  # its set was cleared in this very moment, or the row is damaged
            got = unpack(Packed(*packed), len(known.numbers), self._labels)
            if got is None:
                damaged.append((prompt, key))
                continue
            if out is None:
                empty = np.empty((n, *got[0].shape[1:]), dtype=got[0].dtype)
                out = Found(np.zeros(n, dtype=np.bool_), empty, np.zeros(n, dtype=np.int64))
            at = np.searchsorted(known.sorted, columns)
            at[at == len(known.sorted)] = 0
            new = (known.sorted[at] == columns) & ~out.hit
            source = known.order[at[new]]
            out.answers[new], out.tokens[new] = got[0][source], got[1][source]
            out.hit[new] = True
        return out

    def _insert(self, connection: Connection, rows: Sequence[Answered]) -> None:
        """Write rows and what they refer to."""
        from promptgym.scoring.store import database as d

        dialect, now = connection.dialect.name, time.time()
        sets = {row.examples.key: row.examples for row in rows}
        texts = [prompt_content(row.prompt) for row in rows]
        keys = [digest(text) for text in texts]
        connection.execute(
            d.insert(d.settings, dialect),
            [{"key": self.setting.key, "content": self.setting.content}],
        )
        connection.execute(
            d.insert(d.example_sets, dialect),
            [
                {"key": key, "size": len(s), "content": zlib.compress(s.content.encode())}
                for key, s in sorted(sets.items())
            ],
        )
        # In the order of keys: two writers that lock rows in one order cannot block each other.
        named = sorted(zip(keys, texts, strict=True))
        connection.execute(
            d.insert(d.prompts, dialect), [{"key": key, "content": text} for key, text in named]
        )
        values = []
        for key, row in sorted(zip(keys, rows, strict=True), key=lambda pair: pair[0]):
            packed = pack(row.answers, row.tokens)
            values.append(
                {
                    "setting": self.setting.key,
                    "prompt": key,
                    "examples": row.examples.key,
                    "answers": packed.answers,
                    "tokens": packed.tokens,
                    "check": packed.check,
                    "written": now,
                }
            )
        connection.execute(d.insert(d.answers, dialect), values)

    def _drop(self, connection: Connection, rows: Iterable[tuple[bytes, bytes]]) -> None:
        """Delete damaged rows, so that they are asked and written anew."""
        from promptgym.scoring.store.database import answers as t

        for prompt, examples in rows:
            connection.execute(
                t.delete().where(
                    t.c.setting == self.setting.key,
                    t.c.prompt == prompt,
                    t.c.examples == examples,
                )
            )


def _select_sets(connection: Connection, keys: Iterable[bytes]) -> list[str]:
    """Return the contents of sets of examples; damaged ones are deleted."""
    from sqlalchemy import select

    from promptgym.scoring.store.database import example_sets as t

    found: list[str] = []
    wanted = list(keys)
    for start in range(0, len(wanted), CHUNK):
        query = select(t.c.key, t.c.content).where(t.c.key.in_(wanted[start : start + CHUNK]))
        for key, packed in connection.execute(query).all():
            try:
                content = zlib.decompress(packed).decode()
            except (zlib.error, UnicodeDecodeError):
                content = ""
            if digest(content) == key:
                found.append(content)
            else:
                connection.execute(t.delete().where(t.c.key == key))
    return found
