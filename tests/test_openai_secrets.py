"""The key of the openai: backend is sent to its server and appears nowhere else."""

from __future__ import annotations

import logging
import pickle
import traceback

import pytest
from openai_server import GOOD, LABELS, SECRET, Answer, Seen, chat, model_at, serving

from promptgym.errors import ModelError
from promptgym.llms import Sampling, load_model

pytestmark = pytest.mark.usefixtures("openai_key")


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
