"""Environments with a cache that lasts, named by a JSON argument."""

from __future__ import annotations

import json
import pickle
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
from gymnasium.envs.registration import EnvSpec

import promptgym
from promptgym.errors import ConfigError

assert promptgym.__version__  # importing promptgym registers
ARGUMENTS: dict[str, Any] = {"task": "author", "horizon": 3, "budget": 10_000}


def served(env: Any) -> int:
    """Return how many evaluations the cache has answered."""
    shelf = env.unwrapped.problem.scorer.shelf
    assert shelf is not None
    return int(shelf.served)


def rollout(env: Any) -> list[Any]:
    """Play an episode of fixed actions; return rewards, prompts and what was spent."""
    env.reset(seed=3)
    env.action_space.seed(3)
    said = []
    for _ in range(3):
        _, reward, *_, info = env.step(env.action_space.sample())
        said.append((np.asarray(reward).tolist(), np.asarray(info["prompt"]).tolist()))
    spent = env.unwrapped.problem.ledger.snapshot()
    return [*said, spent["queries"], spent["calls"], spent["tokens"]]


def test_a_second_environment_is_answered_by_the_cache_of_the_first(tmp_path: Path) -> None:
    env = gym.make("PromptEdit-v0", cache=str(tmp_path), **ARGUMENTS)
    first = rollout(env)
    assert served(env) == 0 and (tmp_path / "scores.sqlite").exists()
    again = gym.make(EnvSpec.from_json(env.spec.to_json()))  # type: ignore[union-attr]
    assert json.loads(again.spec.to_json())["kwargs"]["cache"] == str(tmp_path)  # type: ignore[union-attr]
    assert rollout(again) == first
    assert served(again) >= again.unwrapped.problem.ledger.queries > 0  # type: ignore[attr-defined]


@pytest.mark.parametrize("mode", ["vector_entry_point", "sync"])
def test_vector_environments_share_the_cache_and_survive_pickling(
    tmp_path: Path, mode: str
) -> None:
    def make() -> Any:
        options = {**ARGUMENTS, "cache": str(tmp_path)}
        return gym.make_vec("PromptEdit-v0", num_envs=2, vectorization_mode=mode, **options)

    first, second = make(), make()
    problems = [e.unwrapped.problem for e in getattr(second, "envs", [second])]
    begun = first.reset(seed=0)[0]
    again = second.reset(seed=0)[0]
    for name in begun:
        np.testing.assert_array_equal(begun[name], again[name])
    assert all(p.scorer.shelf.served > 0 for p in problems)
    if mode == "vector_entry_point":
        assert pickle.loads(pickle.dumps(second)).problem.store.path == tmp_path / "scores.sqlite"


def test_the_default_place_and_none_at_all(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PROMPTGYM_CACHE", str(tmp_path))
    on = gym.make("PromptToken-v0", cache=True).unwrapped.problem.store  # type: ignore[attr-defined]
    assert on.path == tmp_path / "scores.sqlite"
    for cache in (None, False, "off"):
        assert gym.make("PromptToken-v0", cache=cache).unwrapped.problem.store is None  # type: ignore[attr-defined]
    assert not list(tmp_path.iterdir()), "nothing is opened before it is used"


@pytest.mark.parametrize("cache", [3, "", " ", ["a"], {}, "mysql://host/db", __file__])
def test_what_is_no_place_is_refused(cache: Any) -> None:
    with pytest.raises(ConfigError, match=r"(?s)cache.*(expected|takes)"):
        gym.make("PromptEdit-v0", cache=cache)
