"""What stands side by side behind a prefix is scored as if it stood alone."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from promptgym.llms import load_model
from promptgym.llms.lines import Line

LABELS = ["yes", "no"]


@pytest.fixture
def drawn() -> Any:
    rng = np.random.default_rng(0)
    words = list(load_model("tiny").tokenizer.get_vocab())  # type: ignore[attr-defined]
    words = sorted(word for word in words if word.isalpha())

    def texts(count: int, shortest: int, longest: int) -> list[str]:
        lengths = rng.integers(shortest, longest + 1, count)
        return [" ".join(rng.choice(words, n)) for n in lengths]

    return texts


def watched(model: Any) -> list[list[Line]]:
    """Collect the batches that a model's engine runs."""
    batches: list[list[Line]] = []
    forward = model.engine._forward

    def watch(lines: list[Line], *args: Any) -> Any:
        batches.append(lines)
        return forward(lines, *args)

    model.engine._forward = watch
    return batches


@pytest.mark.parametrize("prompt_first", [False, True])
def test_scores_are_those_of_plain_passes_whatever_is_known(drawn: Any, prompt_first: bool) -> None:
    plain, model = load_model("tiny", kv_cache_mb=0), load_model("tiny", kv_cache_mb=64)
    batches = watched(model)
    inputs = drawn(9, 3, 60)
    for round_, chosen in enumerate((inputs, inputs, inputs[2:7], inputs[::-2])):
        prompts = drawn(5, 1, 12)
        texts = [f"{p} {i}" if prompt_first else f"{i} {p}" for p in prompts for i in chosen]
        got = model.label_logprobs(texts, LABELS).logprobs
        np.testing.assert_allclose(got, plain.label_logprobs(texts, LABELS).logprobs, atol=1e-4)
        assert any(len(line.items) > 1 for lines in batches for line in lines), round_
        batches.clear()


def test_long_labels_and_likelihoods_too(drawn: Any) -> None:
    plain, model = load_model("tiny", kv_cache_mb=0), load_model("tiny", kv_cache_mb=64)
    inputs, prompts = drawn(6, 10, 40), drawn(4, 1, 9)
    contexts = [f"{i} {p}" for p in prompts for i in inputs]
    endings = [f" {text}" for text in drawn(len(contexts), 1, 6)]
    for _ in range(2):
        got = model.loglikelihood(contexts, endings)
        np.testing.assert_allclose(got, plain.loglikelihood(contexts, endings), atol=1e-4)
    labels = ["yes it is", "no not at all"]
    got = model.label_logprobs(contexts, labels).logprobs
    np.testing.assert_allclose(got, plain.label_logprobs(contexts, labels).logprobs, atol=1e-4)


def test_examples_that_are_known_are_read_where_they_lie(drawn: Any) -> None:
    model: Any = load_model("tiny", kv_cache_mb=64)
    inputs = drawn(32, 30, 34)
    for _ in range(2):
        model.label_logprobs([f"{i} {p}" for p in drawn(8, 8, 8) for i in inputs], LABELS)
    batches, table = watched(model), model.engine._table
    model.label_logprobs([f"{i} {p}" for p in drawn(8, 8, 8) for i in inputs], LABELS)
    assert model.engine._table is table, "the same memory as in the last call"
    for lines in batches:
        places = [table.places[line.prefix] for line in lines]
        assert places == list(range(places[0], places[0] + len(lines)))
        assert all(len(line.items) > 1 for line in lines)


def test_what_goes_on_otherwise_each_time_is_not_kept(drawn: Any) -> None:
    model: Any = load_model("tiny", kv_cache_mb=64)
    inputs = drawn(4, 10, 12)
    for _ in range(2):
        model.label_logprobs([f"{i} {p}" for p in drawn(3, 50, 60) for i in inputs], LABELS)
    kept = model.kept
    model.label_logprobs([f"{i} {p}" for p in drawn(3, 50, 60) for i in inputs], LABELS)
    assert model.kept == kept
