"""The contract of an environment: a pure MDP over frozen, JSON-able states.

An MDP knows spaces, edits, masks and observations. It never scores: the shells (`PromptEnv`,
`PromptVectorEnv`) ask the problem about every prompt the MDP wants scored and hand the `Outcome`
back for the observation.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import asdict, dataclass, replace
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt
from gymnasium import spaces

from promptgym.envs.outcome import Outcome, Question
from promptgym.envs.vocabulary import Level, Vocabulary
from promptgym.errors import ConfigError
from promptgym.problem import Problem
from promptgym.prompts import Example, Prompt
from promptgym.types import JSON, BoolArray

Observation = dict[str, Any]  # arrays, and str for Text spaces
Action = Any  # an int (Discrete), an int array (MultiDiscrete) or a str (Text)
TUPLES = ("units", "demonstrations", "examples", "proposal")  # JSON has lists for them
DRAWN = 40  # characters of a text action drawn at random, at most


@dataclass(frozen=True, slots=True)
class PromptState:
    """Where an episode stands: the prompt as units, and what the last action did.

    Attributes:
        units: the instruction, cut by the environment's vocabulary.
        demonstrations: indices into the environment's pool.
        step: actions taken so far.
        stopped: whether the policy has ended the episode.
        edit: the last action in words, e.g. `insert 'exactly' at 3`.
        no_op: whether the last action left the prompt as it was.
        examples: indices of the training examples that the episode is about; () for all of them.
        earlier: prompts of the episode before this one and their scores, where an MDP's `remember`
            keeps them; oldest first.
        proposal: an action that waits for another agent's verdict; () for none.
    """

    units: tuple[str, ...] = ()
    demonstrations: tuple[int, ...] = ()
    step: int = 0
    stopped: bool = False
    edit: str = ""
    no_op: bool = False
    examples: tuple[int, ...] = ()
    earlier: tuple[tuple[str, float], ...] = ()
    proposal: tuple[int, ...] = ()

    @property
    def content(self) -> tuple[tuple[str, ...], tuple[int, ...]]:
        """What the prompt says, without the history: equal contents are equal prompts."""
        return self.units, self.demonstrations

    def to_json(self) -> JSON:
        """Return plain JSON values; `from_json` reads them back."""
        out = asdict(self)
        for name in TUPLES:
            out[name] = list(out[name])
        out["earlier"] = [list(pair) for pair in self.earlier]
        return out

    @classmethod
    def from_json(cls, value: JSON) -> PromptState:
        """Read what `to_json` wrote."""
        fields = dict(value)
        for name in TUPLES:
            fields[name] = tuple(fields[name])
        fields["earlier"] = tuple((text, score) for text, score in fields["earlier"])
        return cls(**fields)


class PromptMDP(ABC):
    """Base class of environments: subclass it, write the five abstract methods, set two spaces.

    Attributes:
        problem: what is optimized; an MDP reads its vocabulary, labels, pool and prompts only.
        vocabulary: the units of prompts.
        pool: demonstrations that a state's indices point to.
        observation_space: what `observe` returns; a flat Dict of Box and MultiBinary spaces suits
            every policy of Stable-Baselines3.
        action_space: Discrete or MultiDiscrete, starting at 0; or Text, where any text is legal and
            the mask is empty, shape (0,).
        archivable: whether an episode may start from a prompt that an earlier one found.
    """

    observation_space: spaces.Dict
    action_space: spaces.Discrete | spaces.MultiDiscrete | spaces.Text
    archivable: ClassVar[bool] = True

    def __init__(self, problem: Problem, *, level: Level = "word") -> None:
        """Index the problem's vocabulary, with the words of its start prompts in observations."""
        self.problem = problem
        prompts = (problem.initial_prompt, *problem.task.manual_prompts)
        self.vocabulary = Vocabulary(
            problem.vocabulary, level=level, extra=[p.instruction for p in prompts]
        )
        shown = [*problem.task.pool, *(d for p in prompts for d in p.demonstrations)]
        self.pool: tuple[Example, ...] = tuple(dict.fromkeys(shown))

    @abstractmethod
    def initial(self, rng: np.random.Generator) -> PromptState:
        """Return the first state of an episode; draw from `rng` alone."""

    @abstractmethod
    def apply(self, state: PromptState, action: Action) -> PromptState:
        """Return the state after a legal action, `step` counted. Pure: never scores."""

    @abstractmethod
    def mask(self, state: PromptState) -> BoolArray:
        """Return which actions are legal: flat, shape (n,) or (sum(nvec),), a True in each head."""

    @abstractmethod
    def observe(self, state: PromptState, outcome: Outcome) -> Observation:
        """Return a new observation, finite everywhere."""

    @abstractmethod
    def terminal(self, state: PromptState) -> bool:
        """Return whether the episode ends in this state."""

    def wants_score(self, state: PromptState) -> bool:
        """Return whether the prompt of this state is asked (and paid for); default: each one."""
        return True

    def prompt(self, state: PromptState) -> Prompt:
        """Return the prompt of a state."""
        return replace(
            self.problem.initial_prompt,
            instruction=self.vocabulary.join(state.units),
            demonstrations=tuple(self.pool[i] for i in state.demonstrations),
        )

    def question(self, state: PromptState) -> Question:
        """Return what is asked about a state: its prompt, on the training split."""
        return Question(self.prompt(state))

    def remember(self, state: PromptState, outcome: Outcome) -> PromptState:
        """Return the state with what it keeps of a known outcome (`earlier`); default: nothing."""
        return state

    def describe(self, state: PromptState, outcome: Outcome) -> JSON:
        """Return what `info` says besides what it says in every environment; default: nothing."""
        return {}

    def state_of(self, prompt: Prompt) -> PromptState:
        """Return the start state for a prompt.

        Raises:
            ConfigError: if a demonstration is not in the pool.
        """
        index = {example: i for i, example in enumerate(self.pool)}
        for example in prompt.demonstrations:
            if example not in index:
                raise ConfigError(
                    f"the demonstration {example.input!r} is not in the task's pool of "
                    f"{len(self.pool)}; add it to `pool=`"
                )
        return PromptState(
            self.vocabulary.split(prompt.instruction),
            tuple(index[example] for example in prompt.demonstrations),
        )

    def idle(self, state: PromptState) -> PromptState:
        """Return the state after an illegal action: nothing but the step count changes."""
        return replace(state, step=state.step + 1, edit="illegal: nothing done", no_op=True)

    def allows(self, mask: BoolArray, action: Action) -> bool:
        """Return whether a flat mask allows an action (in each of its heads).

        Raises:
            ConfigError: if it is no action at all, legal or not.
        """
        return allowed(self.action_space, mask, action, type(self).__name__)


def allowed(space: spaces.Space[Any], mask: BoolArray, action: Action, name: str) -> bool:
    """Return whether a flat mask allows an action of a space (in each of its heads).

    Raises:
        ConfigError: if it is no action of the space at all, legal or not; it says `name`.
    """
    if isinstance(space, spaces.Text):
        if not isinstance(action, str):
            raise ConfigError(f"an action of {name} is a text, got {action!r}")
        return True
    sizes, choices = head_sizes(space), np.ravel(np.asarray(action))
    if len(choices) != len(sizes) or not np.issubdtype(choices.dtype, np.integer):
        raise ConfigError(f"an action of {space} is {len(sizes)} whole numbers, got {action!r}")
    offset = 0
    for size, choice in zip(sizes, choices, strict=True):
        if not 0 <= int(choice) < size or not mask[offset + int(choice)]:
            return False
        offset += size
    return True


def head_sizes(space: spaces.Space[Any]) -> list[int]:
    """Return the sizes of an action space's heads: `[n]`, `nvec`, or none for Text."""
    if isinstance(space, spaces.Discrete):
        return [int(space.n)]
    if isinstance(space, spaces.MultiDiscrete):
        return [int(n) for n in space.nvec]
    if isinstance(space, spaces.Text):
        return []
    raise ConfigError(f"an action space is Discrete, MultiDiscrete or Text, got {space}")


def sample_action(space: spaces.Space[Any], mask: BoolArray, rng: np.random.Generator) -> Action:
    """Draw a legal action uniformly, head by head; a text character by character.

    Args:
        space: Discrete, MultiDiscrete or Text.
        mask: flat mask, shape (n,) or (sum(nvec),).
        rng: where randomness comes from.

    Returns:
        An int for Discrete, an int64 array for MultiDiscrete, a str for Text.
    """
    if isinstance(space, spaces.Text):
        length = int(rng.integers(space.min_length, min(space.max_length, DRAWN) + 1))
        return "".join(rng.choice(sorted(space.character_set), size=length))
    choices, offset = [], 0
    for size in head_sizes(space):
        choices.append(int(rng.choice(np.flatnonzero(mask[offset : offset + size]))))
        offset += size
    return choices[0] if isinstance(space, spaces.Discrete) else np.array(choices, dtype=np.int64)


def padded(values: list[int], length: int) -> npt.NDArray[np.int32]:
    """Return ids followed by zeros, cut at `length`; shape (length,)."""
    out = np.zeros(length, dtype=np.int32)
    out[: min(len(values), length)] = values[:length]
    return out


def scalar(value: float) -> npt.NDArray[np.float32]:
    """Return one number as an array of shape (1,), 0.0 where it is not known (NaN)."""
    return np.array([0.0 if np.isnan(value) else value], dtype=np.float32)
