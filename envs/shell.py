"""`PromptEnv`: the shell that makes a `gymnasium.Env` of any `PromptMDP`."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from copy import copy, deepcopy
from dataclasses import asdict, fields
from typing import Any, ClassVar

import gymnasium as gym
import numpy as np

from promptgym.arguments import check_arguments, checked
from promptgym.envs.episode import Episode, ShellOptions
from promptgym.envs.mdp import Action, Observation, PromptMDP
from promptgym.envs.outcome import ask
from promptgym.envs.rendering import render
from promptgym.errors import ConfigError
from promptgym.problem import describe_problem
from promptgym.runs.events import plain
from promptgym.runs.folder import differences
from promptgym.types import JSON, BoolArray

RENDER_MODES = ("ansi", "human")
STATE_VERSION = 4


class PromptEnv(gym.Env[Any, Any]):
    """One prompt, one episode at a time.

    Attributes:
        problem: what is optimized; may be shared, and then its budget is.
        mdp: the environment proper.
        episode: where the current episode stands.
    """

    metadata: ClassVar[dict[str, Any]] = {  # type: ignore[misc]  # Gymnasium declares it mutable
        "render_modes": list(RENDER_MODES),
        "render_fps": 4,
    }

    @checked(ConfigError)
    def __init__(
        self,
        mdp: PromptMDP,
        options: ShellOptions | None = None,
        *,
        render_mode: str | None = None,
        rebuild: Callable[[], PromptEnv] | None = None,
    ) -> None:
        """Wrap an MDP.

        Args:
            mdp: the environment proper.
            options: reward shaping and archive.
            render_mode: None, "ansi" (`render` returns a string) or "human" (each step prints).
            rebuild: makes the same environment anew from plain arguments; then a pickle holds
                them and the state, and no model.
        """
        self.mdp, self.problem = mdp, mdp.problem
        self.observation_space, self.action_space = mdp.observation_space, mdp.action_space
        self.options = check_options(mdp, options or ShellOptions())
        self.render_mode = check_render_mode(render_mode)
        self.episode = Episode(mdp, self.options)
        self._identity = identity(mdp, self.options)
        self._rebuild = rebuild

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Observation, dict[str, Any]]:
        """Begin an episode and score its first prompt.

        Args:
            seed: starts everything anew, the archive included; None goes on.
            options: `{"prompt": text or Prompt.to_json()}` starts at that prompt.

        Raises:
            ConfigError: for another option.
        """
        options = check_reset_options(options)
        super().reset(seed=seed)
        if seed is not None:
            self.episode = Episode(self.mdp, self.options)
        start = self.episode.draw_start(self.np_random, options)
        observation, info = self.episode.enter(ask(self.problem, [self.episode.begin(start)])[0])
        self._show()
        return observation, info

    def step(self, action: Action) -> tuple[Observation, float, bool, bool, dict[str, Any]]:
        """Edit the prompt and score it. An illegal action does nothing but count as a step.

        Raises:
            ResetNeeded: if the episode is over.
        """
        transition = self.episode.settle(ask(self.problem, [self.episode.advance(action)])[0])
        self._show()
        return transition[:]

    def action_masks(self) -> BoolArray:
        """Return the legal actions, flat, as sb3-contrib's MaskablePPO asks for them."""
        mask: BoolArray = self.mdp.mask(self.episode.state)
        return mask

    def render(self) -> str | None:
        """Return the last edit as a coloured diff ("ansi"); None for "human", which printed it."""
        return render(self.episode) if self.render_mode == "ansi" else None

    def _show(self) -> None:
        """Print the frame in human mode."""
        if self.render_mode == "human":
            sys.stdout.write(render(self.episode))

    def get_state(self) -> JSON:
        """Return the whole state as plain JSON: episode, archive, random generator.

        What was spent is not part of it: going back in time gives no budget back.
        """
        return {
            "version": STATE_VERSION,
            "of": self._identity,
            "episode": self.episode.get_state(),
            "rng": deepcopy(self.np_random.bit_generator.state),
        }

    def set_state(self, state: JSON) -> None:
        """Go on from what `get_state` returned, here or in an environment made alike.

        Raises:
            ConfigError: if the state is damaged, or of another version or environment; then nothing
                has changed.
        """
        check_state(state, self._identity)
        with intact(self.episode):
            rng = generator(state["rng"])
            self.episode.set_state(state["episode"])
        self.np_random = rng

    def __getstate__(self) -> dict[str, Any]:
        """Pickle plain arguments, state and ledger if that is enough to rebuild, else all."""
        return frozen(self)

    def __setstate__(self, pickled: dict[str, Any]) -> None:
        """Rebuild, or take everything over."""
        thaw(self, pickled)


def frozen(env: Any) -> dict[str, Any]:
    """Return what a pickle of a scalar or vector environment holds."""
    if env._rebuild is None:
        return dict(env.__dict__)
    return {
        "rebuild": env._rebuild,
        "state": env.get_state(),
        "spent": env.problem.ledger.snapshot(),
        "spec": env.spec,
    }


def thaw(env: Any, pickled: dict[str, Any]) -> None:
    """Fill an environment from what `frozen` returned."""
    if "rebuild" not in pickled:
        env.__dict__.update(pickled)
        return
    env.__dict__.update(pickled["rebuild"]().__dict__)
    env.problem.ledger.restore(pickled["spent"])
    env.spec = pickled["spec"]
    env.set_state(pickled["state"])


def check_options(mdp: PromptMDP, options: ShellOptions) -> ShellOptions:
    """Refuse an archive where episodes cannot start from a found prompt."""
    if options.archive and not mdp.archivable:
        raise ConfigError(f"{type(mdp).__name__} always starts afresh; leave `archive` at 0")
    return options


def check_render_mode(mode: str | None) -> str | None:
    """Refuse a render mode that does not exist."""
    if mode is not None and mode not in RENDER_MODES:
        raise ConfigError(f"render_mode must be one of {RENDER_MODES} or None, got {mode!r}")
    return mode


def check_reset_options(options: Any, *more: str) -> JSON:
    """Return the options of `reset`; refuse others than "prompt" and `more`."""
    if not isinstance(options, Mapping | None):
        raise ConfigError(f"reset: options must be a dict or None, got {options!r}")
    known = dict.fromkeys(("prompt", *more), Any)
    check_arguments("reset", known, options or {}, ConfigError, what="option")
    return dict(options or {})


def identity(mdp: PromptMDP, options: ShellOptions) -> JSON:
    """Return what has to be the same where a state is taken up, as plain JSON.

    That is the environment with its arguments, how it pays, and all that scores depend on.
    """
    simple = (bool, int, float, str, type(None))
    of: JSON = {
        "environment": type(mdp).__name__,
        "arguments": {k: v for k, v in vars(mdp).items() if isinstance(v, simple)},
        "options": asdict(options),
        **describe_problem(mdp.problem),
    }
    return {name: plain(value) for name, value in of.items()}


def check_state(state: JSON, of: JSON) -> None:
    """Refuse a state written by another version or by another environment.

    Args:
        state: what `get_state` returned.
        of: the identity of the environment that is to take it up.
    """
    version = state.get("version") if isinstance(state, dict) else None
    if version != STATE_VERSION:
        raise ConfigError(
            f"the state has version {version!r}, this promptgym reads {STATE_VERSION}"
        )
    if found := differences(state["of"], of):
        raise ConfigError(f"the state is of another environment: {'; '.join(found)} here")


@contextmanager
def intact(*episodes: Episode) -> Iterator[None]:
    """Refuse a damaged state, and leave episodes as they were before it was read.

    Raises:
        ConfigError: saying what was missing or wrong.
    """
    before = [copy(episode) for episode in episodes]
    try:
        yield
    except (AttributeError, IndexError, KeyError, TypeError, ValueError) as error:
        for episode, old in zip(episodes, before, strict=True):
            for part in fields(episode):
                setattr(episode, part.name, getattr(old, part.name))
        raise ConfigError(f"the state is damaged: {error!r}") from None


def generator(state: JSON) -> np.random.Generator:
    """Return a random generator in a given state (PCG64, Gymnasium's own choice)."""
    bits = np.random.PCG64()
    bits.state = deepcopy(state)  # type: ignore[assignment]  # plain JSON of the same shape
    return np.random.Generator(bits)
