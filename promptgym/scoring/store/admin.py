"""What `promptgym cache info` and `clear` do to a store."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

from promptgym.scoring.store.store import ScoreStore
from promptgym.types import JSON

if TYPE_CHECKING:
    from sqlalchemy import Connection

DAY = 86_400.0


@dataclass(frozen=True, slots=True)
class SettingInfo:
    """What a store holds of one setting.

    Attributes:
        key: hash of the setting, hexadecimal.
        content: the setting, see `Setting`.
        rows: prompt x example-set rows.
        prompts: different prompts.
        scores: answers in all rows.
        size: bytes of the answers.
        written: when the last row was written, seconds since 1970.
    """

    key: str
    content: JSON
    rows: int
    prompts: int
    scores: int
    size: int
    written: float

    def to_json(self) -> JSON:
        """Return plain JSON values."""
        return {
            "key": self.key,
            **self.content,
            "rows": self.rows,
            "prompts": self.prompts,
            "scores": self.scores,
            "bytes": self.size,
            "written": self.written,
        }


def describe(store: ScoreStore) -> list[SettingInfo]:
    """Return what a store holds, one item a setting, the largest first."""
    return store.run(_describe, [])


def _describe(connection: Connection) -> list[SettingInfo]:
    """Count rows by setting."""
    import json

    from sqlalchemy import func, select

    from promptgym.scoring.store import database as d

    a, e, s = d.answers, d.example_sets, d.settings
    query = (
        select(
            s.c.key,
            s.c.content,
            func.count(),
            func.count(a.c.prompt.distinct()),
            func.coalesce(func.sum(e.c.size), 0),
            func.sum(func.length(a.c.answers) + func.length(a.c.tokens)),
            func.max(a.c.written),
        )
        .select_from(a.join(s, s.c.key == a.c.setting).outerjoin(e, e.c.key == a.c.examples))
        .group_by(s.c.key, s.c.content)
        .order_by(func.count().desc())
    )
    return [
        SettingInfo(key.hex(), json.loads(content), rows, prompts, int(scores), int(size), written)
        for key, content, rows, prompts, scores, size, written in connection.execute(query)
    ]


def clear(store: ScoreStore, model: str | None = None, older_than_days: float | None = None) -> int:
    """Delete answers, and what only they referred to; give the space back.

    Args:
        store: what to clear.
        model: only those of models whose name holds this text; None for all.
        older_than_days: only those written longer ago; None for all.

    Returns:
        The number of rows deleted.
    """
    deleted = store.run(lambda c: _clear(c, model, older_than_days), 0)
    if store.path is not None and not store.off:
        store.vacuum()
    return deleted


def _clear(connection: Connection, model: str | None, older_than_days: float | None) -> int:
    """Delete rows, then orphans."""
    from sqlalchemy import exists, select

    from promptgym.scoring.store import database as d

    a = d.answers
    query = a.delete()
    if older_than_days is not None:
        query = query.where(a.c.written < time.time() - older_than_days * DAY)
    if model is not None:
        rows = connection.execute(select(d.settings.c.key, d.settings.c.content)).all()
        import json

        chosen = [key for key, content in rows if model in json.loads(content)["model"]]
        query = query.where(a.c.setting.in_(chosen))
    deleted = int(connection.execute(query).rowcount)
    for table, column in (
        (d.settings, a.c.setting),
        (d.prompts, a.c.prompt),
        (d.example_sets, a.c.examples),
    ):
        used = exists(select(a.c.prompt).where(column == table.c.key))
        connection.execute(table.delete().where(~used))
    return deleted
