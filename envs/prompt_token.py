"""`PromptToken-v0`: write a prompt word by word and be paid at the end (RLPrompt's MDP)."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from gymnasium import spaces

from promptgym.envs.factory import entry_points
from promptgym.envs.mdp import Action, Observation, PromptMDP, PromptState, padded, scalar
from promptgym.envs.outcome import Outcome
from promptgym.envs.vocabulary import Level
from promptgym.errors import ConfigError
from promptgym.llms import LanguageModel
from promptgym.problem import Problem
from promptgym.prompts import Prompt
from promptgym.types import BoolArray

VALUE_LIMIT = 10.0
FLUENCY_CACHE = 4096  # beginnings of prompts whose fluent continuations are remembered


class PromptToken(PromptMDP):
    """Write a prompt from nothing, one word (or subword) a step.

    ## Description

    Each episode starts with an empty instruction and appends one unit of the problem's vocabulary
    a step, to a fixed length of 5 by default. The finished prompt is scored on the training split
    and its reward is paid once, at the end. This is the MDP of RLPrompt (Deng et al. 2022), where
    the policy is a small language model with a trainable layer.

    ## Action Space

    `Discrete(V)`: the index of the unit in `problem.vocabulary`. With `early_stop=True` it is
    `Discrete(V + 1)` and action V ends the episode with the prompt as it stands; it is masked
    before the first word. With `fluency=k` only the k units that a language model finds likeliest
    after the prompt so far are legal.

    ## Observation Space

    | key | space | what |
    |---|---|---|
    | `tokens` | `Box(0, n_ids - 1, (length,), int32)` | 0 padding, 1 unknown, i + 2 unit i |
    | `mask` | `MultiBinary(length)` | where `tokens` holds a unit |
    | `progress` | `Box(0, 1, (1,))` | units written / length |
    | `score` | `Box(0, 1, (1,))` | the metric of the finished prompt; 0 until then |
    | `value` | `Box(-10, 10, (1,))` | reward / the reward of a perfect prompt; 0 until then |
    | `budget_left` | `Box(0, 1, (1,))` | share of the query cap that remains; 1 without a cap |

    ## Starting State

    The empty instruction. System message and demonstrations are those of the problem's initial
    prompt. `reset(options={"prompt": "..."})` starts at a text, shorter than `length`.

    ## Rewards

    0 until the end, then the problem's reward in its own units (`reward_scale=None`), e.g. up to
    200 for `"gap"` as in RLPrompt. `reward_scale=1.0` pays 1 for a perfect prompt.

    ## Episode End

    - Termination: `length` units are written, or the policy stops.
    - Truncation: the budget is spent (`info["budget_exhausted"]`) or each call for the prompt
      failed (`info["score_failed"]`); the reward 0.0 of that step is not a score.

    ## Information

    As in `PromptEdit-v0`. `score` and `prompt_reward` are there at the end only.

    ## Arguments

    | argument | default | what |
    |---|---|---|
    | `length` | 5 | how many units a prompt has |
    | `early_stop` | False | whether the policy may end before |
    | `fluency` | 0 | how many likeliest next units are legal; 0 for all |
    | `fluency_model` | None | a model or its name for `load_model`; None for the target |
    | `level` | "word" | "word" or "token": how texts are cut and joined |

    and those of the problem and the shell (see `promptgym.envs.factory`). Asking a model for
    fluency is not charged to the budget: it sees prompts, never an example of the task.

    ## References

    Deng et al. 2022, "RLPrompt: Optimizing Discrete Text Prompts with Reinforcement Learning",
    EMNLP; 5 tokens as in its classification experiments.

    ## Version History

    - v0: first version.
    """

    archivable = False

    def __init__(
        self,
        problem: Problem,
        *,
        length: int = 5,
        early_stop: bool = False,
        fluency: int = 0,
        fluency_model: LanguageModel | str | None = None,
        level: Level = "word",
    ) -> None:
        """Set the spaces; see the class for the arguments.

        Raises:
            ConfigError: for a length or fluency that means nothing.
        """
        super().__init__(problem, level=level)
        size = len(self.vocabulary)
        if length < 1 or not 0 <= fluency <= size:
            raise ConfigError(
                f"length must be >= 1 and fluency in [0, {size}], got {length} and {fluency}"
            )
        self.length, self.early_stop, self.fluency = length, early_stop, fluency
        self.stop = size
        self._fluency_model = _load(fluency_model, problem) if fluency else None
        self._fluent: dict[tuple[str, ...], BoolArray] = {}
        self.action_space = spaces.Discrete(size + early_stop)
        self.observation_space = spaces.Dict(
            {
                "tokens": spaces.Box(0, self.vocabulary.n_ids - 1, (length,), np.int32),
                "mask": spaces.MultiBinary(length),
                "progress": spaces.Box(0.0, 1.0, (1,), np.float32),
                "score": spaces.Box(0.0, 1.0, (1,), np.float32),
                "value": spaces.Box(-VALUE_LIMIT, VALUE_LIMIT, (1,), np.float32),
                "budget_left": spaces.Box(0.0, 1.0, (1,), np.float32),
            }
        )

    def initial(self, rng: np.random.Generator) -> PromptState:
        """Return the empty instruction, with the initial prompt's demonstrations."""
        return replace(super().state_of(self.problem.initial_prompt), units=())

    def state_of(self, prompt: Prompt) -> PromptState:
        """Return the start state for a prompt that leaves something to write."""
        state = super().state_of(prompt)
        if len(state.units) >= self.length:
            raise ConfigError(
                f"the start prompt has {len(state.units)} units, so nothing is left to write; give "
                f"at most {self.length - 1}, or a larger `length`"
            )
        return state

    def apply(self, state: PromptState, action: Action) -> PromptState:
        """Append a unit, or stop."""
        if int(action) == self.stop:
            return replace(state, step=state.step + 1, stopped=True, edit="stop", no_op=True)
        unit = self.vocabulary.units[int(action)]
        return replace(
            state,
            units=(*state.units, unit),
            step=state.step + 1,
            edit=f"append {unit!r}",
            no_op=False,
        )

    def mask(self, state: PromptState) -> BoolArray:
        """Allow each unit (or the fluent ones), and to stop after the first."""
        mask = np.ones(self.stop + self.early_stop, dtype=np.bool_)
        if self.fluency and len(state.units) < self.length:
            mask[: self.stop] = self._fluent_units(state.units)
        if self.early_stop:
            mask[self.stop] = bool(state.units)
        return mask

    def observe(self, state: PromptState, outcome: Outcome) -> Observation:
        """Return the units so far, and the score at the end."""
        mask = np.zeros(self.length, dtype=np.int8)
        mask[: len(state.units)] = 1
        return {
            "tokens": padded(self.vocabulary.ids(state.units), self.length),
            "mask": mask,
            "progress": scalar(min(1.0, len(state.units) / self.length)),
            "score": scalar(outcome.score),
            "value": np.clip(scalar(outcome.value), -VALUE_LIMIT, VALUE_LIMIT),
            "budget_left": scalar(outcome.budget_left),
        }

    def terminal(self, state: PromptState) -> bool:
        """End at full length or when stopped; illegal actions cannot prolong it for ever."""
        written = len(state.units) >= self.length
        return written or state.stopped or state.step >= 2 * self.length

    def wants_score(self, state: PromptState) -> bool:
        """Ask about finished prompts only."""
        return self.terminal(state)

    def _fluent_units(self, units: tuple[str, ...]) -> BoolArray:
        """Return which units are among the `fluency` likeliest after others, shape (V,)."""
        if units not in self._fluent:
            assert self._fluency_model is not None
            text = self.vocabulary.join(units)
            longer = [self.vocabulary.join((*units, unit)) for unit in self.vocabulary.units]
            scores = self._fluency_model.loglikelihood(
                [text] * len(longer), [full[len(text) :] for full in longer]
            )
            mask = np.zeros(len(longer), dtype=np.bool_)
            best = np.argsort(-np.nan_to_num(scores, nan=-np.inf), kind="stable")[: self.fluency]
            mask[best] = True
            if len(self._fluent) >= FLUENCY_CACHE:
                self._fluent.clear()
            self._fluent[units] = mask
        return self._fluent[units]


def _load(model: LanguageModel | str | None, problem: Problem) -> LanguageModel:
    """Return the model that judges fluency."""
    if model is None:
        return problem.model
    if isinstance(model, str):
        from promptgym.llms import load_model

        return load_model(model)
    return model


make, make_vec = entry_points(PromptToken, shaping="sparse", reward_scale=None)
