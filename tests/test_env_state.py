"""States of environments: what they restore, whose they are, and that damaged ones are refused."""

from __future__ import annotations

import json
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
from env_problems import VARIANTS, problem_for

from promptgym.errors import ConfigError
from promptgym.types import JSON


def make(variant: str, **more: Any) -> Any:
    env_id, options = VARIANTS[variant]
    problem = more.pop("problem", None) or problem_for(variant)
    return gym.make(env_id, problem=problem, **{**options, **more}).unwrapped


def test_state_moves_to_another_environment() -> None:
    one, two = make("edit-archive"), make("edit-archive")
    one.reset(seed=4)
    one.step(np.array([0, 0, 0]))
    two.set_state(json.loads(json.dumps(one.get_state())))
    for _ in range(5):
        assert one.reset()[1]["prompt"] == two.reset()[1]["prompt"]
    with pytest.raises(ConfigError, match="version"):
        two.set_state({"version": 99})
    with pytest.raises(ConfigError, match=r"another environment: .*environment was \"PromptToken"):
        two.set_state(make("token").get_state())


@pytest.mark.parametrize(
    ("other", "says"),
    [
        ({"horizon": 5}, "arguments.horizon was 8, is 5 here"),
        ({"shaping": "sparse"}, "options.shaping was "),
        ({"problem": problem_for("edit", reward="margin")}, "reward"),
    ],
)
def test_a_state_is_of_one_environment_and_problem(other: JSON, says: str) -> None:
    one = make("edit")
    one.reset(seed=4)
    with pytest.raises(ConfigError, match=says):
        make("edit", **other).set_state(one.get_state())


def damaged(state: JSON, *path: str) -> JSON:
    """A state with one of its parts replaced by what cannot be read."""
    found = part = json.loads(json.dumps(state))
    for name in path[:-1]:
        part = part[name]
    part[path[-1]] = None
    return dict(found)


@pytest.mark.parametrize("path", [("episode", "state"), ("episode", "archive"), ("rng",)])
def test_a_damaged_state_is_refused_and_changes_nothing(path: tuple[str, ...]) -> None:
    env = make("edit")
    env.reset(seed=4)
    env.step(np.array([0, 0, 0]))
    other = make("edit")
    other.reset(seed=9)
    before = env.get_state()
    with pytest.raises(ConfigError, match="the state is damaged"):
        env.set_state(damaged(other.get_state(), *path))
    assert env.get_state() == before
    several = gym.make_vec("PromptEdit-v0", num_envs=2, problem=problem_for("edit"))
    several.reset(seed=4)
    before = several.get_state()
    broken = json.loads(json.dumps(before))
    broken["episodes"][1]["outcome"] = 3
    with pytest.raises(ConfigError, match="the state is damaged"):
        several.set_state(broken)
    assert several.get_state() == before
