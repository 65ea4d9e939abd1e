"""What served models cost: each ledger pays for its own requests, and knows before it asks."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from openai_server import LABELS, Answer, Seen, chat, model_at, serving

from promptgym.evaluation.projection import StandIn
from promptgym.problem import Problem
from promptgym.prompts import Prompt
from promptgym.testing import transparent_task

PRICED = {"api": "chat", "labels": "generate", "price_in": 1.0, "price_out": 10.0}
EACH = (12 * 1.0 + 3 * 10.0) / 1e6  # what the server says that a request used


def answers(seen: Seen) -> Answer:
    return chat("no")


def echoes(seen: Seen) -> Answer:
    """Say every prompt back, a token a word, with log-probabilities."""
    asked = seen.body["prompt"]
    choices = []
    for n, prompt in enumerate([asked] if isinstance(asked, str) else asked):
        tokens = [*(f" {word}" for word in prompt.split()), "."]
        logprobs = {"tokens": tokens, "token_logprobs": [None] + [-2.5] * (len(tokens) - 1)}
        choices.append({"index": n, "text": f"{prompt}.", "logprobs": logprobs})
    return Answer(body={"choices": choices})


@pytest.mark.parametrize("at_once", [False, True])
def test_each_ledger_pays_for_its_own_requests(at_once: bool) -> None:
    task = transparent_task()
    with serving(answers) as server:
        model = model_at(server, **PRICED)
        problems = [Problem(task, model) for _ in range(3)]  # all made before any is asked
        jobs = [
            (problem, [Prompt(f"{n} {i}") for i in range(n)])
            for n, problem in enumerate(problems, start=1)
        ]
        if at_once:
            with ThreadPoolExecutor() as pool:
                list(pool.map(lambda job: job[0].score(job[1]), jobs))
        else:
            for problem, prompts in jobs:
                problem.score(prompts)
        for n, problem in enumerate(problems, start=1):
            expected = n * len(task.train) * EACH
            assert problem.ledger.usd == pytest.approx(expected), n
        assert model.usage.known_usd == pytest.approx(6 * len(task.train) * EACH)


def test_a_dry_run_counts_instruction_and_answer() -> None:
    texts = ["a film of note", "dull"]
    with serving(answers) as server:
        model = model_at(server, **PRICED)
        read, written = model.label_cost(texts, LABELS)
        assert (read > model.count_tokens(texts)).all(), "the instruction is read, too"
        assert (written >= 16).all()
        stand_in = StandIn(model, 60.0)
        found = stand_in.label_logprobs(texts, LABELS)
        assert stand_in.usage.known_usd == pytest.approx(
            (read.sum() * 1.0 + written.sum() * 10.0) / 1e6
        )
        np.testing.assert_array_equal(found.tokens, read + written)
        unknown = model_at(server, **{**PRICED, "price_out": None})
        stand_in = StandIn(unknown, 60.0)
        stand_in.label_logprobs(texts, LABELS)
        assert stand_in.usage.unpriced == 1 and not server.seen


def test_with_log_probabilities_a_text_is_read_once_a_label() -> None:
    with serving(echoes) as server:
        model = model_at(server, api="completions", labels="logprobs")
        read, written = model.label_cost(["a film of note"], LABELS)
        assert read[0] >= 2 * model.count_tokens(["a film of note"])[0]
        assert written.tolist() == [2]


def test_a_cap_on_tokens_counts_what_labels_cost() -> None:
    task = transparent_task()
    with serving(answers) as server:
        model = model_at(server, **PRICED)
        problem = Problem(task, model, budget={"tokens": 4000})
        problem.score([Prompt(f"prompt {i}") for i in range(40)])
        assert 0 < 15 * len(server.seen) == problem.ledger.tokens <= 4000
