"""`PromptRewrite-v0`: rewrite a whole prompt at once (PRewrite's MDP)."""

from __future__ import annotations

from dataclasses import replace
from typing import ClassVar, Literal

import numpy as np
from gymnasium import spaces

from promptgym.envs.factory import entry_points
from promptgym.envs.mdp import Action, Observation, PromptMDP, PromptState, scalar
from promptgym.envs.outcome import Outcome, Question
from promptgym.envs.text import characters, check_slots, clean, fill
from promptgym.errors import ConfigError
from promptgym.problem import Problem
from promptgym.prompts import Example, Prompt
from promptgym.types import BoolArray

VALUE_LIMIT = 10.0
TEXT_LIMIT = 16_384  # characters of an observation; what is longer is cut
EARLIER = 8  # prompts of an episode that are shown with their scores
TURN_ERRORS = 3  # wrongly answered examples that are shown where an episode has several turns
MISTAKES = ("errors", "responses", "truths")
"""Slots of a meta-prompt that show wrongly answered examples."""
META_PROMPT = (
    "Rewrite the following instruction via rephrasing and/or adding specific requirements. Add "
    "instructions which would be helpful to solve the problem correctly. Output the new "
    "instruction only.\n{task}{earlier}{errors}Instruction: {prompt}"
)


class PromptRewrite(PromptMDP):
    """Rewrite a whole prompt; one action is a whole text.

    ## Description

    Each episode shows a draft prompt inside a meta-prompt, which tells a language model what to do
    with it. The action is the new prompt, as text. It is scored on the training split. This is the
    setting of PRewrite (Kong et al. 2024), where the policy is a language model: one turn, the
    prompt rewritten for the task as a whole. With `turns=K` the policy sees how its rewrite did and
    tries again. `InstanceRewrite-v0` rewrites each input instead.

    ## Action Space

    `Text(0, max_length, characters)`: printable ASCII, the line break, and every character of the
    task's own texts (and of `alphabet`). What a model writes outside is normalized, not refused:
    typographic quotes, dashes, ligatures, fractions and signs become plain ones, accents are
    dropped, other characters become spaces, space around the text is stripped, and what is then
    longer is cut (`info["edit"]` says so).
    Any text is legal; the action mask is empty, shape (0,).

    ## Observation Space

    | key | space | what |
    |---|---|---|
    | `text` | `Text(0, 16384, characters)` | the filled meta-prompt: what a policy reads |
    | `prompt` | `Text(0, ..., characters)` | the prompt as it stands |
    | `score` | `Box(0, 1, (1,))` | the metric of the prompt |
    | `value` | `Box(-10, 10, (1,))` | its reward / the reward of a perfect prompt |
    | `progress` | `Box(0, 1, (1,))` | turns taken / turns |
    | `budget_left` | `Box(0, 1, (1,))` | share of the query cap that remains; 1 without a cap |

    The meta-prompt has the slots `{prompt}` (needed), `{task}` (the task's description), `{errors}`
    (wrongly answered training examples with the answer given and the right one; `{responses}` has
    only the first, `{truths}` only the second) and `{earlier}` (the prompts of this episode so far
    with their scores). A slot with nothing to say is empty. Numbers that are not known are 0.

    ## Starting State

    `start="initial"`: the problem's initial prompt. `start="manual"`: one of the task's manual
    prompts, uniformly. With `examples=n` each episode draws n training examples, on which all of
    its prompts are scored. `reset(options={"prompt": ...})` starts at a given prompt, on all of
    them. The draft is scored only where something depends on it: with several turns or `errors`.

    ## Rewards

    `v(after) - v(before)`, where v(p) = `reward_scale` x (reward of p) / (reward of a perfect
    prompt); where the draft is not scored its v counts as 0, so that with one turn the reward is
    what the rewrite is worth. `shaping="absolute"` pays v(after) each turn. The problem's `reward`
    is any of the library's; PRewrite's are `"accuracy"`, `"f1"`, `"answer_perplexity"` and their
    weighted sums.

    ## Episode End

    - Termination: after `turns` rewrites.
    - Truncation: the budget is spent (`info["budget_exhausted"]`) or each call for the prompt
      failed (`info["score_failed"]`); the reward 0.0 of that step is not a score.

    ## Information

    As in `PromptEdit-v0`. `queries` counts the examples drawn only, with `examples=n`.

    ## Arguments

    | argument | default | what |
    |---|---|---|
    | `turns` | 1 | rewrites an episode has |
    | `start` | "initial" | "initial" or "manual" |
    | `examples` | None | training examples an episode is scored on; None for all |
    | `errors` | None | wrong answers shown; None for 0 with one turn, else 3 |
    | `meta_prompt` | None | text with slots, see above; None for PRewrite's |
    | `max_length` | 160 | characters a prompt may have |
    | `alphabet` | "" | further characters of the texts |

    and those of the problem and the shell (see `promptgym.envs.factory`). 160 characters are what
    the embedded models can read beside an input; give chat models more.

    ## References

    Kong et al. 2024, "PRewrite: Prompt Rewriting with Reinforcement Learning", ACL; the meta-prompt
    is the paper's, with slots before the instruction.

    ## Version History

    - v0: first version.
    """

    archivable = False
    default_meta_prompt: ClassVar[str] = META_PROMPT
    slots: ClassVar[tuple[str, ...]] = ("task", "earlier", *MISTAKES)

    def __init__(
        self,
        problem: Problem,
        *,
        turns: int = 1,
        start: Literal["initial", "manual"] = "initial",
        examples: int | None = None,
        errors: int | None = None,
        meta_prompt: str | None = None,
        max_length: int = 160,
        alphabet: str = "",
    ) -> None:
        """Set the spaces; see the class for the arguments.

        Raises:
            ConfigError: for arguments that mean nothing, or start prompts that do not fit.
        """
        super().__init__(problem)
        size = len(problem.task.train)
        self.turns, self.examples, self.max_length = turns, examples, max_length
        self.errors = (TURN_ERRORS if turns > 1 else 0) if errors is None else errors
        self.meta_prompt = self.default_meta_prompt if meta_prompt is None else meta_prompt
        check_slots(self.meta_prompt, "prompt", self.slots, "meta_prompt")
        if turns < 1 or max_length < 1 or self.errors < 0:
            raise ConfigError(
                f"turns and max_length must be >= 1 and errors >= 0, got turns {turns}, "
                f"max_length {max_length}, errors {errors}"
            )
        if start not in ("initial", "manual"):
            raise ConfigError(f"start must be 'initial' or 'manual', got {start!r}")
        if examples is not None and not 1 <= examples <= size:
            raise ConfigError(
                f"examples must be between 1 and the {size} of the training split, got {examples}"
            )
        self.starts = (
            (problem.initial_prompt,) if start == "initial" else problem.task.manual_prompts
        )
        self.characters = characters(self._texts(), alphabet)
        shown = max(map(len, self._texts()))
        text = self._space(TEXT_LIMIT)
        self.action_space = self._space(max_length)
        self.observation_space = spaces.Dict(
            {
                "text": text,
                "prompt": self._space(max(max_length, shown)),
                "score": spaces.Box(0.0, 1.0, (1,), np.float32),
                "value": spaces.Box(-VALUE_LIMIT, VALUE_LIMIT, (1,), np.float32),
                "progress": spaces.Box(0.0, 1.0, (1,), np.float32),
                "budget_left": spaces.Box(0.0, 1.0, (1,), np.float32),
            }
        )
        for prompt in self.starts:
            PromptRewrite.state_of(self, prompt)

    def _texts(self) -> list[str]:
        """Return every text that may have to be shown."""
        task = self.problem.task
        prompts = (*self.starts, *task.manual_prompts, *task.reference_prompts)
        examples = (*task.train, *(d for p in prompts for d in p.demonstrations))
        return [
            self.meta_prompt,
            task.description,
            *(task.labels or ()),
            *(p.instruction for p in prompts),
            *(text for e in examples for text in (e.input, *e.answers)),
        ]

    def _space(self, length: int) -> spaces.Text:
        """Return the space of texts up to a length."""
        return spaces.Text(length, min_length=0, charset=self.characters)

    def initial(self, rng: np.random.Generator) -> PromptState:
        """Return a draft, and the examples of the episode."""
        choice = int(rng.integers(len(self.starts))) if len(self.starts) > 1 else 0
        state = self.state_of(self.starts[choice])
        if self.examples is None:
            return state
        drawn = rng.choice(len(self.problem.task.train), size=self.examples, replace=False)
        return replace(state, examples=tuple(sorted(drawn.tolist())))

    def state_of(self, prompt: Prompt) -> PromptState:
        """Return the start state for a prompt; its text is kept to the character."""
        state = super().state_of(prompt)
        if strange := sorted(set(prompt.instruction) - self.characters):
            raise ConfigError(
                f"the start prompt holds {''.join(strange)!r}; add that to `alphabet`"
            )
        return replace(state, units=units_of(prompt.instruction))

    def prompt(self, state: PromptState) -> Prompt:
        """Return the prompt of a state."""
        return replace(super().prompt(state), instruction=" ".join(state.units))

    def apply(self, state: PromptState, action: Action) -> PromptState:
        """Put the text in the place of the prompt, normalized."""
        whole = clean(str(action), self.characters)
        text, cut = whole[: self.max_length].strip(), len(whole) > self.max_length
        after = replace(
            state,
            units=units_of(text),
            step=state.step + 1,
            edit=f"rewrite, cut at {self.max_length} characters" if cut else "rewrite",
        )
        return replace(after, no_op=after.content == state.content)

    def mask(self, state: PromptState) -> BoolArray:
        """Return the empty mask: any text is legal."""
        return np.ones(0, dtype=np.bool_)

    def terminal(self, state: PromptState) -> bool:
        """End after the last turn."""
        return state.step >= self.turns

    def wants_score(self, state: PromptState) -> bool:
        """Ask about rewrites, and about the draft where it matters."""
        return state.step > 0 or self.turns > 1 or self.errors > 0

    def question(self, state: PromptState) -> Question:
        """Ask on the examples of the episode."""
        train = self.problem.task.train
        chosen = tuple(train[i] for i in state.examples) or None
        return Question(self.prompt(state), chosen, self.errors)

    def remember(self, state: PromptState, outcome: Outcome) -> PromptState:
        """Keep each prompt of the episode with its score."""
        pair = (" ".join(state.units), round(outcome.score, 4))
        return state if pair in state.earlier else replace(state, earlier=(*state.earlier, pair))

    def observe(self, state: PromptState, outcome: Outcome) -> Observation:
        """Return the filled meta-prompt, and what is known of the prompt."""
        text = " ".join(state.units)
        values = {
            "prompt": text,
            "task": section("Task", [self.problem.task.description]),
            "earlier": section(
                "Instructions so far and their scores",
                [f"{prompt} (score {score:.3f})" for prompt, score in state.earlier[-EARLIER:]],
            ),
            **self._mistakes(state, outcome),
        }
        return {
            "text": fill(self.meta_prompt, values)[:TEXT_LIMIT],
            "prompt": text,
            "score": scalar(outcome.score),
            "value": np.clip(scalar(outcome.value), -VALUE_LIMIT, VALUE_LIMIT),
            "progress": scalar(min(1.0, state.step / self.turns)),
            "budget_left": scalar(outcome.budget_left),
        }

    def _mistakes(self, state: PromptState, outcome: Outcome) -> dict[str, str]:
        """Return the slots of the wrongly answered examples."""
        train = self.problem.task.train
        asked: list[Example] = [train[i] for i in state.examples] or list(train)
        rows = [
            (asked[i].input, clean(answer, self.characters, self.max_length), asked[i].target)
            for i, answer in outcome.mistakes
        ]
        lines = (
            [f"{given} -> {answer} (right: {right})" for given, answer, right in rows],
            [f"{given} -> {answer}" for given, answer, _ in rows],
            [f"{given} -> {right}" for given, _, right in rows],
        )
        titles = (
            "Examples that went wrong",
            "Examples that went wrong, with the answers given",
            "Examples that went wrong, with the right answers",
        )
        return dict(zip(MISTAKES, map(section, titles, lines), strict=True))


def units_of(text: str) -> tuple[str, ...]:
    """Cut a text at its spaces; joined with spaces it is the same text again."""
    return tuple(text.split(" ")) if text else ()


def section(title: str, lines: list[str]) -> str:
    """Return a titled block of the meta-prompt; "" if it has nothing to say."""
    said = [line for line in lines if line]
    if len(said) == 1:
        return f"{title}: {said[0]}\n"
    return "".join([f"{title}:\n", *(f"- {line}\n" for line in said)]) if said else ""


make, make_vec = entry_points(PromptRewrite, shaping="delta", reward_scale=1.0)
