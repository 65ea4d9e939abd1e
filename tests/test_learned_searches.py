"""EvoPrompt, coordinate ascent and BDPL: their operators, estimators and known optima."""

from __future__ import annotations

from dataclasses import replace
from itertools import product
from typing import Any

import numpy as np
import pytest
from additive import GOOD, batches, make

from promptgym.agents import make_optimizer
from promptgym.baselines.bdpl import AdamW, ngrams, policy_gradient, project, sample
from promptgym.baselines.coordinate_ascent import CoordinateAscent
from promptgym.baselines.evoprompt import EvoPromptGA, wheel
from promptgym.baselines.evoprompt_words import child, crossed, mixed, trial
from promptgym.errors import ConfigError
from promptgym.problem import Problem
from promptgym.prompts import Example, Prompt
from promptgym.testing import TransparentModel, transparent_task
from promptgym.testing.transparent import LABELS


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("evoprompt_ga", {"iterations": 0}),
        ("evoprompt_ga", {"iterations": 0, "parents": "tournament"}),
        ("evoprompt_de", {"iterations": 0}),
        ("evoprompt_de", {"iterations": 0, "donor": "random"}),
        ("coordinate_ascent", {"start": "random"}),
        ("bdpl", {"length": 4, "learning_rate": 0.02}),
    ],
)
def test_a_search_finds_the_optimum_of_an_additive_problem(
    name: str, options: dict[str, Any]
) -> None:
    method = make_optimizer(name, objective="margin", **options)
    result = method.optimize(make(40_000), seed=0)
    assert set(result.best.prompt.words) >= GOOD
    assert "anti" not in result.best.prompt.words


@pytest.mark.parametrize("name", ["evoprompt_ga", "evoprompt_de"])
def test_evoprompt_has_the_paper_s_population_and_generations(name: str) -> None:
    asked = batches(make_optimizer(name), make(40_000))
    assert len(asked[0]) == 10 and asked[0][0] == "one two"
    assert len(asked) == 11
    assert all(len(b) <= 10 for b in asked)


def test_a_crowd_of_manual_prompts_is_reduced_to_the_best() -> None:
    words = [Prompt(w) for w in ("one", "two", "three", "alpha", "beta", "gamma", "delta", "anti")]
    problem = make(40_000)
    object.__setattr__(problem.task, "manual_prompts", tuple(words))
    method = EvoPromptGA(objective="margin", population=4, iterations=1)
    first, second = batches(method, problem)
    assert set(first) == {"one two", *(w.instruction for w in words)}
    assert all(len(set(t.split()) - GOOD) <= 1 for t in second)  # one edit away from those


def test_the_wheel_turns_in_proportion() -> None:
    np.testing.assert_allclose(wheel(np.array([1.0, 3.0])), [0.25, 0.75])
    np.testing.assert_allclose(wheel(np.array([-1.0, 0.0, 1.0])), [0, 1 / 3, 2 / 3])
    np.testing.assert_allclose(wheel(np.array([-np.inf, 2.0])), [0, 1])
    np.testing.assert_allclose(wheel(np.array([0.0, 0.0])), [0.5, 0.5])
    np.testing.assert_allclose(wheel(np.array([-np.inf, -np.inf])), [0.5, 0.5])


def test_a_child_has_words_of_both_parents_and_one_edit() -> None:
    problem, rng = make(), np.random.default_rng(0)
    pair = (Prompt("a b c"), Prompt("x y z"))
    children = [child(pair, problem, rng, 14) for _ in range(200)]
    assert any({"a", "z"} <= set(c.words) for c in children)
    assert all(len(set(c.words) - set("abcxyz")) <= 1 for c in children)


def test_a_trial_differs_from_member_and_donor_only_where_a_and_b_differ() -> None:
    problem, rng = make(vocabulary=("new",)), np.random.default_rng(0)
    member, a, b, donor = (tuple(t.split()) for t in ("m0 m1 m2", "p a q", "p b q", "d0 d1 d2"))
    mixtures = [mixed(a, b, donor, problem, rng) for _ in range(300)]
    for place, words in enumerate(({"d0"}, {"d1", "new", "a", "b"}, {"d2"})):
        assert {m[place] for m in mixtures} == words
    trials = [crossed(member, ["d0", "new", "d2"], rng, 3, 0.5) for _ in range(100)]
    assert set(trials) == set(product(("m0", "d0"), ("m1", "new"), ("m2", "d2")))
    assert crossed(member, ["d0", "new", "d2"], rng, 3, 1.0) == ("d0", "new", "d2")


def test_a_population_of_one_prompt_goes_on_by_edits() -> None:
    problem, rng = make(), np.random.default_rng(0)
    same = Prompt("one two")
    trials = {trial((same,) * 4, problem, rng, 14, 0.5) for _ in range(50)}
    assert len(trials) > 10


def test_coordinate_ascent_changes_one_place_at_a_time_and_keeps_what_helps() -> None:
    asked = batches(CoordinateAscent(batch=100), make(20_000, initial_prompt="one two"))
    assert asked[0] == ["one two"]
    first, second = asked[1], asked[2]
    assert len(first) == 14  # all words of the vocabulary but the one that is there
    assert all(t.startswith("one ") for t in first) or all(t.endswith(" two") for t in first)
    assert all("alpha" in text for text in second)


def test_coordinate_ascent_begins_again_at_a_local_optimum() -> None:
    method = CoordinateAscent(length=1, batch=100)
    said = batches(method, make(20_000, initial_prompt="one"))
    assert sum(map(len, said)) == 15  # every word once: then nothing is new


def gradient_of_expected_loss(p: np.ndarray[Any, Any], loss: Any) -> np.ndarray[Any, Any]:
    """Differentiate sum over all draws of P(draw) * loss(draw), exactly."""
    out = np.zeros_like(p)
    for draw in product(range(p.shape[1]), repeat=len(p)):
        chances = [p[i, j] for i, j in enumerate(draw)]
        for i, j in enumerate(draw):
            out[i, j] += np.prod(chances[:i] + chances[i + 1 :]) * loss(draw)
    return out


def test_the_estimator_is_unbiased_up_to_a_constant_a_place() -> None:
    rng = np.random.default_rng(0)
    p = np.array([[0.2, 0.3, 0.5], [0.6, 0.3, 0.1]])

    def loss(draw: Any) -> float:
        return float([1.0, -2.0, 0.5][draw[0]] * [1.0, 3.0, -1.0][draw[1]])

    true = gradient_of_expected_loss(p, loss)
    estimates = []
    for _ in range(20_000):
        drawn = sample(p, 5, rng)
        estimates.append(policy_gradient(p, drawn, np.array([loss(row) for row in drawn])))
    # The mean loss as baseline shifts every entry of a place alike, which the simplex takes away.
    found = np.mean(estimates, axis=0)
    error = (found - true) - (found - true).mean(axis=1, keepdims=True)
    assert np.abs(error).max() < 0.15 < np.ptp(true)


def test_the_published_estimator_counts_what_was_not_drawn() -> None:
    p = np.array([[0.5, 0.25, 0.25]])
    drawn, losses = np.array([[0], [1]]), np.array([1.0, 3.0])
    np.testing.assert_allclose(policy_gradient(p, drawn, losses), [[-2, 4, 0]])
    got = policy_gradient(p, drawn, losses, published=True)
    by_hand = -1 * np.array([[2, -4, -4]]) + 1 * np.array([[-2, 4, -4]])
    np.testing.assert_allclose(got, by_hand)


def test_projection_is_the_nearest_distribution() -> None:
    rng = np.random.default_rng(0)
    rows = rng.normal(size=(20, 4))
    near = project(rows)
    np.testing.assert_allclose(near.sum(axis=1), 1)
    assert near.min() >= 0
    for other in rng.dirichlet(np.ones(4), size=200):
        assert (((rows - near) ** 2).sum(axis=1) <= ((rows - other) ** 2).sum(axis=1)).all()
    np.testing.assert_allclose(project(near), near, atol=1e-12)


def test_adamw_is_pytorch_s() -> None:
    import torch

    rng = np.random.default_rng(0)
    start = rng.random((2, 3))
    parameter = torch.nn.Parameter(torch.tensor(start))
    theirs = torch.optim.AdamW([parameter], lr=0.01, weight_decay=0.1)
    mine, ours = start, AdamW(0.01, 0.1)
    for _ in range(5):
        gradient = rng.normal(size=(2, 3))
        parameter.grad = torch.tensor(gradient)
        theirs.step()
        mine = ours.step(mine, gradient)
    np.testing.assert_allclose(mine, parameter.detach().numpy(), rtol=1e-9)


def test_draws_follow_the_distribution() -> None:
    p = np.array([[0.0, 0.7, 0.3, 0.0], [0.25, 0.25, 0.25, 0.25]])
    drawn = sample(p, 20_000, np.random.default_rng(0))
    for place in range(2):
        shares = np.bincount(drawn[:, place], minlength=4) / 20_000
        np.testing.assert_allclose(shares, p[place], atol=0.02)
    assert not set(drawn[:, 0]) & {0, 3}


def test_ngrams_stick_together_where_words_do() -> None:
    texts = [f"{a} {b}" for a, b in product("xyz", repeat=2)] + ["new york"] * 3
    found = ngrams(texts)
    assert set(found) == {"x", "y", "z", "new york"}
    assert len(set(found)) == len(found)
    asked = batches(make_optimizer("bdpl", candidates="ngrams"), make(3000))
    known = set(ngrams([e.input for e in transparent_task().train]))
    assert asked
    assert {w for b in asked for t in b for w in t.split()} <= {w for n in known for w in n.split()}


def test_training_inputs_without_an_ngram_are_refused() -> None:
    texts = ("a b c d", "e f g h")  # words that stick together, four at a time
    train = tuple(Example(text, label) for text, label in zip(texts, LABELS, strict=True))
    problem = Problem(replace(transparent_task(), train=train), TransparentModel(), budget=900)
    assert ngrams(list(texts)) == ()
    with pytest.raises(ConfigError, match=r"finds none .* 2 training inputs of task 'transparent'"):
        make_optimizer("bdpl", candidates="ngrams").optimize(problem)
    assert problem.ledger.queries == 0


@pytest.mark.parametrize(
    ("name", "wrong"),
    [
        ("evoprompt_ga", {"parents": "king"}),
        ("evoprompt_ga", {"population": 3}),
        ("evoprompt_de", {"donor": "worst"}),
        ("evoprompt_de", {"exchange": 0.0}),
        ("coordinate_ascent", {"start": "empty"}),
        ("coordinate_ascent", {"length": 0}),
        ("bdpl", {"samples": 1}),
        ("bdpl", {"estimator": "straight"}),
        ("bdpl", {"learning_rate": float("nan")}),
        ("bdpl", {"candidates": "words"}),
    ],
)
def test_wrong_options_are_refused(name: str, wrong: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match=f"{name}.*{next(iter(wrong))}"):
        make_optimizer(name, **wrong)
