"""`PromptVectorEnv`: many sub-environments, one model batch a step."""

from __future__ import annotations

import sys
from collections.abc import Callable

import numpy as np
from gymnasium.error import ResetNeeded
from gymnasium.vector import AutoresetMode
from gymnasium.vector.utils import concatenate, create_empty_array

from promptgym.arguments import checked
from promptgym.envs.episode import Episode, ShellOptions, Transition
from promptgym.envs.mdp import Action, Observation, PromptMDP, PromptState
from promptgym.envs.outcome import Question, ask
from promptgym.envs.rendering import render
from promptgym.envs.shell import (
    STATE_VERSION,
    check_state,
    generator,
    intact,
)
from promptgym.envs.vector_base import Infos, Step, VectorShell
from promptgym.errors import ConfigError
from promptgym.types import JSON, BoolArray

Entered = tuple[Observation, Infos]


class PromptVectorEnv(VectorShell):
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
        super().__init__(
            mdp,
            options,
            num_envs=num_envs,
            max_episode_steps=max_episode_steps,
            autoreset_mode=autoreset_mode,
            render_mode=render_mode,
            rebuild=rebuild,
        )
        self.episodes = [Episode(mdp, self.options) for _ in range(num_envs)]

    def _restart(
        self, mask: BoolArray, seeded: BoolArray, options: JSON
    ) -> tuple[Observation, Infos]:
        """Begin episodes, scored in one call."""
        for i in np.flatnonzero(seeded).tolist():
            self.episodes[i] = Episode(self.mdp, self.options)
        chosen = np.flatnonzero(mask).tolist()
        starts = {i: self.episodes[i].draw_start(self._rng(i), options) for i in chosen}
        infos: Infos = {}
        observations = [e.observe() if i not in starts else {} for i, e in enumerate(self.episodes)]
        for i, (observation, info) in self._enter(starts).items():
            observations[i] = observation
            infos = self._add_info(infos, info, i)
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
            "rngs": self._rng_states(),
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

    def _batch(self, observations: list[Observation]) -> Observation:
        """Stack observations into new arrays."""
        space = self.single_observation_space
        empty = create_empty_array(space, self.num_envs, fn=np.zeros)
        return dict(concatenate(space, observations, empty))  # type: ignore[arg-type]  # a Dict

    def _show(self) -> None:
        """Print the frames in human mode."""
        if self.render_mode == "human":
            sys.stdout.write("".join(map(render, self.episodes)))
