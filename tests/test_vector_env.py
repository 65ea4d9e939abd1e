"""Vector environments: what scalar ones are, step by step, in one scoring call."""

from __future__ import annotations

from typing import Any

import gymnasium as gym
import numpy as np
import pytest
from env_problems import IDS, SIZE, VARIANTS, FailingModel, problem_for
from gymnasium.error import ResetNeeded
from gymnasium.vector import AsyncVectorEnv, AutoresetMode, SyncVectorEnv

from promptgym.envs import sample_action
from promptgym.errors import ConfigError
from promptgym.problem import Problem
from promptgym.testing import TransparentModel, check_vector_env, transparent_task
from promptgym.testing.compare import difference

MODES = tuple(AutoresetMode)


def make(variant: str, **more: Any) -> gym.Env[Any, Any]:
    env_id, options = VARIANTS[variant]
    problem = more.pop("problem", None) or problem_for(variant)
    return gym.make(env_id, problem=problem, **{**options, **more})


def make_vec(variant: str, num_envs: int, mode: AutoresetMode, **more: Any) -> Any:
    env_id, options = VARIANTS[variant]
    problem = more.pop("problem", None) or problem_for(variant)
    arguments = {**options, **more, "autoreset_mode": mode.value, "problem": problem}
    return gym.make_vec(env_id, num_envs=num_envs, **arguments)


def actions_for(vector: Any, rng: np.random.Generator) -> Any:
    space = vector.single_action_space
    return np.stack([np.asarray(sample_action(space, m, rng)) for m in vector.action_masks()])


@pytest.mark.parametrize("variant", VARIANTS)
@pytest.mark.parametrize("mode", MODES)
def test_a_vector_environment_is_so_many_scalar_ones(variant: str, mode: AutoresetMode) -> None:
    check_vector_env(
        lambda: make(variant),
        lambda n, m: make_vec(variant, n, m),
        num_envs=3,
        steps=24,
        modes=[mode],
        tolerance=0.0,
    )


@pytest.mark.parametrize("mode", MODES)
def test_the_time_limit_is_gymnasiums(mode: AutoresetMode) -> None:
    check_vector_env(
        lambda: make("edit", max_episode_steps=3),
        lambda n, m: make_vec("edit", n, m, max_episode_steps=3),
        modes=[mode],
        tolerance=0.0,
    )


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("variant", ["edit", "token"])
def test_failed_calls_end_the_same_episodes(variant: str, mode: AutoresetMode) -> None:
    def failing() -> Problem:
        return Problem(transparent_task(SIZE), FailingModel())

    check_vector_env(
        lambda: make(variant, problem=failing()),
        lambda n, m: make_vec(variant, n, m, problem=failing()),
        steps=24,
        modes=[mode],
        tolerance=0.0,
    )


@pytest.mark.parametrize("env_id", IDS)
def test_ids_without_arguments_work(env_id: str) -> None:
    check_vector_env(
        lambda: gym.make(env_id),
        lambda n, m: gym.make_vec(env_id, num_envs=n, autoreset_mode=m),
        num_envs=2,
        steps=10,
    )


@pytest.mark.parametrize("mode", [AutoresetMode.NEXT_STEP, AutoresetMode.SAME_STEP])
@pytest.mark.parametrize("variant", ["edit", "token"])
def test_a_shared_budget_is_charged_in_order(variant: str, mode: AutoresetMode) -> None:
    size = SIZE
    problems = [problem_for(variant, budget=17 * size + 3) for _ in range(2)]
    reference = SyncVectorEnv([lambda: make(variant, problem=problems[0])] * 4, autoreset_mode=mode)
    vector = make_vec(variant, 4, mode, problem=problems[1])
    assert difference(reference.reset(seed=0), vector.reset(seed=0)) is None
    rng, exhausted = np.random.default_rng(0), False
    for step in range(30):
        actions = actions_for(vector, rng)
        expected, found = reference.step(actions), vector.step(actions)
        assert difference(expected, found) is None, (step, difference(expected, found))
        exhausted = exhausted or bool(found[3].any())
        assert problems[0].ledger.queries == problems[1].ledger.queries
    assert exhausted
    assert problems[1].ledger.queries == 17 * size


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("variant", ["edit", "token"])
def test_a_step_is_one_model_call_resets_included(variant: str, mode: AutoresetMode) -> None:
    model = TransparentModel()
    vector = make_vec(variant, 8, mode, problem=Problem(transparent_task(SIZE), model))
    vector.reset(seed=0)
    rng = np.random.default_rng(0)
    for _ in range(20):
        before = model.calls
        done = np.logical_or(*vector.step(actions_for(vector, rng))[2:4])
        assert model.calls - before <= 1
        if mode is AutoresetMode.DISABLED and done.any():
            vector.reset(options={"reset_mask": done})


def test_no_scoring_for_sub_environments_that_only_reset() -> None:
    problem = problem_for("token")
    vector = make_vec("token", 4, AutoresetMode.NEXT_STEP, problem=problem, length=1)
    vector.reset(seed=0)
    vector.step(np.zeros(4, dtype=np.int64))
    spent = problem.ledger.queries
    vector.step(np.zeros(4, dtype=np.int64))  # everything resets; an empty start is not asked
    assert problem.ledger.queries == spent == 4 * len(problem.task.train)


def test_seeds_are_one_by_one() -> None:
    vector = make_vec("edit-archive", 3, AutoresetMode.NEXT_STEP)
    scalar = make("edit-archive")
    observations, infos = vector.reset(seed=[5, 9, 5])
    for i, seed in enumerate((5, 9, 5)):
        observation, info = scalar.reset(seed=seed)
        assert infos["prompt"][i] == info["prompt"]
        assert difference(observation, {k: v[i] for k, v in observations.items()}) is None
    with pytest.raises(ConfigError, match="2 seeds"):
        vector.reset(seed=[1, 2])


def test_a_masked_reset_leaves_the_others_alone() -> None:
    vector = make_vec("edit", 3, AutoresetMode.DISABLED)
    vector.reset(seed=0)
    stop = np.array([[3, 0, 0]] * 3)
    vector.step(np.array([[0, 0, 0]] * 3))
    mask = np.array([False, True, False])
    before = vector.render(), [e.state for e in vector.episodes]
    options = {"reset_mask": mask, "prompt": "alpha"}
    observations, infos = vector.reset(options=options)
    assert options == {"reset_mask": mask, "prompt": "alpha"}
    assert [e.state for e in vector.episodes][::2] == before[1][::2]
    assert infos["prompt"].tolist() == [None, "alpha", None]
    assert infos["_prompt"].tolist() == mask.tolist()
    assert observations["progress"][:, 0].tolist() == [0.125, 0.0, 0.125]
    vector.step(stop)
    with pytest.raises(ResetNeeded, match=r"\[0, 2\]"):
        vector.step(stop)
    for wrong in (np.array([True]), np.zeros(3, dtype=np.bool_), [True, False, True]):
        with pytest.raises(ConfigError, match="reset_mask"):
            vector.reset(options={"reset_mask": wrong})


def test_rendering_gives_a_frame_for_each() -> None:
    vector = make_vec("edit", 2, AutoresetMode.NEXT_STEP, render_mode="ansi")
    vector.reset(seed=0)
    frames = vector.render()
    assert len(frames) == 2
    assert all("one two" in frame for frame in frames)


def test_gymnasium_records_episode_statistics() -> None:
    vector = gym.wrappers.vector.RecordEpisodeStatistics(
        make_vec("edit", 2, AutoresetMode.SAME_STEP, horizon=3, swap=False)
    )
    vector.reset(seed=0)
    insert = np.array([[0, 0, 0], [0, 0, 4]])
    rewards = np.zeros(2)
    for _ in range(3):
        _, reward, terminations, _, infos = vector.step(insert)
        rewards += reward
    assert terminations.all()
    np.testing.assert_allclose(infos["episode"]["r"], rewards)
    np.testing.assert_allclose(infos["final_info"]["episode_return"], rewards)
    assert infos["episode"]["l"].tolist() == [3, 3]


def _scalar() -> gym.Env[Any, Any]:
    return make("edit")


def test_processes_give_the_same() -> None:
    rng = np.random.default_rng(0)
    vector = make_vec("edit", 2, AutoresetMode.NEXT_STEP)
    workers = AsyncVectorEnv([_scalar] * 2, context="spawn")
    try:
        assert difference(vector.reset(seed=0), workers.reset(seed=0)) is None
        for _ in range(10):
            actions = actions_for(vector, rng)
            assert difference(vector.step(actions), workers.step(actions)) is None
    finally:
        workers.close()


@pytest.mark.parametrize(
    ("shape", "message"),
    [
        ({"num_envs": 0}, "num_envs must be at least 1, got 0"),
        ({"num_envs": -1}, "num_envs must be at least 1, got -1"),
        ({"num_envs": "x"}, "num_envs takes int, got 'x'"),
        ({"num_envs": 2.0}, "num_envs takes int, got 2.0"),
        ({"max_episode_steps": "x"}, "max_episode_steps takes int or None, got 'x'"),
        ({"autoreset_mode": "Never"}, "autoreset_mode must be one of .*, got 'Never'"),
    ],
)
def test_wrong_shapes_are_named(shape: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        gym.make_vec("PromptToken-v0", **{"num_envs": 1, **shape}, problem=problem_for("token"))


def test_options_of_reset_that_there_are_not_are_named() -> None:
    vector = make_vec("edit", 2, AutoresetMode.NEXT_STEP)
    for options in ({"promt": "alpha"}, {"mask": np.array([True, False])}):
        with pytest.raises(ConfigError, match="It takes: prompt, reset_mask"):
            vector.reset(options=options)


def test_one_action_is_needed_for_each_sub_environment() -> None:
    vector = make_vec("edit", 3, AutoresetMode.NEXT_STEP)
    vector.reset(seed=0)
    with pytest.raises(ConfigError, match="3 sub-environments, but 2 actions"):
        vector.step(vector.action_space.sample()[:2])
