"""What the vector environments share: spaces, options, seeds, random generators, pickles."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Sequence
from copy import deepcopy
from typing import Any

import numpy as np
from gymnasium.utils import seeding
from gymnasium.vector import AutoresetMode, VectorEnv
from gymnasium.vector.utils import batch_space

from promptgym.envs.episode import ShellOptions
from promptgym.envs.mdp import Action, Observation, PromptMDP
from promptgym.envs.shell import (
    PromptEnv,
    check_options,
    check_render_mode,
    check_reset_options,
    frozen,
    identity,
    thaw,
)
from promptgym.errors import ConfigError
from promptgym.types import JSON, BoolArray, FloatArray

Infos = dict[str, Any]
Step = tuple[Observation, FloatArray, BoolArray, BoolArray, Infos]


class VectorShell(VectorEnv[Observation, Action, Any]):
    """Base of the vector environments: everything but what a step does.

    Attributes:
        mdp: the environment proper.
        problem: what is optimized, shared by all sub-environments.
        options: reward shaping and archive.
        max_episode_steps: truncates episodes; None for never.
    """

    def __init__(
        self,
        mdp: PromptMDP,
        options: ShellOptions | None,
        *,
        num_envs: int,
        max_episode_steps: int | None,
        autoreset_mode: AutoresetMode | str,
        render_mode: str | None,
        rebuild: Callable[[], Any] | None,
    ) -> None:
        """Set spaces and options; see `PromptVectorEnv`."""
        if num_envs < 1:
            raise ConfigError(f"num_envs must be at least 1, got {num_envs}")
        self.mdp, self.problem, self.num_envs = mdp, mdp.problem, num_envs
        self.options = check_options(mdp, options or ShellOptions())
        self.max_episode_steps = max_episode_steps
        self.autoreset_mode = _mode(autoreset_mode)
        self.metadata = {**PromptEnv.metadata, "autoreset_mode": self.autoreset_mode}
        self.render_mode = check_render_mode(render_mode)
        self.single_observation_space = mdp.observation_space
        self.single_action_space = mdp.action_space
        self.observation_space = batch_space(mdp.observation_space, num_envs)
        self.action_space = batch_space(mdp.action_space, num_envs)
        self._identity = identity(mdp, self.options)
        self._rngs: list[np.random.Generator | None] = [None] * num_envs
        self._done = np.zeros(num_envs, dtype=np.bool_)
        self._rebuild = rebuild

    def __getstate__(self) -> dict[str, Any]:
        """Pickle plain arguments, state and ledger if that is enough to rebuild, else all."""
        return frozen(self)

    def __setstate__(self, pickled: dict[str, Any]) -> None:
        """Rebuild, or take everything over."""
        thaw(self, pickled)

    def _rng(self, i: int) -> np.random.Generator:
        """Return the generator of a sub-environment, seeded by the system if never seeded."""
        rng = self._rngs[i]
        if rng is None:
            rng = self._rngs[i] = seeding.np_random()[0]
        return rng

    def _seeds(self, seed: int | Sequence[int | None] | None) -> list[int | None]:
        """Return a seed (or None) for each sub-environment."""
        if seed is None:
            return [None] * self.num_envs
        if isinstance(seed, (int, np.integer)):
            return [int(seed) + i for i in range(self.num_envs)]
        if len(seed) != self.num_envs:
            raise ConfigError(f"{self.num_envs} sub-environments, but {len(seed)} seeds")
        return list(seed)

    def _reset_mask(self, mask: Any) -> BoolArray:
        """Return which sub-environments to reset: all without a mask."""
        if mask is None:
            return np.ones(self.num_envs, dtype=np.bool_)
        if not isinstance(mask, np.ndarray) or mask.dtype != np.bool_ or not mask.any():
            raise ConfigError(f"reset_mask must be a bool array with a True in it, got {mask!r}")
        if mask.shape != (self.num_envs,):
            raise ConfigError(f"reset_mask must have shape ({self.num_envs},), got {mask.shape}")
        return mask

    def reset(
        self,
        *,
        seed: int | Sequence[int | None] | None = None,
        options: dict[str, Any] | None = None,
    ) -> tuple[Observation, Infos]:
        """Begin episodes, in all sub-environments or where `options["reset_mask"]` says.

        Args:
            seed: sub-environment i gets `seed + i`, or the i-th of a list; None goes on.
            options: `{"prompt": ...}` as for `PromptEnv`, `{"reset_mask": BoolArray (N,)}`.

        Raises:
            ConfigError: for another option, or seeds or a mask of another length.
        """
        seeds = self._seeds(seed)
        options = check_reset_options(options, "reset_mask")
        mask = self._reset_mask(options.pop("reset_mask", None))
        seeded = mask & np.array([s is not None for s in seeds])
        for i in np.flatnonzero(seeded).tolist():
            self._rngs[i] = seeding.np_random(seeds[i])[0]
        out = self._restart(mask, seeded, options)
        self._done[mask] = False
        return out

    @abstractmethod
    def _restart(
        self, mask: BoolArray, seeded: BoolArray, options: JSON
    ) -> tuple[Observation, Infos]:
        """Begin episodes; return all observations, and infos of those that began.

        Args:
            mask: where, shape (N,).
            seeded: where everything starts anew, what earlier episodes left included.
            options: of `reset`, but for its mask.
        """

    def _rng_states(self) -> list[JSON]:
        """Return the state of every random generator."""
        return [deepcopy(dict(self._rng(i).bit_generator.state)) for i in range(self.num_envs)]


def _mode(mode: AutoresetMode | str) -> AutoresetMode:
    """Return the autoreset mode of a name; refuse one that does not exist."""
    try:
        return AutoresetMode(mode)
    except ValueError:
        names = tuple(m.value for m in AutoresetMode)
        raise ConfigError(f"autoreset_mode must be one of {names}, got {mode!r}") from None
