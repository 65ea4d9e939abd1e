"""Whole runs with a served model, from the command line: what is left on disk holds no key."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from openai_server import SECRET, Answer, Seen, chat, serving

from promptgym.cli import main
from promptgym.tasks import load_task

pytestmark = pytest.mark.usefixtures("openai_key")


def promptgym(*words: str) -> int:
    """Run a command in this process; return its exit status."""
    with pytest.raises(SystemExit) as left:
        main(list(words))
    return int(left.value.code or 0)


def test_a_run_leaves_no_key_behind(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    words = [load_task("author").words_for(label) for label in load_task("author").labels or ()]

    def behave(seen: Seen) -> Answer:
        text = seen.body["messages"][-1]["content"]
        number = sum(map(ord, text))
        if number % 17 == 0:  # a server that says back what it was sent
            said = f"no: {seen.headers['Authorization']}"
            return Answer(400, {"error": {"message": said}})
        return chat(words[number % len(words)])

    options = json.dumps({"api": "chat", "labels": "generate", "price_in": 1.0, "price_out": 2.0})
    with serving(behave) as server:
        out = tmp_path / "run"
        arguments = ["--task", "author", "--model", server.spec(), "--model-options", options]
        status = promptgym(
            "train", "hill_climbing", *arguments, "--budget", "640", "--out", str(out)
        )
    printed = capfd.readouterr()
    assert status == 0, printed.err
    assert {s.headers["Authorization"] for s in server.seen} == {f"Bearer {SECRET}"}
    files = [path for path in out.rglob("*") if path.is_file()]
    assert {path.name for path in files} >= {"config.json", "events.jsonl", "report.html"}
    for path in files:
        assert SECRET.encode() not in path.read_bytes(), path
    assert SECRET not in printed.out + printed.err


def test_a_key_in_the_wrong_place_is_refused_unseen(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    wrong = [
        (f"openai:http://user:{SECRET}@127.0.0.1:1/v1#m", {}),
        (f"openai:http://127.0.0.1:1/v1?key={SECRET}#m", {}),
        ("openai:http://127.0.0.1:1/v1#m", {"key_env": SECRET}),
        ("openai:http://127.0.0.1:1/v1#m", {"body": {"api_key": SECRET}}),
        ("openai:http://127.0.0.1:1/v1#m", {"body": {"user": f"me-{SECRET}"}}),
        (f"openai:http://127.0.0.1:1/v1#{SECRET}", {}),
        (f"openai:http://127.0.0.1:1/{SECRET}/v1#m", {}),
    ]
    for number, (spec, options) in enumerate(wrong):
        out = tmp_path / str(number)
        words = ["--task", "author", "--model", spec, "--model-options", json.dumps(options)]
        assert promptgym("train", "random_tokens", *words, "--out", str(out)) != 0
        printed = capfd.readouterr()
        assert SECRET not in printed.out + printed.err, spec
        for path in out.rglob("*"):
            assert not path.is_file() or SECRET not in path.read_text(), path
