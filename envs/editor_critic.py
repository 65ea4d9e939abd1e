"""One proposes an edit, one decides: a view of `PromptEdit` (scenario "editor-critic")."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import numpy.typing as npt
from gymnasium import spaces

from promptgym.envs.mdp import Action, Observation, PromptState, allowed, padded
from promptgym.envs.outcome import Outcome
from promptgym.envs.prompt_edit import PromptEdit
from promptgym.envs.team import TeamMDP
from promptgym.types import BoolArray

EDITOR, CRITIC = 0, 1
REJECT, ACCEPT = 0, 1


class EditorCritic(PromptEdit, TeamMDP):
    """`PromptEdit` whose every edit is proposed by one agent and accepted or rejected by another.

    A proposal is not scored: the critic decides on what it sees, and a rejection costs no query.
    """

    agents = ("editor_0", "critic_0")
    max_cycles = None  # `horizon` is how many actions each has

    def _set_spaces(self) -> None:
        """Let all see the proposal, too."""
        super()._set_spaces()
        self.verdict = spaces.Discrete(2)  # of its own: a space has a random generator
        ids = self.vocabulary.n_ids - 1
        box: dict[str, spaces.Space[Any]] = {
            **self.observation_space.spaces,
            "proposal": spaces.Box(0, ids, (self.max_words,), np.int32),
            "proposal_mask": spaces.MultiBinary(self.max_words),
            "proposed": spaces.MultiBinary(2),
        }
        if self.max_demonstrations:
            box["proposal_demonstrations"] = self.observation_space["demonstrations"]
        self.observation_space = spaces.Dict(box)
        self.state_space = spaces.Box(0, ids, (2 * self.max_words,), np.int32)

    def turn(self, state: PromptState) -> int:
        """Return 1, the critic, while a proposal waits."""
        return CRITIC if state.proposal else EDITOR

    def space_of(self, agent: int) -> spaces.Space[Any]:
        """Return `PromptEdit`'s space for the editor, two verdicts for the critic."""
        return self.verdict if agent == CRITIC else self.action_space

    def shared(self, state: PromptState) -> npt.NDArray[np.int32]:
        """Return the prompt and the proposed one as ids, shape (2 * max_words,)."""
        proposed = self._edited(state).units if state.proposal else ()
        both = (state.units, proposed)
        return np.concatenate([padded(self.vocabulary.ids(u), self.max_words) for u in both])

    def apply(self, state: PromptState, action: Action) -> PromptState:
        """Propose an edit; or do the proposed one, or drop it."""
        if not state.proposal:
            proposed = replace(state, proposal=tuple(int(head) for head in action))
            edit = f"propose: {self._edited(proposed).edit}"
            return replace(proposed, step=state.step + 1, edit=edit, no_op=True)
        edited = self._edited(state)
        if int(action) == ACCEPT:
            return replace(edited, step=state.step + 1, edit=f"accept: {edited.edit}")
        edit = f"reject: {edited.edit}"
        return replace(state, step=state.step + 1, proposal=(), edit=edit, no_op=True)

    def idle(self, state: PromptState) -> PromptState:
        """Let an illegal proposal end the round; an illegal verdict rejects."""
        after = replace(super().idle(state), proposal=())
        return after if state.proposal else replace(after, step=state.step + 2)

    def mask(self, state: PromptState) -> BoolArray:
        """Return the legal edits, shape (sum(nvec),), or both verdicts, shape (2,)."""
        if state.proposal:
            return np.ones(2, dtype=np.bool_)
        return super().mask(self._round(state))

    def allows(self, mask: BoolArray, action: Action) -> bool:
        """Return whether the mask of whoever acts allows an action; an edit's is longer than 2."""
        if len(mask) == 2:
            return allowed(self.verdict, mask, action, "the critic")
        return allowed(self.action_space, mask, action, "the editor")

    def observe(self, state: PromptState, outcome: Outcome) -> Observation:
        """Return what `PromptEdit` shows of the prompt, and the proposed one if there is one."""
        out = super().observe(self._round(state), outcome)
        after = self._edited(state) if state.proposal else PromptState()
        mask = np.zeros(self.max_words, dtype=np.int8)
        mask[: len(after.units)] = 1
        out["proposal"] = padded(self.vocabulary.ids(after.units), self.max_words)
        out["proposal_mask"] = mask
        out["proposed"] = np.array([bool(state.proposal), after.stopped], dtype=np.int8)
        if self.max_demonstrations:
            ids = [i + 1 for i in after.demonstrations]
            out["proposal_demonstrations"] = padded(ids, self.max_demonstrations)
        return out

    def terminal(self, state: PromptState) -> bool:
        """End when a stop was accepted, or after `horizon` rounds."""
        return super().terminal(self._round(state))

    def _round(self, state: PromptState) -> PromptState:
        """Return the state as `PromptEdit` counts it: a step is a proposal and its verdict."""
        return replace(state, step=state.step // 2, proposal=())

    def _edited(self, state: PromptState) -> PromptState:
        """Return what the waiting proposal would make of the prompt."""
        return super().apply(self._round(state), state.proposal)
