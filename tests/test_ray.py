"""Replicas as Ray actors: the answers of one model, spread, and nothing lost when an actor dies."""

from __future__ import annotations

import copy
import json
import os
import pickle
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from promptgym import load_model, load_task
from promptgym.errors import ExtraMissingError, ModelError
from promptgym.llms import LanguageModel, Sampling
from promptgym.llms.ray_model import RayModel, batches_of_equals, slices
from promptgym.problem import make_problem
from promptgym.prompts import Prompt

LABELS = ["great", "terrible"]
TEXTS = [f"<text> the story of {i} stones <instruction> well ? <answer>" for i in range(200)]
ANY_RAY = "the extra `ray` is not installed"


def test_options_that_mean_nothing_are_refused_before_anything_starts() -> None:
    for options, message in (
        ({"replicas": 0}, "replicas must be a whole number of at least 1, got 0"),
        ({"replicas": 1.5}, "replicas must be a whole number"),
        ({"gpus_per_replica": -1}, "gpus_per_replica must be a number of at least 0"),
        ({"batch": 0}, "batch must be a whole number of at least 1"),
        ({"retries": True}, "retries must be a whole number"),
    ):
        with pytest.raises(ModelError, match=message):
            load_model("ray:tiny", **options)
    for spec in ("ray:openai:http://localhost:1/v1#m", "ray:ray:tiny"):
        with pytest.raises(ModelError, match="make nothing faster"):
            load_model(spec)


def test_without_ray_the_error_names_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(ExtraMissingError, match=r"pip install 'promptgym\[ray\]'"):
        load_model("ray:tiny", replicas=3)


def test_equal_texts_share_a_batch_and_every_text_has_one() -> None:
    texts = list("abcabdaaae")
    batches = batches_of_equals(texts, [3, 3, 3, 1])
    assert sorted(i for batch in batches for i in batch) == list(range(10))
    for text in set(texts):
        found = [batch for batch in batches if any(texts[i] == text for i in batch)]
        assert len(found) == 1
        assert [i for i in found[0] if texts[i] == text] == [
            i for i, t in enumerate(texts) if t == text
        ]
    assert slices(5, 1, 2) == [(0, 2), (2, 4), (4, 5)] and slices(0, 2, None) == []
    for n in (1, 17, 100, 4096, 100_000):
        bounds = slices(n, 3, None)
        assert [a for a, _ in bounds] == [0, *(b for _, b in bounds[:-1])] and bounds[-1][1] == n
        assert max(b - a for a, b in bounds) <= 2048


@pytest.fixture(scope="module")
def cluster() -> Iterator[Any]:
    """A local Ray of two workers."""
    ray = pytest.importorskip("ray", reason=ANY_RAY)
    for name in ("RAY_USAGE_STATS_ENABLED", "RAY_worker_niceness"):
        os.environ.setdefault(name, "0")
    ray.init(
        address="local",
        num_cpus=4,
        include_dashboard=False,
        log_to_driver=False,
        object_store_memory=100 * 2**20,
    )
    yield ray
    ray.shutdown()


@pytest.fixture(scope="module")
def pair(cluster: Any) -> RayModel:
    """Two replicas of the embedded model."""
    model = load_model("ray:tiny", replicas=2, batch=20)
    assert isinstance(model, RayModel)
    return model


def pids(model: RayModel) -> list[int]:
    """Return the processes of the replicas that have loaded their model."""
    return [r.about["pid"] for r in model.replicas.replicas if r.about is not None]


def wait_for(condition: Callable[[], bool], seconds: float = 120) -> None:
    """Wait until something is so."""
    until = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < until
        time.sleep(0.02)


def recording(path: Path) -> str:
    """Write recorded answers to TEXTS; return the spec."""
    content = {"model": "m", "kind": "causal", "mask": "", "template": "{input}"}
    content |= {"demonstration": "{input} {answer}", "labels": LABELS, "verbalizers": {}}
    ids = {"setting": "s", "examples": "e", "prompt": {}}
    lines: list[Any] = [
        {"format": "promptgym-cache", "version": 1},
        {"kind": "setting", "id": "s", "content": {**content, "decoding": None, "version": 1}},
        {"kind": "examples", "id": "e", "examples": [{"input": t, "target": ""} for t in TEXTS]},
        {"kind": "answers", **ids, "answers": [[-1.0, -2.0]] * 200, "tokens": [9] * 200},
    ]
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    return f"replay:{path}"


def kill_while_busy(model: RayModel, call: Callable[[], Any]) -> Any:
    """Kill a replica that certainly has a batch: it is stopped first, then killed when busy."""
    replica = model.replicas.replicas[0]
    assert replica.about is not None and replica.state == "idle"
    pid = replica.about["pid"]
    os.kill(pid, signal.SIGSTOP)
    out: list[Any] = []

    def ask() -> None:
        try:
            out.append(call())
        except ModelError as error:
            out.append(error)

    thread = threading.Thread(target=ask)
    thread.start()
    wait_for(lambda: replica.state == "busy")
    os.kill(pid, signal.SIGKILL)
    thread.join(timeout=120)
    return out[0]


def test_replicas_answer_as_the_model_does(pair: RayModel) -> None:
    assert isinstance(pair, LanguageModel)
    model = load_model("tiny")
    assert (pair.name, pair.kind, pair.mask_token) == (model.name, model.kind, model.mask_token)
    got, want = pair.label_logprobs(TEXTS, LABELS), model.label_logprobs(TEXTS, LABELS)
    np.testing.assert_allclose(got.logprobs, want.logprobs, atol=1e-4)
    np.testing.assert_array_equal(got.tokens, want.tokens)
    np.testing.assert_array_equal(pair.count_tokens(TEXTS), model.count_tokens(TEXTS))
    two = TEXTS[:30], [f"{i} stones" for i in range(30)]
    np.testing.assert_allclose(pair.loglikelihood(*two), model.loglikelihood(*two), atol=1e-4)
    assert len(set(pids(pair))) == 2 and os.getpid() not in pids(pair)
    worked = [r.worked for r in pair.replicas.replicas]
    assert min(worked) > 0.1 * max(worked)


def test_failures_keep_their_places(pair: RayModel) -> None:
    texts = [*TEXTS[:45], "long " * 3000, *TEXTS[:3]]
    got = pair.label_logprobs(texts, LABELS)
    assert list(got.failures) == [45] and "tokens" in got.failures[45]
    assert np.isnan(got.logprobs).any(axis=1).tolist() == [i == 45 for i in range(49)]


def test_draws_of_equal_texts_differ_as_in_one_call(pair: RayModel) -> None:
    texts = (TEXTS[:3] * 15)[:40]
    hot = Sampling(max_new_tokens=5, temperature=1.5, seed=3)
    got = pair.generate(texts, hot)
    assert got == load_model("tiny").generate(texts, hot)
    assert len({c.text for c, t in zip(got, texts, strict=True) if t == TEXTS[0]}) > 1


def test_errors_of_the_model_arrive_as_they_are(pair: RayModel) -> None:
    for call in (pair, load_model("tiny")):
        with pytest.raises(ModelError, match="both become the tokens"):
            call.check_labels(["great", "great"])
    with pytest.raises(ModelError, match="'replay:nowhere': nowhere: there is no such file"):
        load_model("ray:replay:nowhere")
    assert pair.label_logprobs(TEXTS[:2], LABELS).logprobs.shape == (2, 2)


def test_a_batch_whose_replica_is_killed_is_asked_of_another(pair: RayModel) -> None:
    want = load_model("tiny").label_logprobs(TEXTS, LABELS).logprobs
    before, killed = set(pids(pair)), pair.replicas.deaths
    got = kill_while_busy(pair, lambda: pair.label_logprobs(TEXTS, LABELS))
    assert pair.replicas.deaths == killed + 1 and not got.failures
    np.testing.assert_allclose(got.logprobs, want, atol=1e-4)

    def whole() -> bool:
        pair.label_logprobs(TEXTS[:1], LABELS)
        return [r.state for r in pair.replicas.replicas] == ["idle", "idle"]

    wait_for(whole)
    assert len(before & set(pids(pair))) == 1 and len(set(pids(pair))) == 2


def test_threads_share_the_replicas(pair: RayModel) -> None:
    want = load_model("tiny").label_logprobs(TEXTS, LABELS).logprobs
    got: dict[int, Any] = {}

    def ask(i: int) -> None:
        got[i] = pair.label_logprobs(TEXTS[i * 40 : i * 40 + 40], LABELS).logprobs

    threads = [threading.Thread(target=ask, args=(i,)) for i in range(5)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(timeout=120)
    np.testing.assert_allclose(np.concatenate([got[i] for i in range(5)]), want, atol=1e-4)


def test_a_problem_scores_the_same_and_the_model_is_shared(pair: RayModel) -> None:
    task = load_task("author")
    prompts = [Prompt("what is it ?"), Prompt("great")]
    one, two = (make_problem(task, m).score(prompts) for m in ("tiny", pair))
    np.testing.assert_array_equal(one.values, two.values)
    assert load_model("ray:tiny", replicas=2, batch=20) is pair
    assert copy.deepcopy(pair) is pair and copy.copy(pair) is pair
    assert pickle.loads(pickle.dumps(pair)) is pair


def test_a_batch_that_kills_every_replica_is_a_failure_of_its_texts(
    cluster: Any, tmp_path: Path
) -> None:
    model = load_model(f"ray:{recording(tmp_path / 'e.jsonl')}", retries=0, batch=20)
    assert isinstance(model, RayModel)
    got = kill_while_busy(model, lambda: model.label_logprobs(TEXTS[:40], LABELS))
    assert list(got.failures) == list(range(20))
    assert got.failures[0].startswith("api_error: 1 replicas died of this batch; the last: Actor")
    assert np.isnan(got.logprobs[:20]).all() and np.isfinite(got.logprobs[20:]).all()
    found = kill_while_busy(model, lambda: model.count_tokens(TEXTS[:40]))
    assert isinstance(found, ModelError) and "1 replicas died of this batch" in str(found)


def test_replicas_that_the_cluster_has_no_room_for_are_an_error(cluster: Any) -> None:
    with pytest.raises(ModelError, match=r"did not start in 2 s; it needs 1 CPUs and 8 GPUs"):
        load_model("ray:tiny", gpus_per_replica=8, start_timeout=2)
