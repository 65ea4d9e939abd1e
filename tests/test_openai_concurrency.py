"""Many requests of the openai: backend at once, from many threads: in order and within limits."""

from __future__ import annotations

import contextlib
import threading
import time
from concurrent.futures import CancelledError, ThreadPoolExecutor
from typing import Any

import numpy as np
import pytest
from openai_server import GOOD, LABELS, Answer, Seen, chat, model_at, serving

pytestmark = pytest.mark.usefixtures("openai_key")


def by_number(seen: Seen) -> Answer:
    """Answer texts "<n>" out of order, every fifth with a failure."""
    number = int(seen.body["messages"][-1]["content"])
    if number % 5 == 0:
        return Answer(400, {"error": {"message": f"no {number}"}})
    return Answer(200, chat(LABELS[number % 2]).body, delay=0.002 * ((7 * number) % 5))


def test_results_keep_their_order_and_concurrency_its_limit() -> None:
    with serving(by_number) as server:
        model = model_at(server, concurrency=7)
        found = model.label_logprobs([str(n) for n in range(200)], LABELS)
        assert sorted(found.failures) == list(range(0, 200, 5))
        for n in range(200):
            if n % 5:
                assert found.logprobs[n, n % 2] == 0
                assert found.logprobs[n, 1 - n % 2] == -np.inf
            else:
                assert np.isnan(found.logprobs[n]).all()
                assert f"no {n}" in found.failures[n]
        assert 1 < server.most_in_flight <= 7
        assert len({s.headers["Host"] for s in server.seen}) == 1


def test_two_models_and_many_threads_share_one_limiter() -> None:
    with serving(by_number) as server:
        models = [model_at(server, concurrency=4), model_at(server, answer_tokens=5)]
        assert models[0].server is models[1].server
        numbers = [str(n) for n in range(1, 60) if n % 5]

        def ask(k: int) -> Any:
            return models[k % 2].label_logprobs(numbers, LABELS).logprobs.tolist()

        with ThreadPoolExecutor(6) as pool:
            answers = list(pool.map(ask, range(6)))
        assert all(answer == answers[0] for answer in answers)
        assert server.most_in_flight <= 4


def test_as_many_requests_as_allowed_are_under_way() -> None:
    together = threading.Barrier(7)

    def behave(seen: Seen) -> Answer:
        together.wait(timeout=30)  # nobody is answered before seven have asked
        return GOOD

    with serving(behave) as server:
        model = model_at(server, concurrency=7, retries=0)
        assert not model.label_logprobs([f"t{i}" for i in range(21)], LABELS).failures
        assert server.most_in_flight == 7


def test_requests_per_minute_hold_for_retries_too() -> None:
    with serving(lambda seen: Answer(500, b"")) as server:
        model = model_at(server, requests_per_minute=3, timeout=5, retries=1)

        def ask() -> None:
            with contextlib.suppress(CancelledError):  # of the loop, when the tests have ended
                model.label_logprobs(["a", "b"], LABELS)

        thread = threading.Thread(target=ask, daemon=True)
        thread.start()
        deadline = time.monotonic() + 30
        while len(server.seen) < 3 and time.monotonic() < deadline:
            time.sleep(0.01)
        thread.join(0.2)
        assert thread.is_alive()  # the fourth request waits for its minute
        assert len(server.seen) == 3
