"""Searches over demonstrations: what they show, what they find, what they refuse."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from typing import Any

import pytest

from promptgym.agents import make_optimizer
from promptgym.baselines.mmr_demonstrations import MMRDemonstrations, cosine, mmr, weighted
from promptgym.baselines.random_demonstrations import RandomDemonstrations
from promptgym.errors import ConfigError
from promptgym.problem import Problem, make_problem
from promptgym.prompts import Example, Prompt, Template
from promptgym.runs import ListSink
from promptgym.testing import TransparentModel, transparent_task

BOTH = ("mmr_demonstrations", "random_demonstrations")
TEMPLATE = Template("{demonstrations}{input} {prompt}")
# All are of one class: the transparent model reads the right answer off the text.
POOL = tuple(
    Example(f"{w} pool{i}", "minus") for i, w in enumerate(("alpha", "beta", "anti", "one"))
)


def make(budget: int | None = 20_000, pool: Any = POOL, **options: Any) -> Problem:
    task = replace(transparent_task(), pool=pool)
    return Problem(task, TransparentModel(), **{"budget": budget, "template": TEMPLATE, **options})


def asked(method: Any, problem: Problem, seed: int = 0) -> list[Prompt]:
    """Return all that a method asks on the training split, in order."""
    sink = ListSink()
    problem.events = sink
    method.optimize(problem, seed=seed)
    return [
        Prompt.of(p)
        for event in sink.events
        if event["kind"] == "scores" and event["split"] == "train"
        for p in event["prompts"]
    ]


@pytest.mark.parametrize("name", BOTH)
def test_prompts_show_different_examples_of_the_pool_and_keep_their_words(name: str) -> None:
    prompts = asked(make_optimizer(name, shots=2), make(initial_prompt="one two"))
    assert len(prompts) == len(set(prompts)) >= 1
    for prompt in prompts:
        assert prompt.instruction == "one two"
        assert len(set(prompt.demonstrations)) == 2
        assert set(prompt.demonstrations) <= set(POOL)


def test_random_demonstrations_find_the_best_pair_and_end_when_all_are_asked() -> None:
    method = RandomDemonstrations(shots=2, balanced=False)
    result = method.optimize(make())
    assert set(result.best.prompt.demonstrations) == set(POOL[:2])
    assert result.stats["prompts"] == 12  # ordered pairs of four


def test_a_balanced_draw_has_as_many_of_each_label() -> None:
    for shots in (3, 4):
        prompts = asked(RandomDemonstrations(shots=shots), make(8000, pool=()))
        train = set(transparent_task().train)
        counts = [Counter(d.target for d in p.demonstrations) for p in prompts]
        assert all(set(p.demonstrations) <= train for p in prompts)
        assert all(sorted(c.values()) == [shots // 2, shots - shots // 2] for c in counts)
    free = asked(RandomDemonstrations(balanced=False), make(8000, pool=()))
    assert any(len({d.target for d in p.demonstrations}) == 1 for p in free)


def test_mmr_weighs_relevance_against_redundancy() -> None:
    query = {"a": 0.8, "b": 0.6}
    near, alike, other, far = {"a": 1.0}, {"a": 0.96, "c": 0.28}, {"b": 1.0}, {"d": 1.0}
    shown = [near, alike, other, far]
    assert mmr(query, shown, 3, 1.0) == [0, 1, 2]  # by relevance: 0.8, 0.768, 0.6, 0
    assert mmr(query, shown, 3, 0.5) == [0, 2, 3]  # 0.384 - 0.48 is less than 0.3 and than 0
    assert mmr(query, shown, 9, 0.0) == [0, 2, 3, 1]


def test_rare_words_weigh_more() -> None:
    first, second, third = weighted(["the cat", "the dog", "The cat"])
    assert first == third and "the" not in {w for w, x in first.items() if x}
    assert cosine(first, second) == 0 and cosine(first, third) == pytest.approx(1)


def test_mmr_asks_the_set_of_all_questions_first_and_then_those_of_each() -> None:
    inputs = ("red green", "red blue", "tall short")
    train = tuple(Example(text, "minus") for text in inputs)
    pool = tuple(Example(f"{text} again", "plus") for text in (*inputs, "far away"))
    task = replace(transparent_task(), train=train, pool=pool)
    problem = Problem(task, TransparentModel(), budget=2000, template=TEMPLATE)
    prompts = asked(MMRDemonstrations(shots=1), problem)
    assert prompts[0].demonstrations[0].input in ("red green again", "red blue again")
    assert {p.demonstrations[0].input for p in prompts} == {f"{t} again" for t in inputs}


def test_an_example_is_not_its_own_demonstration() -> None:
    train = tuple(Example(text, "minus") for text in ("red green", "red blue", "far away"))
    task = replace(transparent_task(), train=train, pool=())
    problem = Problem(task, TransparentModel(), budget=2000, template=TEMPLATE)
    prompts = asked(MMRDemonstrations(shots=1, trade_off=1.0), problem)
    # "far away" is near to nothing but itself.
    assert {p.demonstrations[0].input for p in prompts} == {"red green", "red blue"}


@pytest.mark.parametrize("name", BOTH)
def test_what_cannot_be_shown_is_refused(name: str) -> None:
    with pytest.raises(ConfigError, match=f"{name} needs a template with"):
        make_optimizer(name).optimize(make(template="{input} {prompt}"))
    with pytest.raises(ConfigError, match=f"{name}: shots is 5, .* has 4 examples"):
        make_optimizer(name, shots=5).optimize(make())
    with pytest.raises(ConfigError, match=f"{name}: shots is 4, .* has 0 examples"):
        make_optimizer(name, source="pool").optimize(make(pool=()))
    for wrong in ({"shots": 0}, {"source": "dev"}, {"batch": 0}):
        with pytest.raises(ConfigError, match=name):
            make_optimizer(name, **wrong)
    with pytest.raises(ConfigError, match="trade_off"):
        MMRDemonstrations(trade_off=1.2)


@pytest.mark.parametrize("name", BOTH)
def test_demonstrations_of_the_embedded_model_come_from_its_pool(name: str) -> None:
    sizes = {"train": 16, "dev": 8, "test": 1}
    problem = make_problem("author", "tiny", task_options={"sizes": sizes}, budget=900)
    result = make_optimizer(name, shots=2).optimize(problem)
    assert all(len(c.prompt.demonstrations) == 2 for c in result.candidates)
    assert set(result.best.prompt.demonstrations) <= set(problem.task.pool)
