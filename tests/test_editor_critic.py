"""The scenario "editor-critic" of `MultiPrompter-v0`: what is proposed, decided and paid."""

from __future__ import annotations

from typing import Any

import gymnasium as gym
import numpy as np
import pytest
from env_problems import SIZE, problem_for
from gymnasium.utils.env_checker import data_equivalence
from team_problems import aec, draw, reward_of

from promptgym.envs.editor_critic import ACCEPT, REJECT
from promptgym.errors import ConfigError


def propose(env: Any, operation: str, position: int, word: str) -> None:
    heads = [env.mdp.operations.index(operation), position, env.problem.vocabulary.index(word)]
    env.step(np.array(heads))


def test_the_critic_decides_and_both_are_paid_the_change() -> None:
    env = aec("edit", reward_scale=None)
    env.reset(seed=0)
    assert env.agent_selection == "editor_0" and env.problem.ledger.queries == SIZE
    propose(env, "insert", 0, "alpha")
    observation, reward, *_, info = env.last()
    assert env.agent_selection == "critic_0" and reward == 0.0
    assert info["edit"].startswith("propose: insert 'alpha'") and info["prompt"] == "one two"
    assert observation["proposed"].tolist() == [1, 0]
    assert observation["proposal_mask"].sum() == 3 and observation["mask"].sum() == 2
    env.step(REJECT)
    assert env.problem.ledger.queries == SIZE and env.infos["editor_0"]["prompt"] == "one two"
    assert env.rewards == {"editor_0": 0.0, "critic_0": 0.0}
    propose(env, "insert", 0, "alpha")
    env.step(ACCEPT)
    gain = reward_of("alpha one two") - reward_of("one two")
    assert env.rewards == {a: pytest.approx(gain) for a in ("editor_0", "critic_0")}
    assert env.infos["editor_0"]["prompt"] == "alpha one two"
    assert env.problem.ledger.queries == 2 * SIZE and env.agent_selection == "editor_0"
    propose(env, "stop", 0, "one")
    assert env.observe("critic_0")["proposed"].tolist() == [1, 1]
    assert not any(env.terminations.values())
    env.step(ACCEPT)
    assert all(env.terminations.values()) and env.problem.ledger.queries == 2 * SIZE


def test_rewards_of_editor_and_critic_telescope() -> None:
    env, rng = aec("edit-pool", horizon=8), np.random.default_rng(0)
    for seed in range(4):
        env.reset(seed=seed)
        start = env.infos["editor_0"]["prompt_reward"]
        paid = {"editor_0": 0.0, "critic_0": 0.0}
        while not any(env.terminations.values()):
            env.step(draw(env) if env.agent_selection == "editor_0" else int(rng.integers(2)))
            paid = {agent: paid[agent] + env.rewards[agent] for agent in paid}
        end = env.infos["editor_0"]["prompt_reward"]
        expected = 4.0 * (end - start) / env.problem.reward.scale
        assert paid["editor_0"] == paid["critic_0"] == pytest.approx(expected)


def test_accepting_everything_is_prompt_edit() -> None:
    single: Any = gym.make("PromptEdit-v0", problem=problem_for("edit"), horizon=4)
    team = aec("edit")
    single.reset(seed=0)
    team.reset(seed=0)
    while not any(team.terminations.values()):
        action = draw(team)
        observation, reward, *ends, info = single.step(action)
        team.step(action)
        team.step(ACCEPT)
        seen = team.observe("editor_0")
        assert data_equivalence({key: seen[key] for key in observation}, observation)
        assert team.rewards["critic_0"] == reward
        assert [team.terminations["critic_0"], team.truncations["critic_0"]] == ends
        assert team.infos["critic_0"]["prompt"] == info["prompt"]


def test_illegal_proposals_end_the_round_and_illegal_verdicts_reject() -> None:
    env = aec("edit", horizon=2)
    env.reset(seed=0)
    propose(env, "stop", 0, "one")  # illegal before the first round is over
    assert env.infos["editor_0"]["illegal"] and env.agent_selection == "editor_0"
    propose(env, "insert", 0, "alpha")
    env.step(7)
    assert env.infos["critic_0"]["illegal"] and env.infos["critic_0"]["prompt"] == "one two"
    assert all(env.terminations.values())
    with pytest.raises(ConfigError, match="whole numbers"):
        env.reset()
        env.step(0)
