"""`Episode`: one (sub-)environment without its scoring; both shells are made of these.

A step has two halves. `advance` (or `begin`) edits and says which prompt must be asked; the shell
asks, alone or for all sub-environments at once; `settle` (or `enter`) takes the outcome and makes
observation, reward, flags and info. So a vector environment cannot differ from a scalar one.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from math import inf
from typing import Any, Literal, NamedTuple

import numpy as np
from gymnasium.error import ResetNeeded

from promptgym.envs.mdp import Action, Observation, PromptMDP, PromptState
from promptgym.envs.outcome import Outcome, Question
from promptgym.errors import ConfigError
from promptgym.prompts import Prompt
from promptgym.types import JSON

Shaping = Literal["delta", "sparse", "absolute"]
SHAPINGS = ("delta", "sparse", "absolute")
ENDING = ("exhausted", "failed")  # outcomes after which an episode cannot go on


@dataclass(frozen=True, slots=True)
class ShellOptions:
    """What the shells add to an MDP.

    Attributes:
        shaping: "delta" pays `v(after) - v(before)` each step, v being the value of the prompt;
            "sparse" pays `v(last) - v(start)` at the end (`v(last)` where the start is not scored);
            "absolute" pays `v(after)` each step.
        reward_scale: v is this times the reward of a perfect prompt (`problem.reward.scale`); None
            for the reward's own units.
        archive: how many of the best prompts found so far may serve as starts; 0 for none.
        archive_probability: how often an episode starts from one of them.
    """

    shaping: Shaping = "delta"
    reward_scale: float | None = 4.0
    archive: int = 0
    archive_probability: float = 0.75

    def __post_init__(self) -> None:
        """Refuse values that mean nothing."""
        if self.shaping not in SHAPINGS:
            raise ConfigError(f"shaping must be one of {SHAPINGS}, got {self.shaping!r}")
        if self.reward_scale is not None and not 0 < self.reward_scale < inf:
            raise ConfigError(
                f"reward_scale must be positive and finite, or None, got {self.reward_scale}"
            )
        if self.archive < 0 or not 0 <= self.archive_probability <= 1:
            raise ConfigError(
                "archive must be >= 0 and archive_probability in [0, 1], got "
                f"{self.archive} and {self.archive_probability}"
            )


class Transition(NamedTuple):
    """What `step` returns; `reset` uses the first and the last."""

    observation: Observation
    reward: float
    terminated: bool
    truncated: bool
    info: dict[str, Any]


@dataclass(slots=True)
class Episode:
    """One (sub-)environment: its current episode and what it remembers from earlier ones."""

    mdp: PromptMDP
    options: ShellOptions
    state: PromptState = field(default_factory=PromptState)
    previous: PromptState | None = None
    outcome: Outcome = field(default_factory=Outcome)
    start_value: float = 0.0
    episode_return: float = 0.0
    queries: int = 0
    over: bool = True
    illegal: bool = False
    revisited: bool = False
    visited: set[tuple[tuple[str, ...], tuple[int, ...]]] = field(default_factory=set)
    archive: list[tuple[float, PromptState]] = field(default_factory=list)

    def draw_start(self, rng: np.random.Generator, options: JSON | None = None) -> PromptState:
        """Return the first state of the next episode: given, from the archive, or the MDP's own."""
        if options and "prompt" in options:
            return self.mdp.state_of(Prompt.of(options["prompt"]))
        chance = self.options.archive_probability
        if self.options.archive and self.archive and rng.random() < chance:
            return self.archive[int(rng.integers(len(self.archive)))][1]
        return self.mdp.initial(rng)

    def wanted(self) -> Question | None:
        """Return what must be asked before the half step is completed, if anything.

        A prompt that did not change keeps its outcome and is not asked (or paid for) again; after
        an outcome that ends the episode nothing is asked.
        """
        same = self.previous is not None and self.previous.content == self.state.content
        if self.outcome.status in ENDING or (same and self.outcome.known):
            return None
        return self.mdp.question(self.state) if self.mdp.wants_score(self.state) else None

    def begin(self, start: PromptState) -> Question | None:
        """Start an episode; return what to ask."""
        self.state, self.previous, self.over = start, None, False
        self.episode_return, self.queries, self.visited = 0.0, 0, set()
        self.illegal = self.revisited = False
        self.outcome = Outcome()
        return self.wanted()

    def enter(self, outcome: Outcome) -> tuple[Observation, dict[str, Any]]:
        """Complete `begin`."""
        self._take(outcome)
        self.start_value = self._value(self.outcome) if self.outcome.known else 0.0
        return self.observe(), self.info()

    def advance(self, action: Action) -> Question | None:
        """Take an action; return what to ask.

        Raises:
            ResetNeeded: if the episode is over.
        """
        if self.over:
            raise ResetNeeded("the episode is over (or never began); call reset() before step()")
        self.previous = self.state
        self.illegal = not self.mdp.allows(self.mdp.mask(self.state), action)
        if self.illegal:
            self.state = self.mdp.idle(self.state)
        else:
            self.state = self.mdp.apply(self.state, action)
        return self.wanted()

    def settle(self, outcome: Outcome) -> Transition:
        """Complete `advance`. A prompt that could not be scored truncates and pays nothing."""
        before = self.outcome
        self._take(outcome)
        truncated = self.outcome.status in ENDING
        terminated = self.mdp.terminal(self.state) and not truncated
        reward = self._reward(before, terminated)
        self.episode_return += reward
        self.over = terminated or truncated
        return Transition(self.observe(), reward, terminated, truncated, self.info())

    def observe(self) -> Observation:
        """Return a new observation of the current state."""
        return self.mdp.observe(self.state, self.outcome)

    def info(self) -> dict[str, Any]:
        """Return a new info of the current state; `score` and `prompt_reward` only where known."""
        info: dict[str, Any] = {
            "prompt": self.mdp.prompt(self.state).instruction,
            "edit": self.state.edit,
            "no_op": self.state.no_op,
            "illegal": self.illegal,
            "revisited": self.revisited,
            "queries": self.queries,
            "failures": self.outcome.failures,
            "budget_exhausted": self.outcome.status == "exhausted",
            "score_failed": self.outcome.status == "failed",
            "episode_return": self.episode_return,
            "episode_length": self.state.step,
            "action_mask": self.mdp.mask(self.state),
        }
        if self.mdp.pool:
            info["demonstrations"] = list(self.state.demonstrations)
        if self.outcome.known:
            info["score"] = self.outcome.score
            info["prompt_reward"] = self.outcome.reward
        return info | self.mdp.describe(self.state, self.outcome)

    def _take(self, outcome: Outcome) -> None:
        """Book an outcome: queries, prompts visited, archive."""
        same = self.previous is not None and self.previous.content == self.state.content
        if outcome.status == "unscored" and (self.outcome.status in ENDING or same):
            outcome = replace(self.outcome, budget_left=outcome.budget_left, queries=0)
        self.outcome = outcome
        self.queries += outcome.queries
        if outcome.known:
            self.state = self.mdp.remember(self.state, outcome)
        self.revisited = self.state.content in self.visited
        self.visited.add(self.state.content)
        if self.options.archive and outcome.known:
            known = [(v, s) for v, s in self.archive if s.content != self.state.content]
            start = PromptState(*self.state.content)
            ranked = sorted([*known, (outcome.value, start)], key=lambda pair: -pair[0])
            self.archive = ranked[: self.options.archive]

    def _value(self, outcome: Outcome) -> float:
        """Return v of a prompt in the units that rewards are paid in."""
        scale = self.options.reward_scale
        return outcome.reward if scale is None else scale * outcome.value

    def _reward(self, before: Outcome, terminated: bool) -> float:
        """Return what a step pays; nothing for a prompt without a score."""
        if not self.outcome.known:
            return 0.0
        value = self._value(self.outcome)
        if self.options.shaping == "absolute":
            return value
        if self.options.shaping == "sparse":
            return value - self.start_value if terminated else 0.0
        return value - (self._value(before) if before.known else 0.0)

    def get_state(self) -> JSON:
        """Return everything as plain JSON; see `set_state`."""
        return {
            "state": self.state.to_json(),
            "previous": None if self.previous is None else self.previous.to_json(),
            "outcome": self.outcome.to_json(),
            "start_value": self.start_value,
            "episode_return": self.episode_return,
            "queries": self.queries,
            "over": self.over,
            "illegal": self.illegal,
            "revisited": self.revisited,
            "visited": [[list(u), list(d)] for u, d in sorted(self.visited)],
            "archive": [[value, state.to_json()] for value, state in self.archive],
        }

    def set_state(self, value: JSON) -> None:
        """Take what `get_state` returned, here or in another process."""
        read = PromptState.from_json
        self.state, self.outcome = read(value["state"]), Outcome.from_json(value["outcome"])
        self.previous = None if value["previous"] is None else read(value["previous"])
        for name in ("start_value", "episode_return", "queries", "over", "illegal", "revisited"):
            setattr(self, name, value[name])
        self.visited = {(tuple(u), tuple(d)) for u, d in value["visited"]}
        self.archive = [(v, read(s)) for v, s in value["archive"]]
