"""Language models: what they write, and how they are loaded, named, shared and counted."""

from __future__ import annotations

import copy
import pickle
import random
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from llm_models import BEGIN, sentence

from promptgym.errors import ModelError
from promptgym.llms import LanguageModel, Sampling, load_model

WRITERS = [
    ("causal", "gpt2"),
    ("causal", "llama"),
    ("causal", "alibi"),
    ("causal", "bart-decoder"),
    ("seq2seq", "t5"),
    ("seq2seq", "bart"),
]


@pytest.mark.parametrize(("kind", "name"), WRITERS)
def test_greedy_generation_is_that_of_transformers(built: Any, kind: str, name: str) -> None:
    model: Any = load_model(built(kind, name))
    rng = random.Random(4)
    texts = [sentence(rng, 1, 15) for _ in range(5)]
    got = model.generate(texts, Sampling(max_new_tokens=8))
    for text, completion in zip(texts, got, strict=True):
        ids = torch.tensor([model.tokenizer(text)["input_ids"]])
        forced = {"forced_bos_token_id": 1, "forced_eos_token_id": None} if name == "bart" else {}
        ended = {"forced_eos_token_id": None} if name == "bart-decoder" else {}
        skip = ids.shape[1] if kind == "causal" else len(BEGIN[name])
        want = model.model.generate(
            ids,
            attention_mask=torch.ones_like(ids),
            max_new_tokens=8 + len(forced) // 2,
            do_sample=False,
            num_beams=1,
            **forced,
            **ended,
        )[0, skip:]
        assert completion.text == model.tokenizer.decode(want, skip_special_tokens=True)
        assert completion.tokens <= 8 and completion.error is None


@pytest.mark.parametrize(("kind", "name"), WRITERS[1::2])
def test_a_draw_depends_on_seed_and_text_alone(built: Any, kind: str, name: str) -> None:
    model = load_model(built(kind, name))
    hot = Sampling(max_new_tokens=6, temperature=1.5, top_k=40, top_p=0.95, seed=11)
    before = torch.random.get_rng_state()
    texts = ["a movie", "the plot was", "a movie", "never"]
    first = [c.text for c in model.generate(texts, hot)]
    assert torch.equal(before, torch.random.get_rng_state()), "the global generator is untouched"
    assert [c.text for c in model.generate(texts, hot)] == first
    assert [c.text for c in model.generate(texts[3:], hot)] == first[3:]
    assert first[0] != first[2], "repeats of a text are draws of their own"
    other = Sampling(max_new_tokens=6, temperature=1.5, top_k=40, top_p=0.95, seed=12)
    assert [c.text for c in model.generate(texts, other)] != first


def test_sampling_follows_the_distribution(built: Any) -> None:
    model: Any = load_model(built("causal", "llama"))
    n, text = 600, "a movie was"
    ids = torch.tensor([model.tokenizer(text)["input_ids"]])
    with torch.inference_mode():
        p = model.model(input_ids=ids).logits[0, -1].double().div(0.7).softmax(-1).numpy()
    top = np.argsort(-p)[:5]
    kept = p[top] / p[top].sum()
    hot = Sampling(max_new_tokens=1, temperature=0.7, top_k=5)
    drawn = [c.text for c in model.generate([text] * n, hot)]
    shares: dict[str, float] = {}  # two bytes may both be written as the replacement character
    for token, share in zip(top, kept, strict=True):
        word = model.tokenizer.decode([token], skip_special_tokens=True)
        shares[word] = shares.get(word, 0.0) + share
    assert set(drawn) <= set(shares)
    for word, share in shares.items():
        error = 4 * np.sqrt(share * (1 - share) / n) + 1e-9
        assert abs(drawn.count(word) / n - share) < error + 1 / n


def test_generation_stops_where_it_should(built: Any) -> None:
    model = load_model(built("causal", "llama"))
    free = model.generate(["a movie"], Sampling(max_new_tokens=12))[0].text
    stop = free[4:6]
    cut = model.generate(["a movie"], Sampling(max_new_tokens=12, stop=(stop,)))[0]
    assert cut.text == free[: free.index(stop)] and cut.tokens <= 12
    late = model.generate(["movie " * 90], Sampling(max_new_tokens=12))[0]
    assert late.error is not None and "12 are for the answer" in late.error
    with pytest.raises(ModelError, match="top_p"):
        model.generate(["a"], Sampling(top_p=0.0))


# --- loading ----------------------------------------------------------------------------------


def test_a_model_is_loaded_once_and_survives_copies(built: Any) -> None:
    spec = built("causal", "gpt2")
    model = load_model(spec)
    assert load_model(spec) is model
    assert load_model(spec, batch_tokens=64) is not model
    assert copy.deepcopy(model) is model and copy.copy(model) is model
    assert copy.deepcopy({"nested": [model]})["nested"][0] is model
    assert pickle.loads(pickle.dumps(model)) is model
    other = load_model(spec, batch_tokens=64, normalize="tokens")
    assert pickle.loads(pickle.dumps(other)) is other
    assert len(pickle.dumps(model)) < 1000
    assert isinstance(model, LanguageModel)


def test_the_name_tells_weights_and_precision_apart(built: Any, tmp_path: Path) -> None:
    one, other = load_model(built("causal", "gpt2")), load_model(built("causal", "llama"))
    assert one.name.split("@")[1] != other.name.split("@")[1]
    half = load_model(built("causal", "gpt2"), dtype="bfloat16")
    assert half.name == f"{one.name}:bfloat16"
    exact = one.label_logprobs(["a movie was"], ["great", "bad"]).logprobs
    rough = half.label_logprobs(["a movie was"], ["great", "bad"]).logprobs
    np.testing.assert_allclose(rough, exact, atol=0.3)


def test_what_cannot_be_loaded_is_named(built: Any, tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="write 'hf:gpt2'"):
        load_model("gpt2")
    with pytest.raises(ModelError, match=r"cannot be loaded.*save_pretrained"):
        load_model(f"hf:{tmp_path}")
    with pytest.raises(ModelError, match=r"unknown options \['quantize'\]"):
        load_model(built("causal", "gpt2"), quantize=True)
    with pytest.raises(ModelError, match="float64"):
        load_model(built("causal", "gpt2"), dtype="float64")
    with pytest.raises(ModelError, match="device 'cuda:99'"):
        load_model(built("causal", "gpt2"), device="cuda:99")
    with pytest.raises(ModelError, match="JSON"):
        load_model("hf:x", dtype=torch.float32)
    (tmp_path / "config.json").write_text('{"model_type": "bert", "architectures": ["BertModel"]}')
    with pytest.raises(ModelError, match=r"BertModel.*expected a causal"):
        load_model(f"hf:{tmp_path}")


def test_tokens_are_counted_without_special_ones(built: Any) -> None:
    model = load_model(built("masked", "roberta"))
    assert model.count_tokens(["", "great", "a great movie"]).tolist()[0] == 0
    texts = ["a movie <mask> .", "the plot was <mask> ."]
    counted = model.count_tokens(texts)
    np.testing.assert_array_equal(model.label_logprobs(texts, ["great", "bad"]).tokens, counted)


def test_a_model_without_key_values_says_that_it_does_not_generate(built: Any) -> None:
    model = load_model(built("causal", "state-space"))
    with pytest.raises(ModelError, match=r"keeps no key/values .* give the task labels"):
        model.generate(["a movie"], Sampling())
