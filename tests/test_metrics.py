"""Metrics: ranges, ties, the edge cases of answers, and every target of GSM8K."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from promptgym.errors import TaskError
from promptgym.prompts import Example
from promptgym.tasks import METRICS, Metric, get_metric
from promptgym.tasks.definitions import without_annotations
from promptgym.tasks.metrics import last_number

TEXT = st.text(max_size=30)


@pytest.mark.parametrize("name", METRICS)
@given(prediction=TEXT, target=TEXT, number=st.integers(-(10**6), 10**6))
def test_scores_are_between_0_and_1_and_the_target_itself_gets_1(
    name: str, prediction: str, target: str, number: int
) -> None:
    if name == "numeric_match":
        target = f"{target} #### {number}"
    metric = METRICS[name]
    assert 0.0 <= metric.score(prediction, Example("x", target)) <= 1.0
    if name == "induction_f1" and not metric.per_example(target, target):
        return  # the published rule gives 0 for a target without a single word
    if name == "induction_contains":
        return  # asks for whole words, which a target of blanks has not
    assert metric.score(target, Example("x", target)) == 1.0


@pytest.mark.parametrize(
    ("name", "prediction", "target", "score"),
    [
        ("accuracy", " positive\n", "positive", 1.0),
        ("accuracy", "Positive", "positive", 0.0),
        ("exact_match", "The Eiffel Tower!", "eiffel tower", 1.0),
        ("token_f1", "the cat sat", "cat sat down", 0.8),
        ("token_f1", "", "", 1.0),
        ("token_f1", "", "cat", 0.0),
        ("induction_exact_match", "Ninety-four. That is it", "ninety four", 1.0),
        ("induction_exact_match", "one hundred and two", "one hundred two", 1.0),
        ("induction_exact_match", "one\ntwo", "one", 1.0),
        ("induction_exact_match", "the cat", "cat", 0.0),
        ("induction_f1", "a b", "b c", 0.5),
        ("induction_exact_set", "dog, cat, dog", "cat dog", 1.0),
        ("induction_exact_set", "cat", "cat dog", 0.0),
        ("induction_contains", "it is big, I think", "big", 1.0),
        ("induction_contains", "it is bigger", "big", 0.0),
    ],
)
def test_what_a_metric_pays(name: str, prediction: str, target: str, score: float) -> None:
    assert METRICS[name].score(prediction, Example("x", target)) == pytest.approx(score)


@pytest.mark.parametrize(
    ("text", "number"),
    [
        ("6 * 7 = 42\n#### 42", 42.0),
        ("#### 1,000\nQ: what is 7?", 1000.0),
        ("The answer is $1,234.50.", 1234.5),
        ("7-3", 3.0),
        ("it fell to -5 degrees", -5.0),
        ("(-5)", -5.0),
        ("-$3.20", -3.2),
        ("about .5", 0.5),
        ("12, 13,", 13.0),
        ("1,2,3", 3.0),
        ("1,234,567 in all", 1234567.0),
        ("so it is \N{MINUS SIGN}4", -4.0),
        ("about 1.5e3", 1500.0),
        ("50%", 50.0),
        ("none", None),
        ("it is 5 #### none", None),
    ],
)
def test_the_number_of_an_answer(text: str, number: float | None) -> None:
    assert last_number(text) == number


@given(st.integers(-(10**9), 10**9), st.text("abc .$=+\n", max_size=20))
def test_numbers_are_found_with_and_without_separators(n: int, before: str) -> None:
    metric = METRICS["numeric_match"]
    example = Example("x", f"so #### {n:,}")
    assert metric.score(f"#### {n}", example) == 1.0
    assert metric.score(f"{before} = {n:,}.", example) == 1.0
    assert metric.score(f"{before} = {n + 1}", example) == 0.0


def test_numeric_match_needs_a_number_in_the_target() -> None:
    with pytest.raises(TaskError, match="needs a number in the target"):
        METRICS["numeric_match"].score("3", Example("x", "three"))


def test_every_gsm8k_target_matches_itself_and_nothing_else(shared: Path) -> None:
    metric = METRICS["numeric_match"]
    rows = [
        json.loads(line)["answer"]
        for split in ("train", "test")
        for line in (shared / "data" / "gsm8k" / f"{split}.jsonl").read_text("utf-8").splitlines()
    ]
    assert len(rows) == 7473 + 1319
    for answer in rows:
        final = float(answer.split("####")[1].replace(",", ""))
        clean = without_annotations(answer)
        assert "<<" not in clean
        assert last_number(answer) == last_number(clean) == final
        example = Example("q", clean)
        assert metric.score(f"Thus the answer is ${final:,.0f}.", example) == 1.0
        assert metric.score(f"#### {final + 1:.0f}", example) == 0.0


def test_any_right_answer_counts_and_the_best_one_pays() -> None:
    example = Example("pig", "big", alternatives=("dig", "fig tree"))
    assert example.answers == ("big", "dig", "fig tree")
    assert METRICS["exact_match"].score("dig", example) == 1.0
    assert METRICS["token_f1"].score("tree", example) == pytest.approx(2 / 3)
    assert METRICS["exact_match"].score("pig", example) == 0.0


def test_failures_are_left_out_and_balance_is_over_classes() -> None:
    values = np.array([[1.0, 1.0, 1.0, 0.0], [1.0, np.nan, np.nan, np.nan], [np.nan] * 4])
    targets = ["a", "a", "a", "b"]
    plain = METRICS["accuracy"].aggregate(values, targets)
    balanced = METRICS["balanced_accuracy"].aggregate(values, targets)
    np.testing.assert_allclose(plain, [0.75, 1.0, np.nan])
    np.testing.assert_allclose(balanced, [0.5, np.nan, np.nan])


@given(st.lists(st.tuples(st.sampled_from("abc"), st.booleans()), min_size=1, max_size=30))
def test_balanced_accuracy_is_the_mean_of_the_classes_means(rows: list[tuple[str, bool]]) -> None:
    targets = [t for t, _ in rows]
    values = np.array([[float(v) for _, v in rows]])
    per_class = [np.mean([v for t, v in rows if t == name]) for name in set(targets)]
    got = METRICS["balanced_accuracy"].aggregate(values, targets)
    np.testing.assert_allclose(got, [np.mean(per_class)])


def test_a_metric_may_be_any_callable_or_the_name_of_one() -> None:
    def shorter(prediction: str, target: str) -> float:
        return float(len(prediction) < len(target))

    assert get_metric(shorter).name == "shorter"
    assert get_metric(shorter).score("a", Example("x", "bb")) == 1.0
    named = get_metric("promptgym.tasks.metrics:token_f1")
    assert isinstance(named, Metric)
    assert named.name == "promptgym.tasks.metrics:token_f1"
    assert get_metric(named) is named


@pytest.mark.parametrize(
    ("metric", "said"),
    [
        ("acuracy", "did you mean 'accuracy'"),
        ("no.such.module:f", "cannot be imported"),
        ("promptgym.tasks.metrics:none", "cannot be imported"),
        ("promptgym.tasks.metrics:METRICS", "not callable"),
        (3, "a name or a callable"),
    ],
)
def test_an_unknown_metric_is_refused(metric: object, said: str) -> None:
    with pytest.raises(TaskError) as caught:
        get_metric(metric)  # type: ignore[arg-type]
    assert said in str(caught.value)


@pytest.mark.parametrize("value", [None, float("nan"), 1.5, -0.1, "1"])
def test_a_custom_metric_must_return_a_score(value: object) -> None:
    metric = get_metric(lambda prediction, target: value)  # type: ignore[arg-type, return-value]
    with pytest.raises(TaskError, match="expected a number between 0 and 1"):
        metric.score("a", Example("x", "b"))
