"""Gymnasium `VectorEnv` -> Stable-Baselines3 `VecEnv`, so that SB3 steps all prompts in one batch.

Stable-Baselines3 knows only its own vector interface (DLR-RM/stable-baselines3#1745). Wrapping the
scalar environment in a `DummyVecEnv` instead would ask the language model once for each
sub-environment; this adapter keeps the one batched call that a promptgym vector environment makes.
Importing this module imports Stable-Baselines3 and torch.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import gymnasium
import numpy as np
from gymnasium import spaces
from gymnasium.vector import AutoresetMode, VectorEnv
from stable_baselines3.common.vec_env import VecEnv

from promptgym.errors import ConfigError
from promptgym.types import JSON

Indices = int | Iterable[int] | None
SUPPORTED = (spaces.Box, spaces.Discrete, spaces.MultiDiscrete, spaces.MultiBinary)


class SB3VecEnv(VecEnv):  # type: ignore[misc]  # Stable-Baselines3 is untyped to mypy here
    """Lets Stable-Baselines3 train on a Gymnasium vector environment.

    Rewards, `terminal_observation`, `TimeLimit.truncated`, `reset_infos` and action masks are what
    `DummyVecEnv` over the same environments would give, so that `VecMonitor`, `VecNormalize`,
    PPO and MaskablePPO work unchanged. Infos become one dict a sub-environment; at the end of an
    episode that dict is the last step's (`final_info`), and the new episode's goes to
    `reset_infos`.
    """

    def __init__(self, env: VectorEnv[Any, Any, Any], *, keys: Sequence[str] | None = None) -> None:
        """Wrap a vector environment in same-step autoreset mode.

        Args:
            env: the vector environment.
            keys: entries of a Dict observation that the policy sees, in order; None for all that
                Stable-Baselines3 can read (texts are left out).

        Raises:
            ConfigError: for another autoreset mode, an observation or an action space that
                Stable-Baselines3 cannot read, or an unknown key.
        """
        mode = env.metadata.get("autoreset_mode")
        if mode != AutoresetMode.SAME_STEP:
            raise ConfigError(
                f"SB3VecEnv: {env} has autoreset mode {getattr(mode, 'value', mode)!r}, but "
                "Stable-Baselines3 expects 'SameStep' (a finished sub-environment is reset in the "
                "same step); make a promptgym environment with "
                "gymnasium.make_vec(ID, num_envs=N, autoreset_mode='SameStep'), any other with "
                "vectorization_mode='sync', "
                "vector_kwargs={'autoreset_mode': AutoresetMode.SAME_STEP}"
            )
        self.env = env
        self.keys = _readable_keys(env.single_observation_space, keys)
        self._actions: Any = None
        super().__init__(
            env.num_envs,
            _readable_space(env.single_observation_space, self.keys),
            _readable_action(env.single_action_space),
        )

    def reset(self) -> Any:
        """Reset every sub-environment; the seeds and options set before are used once."""
        options = self._options[0]
        if any(other != options for other in self._options):
            raise ConfigError(
                "SB3VecEnv: a Gymnasium vector environment takes one options dict for all "
                "sub-environments; got different ones"
            )
        # Sub-environment i gets seed + i on either side, so the first seed says it all.
        observation, infos = self.env.reset(seed=self._seeds[0], options=options or None)
        self.reset_infos = split_infos(infos, self.num_envs)
        self._reset_seeds()
        self._reset_options()
        return self._select(observation)

    def step_async(self, actions: Any) -> None:
        """Remember the actions, shape (N, ...), for `step_wait`."""
        self._actions = np.asarray(actions)

    def step_wait(self) -> tuple[Any, Any, Any, list[JSON]]:
        """Step; return observations, rewards (N,) float32, dones (N,) and N infos."""
        observation, rewards, terminated, truncated, infos = self.env.step(self._actions)
        dones = np.logical_or(terminated, truncated)
        rows = split_infos(infos, self.num_envs)
        for i in range(self.num_envs):
            if dones[i]:
                rows[i] = self._finish(i, rows[i])
            rows[i]["TimeLimit.truncated"] = bool(truncated[i] and not terminated[i])
        return self._select(observation), np.asarray(rewards, dtype=np.float32), dones, rows

    def _finish(self, index: int, row: JSON) -> JSON:
        """Keep the new episode's info for `reset_infos`; return the finished one's."""
        last: JSON = dict(row.pop("final_info", None) or {})
        last["terminal_observation"] = self._select(row.pop("final_obs"))
        if "episode" in row:  # RecordEpisodeStatistics writes it beside, not into, final_info
            last["episode"] = row.pop("episode")
        self.reset_infos[index] = row
        return last

    def _select(self, observation: Any) -> Any:
        """Copy what the policy sees: environments may reuse their buffers, SB3 keeps references."""
        if self.keys is None:
            return np.array(observation)
        return {key: np.array(observation[key]) for key in self.keys}

    def close(self) -> None:
        """Close the vector environment."""
        self.env.close()

    def render(self, mode: str | None = None) -> Any:
        """Return what the vector environment renders: one frame or text a sub-environment."""
        return self.env.render()

    def get_images(self) -> list[Any]:
        """Return the RGB frame of every sub-environment."""
        return list(self.env.render() or ())

    def get_attr(self, attr_name: str, indices: Indices = None) -> list[Any]:
        """Return an attribute for each sub-environment.

        An attribute of the vector environment is shared by all, unless it is a sequence or array
        with one entry a sub-environment; one that only the sub-environments have is asked there.
        """
        places = list(self._get_indices(indices))
        owner = self._owner(attr_name)
        if owner is not None:
            return [_per_env(getattr(owner, attr_name), self.num_envs)[i] for i in places]
        inner: Any = self.env.unwrapped
        if hasattr(inner, "get_attr"):
            values = inner.get_attr(attr_name)
            return [values[i] for i in places]
        raise AttributeError(f"{self.env} has no attribute {attr_name!r}")

    def set_attr(self, attr_name: str, value: Any, indices: Indices = None) -> None:
        """Set an attribute of every sub-environment, or of the one vector environment.

        Raises:
            ConfigError: if only some of the sub-environments are meant and they share one object.
        """
        inner: Any = self.env.unwrapped
        if hasattr(inner, "set_attr"):
            values = list(inner.get_attr(attr_name))
            for i in self._get_indices(indices):
                values[i] = value
            inner.set_attr(attr_name, values)
            return
        if indices is not None:
            raise ConfigError(
                f"SB3VecEnv: the sub-environments of {self.env} share {attr_name!r}; "
                "set it with indices=None"
            )
        setattr(self._owner(attr_name) or inner, attr_name, value)

    def env_method(
        self, method_name: str, *method_args: Any, indices: Indices = None, **method_kwargs: Any
    ) -> list[Any]:
        """Call a method once for all (`action_masks`), or of every sub-environment."""
        places = list(self._get_indices(indices))
        owner = self._owner(method_name)
        if owner is not None:
            result = getattr(owner, method_name)(*method_args, **method_kwargs)
            values = _per_env(result, self.num_envs)
        elif hasattr(self.env.unwrapped, "call"):
            values = list(self.env.unwrapped.call(method_name, *method_args, **method_kwargs))
        else:
            raise AttributeError(f"{self.env} has no method {method_name!r}")
        return [values[i] for i in places]

    def env_is_wrapped(
        self, wrapper_class: type[gymnasium.Wrapper[Any, Any, Any, Any]], indices: Indices = None
    ) -> list[bool]:
        """Say of each sub-environment whether it is wrapped with a (scalar) wrapper."""
        from stable_baselines3.common.env_util import is_wrapped

        places = list(self._get_indices(indices))
        envs = getattr(self.env.unwrapped, "envs", None)
        if envs is None:
            return [False for _ in places]
        return [bool(is_wrapped(envs[i], wrapper_class)) for i in places]

    def _owner(self, name: str) -> Any:
        """Return the outermost of the vector environment and its wrappers that has a name."""
        env: Any = self.env
        while True:
            if hasattr(env, name):
                return env
            if env is env.unwrapped:
                return None
            env = env.env


def make_sb3_env(env_id: str, num_envs: int, *, seed: int | None = None, **kwargs: Any) -> Any:
    """Make a promptgym environment for Stable-Baselines3, its episodes recorded by `VecMonitor`.

    Args:
        env_id: e.g. `"PromptEdit-v0"`.
        num_envs: how many prompts are edited at a time.
        seed: of the first reset; sub-environment i gets `seed + i`.
        kwargs: further arguments of the environment.
    """
    from stable_baselines3.common.vec_env import VecMonitor

    env = gymnasium.make_vec(
        env_id, num_envs=num_envs, autoreset_mode=AutoresetMode.SAME_STEP.value, **kwargs
    )
    adapted = SB3VecEnv(env)
    if seed is not None:
        adapted.seed(seed)
    return VecMonitor(adapted)


def split_infos(infos: JSON, num_envs: int) -> list[JSON]:
    """Turn Gymnasium's dict of arrays into one dict a sub-environment.

    An entry `_key` says which sub-environments have `key`; without one, all have it. Nested dicts
    are split alike. Numpy scalars become Python's.
    """
    rows: list[JSON] = [{} for _ in range(num_envs)]
    for key, value in infos.items():
        if key.startswith("_") and key[1:] in infos:
            continue
        present = infos.get(f"_{key}")
        if isinstance(value, dict):
            values: Any = split_infos(value, num_envs)
        else:
            values = _per_env(value, num_envs)
        for i in range(num_envs):
            if present is None or present[i]:
                entry = values[i]
                rows[i][key] = entry.item() if isinstance(entry, np.generic) else entry
    return rows


def _per_env(value: Any, num_envs: int) -> Any:
    """Return something indexable by sub-environment: the value itself, or N times the value."""
    if isinstance(value, np.ndarray) and value.ndim and len(value) == num_envs:
        return value
    if isinstance(value, (list, tuple)) and len(value) == num_envs:
        return value
    return [value] * num_envs


def _readable_keys(space: spaces.Space[Any], keys: Sequence[str] | None) -> tuple[str, ...] | None:
    """Return the Dict entries the policy is to see; None for a space that is no Dict."""
    if not isinstance(space, spaces.Dict):
        if keys is not None:
            raise ConfigError(f"SB3VecEnv: keys={list(keys)} need a Dict observation, got {space}")
        return None
    if keys is None:
        keys = [key for key, entry in space.items() if isinstance(entry, SUPPORTED)]
    for key in keys:
        if key not in space.spaces:
            raise ConfigError(
                f"SB3VecEnv: unknown observation key {key!r}; known: {', '.join(space.spaces)}"
            )
    return tuple(keys)


def _readable_space(space: spaces.Space[Any], keys: tuple[str, ...] | None) -> spaces.Space[Any]:
    """Return the observation space of the chosen keys, refusing what SB3 cannot read."""
    entries = {"observation": space}
    if isinstance(space, spaces.Dict) and keys is not None:
        entries = {key: space[key] for key in keys}
    for key, entry in entries.items():
        if not isinstance(entry, SUPPORTED):
            raise ConfigError(
                f"SB3VecEnv: Stable-Baselines3 cannot read the {type(entry).__name__} space "
                f"{key!r}; make the environment with encoded observations, or leave it out with "
                "keys=[...]"
            )
    if not entries:
        raise ConfigError(f"SB3VecEnv: nothing in {space} is readable by Stable-Baselines3")
    return space if keys is None else spaces.Dict(entries)


def _readable_action(space: spaces.Space[Any]) -> spaces.Space[Any]:
    """Return the action space, refusing what Stable-Baselines3 cannot act in."""
    if not isinstance(space, SUPPORTED):
        raise ConfigError(
            f"SB3VecEnv: Stable-Baselines3 has no policy for the action space {space}; it knows "
            + ", ".join(s.__name__ for s in SUPPORTED)
        )
    return space
