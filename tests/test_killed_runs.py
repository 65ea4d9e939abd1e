"""Runs killed at many points, in real processes: nothing lost, nothing asked or paid twice."""

from __future__ import annotations

import json
import os
import signal
import threading
from collections import Counter
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any
from zlib import crc32

import pytest
from killed_work import finish, journal, kill_at, lines, outcome, start
from openai_server import Answer, Seen, chat, serving

from promptgym.tasks import load_task

LOCAL: dict[str, dict[str, Any]] = {
    "hill_climbing": {"method": "hill_climbing", "budget": {"queries": 3200}},
    "opro": {
        "method": "opro",
        "proposer": "tiny-rewriter",
        "budget": {"queries": 3200, "proposer_tokens": 20_000},
    },
    "rlprompt": {"method": "rlprompt", "preset": "repaired", "budget": {"queries": 3200}},
}
EXAMPLES, AT_ONCE, PRICE = 64, 4, 1e-3
LOST = 64 + 2 * EXAMPLES + 2 * AT_ONCE
"""Answers that a kill may lose: a part that is not handed on yet, two open prompts, requests."""


@pytest.mark.parametrize("name", LOCAL)
def test_a_run_killed_anywhere_ends_to_the_bit_as_one_that_was_not(
    tmp_path: Path, name: str
) -> None:
    config = {**LOCAL[name], "task": "author", "seed": 5}
    whole, run = tmp_path / "whole", tmp_path / "run"
    finish(start(config, str(whole), False, None))
    records = lines(journal(whole))
    assert records > 4
    # One run, killed again and again: each session resumes what the last one left.
    for number, count in enumerate((1, records // 2, records)):
        process = start(config, str(run), number > 0, None)
        kill_at(process, journal(run), count, 0.01 * number)
    finish(start(config, str(run), True, None))
    expected, found = outcome(whole), outcome(run)
    assert found.keys() == expected.keys()
    for part in expected:
        assert found[part] == expected[part], part


class Biller:
    """A served model that counts what it is asked, and kills who asks at a certain request."""

    def __init__(self) -> None:
        """Begin to count."""
        task = load_task("author")
        self.words = [task.words_for(label) for label in task.labels or ()]
        self.asked: Counter[str] = Counter()
        self.deadly: dict[int, tuple[BaseProcess, signal.Signals]] = {}
        self.lock = threading.Lock()

    def __call__(self, seen: Seen) -> Answer:
        """Answer and bill; 1000 tokens cost `PRICE`."""
        text = seen.body["messages"][-1]["content"]
        with self.lock:
            self.asked[text] += 1
            fatal = self.deadly.pop(self.asked.total(), None)
        if fatal is not None:
            assert fatal[0].pid is not None
            os.kill(fatal[0].pid, fatal[1])
        found = chat(self.words[crc32(text.encode()) % len(self.words)])
        found.body["usage"] = {"prompt_tokens": 1000, "completion_tokens": 0, "total_tokens": 1000}
        found.delay = 0.004
        return found


def served(url: str) -> dict[str, Any]:
    """Return the config of a run with a served model."""
    options = {"api": "chat", "labels": "generate", "concurrency": AT_ONCE, "price_in": 1.0}
    return {
        "method": "hill_climbing",
        "budget": {"queries": 1600},
        "task": "author",
        "model": url,
        "model_options": {**options, "price_out": 1.0},
    }


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGINT])
def test_a_killed_run_with_a_served_model_asks_and_pays_nothing_twice(
    tmp_path: Path, how: signal.Signals
) -> None:
    biller = Biller()
    with serving(biller) as server:
        config = served(server.spec())
        whole, run, cache = tmp_path / "whole", tmp_path / "run", tmp_path / "cache"
        finish(start(config, str(whole), False, str(tmp_path / "other")))
        questions = biller.asked.copy()
        assert max(questions.values()) == 1
        expected = outcome(whole, "usd", "unpriced")
        searched = json.loads((whole / "result.json").read_text())["spent"]
        held_out = len(questions) - searched["usd"] / PRICE
        assert searched["unpriced"] == 0 and held_out == pytest.approx(round(held_out))

        biller.asked.clear()
        total = len(questions)
        points = (3, total // 2, total - 10)
        for number, point in enumerate(points):
            process = start(config, str(run), number > 0, str(cache))
            biller.deadly = {point + biller.asked.total() - len(biller.asked): (process, how)}
            process.join(120)
            assert process.exitcode not in (0, None)
            assert not biller.deadly
        finish(start(config, str(run), True, str(cache)))

    assert outcome(run, "usd", "unpriced") == expected
    assert biller.asked.keys() == questions.keys()
    twice = biller.asked.total() - total
    assert twice <= len(points) * (LOST if how is signal.SIGKILL else 64 + 2 * AT_ONCE)
    spent = json.loads((run / "result.json").read_text())["spent"]
    paid = (biller.asked.total() - round(held_out)) * PRICE
    assert spent["usd"] <= paid + 1e-9, "what is known to be paid was paid"
    assert spent["usd"] >= paid - len(points) * LOST * PRICE
    assert spent["unpriced"] >= 1, "what was under way when a run was killed is not known"
    assert not list(cache.glob("*.broken-*"))
