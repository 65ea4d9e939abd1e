"""Scalar environments: the Gymnasium contract, rewards, budget, failures, state."""

from __future__ import annotations

import inspect
import json
import math
import warnings
from functools import partial
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
from env_problems import IDS, SECTIONS, SIZE, TEXTS, VARIANTS, FailingModel, problem_for
from gymnasium.error import ResetNeeded

import promptgym
from promptgym.envs import PromptEdit, PromptEnv, ShellOptions, sample_action
from promptgym.errors import ConfigError, PromptGymError
from promptgym.problem import Problem
from promptgym.registration import ENVIRONMENTS
from promptgym.testing import check_prompt_env, transparent_task


def make(variant: str, render_mode: str | None = None, **more: Any) -> gym.Env[Any, Any]:
    env_id, options = VARIANTS[variant]
    problem = more.pop("problem", None) or problem_for(variant)
    return gym.make(env_id, problem=problem, render_mode=render_mode, **{**options, **more})


def play(env: gym.Env[Any, Any], rng: np.random.Generator) -> list[tuple[Any, ...]]:
    """Play one episode of legal actions from a fresh reset; return what the steps returned."""
    env.reset(seed=int(rng.integers(1000)))
    steps: list[tuple[Any, ...]] = []
    while not steps or not (steps[-1][2] or steps[-1][3]):
        mask = env.get_wrapper_attr("action_masks")()
        steps.append(env.step(sample_action(env.action_space, mask, rng)))
    return steps


def test_the_variants_cover_the_registry() -> None:
    assert {env_id for env_id, _ in VARIANTS.values()} == set(ENVIRONMENTS) == set(IDS)


@pytest.mark.parametrize("variant", VARIANTS)
def test_environments_keep_the_contract(variant: str) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        check_prompt_env(make(variant, render_mode="ansi"), tolerance=0.0)


@pytest.mark.parametrize("variant", [name for name in VARIANTS if name not in TEXTS])
def test_stable_baselines3_accepts_the_environments(variant: str) -> None:
    from stable_baselines3.common.env_checker import check_env

    with warnings.catch_warnings():
        warnings.simplefilter("error")
        check_env(make(variant).unwrapped)


@pytest.mark.parametrize("env_id", IDS)
def test_ids_without_arguments_work_and_survive_json(env_id: str) -> None:
    assert promptgym.__version__  # importing promptgym registers
    env = gym.make(env_id)
    check_prompt_env(env, steps=12)
    spec = gym.envs.registration.EnvSpec.from_json(env.spec.to_json())
    assert spec == env.spec
    assert gym.make(f"promptgym:{env_id}").spec == env.spec


@pytest.mark.parametrize("env_id", IDS)
def test_the_page_of_an_environment_is_complete(env_id: str) -> None:
    mdp = type(make(env_id.replace("Prompt", "").split("-")[0].lower()).unwrapped.mdp)
    page = mdp.__doc__ or ""
    at = [page.find(f"## {section}\n") for section in SECTIONS]
    assert min(at) > 0, f"missing: {[s for s, i in zip(SECTIONS, at, strict=True) if i < 0]}"
    assert at == sorted(at)
    arguments = page[page.index("## Arguments") : page.index("## References")]
    for name, parameter in list(inspect.signature(mdp.__init__).parameters.items())[2:]:
        default = json.dumps(parameter.default) if isinstance(parameter.default, str) else None
        row = f"| `{name}` | {default or parameter.default} |"
        assert row in arguments, f"the table of arguments lacks {row}"


def test_arguments_survive_json() -> None:
    arguments = {
        "task": "critics",
        "reward": {"name": "gap", "wrong": 100.0},
        "template": "{input} {prompt}",
        "initial_prompt": "one two",
        "budget": {"queries": 10_000},
        "horizon": 3,
    }
    env = gym.make("PromptEdit-v0", **arguments)
    again = gym.make(gym.envs.registration.EnvSpec.from_json(env.spec.to_json()))
    assert again.spec.kwargs == arguments
    assert again.reset(seed=1)[1]["prompt"] == "one two"
    assert again.unwrapped.problem.task.name == "review-critics"


def test_a_live_problem_is_shared_and_the_spec_survives() -> None:
    problem = problem_for("edit")
    env = make("edit", problem=problem)
    assert env.spec is not None
    assert env.unwrapped.problem is problem is env.spec.kwargs["problem"]


@pytest.mark.parametrize("shaping", ["delta", "sparse"])
def test_returns_telescope_to_last_minus_first(shaping: str) -> None:
    env = make("edit", shaping=shaping, reward_scale=1.0)
    rng = np.random.default_rng(0)
    for _ in range(10):
        seed = int(rng.integers(1000))
        problem = env.unwrapped.problem
        first = problem.rewards(problem.score([problem.initial_prompt]))[0]
        steps = play(env, np.random.default_rng(seed))
        last = steps[-1][4]["prompt_reward"]
        assert sum(s[1] for s in steps) == pytest.approx((last - first) / problem.reward.scale)
        if shaping == "sparse":
            assert all(s[1] == 0.0 for s in steps[:-1])


def test_rewards_are_scaled_to_a_perfect_prompt() -> None:
    env = make("edit", shaping="absolute", reward_scale=3.0)
    problem = env.unwrapped.problem
    for step in play(env, np.random.default_rng(1)):
        assert step[1] == pytest.approx(3.0 * step[4]["prompt_reward"] / problem.reward.scale)


def test_prompt_token_pays_the_reward_of_the_whole_prompt_once() -> None:
    env = make("token")
    problem = env.unwrapped.problem
    env.reset(seed=0)
    words = ["alpha", "beta", "gamma", "delta", "one"]
    results = [env.step(problem.vocabulary.index(word)) for word in words]
    assert [r[1] for r in results[:-1]] == [0.0] * 4
    assert results[-1][4]["prompt"] == " ".join(words)
    expected = problem.score([promptgym.Prompt(" ".join(words))])
    assert results[-1][1] == pytest.approx(problem.rewards(expected)[0])
    assert results[-1][4]["score"] == pytest.approx(expected.mean[0])
    assert results[-1][2]
    assert all("score" not in r[4] for r in results[:-1])
    assert problem.ledger.queries == 2 * len(problem.task.train)


def test_observed_statistics_are_the_scores() -> None:
    env = make("edit")
    problem = env.unwrapped.problem
    observation, info = env.reset(seed=0, options={"prompt": "alpha beta"})
    scores = problem.score([promptgym.Prompt("alpha beta")])
    probabilities = scores.label_probabilities[0].mean(axis=0)
    np.testing.assert_allclose(observation["label_probabilities"], probabilities, atol=1e-6)
    by_label = [scores.values[0][scores.targets == j].mean() for j in range(2)]
    np.testing.assert_allclose(observation["label_accuracies"], by_label, atol=1e-6)
    assert info["score"] == scores.mean[0] == pytest.approx(observation["score"][0])


def test_an_unchanged_prompt_is_not_asked_again() -> None:
    env = make("edit")
    _, info = env.reset(seed=0)
    problem = env.unwrapped.problem
    spent = problem.ledger.queries
    assert spent == info["queries"] == len(problem.task.train)
    place = env.unwrapped.mdp.operations.index("replace")
    *_, info = env.step(np.array([place, 0, problem.vocabulary.index("one")]))
    assert info["no_op"]
    assert not info["illegal"]
    assert problem.ledger.queries == spent == info["queries"]
    assert "score" in info


def test_a_spent_budget_truncates() -> None:
    size = SIZE
    env = make("edit", problem=problem_for("edit", budget=3 * size))
    observation, _ = env.reset(seed=0)
    left, info = [observation["budget_left"][0]], {}
    rng = np.random.default_rng(0)
    truncated = terminated = False
    while not truncated and not terminated:
        action = sample_action(env.action_space, env.get_wrapper_attr("action_masks")(), rng)
        action[0] = 0  # always insert
        observation, reward, terminated, truncated, info = env.step(action)
        left.append(observation["budget_left"][0])
    assert truncated
    assert not terminated
    assert info["budget_exhausted"]
    assert reward == 0.0
    assert "score" not in info
    np.testing.assert_allclose(left, [2 / 3, 1 / 3, 0.0, 0.0], atol=1e-6)
    _, info = env.reset()
    assert info["budget_exhausted"]
    *_, terminated, truncated, info = env.step(action)
    assert truncated
    assert info["budget_exhausted"]
    assert env.unwrapped.problem.ledger.queries == 3 * size


def test_a_prompt_whose_every_call_failed_truncates_and_is_no_score() -> None:
    problem = Problem(transparent_task(SIZE), FailingModel())
    env = make("edit", problem=problem)
    env.reset(seed=0)
    _, reward, terminated, truncated, info = env.step(
        np.array([0, 0, problem.vocabulary.index("anti")])
    )
    assert (reward, terminated, truncated) == (0.0, False, True)
    assert info["score_failed"]
    assert info["failures"] == len(problem.task.train)
    assert "score" not in info
    _, info = env.reset(options={"prompt": "anti"})
    assert info["score_failed"]


def test_the_archive_keeps_the_best_and_starts_there() -> None:
    env = make("edit", archive=2, archive_probability=1.0)
    problem = env.unwrapped.problem
    env.reset(seed=0)
    for word in ("alpha", "anti", "beta"):
        env.step(np.array([0, 0, problem.vocabulary.index(word)]))
    values = [value for value, _ in env.unwrapped.episode.archive]
    assert values == sorted(values, reverse=True)
    starts = {env.reset()[1]["prompt"] for _ in range(20)}
    assert starts == {"alpha one two", "beta anti alpha one two"}
    assert env.reset(seed=0)[1]["prompt"] == "one two"  # a seed starts anew
    with pytest.raises(ConfigError, match="archive"):
        make("token", archive=2)


def test_rendering_shows_the_edit_and_the_score(capsys: pytest.CaptureFixture[str]) -> None:
    env = make("edit", render_mode="ansi")
    env.reset(seed=0)
    *_, info = env.step(np.array([1, 0, env.unwrapped.problem.vocabulary.index("alpha")]))
    frame = env.render()
    assert "\x1b[31;9mone\x1b[0m" in frame
    assert "\x1b[32malpha\x1b[0m" in frame
    assert 0 < info["score"] < 1
    assert f"score {info['score']:.3f}" in frame
    human = make("edit", render_mode="human")
    human.reset(seed=0)
    assert "one two" in capsys.readouterr().out
    assert human.render() is None


def test_a_step_after_the_end_asks_for_a_reset() -> None:
    env = make("edit").unwrapped
    stop = np.array([3, 0, 0])
    with pytest.raises(ResetNeeded):
        env.step(stop)
    env.reset(seed=0)
    env.step(np.array([0, 0, 0]))
    assert env.step(stop)[2]
    with pytest.raises(ResetNeeded, match="reset"):
        env.step(stop)


@pytest.mark.parametrize("action", [None, 0, [0, 0], [0.5, 0.0, 0.0], [0, 0, 0, 0, 0], "go"])
def test_what_is_no_action_is_refused(action: Any) -> None:
    env = make("edit").unwrapped
    env.reset(seed=0)
    with pytest.raises(ConfigError, match="3 whole numbers, got"):
        env.step(action)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"shaping": "positive"}, "shaping"),
        ({"archive": -1}, "archive"),
        ({"reward": "gap"}, "beside `problem`"),
        ({"problem": "author"}, "must be a Problem"),
        ({"horizen": 3}, "did you mean 'horizon'"),
        ({"horizon": "8"}, "horizon takes int, got '8'"),
        ({"max_demonstrations": -1}, "max_demonstrations must be >= 0"),
        ({"archive": "x"}, "archive takes int"),
        ({"reward_scale": 0}, "reward_scale must be positive"),
        ({"reward_scale": math.inf}, "reward_scale must be positive and finite"),
        ({"modle": "tiny"}, "did you mean 'model'"),
        ({"max_words": 2**40}, "max_words <= 10,000"),
        ({"render_mode": "rgb_array"}, "render_mode"),
    ],
)
def test_wrong_arguments_are_named(options: dict[str, Any], message: str) -> None:
    from promptgym.envs.prompt_edit import make as make_edit

    with pytest.raises(ConfigError, match=message):
        make_edit(**{"problem": problem_for("edit"), **options})


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"task": None}, "task must be a Task"),
        ({"model": 3}, "model must be a model"),
        ({"task_options": {"lables": []}}, "did you mean 'labels'"),
        ({"vocabulary": "words"}, "vocabulary takes"),
        ({"vocabulary": [1]}, "vocabulary takes"),
        ({"vocabulary": []}, "vocabulary is empty"),
    ],
)
def test_wrong_problems_are_named(options: dict[str, Any], message: str) -> None:
    with pytest.raises(PromptGymError, match=message):
        gym.make("PromptEdit-v0", **options)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"task_options": 3}, "task_options takes .*, got 3"),
        ({"model_options": ["tiny"]}, "model_options takes .*, got \\['tiny'\\]"),
        ({"reward": "gap", "task_options": "author"}, "task_options takes .*, got 'author'"),
    ],
)
def test_options_that_are_no_dict_are_named(options: dict[str, Any], message: str) -> None:
    for make_env in (gym.make, partial(gym.make_vec, num_envs=2)):
        with pytest.raises(ConfigError, match=message):
            make_env("PromptToken-v0", **options)


@pytest.mark.parametrize("variant", VARIANTS)
@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"promt": "alpha"}, "no option 'promt'; did you mean 'prompt'"),
        ({"reset_mask": None}, "no option 'reset_mask'. It takes: prompt"),
        (["prompt"], "options must be a dict or None, got \\['prompt'\\]"),
    ],
)
def test_options_of_reset_that_there_are_not_are_named(
    variant: str, options: Any, message: str
) -> None:
    env = make(variant)
    env.reset(seed=0)
    before = env.unwrapped.get_state()
    with pytest.raises(ConfigError, match=message):
        env.reset(seed=1, options=options)
    assert env.unwrapped.get_state() == before


def test_an_environment_can_be_put_together_by_hand() -> None:
    env = PromptEnv(PromptEdit(problem_for("edit"), horizon=2), ShellOptions(shaping="absolute"))
    env.reset(seed=0, options={"prompt": "alpha"})
    assert env.step(np.array([0, 0, 0]))[2] is False
    assert env.step(np.array([0, 0, 0]))[2] is True
