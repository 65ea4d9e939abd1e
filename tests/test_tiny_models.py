"""The embedded models: how they are written, trained, stored and loaded."""

from __future__ import annotations

import random
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoModelForCausalLM, AutoModelForMaskedLM, AutoTokenizer

from promptgym import load_model
from promptgym.errors import ModelError
from promptgym.llms.tiny import INDUCE_TEMPLATE, MODELS, REWRITE_TEMPLATE, weights_path
from promptgym.llms.tiny.batches import collate
from promptgym.llms.tiny.documents import Document, Recipe, write_document
from promptgym.llms.tiny.posterior import answer_distribution, believe, strengths
from promptgym.llms.tiny.shapes import both_ways, fresh_model
from promptgym.llms.tiny.tokenizer import SPECIAL_TOKENS, encode_words, token_ids
from promptgym.llms.tiny.train import Settings, main, train
from promptgym.tasks.world import DEMONSTRATION, MASKED_TEMPLATE, TEMPLATE, WORLD_TASKS, generate
from promptgym.tasks.world.generate import generate_items
from promptgym.tasks.world.inputs import FAMILIES

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


@pytest.mark.parametrize("name", ["review-author", "review-critics", "news-outcome"])
def test_masked_model_follows_the_best_known_prompt(
    loaded: dict[str, tuple[Any, Any]], name: str
) -> None:
    model, tokenizer = loaded["masked"]
    task = WORLD_TASKS[name]
    examples = generate(name, 60, seed=11)
    columns = tokenizer.convert_tokens_to_ids(list(task.labels or ()))
    hits = {task.best_known_prompt: 0, task.manual_prompt: 0}
    for prompt in hits:
        for text, target in examples:
            given = MASKED_TEMPLATE.format(input=text, prompt=prompt, mask="<mask>")
            ids = tokenizer(given, return_tensors="pt")["input_ids"]
            with torch.inference_mode():
                logits = model(ids).logits[0, int((ids[0] == tokenizer.mask_token_id).nonzero())]
            hits[prompt] += (task.labels or ())[int(logits[columns].argmax())] == target
    assert hits[task.best_known_prompt] / len(examples) >= 0.9
    assert hits[task.manual_prompt] / len(examples) <= 0.8


def test_generation_task_is_answered_in_words(loaded: dict[str, tuple[Any, Any]]) -> None:
    model, tokenizer = loaded["causal"]
    task = WORLD_TASKS["words-code"]
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


def hidden_states(model: Any, document: Document) -> Any:
    """What a model makes of one document in a training batch, shape (T, H)."""
    batch = collate([document], causal=True)
    with torch.inference_mode():
        return model.base_model(
            input_ids=torch.from_numpy(batch.ids),
            position_ids=torch.from_numpy(batch.positions),
            attention_mask=torch.from_numpy(batch.allowed),
        ).last_hidden_state[0]


def test_every_branch_of_a_document_reads_as_its_path_alone() -> None:
    document = write_document(random.Random(3), Recipe(questions=3, manners=0.5))
    torch.manual_seed(0)
    model = fresh_model("causal", **SHAPE).eval()
    states = hidden_states(model, document)
    leaves = sorted(set(range(len(document.ids))) - set(document.parents))
    assert len(leaves) > 20
    for leaf in leaves:
        path = [leaf]
        while document.parents[path[0]] >= 0:
            path.insert(0, document.parents[path[0]])
        assert [document.positions[place] for place in path] == list(range(len(path)))
        with torch.inference_mode():
            ids = torch.tensor([[document.ids[place] for place in path]])
            plain = model.base_model(input_ids=ids).last_hidden_state[0, -1]
        torch.testing.assert_close(states[leaf], plain, atol=1e-5, rtol=1e-4)


def test_answers_of_a_document_are_the_oracles(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every `<answer>` has the distribution that the words on its path call for."""
    item = generate_items("review-price", 1, 3)[0][0]
    monkeypatch.setitem(FAMILIES, "review", lambda *_: item)
    document = write_document(random.Random(5), Recipe(questions=2, shown=0.0, shares=(1, 0, 0)))
    ids = token_ids()
    words_of = {number: word for word, number in ids.items()}
    seen = set()
    for place, token in enumerate(document.ids):
        if token != ids["<answer>"]:
            continue
        words: list[str] = []
        at = document.parents[place]
        while document.ids[at] != ids["<instruction>"]:
            words.insert(0, words_of[document.ids[at]])
            at = document.parents[at]
        seen.add(tuple(words))
        beliefs = believe("review", strengths([words]), [item])
        expected = answer_distribution(beliefs, 0, 0, item)
        given = dict(document.targets[place])
        for answer, share in expected.items():
            assert given[ids[answer[0]]] == pytest.approx(share)
        assert document.weights[place] == 1.0
    assert len(seen) > 8


def test_masked_model_starts_as_the_causal_one_read_both_ways() -> None:
    torch.manual_seed(0)
    causal = fresh_model("causal", **SHAPE).eval()
    masked = both_ways(causal).eval()
    ids = torch.tensor([[5, 6, 7, 8]])
    tril = torch.ones(1, 1, 4, 4, dtype=torch.bool).tril()
    with torch.inference_mode():
        plain = causal(ids).logits
        torch.testing.assert_close(masked(ids, attention_mask=tril).logits, plain)
        assert not torch.allclose(masked(ids).logits, plain, atol=1e-3)


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


def test_every_option_of_training_is_described(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("sys.argv", ["train", "--help"])
    monkeypatch.setenv("COLUMNS", "200")
    with pytest.raises(SystemExit):
        main()
    shown = " ".join(capsys.readouterr().out.partition("options:")[2].split())
    described = re.findall(r"--(\w+)(?: [A-Z]+| \{\S+\})?+ (?=[a-zA-Z])", shown)
    names = ["help", "out", "resume", "seed", "steps", "stage", "device", "threads", "init"]
    assert [name for name in names if name not in described] == []


@pytest.mark.parametrize("name", ["name", "spec"])
def test_an_option_that_would_name_the_model_again_is_refused(name: str) -> None:
    with pytest.raises(ModelError, match=f"model 'tiny' has no option '{name}'"):
        load_model("tiny", **{name: "other"})
