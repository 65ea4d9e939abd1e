"""The openai: backend before real models: what comes over the wire is what the model thinks."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from openai_server import Answer, Seen, serving

from promptgym import make_problem
from promptgym.errors import ModelError
from promptgym.llms import Sampling, forget_models, load_model
from promptgym.llms.openai.model import OpenAIModel
from promptgym.prompts import Prompt
from promptgym.tasks import load_task

TEXTS = [
    "<text> forum story : i loved it . <instruction> what is the opinion of the author ? <answer>",
    "<text> forum soup : i hated it . <instruction> what is the opinion of the author ? <answer>",
    "<text> river stone cloud <instruction> name the first word <answer>",
]
LABELS = ["great", "terrible"]


@pytest.fixture(autouse=True)
def _forget() -> Iterator[None]:
    """No model outlives the server it was loaded from."""
    yield
    forget_models()


# --- a server that echoes log-probabilities -------------------------------------------------------


class EchoServer:
    """Answers completions with echo and log-probabilities, by plain forward passes."""

    def __init__(self, *, lists: bool = True, usage: bool = True, begin: str = "") -> None:
        """Choose its habits: lists of prompts, counting tokens, a begin token it shows."""
        self.lists, self.usage, self.begin = lists, usage, begin
        self.local: Any = load_model("tiny")

    def __call__(self, seen: Seen) -> Answer:
        """Answer one request."""
        if seen.path != "/completions":
            return Answer(404, {"error": {"message": "completions only"}})
        prompts = seen.body["prompt"]
        if isinstance(prompts, list) and not self.lists:
            return Answer(400, {"error": {"message": "prompt must be a string"}})
        prompts = [prompts] if isinstance(prompts, str) else prompts
        if not seen.body.get("echo"):
            out = self.local.generate(prompts, Sampling(max_new_tokens=seen.body["max_tokens"]))
            return Answer(body={"choices": [{"index": 0, "text": out[0].text}]})
        choices = [self.echo(n, prompt) for n, prompt in enumerate(prompts)]
        counts = {
            "prompt_tokens": sum(len(c["logprobs"]["tokens"]) - 1 for c in choices),
            "completion_tokens": len(choices),
        }
        body = {"choices": choices[::-1], **({"usage": counts} if self.usage else {})}
        return Answer(body=body)

    def echo(self, index: int, prompt: str) -> dict[str, Any]:
        """Return a prompt's tokens, their log-probabilities and one generated token."""
        ids = self.local.context_ids([prompt])[0]
        with torch.inference_mode():
            logp = self.local.model(torch.tensor([ids])).logits[0].log_softmax(-1)
        last = int(logp[-1].argmax())
        values = [None, *(float(logp[n, i]) for n, i in enumerate(ids[1:])), float(logp[-1, last])]
        tokens = [self.local.tokenizer.decode([i]) for i in [*ids, last]]
        if self.begin:
            tokens, values = [self.begin, *tokens], [None, -9.0, *values[1:]]
        logprobs = {"tokens": tokens, "token_logprobs": values, "text_offset": [0] * len(tokens)}
        return {"index": index, "text": prompt + tokens[-1], "logprobs": logprobs}


HABITS: dict[str, dict[str, Any]] = {
    "lists": {},
    "single prompts": {"lists": False},
    "no usage": {"usage": False},
    "begin token": {"begin": "<s>"},
}


@pytest.mark.parametrize("habits", HABITS.values(), ids=list(HABITS))
def test_log_probabilities_are_those_of_the_model(habits: dict[str, Any]) -> None:
    local: Any = load_model("tiny")
    with serving(EchoServer(**habits)) as server:
        model = load_model(server.spec())
        assert isinstance(model, OpenAIModel)
        assert model.labels == "logprobs"
        assert model.name == f"{server.spec()}@logprobs"
        want = local.label_logprobs(TEXTS, LABELS)
        found = model.label_logprobs(TEXTS, LABELS)
        assert not found.failures
        np.testing.assert_allclose(found.logprobs, want.logprobs, atol=1e-4)
        several = ["the story", "a dull film"]
        np.testing.assert_allclose(
            model.label_logprobs(TEXTS, several).logprobs,
            local.label_logprobs(TEXTS, several).logprobs,
            atol=1e-4,
        )
        np.testing.assert_allclose(
            model.loglikelihood(TEXTS, [" great", " dull film", " river"]),
            local.loglikelihood(TEXTS, [" great", " dull film", " river"]),
            atol=1e-4,
        )
        spaced = [text + " " for text in TEXTS]
        np.testing.assert_allclose(
            model.loglikelihood(spaced, ["great"] * 3), want.logprobs[:, 0], atol=1e-4
        )
        model.check_labels(["a", "A", "-"])
        for labels in (["very", "very bad"], ["a", "a"], ["a", " "], []):
            with pytest.raises(ModelError, match=r"begins with the words|empty|no labels"):
                model.check_labels(labels)


def test_missing_log_probabilities_are_failures_of_their_texts() -> None:
    echo = EchoServer()

    def behave(seen: Seen) -> Answer:
        answer = echo(seen)
        if "soup" in str(seen.body["prompt"]):
            for choice in answer.body["choices"]:
                choice["logprobs"] = None
        return answer

    with serving(behave) as server:
        model = load_model(server.spec())
        found = model.label_logprobs(TEXTS, LABELS)
        assert list(found.failures) == [1]
        assert found.failures[1].startswith("api_error: ")
        assert np.isnan(found.logprobs[1]).all()
        assert not np.isnan(found.logprobs[[0, 2]]).any()
        assert np.isnan(model.loglikelihood(TEXTS, [" great"] * 3)).tolist() == [False, True, False]


def test_the_space_at_the_end_of_a_context_is_the_continuations() -> None:
    sky = ["The", " color", " of", " the", " sky", " is", " blue", "."]

    def behave(seen: Seen) -> Answer:
        known = {"A: good": ["A", ":", " ", "good", "."], "The color of the sky is blue": sky}
        tokens = known.get(seen.body["prompt"] if isinstance(seen.body["prompt"], str) else "")
        if tokens is None:
            return Answer(400, {"error": {"message": "unknown"}})
        values = [None, *(-(2.0**n) for n in range(1, len(tokens)))]
        logprobs = {"tokens": tokens, "token_logprobs": values}
        return Answer(body={"choices": [{"text": seen.body["prompt"] + ".", "logprobs": logprobs}]})

    with serving(behave) as server:
        model = load_model(server.spec())
        assert model.loglikelihood(["A:", "A: "], [" good", "good"]).tolist() == [-12.0, -12.0]


def test_a_problem_over_http_scores_as_the_problem_at_home() -> None:
    prompts = [Prompt("what is the opinion ?"), Prompt("guess"), Prompt("")]
    task = load_task("author")
    with serving(EchoServer()) as server:
        found = make_problem(task, server.spec()).score(prompts, task.train[:8])
    want = make_problem(task, "tiny").score(prompts, task.train[:8])
    np.testing.assert_array_equal(found.values, want.values)
    assert found.label_logprobs is not None
    assert want.label_logprobs is not None
    np.testing.assert_allclose(found.label_logprobs, want.label_logprobs, atol=1e-4)


def test_labels_may_be_generated_where_log_probabilities_are_to_be_had() -> None:
    with serving(EchoServer()) as server:
        model = load_model(server.spec(), labels="generate", api="completions")
        found = model.label_logprobs(TEXTS[:2], LABELS)
        assert not found.failures
        want = load_model("tiny").label_logprobs(TEXTS[:2], LABELS).logprobs.argmax(axis=1)
        assert (found.logprobs.argmax(axis=1) == want).all()


# --- transformers serve ---------------------------------------------------------------------------


def _free_port() -> int:
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        return int(sock.getsockname()[1])


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """`transformers serve` with the embedded model, in a process; gives the spec."""
    from promptgym.llms.tiny import weights_path

    command = Path(sys.executable).parent / "transformers"
    weights, port = weights_path("causal"), _free_port()
    log = tmp_path_factory.mktemp("serve") / "log.txt"
    options = ["--host", "127.0.0.1", "--port", str(port), "--device", "cpu"]
    env = {**os.environ, "HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1"}
    with log.open("wb") as file:
        process = subprocess.Popen(
            [str(command), "serve", str(weights), *options], stdout=file, stderr=file, env=env
        )
    try:
        _wait_until_up(process, port, log)
        yield f"openai:http://127.0.0.1:{port}/v1#{weights}"
    finally:
        process.terminate()
        try:
            process.wait(timeout=10)
        except subprocess.TimeoutExpired:
            process.kill()


def _wait_until_up(process: subprocess.Popen[bytes], port: int, log: Path) -> None:
    """Wait for the server to answer; fail with its log if it does not."""
    deadline = time.monotonic() + 120
    while time.monotonic() < deadline and process.poll() is None:
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{port}/health", timeout=2) as answer:
                json.load(answer)
                return
        except (urllib.error.URLError, OSError, ValueError):
            time.sleep(0.1)
    pytest.fail(f"transformers serve did not come up:\n{log.read_text()[-2000:]}")


def test_transformers_serve_continues_texts_as_the_model_does(served: str) -> None:
    local = load_model("tiny")
    model = load_model(served, api="completions", labels="generate")
    sampling = Sampling(max_new_tokens=4)
    want = [c.text for c in local.generate(TEXTS, sampling)]
    found = model.generate(TEXTS, sampling)
    assert [c.error for c in found] == [None] * len(TEXTS)
    assert [c.text.strip() for c in found] == [text.strip() for text in want]
    labels = model.label_logprobs(TEXTS[:2], LABELS)
    assert not labels.failures
    best = local.label_logprobs(TEXTS[:2], LABELS).logprobs.argmax(axis=1)
    assert (labels.logprobs.argmax(axis=1) == best).all()
    assert (labels.tokens > 5).all()


def test_transformers_serve_is_found_to_chat_without_log_probabilities(served: str) -> None:
    model = load_model(served)
    assert isinstance(model, OpenAIModel)
    assert (model.labels, model.api) == ("generate", "chat")
    found = model.label_logprobs(TEXTS, LABELS)
    for row, scores in enumerate(found.logprobs):
        if row in found.failures:
            assert found.failures[row].startswith(("parse_error: ", "refused: "))
            assert np.isnan(scores).all()
        else:
            assert sorted(scores.tolist()) == [-np.inf, 0.0]
    assert model.usage.tokens_in > 0
    assert model.usage.usd is None


def test_a_model_the_server_does_not_have_is_an_error_of_the_server(served: str) -> None:
    (completion,) = load_model(served + "-other", api="completions", labels="generate").generate(
        ["a"], Sampling()
    )
    assert (completion.error or "").startswith("api_error: HTTP 4")
