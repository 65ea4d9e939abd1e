"""The openai: backend against a real server that misbehaves: nothing invented, nothing leaked."""

from __future__ import annotations

import contextlib
import copy
import functools
import gzip
import itertools
import json
import logging
import multiprocessing
import pickle
import signal
import subprocess
import sys
import threading
import time
import traceback
from collections.abc import Iterator
from concurrent.futures import CancelledError, ThreadPoolExecutor
from typing import Any

import numpy as np
import pytest
from openai_server import Answer, Behave, FaultServer, Seen, chat, script, serving

from promptgym.errors import ModelError
from promptgym.llms import LanguageModel, Sampling, forget_models, load_model
from promptgym.llms.openai import client, retry
from promptgym.llms.openai.model import OpenAIModel
from promptgym.prompts import Prompt, Template
from promptgym.scoring import Scorer
from promptgym.scoring.scores import STATUS_NAMES
from promptgym.tasks import load_task

SECRET = "very-secret-key-0123456789"
LABELS = ["positive", "negative"]
GOOD = chat("positive")


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Retries wait milliseconds, a key is in the environment, no model outlives its test."""
    monkeypatch.setattr(retry, "FIRST_WAIT", 0.004)
    monkeypatch.setenv("PROMPTGYM_API_KEY", SECRET)
    yield
    forget_models()


def model_at(server: FaultServer, **options: Any) -> OpenAIModel:
    """A chat model that asks the server nothing when it is loaded."""
    model = load_model(server.spec(), **{"api": "chat", "labels": "generate"} | options)
    assert isinstance(model, OpenAIModel)
    return model


def statuses(failures: dict[int, str] | Any) -> dict[int, str]:
    """The status word of every failure."""
    return {i: reason.partition(": ")[0] for i, reason in failures.items()}


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


# --- secrets --------------------------------------------------------------------------------------


def telltale(seen: Seen) -> Answer:
    """Say the key back in every way in which servers do."""
    header = seen.headers["Authorization"]
    key = header.removeprefix("Bearer ")
    number = int(seen.body["messages"][-1]["content"])
    said = f"wrong key {key} in 'Authorization: {header}'"
    return [
        Answer(401, {"error": {"message": said, "code": "invalid_api_key"}}),
        Answer(500, said.encode()),
        Answer(200, said.encode()),
        Answer(400, {"detail": {"authorization": header}}),
        Answer(200, chat(said).body),
        Answer(200, chat(None, message={"refusal": said}).body),
        Answer(raw=f"{header} HTTP/1.1\r\n\r\n".encode()),
        Answer(200, chat("x").body, cut=9),
    ][number]


def test_the_key_is_sent_and_appears_nowhere(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    logging.getLogger("asyncio").setLevel(logging.DEBUG)
    with serving(telltale) as server:
        model = model_at(server, retries=1)
        texts = [str(n) for n in range(8)]
        found = model.label_logprobs(texts, LABELS)
        completions = model.generate(texts[:4], Sampling())
        assert {s.headers["Authorization"] for s in server.seen} == {f"Bearer {SECRET}"}
        assert len(found.failures) == 8
        assert "***" in found.failures[0]
        spoken = [*found.failures.values(), *(c.error or "" for c in completions)]
        shown = [repr(model), repr(model.server), repr(model.usage), repr(vars(model)), model.name]
        stored = [pickle.dumps(model), repr(model.__reduce__()).encode()]
        logged = caplog.text + "".join(repr(vars(record)) for record in caplog.records)
        assert SECRET not in "".join([*spoken, *shown, logged])
        assert all(SECRET.encode() not in data for data in stored)
        assert caplog.records


def test_a_key_at_the_edge_of_what_is_shown_is_not_cut_but_hidden() -> None:
    answers = {
        "plain": lambda said: Answer(500, said.encode()),
        "garbage": lambda said: Answer(200, said.encode()),
        "error": lambda said: Answer(400, {"error": {"message": said}}),
        "refusal": lambda said: chat(None, message={"refusal": said}),
        "label": lambda said: chat(said),
        "sorry": lambda said: chat(f"I'm sorry, I can't help. {said}"),
    }

    def behave(seen: Seen) -> Answer:
        kind, length = seen.body["messages"][-1]["content"].split()
        return answers[kind]("x" * int(length) + " " + seen.headers["Authorization"].split()[1])

    with serving(behave) as server:
        texts = [f"{kind} {length}" for kind in answers for length in range(60, 210, 3)]
        found = model_at(server, retries=0, give_up_after=1000).label_logprobs(texts, LABELS)
        assert len(found.failures) == len(texts)
        shown = "".join(found.failures.values())
        assert not [n for n in range(6, len(SECRET)) if SECRET[:n] in shown]


def test_errors_at_loading_do_not_show_the_key() -> None:
    def refuse(seen: Seen) -> Answer:
        header = seen.headers["Authorization"]
        return Answer(401, {"error": {"message": f"bad key {header}"}})

    with serving(refuse) as server:
        try:
            load_model(server.spec())
        except ModelError as error:
            trace = traceback.TracebackException.from_exception(error, capture_locals=True)
            text = "".join(trace.format()) + repr(error.__context__)
            assert "the server refuses the request" in str(error)
            assert "key_env" in str(error)
        else:
            pytest.fail("the server refuses every key")
    assert SECRET not in text


def test_a_redirect_does_not_carry_the_key_away() -> None:
    with serving(lambda seen: GOOD) as thief:
        away = Answer(307, b"", {"Location": f"{thief.url}/chat/completions"})
        with serving(lambda seen: away) as server:
            found = model_at(server).label_logprobs(["t"], LABELS)
            assert "HTTP 307" in found.failures[0]
            assert not thief.seen


# --- loading --------------------------------------------------------------------------------------


def test_a_server_that_is_not_there_is_named() -> None:
    with serving(lambda seen: GOOD) as server:
        spec = server.spec()
    with pytest.raises(ModelError, match=r"cannot connect to http://127\.0\.0\.1:\d+/v1.*running"):
        load_model(spec)


def only(path: str) -> Behave:
    """A server that has one of the two ways to generate."""

    def behave(seen: Seen) -> Answer:
        if seen.path != path:
            return Answer(404, {"error": {"message": f"no {seen.path}"}})
        if path == "/chat/completions":
            return chat("negative")
        one = {"index": 0, "text": " negative", "logprobs": None}
        return Answer(200, {"choices": [one]})

    return behave


@pytest.mark.parametrize("path", ["/chat/completions", "/completions"])
def test_what_a_server_can_do_is_found_out(path: str) -> None:
    with serving(only(path)) as server:
        model = load_model(server.spec())
        assert isinstance(model, OpenAIModel)
        assert (model.api, model.labels) == (path.split("/")[1], "generate")
        assert model.name == f"{server.spec()}@{model.api}"
        assert model.label_logprobs(["t"], LABELS).logprobs.tolist() == [[-np.inf, 0.0]]
        with pytest.raises(ModelError, match="log-probabilities"):
            model.loglikelihood(["a"], [" b"])
        with pytest.raises(ModelError, match="labels='logprobs' needs a server"):
            load_model(server.spec(), labels="logprobs")


def test_a_server_that_can_do_nothing_is_refused() -> None:
    with (
        serving(lambda seen: Answer(404, {"error": {"message": "nope"}})) as server,
        pytest.raises(ModelError, match=r"neither chat nor completions.*nope"),
    ):
        load_model(server.spec())


def test_a_model_is_shared_and_pickled_by_its_name() -> None:
    with serving(lambda seen: GOOD) as server:
        model = model_at(server)
        assert copy.deepcopy(model) is copy.copy(model) is model
        assert pickle.loads(pickle.dumps(model)) is model
        forget_models()
        other = pickle.loads(pickle.dumps(model))
        assert other is not model
        assert other.server is model.server
        assert isinstance(model, LanguageModel)


def _in_child(model: OpenAIModel, queue: Any) -> None:
    queue.put(model.label_logprobs(["t"], LABELS).logprobs.tolist())


def test_a_forked_process_asks_with_connections_of_its_own() -> None:
    with serving(lambda seen: GOOD) as server:
        model = model_at(server)
        model.label_logprobs(["t"], LABELS)
        context = multiprocessing.get_context("fork")
        queue = context.Queue()
        child = context.Process(target=_in_child, args=(model, queue))
        child.start()
        assert queue.get(timeout=20) == [[0.0, -np.inf]]
        child.join(20)
        assert child.exitcode == 0


def test_an_interrupt_ends_the_requests_and_a_process_ends_quietly() -> None:
    with serving(lambda seen: Answer(200, GOOD.body, delay=20)) as server:
        code = (
            "from promptgym.llms import load_model\n"
            f"m = load_model({server.spec()!r}, api='chat', labels='generate')\n"
            "try:\n    m.label_logprobs(['a', 'b'], ['x', 'y'])\n"
            "except KeyboardInterrupt:\n    print('interrupted')\n"
            "import time\n"
            "for _ in range(200):\n"
            "    time.sleep(0.02 if m.server.limiter.in_flight else 0)\n"
            "print(m.server.limiter.in_flight)\n"
        )
        run = subprocess.Popen(
            [sys.executable, "-c", code],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            preexec_fn=functools.partial(signal.signal, signal.SIGINT, signal.SIG_DFL),
        )
        deadline = time.monotonic() + 30
        while len(server.seen) < 2 and time.monotonic() < deadline:
            time.sleep(0.02)
        run.send_signal(signal.SIGINT)
        out, err = run.communicate(timeout=20)
        assert (out, err, run.returncode) == ("interrupted\n0\n", "", 0)
