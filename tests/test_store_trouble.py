"""No trouble with the cache that lasts ends a run, or lets it read what is damaged."""

from __future__ import annotations

import sqlite3
import warnings
from pathlib import Path

import numpy as np
import pytest
from store_cases import PROMPTS, TASK, Watched, filled, scorer_of, works_again

from promptgym.errors import CacheWarning
from promptgym.scoring import OK


@pytest.mark.parametrize("kind", ["garbage", "head", "middle"])
def test_a_damaged_file_is_set_aside_with_a_message(tmp_path: Path, kind: str) -> None:
    file = tmp_path / "scores.sqlite"
    filled(file)
    whole = file.read_bytes()
    bad = {
        "garbage": b"this is no database " * 500,
        "head": whole[:16] + b"\xff" * 4000 + whole[4016:],
        "middle": whole[: len(whole) // 2],
    }[kind]
    for old in tmp_path.iterdir():
        old.unlink()
    file.write_bytes(bad)
    scorer = scorer_of(Watched(), file)
    with pytest.warns(CacheWarning, match=r"set aside as scores\.sqlite\.broken-"):
        scores = scorer.score(PROMPTS, TASK.train)
    assert (scores.status == OK).all()
    (aside,) = tmp_path.glob("scores.sqlite.broken-*-?")
    assert aside.read_bytes()[: len(bad) // 2] == bad[: len(bad) // 2]
    works_again(file)


def test_damage_in_the_middle_of_a_run_is_survived(tmp_path: Path) -> None:
    file = tmp_path / "scores.sqlite"
    filled(file)
    scorer = scorer_of(Watched(), file)
    scorer.score(PROMPTS[:1], TASK.train)
    assert scorer.shelf is not None
    scorer.shelf.store.close()
    with file.open("r+b") as handle:
        handle.seek(4096)
        handle.write(b"\xee" * (file.stat().st_size - 4096))
    with pytest.warns(CacheWarning, match="set aside"):
        assert (scorer.score(PROMPTS[1:], TASK.train).status == OK).all()
    assert not scorer.shelf.store.off
    works_again(file)


def test_a_damaged_row_is_asked_and_written_anew(tmp_path: Path) -> None:
    file = tmp_path / "scores.sqlite"
    filled(file)
    with sqlite3.connect(file) as connection:
        connection.execute("UPDATE promptgym_answers_1 SET answers = zeroblob(length(answers))")
    model = Watched()
    scores = scorer_of(model, file).score(PROMPTS, TASK.train)
    assert len(model.asked) == 60
    want = scorer_of(Watched(), None).score(PROMPTS, TASK.train)
    np.testing.assert_array_equal(scores.values, want.values)
    works_again(file)


def test_a_lost_or_damaged_set_of_examples_costs_its_rows_only(tmp_path: Path) -> None:
    for change in (
        "DELETE FROM promptgym_examples_1",
        "UPDATE promptgym_examples_1 SET content=x''",
    ):
        file = tmp_path / f"{len(change)}.sqlite"
        filled(file)
        with sqlite3.connect(file) as connection:
            connection.execute(change)
        model = Watched()
        scorer_of(model, file).score(PROMPTS, TASK.train[:4])
        assert len(model.asked) == 20
        works_again(file)


def test_the_database_of_another_program_is_left_alone(tmp_path: Path) -> None:
    file = tmp_path / "theirs.db"
    with sqlite3.connect(file) as connection:
        connection.execute("CREATE TABLE people (name TEXT)")
    before = file.read_bytes()
    with pytest.warns(CacheWarning, match=r"another program.*theirs-promptgym\.db"):
        filled(file)
    assert file.read_bytes() == before
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", CacheWarning)
        works_again(file)


@pytest.mark.parametrize("ours", [False, True])
def test_tables_of_our_names_with_other_columns_are_not_taken_for_ours(
    tmp_path: Path, ours: bool
) -> None:
    file = tmp_path / "scores.sqlite"
    if ours:  # written by us once, and changed since
        filled(file)
    with sqlite3.connect(file) as connection:
        connection.execute("DROP TABLE IF EXISTS promptgym_answers_1")
        connection.execute("CREATE TABLE promptgym_answers_1 (other TEXT)")
    said = "another version; it was set aside" if ours else "another program"
    with pytest.warns(CacheWarning, match=said):
        filled(file)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", CacheWarning)
        works_again(file)


def test_a_cache_that_cannot_be_opened_is_switched_off(tmp_path: Path) -> None:
    (tmp_path / "wall").write_text("")
    scorer = scorer_of(Watched(), tmp_path / "wall" / "scores.sqlite")
    with pytest.warns(CacheWarning, match="is not used any more") as said:
        first = scorer.score(PROMPTS[:2], TASK.train)
        scorer.score(PROMPTS[2:], TASK.train)
    assert (first.status == OK).all() and len(said) == 1


def test_a_server_that_is_not_there_is_switched_off_without_its_password() -> None:
    pytest.importorskip("psycopg")
    scorer = scorer_of(Watched(), "postgresql://me:secret@127.0.0.1:9/none")
    with pytest.warns(CacheWarning, match="is not used any more") as said:
        assert (scorer.score(PROMPTS, TASK.train).status == OK).all()
    assert "secret" not in str(said[0].message)
