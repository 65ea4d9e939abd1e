"""The openai: backend against a real server that misbehaves: nothing invented."""

from __future__ import annotations

import gzip
import itertools
import json
import time

import numpy as np
import pytest
from openai_server import GOOD, LABELS, Answer, Seen, chat, model_at, script, serving, statuses

from promptgym.errors import ModelError
from promptgym.llms import LanguageModel, Sampling
from promptgym.llms.openai import client
from promptgym.prompts import Prompt, Template
from promptgym.scoring import Scorer
from promptgym.scoring.scores import STATUS_NAMES
from promptgym.tasks import load_task

pytestmark = pytest.mark.usefixtures("openai_key")


RECOVERING = {
    "429": Answer(429, {"error": {"message": "slow down", "code": "rate_limit_exceeded"}}),
    "500": Answer(500, {"error": {"message": "oops"}}),
    "503, not JSON": Answer(503, b"<html>unavailable</html>"),
    "garbage": Answer(200, b"<html>hello</html>"),
    "bytes": Answer(200, bytes(range(256))),
    "a list": Answer(200, [1, 2]),
    "half a body": Answer(200, GOOD.body, cut=40),
    "no body": Answer(200, GOOD.body, cut=0),
    "no HTTP": Answer(raw=b"\x00\x01\x02 what is this\r\n\r\n"),
    "nothing": Answer(raw=b""),
    "a router's 502": Answer(200, {"error": {"message": "upstream failed", "code": 502}}),
}


@pytest.mark.parametrize("fault", RECOVERING, ids=list(RECOVERING))
def test_what_may_pass_is_tried_again(fault: str) -> None:
    with serving(script([RECOVERING[fault], RECOVERING[fault], GOOD])) as server:
        model = model_at(server)
        found = model.label_logprobs(["t"], LABELS)
        assert found.logprobs.tolist() == [[0.0, -np.inf]]
        assert not found.failures
        assert len(server.seen) == model.usage.attempts == 3
        assert model.usage.requests == 1


@pytest.mark.parametrize("fault", RECOVERING, ids=list(RECOVERING))
def test_what_does_not_pass_is_a_failure_and_no_score(fault: str) -> None:
    with serving(lambda seen: RECOVERING[fault]) as server:
        model = model_at(server, retries=2)
        found = model.label_logprobs(["t"], LABELS)
        assert np.isnan(found.logprobs).all()
        assert statuses(found.failures) == {0: "api_error"}
        assert found.failures[0].endswith("(after 3 attempts)")
        assert len(server.seen) == 3
        (completion,) = model.generate(["t"], Sampling())
        assert (completion.error or "").startswith("api_error: ")
        assert completion.text == ""


LASTING = {
    "no such model": (Answer(404, {"error": {"message": "no model m", "code": "x"}}), "api_error"),
    "bad request": (Answer(400, {"detail": "too long"}), "api_error"),
    "no money": (Answer(429, {"error": {"code": "insufficient_quota"}}), "api_error"),
    "moved": (Answer(302, b"", {"Location": "http://127.0.0.1:1/"}), "api_error"),
    "content filter": (Answer(400, {"error": {"code": "content_filter"}}), "refused"),
    "filtered answer": (chat("posi", finish_reason="content_filter"), "refused"),
    "refusal": (chat(None, message={"refusal": "I will not"}), "refused"),
    "refusal in words": (chat("I'm sorry, I can't help with that."), "refused"),
    "no label": (chat("maybe"), "parse_error"),
    "empty text": (chat(""), "parse_error"),
    "both labels": (chat("positive or negative"), "parse_error"),
    "only thoughts": (chat(None, finish_reason="length"), "parse_error"),
    "no text": (chat(None), "api_error"),
    "no choices": (Answer(200, {"choices": []}), "api_error"),
    "odd choices": (Answer(200, {"choices": [None]}), "api_error"),
    "no message": (Answer(200, {"choices": [{"index": 0}]}), "api_error"),
}


@pytest.mark.parametrize("fault", LASTING, ids=list(LASTING))
def test_what_will_not_pass_is_asked_once(fault: str) -> None:
    answer, status = LASTING[fault]
    with serving(lambda seen: answer) as server:
        model = model_at(server)
        found = model.label_logprobs(["t"], LABELS)
        assert np.isnan(found.logprobs).all()
        assert statuses(found.failures) == {0: status}
        assert len(server.seen) == 1


def test_retry_after_is_honoured_by_everybody() -> None:
    limited = Answer(429, {"error": {"message": "wait"}}, {"Retry-After": "0.3"})
    with serving(script(itertools.chain([limited], itertools.repeat(GOOD)))) as server:
        model = model_at(server, concurrency=1)
        found = model.label_logprobs([f"t{i}" for i in range(4)], LABELS)
        assert not found.failures
        gaps = [later.time - server.seen[0].time for later in server.seen[1:]]
        assert len(gaps) == 4
        assert min(gaps) >= 0.3


def test_a_pause_past_the_deadline_is_a_failure_at_once() -> None:
    limited = Answer(429, {"error": {"message": "wait"}}, {"Retry-After": "3600"})
    with serving(lambda seen: limited) as server:
        start = time.monotonic()
        found = model_at(server).label_logprobs([f"t{i}" for i in range(50)], LABELS)
        assert time.monotonic() - start < 60
        assert set(statuses(found.failures).values()) == {"api_error"}
        assert len(found.failures) == 50
        assert len(server.seen) <= 32


def test_an_attempt_that_hangs_is_given_up_and_tried_again() -> None:
    hanging = Answer(200, GOOD.body, delay=30)
    with serving(script([hanging, GOOD])) as server:
        model = model_at(server, timeout=1.0, price_in=1.0, price_out=1.0)
        assert not model.label_logprobs(["t"], LABELS).failures
        usage = model.usage
        assert (usage.requests, usage.attempts, usage.unmetered) == (1, 2, 1)
        assert usage.usd is None  # the first attempt may have been billed
        assert usage.known_usd == pytest.approx(15e-6)


def test_a_deadline_ends_all_attempts() -> None:
    with serving(lambda seen: Answer(200, GOOD.body, delay=30)) as server:
        model = model_at(server, timeout=0.15, deadline=0.4, retries=50)
        start = time.monotonic()
        found = model.label_logprobs(["t"], LABELS)
        assert time.monotonic() - start < 10
        assert statuses(found.failures) == {0: "timeout"}
        assert len(server.seen) <= 3


def test_a_deadline_cuts_an_attempt_short() -> None:
    with serving(lambda seen: Answer(200, GOOD.body, delay=30)) as server:
        start = time.monotonic()
        found = model_at(server, timeout=20, deadline=0.2).label_logprobs(["t"], LABELS)
        assert time.monotonic() - start < 15
        assert statuses(found.failures) == {0: "timeout"}
        assert len(server.seen) <= 1


def test_waiting_for_a_place_is_no_timeout() -> None:
    with serving(lambda seen: Answer(200, GOOD.body, delay=0.15)) as server:
        model = model_at(server, timeout=1.0, deadline=1.0, concurrency=2)
        found = model.label_logprobs([f"t{i}" for i in range(16)], LABELS)
        assert not found.failures  # though the last one waited for longer than its deadline


@pytest.mark.parametrize("encoded", [False, True])
def test_an_answer_without_end_is_not_read_to_it(
    monkeypatch: pytest.MonkeyPatch, encoded: bool
) -> None:
    monkeypatch.setattr(client, "LARGEST_ANSWER", 10_000)
    body, headers = json.dumps({"choices": [], "x": "a" * 50_000}).encode(), {}
    if encoded:
        body, headers = gzip.compress(body), {"Content-Encoding": "gzip"}
        assert len(body) < 10_000
    with serving(lambda seen: Answer(200, body, headers)) as server:
        found = model_at(server).label_logprobs(["t"], LABELS)
        assert found.failures == {0: "api_error: the answer is larger than 10,000 bytes"}
        assert len(server.seen) == 1


def test_a_dead_server_is_not_asked_for_ever() -> None:
    with serving(lambda seen: Answer(500, b"dead")) as server:
        model = model_at(server, give_up_after=5, concurrency=2, retries=0)
        found = model.label_logprobs([f"t{i}" for i in range(100)], LABELS)
        assert len(found.failures) == 100
        assert 5 <= len(server.seen) <= 6
        assert "not asked" in found.failures[99]
        assert "HTTP 500: dead" in found.failures[99]
        server.behave = lambda seen: GOOD
        assert not model.label_logprobs([f"t{i}" for i in range(100)], LABELS).failures


def test_a_server_that_fails_now_and_then_is_asked_on() -> None:
    dead, answers = Answer(500, b"dead"), itertools.cycle([GOOD, Answer(500, b"dead")])
    with serving(script(itertools.chain([dead, dead], answers))) as server:
        model = model_at(server, give_up_after=3, concurrency=1, retries=0)
        found = model.label_logprobs([f"t{i}" for i in range(22)], LABELS)
        assert len(server.seen) == 22
        assert len(found.failures) == 12


def test_sampling_is_sent_and_stops_are_applied() -> None:
    with serving(lambda seen: chat("one two. three; four")) as server:
        model = model_at(server, body={"max_tokens": None, "max_completion_tokens": 9})
        hot = Sampling(
            max_new_tokens=5,
            temperature=0.7,
            top_k=4,
            top_p=0.5,
            stop=("a?", "b?", "c?", "d?", ";"),
            seed=3,
        )
        texts = ["x", "x", "y"]
        assert [c.text for c in model.generate(texts, hot)] == ["one two. three"] * 3
        bodies = sorted((s.body for s in server.seen), key=lambda b: b["messages"][0]["content"])
        assert all("max_tokens" not in b and b["max_completion_tokens"] == 9 for b in bodies)
        assert all((b["temperature"], b["top_k"], b["top_p"]) == (0.7, 4, 0.5) for b in bodies)
        assert all(b["stop"] == ["a?", "b?", "c?", "d?"] for b in bodies)
        first = {b["seed"] for b in bodies}
        assert len(first) == 3
        server.seen.clear()
        model.generate(texts, hot)
        assert {s.body["seed"] for s in server.seen} == first
        server.seen.clear()
        model.generate(["x"], Sampling())
        assert not {"seed", "top_k", "top_p", "stop"} & set(server.seen[0].body)
        with pytest.raises(ModelError, match="top_p"):
            model.generate(texts, Sampling(top_p=0.0))


def test_a_scorer_keeps_failures_apart_and_asks_them_again() -> None:
    task = load_task("author")
    label = task.words_for((task.labels or ("?",))[0])
    fails = True

    def every_third(seen: Seen) -> Answer:
        number = sum(map(ord, seen.body["messages"][-1]["content"]))
        if fails and number % 3 == 0:
            return chat("I'm sorry, I cannot help.") if number % 2 else Answer(400, b"no")
        return chat(label)

    with serving(every_third) as server:
        model: LanguageModel = model_at(server)
        scorer = Scorer(task, model, Template("{prompt} {input}"))
        scores = scorer.score([Prompt("read")], task.train)
        failed = np.isnan(scores.values[0])
        assert 0 < failed.sum() < len(task.train)
        assert sorted(f.example for f in scores.failures) == np.flatnonzero(failed).tolist()
        names = {STATUS_NAMES[code] for code in scores.status[0][failed].tolist()}
        assert names == {"api_error", "refused"}
        assert set(scores.status[0][~failed].tolist()) == {0}
        before = len(server.seen)
        fails = False
        again = scorer.score([Prompt("read")], task.train)
        assert not again.failures
        assert len(server.seen) - before == failed.sum()
