"""The embedded models: how they are written, trained, stored and loaded."""

from __future__ import annotations

import random
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from transformers import AutoModelForCausalLM, AutoModelForMaskedLM, AutoTokenizer

from promptgym.llms.tiny import INDUCE_TEMPLATE, MODELS, REWRITE_TEMPLATE, weights_path
from promptgym.llms.tiny.batches import collate
from promptgym.llms.tiny.documents import Recipe, write_document
from promptgym.llms.tiny.fast import CausalScorer
from promptgym.llms.tiny.shapes import fresh_model
from promptgym.llms.tiny.tokenizer import SPECIAL_TOKENS, encode_words, token_ids
from promptgym.llms.tiny.train import Settings, train
from promptgym.tasks.world import DEMONSTRATION, MASKED_TEMPLATE, TEMPLATE, WORLD_TASKS, generate
from promptgym.tasks.world.generate import generate_items

SHAPE = {"hidden": 16, "layers": 1, "heads": 2, "feed_forward": 16}
LOADERS = {
    "causal": AutoModelForCausalLM,
    "masked": AutoModelForMaskedLM,
    "rewriter": AutoModelForCausalLM,
}


@pytest.fixture(scope="module")
def loaded() -> dict[str, tuple[Any, Any]]:
    """Every embedded model with its tokenizer, loaded as any user would."""
    return {
        name: (
            LOADERS[name].from_pretrained(weights_path(name), dtype=torch.float32).eval(),
            AutoTokenizer.from_pretrained(weights_path(name)),
        )
        for name in MODELS
    }


def test_weights_are_small_and_complete() -> None:
    for name in MODELS:
        folder = weights_path(name)
        assert (folder / "model.safetensors").stat().st_size <= 6_000_000
        for file in ("config.json", "tokenizer.json", "tokenizer_config.json"):
            assert (folder / file).is_file()
    with pytest.raises(ValueError, match="causal, masked, rewriter"):
        weights_path("gpt")


def test_tokenizer_agrees_with_the_training_encoder(loaded: dict[str, tuple[Any, Any]]) -> None:
    ids = token_ids()
    tokenizer = loaded["causal"][1]
    for name in WORLD_TASKS:
        text = TEMPLATE.format(
            input=generate(name, 1, 0)[0][0], prompt="Carefully, state the zyx7 sentimant !"
        )
        expected = encode_words(["<bos>", *text.lower().replace(",", " ,").split()])
        assert tokenizer(text)["input_ids"] == expected
        assert ids["<unk>"] not in expected
    assert tokenizer("the ☃")["input_ids"][-1] == ids["<unk>"]
    assert loaded["masked"][1]("the")["input_ids"] == [ids["<bos>"], ids["the"], ids["<eos>"]]


def test_tokenizer_round_trip(loaded: dict[str, tuple[Any, Any]]) -> None:
    tokenizer = loaded["causal"][1]
    words = WORLD_TASKS["review-author"].vocabulary
    assert tokenizer.convert_ids_to_tokens(tokenizer(" ".join(words))["input_ids"][1:]) == list(
        words
    )
    assert (
        tokenizer.decode(tokenizer("unheard zebra")["input_ids"], skip_special_tokens=True)
        == "unheard zebra"
    )
    assert [tokenizer.convert_tokens_to_ids(token) for token in SPECIAL_TOKENS] == list(
        range(len(SPECIAL_TOKENS))
    )


def test_chat_template_gives_the_plain_template(loaded: dict[str, tuple[Any, Any]]) -> None:
    tokenizer = loaded["causal"][1]
    text = TEMPLATE.format(input="the film : i loved it .", prompt="author")
    messages = [{"role": "user", "content": text.removesuffix(" <answer>")}]
    given = tokenizer.apply_chat_template(messages, add_generation_prompt=True, tokenize=False)
    assert given == text


def _accuracy(model: Any, tokenizer: Any, name: str, prompt: str) -> float:
    """Accuracy on 60 examples, by the plainest code."""
    task = WORLD_TASKS[name]
    examples = generate(name, 60, seed=11)
    columns = tokenizer.convert_tokens_to_ids(list(task.labels or ()))
    hits = 0
    for text, target in examples:
        ids = tokenizer(TEMPLATE.format(input=text, prompt=prompt), return_tensors="pt")
        with torch.inference_mode():
            logits = model(ids["input_ids"]).logits[0, -1]
        hits += (task.labels or ())[int(logits[columns].argmax())] == target
    return hits / len(examples)


@pytest.mark.parametrize("name", [name for name, task in WORLD_TASKS.items() if task.labels])
def test_causal_model_follows_the_best_known_prompt(
    loaded: dict[str, tuple[Any, Any]], name: str
) -> None:
    task = WORLD_TASKS[name]
    assert _accuracy(*loaded["causal"], name, task.best_known_prompt) >= 0.9
    assert _accuracy(*loaded["causal"], name, task.manual_prompt) <= 0.8


def test_masked_model_answers_the_question_that_is_asked(
    loaded: dict[str, tuple[Any, Any]],
) -> None:
    """It goes by surface words (see the model card): right where these do not mislead."""
    model, tokenizer = loaded["masked"]
    pairs = [
        pair
        for pair in generate_items("review-author", 120, seed=11)
        if pair[0].answers["author"][0] == pair[0].answers["author"][1]
    ]
    columns = tokenizer.convert_tokens_to_ids(["terrible", "great"])
    hits = {"author": 0, "critics": 0}
    for prompt in hits:
        for item, target in pairs:
            text = MASKED_TEMPLATE.format(input=item.text, prompt=prompt, mask="<mask>")
            ids = tokenizer(text, return_tensors="pt")["input_ids"]
            with torch.inference_mode():
                logits = model(ids).logits[0, int((ids[0] == tokenizer.mask_token_id).nonzero())]
            hits[prompt] += ("terrible", "great")[int(logits[columns].argmax())] == target
    assert hits["author"] / len(pairs) >= 0.75
    assert hits["author"] > hits["critics"]


def test_generation_task_is_answered_in_words(loaded: dict[str, tuple[Any, Any]]) -> None:
    model, tokenizer = loaded["causal"]
    task = WORLD_TASKS["words-ends"]
    hits = 0
    for text, target in generate(task.name, 20, seed=5):
        ids = tokenizer(
            TEMPLATE.format(input=text, prompt=task.best_known_prompt), return_tensors="pt"
        )["input_ids"]
        out = model.generate(ids, max_new_tokens=4, do_sample=False)[0, ids.shape[1] :]
        hits += tokenizer.decode(out, skip_special_tokens=True).strip() == target
    assert hits >= 17


def test_rewriter_writes_words(loaded: dict[str, tuple[Any, Any]]) -> None:
    model, tokenizer = loaded["rewriter"]
    shown = "".join(
        DEMONSTRATION.format(input=x, answer=y) for x, y in generate("news-topic", 2, 0)
    )
    for start in (
        REWRITE_TEMPLATE.format(prompt="the view of the staff"),
        INDUCE_TEMPLATE.format(demonstrations=shown),
    ):
        ids = tokenizer(start, return_tensors="pt")["input_ids"]
        torch.manual_seed(0)
        out = model.generate(ids.repeat(8, 1), max_new_tokens=24, do_sample=True)[:, ids.shape[1] :]
        texts = [tokenizer.decode(row, skip_special_tokens=True) for row in out]
        assert len(set(texts)) >= 4
        assert all(tokenizer.eos_token_id in row for row in out)


def test_fast_scorer_equals_the_plain_forward_pass(loaded: dict[str, tuple[Any, Any]]) -> None:
    model, tokenizer = loaded["causal"]
    inputs = [text for text, _ in generate("review-price", 5, 0)]
    prompts = [["carefully", "price"], [], ["what", "is", "unheard", "?"]]
    fast = CausalScorer(model, inputs, ("terrible", "great"))(prompts)
    columns = tokenizer.convert_tokens_to_ids(["terrible", "great"])
    for i, prompt in enumerate(prompts):
        for j, text in enumerate(inputs):
            ids = tokenizer(
                TEMPLATE.format(input=text, prompt=" ".join(prompt)), return_tensors="pt"
            )["input_ids"]
            with torch.inference_mode():
                plain = model(ids).logits[0, -1].log_softmax(-1)[columns]
            np.testing.assert_allclose(fast[i, j], plain.numpy(), atol=2e-5)


@pytest.mark.parametrize("kind", ["causal", "masked"])
def test_blocks_see_what_a_user_would_write(kind: str) -> None:
    """The first block of a document predicts the same without the blocks after it."""
    rng = random.Random(3)
    document = write_document(rng, Recipe(masked=kind == "masked", questions=3, shown=0.0))
    keep = [i for i, block in enumerate(document.blocks) if block <= 1]
    names = ("ids", "blocks", "positions", "targets", "weights")
    alone = type(document)(*([getattr(document, name)[i] for i in keep] for name in names))
    torch.manual_seed(0)
    model = fresh_model(kind, **SHAPE).eval()
    causal = kind == "causal"
    outputs = []
    for doc in (document, alone):
        batch = collate([doc], causal=causal)
        if not causal:
            batch.allowed[:, :, np.array(doc.blocks) == 0, :] = (np.array(doc.blocks) == 0)[
                None, None, None
            ]
        with torch.inference_mode():
            hidden = model.base_model(
                input_ids=torch.from_numpy(batch.ids),
                position_ids=torch.from_numpy(batch.positions),
                attention_mask=torch.from_numpy(batch.allowed),
            ).last_hidden_state
        outputs.append(hidden[0, keep[-1]])
    torch.testing.assert_close(outputs[0], outputs[1], atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("kind", ["causal", "masked"])
def test_resumed_training_equals_uninterrupted(kind: str, tmp_path: Path) -> None:
    settings = Settings(kind, steps=6, documents=2, warmup=2)
    whole = train(settings, tmp_path / "a", device="cpu", shape=SHAPE)
    train(settings, tmp_path / "b", device="cpu", shape=SHAPE, stop=3)
    resumed = train(settings, tmp_path / "b", device="cpu", shape=SHAPE, resume=True)
    for name, value in whole.state_dict().items():
        assert torch.equal(value, resumed.state_dict()[name]), name
    with pytest.raises(ValueError, match="made with"):
        train(replace(settings, seed=1), tmp_path / "b", device="cpu", shape=SHAPE, resume=True)
    model = LOADERS[kind].from_pretrained(tmp_path / "a" / "model")
    assert model.dtype == torch.float16
