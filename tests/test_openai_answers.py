"""What the openai: backend makes of answers: labels, log-probabilities, money and tokens."""

from __future__ import annotations

from typing import Any

import pytest

from promptgym.errors import ModelError
from promptgym.llms import load_model
from promptgym.llms.openai import wire
from promptgym.llms.openai.logprobs import tail_logprob
from promptgym.llms.openai.parser import LabelParser, is_refusal
from promptgym.llms.openai.prices import Meter, Price, tokens_of
from promptgym.llms.openai.retry import Fault
from promptgym.llms.openai.tokens import counter, estimate

NEWS = ("world", "world news", "sports", "tech")


@pytest.mark.parametrize(
    ("answer", "label"),
    [
        ("world", "world"),
        ("World news.", "world news"),
        ("  **Sports**\n\nBecause it is about a match of world champions.", "sports"),
        ("Answer: tech", "tech"),
        ("The category is world news.", "world news"),
        ("I read it twice.\nFinal answer: \u201cTech\u201d", "tech"),
        ('"world\n news"', "world news"),
        ("<think>tech?\nAnswer: tech</think>\n\nsports", "sports"),
        ("<think>tech?\nsports", None),
        ("", None),
        ("not sports", None),
        ("sports or tech", None),
        ("It is about sports", None),
        ("sports\nAnswer: tech", None),
        ("worldly", None),
        ("I'm sorry, I cannot help with that.", None),
        ("Answer: none of them", None),
    ],
)
def test_a_label_is_read_only_where_it_is_plain(answer: str, label: str | None) -> None:
    found = LabelParser(NEWS).parse(answer)
    assert (None if found is None else NEWS[found]) == label


@pytest.mark.parametrize(
    ("answer", "label"),
    [
        (" world news\nText: another", "world news"),
        (" world. And", "world"),
        (" worldly", None),
        (" the world", None),
        ("\nsports", "sports"),
        ("", None),
    ],
)
def test_a_continuation_begins_with_its_label(answer: str, label: str | None) -> None:
    found = LabelParser(NEWS, continues=True).parse(answer)
    assert (None if found is None else NEWS[found]) == label


@pytest.mark.parametrize("labels", [(), ("a", "A."), ("good", "?!")])
def test_labels_that_cannot_be_told_apart_are_refused(labels: tuple[str, ...]) -> None:
    with pytest.raises(ModelError):
        LabelParser(labels)


def test_refusals_are_known_by_how_they_begin() -> None:
    assert is_refusal("I\u2019m sorry, but I can't help with that.")
    assert is_refusal("I cannot assist with this request.")
    assert not is_refusal("positive, I'm sorry to say")


def echoed(tokens: list[str], values: list[float | None], **more: Any) -> dict[str, Any]:
    return {"logprobs": {"tokens": tokens, "token_logprobs": values}, **more}


@pytest.mark.parametrize(
    ("tokens", "values", "text", "label", "generated", "total"),
    [
        # plain tokens; a begin token; raw spaces; sentence pieces; pieces without spaces
        (["It", " is", " good", " ."], [None, -1.0, -2.0, -9.0], "It is", "good", 1, -2.0),
        (["<s>", "It", " is", " go", "od", "."], [None, 0, 0, -1, -2, 0], "It is", "good", 1, -3.0),
        (["It", "Ġis", "Ġgood"], [None, -1.0, -2.0], "It is", "good", 0, -2.0),
        (["▁It", "▁is", "▁", "good", "▁."], [None, -1, -3, -2, -9], "It is", "good", 1, -5.0),
        (["it", "is", "good", "x"], [None, -1, -2, -9], "It is", "good", 1, -2.0),
        # the number of generated tokens is not said
        (["It", " is", " good", " ."], [None, -1.0, -2.0, -9.0], "It is", "good", None, -2.0),
        (["It", " is", " good"], [None, -1.0, -2.0], "It is", "good", None, -2.0),
        (["la", " la", " la", " la"], [None, -1, -2, -4], "la la", "la", None, -2.0),
        (["la", " la", " la"], [None, -1, -2], "la la", "la", None, -2.0),
        # the text ends with the space, so the space is not the label's
        (["A", ":", " ", "good"], [None, -1, -3, -2], "A: ", "good", 0, -2.0),
    ],
)
def test_the_tokens_of_a_label_are_found_from_the_end(
    tokens: list[str],
    values: list[float | None],
    text: str,
    label: str,
    generated: int | None,
    total: float,
) -> None:
    assert tail_logprob(echoed(tokens, values), text, label, generated) == total


@pytest.mark.parametrize(
    "choice",
    [
        {},
        {"logprobs": None},
        {"logprobs": {"content": []}},
        echoed([" good"], [-1.0]),  # what was generated only, nothing echoed
        echoed(["It", " is", " bad", "."], [None, -1.0, -2.0, -9.0]),
        echoed(["It", " is", " good", "."], [None, -1.0, None, -9.0]),
        echoed(["It", " is", " good", "."], [None, -1.0, -9.0]),
        echoed(["It", " is", " good", "."], [None, -1.0, float("nan"), -9.0]),
        echoed(["It", " is", " good", "."], [None, -1.0, 3.0, -9.0]),  # no probability
    ],
)
def test_log_probabilities_that_are_not_there_are_a_fault(choice: dict[str, Any]) -> None:
    found = tail_logprob(choice, "It is", "good", 1)
    assert isinstance(found, Fault)
    assert found.status == "api_error"


def test_choices_are_put_in_order_and_checked() -> None:
    two = {"choices": [{"index": 1, "text": "b"}, {"index": 0, "text": "a"}]}
    assert [c["text"] for c in wire.choices(two, 2)] == ["a", "b"]  # type: ignore[union-attr]
    for body in ({}, {"choices": []}, {"choices": "x"}, {"choices": [{"index": 0}] * 2}):
        assert isinstance(wire.choices(body, 2), Fault)
    odd = {"choices": [{"index": "0"}, {"index": None}]}
    assert isinstance(wire.choices(odd, 2), Fault)


def test_what_is_not_known_is_never_counted_as_nothing() -> None:
    assert Price(2.0, 10.0).usd(1_000_000, 500_000) == pytest.approx(7.0)
    assert Price(2.0, None).usd(1_000_000, 1) is None
    assert Price(2.0, None).usd(1_000_000, 0) == pytest.approx(2.0)
    assert Price().usd(1, 0) is None
    assert Price(0.0, 0.0).usd(10, 10) == 0.0

    meter = Meter(Price(1.0, 1.0))
    meter.answered((500_000, 500_000))
    assert meter.usage().usd == pytest.approx(1.0)
    meter.lost()
    assert meter.usage().usd is None
    assert meter.usage().known_usd == pytest.approx(1.0)
    meter.answered(None)
    assert (meter.usage().unmetered, meter.usage().unpriced) == (2, 2)


@pytest.mark.parametrize(
    ("usage", "tokens"),
    [
        ({"prompt_tokens": 3, "completion_tokens": 2}, (3, 2)),
        ({"prompt_tokens": 3}, (3, 0)),
        ({"prompt_tokens": 3, "completion_tokens": None}, (3, 0)),
        ({"prompt_tokens": None}, None),
        ({"prompt_tokens": -1}, None),
        ({"prompt_tokens": "3"}, None),
        (None, None),
    ],
)
def test_usage_is_read(usage: Any, tokens: tuple[int, int] | None) -> None:
    assert tokens_of({"usage": usage}) == tokens


def test_tokens_are_estimated_or_counted_with_the_models_tokenizer() -> None:
    from promptgym.llms.tiny import weights_path

    texts = ["i loved the lovely story .", "", "dull"]
    assert estimate(texts).tolist() == [9, 0, 2]
    exact = counter("s", str(weights_path("causal")))(texts)
    assert exact.tolist() == load_model("tiny").count_tokens(texts).tolist()
