"""Rewards: the published formulas, their edges, and parity with RLPrompt's own figures."""

from __future__ import annotations

import csv
import json
import math
import pickle
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from promptgym.errors import RewardError
from promptgym.prompts import Example, Prompt
from promptgym.rewards import (
    REWARDS,
    delta,
    describe_reward,
    formulas,
    make_reward,
    make_stabilizer,
)
from promptgym.scoring import API_ERROR, OK, Scores
from promptgym.tasks import get_metric
from promptgym.testing import TransparentModel
from promptgym.types import FloatArray, IntArray

PARITY = json.loads(Path(__file__).with_name("data").joinpath("rlprompt_parity.json").read_text())
LABELS = ("bad", "fine", "good")


def scores_of(probabilities: object, targets: list[int], scale: float = 1.0) -> Scores:
    """Build scores whose label softmax is `probabilities`, shape (P, E, L), up to `scale`."""
    p = np.asarray(probabilities, dtype=np.float64)
    with np.errstate(divide="ignore"):
        logprobs = np.log(p * scale)
    failed = np.isnan(p).any(axis=2)
    gold = np.asarray(targets)
    values = np.where(failed, np.nan, (np.nan_to_num(p, nan=-1).argmax(axis=2) == gold) * 1.0)
    return Scores(
        prompts=tuple(Prompt("word " * (i + 1)) for i in range(len(p))),
        examples=tuple(Example(f"text {e}", LABELS[t]) for e, t in enumerate(targets)),
        metric=get_metric("accuracy"),
        values=values,
        status=np.where(failed, API_ERROR, OK).astype(np.int8),
        label_logprobs=logprobs,
        targets=gold,
        prompt_tokens=np.arange(1, len(p) + 1),
    )


def generated(values: list[list[float]]) -> Scores:
    """Build the scores of a task answered by generation."""
    array = np.asarray(values)
    return Scores(
        prompts=tuple(Prompt(f"p{i}") for i in range(len(array))),
        examples=tuple(Example(f"x{e}", "y") for e in range(array.shape[1])),
        metric=get_metric("exact_match"),
        values=array,
        status=np.zeros(array.shape, dtype=np.int8),
        prompt_tokens=np.ones(len(array), dtype=np.int64),
    )


TWO = scores_of([[[0.8, 0.2], [0.7, 0.3]], [[0.5, 0.5], [0.1, 0.9]]], [0, 1])
"""Two prompts, two examples. Gaps: 0.6, -0.4 for the first; 0 (a tie), 0.8 for the second."""


@pytest.mark.parametrize(
    ("spec", "expected"),
    [
        ("accuracy", [0.5, 1.0]),
        ("balanced_accuracy", [0.5, 1.0]),
        ("margin", [math.log(0.8 * 0.3) / 2, math.log(0.5 * 0.9) / 2]),
        ("loglikelihood", [math.log(0.8 * 0.3) / 2, math.log(0.5 * 0.9) / 2]),
        ("probability_gap", [0.1, 0.4]),
        ("gap", [(0.6 * 200 - 0.4 * 180) / 2, 80.0]),
        ({"name": "gap", "wrong": 1.0, "right": 2.0}, [0.4, 0.8]),
        ({"name": "gap", "ties": "by-value"}, [24.0, (1.5 * 200 + 0.8 * 200) / 2]),
        ("tempera", [100 * (0.6 * 2 - 0.4 * 1.8) / 2, 80.0]),
        ("stableprompt", [0.01 * 0.1 + 15, 0.01 * 0.4 + 15]),
        ("f1", [1 / 3, 1.0]),  # said: 0, 0 and 0, 1; of class 0: 2/3 and 1, of class 1: 0 and 1
        ("answer_perplexity", [1 - (0.8 * 0.3) ** -0.5, 1 - (0.5 * 0.9) ** -0.5]),
        ({"name": "answer_perplexity", "limit": 1.5}, [-0.5, 1 - (0.5 * 0.9) ** -0.5]),
        (
            {"name": "weighted", "terms": [["f1", 1], ["answer_perplexity", 1]]},
            [4 / 3 - (0.8 * 0.3) ** -0.5, 2 - (0.5 * 0.9) ** -0.5],
        ),
        ("length", [1.0, 2.0]),
        ({"name": "weighted", "terms": [["accuracy", 30.0], ["length", -0.1]]}, [14.9, 29.8]),
    ],
    ids=str,
)
def test_a_reward_is_its_formula(spec: object, expected: list[float]) -> None:
    np.testing.assert_allclose(make_reward(spec)(TWO), expected, atol=1e-12)  # type: ignore[arg-type]


def test_dp2o_adds_the_entropy_in_bits_so_that_certainty_is_not_its_maximum() -> None:
    p = np.linspace(0.5, 1.0, 5001)
    rewards = make_reward("dp2o")(scores_of([[[q, 1 - q]] for q in p], [0]))
    assert rewards[0] == pytest.approx(6.5)  # gap 0, one bit
    assert rewards[-1] == pytest.approx(10.0)  # gap 1, no entropy
    assert p[rewards.argmax()] == pytest.approx(0.894, abs=1e-3)


def test_grips_adds_the_entropy_of_the_answers() -> None:
    one_sided = [[0.9, 0.1]] * 4
    spread = [[0.9, 0.1], [0.9, 0.1], [0.1, 0.9], [0.1, 0.9]]
    rewards = make_reward("grips")(scores_of([one_sided, spread], [0, 0, 0, 1]))
    assert rewards[0] == pytest.approx(50.0)  # recalls 1 and 0, one answer only
    assert rewards[1] == pytest.approx(100 * (2 / 3 + 1) / 2 + 10 * math.log(2))


def test_loglikelihood_is_not_normalized_over_the_labels_and_margin_is() -> None:
    scores = scores_of([[[0.8, 0.2]]], [0], scale=0.5)
    assert make_reward("loglikelihood")(scores)[0] == pytest.approx(math.log(0.4))
    assert make_reward("margin")(scores)[0] == pytest.approx(math.log(0.8))


def test_a_reward_is_described_by_what_made_it() -> None:
    perplexity = make_reward({"name": "perplexity", "model_options": {"dtype": "float32"}})
    spec = {"name": "weighted", "terms": [[{"name": "gap", "right": 1.0}, 2], [perplexity, -1]]}
    assert describe_reward(make_reward(spec)) == {
        "name": "weighted",
        "terms": [
            [{"name": "gap", "ties": "index", "wrong": 180.0, "right": 1.0}, 2.0],
            [
                {
                    "name": "perplexity",
                    "model": "tiny",
                    "model_options": {"dtype": "float32"},
                    "context": "",
                    "log": False,
                },
                -1.0,
            ],
        ],
    }
    with_model = make_reward({"name": "perplexity", "model": TransparentModel()})
    assert describe_reward(with_model)["model"] == TransparentModel().name


def test_a_full_tie_by_value_is_paid_as_published_and_by_index_is_not() -> None:
    """Labels that cannot be told apart earn RLPrompt's code 300 for two labels; here nothing."""
    tied = scores_of([[[0.5, 0.5], [0.5, 0.5]]], [0, 1])
    assert make_reward({"name": "gap", "ties": "by-value"})(tied)[0] == pytest.approx(300.0)
    assert make_reward("gap")(tied)[0] == 0.0


@pytest.mark.parametrize("name", sorted(set(REWARDS) - {"weighted", "perplexity"}))
def test_failed_examples_are_left_out_and_nothing_left_is_nan(name: str) -> None:
    nan = [np.nan] * 2
    ok = [[0.8, 0.2], [0.3, 0.7]]
    whole = make_reward(name)(scores_of([ok], [0, 1]))
    with_failure = make_reward(name)(scores_of([[*ok, nan], [nan] * 3], [0, 1, 1]))
    assert with_failure[0] == pytest.approx(whole[0])
    assert np.isnan(with_failure[1]) == (name != "length")


@pytest.mark.parametrize("name", sorted(set(REWARDS) - {"weighted", "perplexity"}))
def test_the_scale_is_what_a_perfect_prompt_is_paid(name: str) -> None:
    reward = make_reward(name)
    perfect = reward(scores_of([[[1.0, 0.0], [0.0, 1.0]]], [0, 1]))[0]
    assert reward.scale > 0
    assert perfect == pytest.approx(reward.scale if perfect else 0.0)


@pytest.mark.parametrize("name", sorted(REWARDS))
def test_a_reward_says_whether_it_needs_labels_and_refuses_scores_without(name: str) -> None:
    spec = {"name": name, "terms": [["gap", 1.0]]} if name == "weighted" else name
    reward = make_reward(spec)
    if reward.needs_labels:
        with pytest.raises(RewardError, match="label"):
            reward(generated([[1.0, 0.0]]))


def test_f1_is_the_mean_over_the_classes_that_are_there() -> None:
    sure = {0: [0.8, 0.1, 0.1], 1: [0.1, 0.8, 0.1], 2: [0.1, 0.1, 0.8]}
    said, gold = [0, 0, 1, 2, 1], [0, 1, 1, 1, 0]
    rewards = make_reward("f1")(scores_of([[sure[y] for y in said]], gold))
    assert rewards[0] == pytest.approx((2 / 4 + 2 / 5) / 2)  # class 2 is said, but never meant
    # A class whose only example failed is not there.
    failed = scores_of([[[0.8, 0.2], [np.nan] * 2]], [0, 1])
    assert make_reward("f1")(failed)[0] == pytest.approx(1.0)


def test_f1_of_generated_answers_is_that_of_their_words() -> None:
    completions = np.array([["y", "y z"], ["w", None]], dtype=object)
    scores = replace(generated([[1.0, 0.0], [0.0, np.nan]]), completions=completions)
    np.testing.assert_allclose(make_reward("f1")(scores), [(1 + 2 / 3) / 2, 0.0])


def test_accuracy_pays_generation_by_the_tasks_metric() -> None:
    rewards = make_reward("accuracy")(generated([[1.0, 0.0], [0.5, np.nan], [np.nan, np.nan]]))
    np.testing.assert_allclose(rewards, [0.5, 0.5, np.nan])


def test_weighted_sums_know_their_labels_scale_and_name() -> None:
    spec = {"name": "weighted", "terms": [[{"name": "gap", "right": 10.0}, 2], ["length", -0.5]]}
    reward = make_reward(spec)
    assert reward.needs_labels
    assert reward.scale == 20.0
    assert reward.label == "2*gap-0.5*length"  # type: ignore[attr-defined]
    assert not make_reward({"name": "weighted", "terms": [["accuracy", 1]]}).needs_labels
    assert reward == make_reward(spec)


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ("gaps", "unknown reward 'gaps'; known: accuracy"),
        ({"name": "gap", "rigth": 1.0}, "reward 'gap' has no option 'rigth'; did you mean 'right'"),
        ({"name": "gap", "right": "1"}, "option right takes float, got '1'"),
        ({"name": "gap", "ties": "never"}, "ties takes 'index' or 'by-value', got 'never'"),
        ({"name": "weighted"}, "terms"),
        ({"name": "weighted", "terms": []}, r"list of \[reward, weight\]"),
        ({"name": "weighted", "terms": [["gap"]]}, r"each term is \[reward, weight\]"),
        ({"name": "weighted", "terms": [["gap", float("nan")]]}, "must be finite"),
        ({"name": "gap", "wrong": float("nan")}, "option wrong must be finite, got nan"),
        ({"name": "gap", "wrong": -5.0}, "wrong must be a finite number of at least 0, got -5"),
        ({"name": "tempera", "right": 0.0}, "would pay a perfect prompt 0"),
        ({"name": "answer_perplexity", "limit": 1.0}, "limit must be a finite number above 1"),
        (42, "a reward is a name"),
    ],
    ids=str,
)
def test_a_wrong_spec_is_refused_with_what_is_known(spec: object, message: str) -> None:
    with pytest.raises(RewardError, match=message):
        make_reward(spec)  # type: ignore[arg-type]


def test_perplexity_is_asked_once_a_text_and_survives_pickling() -> None:
    model = TransparentModel()
    reward = make_reward({"name": "perplexity", "model": model})
    scores = generated([[1.0], [1.0]])
    first = reward(scores)
    logp = model.loglikelihood(["", ""], ["p0", "p1"])
    np.testing.assert_allclose(first, np.exp(-logp))
    calls = model.calls
    np.testing.assert_array_equal(pickle.loads(pickle.dumps(reward))(scores), first)
    np.testing.assert_array_equal(reward(scores), first)
    assert model.calls == calls


def test_perplexity_of_nothing_is_one_and_its_log_is_zero() -> None:
    model = TransparentModel()
    empty = Scores(
        prompts=(Prompt(""),),
        examples=(),
        metric=get_metric("accuracy"),
        values=np.empty((1, 0)),
        status=np.empty((1, 0), dtype=np.int8),
    )
    assert make_reward({"name": "perplexity", "model": model})(empty)[0] == 1.0
    assert make_reward({"name": "perplexity", "model": model, "log": True})(empty)[0] == 0.0


def test_perplexity_is_that_of_the_model_read_by_transformers(shared: Path) -> None:
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    folder = shared / "parity" / "rlprompt" / "tiny-gpt2"
    tokenizer = AutoTokenizer.from_pretrained(folder)
    model = AutoModelForCausalLM.from_pretrained(folder).eval()
    texts = ("the movie was fine", "one", "what is the opinion of the author ?")
    expected = []
    for text in texts:
        ids = torch.tensor([[tokenizer.eos_token_id, *tokenizer(text)["input_ids"]]])
        with torch.no_grad():
            expected.append(math.exp(model(ids, labels=ids).loss))
    scores = replace(generated([[1.0]] * 3), prompts=tuple(Prompt(text) for text in texts))
    found = make_reward({"name": "perplexity", "model": f"hf:{folder}"})(scores)
    np.testing.assert_allclose(found, expected, rtol=1e-4)


@st.composite
def label_arrays(draw: st.DrawFn) -> tuple[FloatArray, IntArray]:
    shape = tuple(draw(st.tuples(st.integers(1, 4), st.integers(1, 5), st.integers(2, 4))))
    logprobs = draw(arrays(np.float64, shape, elements=st.floats(-20, 0, width=32)))
    target = draw(arrays(np.int64, shape[1], elements=st.integers(0, shape[2] - 1)))
    return logprobs, target


@given(label_arrays(), st.floats(-5, 0))
def test_gaps_are_bounded_shift_invariant_and_agree_on_ties(
    data: tuple[FloatArray, IntArray], shift: float
) -> None:
    logprobs, target = data
    gaps = formulas.probability_gaps(logprobs, target)
    assert ((gaps >= -1) & (gaps <= 1)).all()
    np.testing.assert_allclose(gaps, formulas.probability_gaps(logprobs + shift, target), atol=1e-9)
    by_value = formulas.probability_gaps(logprobs, target, ties="by-value")
    p = np.exp(formulas.label_log_softmax(logprobs))
    p_gold = formulas.gold(p, target)
    tied = (p == p_gold[..., None]).sum(axis=2) > 1
    np.testing.assert_array_equal(gaps[~tied], by_value[~tied])
    assert (by_value[tied] >= gaps[tied]).all()
    assert (by_value[gaps == 0] > 0).all()
    reward = formulas.gap_reward(logprobs, target)
    assert ((reward >= -180) & (reward <= 200)).all()


@given(label_arrays())
def test_deltas_telescope(data: tuple[FloatArray, IntArray]) -> None:
    scores = formulas.tempera_score(*data)
    steps = delta(scores[1:], scores[:-1])
    assert steps.sum() == pytest.approx(scores[-1] - scores[0], abs=1e-9)


def test_formulas_refuse_shapes_that_do_not_fit() -> None:
    with pytest.raises(ValueError, match="at least 2 labels"):
        formulas.gap_reward(np.zeros((1, 2, 1)), np.zeros(2, dtype=np.int64))
    with pytest.raises(ValueError, match=r"shape \(2,\)"):
        formulas.gap_reward(np.zeros((1, 2, 2)), np.zeros(3, dtype=np.int64))


@pytest.mark.parametrize("task", sorted(PARITY["tasks"]))
def test_the_formula_gives_rlprompts_own_figures(task: str) -> None:
    data = PARITY["tasks"][task]
    logprobs, targets = np.array(data["label_logprobs"]), np.array(data["targets"])
    raw = formulas.gap_reward(logprobs, targets, wrong=data["wrong"], right=data["right"])
    np.testing.assert_allclose(raw, data["raw"][: len(raw)], atol=1e-4)
    np.testing.assert_allclose(
        make_stabilizer("batch_z")(np.array(data["raw"])), data["z"], atol=1e-4
    )


@pytest.mark.parametrize("task", ["sst-2", "agnews"])
def test_the_whole_path_gives_rlprompts_own_figures(task: str, shared: Path) -> None:
    from transformers import AutoTokenizer

    from promptgym.llms import load_model
    from promptgym.prompts import Template
    from promptgym.scoring import Scorer
    from promptgym.tasks import Task

    folder = shared / "parity" / "rlprompt"
    reference = json.loads((folder / f"{task}.json").read_text())
    # The published code reads with pandas' defaults: quotes are CSV quotes.
    with (shared / "data" / reference["data"]).open(encoding="utf-8", newline="") as file:
        rows = list(csv.reader(file, delimiter="\t"))[1:]
    first = min(int(label) for _, label in rows)
    labels = tuple(piece.replace("Ġ", "") for piece in reference["verbalizers"])
    examples = tuple(Example(text, labels[int(label) - first]) for text, label in rows)
    text = reference["template"].replace("<mask>", "{mask}").replace("{sentence_1}", "{input}")
    template = Template(text)
    model = load_model(f"hf:{folder / 'tiny-roberta'}")
    whole = Task(name=task, template=template, train=examples, dev=(), labels=labels)
    join = AutoTokenizer.from_pretrained(folder / "tiny-roberta").convert_tokens_to_string
    prompts = [Prompt(join(pieces)) for pieces in reference["prompts"]]
    scores = Scorer(whole, model, template).score(prompts, examples)
    rewards = make_reward("gap")(scores)
    np.testing.assert_allclose(rewards, reference["raw"], atol=1e-4)
    z = make_stabilizer("batch_z")(rewards)
    np.testing.assert_allclose(z, reference["z"], atol=1e-4)
