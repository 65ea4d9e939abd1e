"""Options, addresses and keys of the openai: backend: checked, and secrets never repeated."""

from __future__ import annotations

import copy
import pickle
from typing import Any

import pytest

from promptgym.errors import ModelError
from promptgym.llms import load_model
from promptgym.llms.openai.keys import Key, read_key
from promptgym.llms.openai.options import Endpoint, OpenAIOptions

SECRET = "sk-VerySecret-0123456789abcdef"


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
