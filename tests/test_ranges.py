"""Hyperparameters that cannot work are refused by name, and leave nothing behind."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal, get_origin

import pytest

from promptgym.agents import AGENTS, make_optimizer
from promptgym.arguments import hints
from promptgym.baselines import BASELINES
from promptgym.errors import ConfigError, ModelError
from promptgym.evaluation.experiment import Experiment, run_experiment
from promptgym.problem import make_problem
from promptgym.ranges import FINITE, POSITIVE, SHARE, Range

WRONG: dict[str, dict[str, Any]] = {
    "rlprompt": {
        "top_k": -3,
        "replay": -3,
        "learning_rate": -1.0,
        "gains": [1.0, -1.0],
        "tau": -5.0,
        "clip": 0.0,
        "sharpen": math.nan,
        "patience": -1,
        "greedy_every": -1,
        "replay_temperature": 0.0,
        "reversed_halves": 7.0,
        "explore": 1.5,
    },
    "ppo_edit": {
        "learning_rate": -1.0,
        "hidden": 0,
        "gamma": 5.0,
        "clip": 0.0,
        "horizon": 1,
        "archive": -1,
        "steps": 0,
        "max_grad_norm": -1.0,
    },
    "prewrite": {"kl": -0.1, "micro_batch": 0, "group": 1, "temperature": 0.0, "errors": -1},
    "multi_prompter": {
        "prompters": 0,
        "entropy": 0.0,
        "imitation": -1.0,
        "decay": 2.0,
        "replay": -1,
    },
    "dpo_rewriter": {"beta": 0.0, "margin": -1.0, "rounds": 0, "learning_rate": -1e-3},
    "ape": {"keep": 1.0, "subsets": 0, "temperature": math.nan},
    "bdpl": {"samples": 1, "learning_rate": math.inf, "clip": 0.0, "weight_decay": -0.1},
    "best_of_n": {"limit": 0},
    "evoprompt_de": {"exchange": 0.0, "population": 3, "iterations": -1},
    "genetic": {"mutation": 1.1, "tournament": 0},
    "harmony_search": {"considering": -0.1, "adjusting": math.nan},
    "mmr_demonstrations": {"trade_off": 1.2, "shots": 0},
    "protegi": {"exploration": -1.0, "pulled": 0},
    "random_tokens": {"shortest": 0, "longest": 0, "keep": 17},
    "simulated_annealing": {"temperature": 0.0, "decay": math.inf},
}
CASES = [(agent, name, value) for agent, row in WRONG.items() for name, value in row.items()]


@pytest.mark.parametrize(("agent", "name", "value"), CASES)
def test_a_hyperparameter_out_of_range_is_refused(agent: str, name: str, value: Any) -> None:
    with pytest.raises(ConfigError, match=rf"{agent}: {name} must be .*got"):
        make_optimizer(agent, **{name: value})


@pytest.mark.parametrize("name", sorted({**AGENTS, **BASELINES}))
def test_a_word_that_is_no_choice_is_refused(name: str) -> None:
    built = make_optimizer(name)
    config: Any = getattr(built, "config", built)
    kinds = hints(type(config))
    choices = [field for field, kind in kinds.items() if get_origin(kind) is Literal]
    for field in choices:
        with pytest.raises(ConfigError, match=f"^{name}: {field} must be '.*', got 'no-such'"):
            replace(config, **{field: "no-such"})
    assert Any not in kinds.values(), "every annotation can be read"


def test_what_is_no_template_is_refused() -> None:
    with pytest.raises(ConfigError, match="template must be a Template or its text, got 5"):
        make_problem("author", "tiny", template=5)  # type: ignore[arg-type]


def test_folders_may_be_text(tmp_path: Path) -> None:
    for name in ("rlprompt", "hill_climbing"):
        folder = tmp_path / name
        problem = make_problem("author", "tiny", budget=128)
        make_optimizer(name).optimize(problem, checkpoint_dir=str(folder))
        assert (folder / "journal.jsonl").is_file()


def test_a_policy_that_cannot_be_made_leaves_no_folder(tmp_path: Path) -> None:
    experiment = Experiment(
        method="rlprompt",
        task="review-author",
        options={"policy_lm": "foo"},
        budget={"queries": 9999},
    )
    with pytest.raises(ModelError, match="unknown model 'foo'"):
        run_experiment(experiment, tmp_path / "run")
    assert not list(tmp_path.iterdir())


def test_a_range_says_what_it_holds() -> None:
    assert str(Range(2)) == "at least 2" and Range(2).holds(2) and not Range(2).holds(1)
    assert str(POSITIVE) == "above 0" and not POSITIVE.holds(0)
    assert str(SHARE) == "at least 0 and at most 1" and SHARE.holds(1) and not SHARE.holds(1.1)
    assert not SHARE.holds(math.nan)
    assert str(FINITE) == "above 0 and finite" and POSITIVE.holds(math.inf)
    assert not FINITE.holds(math.inf) and not FINITE.holds(0) and FINITE.holds(1e9)
    between = Range(0, 1, above=True, below=True)
    assert str(between) == "above 0 and below 1" and between.holds(0.5) and not between.holds(1)
