"""`PromptVectorEnv`: many sub-environments, one model batch a step."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from copy import deepcopy
from typing import Any

import numpy as np
from gymnasium.error import ResetNeeded
from gymnasium.utils import seeding
from gymnasium.vector import AutoresetMode, VectorEnv
from gymnasium.vector.utils import batch_space, concatenate, create_empty_array

from promptgym.arguments import checked
from promptgym.envs.episode import Episode, ShellOptions, Transition
from promptgym.envs.mdp import Action, Observation, PromptMDP, PromptState
from promptgym.envs.outcome import Question, ask
from promptgym.envs.rendering import render
from promptgym.envs.shell import (
    STATE_VERSION,
    PromptEnv,
    check_options,
    check_render_mode,
    check_reset_options,
    check_state,
    frozen,
    generator,
    identity,
    intact,
    thaw,
)
from promptgym.errors import ConfigError
from promptgym.types import JSON, BoolArray, FloatArray

Infos = dict[str, Any]
Entered = tuple[Observation, Infos]
Step = tuple[Observation, FloatArray, BoolArray, BoolArray, Infos]


class PromptVectorEnv(VectorEnv[Observation, Action, Any]):
    """`num_envs` copies of one MDP on one problem: one scoring call a step, resets included.

    Sub-environment i, seeded s, is step by step what a `PromptEnv` seeded s + i is. The budget is
    shared and charged in the order of the sub-environments.
    """

    @checked(ConfigError)
    def __init__(
        self,
        mdp: PromptMDP,
        options: ShellOptions | None = None,
        *,
        num_envs: int = 1,
        max_episode_steps: int | None = None,
        autoreset_mode: AutoresetMode | str = AutoresetMode.NEXT_STEP,
        render_mode: str | None = None,
        rebuild: Callable[[], PromptVectorEnv] | None = None,
    ) -> None:
        """Wrap an MDP.

        Args:
            mdp: the environment proper.
            options: reward shaping and archive (one archive a sub-environment).
            num_envs: how many sub-environments.
            max_episode_steps: truncates episodes as Gymnasium's TimeLimit does; None for never.
            autoreset_mode: "NextStep", "SameStep" or "Disabled", or Gymnasium's enum.
            render_mode: None, "ansi" (`render` returns N strings) or "human" (each step prints).
            rebuild: makes the same environment anew; see `PromptEnv`.
        """
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
        self.episodes = [Episode(mdp, self.options) for _ in range(num_envs)]
        self._identity = identity(mdp, self.options)
        self._rngs: list[np.random.Generator | None] = [None] * num_envs
        self._done = np.zeros(num_envs, dtype=np.bool_)
        self._rebuild = rebuild

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
        chosen = [i for i in range(self.num_envs) if mask[i]]
        for i in chosen:
            if seeds[i] is not None:
                self._rngs[i] = seeding.np_random(seeds[i])[0]
                self.episodes[i] = Episode(self.mdp, self.options)
        starts = {i: self.episodes[i].draw_start(self._rng(i), options) for i in chosen}
        infos: Infos = {}
        observations = [e.observe() if i not in starts else {} for i, e in enumerate(self.episodes)]
        for i, (observation, info) in self._enter(starts).items():
            observations[i] = observation
            infos = self._add_info(infos, info, i)
        self._done[chosen] = False
        self._show()
        return self._batch(observations), infos

    def step(self, actions: Action) -> Step:
        """Take one action in each sub-environment; shapes (N,) besides observations and infos.

        Raises:
            ResetNeeded: in mode "Disabled", if a sub-environment's episode is over.
        """
        if self.autoreset_mode is AutoresetMode.DISABLED and self._done.any():
            raise ResetNeeded(
                f"sub-environments {np.flatnonzero(self._done).tolist()} are over; call "
                "reset(options={'reset_mask': ...}) before step()"
            )
        transitions, entered = self._play(actions)
        infos: Infos = {}
        for i, transition in enumerate(transitions):
            if i in entered:
                final = {"final_obs": transition.observation, "final_info": transition.info}
                infos = self._add_info(infos, final, i)
            infos = self._add_info(infos, entered[i][1] if i in entered else transition.info, i)
        observations = [
            entered[i][0] if i in entered else transition.observation
            for i, transition in enumerate(transitions)
        ]
        rewards = np.array([t.reward for t in transitions], dtype=np.float64)
        terminations = np.array([t.terminated for t in transitions], dtype=np.bool_)
        truncations = np.array([t.truncated for t in transitions], dtype=np.bool_)
        self._done = terminations | truncations
        self._show()
        return self._batch(observations), rewards, terminations, truncations, infos

    def _play(self, actions: Action) -> tuple[list[Transition], dict[int, Entered]]:
        """Step or reset each sub-environment, scoring everything in one call.

        Returns:
            A transition a sub-environment, and, by index, the first observation and info of the
            episodes that began in the same step as another ended ("SameStep").
        """
        if len(actions) != self.num_envs:
            raise ConfigError(f"{self.num_envs} sub-environments, but {len(actions)} actions")
        resetting = self._done & (self.autoreset_mode is AutoresetMode.NEXT_STEP)
        questions: list[Question | None] = []
        starts: dict[int, PromptState] = {}
        for i, episode in enumerate(self.episodes):
            if resetting[i]:
                questions.append(episode.begin(episode.draw_start(self._rng(i))))
                continue
            questions.append(episode.advance(actions[i]))
            if self._will_reset(episode):
                starts[i] = episode.draw_start(self._rng(i))
                questions.append(self._first_question(starts[i]))
        outcomes = iter(ask(self.problem, questions))
        transitions: list[Transition] = []
        entered: dict[int, Entered] = {}
        for i, episode in enumerate(self.episodes):
            if resetting[i]:
                observation, info = episode.enter(next(outcomes))
                transitions.append(Transition(observation, 0.0, False, False, info))
                continue
            transition = episode.settle(next(outcomes))
            if self._at_limit(episode):
                transition, episode.over = transition._replace(truncated=True), True
            transitions.append(transition)
            if i in starts:
                episode.begin(starts[i])
                entered[i] = episode.enter(next(outcomes))
        if self.autoreset_mode is AutoresetMode.SAME_STEP:
            late = [i for i, e in enumerate(self.episodes) if e.over]
            entered |= self._enter({i: self.episodes[i].draw_start(self._rng(i)) for i in late})
        return transitions, entered

    def _enter(self, starts: dict[int, PromptState]) -> dict[int, Entered]:
        """Begin episodes at given states, scored in one call."""
        outcomes = ask(self.problem, [self.episodes[i].begin(s) for i, s in starts.items()])
        return {i: self.episodes[i].enter(o) for i, o in zip(starts, outcomes, strict=True)}

    def _will_reset(self, episode: Episode) -> bool:
        """Whether an episode is sure to be reset in this step, at a start known before scoring."""
        if self.autoreset_mode is not AutoresetMode.SAME_STEP or self.options.archive:
            return False
        return self.mdp.terminal(episode.state) or self._at_limit(episode)

    def _at_limit(self, episode: Episode) -> bool:
        """Whether the time limit is reached."""
        limit = self.max_episode_steps
        return limit is not None and 0 < limit <= episode.state.step

    def _first_question(self, start: PromptState) -> Question | None:
        """Return what must be asked about a start."""
        return self.mdp.question(start) if self.mdp.wants_score(start) else None

    def action_masks(self) -> BoolArray:
        """Return the legal actions, shape (N, n) or (N, sum(nvec))."""
        return np.stack([self.mdp.mask(e.state) for e in self.episodes])

    def render(self) -> tuple[str, ...] | None:
        """Return a coloured diff for each sub-environment ("ansi")."""
        return tuple(map(render, self.episodes)) if self.render_mode == "ansi" else None

    def get_state(self) -> JSON:
        """Return the whole state as plain JSON; what was spent is not part of it."""
        return {
            "version": STATE_VERSION,
            "of": self._identity,
            "episodes": [e.get_state() for e in self.episodes],
            "rngs": [deepcopy(self._rng(i).bit_generator.state) for i in range(self.num_envs)],
            "done": self._done.tolist(),
        }

    def set_state(self, state: JSON) -> None:
        """Go on from what `get_state` returned, here or in an environment made alike.

        Raises:
            ConfigError: if the state is damaged, or of another version, environment or number of
                sub-environments; then nothing has changed.
        """
        check_state(state, self._identity)
        if len(state["episodes"]) != self.num_envs:
            raise ConfigError(
                f"the state has {len(state['episodes'])} sub-environments, this has {self.num_envs}"
            )
        with intact(*self.episodes):
            rngs = [generator(state["rngs"][i]) for i in range(self.num_envs)]
            done = np.array(state["done"], dtype=np.bool_)
            for episode, value in zip(self.episodes, state["episodes"], strict=True):
                episode.set_state(value)
        self._rngs[:], self._done = rngs, done

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

    def _batch(self, observations: list[Observation]) -> Observation:
        """Stack observations into new arrays."""
        space = self.single_observation_space
        empty = create_empty_array(space, self.num_envs, fn=np.zeros)
        return dict(concatenate(space, observations, empty))  # type: ignore[arg-type]  # a Dict

    def _show(self) -> None:
        """Print the frames in human mode."""
        if self.render_mode == "human":
            sys.stdout.write("".join(map(render, self.episodes)))


def _mode(mode: AutoresetMode | str) -> AutoresetMode:
    """Return the autoreset mode of a name; refuse one that does not exist."""
    try:
        return AutoresetMode(mode)
    except ValueError:
        names = tuple(m.value for m in AutoresetMode)
        raise ConfigError(f"autoreset_mode must be one of {names}, got {mode!r}") from None
