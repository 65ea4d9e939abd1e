"""The Stable-Baselines3 adapter gives what Stable-Baselines3's own vector environments give."""

from __future__ import annotations

from typing import Any

import gymnasium
import numpy as np
import pytest
from gymnasium import spaces
from gymnasium.vector import AutoresetMode, SyncVectorEnv
from sb3_contrib import MaskablePPO
from sb3_contrib.common.maskable.utils import get_action_masks, is_masking_supported
from stable_baselines3 import PPO
from stable_baselines3.common.vec_env import DummyVecEnv, VecMonitor, VecNormalize

from promptgym.errors import ConfigError
from promptgym.integrations.sb3 import SB3VecEnv, split_infos

SAME = AutoresetMode.SAME_STEP


class Masked(gymnasium.Env[Any, Any]):
    """Three steps in which only every other word may be taken; a Dict with a text in it."""

    def __init__(self) -> None:
        """Declare the spaces."""
        self.observation_space = spaces.Dict(
            {
                "prompt": spaces.Text(20),
                "step": spaces.Box(0, 3, (1,), np.float32),
                "words": spaces.Box(0, 9, (3,), np.int64),
            }
        )
        self.action_space = spaces.MultiDiscrete([2, 5])
        self.t = 0
        self.words = np.zeros(3, np.int64)

    def observe(self) -> dict[str, Any]:
        """Return fresh arrays."""
        return {
            "prompt": "x" * (self.t + 1),
            "step": np.array([self.t], np.float32),
            "words": self.words.copy(),
        }

    def reset(self, *, seed: int | None = None, options: Any = None) -> Any:
        """Draw the words."""
        super().reset(seed=seed)
        self.t = 0
        self.words[:] = self.np_random.integers(0, 9, 3)
        return self.observe(), {"start": int(self.words[0]), "options": (options or {}).get("n")}

    def step(self, action: Any) -> Any:
        """Pay the chosen word; a large last word terminates, a small one truncates."""
        assert self.action_masks()[[action[0], 2 + action[1]]].all(), "a masked action was taken"
        self.t += 1
        self.words[0] = action[1]
        info = {"word": int(action[1]), "nested": {"twice": float(2 * action[1])}}
        ends = self.t == 3
        return (
            self.observe(),
            float(action[1]),
            ends and action[1] > 2,
            ends and action[1] < 3,
            info,
        )

    def action_masks(self) -> Any:
        """Allow even words at even steps, odd ones at odd steps."""
        even = np.array([True, False, True, False, True])
        return np.concatenate([[True, self.t > 0], even if self.t % 2 == 0 else ~even])


def masked_env(n: int = 3, *, copy: bool = True) -> SB3VecEnv:
    return SB3VecEnv(SyncVectorEnv([Masked] * n, autoreset_mode=SAME, copy=copy))


def cartpole(steps: int = 9) -> Any:
    return gymnasium.make("CartPole-v1", max_episode_steps=steps)


def same(a: Any, b: Any) -> bool:
    """Compare nested dicts of arrays and values exactly."""
    if isinstance(a, dict):
        return isinstance(b, dict) and set(a) == set(b) and all(same(a[k], b[k]) for k in a)
    return bool(np.array_equal(np.asarray(a), np.asarray(b)))


@pytest.mark.parametrize("vectorized", ["sync", "async"])
def test_every_step_equals_that_of_dummy_vec_env(vectorized: str) -> None:
    theirs = DummyVecEnv([cartpole] * 3)
    ours = SB3VecEnv(
        gymnasium.make_vec(
            "CartPole-v1",
            num_envs=3,
            vectorization_mode=vectorized,
            vector_kwargs={"autoreset_mode": SAME},
            max_episode_steps=9,
        )
    )
    assert theirs.seed(5) == ours.seed(5)
    assert np.array_equal(theirs.reset(), ours.reset())
    rng = np.random.default_rng(0)
    truncated = ended = 0
    for _ in range(60):
        actions = rng.integers(0, 2, 3) if ended < 20 else np.arange(3) % 2
        expected, got = theirs.step(actions), ours.step(actions)
        for a, b in zip(expected[:3], got[:3], strict=True):
            assert a.dtype == b.dtype
            assert np.array_equal(a, b)
        assert all(same(a, b) for a, b in zip(expected[3], got[3], strict=True))
        assert all(same(a, b) for a, b in zip(theirs.reset_infos, ours.reset_infos, strict=True))
        ended += int(got[2].sum())
        truncated += sum(info["TimeLimit.truncated"] for info in got[3])
    assert ended > 10
    assert truncated > 0
    ours.close()


def test_masks_infos_and_terminal_observations_of_a_dict_environment() -> None:
    env = masked_env()
    env.seed(0)
    env.set_options({"n": 7})
    observation = env.reset()
    assert set(observation) == {"step", "words"}, "texts are left out"
    assert [row["options"] for row in env.reset_infos] == [7, 7, 7]
    assert is_masking_supported(env)
    for t in range(3):
        masks = get_action_masks(env)
        assert masks.shape == (3, 7)
        word = 0 if t % 2 == 0 else 3
        assert masks[:, 2 + word].all()
        observation, rewards, dones, infos = env.step(np.array([[0, word]] * 3))
        assert rewards.tolist() == [word] * 3
        assert [info["word"] for info in infos] == [word] * 3
        assert [info["nested"] for info in infos] == [{"twice": 2.0 * word}] * 3
        assert dones.tolist() == [t == 2] * 3
    assert [info["TimeLimit.truncated"] for info in infos] == [True] * 3
    assert infos[0]["terminal_observation"]["step"] == [3.0]
    assert infos[0]["terminal_observation"]["words"][0] == 0
    assert observation["step"].tolist() == [[0.0]] * 3, "the next episode's first observation"
    assert [row["options"] for row in env.reset_infos] == [None] * 3, "options are used once"
    assert [r["start"] for r in env.reset_infos] == observation["words"][:, 0].tolist()


def test_observations_survive_an_environment_that_reuses_its_buffers() -> None:
    env = masked_env(copy=False)
    first = env.reset()
    before = first["step"].copy()
    env.step(np.zeros((3, 2), np.int64))
    assert np.array_equal(first["step"], before)


def test_maskable_ppo_trains_on_dict_observations_and_multi_discrete_actions() -> None:
    env = VecMonitor(masked_env(4))
    model = MaskablePPO("MultiInputPolicy", env, n_steps=48, batch_size=64, seed=0, device="cpu")
    before = model.policy.state_dict()["action_net.weight"].clone()
    model.learn(4 * 48 * 6)
    assert not np.array_equal(before, model.policy.state_dict()["action_net.weight"])
    returns = [episode["r"] for episode in model.ep_info_buffer]
    # The best allowed words are 4, 3, 4: a random policy gets 2 + 2 + 2 on average.
    assert np.mean(returns[-40:]) > 7.5
    assert {episode["l"] for episode in model.ep_info_buffer} == {3}


def test_plain_ppo_and_vec_normalize_run_through_it() -> None:
    vector = gymnasium.make_vec(
        "CartPole-v1", num_envs=2, vectorization_mode="sync", vector_kwargs={"autoreset_mode": SAME}
    )
    env = VecNormalize(VecMonitor(SB3VecEnv(vector)))
    model = PPO("MlpPolicy", env, n_steps=64, batch_size=64, device="cpu").learn(256)
    assert model.num_timesteps == 256
    assert len(model.ep_info_buffer) > 0


def test_recorded_episode_statistics_reach_the_final_info() -> None:
    inner = SyncVectorEnv([Masked] * 2, autoreset_mode=SAME)
    env = SB3VecEnv(gymnasium.wrappers.vector.RecordEpisodeStatistics(inner))
    env.reset()
    for word in (2, 3, 4):
        infos = env.step(np.array([[0, word], [0, word]]))[3]
        assert ("episode" in infos[0]) == (word == 4)
    assert infos[1]["episode"]["r"] == 9.0
    assert infos[1]["episode"]["l"] == 3


@pytest.mark.parametrize("mode", [AutoresetMode.NEXT_STEP, AutoresetMode.DISABLED])
def test_other_autoreset_modes_are_refused_with_the_way_out(mode: AutoresetMode) -> None:
    with pytest.raises(ConfigError, match="SAME_STEP"):
        SB3VecEnv(SyncVectorEnv([Masked], autoreset_mode=mode))


def test_spaces_and_keys_that_sb3_cannot_read_are_refused_by_name() -> None:
    vector = SyncVectorEnv([Masked], autoreset_mode=SAME)
    with pytest.raises(ConfigError, match="Text space 'prompt'"):
        SB3VecEnv(vector, keys=["prompt", "step"])
    with pytest.raises(ConfigError, match="unknown observation key 'wrods'"):
        SB3VecEnv(vector, keys=["wrods"])
    assert set(SB3VecEnv(vector, keys=["words"]).reset()) == {"words"}
    with pytest.raises(ConfigError, match="different ones"):
        env = masked_env(2)
        env.set_options([{"n": 1}, {"n": 2}])
        env.reset()


def test_attributes_and_methods_reach_the_sub_environments() -> None:
    env = masked_env(3)
    env.reset()
    assert env.get_attr("t") == [0, 0, 0]
    env.set_attr("t", 2, indices=[1])
    assert env.get_attr("t", indices=[0, 1]) == [0, 2]
    assert env.get_attr("num_envs", indices=0) == [3]
    assert env.env_is_wrapped(gymnasium.wrappers.TimeLimit) == [False] * 3
    assert not env.has_attr("nothing_of_that_name")
    with pytest.raises(AttributeError):
        env.env_method("nothing_of_that_name")


def test_split_infos_keeps_absent_entries_absent() -> None:
    infos = {
        "a": np.array([1, 0]),
        "_a": np.array([True, False]),
        "b": {"c": np.array(["x", "y"], object), "_c": np.array([False, True])},
        "_b": np.array([True, True]),
        "all": np.array([0.5, 1.5]),
    }
    assert split_infos(infos, 2) == [{"a": 1, "b": {}, "all": 0.5}, {"b": {"c": "y"}, "all": 1.5}]
