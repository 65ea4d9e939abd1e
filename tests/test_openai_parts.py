"""The parts of the openai: backend that need no server: options, keys, limits, parsing, prices."""

from __future__ import annotations

import asyncio
import copy
import itertools
import pickle
import time
from collections.abc import Callable, Coroutine
from email.utils import formatdate
from typing import Any

import pytest

from promptgym.errors import ModelError
from promptgym.llms import load_model
from promptgym.llms.openai import wire
from promptgym.llms.openai.keys import Key, read_key
from promptgym.llms.openai.limiter import MINUTE, Limiter
from promptgym.llms.openai.logprobs import tail_logprob
from promptgym.llms.openai.options import Endpoint, OpenAIOptions
from promptgym.llms.openai.parser import LabelParser, is_refusal
from promptgym.llms.openai.prices import Meter, Price, tokens_of
from promptgym.llms.openai.retry import Fault, Policy, fault_of_answer, retry_after
from promptgym.llms.openai.tokens import counter, estimate

SECRET = "sk-VerySecret-0123456789abcdef"


# --- options and keys -----------------------------------------------------------------------------


def test_an_address_is_read() -> None:
    assert Endpoint.of("http://host:8000/v1/#org/model-7b") == Endpoint(
        "http://host:8000/v1", "host", "org/model-7b"
    )


@pytest.mark.parametrize(
    "name",
    [
        f"http://user:{SECRET}@host/v1#m",
        f"http://{SECRET}@host/v1#m",
        f"https://host/v1?api_key={SECRET}#m",
        f"http://host:{SECRET}/v1#m",
    ],
)
def test_an_address_that_may_hold_a_secret_is_refused_and_not_repeated(name: str) -> None:
    with pytest.raises(ModelError) as caught:
        load_model(f"openai:{name}")
    assert SECRET not in str(caught.value)
    assert caught.value.__cause__ is None


@pytest.mark.parametrize(
    ("spec", "options"),
    [
        (f"http://user:{SECRET}@host/v1#m", {}),  # the scheme was forgotten
        (f"opnai:http://user:{SECRET}@host/v1?key={SECRET}#m", {}),
        (f"openai:http://user:{SECRET}@host/v1#m", {"body": object()}),
    ],
)
def test_a_secret_in_a_wrong_spec_is_not_repeated(spec: str, options: dict[str, Any]) -> None:
    with pytest.raises(ModelError, match=r"unknown model|JSON") as caught:
        load_model(spec, **options)
    assert SECRET not in str(caught.value)


@pytest.mark.parametrize(
    ("name", "says"),
    [("localhost:8000/v1#m", "http://"), ("http://h/v1", "which model"), ("ftp://h#m", "http://")],
)
def test_an_address_that_cannot_be_used_says_what_is_expected(name: str, says: str) -> None:
    with pytest.raises(ModelError, match=says):
        Endpoint.of(name)


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"api_key": SECRET}, "unknown options .*environment only"),
        ({"body": {"api_key": SECRET}}, "environment only"),
        ({"body": {"extra_headers": {"Authorization": f"Bearer {SECRET}"}}}, "environment only"),
        ({"body": {"user": SECRET}}, "looks like a key"),
        ({"body": {"n": 3}}, "set by promptgym"),
        ({"api": "responses"}, "not one of"),
        ({"api": "chat", "labels": "logprobs"}, "completions"),
        ({"concurrency": 0}, "above 0"),
        ({"concurrency": 2.5}, "whole number"),
        ({"timeout": None}, "above 0"),
        ({"deadline": float("nan")}, "above 0"),
        ({"retries": -1}, "at least 0"),
        ({"price_in": -1.0}, "at least 0"),
        ({"key_env": SECRET}, "NAME of an environment variable"),
        ({"key_env": "NO_SUCH_VARIABLE_HERE"}, "NO_SUCH_VARIABLE_HERE holds no key"),
        ({"tokenizer": "/no/such/folder"}, "tokenizer.json"),
    ],
)
def test_options_are_checked_and_secrets_not_repeated(options: dict[str, Any], says: str) -> None:
    with pytest.raises(ModelError, match=says) as caught:
        load_model(
            "openai:http://127.0.0.1:1/v1#m", **{"api": "chat", "labels": "generate"} | options
        )
    assert SECRET not in str(caught.value)


def test_the_identity_has_what_changes_answers_and_nothing_else() -> None:
    plain = OpenAIOptions()
    assert plain.identity("chat") == "chat"
    assert OpenAIOptions(revision="r2").identity("logprobs") == "logprobs:r2"
    assert OpenAIOptions(timeout=1.0, concurrency=3, retries=0).identity("chat") == "chat"
    fields = {"min_tokens": 1, "stop_token_ids": [2], "skip_special_tokens": True}
    assert OpenAIOptions.of("s", {"body": fields}).body == fields
    asked = OpenAIOptions(instruction="Say one word: {labels}")
    assert asked.identity("chat") != "chat"
    assert asked.identity("logprobs") == "logprobs"
    bodies = [OpenAIOptions(body={"top_k": k}).identity("chat") for k in (1, 2)]
    assert len({*bodies, "chat"}) == 3


def test_keys_come_from_the_environment_and_openais_goes_to_openai_only(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", SECRET)
    monkeypatch.delenv("PROMPTGYM_API_KEY", raising=False)
    assert not read_key("s", "somewhere.example", None)
    assert read_key("s", "api.openai.com", None)
    assert read_key("s", "somewhere.example", "OPENAI_API_KEY")
    monkeypatch.setenv("PROMPTGYM_API_KEY", f" {SECRET}\n")
    headers = read_key("s", "somewhere.example", None).headers()
    assert headers == {"Authorization": f"Bearer {SECRET}"}
    monkeypatch.setenv("PROMPTGYM_API_KEY", f"{SECRET}\r\nX: y")
    with pytest.raises(ModelError, match="PROMPTGYM_API_KEY") as caught:
        read_key("s", "somewhere.example", None)
    assert SECRET not in str(caught.value)


def test_a_key_shows_itself_nowhere() -> None:
    key = Key(SECRET)
    assert SECRET not in f"{key} {key!r} {[key]}"
    for copier in (pickle.dumps, copy.copy, copy.deepcopy):
        with pytest.raises(TypeError, match="environment"):
            copier(key)
    said = f"wrong key {SECRET}; 'Authorization: Bearer abc.def'; http://me:pw@h; sk-zzz12345678"
    want = "wrong key ***; 'Authorization: Bearer ***'; http://***@h; ***"
    assert key.scrub(said) == want


# --- limits ---------------------------------------------------------------------------------------


class Clock:
    """Time that passes when somebody sleeps, and how the event loop wakes sleepers in order."""

    def __init__(self) -> None:
        """Start at 0."""
        self.now = 0.0
        self.sleepers: list[tuple[float, int, asyncio.Future[None]]] = []
        self.order = itertools.count()

    async def sleep(self, seconds: float) -> None:
        """Sleep until the clock has moved on."""
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.sleepers.append((self.now + seconds, next(self.order), future))
        await future

    async def drive(self, work: Coroutine[Any, Any, Any]) -> None:
        """Move on to the next sleeper whenever everybody sleeps."""
        task = asyncio.ensure_future(work)
        while not task.done():
            for _ in range(50):
                await asyncio.sleep(0)
            if self.sleepers and not task.done():
                self.sleepers.sort(key=lambda s: s[:2])
                self.now, _, future = self.sleepers.pop(0)
                future.set_result(None)
        await task


def simulate(
    limits: dict[str, float], tokens: list[float], seconds: float = 1.0
) -> list[tuple[float, float, int]]:
    """Return (time, tokens, number) of every admission."""
    clock = Clock()
    limiter = Limiter(clock=lambda: clock.now, sleep=clock.sleep)
    admitted: list[tuple[float, float, int]] = []

    async def one(number: int) -> None:
        ticket = await limiter.acquire(tokens[number])
        admitted.append((clock.now, tokens[number], number))
        await clock.sleep(seconds)
        limiter.release(ticket)

    async def every() -> None:
        limiter.set(int(limits.get("concurrency", 1000)), limits.get("rpm"), limits.get("tpm"))
        await asyncio.gather(*(one(n) for n in range(len(tokens))))
        assert limiter.in_flight == 0
        assert limiter.most_in_flight <= limits.get("concurrency", 1000)

    asyncio.run(clock.drive(every()))
    return admitted


def most_in_a_minute(times: list[tuple[float, float]]) -> float:
    """The largest sum of amounts within any 60 seconds."""
    return max(sum(a for t, a in times if s <= t < s + MINUTE - 1e-9) for s, _ in times)


def test_requests_per_minute_are_never_exceeded_and_fully_used() -> None:
    admitted = simulate({"rpm": 10}, [1.0] * 35)
    assert most_in_a_minute([(t, 1.0) for t, _, _ in admitted]) == 10
    assert [n for _, _, n in admitted] == list(range(35))
    assert admitted[-1][0] == pytest.approx(3 * MINUTE)


def test_tokens_per_minute_are_never_exceeded_and_a_giant_goes_alone() -> None:
    tokens = [40.0, 50.0, 20.0, 500.0, 30.0, 30.0, 30.0, 30.0]
    admitted = simulate({"tpm": 100}, tokens)
    times = [(t, a) for t, a, _ in admitted]
    assert most_in_a_minute([(t, min(a, 100.0)) for t, a in times]) <= 100
    assert [n for _, _, n in admitted] == list(range(8))
    giant = next(t for t, a in times if a == 500)
    assert [a for t, a in times if abs(t - giant) < MINUTE - 1e-9] == [500]


def test_concurrency_is_respected_and_first_come_is_first_served() -> None:
    admitted = simulate({"concurrency": 3}, [1.0] * 10, seconds=1.0)
    assert [n for _, _, n in admitted] == list(range(10))
    assert [t for t, _, _ in admitted] == [0, 0, 0, 1, 1, 1, 2, 2, 2, 3]


def run_with(limiter_test: Callable[[Limiter, Clock], Coroutine[Any, Any, None]]) -> None:
    clock = Clock()
    asyncio.run(
        clock.drive(limiter_test(Limiter(clock=lambda: clock.now, sleep=clock.sleep), clock))
    )


def test_the_true_tokens_of_a_request_replace_the_expected_ones() -> None:
    async def check(limiter: Limiter, clock: Clock) -> None:
        limiter.set(None, None, 100)
        limiter.release(await limiter.acquire(90), 10)
        limiter.release(await limiter.acquire(90))
        assert clock.now == 0
        limiter.release(await limiter.acquire(1))
        assert clock.now == pytest.approx(MINUTE)

    run_with(check)


def test_a_pause_holds_everybody() -> None:
    async def check(limiter: Limiter, clock: Clock) -> None:
        limiter.pause(7)
        limiter.pause(3)
        ticket = await limiter.acquire(1)
        assert clock.now == 7
        limiter.release(ticket)

    run_with(check)


def test_a_cancelled_request_frees_its_place() -> None:
    async def check(limiter: Limiter, clock: Clock) -> None:
        limiter.set(1)
        held = await limiter.acquire(1)
        waiting = [asyncio.ensure_future(limiter.acquire(1)) for _ in range(3)]
        await asyncio.sleep(0)
        waiting[0].cancel()
        await asyncio.sleep(0)
        limiter.release(held)
        waiting[1].cancel()  # in the moment in which it is let in
        ticket = await waiting[2]
        assert limiter.in_flight == 1
        limiter.release(ticket)
        assert limiter.in_flight == 0

    run_with(check)


def test_limits_may_change_while_requests_wait() -> None:
    async def check(limiter: Limiter, clock: Clock) -> None:
        limiter.set(1)
        first = await limiter.acquire(1)
        others = [asyncio.ensure_future(limiter.acquire(1)) for _ in range(2)]
        await asyncio.sleep(0)
        limiter.set(3)
        tickets = await asyncio.gather(*others)
        limiter.set(1)
        last = asyncio.ensure_future(limiter.acquire(1))
        for ticket in (first, *tickets):
            await asyncio.sleep(0)
            assert not last.done()
            limiter.release(ticket)
        limiter.release(await last)

    run_with(check)


# --- retries --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        ({}, None),
        ({"Retry-After": "3"}, 3.0),
        ({"Retry-After": "0.25"}, 0.25),
        ({"Retry-After": "-4"}, 0.0),
        ({"Retry-After": "soon"}, None),
        ({"Retry-After": "nan"}, None),
        ({"Retry-After": "9", "retry-after-ms": "40"}, 0.04),
        ({"Retry-After": formatdate(0, usegmt=True)}, 0.0),
    ],
)
def test_retry_after_is_read(headers: dict[str, str], seconds: float | None) -> None:
    assert retry_after(headers) == seconds


def test_retry_after_may_be_a_date() -> None:
    found = retry_after({"Retry-After": formatdate(time.time() + 30, usegmt=True)})
    assert found is not None
    assert 25 < found <= 30


@pytest.mark.parametrize(
    ("http", "code", "status", "again"),
    [
        (429, "rate_limit_exceeded", "api_error", True),
        (429, "insufficient_quota", "api_error", False),
        (500, "", "api_error", True),
        (503, "", "api_error", True),
        (504, "", "timeout", True),
        (401, "invalid_api_key", "api_error", False),
        (404, "", "api_error", False),
        (400, "content_filter", "refused", False),
        (301, "", "api_error", False),
    ],
)
def test_what_is_tried_again(http: int, code: str, status: str, again: bool) -> None:
    fault = fault_of_answer(http, code, "what", {})
    assert (fault.status, fault.again) == (status, again)
    assert fault.reason().startswith(f"{status}: ")
    assert not fault_of_answer(500, "", "what", {"x-should-retry": "false"}).again


def test_pauses_grow_have_jitter_and_are_never_shorter_than_asked() -> None:
    policy = Policy()
    for attempt, full in enumerate([0.5, 1, 2, 4, 8, 16, 30, 30]):
        pauses = [policy.pause(attempt, None) for _ in range(50)]
        assert full / 2 <= min(pauses) < max(pauses) <= full
    assert all(5.0 <= policy.pause(0, 5.0) <= 5.5 for _ in range(50))


# --- answers --------------------------------------------------------------------------------------

NEWS = ("world", "world news", "sports", "tech")


@pytest.mark.parametrize(
    ("answer", "label"),
    [
        ("world", "world"),
        ("World news.", "world news"),
        ("  **Sports**\n\nBecause it is about a match of world champions.", "sports"),
        ("Answer: tech", "tech"),
        ("The category is world news.", "world news"),
        ("I read it twice.\nFinal answer: \u201cTech\u201d", "tech"),
        ('"world\n news"', "world news"),
        ("<think>tech?\nAnswer: tech</think>\n\nsports", "sports"),
        ("<think>tech?\nsports", None),
        ("", None),
        ("not sports", None),
        ("sports or tech", None),
        ("It is about sports", None),
        ("sports\nAnswer: tech", None),
        ("worldly", None),
        ("I'm sorry, I cannot help with that.", None),
        ("Answer: none of them", None),
    ],
)
def test_a_label_is_read_only_where_it_is_plain(answer: str, label: str | None) -> None:
    found = LabelParser(NEWS).parse(answer)
    assert (None if found is None else NEWS[found]) == label


@pytest.mark.parametrize(
    ("answer", "label"),
    [
        (" world news\nText: another", "world news"),
        (" world. And", "world"),
        (" worldly", None),
        (" the world", None),
        ("\nsports", "sports"),
        ("", None),
    ],
)
def test_a_continuation_begins_with_its_label(answer: str, label: str | None) -> None:
    found = LabelParser(NEWS, continues=True).parse(answer)
    assert (None if found is None else NEWS[found]) == label


@pytest.mark.parametrize("labels", [(), ("a", "A."), ("good", "?!")])
def test_labels_that_cannot_be_told_apart_are_refused(labels: tuple[str, ...]) -> None:
    with pytest.raises(ModelError):
        LabelParser(labels)


def test_refusals_are_known_by_how_they_begin() -> None:
    assert is_refusal("I\u2019m sorry, but I can't help with that.")
    assert is_refusal("I cannot assist with this request.")
    assert not is_refusal("positive, I'm sorry to say")


def echoed(tokens: list[str], values: list[float | None], **more: Any) -> dict[str, Any]:
    return {"logprobs": {"tokens": tokens, "token_logprobs": values}, **more}


@pytest.mark.parametrize(
    ("tokens", "values", "text", "label", "generated", "total"),
    [
        # plain tokens; a begin token; raw spaces; sentence pieces; pieces without spaces
        (["It", " is", " good", " ."], [None, -1.0, -2.0, -9.0], "It is", "good", 1, -2.0),
        (["<s>", "It", " is", " go", "od", "."], [None, 0, 0, -1, -2, 0], "It is", "good", 1, -3.0),
        (["It", "Ġis", "Ġgood"], [None, -1.0, -2.0], "It is", "good", 0, -2.0),
        (["▁It", "▁is", "▁", "good", "▁."], [None, -1, -3, -2, -9], "It is", "good", 1, -5.0),
        (["it", "is", "good", "x"], [None, -1, -2, -9], "It is", "good", 1, -2.0),
        # the number of generated tokens is not said
        (["It", " is", " good", " ."], [None, -1.0, -2.0, -9.0], "It is", "good", None, -2.0),
        (["It", " is", " good"], [None, -1.0, -2.0], "It is", "good", None, -2.0),
        (["la", " la", " la", " la"], [None, -1, -2, -4], "la la", "la", None, -2.0),
        (["la", " la", " la"], [None, -1, -2], "la la", "la", None, -2.0),
        # the text ends with the space, so the space is not the label's
        (["A", ":", " ", "good"], [None, -1, -3, -2], "A: ", "good", 0, -2.0),
    ],
)
def test_the_tokens_of_a_label_are_found_from_the_end(
    tokens: list[str],
    values: list[float | None],
    text: str,
    label: str,
    generated: int | None,
    total: float,
) -> None:
    assert tail_logprob(echoed(tokens, values), text, label, generated) == total


@pytest.mark.parametrize(
    "choice",
    [
        {},
        {"logprobs": None},
        {"logprobs": {"content": []}},
        echoed([" good"], [-1.0]),  # what was generated only, nothing echoed
        echoed(["It", " is", " bad", "."], [None, -1.0, -2.0, -9.0]),
        echoed(["It", " is", " good", "."], [None, -1.0, None, -9.0]),
        echoed(["It", " is", " good", "."], [None, -1.0, -9.0]),
        echoed(["It", " is", " good", "."], [None, -1.0, float("nan"), -9.0]),
    ],
)
def test_log_probabilities_that_are_not_there_are_a_fault(choice: dict[str, Any]) -> None:
    found = tail_logprob(choice, "It is", "good", 1)
    assert isinstance(found, Fault)
    assert found.status == "api_error"


def test_choices_are_put_in_order_and_checked() -> None:
    two = {"choices": [{"index": 1, "text": "b"}, {"index": 0, "text": "a"}]}
    assert [c["text"] for c in wire.choices(two, 2)] == ["a", "b"]  # type: ignore[union-attr]
    for body in ({}, {"choices": []}, {"choices": "x"}, {"choices": [{"index": 0}] * 2}):
        assert isinstance(wire.choices(body, 2), Fault)
    odd = {"choices": [{"index": "0"}, {"index": None}]}
    assert isinstance(wire.choices(odd, 2), Fault)


# --- money and tokens -----------------------------------------------------------------------------


def test_what_is_not_known_is_never_counted_as_nothing() -> None:
    assert Price(2.0, 10.0).usd(1_000_000, 500_000) == pytest.approx(7.0)
    assert Price(2.0, None).usd(1_000_000, 1) is None
    assert Price(2.0, None).usd(1_000_000, 0) == pytest.approx(2.0)
    assert Price().usd(1, 0) is None
    assert Price(0.0, 0.0).usd(10, 10) == 0.0

    meter = Meter(Price(1.0, 1.0))
    meter.answered((500_000, 500_000))
    assert meter.usage().usd == pytest.approx(1.0)
    meter.lost()
    assert meter.usage().usd is None
    assert meter.usage().known_usd == pytest.approx(1.0)
    meter.answered(None)
    assert (meter.usage().unmetered, meter.usage().unpriced) == (2, 2)


@pytest.mark.parametrize(
    ("usage", "tokens"),
    [
        ({"prompt_tokens": 3, "completion_tokens": 2}, (3, 2)),
        ({"prompt_tokens": 3}, (3, 0)),
        ({"prompt_tokens": 3, "completion_tokens": None}, (3, 0)),
        ({"prompt_tokens": None}, None),
        ({"prompt_tokens": -1}, None),
        ({"prompt_tokens": "3"}, None),
        (None, None),
    ],
)
def test_usage_is_read(usage: Any, tokens: tuple[int, int] | None) -> None:
    assert tokens_of({"usage": usage}) == tokens


def test_tokens_are_estimated_or_counted_with_the_models_tokenizer() -> None:
    from promptgym.llms.tiny import weights_path

    texts = ["i loved the lovely story .", "", "dull"]
    assert estimate(texts).tolist() == [9, 0, 2]
    exact = counter("s", str(weights_path("causal")))(texts)
    assert exact.tolist() == load_model("tiny").count_tokens(texts).tolist()
