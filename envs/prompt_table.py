"""`PromptTable-v0`: a space of prompts of which every one was scored, so regret is exact."""

from __future__ import annotations

from dataclasses import replace
from functools import cached_property
from typing import Any, Literal

import numpy as np
from gymnasium import spaces

from promptgym.envs.factory import parts, rebuilder
from promptgym.envs.mdp import Action, Observation, PromptMDP, PromptState, padded, scalar
from promptgym.envs.outcome import Outcome
from promptgym.envs.shell import PromptEnv
from promptgym.envs.table_columns import VALUE_LIMIT
from promptgym.envs.table_vector import TableVectorEnv
from promptgym.errors import ConfigError
from promptgym.problem import Problem
from promptgym.prompts import Prompt
from promptgym.scoring.tabulated import Tabulated, table_of, tabulate
from promptgym.types import JSON, BoolArray

DEFAULT = "table:staff"


class PromptTable(PromptMDP):
    """Find the best prompt of a space in which every prompt's score is known.

    ## Description

    A prompt has up to S slots, each with one of V words, without gaps. A step writes a word into a
    slot, empties one (what stands behind moves up) or stops. Scores were recorded once, from the
    embedded language model, for each prompt of the space (`promptgym.tasks.prompt_table`), so that
    no model runs, the true optimum is known, and regret is exact. The vector environment computes
    on arrays alone.

    ## Action Space

    `Discrete(S * V + S + 1)`: action `s * V + w` writes word w into slot s (legal up to the first
    empty slot), action `S * V + s` empties slot s (legal if it has a word), the last one stops.

    ## Observation Space

    | key | space | what |
    |---|---|---|
    | `tokens` | `Box(0, V, (S,), int32)` | 0 for an empty slot, i + 1 for word i |
    | `score` | `Box(0, 1, (1,))` | the metric of the prompt |
    | `value` | `Box(-10, 10, (1,))` | its reward / the reward of a perfect prompt |
    | `progress` | `Box(0, 1, (1,))` | step / horizon |
    | `budget_left` | `Box(0, 1, (1,))` | share of the query cap that remains; 1 without a cap |

    ## Starting State

    The problem's initial prompt, by default the empty one; with `start="random"` any prompt of the
    space, uniformly. `reset(options={"prompt": ...})` starts at a given prompt.

    ## Rewards

    As in `PromptEdit-v0`: `v(after) - v(before)`, v being the prompt's reward / that of a perfect
    prompt times `reward_scale`; `shaping="sparse"` and `"absolute"`.

    ## Episode End

    - Termination: the policy stops, or `horizon` steps are taken.
    - Truncation: the budget is spent (`info["budget_exhausted"]`).

    ## Information

    As in `PromptEdit-v0`, and `regret`: (reward of the optimum - reward of the prompt) / reward of
    a perfect prompt, in [0, ...); 0 at the optimum.

    ## Arguments

    | argument | default | what |
    |---|---|---|
    | `start` | "initial" | "initial" or "random" |
    | `horizon` | None | most steps; None for twice the number of slots |

    and those of the problem and the shell (see `promptgym.envs.factory`), task and model being
    "table:staff" by default, or a table of your own (`promptgym table build`). In the vector
    environment a budget caps queries only, and there is no archive and no rendering.

    ## References

    Tabular benchmarks of architecture search: Ying et al. 2019, "NAS-Bench-101", ICML.

    ## Version History

    - v0: first version.
    """

    archivable = False

    def __init__(
        self,
        problem: Problem,
        *,
        start: Literal["initial", "random"] = "initial",
        horizon: int | None = None,
    ) -> None:
        """Set the spaces; see the class for the arguments.

        Raises:
            ConfigError: for a problem without a table, a vocabulary that is not its, or arguments
                that mean nothing.
        """
        super().__init__(problem)
        self.table = table_of(problem.model)
        if problem.vocabulary != self.table.words:
            raise ConfigError(
                f"{problem.model.name} has words of its own; leave `vocabulary` out, or build a "
                "table of those (`promptgym table build`)"
            )
        if start not in ("initial", "random"):
            raise ConfigError(f"start must be 'initial' or 'random', got {start!r}")
        self.horizon = 2 * self.table.slots if horizon is None else horizon
        if self.horizon < 1:
            raise ConfigError(f"horizon must be at least 1, got {horizon}")
        self.start = start
        slots, words = self.table.slots, len(self.table.words)
        self.first_delete, self.stop = slots * words, slots * words + slots
        self.action_space = spaces.Discrete(self.stop + 1)
        self.observation_space = spaces.Dict(
            {
                "tokens": spaces.Box(0, words, (slots,), np.int32),
                "score": spaces.Box(0.0, 1.0, (1,), np.float32),
                "value": spaces.Box(-VALUE_LIMIT, VALUE_LIMIT, (1,), np.float32),
                "progress": spaces.Box(0.0, 1.0, (1,), np.float32),
                "budget_left": spaces.Box(0.0, 1.0, (1,), np.float32),
            }
        )
        self._first = self.state_of(problem.initial_prompt)
        self.word_index = {word: i for i, word in enumerate(self.table.words)}

    @cached_property
    def worth(self) -> Tabulated:
        """What every prompt of the space is worth on train."""
        return tabulate(self.problem.task, self.problem.model, self.problem.reward)

    @cached_property
    def masks(self) -> BoolArray:
        """Legal actions by the number of words, shape (S + 1, S * V + S + 1)."""
        slots, words = self.table.slots, len(self.table.words)
        out = np.zeros((slots + 1, self.stop + 1), dtype=np.bool_)
        for n in range(slots + 1):
            out[n, : min(n + 1, slots) * words] = True
            out[n, self.first_delete : self.first_delete + n] = True
        out[:, self.stop] = True
        return out

    def edit_text(self, action: int) -> str:
        """Return in words what a legal action does."""
        if action == self.stop:
            return "stop"
        if action >= self.first_delete:
            return f"empty slot {action - self.first_delete}"
        slot, word = divmod(action, len(self.table.words))
        return f"write {self.table.words[word]!r} into slot {slot}"

    def initial(self, rng: np.random.Generator) -> PromptState:
        """Return the initial prompt, or any."""
        if self.start == "initial":
            return self._first
        return PromptState(tuple(self.table.prompts[int(rng.integers(len(self.table)))].split()))

    def state_of(self, prompt: Prompt) -> PromptState:
        """Return the start state for a prompt of the space.

        Raises:
            ConfigError: for a prompt that is not in it.
        """
        words, known = prompt.instruction.split(), set(self.table.words)
        strange = [w for w in words if w not in known]
        if strange or len(words) > self.table.slots or prompt.demonstrations or prompt.system:
            raise ConfigError(
                f"the prompt {prompt.instruction!r} is not in the table: expected at most "
                f"{self.table.slots} of its words, no demonstrations and no system text"
                + (f"; it does not know {strange[0]!r}" if strange else "")
            )
        return PromptState(tuple(words))

    def apply(self, state: PromptState, action: Action) -> PromptState:
        """Write, empty or stop."""
        action, units = int(action), list(state.units)
        if action >= self.first_delete and action < self.stop:
            del units[action - self.first_delete]
        elif action < self.stop:
            slot, word = divmod(action, len(self.table.words))
            units[slot : slot + 1] = [self.table.words[word]]
        return replace(
            state,
            units=tuple(units),
            step=state.step + 1,
            stopped=action == self.stop,
            edit=self.edit_text(action),
            no_op=tuple(units) == state.units,
        )

    def mask(self, state: PromptState) -> BoolArray:
        """Return the legal actions, shape (S * V + S + 1,)."""
        mask: BoolArray = self.masks[len(state.units)].copy()
        return mask

    def observe(self, state: PromptState, outcome: Outcome) -> Observation:
        """Return the slots and what is known of the prompt."""
        ids = [self.word_index[w] + 1 for w in state.units]
        return {
            "tokens": padded(ids, self.table.slots),
            "score": scalar(outcome.score),
            "value": np.clip(scalar(outcome.value), -VALUE_LIMIT, VALUE_LIMIT),
            "progress": scalar(min(1.0, state.step / self.horizon)),
            "budget_left": scalar(outcome.budget_left),
        }

    def terminal(self, state: PromptState) -> bool:
        """End when stopped or at the horizon."""
        return state.stopped or state.step >= self.horizon

    def describe(self, state: PromptState, outcome: Outcome) -> JSON:
        """Return the regret of the prompt, where its reward is known."""
        if not outcome.known:
            return {}
        return {"regret": (self.worth.optimum - outcome.reward) / self.problem.reward.scale}


def make(*, render_mode: str | None = None, **arguments: Any) -> PromptEnv:
    """Make the scalar environment; see `PromptTable` and `promptgym.envs.factory`."""
    rebuild = rebuilder(__name__, "make", {"render_mode": render_mode, **arguments})
    return PromptEnv(*_parts(arguments), render_mode=render_mode, rebuild=rebuild)


def make_vec(
    *,
    num_envs: int = 1,
    max_episode_steps: int | None = None,
    autoreset_mode: Any = "NextStep",
    **arguments: Any,
) -> TableVectorEnv:
    """Make the vector environment; see `PromptTable` and `promptgym.envs.factory`."""
    shape = {
        "num_envs": num_envs,
        "max_episode_steps": max_episode_steps,
        "autoreset_mode": autoreset_mode,
    }
    rebuild = rebuilder(__name__, "make_vec", {**shape, **arguments})
    return TableVectorEnv(*_parts(arguments), **shape, rebuild=rebuild)


def _parts(arguments: dict[str, Any]) -> Any:
    """Return MDP and shell options, task and model being the packaged table by default."""
    if "problem" not in arguments:
        arguments = {"task": DEFAULT, "model": DEFAULT, **arguments}
    return parts(PromptTable, arguments, {"reward_scale": 1.0})
