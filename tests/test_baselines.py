"""The search baselines: every registered one, then what each promises."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from rule_models import rule_proposer

from promptgym.agents import AGENTS, make_optimizer
from promptgym.baselines import BASELINES
from promptgym.baselines.hill_climbing import HillClimbing, edit
from promptgym.baselines.random_tokens import RandomTokens
from promptgym.errors import ConfigError, ModelError
from promptgym.problem import Problem, make_problem
from promptgym.prompts import Prompt
from promptgym.runs import ListSink
from promptgym.search import Ask, Result, SearchMethod
from promptgym.tasks import load_task
from promptgym.testing import TransparentModel, transparent_task
from promptgym.testing.transparent import FILLERS, WEIGHTS

VOCABULARY = (*WEIGHTS, *FILLERS)


def make(budget: int | None = 8000, **options: Any) -> Problem:
    options = {
        "proposer": rule_proposer(),
        "template": "{demonstrations}{input} {prompt}",
        **options,
    }
    return Problem(transparent_task(), TransparentModel(), budget=budget, **options)


def comparable(result: Result) -> dict[str, Any]:
    row = asdict(result)
    row["spent"].pop("seconds")
    return row


SMALL = {"ape": {"per_subset": 4}}
"""Options of those that else ask the embedded rewriter for a hundred texts at once."""


@pytest.mark.parametrize("name", sorted(BASELINES))
def test_a_registered_baseline_runs_on_the_embedded_model(name: str) -> None:
    def go() -> Result:
        sizes = {"train": 8, "dev": 4, "test": 1}
        problem = make_problem(
            "author",
            "tiny",
            task_options={"sizes": sizes},
            budget={"queries": 400, "proposer_calls": 40},
            proposer="tiny-rewriter",
        )
        return make_optimizer(name, **SMALL.get(name, {})).optimize(problem, seed=3)

    result, again = go(), go()
    assert 0 < result.spent["queries"] <= 400
    assert result.spent["proposer"]["calls"] <= 40
    assert result.best.dev is not None
    assert again.stats == result.stats and again.spent["queries"] == result.spent["queries"]
    # What a model keeps of texts it has read changes the last bits of what it answers next.
    assert [c.prompt for c in again.candidates] == [c.prompt for c in result.candidates]
    assert again.best.reward == pytest.approx(result.best.reward, abs=1e-2)


MASKED: dict[str, dict[str, Any]] = {
    "ape": SMALL["ape"],
    "claps": {"clusters": 20, "method": "claps_greedy"},  # reads the model's embeddings
    "random_tokens": {"generator": "model"},
}


@pytest.mark.parametrize("name", sorted(BASELINES))
def test_a_registered_baseline_runs_on_a_masked_target(name: str) -> None:
    sink = ListSink()
    problem = make_problem(
        "author",
        "tiny-masked",
        task_options={"sizes": {"train": 8, "dev": 4, "test": 1}},
        budget={"queries": 400, "proposer_calls": 40},
        proposer="tiny-rewriter",
        events=sink,
    )
    assert problem.model.kind == "masked" and problem.template.has_mask
    result = make_optimizer(name, **MASKED.get(name, {})).optimize(problem, seed=3)
    assert 0 < result.spent["queries"] <= 400 and result.best.dev is not None
    scores = [event for event in sink.events if event["kind"] == "scores"]
    assert scores and not any(event["failures"] for event in scores)
    asked = {str(prompt) for event in scores for prompt in event["prompts"]}
    few = {"empty": 1, "manual": 1, "select": 2, "spo": 1, "protegi": 1}
    assert len(asked) >= few.get(name, 4)


def test_a_masked_target_is_refused_where_answers_are_written() -> None:
    masked = load_task("author").masked_template
    task = replace(transparent_task(), labels=None, masked_template=masked)
    with pytest.raises(ModelError, match=r"'transparent' has no labels .*'tiny-masked@.* is a"):
        make_problem(task, "tiny-masked")


@pytest.mark.parametrize("name", sorted(BASELINES))
def test_a_registered_baseline_repeats_itself_and_resumes(name: str, tmp_path: Path) -> None:
    def go(folder: Path | None, resume: bool = False) -> dict[str, Any]:
        method = make_optimizer(name)
        assert isinstance(method, SearchMethod)
        return comparable(method.optimize(make(2000), 2, checkpoint_dir=folder, resume=resume))

    whole = go(None)
    assert whole["method"] == name and whole["seed"] == 2
    assert whole["best"]["dev"] is not None and 0 < whole["spent"]["queries"] <= 2000
    assert go(tmp_path) == whole
    file = tmp_path / "journal.jsonl"
    lines = file.read_bytes().splitlines(keepends=True)
    file.write_bytes(b"".join(lines[: len(lines) // 2 + 1]))
    assert go(tmp_path, resume=True) == whole


def test_listing_optimizers_imports_no_deep_learning_library() -> None:
    code = (
        "import sys, promptgym.agents, promptgym.baselines;"
        "sys.exit('torch' in sys.modules or 'stable_baselines3' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


@pytest.mark.parametrize("name", sorted({**AGENTS, **BASELINES}))
def test_a_registered_name_is_of_a_class_that_bears_it(name: str) -> None:
    method: Any = make_optimizer(name)
    assert method.name == name
    assert callable(method.optimize)


def test_unknown_names_and_options_say_what_is_known() -> None:
    with pytest.raises(ConfigError, match="hill_climbing"):
        make_optimizer("hillclimbing")
    with pytest.raises(ConfigError, match="neighbors"):
        make_optimizer("hill_climbing", neighbors=3)
    with pytest.raises(ConfigError, match="names a preset"):
        make_optimizer("rlprompt:repaired", preset="published")


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("hill_climbing", {"neighbours": "x"}, "hill_climbing: setting neighbours takes int"),
        ("rlprompt:repaired", {"lenght": 3}, "did you mean 'length'"),
        ("ppo_edit", {"preset": "tempera", "gamma": "x"}, "ppo_edit: setting gamma takes float"),
    ],
)
def test_settings_are_checked_wherever_they_come_from(
    name: str, options: dict[str, Any], message: str
) -> None:
    with pytest.raises(ConfigError, match=message):
        make_optimizer(name, **options)


def test_empty_and_manual_ask_their_prompts_once() -> None:
    empty = make_optimizer("empty").optimize(make(None))
    assert empty.best.prompt == Prompt("")
    assert empty.spent["queries"] == 40
    manual = make_optimizer("manual").optimize(make(None, initial_prompt="alpha"))
    assert manual.best.prompt == Prompt("alpha")
    every = make_optimizer("manual", every=True).optimize(make(None, initial_prompt="alpha"))
    assert {c.prompt for c in every.candidates} == {Prompt("alpha"), Prompt("one two")}


@pytest.mark.parametrize(("shortest", "longest"), [(1, 8), (4, 4)])
def test_random_tokens_draws_uniform_words_of_the_asked_lengths(
    shortest: int, longest: int
) -> None:
    problem = make(1, initial_prompt="never used")
    search = RandomTokens(shortest=shortest, longest=longest, batch=3000).search(
        problem, np.random.default_rng(0)
    )
    asked = next(search)
    assert isinstance(asked, Ask)
    prompts = asked.prompts
    lengths = np.bincount([len(p.words) for p in prompts], minlength=longest + 1)
    assert lengths[:shortest].sum() == 0 and len(lengths) == longest + 1
    assert lengths[shortest:].min() > 0.8 * 3000 / (longest - shortest + 1)
    words = [w for p in prompts for w in p.words]
    counts = np.array([words.count(w) for w in VOCABULARY])
    assert counts.sum() == len(words)
    assert counts.min() > 0.8 * counts.mean() and counts.max() < 1.2 * counts.mean()


def test_random_tokens_refuses_impossible_lengths_and_races() -> None:
    with pytest.raises(ConfigError, match="longest must be at least 5"):
        RandomTokens(shortest=5, longest=4)
    with pytest.raises(ConfigError, match="keep must be at least 1 and at most 16, got 17"):
        RandomTokens(keep=17)


def test_random_tokens_that_race_see_more_prompts_for_the_same_budget() -> None:
    plain = make_optimizer("random_tokens", batch=8).optimize(make(800), seed=1)
    races = make_optimizer("random_tokens", batch=8, keep=1).optimize(make(800), seed=1)
    assert races.spent["queries"] <= 800
    assert races.stats["prompts"] > 1.2 * plain.stats["prompts"]


words = st.lists(st.sampled_from(VOCABULARY), max_size=6).map(tuple)


@given(words, st.integers(0, 2**32 - 1), st.booleans())
def test_an_edit_changes_one_place(before: tuple[str, ...], seed: int, swaps: bool) -> None:
    after = edit(before, VOCABULARY, np.random.default_rng(seed), longest=6, swaps=swaps)
    assert len(after) <= 6
    assert set(after) <= set(VOCABULARY)
    difference = len(after) - len(before)
    if difference == 1:
        assert any(after[:i] + after[i + 1 :] == before for i in range(len(after)))
    elif difference == -1:
        assert any(before[:i] + before[i + 1 :] == after for i in range(len(before)))
    else:
        changed = [i for i in range(len(before)) if before[i] != after[i]]
        assert difference == 0 and len(changed) <= (2 if swaps else 1)
        if len(changed) == 2:
            assert sorted(before) == sorted(after)


def test_edits_reach_every_operation() -> None:
    rng = np.random.default_rng(0)
    before = ("alpha", "beta", "gamma")
    edits = [edit(before, VOCABULARY, rng, longest=4, swaps=True) for _ in range(400)]
    lengths = {len(e) for e in edits}
    assert lengths == {2, 3, 4}
    assert any(e != before and sorted(e) == sorted(before) for e in edits)
    assert {edit((), VOCABULARY, rng, longest=4) for _ in range(300)} == {(w,) for w in VOCABULARY}
    assert all(len(edit(before, VOCABULARY, rng, longest=3)) <= 3 for _ in range(50))


@pytest.mark.parametrize("start", ["initial", "empty", "random"])
@pytest.mark.parametrize("objective", ["margin", "reward"])
def test_hill_climbing_finds_the_optimum_of_an_additive_problem(start: Any, objective: Any) -> None:
    method = HillClimbing(start=start, objective=objective)
    result = method.optimize(make(40_000), seed=0)
    assert {"alpha", "beta", "gamma", "delta"} <= set(result.best.prompt.words)
    assert "anti" not in result.best.prompt.words


def test_hill_climbing_only_moves_up() -> None:
    problem = make()
    search = HillClimbing(neighbours=4).search(problem, np.random.default_rng(0))
    from promptgym.search import Answer

    asked = next(search)
    best, value = Prompt("one two"), -np.inf
    for _ in range(30):
        prompts = list(asked)
        scores = problem.score(prompts)
        margins = scores.label_logprobs[:, np.arange(len(scores.examples)), scores.targets].mean(1)
        if margins.max() > value:
            best, value = prompts[int(margins.argmax())], float(margins.max())
        asked = search.send(Answer(scores, problem.rewards(scores)))
        for prompt in asked:
            assert abs(len(prompt.words) - len(best.words)) <= 1
            assert len(set(best.words) - set(prompt.words)) <= 1


@pytest.mark.parametrize("wrong", [{"objective": "loss"}, {"start": "best"}, {"neighbours": 0}])
def test_hill_climbing_refuses_unknown_options(wrong: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match="hill_climbing"):
        HillClimbing(**wrong)


def test_hill_climbing_asks_no_prompt_twice_and_ends_where_nothing_is_new() -> None:
    task = transparent_task()
    sink = ListSink()
    problem = Problem(
        task, TransparentModel(), budget=100_000, vocabulary=("alpha", "one"), events=sink
    )
    HillClimbing(longest=2).optimize(problem, seed=0)
    asked = [
        p["instruction"]
        for event in sink.events
        if event["kind"] == "scores" and event["split"] == "train"
        for p in event["prompts"]
    ]
    assert len(asked) == len(set(asked))
    assert problem.ledger.queries < 100_000
