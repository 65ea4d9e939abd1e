"""Prompters that write one prompt together: views of `PromptToken` (scenario "turns")."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import numpy.typing as npt
from gymnasium import spaces

from promptgym.envs.mdp import Action, Observation, PromptState, padded
from promptgym.envs.outcome import Outcome
from promptgym.envs.prompt_token import PromptToken
from promptgym.envs.team import TeamMDP
from promptgym.envs.vocabulary import Level
from promptgym.errors import ConfigError
from promptgym.llms import LanguageModel
from promptgym.problem import Problem
from promptgym.prompts import Prompt
from promptgym.types import BoolArray


class TokenTurns(PromptToken, TeamMDP):
    """`PromptToken` of `prompters` x `tokens` units; nothing is added but whose turn it is."""

    def __init__(
        self,
        problem: Problem,
        *,
        prompters: int = 2,
        tokens: int = 5,
        max_cycles: int | None = None,
        early_stop: bool = False,
        fluency: int = 0,
        fluency_model: LanguageModel | str | None = None,
        level: Level = "word",
    ) -> None:
        """Set the spaces; see `MultiPrompter` for the arguments.

        Raises:
            ConfigError: for arguments that mean nothing.
        """
        if prompters < 1 or tokens < 1:
            raise ConfigError(
                f"prompters and tokens must be at least 1, got {prompters} and {tokens}"
            )
        if max_cycles is not None and max_cycles < 1:
            raise ConfigError(f"max_cycles must be at least 1 or None, got {max_cycles}")
        super().__init__(
            problem,
            length=prompters * tokens,
            early_stop=early_stop,
            fluency=fluency,
            fluency_model=fluency_model,
            level=level,
        )
        self.agents = tuple(f"prompter_{i}" for i in range(prompters))
        self.tokens, self.max_cycles = tokens, max_cycles
        self.state_space = spaces.Box(0, self.vocabulary.n_ids - 1, (self.length,), np.int32)

    def turn(self, state: PromptState) -> int:
        """Return whose sub-prompt is being written, by the units that are there."""
        tokens = self.tokens if self.max_cycles is None else min(self.tokens, self.max_cycles)
        return min(len(state.units) // tokens, len(self.agents) - 1)

    def space_of(self, agent: int) -> spaces.Space[Any]:
        """Return the one action space."""
        return self.action_space

    def shared(self, state: PromptState) -> npt.NDArray[np.int32]:
        """Return the prompt so far as ids, shape (length,)."""
        return padded(self.vocabulary.ids(state.units), self.length)


class TokensTogether(TokenTurns):
    """The parallel form: all prompters write at once, a unit each in every step.

    A state's units are the sub-prompts one behind the other, each `len(units) // prompters` long so
    far; observations show every sub-prompt at its own place, and gaps where it goes on.
    """

    def __init__(
        self,
        problem: Problem,
        *,
        prompters: int = 2,
        tokens: int = 5,
        max_cycles: int | None = None,
        fluency: int = 0,
        fluency_model: LanguageModel | str | None = None,
        level: Level = "word",
    ) -> None:
        """Set the spaces; see `MultiPrompter` for the arguments."""
        super().__init__(
            problem,
            prompters=prompters,
            tokens=tokens,
            max_cycles=max_cycles,
            fluency=fluency,
            fluency_model=fluency_model,
            level=level,
        )
        self.single_space = self.action_space
        self.action_space = spaces.MultiDiscrete([len(self.vocabulary)] * prompters)

    def space_of(self, agent: int) -> spaces.Space[Any]:
        """Return the action space of one prompter."""
        return self.single_space

    def timed_out(self, state: PromptState) -> bool:
        """Whether the prompters have used up their actions; a step is an action of each."""
        return self.max_cycles is not None and state.step >= self.max_cycles

    def state_of(self, prompt: Prompt) -> PromptState:
        """Return the start state for a prompt that all sub-prompts share equally."""
        state = super().state_of(prompt)
        if len(state.units) % len(self.agents):
            raise ConfigError(
                f"{len(self.agents)} prompters that write at once cannot share a start of "
                f"{len(state.units)} units; give a multiple of {len(self.agents)}"
            )
        return state

    def apply(self, state: PromptState, action: Action) -> PromptState:
        """Append a unit to each sub-prompt."""
        units = [self.vocabulary.units[int(choice)] for choice in np.ravel(action)]
        written = zip(self._parts(state), units, strict=True)
        return replace(
            state,
            units=tuple(unit for part, new in written for unit in (*part, new)),
            step=state.step + 1,
            edit=f"append {', '.join(map(repr, units))}",
            no_op=False,
        )

    def mask(self, state: PromptState) -> BoolArray:
        """Return what each prompter may write after its own sub-prompt, prompter by prompter."""
        own = [replace(state, units=part) for part in self._parts(state)]
        return np.concatenate([super(TokensTogether, self).mask(part) for part in own])

    def observe(self, state: PromptState, outcome: Outcome) -> Observation:
        """Return the sub-prompts so far, each at its place."""
        out = super().observe(state, outcome)
        written = len(state.units) // len(self.agents)
        out["tokens"] = self.shared(state)
        mask = np.zeros((len(self.agents), self.tokens), dtype=np.int8)
        mask[:, :written] = 1
        return {**out, "mask": mask.ravel()}

    def shared(self, state: PromptState) -> npt.NDArray[np.int32]:
        """Return the sub-prompts so far as ids, each at its place, shape (length,)."""
        ids = [padded(self.vocabulary.ids(part), self.tokens) for part in self._parts(state)]
        return np.concatenate(ids)

    def terminal(self, state: PromptState) -> bool:
        """End at full length; illegal actions cannot prolong it for ever."""
        return len(state.units) >= self.length or state.step >= 2 * self.tokens

    def _parts(self, state: PromptState) -> list[tuple[str, ...]]:
        """Return the sub-prompts."""
        written = len(state.units) // len(self.agents)
        return [state.units[i * written : (i + 1) * written] for i in range(len(self.agents))]
