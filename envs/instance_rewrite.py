"""`InstanceRewrite-v0`: rewrite the input itself, one training example an episode."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, ClassVar

import numpy as np

from promptgym.envs.factory import entry_points
from promptgym.envs.mdp import PromptState
from promptgym.envs.outcome import Question
from promptgym.envs.prompt_rewrite import PromptRewrite, units_of
from promptgym.errors import ConfigError
from promptgym.problem import Problem
from promptgym.prompts import Prompt

META_PROMPT = (
    "Rewrite the following question so that it is specific, unambiguous and complete, and means "
    "what it meant. Output the new question only.\n{task}{earlier}Question: {prompt}"
)


class InstanceRewrite(PromptRewrite):
    """Rewrite an input of the task; the prompt stays as it is.

    ## Description

    Each episode shows one training input inside a meta-prompt. The action is the input in other
    words; the target model is asked with the problem's initial prompt about the rewritten input,
    and paid by the example's right answer. That is rewriting by the instance (Srivastava et al.
    2023; Question Rewriter, Chen et al. 2024), where `PromptRewrite-v0` rewrites by the task. The
    right answer is never shown, but a policy can learn to write answers into the input: look at
    what it writes.

    ## Action Space

    `Text(0, max_length, characters)`, as in `PromptRewrite-v0`: the new input.

    ## Observation Space

    As in `PromptRewrite-v0`; `prompt` is the input as it stands. The meta-prompt has the slots
    `{prompt}` (needed; the input), `{task}` and `{earlier}`.

    ## Starting State

    A training example, uniformly. There is no start at a given prompt.

    ## Rewards

    As in `PromptRewrite-v0`, of the one example: the change of v, or v itself where the original
    input is not scored (one turn). Rewards over classes (macro F1, GrIPS) mean nothing for one
    example.

    ## Episode End

    As in `PromptRewrite-v0`.

    ## Information

    As in `PromptEdit-v0`; `prompt` is the input as it stands, and a step asks one query.

    ## Arguments

    | argument | default | what |
    |---|---|---|
    | `turns` | 1 | rewrites an episode has |
    | `meta_prompt` | None | text with slots, see above; None for the default |
    | `max_length` | 160 | characters an input may have |
    | `alphabet` | "" | further characters of the texts |

    and those of the problem and the shell (see `promptgym.envs.factory`).

    ## References

    - Srivastava et al. 2023, "Instance Needs More Care: Rewriting Prompts for Instances Yields
      Better Zero-Shot Performance" (PRoMPTed).
    - Chen et al. 2024, "Putting People in LLMs' Shoes: Generating Better Answers via Question
      Rewriter".

    ## Version History

    - v0: first version.
    """

    default_meta_prompt: ClassVar[str] = META_PROMPT
    slots: ClassVar[tuple[str, ...]] = ("task", "earlier")

    def __init__(
        self,
        problem: Problem,
        *,
        turns: int = 1,
        meta_prompt: str | None = None,
        max_length: int = 160,
        alphabet: str = "",
    ) -> None:
        """Set the spaces; see the class for the arguments.

        Raises:
            ConfigError: for arguments that mean nothing.
        """
        more: dict[str, Any] = {"max_length": max_length, "alphabet": alphabet, "errors": 0}
        super().__init__(problem, turns=turns, meta_prompt=meta_prompt, **more)

    def initial(self, rng: np.random.Generator) -> PromptState:
        """Return a training input."""
        train = self.problem.task.train
        chosen = int(rng.integers(len(train)))
        return PromptState(units_of(train[chosen].input), examples=(chosen,))

    def state_of(self, prompt: Prompt) -> PromptState:
        """Refuse a start at a text of one's own: it would have no right answer.

        Raises:
            ConfigError: always.
        """
        raise ConfigError(
            "InstanceRewrite starts at a training example, drawn by the seed; "
            "reset(options={'prompt': ...}) is for PromptRewrite"
        )

    def question(self, state: PromptState) -> Question:
        """Ask the problem's own prompt about the input as it stands."""
        example = self.problem.task.train[state.examples[0]]
        asked = replace(example, input=" ".join(state.units), key="")
        return Question(self.problem.initial_prompt, (asked,))


make, make_vec = entry_points(InstanceRewrite, shaping="delta", reward_scale=1.0)
