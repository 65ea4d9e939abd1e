"""Models at a server are found out about, shared, pickled, forked and interrupted."""

from __future__ import annotations

import copy
import functools
import multiprocessing
import pickle
import signal
import subprocess
import sys
import time
from typing import Any

import numpy as np
import pytest
from openai_server import GOOD, LABELS, Answer, Behave, Seen, chat, model_at, serving

from promptgym.errors import ModelError
from promptgym.llms import LanguageModel, forget_models, load_model
from promptgym.llms.openai.model import OpenAIModel

pytestmark = pytest.mark.usefixtures("openai_key")


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
