"""Language models: label scores are exact whatever the batch, and honest about lengths."""

from __future__ import annotations

import csv
import json
import random
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from llm_models import BEGIN, CAUSAL, MASKED, SEQ2SEQ, sentence

from promptgym.errors import ModelError
from promptgym.llms import Sampling, load_model
from promptgym.llms.transformers_common import identity_of

TOLERANCE = 1e-4


def one_by_one(model: Any, context: list[int], label: list[int]) -> float:
    """Log P(label | context) from one plain forward pass, the whole head over every position."""
    with torch.inference_mode():
        logits = model.model(input_ids=torch.tensor([context + label])).logits
    logp = logits[0].float().log_softmax(-1)
    return sum(float(logp[len(context) - 1 + i, t]) for i, t in enumerate(label))


# --- causal -----------------------------------------------------------------------------------


@pytest.mark.parametrize("name", CAUSAL)
def test_a_causal_label_is_scored_exactly_in_any_company(built: Any, name: str) -> None:
    model: Any = load_model(built("causal", name))
    labels = ["great", "terrible", "very bad", "very dull script", "unheard"]
    model.check_labels(labels)
    rng = random.Random(3)
    inputs = [sentence(rng, 2, 12) for _ in range(6)]
    prompts = [sentence(rng, 1, 7) for _ in range(5)] + [""]
    input_first = [f"{i} {p}".strip() for p in prompts for i in inputs]
    prompt_first = [f"{p} {i}".strip() for i in inputs for p in prompts]
    texts = [*input_first, *prompt_first, input_first[0], inputs[0][:5]]
    got = model.label_logprobs(texts, labels)
    again = model.label_logprobs(texts[::-1], labels)  # prefixes are kept by now
    assert not got.failures
    for n in [*range(0, len(texts), 7), len(texts) - 1]:
        context = model.tokenizer(texts[n])["input_ids"]
        for at, label in enumerate(labels):
            whole = model.tokenizer(f"{texts[n]} {label}")["input_ids"]
            assert whole[: len(context)] == context, "the label's tokens follow the text's"
            if model.engine.turn is not None and len(context) <= model.engine.turn < len(whole):
                continue  # its first tokens are read in one way, the last in another
            want = one_by_one(model, context, whole[len(context) :])
            assert got.logprobs[n, at] == pytest.approx(want, abs=TOLERANCE)
    np.testing.assert_allclose(again.logprobs[::-1], got.logprobs, atol=TOLERANCE)


def test_what_can_be_saved_is_saved_and_only_that(built: Any) -> None:
    shares = {n: load_model(built("causal", n)).engine.shares for n in CAUSAL}  # type: ignore[attr-defined]
    assert shares["gpt2"] and shares["llama"] and shares["softcap"] and shares["neox"]
    assert not shares["state-space"]
    beside = {n: load_model(built("causal", n)).engine.side_by_side for n in CAUSAL}  # type: ignore[attr-defined]
    assert {name for name, does in beside.items() if does} == {
        *("gpt2", "llama", "qwen2", "scaled", "head-bias", "neox", "opt")
    }
    taps = {n: load_model(built("causal", n)).engine.head.base for n in CAUSAL}  # type: ignore[attr-defined]
    assert None not in taps.values(), taps
    last = {n: load_model(built("causal", n)).engine.head.last for n in CAUSAL}  # type: ignore[attr-defined]
    uncut = {name for name, tap in last.items() if tap is None}
    assert uncut == {"head-bias", "bart-decoder", "state-space"}


def test_the_last_layer_feeds_forward_only_what_is_read(built: Any) -> None:
    for kind, name, part in (("causal", "llama", "mlp"), ("masked", "bert", "intermediate")):
        model: Any = load_model(built(kind, name))
        layers = next(m for m in model.model.modules() if isinstance(m, torch.nn.ModuleList))
        widths: list[int] = []

        def watch(module: Any, args: Any, into: list[int] = widths) -> None:
            into.append(args[0].shape[1])

        hooks = [getattr(layer, part).register_forward_pre_hook(watch) for layer in layers]
        texts = [f"{'was ' * n}a great movie {model.mask_token}" for n in range(1, 5)]
        model.label_logprobs(texts, ["great", "bad"])
        for hook in hooks:
            hook.remove()
        assert set(widths[1::2]) == {1} and min(widths[::2]) > 1


@pytest.mark.parametrize("size", [-1, float("nan"), float("inf"), "9", True])
def test_a_memory_that_cannot_be_is_refused(size: Any) -> None:
    with pytest.raises(ModelError, match="kv_cache_mb is megabytes, 0 or more, got"):
        load_model("tiny", kv_cache_mb=size)


def test_a_name_tells_all_that_scores_depend_on(tmp_path: Path) -> None:
    usual, other = load_model("tiny"), load_model("tiny", normalize="tokens")
    assert other.name == f"{usual.name}:per-tokens"
    for number, byte in enumerate((b"a", b"b")):  # the same size and ends
        (tmp_path / str(number)).mkdir()
        weights = tmp_path / str(number) / "model.safetensors"
        weights.write_bytes(b"0" * 2**20 + byte + b"0" * 2**20)
    assert identity_of(str(tmp_path / "0"), None) != identity_of(str(tmp_path / "1"), None)


@pytest.mark.parametrize("size", ["many", 2.5, True, 0])
def test_a_batch_that_cannot_be_is_refused(size: Any) -> None:
    with pytest.raises(ModelError, match="batch_tokens must be a positive whole number, got"):
        load_model("tiny", batch_tokens=size)


@pytest.mark.parametrize("path", ["/nope", "./nope", "~/nope/nope", "runs/no/model"])
def test_a_path_without_a_folder_is_named_as_one(path: str) -> None:
    with pytest.raises(ModelError, match=r"there is no folder '.*no.*'; expected one written by"):
        load_model(f"hf:{path}")


def test_kept_prefixes_stay_within_their_memory(built: Any) -> None:
    spec = built("causal", "llama")
    model: Any = load_model(spec, kv_cache_mb=0.05)
    plain: Any = load_model(spec, kv_cache_mb=0)
    rng = random.Random(0)
    for _ in range(5):
        texts = [f"{sentence(rng, 5, 20)} {sentence(rng, 1, 4)}" for _ in range(20)]
        found = model.label_logprobs(texts, ["great", "bad"]).logprobs
        assert model.engine.store.bytes <= 0.05 * 2**20
        np.testing.assert_allclose(
            found, plain.label_logprobs(texts, ["great", "bad"]).logprobs, atol=TOLERANCE
        )
    assert len(model.engine.store) > 0 and len(plain.engine.store) == 0


@contextmanager
def computed(model: Any) -> Iterator[list[int]]:
    """Give the tokens of every forward pass, padding included."""
    sizes: list[int] = []

    def count(module: Any, args: Any, inputs: dict[str, Any]) -> None:
        sizes.append(inputs["input_ids"].numel())

    # The model below its head: prefixes are read without the head.
    hook = model.engine.head.base.register_forward_pre_hook(count, with_kwargs=True)
    try:
        yield sizes
    finally:
        hook.remove()


def test_a_recurring_input_is_not_computed_again(built: Any) -> None:
    model: Any = load_model(built("causal", "llama"), kv_cache_mb=7)
    rng = random.Random(1)
    inputs = [sentence(rng, 15, 20) for _ in range(8)]
    with computed(model) as sizes:
        model.label_logprobs([f"{i} prompt 0" for i in inputs], ["great", "bad"])
        first = sum(sizes)
        model.label_logprobs([f"{i} prompt 1" for i in inputs], ["great", "bad"])
        assert sum(sizes) - first < first / 2


def test_a_prompt_is_computed_once_a_call_and_behind_a_late_edit_only(built: Any) -> None:
    model: Any = load_model(built("causal", "llama"), kv_cache_mb=6)
    rng = random.Random(2)
    *words, last = sentence(rng, 40, 40).split()
    inputs = [sentence(rng, 2, 3) for _ in range(8)]

    def cost(prompt: str) -> int:
        with computed(model) as sizes:
            model.label_logprobs([f"{prompt} {i}" for i in inputs], ["great", "bad"])
        return sum(sizes)

    def tokens(text: str) -> int:
        return len(model.tokenizer(text)["input_ids"])

    whole = tokens(" ".join([*words, last]))
    tails = len(inputs) * max(tokens(f" {i}") for i in inputs)
    assert whole <= cost(" ".join([*words, last])) <= whole + tails
    assert cost(" ".join([*words, "changed"])) <= tokens(" changed") + tails


@pytest.mark.slow
@pytest.mark.parametrize(("kind", "name"), [("causal", "gpt2"), ("masked", "roberta")])
def test_a_compiled_model_scores_the_same(built: Any, kind: str, name: str) -> None:
    spec = built(kind, name)
    plain: Any = load_model(spec)
    compiled: Any = load_model(spec, compile=True)
    rng = random.Random(4)
    for _ in range(3):  # the first lays up key/values, the others read on from them
        prompt = sentence(rng, 1, 7)
        texts = [f"{sentence(rng, 2, 20)} {prompt} {plain.mask_token}".strip() for _ in range(9)]
        want = plain.label_logprobs(texts, ["great", "bad"]).logprobs
        found = compiled.label_logprobs(texts, ["great", "bad"]).logprobs
        np.testing.assert_allclose(found, want, atol=TOLERANCE)
    assert compiled.name == plain.name
    assert compiled.model.base_model._compiled_call_impl is not None
    assert plain.model.base_model._compiled_call_impl is None


def test_a_machine_that_cannot_compile_says_so(built: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(function: Any) -> Any:
        raise RuntimeError("no compiler\nand a long trace")

    monkeypatch.setattr(torch, "compile", broken)
    with pytest.raises(ModelError, match=r"compile does not work here: no compiler; install"):
        load_model(built("causal", "gpt2"), compile=True, kv_cache_mb=5)
    with pytest.raises(ModelError, match="compile is true or false, got 'yes'"):
        load_model(built("causal", "gpt2"), compile="yes")


def test_the_label_at_the_begin_of_a_text_has_no_space(built: Any) -> None:
    model: Any = load_model(built("causal", "gpt2"))
    start = model.tokenizer.bos_token_id
    bare = model.tokenizer("great")["input_ids"]
    got = model.label_logprobs(["", "a"], ["great", "\nbad"])
    assert got.logprobs[0, 0] == pytest.approx(one_by_one(model, [start], bare), abs=TOLERANCE)
    context, whole = model.tokenizer("a")["input_ids"], model.tokenizer("a\nbad")["input_ids"]
    want = one_by_one(model, context, whole[len(context) :])
    assert got.logprobs[1, 1] == pytest.approx(want, abs=TOLERANCE), "own whitespace is kept"


@pytest.mark.parametrize("how", ["tokens", "characters"])
def test_labels_are_normalized_by_length(built: Any, how: str) -> None:
    spec, labels = built("causal", "gpt2"), ["great", "very dull script"]
    plain = load_model(spec).label_logprobs(["a movie"], labels).logprobs
    got = load_model(spec, normalize=how).label_logprobs(["a movie"], labels).logprobs
    lengths = [1, 3] if how == "tokens" else [5, 16]
    np.testing.assert_allclose(got, plain / lengths, rtol=1e-6)


def test_loglikelihood_is_that_of_the_joined_string(built: Any) -> None:
    model: Any = load_model(built("causal", "llama"))
    pairs = [("a movie", " was great"), ("a movie ", "was great"), ("", "great"), ("it", "self")]
    got = model.loglikelihood(*zip(*pairs, strict=True))
    for value, (context, continuation) in zip(got, pairs, strict=True):
        head = model.tokenizer(context.rstrip())["input_ids"] or [1]
        whole = model.tokenizer(context + continuation)["input_ids"]
        if not context:
            whole = [1, *whole]
        want = one_by_one(model, whole[: len(head)], whole[len(head) :])
        assert value == pytest.approx(want, abs=TOLERANCE)
    assert got[0] == pytest.approx(got[1], abs=TOLERANCE)
    with pytest.raises(ModelError, match="no tokens of its own"):
        model.loglikelihood(["a"], [""])


def test_a_text_too_long_fails_alone_and_says_so(built: Any) -> None:
    for kind, name in (("causal", "llama"), ("masked", "roberta"), ("seq2seq", "bart")):
        model = load_model(built(kind, name))
        mask = f" {model.mask_token}" if model.mask_token else ""
        texts = [f"a movie{mask}", "movie " * 150 + mask]
        got = model.label_logprobs(texts, ["great", "bad"])
        assert list(got.failures) == [1] and "tokens" in got.failures[1]
        assert "at most 9" in got.failures[1]
        assert got.failures[1].startswith("refused: "), "its kind: there is no API here"
        assert np.isnan(got.logprobs[1]).all() and np.isfinite(got.logprobs[0]).all()


# --- labels -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("kind", "labels", "says"),
    [
        ("causal", ["great", "great"], "become the tokens"),
        ("causal", ["great", " great"], "become the tokens"),
        ("causal", ["great", ""], "at least one token"),
        ("causal", ["very", "very bad"], "can never be the likelier one"),
        ("masked", ["great", "unheard"], "exactly one token"),
        ("masked", ["great", "great"], "become the tokens"),
        ("seq2seq", ["great", "great"], "become the tokens"),
    ],
)
def test_labels_that_cannot_be_told_apart_are_refused(
    built: Any, kind: str, labels: list[str], says: str
) -> None:
    model = load_model(built(kind, {"causal": "gpt2", "masked": "bert", "seq2seq": "t5"}[kind]))
    with pytest.raises(ModelError, match=says) as raised:
        model.check_labels(labels)
    assert repr(labels[-1]) in str(raised.value)


def test_unknown_verbalizers_are_refused(tmp_path: Path) -> None:
    """Where a known peer lets all of them be <unk> and pays every prompt 300."""
    import transformers
    from tokenizers import Tokenizer, models, pre_tokenizers

    core = Tokenizer(models.WordLevel({"<unk>": 0, "<s>": 1, "good": 2, "bad": 3}, "<unk>"))
    core.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    tokenizer = transformers.PreTrainedTokenizerFast(
        tokenizer_object=core, unk_token="<unk>", bos_token="<s>"
    )
    config = transformers.GPT2Config(vocab_size=4, n_embd=8, n_layer=1, n_head=2)
    transformers.GPT2LMHeadModel(config).save_pretrained(tmp_path)
    tokenizer.save_pretrained(tmp_path)
    model: Any = load_model(f"hf:{tmp_path}")
    model.check_labels(["good", "bad"])
    assert model.label_tokens(["good", "bad"]).ids == [[2], [3]], "no space in a word-level model"
    with pytest.raises(ModelError, match=r"'fine' becomes the tokens .*<unk>.*unknown"):
        model.check_labels(["good", "fine"])


# --- masked -----------------------------------------------------------------------------------


@pytest.mark.parametrize("name", MASKED)
def test_a_masked_label_is_scored_exactly_in_any_company(built: Any, name: str) -> None:
    model: Any = load_model(built("masked", name))
    assert model.head.base is not None
    rng = random.Random(5)
    behind = [f"{sentence(rng, 1, 30)} {model.mask_token} ." for _ in range(12)]
    before = [f"{model.mask_token} {sentence(rng, 1, 30)}" for _ in range(4)]
    texts = [*behind, *before]
    labels = ["great", "bad"]
    got = model.label_logprobs(behind, labels)
    for n, text in enumerate(behind):
        ids = model.tokenizer(text)["input_ids"]
        with torch.inference_mode():
            logits = model.model(input_ids=torch.tensor([ids])).logits[0]
        at = ids.index(model.mask_id)
        for column, label in enumerate(labels):
            in_place = model.tokenizer(text.replace(model.mask_token, label))["input_ids"]
            want = float(logits[at].log_softmax(-1)[in_place[at]])
            assert got.logprobs[n, column] == pytest.approx(want, abs=TOLERANCE)
    shuffled = sorted(range(len(texts)), key=lambda i: texts[i])
    try:
        whole = model.label_logprobs(texts, labels).logprobs
    except ModelError:  # a tokenizer may know "great" behind a space only
        return
    mixed = model.label_logprobs([texts[i] for i in shuffled], labels).logprobs
    np.testing.assert_allclose(mixed, whole[shuffled], atol=TOLERANCE)


def test_a_text_must_hold_the_mask_once(built: Any) -> None:
    model = load_model(built("masked", "roberta"))
    got = model.label_logprobs(["a <mask> .", "a <mask> <mask> .", "no mask"], ["great", "bad"])
    assert "2 mask tokens (<mask>), expected exactly one" in got.failures[1]
    assert got.failures[2].startswith("refused: the text has 0 mask tokens")
    assert np.isfinite(got.logprobs[0]).all() and np.isnan(got.logprobs[1:]).all()


def test_a_masked_model_neither_continues_nor_generates(built: Any) -> None:
    model = load_model(built("masked", "bert"))
    with pytest.raises(ModelError, match="does not generate"):
        model.generate(["a"], Sampling())
    with pytest.raises(ModelError, match="no continuations"):
        model.loglikelihood(["a"], ["b"])


@pytest.mark.parametrize("name", ["sst-2", "agnews"])
def test_rewards_equal_those_of_a_peers_own_code(shared: Path, name: str) -> None:
    """RLPrompt's gap reward of 16 prompts (Deng et al. 2022), run by its authors' code."""
    peer = json.loads((shared / f"parity/rlprompt/{name}.json").read_text())
    model: Any = load_model(f"hf:{shared / 'parity/rlprompt/tiny-roberta'}")
    with (shared / "data" / peer["data"]).open(newline="") as file:
        rows = list(csv.reader(file, delimiter="\t"))[1:]
    gold = np.array([int(row[1]) for row in rows])
    gold -= gold.min()
    template = peer["template"].replace("<mask>", model.mask_token)
    texts = [
        template.format(sentence_1=row[0], prompt=model.tokenizer.convert_tokens_to_string(pieces))
        for pieces in peer["prompts"]
        for row in rows
    ]
    labels = [v.replace("\u0120", "") for v in peer["verbalizers"]]
    logprobs = model.label_logprobs(texts, labels).logprobs
    p = np.exp(logprobs - logprobs.max(-1, keepdims=True)).reshape(-1, len(rows), len(labels))
    p /= p.sum(-1, keepdims=True)
    at = np.arange(len(rows))
    right = p[:, at, gold]
    p[:, at, gold] = -1
    gap = right - p.max(-1)
    reward = (gap * np.where(gap > 0, peer["lambda_right"], peer["lambda_wrong"])).mean(1)
    np.testing.assert_allclose(reward, peer["raw"], atol=1e-4)


# --- encoder-decoder --------------------------------------------------------------------------


@pytest.mark.parametrize("name", SEQ2SEQ)
def test_an_encoder_decoder_label_is_scored_exactly(built: Any, name: str) -> None:
    model: Any = load_model(built("seq2seq", name))
    rng = random.Random(2)
    texts = [sentence(rng, 1, 20) for _ in range(9)]
    labels = ["great", "very bad"]
    got = model.label_logprobs(texts, labels).logprobs
    for n, text in enumerate(texts):
        ids = torch.tensor([model.tokenizer(text)["input_ids"]])
        for column, label in enumerate(labels):
            tokens = model.tokenizer(label, add_special_tokens=False)["input_ids"]
            given = torch.tensor([[*BEGIN[name], *tokens[:-1]]])
            with torch.inference_mode():
                logits = model.model(input_ids=ids, decoder_input_ids=given).logits[0]
            logits = logits[len(BEGIN[name]) - 1 :]
            want = sum(float(logits[i].log_softmax(-1)[t]) for i, t in enumerate(tokens))
            assert got[n, column] == pytest.approx(want, abs=TOLERANCE)
    assert model.loglikelihood(texts[:1], labels[:1])[0] == pytest.approx(got[0, 0], abs=TOLERANCE)
