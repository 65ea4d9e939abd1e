"""`TeamMDP`: an MDP that several agents act in, and the PettingZoo shells of such MDPs.

A team shares one prompt, one budget and one reward. Whose turn it is follows from the state alone,
so a team is a view of an ordinary MDP: `TeamEnv` (agents act one after the other, PettingZoo's AEC)
and `ParallelTeamEnv` (all at once) drive the same `PromptEnv` as Gymnasium does, and add only the
book-keeping that PettingZoo asks for.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from copy import deepcopy
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt
from gymnasium import spaces
from gymnasium.error import ResetNeeded
from pettingzoo import AECEnv, ParallelEnv

from promptgym.envs.mdp import Action, Observation, PromptMDP, PromptState, head_sizes
from promptgym.envs.shell import PromptEnv
from promptgym.errors import ConfigError
from promptgym.problem import Problem
from promptgym.types import JSON, BoolArray

SampleMask = npt.NDArray[np.int8] | tuple[npt.NDArray[np.int8], ...]
Dicts = tuple[
    dict[str, Observation],
    dict[str, float],
    dict[str, bool],
    dict[str, bool],
    dict[str, dict[str, Any]],
]


class TeamMDP(PromptMDP, ABC):
    """A `PromptMDP` whose actions are taken by several agents.

    Attributes:
        agents: their names, in the order of their turns.
        max_cycles: actions that each agent has at most; then the episode is truncated. None for
            no such limit.
        state_space: what `shared` returns.
    """

    agents: tuple[str, ...]
    max_cycles: int | None
    state_space: spaces.Box

    @abstractmethod
    def turn(self, state: PromptState) -> int:
        """Return the index of the agent that acts in a state (in a last one: that acted)."""

    @abstractmethod
    def space_of(self, agent: int) -> spaces.Space[Any]:
        """Return the action space of an agent: the same object each time."""

    @abstractmethod
    def shared(self, state: PromptState) -> npt.NDArray[np.int32]:
        """Return all that the team has written, for a centralized critic, as `state_space`."""

    def timed_out(self, state: PromptState) -> bool:
        """Whether the agents have used up their actions."""
        return self.max_cycles is not None and state.step >= self.max_cycles * len(self.agents)


def sample_mask(space: spaces.Space[Any], mask: BoolArray) -> SampleMask:
    """Return a flat mask as `space.sample(mask)` takes it: int8, one array a head."""
    whole = mask.astype(np.int8)
    if isinstance(space, spaces.Discrete):
        return whole
    return tuple(np.split(whole, np.cumsum(head_sizes(space))[:-1]))


class Team:
    """What both shells share: the `PromptEnv` inside, spaces, rendering, saving.

    Attributes:
        shell: the environment that does the work; its problem has the budget.
        possible_agents: names of the agents.
        agents: those of the episode under way; empty before the first and after the end of one.
    """

    metadata: ClassVar[dict[str, Any]] = {
        **PromptEnv.metadata,
        "name": "multi_prompter_v0",
        "is_parallelizable": False,
    }

    def __init__(self, shell: PromptEnv) -> None:
        """Wrap a shell whose MDP is a `TeamMDP`."""
        if not isinstance(shell.mdp, TeamMDP):
            raise ConfigError(f"a team needs a TeamMDP, got {type(shell.mdp).__name__}")
        self.shell = shell
        self.possible_agents = list(shell.mdp.agents)
        self.agents: list[str] = []
        self.render_mode = shell.render_mode
        self.state_space = shell.mdp.state_space

    @property
    def problem(self) -> Problem:
        """What is optimized; its budget is the team's."""
        return self.shell.problem

    @property
    def mdp(self) -> TeamMDP:
        """The MDP."""
        mdp = self.shell.mdp
        assert isinstance(mdp, TeamMDP)
        return mdp

    def observation_space(self, agent: str) -> spaces.Dict:
        """Return the space of observations: the whole team sees the same."""
        return self.mdp.observation_space

    def action_space(self, agent: str) -> spaces.Space[Any]:
        """Return an agent's action space."""
        return self.mdp.space_of(self.possible_agents.index(agent))

    def state(self) -> npt.NDArray[np.int32]:
        """Return all that the team has written (ids, see `state_space`)."""
        return self.mdp.shared(self.shell.episode.state)

    def render(self) -> str | None:
        """Return the last edit as a coloured diff ("ansi"); None for "human", which printed it."""
        return self.shell.render()

    def close(self) -> None:
        """Close the shell."""
        self.shell.close()

    def _begin(self, seed: int | None, options: JSON | None) -> tuple[Observation, dict[str, Any]]:
        """Reset the shell. The option "options" is that of PettingZoo's own tests; it does nothing.

        Raises:
            ConfigError: for an option other than "prompt".
        """
        own = {k: v for k, v in options.items() if k != "options"} if options else None
        return self.shell.reset(seed=seed, options=own)

    def _play(self, action: Action) -> tuple[Observation, float, bool, bool, dict[str, Any]]:
        """Step the shell; truncate when the agents have used up their actions."""
        observation, reward, terminated, truncated, info = self.shell.step(action)
        if not terminated and self.mdp.timed_out(self.shell.episode.state):
            truncated = self.shell.episode.over = True
        return observation, reward, terminated, truncated, info

    def _check_live(self) -> None:
        """Refuse to step before the first reset and after the end."""
        if not self.agents:
            raise ResetNeeded("the episode is over (or never began); call reset() before step()")


class TeamEnv(Team, AECEnv):  # type: ignore[misc]  # PettingZoo's classes are untyped
    """Agents act one after the other (PettingZoo's AEC API)."""

    def __init__(self, shell: PromptEnv) -> None:
        """Wrap a shell; nobody is alive before `reset`."""
        super().__init__(shell)
        self.agent_selection = self.possible_agents[0]
        self.rewards: dict[str, float] = {}
        self._cumulative_rewards: dict[str, float] = {}
        self.terminations: dict[str, bool] = {}
        self.truncations: dict[str, bool] = {}
        self.infos: dict[str, dict[str, Any]] = {}
        self._skip_agent_selection: str | None = None

    def reset(self, seed: int | None = None, options: JSON | None = None) -> None:
        """Begin an episode.

        Args:
            seed: starts everything anew, the archive included; None goes on.
            options: `{"prompt": text or Prompt.to_json()}` starts at that prompt.

        Raises:
            ConfigError: for another option.
        """
        _, info = self._begin(seed, options)
        self.agents = list(self.possible_agents)
        self._cumulative_rewards = dict.fromkeys(self.agents, 0.0)
        self._skip_agent_selection = None
        self._take(0.0, False, False, info)

    def step(self, action: Action) -> None:
        """Take the action of `agent_selection`; None for an agent whose episode is over.

        Raises:
            ResetNeeded: if nobody is alive.
            ConfigError: if it is no action of that agent's space.
        """
        self._check_live()
        agent = self.agent_selection
        if self.terminations[agent] or self.truncations[agent]:
            self._was_dead_step(action)
            return
        _, reward, terminated, truncated, info = self._play(action)
        self._cumulative_rewards[agent] = 0.0
        self._take(reward, terminated, truncated, info)
        self._accumulate_rewards()
        self._deads_step_first()

    def observe(self, agent: str) -> Observation:
        """Return a new observation of the team's state."""
        return self.shell.episode.observe()

    def _take(self, reward: float, terminated: bool, truncated: bool, info: dict[str, Any]) -> None:
        """Book what a step of the shell returned, for the whole team, and pass the turn."""
        self.rewards = dict.fromkeys(self.agents, reward)
        self.terminations = dict.fromkeys(self.agents, terminated)
        self.truncations = dict.fromkeys(self.agents, truncated)
        self.agent_selection = self.possible_agents[self.mdp.turn(self.shell.episode.state)]
        self.infos = {agent: self._info(agent, deepcopy(info)) for agent in self.agents}

    def _info(self, agent: str, info: dict[str, Any]) -> dict[str, Any]:
        """Return an agent's info: only the one whose turn it is has an `action_mask`."""
        mask = info.pop("action_mask")
        if agent == self.agent_selection:
            info["action_mask"] = sample_mask(self.action_space(agent), mask)
        return info

    def get_state(self) -> JSON:
        """Return the whole state as plain JSON; what was spent is not part of it."""
        return {
            "shell": self.shell.get_state(),
            "agents": list(self.agents),
            "selection": self.agent_selection,
            "skipped": self._skip_agent_selection,
            "rewards": dict(self.rewards),
            "cumulative": dict(self._cumulative_rewards),
            "terminations": dict(self.terminations),
            "truncations": dict(self.truncations),
        }

    def set_state(self, state: JSON) -> None:
        """Go on from what `get_state` returned, here or in an environment made alike.

        Raises:
            ConfigError: if the state is of another version or environment.
        """
        check_agents(state, self.possible_agents)
        self.shell.set_state(state["shell"])
        self.agents = list(state["agents"])
        self._skip_agent_selection = state["skipped"]
        self.rewards, self._cumulative_rewards = dict(state["rewards"]), dict(state["cumulative"])
        self.terminations = dict(state["terminations"])
        self.truncations = dict(state["truncations"])
        self.agent_selection = self.possible_agents[self.mdp.turn(self.shell.episode.state)]
        info = self.shell.episode.info()
        self.infos = {agent: self._info(agent, deepcopy(info)) for agent in self.agents}
        self.agent_selection = state["selection"]


class ParallelTeamEnv(Team, ParallelEnv):  # type: ignore[misc]  # PettingZoo's are untyped
    """All agents act at once (PettingZoo's parallel API); the MDP's action has a head an agent."""

    def reset(
        self, seed: int | None = None, options: JSON | None = None
    ) -> tuple[dict[str, Observation], dict[str, dict[str, Any]]]:
        """Begin an episode; the arguments are those of `TeamEnv.reset`."""
        _, info = self._begin(seed, options)
        self.agents = list(self.possible_agents)
        return self._observations(), self._infos(info)

    def step(self, actions: Mapping[str, Action]) -> Dicts:
        """Take one action of each agent.

        Raises:
            ResetNeeded: if nobody is alive.
            ConfigError: if an agent's action is missing, or no action of its space.
        """
        self._check_live()
        if set(actions) != set(self.agents):
            raise ConfigError(f"an action for each of {self.agents}, got {sorted(actions)}")
        for agent in self.agents:
            if not self.action_space(agent).contains(actions[agent]):
                raise ConfigError(
                    f"{agent}: expected an action of {self.action_space(agent)}, got "
                    f"{actions[agent]!r}"
                )
        joint = np.array([int(actions[agent]) for agent in self.agents], dtype=np.int64)
        _, reward, terminated, truncated, info = self._play(joint)
        names = self.agents
        out = (
            self._observations(),
            dict.fromkeys(names, reward),
            dict.fromkeys(names, terminated),
            dict.fromkeys(names, truncated),
            self._infos(info),
        )
        if terminated or truncated:
            self.agents = []
        return out

    def _observations(self) -> dict[str, Observation]:
        """Return a new observation for each agent."""
        return {agent: self.shell.episode.observe() for agent in self.agents}

    def _infos(self, info: dict[str, Any]) -> dict[str, dict[str, Any]]:
        """Return each agent's info, with its own part of the mask."""
        masks = np.split(info.pop("action_mask").astype(np.int8), len(self.possible_agents))
        return {
            agent: {**deepcopy(info), "action_mask": mask}
            for agent, mask in zip(self.agents, masks, strict=True)
        }

    def get_state(self) -> JSON:
        """Return the whole state as plain JSON; what was spent is not part of it."""
        return {"shell": self.shell.get_state(), "agents": list(self.agents)}

    def set_state(self, state: JSON) -> None:
        """Go on from what `get_state` returned; errors are those of `TeamEnv.set_state`."""
        check_agents(state, self.possible_agents)
        self.shell.set_state(state["shell"])
        self.agents = list(state["agents"])


def check_agents(state: JSON, names: list[str]) -> None:
    """Refuse the state of something else than a team, or of another team."""
    if not isinstance(state, dict) or not {"shell", "agents"} <= set(state):
        raise ConfigError("the state is not of a multi-agent environment")
    if not set(state["agents"]) <= set(names):
        raise ConfigError(f"the state is of the agents {state['agents']}, this team is {names}")
