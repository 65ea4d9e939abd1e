"""PromptBoosting: its weak learners, AdaBoost, and the vote in results and reports."""

from __future__ import annotations

import json
from itertools import permutations
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from promptgym import evaluate
from promptgym.agents import make_optimizer
from promptgym.baselines.promptboosting import PromptBoosting
from promptgym.errors import ConfigError
from promptgym.evaluation.ensembles import ensemble_row
from promptgym.evaluation.experiment import Experiment, run_experiment
from promptgym.evaluation.projection import project
from promptgym.llms import LabelLogprobs
from promptgym.problem import Problem, make_problem
from promptgym.prompts import Example, Prompt, Template
from promptgym.scoring import OK, Scores
from promptgym.search import Ensemble
from promptgym.search.ensemble import reading, vote
from promptgym.tasks import Task, get_metric
from promptgym.testing import TransparentModel, transparent_task

LABELS = ("a", "b", "c")
WORDS = {"red": 0, "green": 1, "blue": 2}


class Tinted(TransparentModel):
    """Right where the prompt has the word that the input names (`mod0` ... `mod2`: WORDS).

    Where it has not, the answer is the next label; with `swap` in the prompt every answer is turned
    one label further. So each word alone is right on a third of the inputs at least, a vote of
    all three on every one, and `swap` loses nothing for who reads the answer the other way.
    """

    name = "tinted"

    def label_logprobs(self, texts: Any, labels: Any) -> LabelLogprobs:
        """Make one label the likeliest."""
        out = np.full((len(texts), len(labels)), np.log(0.1))
        for i, text in enumerate(texts):
            words = text.split()
            gold, mod = int(words[1]), int(words[2][3:])
            helped = any(word in words and at != mod for word, at in WORDS.items())
            out[i, (gold + (not helped) + ("swap" in words)) % len(labels)] = np.log(0.8)
        return LabelLogprobs(out, self.count_tokens(texts))


def tinted_task(n: int = 36) -> Task:
    def split(name: str) -> tuple[Example, ...]:
        return tuple(Example(f"{name}{i} {i % 3} mod{i // 3 % 3}", LABELS[i % 3]) for i in range(n))

    return Task(
        name="tinted",
        template=Template("{input} {prompt}"),
        train=split("train"),
        dev=split("dev"),
        test_split=split("test"),
        labels=LABELS,
        manual_prompts=tuple(Prompt(w) for w in WORDS),
        vocabulary=(*WORDS, "swap"),
    )


def scores_of(logprobs: Any, targets: Any) -> Scores:
    """Return scores of prompts `p0`, `p1`, ... with these log-probabilities (P, E, L)."""
    logprobs, targets = np.asarray(logprobs, float), np.asarray(targets)
    return Scores(
        prompts=tuple(Prompt(f"p{i}") for i in range(len(logprobs))),
        examples=tuple(Example(f"x{i}", "abcdef"[t]) for i, t in enumerate(targets)),
        metric=get_metric("accuracy"),
        values=np.zeros(logprobs.shape[:2]),
        status=np.full(logprobs.shape[:2], OK, np.int8),
        label_logprobs=logprobs,
        targets=targets,
    )


@given(st.integers(0, 2**32 - 1), st.integers(2, 5))
def test_a_weak_learner_takes_the_permutation_of_least_weighted_error(seed: int, k: int) -> None:
    rng = np.random.default_rng(seed)
    scores = scores_of(np.log(rng.random((1, 12, k))), rng.integers(k, size=12))
    weights = rng.dirichlet(np.ones(12))
    (prompt, words), error, answers = PromptBoosting().fit(scores, Prompt("p0"), weights)
    assert prompt == Prompt("p0") and sorted(words) == list(range(k))

    def error_of(order: Any) -> float:
        assert scores.label_logprobs is not None
        said = scores.label_logprobs[0][:, list(order)].argmax(axis=1)
        return float(weights[said != scores.targets].sum())

    assert error == pytest.approx(min(error_of(p) for p in permutations(range(k))), abs=1e-9)
    assert error == pytest.approx(error_of(words))
    assert np.array_equal(answers, reading(scores, prompt, words))
    own = PromptBoosting(verbalizers="task").fit(scores, Prompt("p0"), weights)
    assert own[0][1] == tuple(range(k)) and own[1] == pytest.approx(error_of(range(k)))


def test_weights_of_learners_and_examples_are_those_of_samme() -> None:
    targets, rows = np.arange(30) % 3, np.arange(30)
    wrong_on = [rows < 10, (rows >= 10) & (rows < 17), (rows >= 15) & (rows < 26)]
    said = [(targets + wrong) % 3 for wrong in wrong_on]
    scores = scores_of(np.log(0.1 + 0.7 * np.eye(3)[np.stack(said)]), targets)
    method = PromptBoosting(learners=6, verbalizers="task")
    pool = [Prompt("p0"), Prompt("p1"), Prompt("p2")]
    members, votes = method.boost(scores, pool, np.random.default_rng(0))
    weights = np.full(30, 1 / 30)
    expected = []
    for prompt, _ in members:
        wrong = wrong_on[pool.index(prompt)]
        error = weights[wrong].sum()
        expected.append(np.log((1 - error) / error) + np.log(2))
        weights[wrong] *= (1 - error) / error * 2
        weights /= weights.sum()
    assert len(members) > 3 and votes == pytest.approx(expected)
    assert all(v > 0 for v in votes)


def test_a_vote_counts_weights_and_leaves_failures_out() -> None:
    answers = np.array([[0, 1, -1, -1], [1, 1, 2, -1], [1, 0, 0, -1]])
    together = vote(answers, [3.0, 2.5, 2.0], 3)
    assert together.tolist() == [[0, 1, -1, -1], [0, 1, 2, -1], [1, 1, 2, -1]]
    with_gap = scores_of([[[0.0, -1.0], [np.nan, np.nan]]], [0, 1])
    assert reading(with_gap, Prompt("p0"), (1, 0)).tolist() == [1, -1]
    values = Ensemble((Prompt("p0"),), (1.0,), ((1, 0),)).values(with_gap, ("a", "b"))
    assert values[0] == 0.0 and np.isnan(values[1])


def test_a_vote_of_weak_prompts_is_right_where_none_of_them_is() -> None:
    task = tinted_task()
    problem = Problem(task, Tinted(), budget=2000)
    result = PromptBoosting(pool=3, candidates=3).optimize(problem, seed=0)
    single = evaluate([Prompt(w) for w in WORDS], task, Tinted()).mean
    assert single == pytest.approx(2 / 3)
    ensemble = result.ensemble
    assert ensemble is not None and ensemble.train == ensemble.dev == 1.0
    assert ensemble_row(ensemble, problem, task, "test")["value"] == 1.0
    assert set(ensemble.distinct) == {Prompt(w) for w in WORDS}
    assert result.best.prompt in ensemble.distinct and result.best.dev == pytest.approx(2 / 3)
    # Each of the three once on train and on dev, and nothing for the boosting.
    assert result.spent["queries"] == 2 * 3 * 36


def test_answers_that_are_turned_round_are_read_round() -> None:
    task, prompts = tinted_task(), [Prompt(f"swap {w}") for w in WORDS]
    scores = Problem(task, Tinted()).score(prompts)
    uniform = np.full(36, 1 / 36)
    for prompt in prompts:
        (_, words), error, _ = PromptBoosting().fit(scores, prompt, uniform)
        assert words == (1, 2, 0) and error == pytest.approx(1 / 3)
        assert PromptBoosting(verbalizers="task").fit(scores, prompt, uniform)[1] == 1.0


def test_a_learner_without_error_is_taken_alone_by_dev() -> None:
    problem = Problem(transparent_task(), TransparentModel(), budget=8000, initial_prompt="alpha")
    result = PromptBoosting(candidates=60, pool=10).optimize(problem, seed=0)
    assert result.ensemble is not None and len(result.ensemble.prompts) == 1
    assert result.ensemble.dev == 1.0 and result.stats["kept_learners"] == 1


def test_more_candidates_than_the_pool_takes_are_refined() -> None:
    sizes = {"train": 32, "dev": 16, "test": 1}
    problem = make_problem("author", "tiny", task_options={"sizes": sizes}, budget=4000)
    result = PromptBoosting(candidates=40, pool=4).optimize(problem, seed=1)
    assert result.ensemble is not None and len(result.ensemble.distinct) <= 4
    assert result.stats["prompts"] == 44 and result.ensemble.dev is not None
    assert result.ensemble.train is not None and result.ensemble.train > 0.5
    assert result.best.dev is not None


def test_a_run_folder_and_its_report_have_the_ensemble(tmp_path: Path) -> None:
    config = Experiment(
        method="promptboosting",
        task="author",
        options={"candidates": 12},
        task_options={"sizes": {"train": 24, "dev": 16, "test": 50}},
        budget={"queries": 2000},
        seed=4,
    )
    record = run_experiment(config, tmp_path / "run")
    ensemble = record["ensemble"]
    assert json.loads((tmp_path / "run" / "result.json").read_text())["ensemble"] == ensemble
    assert ensemble["test"]["examples"] == 50
    assert ensemble["test"]["low"] <= ensemble["test"]["value"] <= ensemble["test"]["high"]
    distinct = {str(m["prompt"]) for m in ensemble["members"]}
    assert ensemble["test"]["queries"] == 50 * len(distinct)
    page = (tmp_path / "run" / "report.html").read_text(encoding="utf-8")
    assert "<td>ensemble</td>" in page and ensemble["text"] in page
    assert record["best"]["prompt"]["instruction"] is not None


def test_a_dry_run_counts_the_ensembles_held_out_queries() -> None:
    sizes = {"train": 24, "dev": 16, "test": 50}
    same: dict[str, Any] = {"task": "author", "task_options": {"sizes": sizes}}
    same["budget"] = {"queries": 2000}
    voting = project(Experiment(method="promptboosting", **same))
    alone = project(Experiment(method="empty", **same))
    assert voting["search"]["queries"] == 10 * (24 + 16) + 8 * 16
    more = voting["held_out"]["queries"] - alone["held_out"]["queries"]
    assert more >= 2 * (16 + 50), "two voters at least, on dev and test"


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"pool": 0}, "pool must be at least 1"),
        ({"candidates": 5}, "candidates must be at least 10, got 5"),
        ({"learning_rate": 0.0}, "learning_rate must be above 0"),
        ({"verbalizers": "all"}, "verbalizers takes 'permuted' or 'task'"),
    ],
)
def test_wrong_options_are_refused(wrong: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        make_optimizer("promptboosting", **wrong)


def test_a_budget_and_a_task_that_do_not_fit_are_refused() -> None:
    with pytest.raises(ConfigError, match="take 560 queries"):
        PromptBoosting().check(Problem(transparent_task(), TransparentModel(), budget=700))
    tight = Problem(transparent_task(), TransparentModel(), budget=720)
    assert PromptBoosting().optimize(tight).ensemble is not None
    spoken = Task(
        name="spoken",
        template=Template("{input} {prompt}"),
        train=(Example("one", "1"),),
        dev=(Example("two", "2"),),
    )
    with pytest.raises(ConfigError, match="answered by generation"):
        PromptBoosting().check(Problem(spoken, TransparentModel(), reward="accuracy"))
