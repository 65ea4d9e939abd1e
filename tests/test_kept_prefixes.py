"""What is kept of beginnings: within its memory, whatever a text does to numbers."""

from __future__ import annotations

import gc
import random
from typing import Any

import numpy as np
import torch
from llm_models import sentence
from test_llms import computed

from promptgym.llms import load_model
from promptgym.llms.prefix import Entry

LABELS = ["great", "bad"]


def test_memory_is_bounded_while_a_call_goes_on(built: Any) -> None:
    model: Any = load_model(built("causal", "llama"), kv_cache_mb=0.1)
    rng = random.Random(0)
    rows = [[rng.randrange(4, 260) for _ in range(60)] for _ in range(300)]
    cut = model.engine._cut
    others = {id(found) for found in gc.get_objects() if isinstance(found, Entry)}
    alive: list[int] = []

    def watch(*args: Any) -> None:
        cut(*args)
        held = [found for found in gc.get_objects() if isinstance(found, Entry)]
        alive.append(sum(entry.bytes for entry in held if id(entry) not in others))

    model.engine._cut = watch
    model.engine.columns_logprobs(rows, np.array([5, 6]))
    assert len(alive) > 2 and len(model.engine.store), "several batches, of which something is kept"
    assert max(alive) <= 0.1 * 2**20


def test_inputs_behind_a_common_beginning_are_read_once(built: Any) -> None:
    """One prompt a call, as an environment asks; a template's first words or a begin token."""
    model: Any = load_model(built("causal", "llama"), kv_cache_mb=9)
    plain: Any = load_model(built("causal", "llama"), kv_cache_mb=0)
    rng = random.Random(1)
    inputs = [sentence(rng, 15, 20) for _ in range(40)]
    costs, kept, asked = [], [], []
    for _ in range(5):
        prompt = sentence(rng, 3, 3)
        texts = [f"film review of {i} {prompt}" for i in inputs]
        asked.append(texts)
        with computed(model) as sizes:
            got = model.label_logprobs(texts, LABELS).logprobs
        costs.append(sum(sizes))
        kept.append(model.kept)
        want = plain.label_logprobs(texts, LABELS).logprobs
        np.testing.assert_allclose(got, want, atol=1e-4)
    assert max(costs[2:]) < costs[0] / 4
    assert kept[0] < kept[1] == kept[2] == kept[4]
    resumed: Any = load_model(built("causal", "llama"), kv_cache_mb=11)
    for texts in asked[:2]:  # a resumed run asks again what made a model keep something
        resumed.label_logprobs(texts, LABELS)
    assert (resumed.label_logprobs(asked[4], LABELS).logprobs == got).all(), "to the last bit"


def test_a_text_that_overflows_spoils_no_other(built: Any) -> None:
    """A token that makes NaN, as numbers too large for half precision do."""
    model: Any = load_model(built("causal", "llama"), kv_cache_mb=8)
    (bad,) = model.tokenizer("~")["input_ids"]
    rng = random.Random(1)
    inputs = [sentence(rng, 15, 20) for _ in range(6)]
    ends = [sentence(rng, 2, 6) for _ in range(5)]
    with torch.no_grad():
        whole = model.model.get_input_embeddings().weight[bad].clone()
        model.model.get_input_embeddings().weight[bad] = torch.nan
    try:
        for prompts in ([*ends, "a ~ b"], ends, [f"{end} was it not" for end in ends]):
            for texts in (
                [f"{i} {p}" for i in inputs for p in prompts],
                [f"{p} {i}" for i in inputs for p in prompts],
            ):
                found = np.isnan(model.label_logprobs(texts, LABELS).logprobs).any(axis=1)
                assert found.tolist() == ["~" in text for text in texts]
    finally:
        with torch.no_grad():
            model.model.get_input_embeddings().weight[bad] = whole
