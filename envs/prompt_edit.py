"""`PromptEdit-v0`: improve a prompt by edits."""

from __future__ import annotations

from dataclasses import replace
from typing import Literal

import numpy as np
from gymnasium import spaces

from promptgym.envs.edits import edit
from promptgym.envs.factory import entry_points
from promptgym.envs.mdp import Action, Observation, PromptMDP, PromptState, padded, scalar
from promptgym.envs.outcome import Outcome
from promptgym.envs.vocabulary import Level
from promptgym.errors import ConfigError
from promptgym.problem import Problem
from promptgym.prompts import Prompt
from promptgym.types import BoolArray

VALUE_LIMIT = 10.0
MOST_WORDS = 10_000
WORD_OPERATIONS = ("insert", "replace", "delete", "stop")
POOL_OPERATIONS = ("insert demonstration", "remove demonstration", "swap demonstrations")


class PromptEdit(PromptMDP):
    """Improve a prompt, one edit a step.

    ## Description

    Each episode starts from a prompt (the task's manual prompt by default). Each step inserts,
    replaces or deletes one word (or subword), or stops; where the task has a pool of solved
    examples, demonstrations can be edited as well. The edited prompt is scored on the training
    split and the change of its reward is paid, so that at discount 1 the return is what the last
    prompt is worth above the first. Searching prompts by edits is GrIPS (Prasad et al. 2023), a
    learned editor of instruction and demonstrations TEMPERA (Zhang et al. 2023). Words of a start
    prompt that are not in the vocabulary can be replaced and deleted, but not written.

    ## Action Space

    `MultiDiscrete([operations, positions, V])`, or with a pool
    `MultiDiscrete([operations, positions, V, pool])`:

    | operation | does |
    |---|---|
    | insert | puts word `word` before position `position` (or at the end) |
    | replace | writes it over the word there |
    | delete | removes the word there |
    | stop | ends the episode |
    | swap (`swap=True`) | exchanges the word there with the next (the last with the first) |
    | insert demonstration | puts pool item `pool` at slot `position` |
    | remove demonstration | removes the one at slot `position` |
    | swap demonstrations | exchanges the one at slot `position` with the next |

    Heads are masked one by one (`info["action_mask"]`, `action_masks()`, flat, head after head).
    A position beyond the last word or slot means the last, so whatever the masks allow is legal;
    heads that an operation does not use are ignored. An illegal action changes nothing and is
    flagged `illegal`; a legal one that changes nothing (a word replaced by itself) `no_op`.

    ## Observation Space

    | key | space | what |
    |---|---|---|
    | `tokens` | `Box(0, n_ids - 1, (max_words,), int32)` | ids of the words, see below |
    | `mask` | `MultiBinary(max_words)` | where `tokens` holds a word |
    | `score` | `Box(0, 1, (1,))` | the metric of the prompt |
    | `value` | `Box(-10, 10, (1,))` | its reward / the reward of a perfect prompt |
    | `label_probabilities` | `Box(0, 1, (L,))` | mean P(label) over the examples (classification) |
    | `label_accuracies` | `Box(0, 1, (L,))` | mean metric over the examples of each label |
    | `progress` | `Box(0, 1, (1,))` | step / horizon |
    | `budget_left` | `Box(0, 1, (1,))` | share of the query cap that remains; 1 without a cap |
    | `demonstrations` | `Box(0, pool, (max_demonstrations,), int32)` | 0 empty, i + 1 pool item i |

    Ids are 0 for padding, 1 for an unknown word, i + 2 for word i of the vocabulary and, above
    those, words of the start prompts that cannot be written. They are a Box, to be embedded:
    Stable-Baselines3 would make one-hot vectors of a MultiDiscrete. `demonstrations` is there only
    with a pool. Numbers that are not known are 0.

    ## Starting State

    `start="initial"`: the problem's initial prompt. `start="manual"`: one of the task's manual
    prompts, uniformly. With `archive=8`, three quarters of the episodes start from one of the 8
    best prompts that this (sub-)environment has found since it was last seeded.
    `reset(options={"prompt": ...})` starts at a given prompt.

    ## Rewards

    `v(after) - v(before)`, where v(p) = `reward_scale` x (reward of p) / (reward of a perfect
    prompt). With the defaults ("gap", 4.0) a step to a perfect prompt from an indifferent one is
    worth 4; the learning study found 3 to 5 to suit PPO's value loss. `shaping="sparse"` pays the
    same return at the end; `"absolute"` pays v(after) each step.

    ## Episode End

    - Termination: the policy stops (legal from the second step on), or `horizon` steps are taken;
      `progress` is observed, so the horizon is part of the MDP.
    - Truncation: the budget is spent (`info["budget_exhausted"]`) or each call for the prompt
      failed (`info["score_failed"]`); the reward 0.0 of that step is not a score. If that happens
      at a reset, the first step truncates.

    ## Information

    | key | what |
    |---|---|
    | `prompt` | the instruction |
    | `score`, `prompt_reward` | metric and reward on the training split; absent where not known |
    | `edit` | what the last action did |
    | `no_op`, `illegal` | whether it changed nothing, or was not allowed |
    | `revisited` | whether the prompt occurred in this episode before |
    | `queries` | prompt x example pairs asked in this episode (an unchanged prompt asks none) |
    | `failures` | calls that went wrong for this prompt |
    | `budget_exhausted`, `score_failed` | why an episode was truncated |
    | `episode_return`, `episode_length` | so far |
    | `action_mask` | legal actions, flat bool, shape (sum(nvec),) |
    | `demonstrations` | indices into the pool (with a pool) |

    ## Arguments

    | argument | default | what |
    |---|---|---|
    | `horizon` | 8 | steps an episode has |
    | `max_words` | None | longest prompt; None for 14, or what the start prompts need |
    | `min_words` | 1 | shortest prompt that a delete may leave |
    | `swap` | False | whether words may be swapped |
    | `max_demonstrations` | None | at once; None for 4 where task and template allow any |
    | `start` | "initial" | "initial" or "manual" |
    | `level` | "word" | "word" or "token": how texts are cut and joined |

    and those of the problem and the shell (see `promptgym.envs.factory`).

    ## References

    - Zhang et al. 2023, "TEMPERA: Test-Time Prompt Editing via Reinforcement Learning", ICLR.
    - Prasad et al. 2023, "GrIPS: Gradient-free, Edit-based Instruction Search", EACL.
    - Deng et al. 2022, "RLPrompt", EMNLP (the "gap" reward).

    ## Version History

    - v0: first version.
    """

    def __init__(
        self,
        problem: Problem,
        *,
        horizon: int = 8,
        max_words: int | None = None,
        min_words: int = 1,
        swap: bool = False,
        max_demonstrations: int | None = None,
        start: Literal["initial", "manual"] = "initial",
        level: Level = "word",
    ) -> None:
        """Set the spaces; see the class for the arguments.

        Raises:
            ConfigError: for arguments that mean nothing, or start prompts that do not fit.
        """
        super().__init__(problem, level=level)
        if start not in ("initial", "manual"):
            raise ConfigError(f"start must be 'initial' or 'manual', got {start!r}")
        self.starts = (
            (problem.initial_prompt,) if start == "initial" else problem.task.manual_prompts
        )
        cut = self.vocabulary.split
        longest = max(len(cut(p.instruction)) for p in self.starts)
        shown = max(len(p.demonstrations) for p in self.starts)
        places = self.pool and problem.template.has_demonstrations
        self.max_words = max(14, longest + horizon // 2) if max_words is None else max_words
        self.max_demonstrations = (
            (max(4, shown) if places else shown)
            if max_demonstrations is None
            else max_demonstrations
        )
        self.horizon, self.min_words = horizon, min_words
        if (
            horizon < 2
            or not 0 <= min_words <= self.max_words
            or not 1 <= self.max_words <= MOST_WORDS
        ):
            raise ConfigError(
                f"horizon must be >= 2 and 0 <= min_words <= max_words <= {MOST_WORDS:,}, got "
                f"horizon {horizon}, min_words {min_words}, max_words {self.max_words}"
            )
        if self.max_demonstrations < 0:
            raise ConfigError(f"max_demonstrations must be >= 0, got {self.max_demonstrations}")
        if self.max_demonstrations and not places:
            raise ConfigError(
                f"max_demonstrations={self.max_demonstrations} needs a task with a `pool` (it has "
                f"{len(self.pool)}) and a template with {{demonstrations}}"
            )
        self.operations = (
            *WORD_OPERATIONS,
            *(("swap",) if swap else ()),
            *(POOL_OPERATIONS if self.max_demonstrations else ()),
        )
        self._set_spaces()
        for prompt in self.starts:
            self.state_of(prompt)

    def _set_spaces(self) -> None:
        """Set the two spaces."""
        self.positions = max(self.max_words, self.max_demonstrations)
        heads = [len(self.operations), self.positions, len(self.vocabulary)]
        box: dict[str, spaces.Space[np.ndarray]] = {
            "tokens": spaces.Box(0, self.vocabulary.n_ids - 1, (self.max_words,), np.int32),
            "mask": spaces.MultiBinary(self.max_words),
            "score": spaces.Box(0.0, 1.0, (1,), np.float32),
            "value": spaces.Box(-VALUE_LIMIT, VALUE_LIMIT, (1,), np.float32),
            "progress": spaces.Box(0.0, 1.0, (1,), np.float32),
            "budget_left": spaces.Box(0.0, 1.0, (1,), np.float32),
        }
        labels = len(self.problem.task.labels or ())
        if labels:
            for name in ("label_probabilities", "label_accuracies"):
                box[name] = spaces.Box(0.0, 1.0, (labels,), np.float32)
        if self.max_demonstrations:
            heads.append(len(self.pool))
            shape = (self.max_demonstrations,)
            box["demonstrations"] = spaces.Box(0, len(self.pool), shape, np.int32)
        self.action_space = spaces.MultiDiscrete(heads)
        self.observation_space = spaces.Dict(box)

    def initial(self, rng: np.random.Generator) -> PromptState:
        """Return a start prompt: the only one, or one drawn uniformly."""
        choice = int(rng.integers(len(self.starts))) if len(self.starts) > 1 else 0
        return self.state_of(self.starts[choice])

    def state_of(self, prompt: Prompt) -> PromptState:
        """Return the start state for a prompt that fits."""
        state = super().state_of(prompt)
        if len(state.units) > self.max_words or len(state.demonstrations) > self.max_demonstrations:
            raise ConfigError(
                f"the start prompt has {len(state.units)} words and {len(state.demonstrations)} "
                f"demonstrations; max_words is {self.max_words}, max_demonstrations "
                f"{self.max_demonstrations}"
            )
        return state

    def apply(self, state: PromptState, action: Action) -> PromptState:
        """Do one edit; positions beyond the last mean the last."""
        operation = self.operations[int(action[0])]
        after = replace(state, step=state.step + 1, edit=operation, no_op=False)
        if operation == "stop":
            return replace(after, stopped=True, no_op=True)
        if operation in POOL_OPERATIONS:
            item = int(action[3])
            shown, note = edit(state.demonstrations, operation.split()[0], int(action[1]), item)
            after = replace(after, demonstrations=shown, edit=f"{operation} {note}".rstrip())
        else:
            word = self.vocabulary.units[int(action[2])]
            units, note = edit(state.units, operation, int(action[1]), word)
            after = replace(after, units=units, edit=f"{operation} {note}".rstrip())
        return replace(after, no_op=after.content == state.content)

    def mask(self, state: PromptState) -> BoolArray:
        """Return the legal actions, head after head, shape (sum(nvec),)."""
        n, k = len(state.units), len(state.demonstrations)
        legal = {
            "insert": n < self.max_words,
            "replace": n > 0,
            "delete": n > self.min_words,
            "stop": state.step > 0,
            "swap": n > 1,
            "insert demonstration": k < min(self.max_demonstrations, len(self.pool)),
            "remove demonstration": k > 0,
            "swap demonstrations": k > 1,
        }
        operations = np.array([legal[name] for name in self.operations])
        insert = int(legal["insert"])
        slots = k + int(legal["insert demonstration"]) if self.max_demonstrations else 0
        reach = max(n + insert, slots, 1)
        positions = np.arange(self.positions) < reach
        heads = [operations, positions, np.ones(len(self.vocabulary), dtype=np.bool_)]
        if self.max_demonstrations:
            free = np.ones(len(self.pool), dtype=np.bool_)
            free[list(state.demonstrations)] = False
            heads.append(free if free.any() else ~free)
        return np.concatenate(heads)

    def observe(self, state: PromptState, outcome: Outcome) -> Observation:
        """Return the prompt as ids, and what is known of it."""
        mask = np.zeros(self.max_words, dtype=np.int8)
        mask[: len(state.units)] = 1
        out: Observation = {
            "tokens": padded(self.vocabulary.ids(state.units), self.max_words),
            "mask": mask,
            "score": scalar(outcome.score),
            "value": np.clip(scalar(outcome.value), -VALUE_LIMIT, VALUE_LIMIT),
            "progress": scalar(min(1.0, state.step / self.horizon)),
            "budget_left": scalar(outcome.budget_left),
        }
        labels = len(self.problem.task.labels or ())
        if labels:
            nothing = (0.0,) * labels
            for name in ("label_probabilities", "label_accuracies"):
                values = getattr(outcome, name) or nothing
                out[name] = np.clip(np.array(values, dtype=np.float32), 0.0, 1.0)
        if self.max_demonstrations:
            ids = [i + 1 for i in state.demonstrations]
            out["demonstrations"] = padded(ids, self.max_demonstrations)
        return out

    def terminal(self, state: PromptState) -> bool:
        """End when stopped or at the horizon."""
        return state.stopped or state.step >= self.horizon


make, make_vec = entry_points(PromptEdit, shaping="delta", reward_scale=4.0)
