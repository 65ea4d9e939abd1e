"""The cache under several processes at once, killed in the middle of a write, and forked."""

from __future__ import annotations

import os
import random
import signal
import sqlite3
import subprocess
import sys
import time
from pathlib import Path

import pytest
from store_work import EXAMPLES, SETTING, prompt, read, write

import promptgym
from promptgym.scoring.store import Shelf, store_at
from promptgym.scoring.store.admin import describe

HERE = Path(__file__).parent
ENVIRONMENT = {**os.environ, "PYTHONPATH": str(Path(promptgym.__file__).parents[1])}


def start(*job: object) -> subprocess.Popen[str]:
    """Start a process of its own with a job of store_work."""
    command = [sys.executable, "-W", "error", str(HERE / "store_work.py"), *map(str, job)]
    return subprocess.Popen(command, env=ENVIRONMENT, text=True, stderr=subprocess.PIPE)


def finish(*processes: subprocess.Popen[str]) -> None:
    """Wait for processes; fail with what they said if one failed."""
    for process in processes:
        _, error = process.communicate(timeout=120)
        assert process.returncode == 0, error


def test_processes_write_and_read_one_new_cache_at_once(tmp_path: Path) -> None:
    place = tmp_path / "cache"
    ranges = [(0, 300), (100, 400), (200, 500), (0, 500)]
    writers = [
        start("write", place, first, last, 7, tmp_path / str(i))
        for i, (first, last) in enumerate(ranges)
    ]
    readers = [start("read", place, 0, 500, 20, "-") for _ in range(2)]
    finish(*writers, *readers)
    assert read(str(place), 0, 510) == list(range(500))
    (found,) = describe(store_at(place))
    assert found.rows == found.prompts == 500
    assert not list(place.glob("*.broken-*"))


@pytest.mark.parametrize("seed", range(6))
def test_a_kill_in_the_middle_of_a_write_loses_that_write_only(tmp_path: Path, seed: int) -> None:
    place, progress = tmp_path / "scores.sqlite", tmp_path / "progress"
    process = start("write", place, 0, 200_000, 50, progress)
    deadline = time.monotonic() + 60
    while not progress.exists() and time.monotonic() < deadline:
        time.sleep(0.005)
    time.sleep(random.Random(seed).uniform(0, 0.2))
    os.kill(process.pid, signal.SIGKILL)
    process.communicate()
    done = int(progress.read_text())
    with sqlite3.connect(place) as connection:
        assert connection.execute("PRAGMA quick_check").fetchone()[0] == "ok"
    known = read(str(place), 0, done + 200)
    assert known == list(range(len(known))) and len(known) % 50 == 0, "whole batches only"
    assert done <= len(known) <= done + 50
    write(str(place), 0, done + 200, 50)
    assert len(read(str(place), 0, done + 200)) == done + 200


def test_a_child_process_opens_the_cache_anew(tmp_path: Path) -> None:
    write(str(tmp_path), 0, 10, 5)
    shelf = Shelf(store_at(tmp_path), SETTING)
    child = os.fork()
    if child == 0:
        found = shelf.read([prompt(n) for n in range(10)], [EXAMPLES] * 10)
        os._exit(0 if all(f is not None for f in found) and not shelf.store.off else 1)
    assert os.waitpid(child, 0)[1] == 0
    assert read(str(tmp_path), 0, 10) == list(range(10))


def test_two_processes_that_meet_a_damaged_file_set_it_aside_once(tmp_path: Path) -> None:
    place = tmp_path / "scores.sqlite"
    place.write_bytes(b"no database" * 1000)
    job = "import sys, warnings; warnings.simplefilter('ignore'); sys.path.insert(0, sys.argv[1]);"
    job += "from store_work import write; write(sys.argv[2], int(sys.argv[3]), 40, 4)"
    finish(
        *(
            subprocess.Popen(
                [sys.executable, "-c", job, str(HERE), str(place), str(first)],
                env=ENVIRONMENT,
                text=True,
                stderr=subprocess.PIPE,
            )
            for first in (0, 0, 20, 20)
        )
    )
    assert read(str(place), 0, 40) == list(range(40))
    assert len(list(tmp_path.glob("*.broken-*"))) == 1
