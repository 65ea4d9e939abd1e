"""PE2: a proposer is led step by step through a prompt's mistakes before it writes a new one.

Source: Ye et al., "Prompt Engineering a Prompt Engineer", ACL Findings 2024: the meta-prompt shows
how prompt and input make the text that the model reads (context specification), asks fixed
questions about each example (the reasoning template), and may hold optimizer notions in words:
batch size, step size (how many words may change) and momentum (the prompts before this one).
Defaults are those of its experiments: 3 steps, the 4 best prompts of all so far, 4 new ones of
each, batches of 2 mistakes, neither step size nor momentum (the published command line's own are 10
steps, 2 prompts, 2 new ones). The paper reasons and writes in two calls; here it is one completion,
at the temperature of the published writing call. The wording is this library's.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from promptgym.baselines.proposals import (
    END,
    ProposingMethod,
    Request,
    best_of,
    draw,
    fresh,
    shown,
    worth,
)
from promptgym.envs.outcome import mistakes
from promptgym.envs.text import fill
from promptgym.problem import Problem
from promptgym.prompts import Example, Prompt
from promptgym.ranges import COUNT, NOT_NEGATIVE, check_ranges
from promptgym.search.driver import Answer, Search

META = f"""A language model does this task: {{task}}
What it reads is made after this template, in which {{braces}} stands for the instruction:
{{template}}
{{history}}The instruction is now:
<prompt>{{prompt}}</prompt>
Examples:

{{errors}}

For each example, reason step by step:
1. Is the model's answer right?
2. Does the instruction say correctly and completely what to do here?
3. Must the instruction be changed for the model to answer right, and how?
Then write the new instruction.{{limit}} {END}"""
Wrong = list[tuple[Example, str]]


@dataclass(frozen=True)
class PE2(ProposingMethod):
    """Expands the best prompts by reasoned edits for some steps.

    Attributes:
        steps: of optimization.
        beam: prompts expanded in a step, the best of all so far.
        expand: new prompts asked of each, each from other mistakes.
        batch: mistakes shown at a time.
        step_size: words that may change; None says nothing about it.
        history: earlier prompts of the same line, with their scores, that are shown (momentum);
            those of which every call failed are not.
    """

    name: ClassVar[str] = "pe2"
    endless: ClassVar[bool] = False
    temperature: float = 0.7
    max_tokens: int = 512
    steps: int = 3
    beam: int = 4
    expand: int = 4
    batch: int = 2
    step_size: int | None = None
    history: int = 0

    def __post_init__(self) -> None:
        """Refuse numbers that mean nothing."""
        super().__post_init__()
        counts = ("steps", "beam", "expand", "batch", "step_size")
        check_ranges(self.name, self, {COUNT: counts, NOT_NEGATIVE: ("history",)})

    def search(self, problem: Problem, rng: np.random.Generator) -> Search:
        """Expand the best, ask what comes of it, and again."""
        asked = [problem.initial_prompt]
        seen = set(asked)
        lines: dict[Prompt, list[Prompt]] = {asked[0]: []}
        values: dict[Prompt, float] = {}
        scores: dict[Prompt, float] = {}
        wrong: dict[Prompt, Wrong] = {}
        for step in range(self.steps + 1):
            if asked:
                answer: Answer = yield asked
                values |= dict(zip(asked, worth(answer).tolist(), strict=True))
                scores |= dict(zip(asked, answer.scores.mean.tolist(), strict=True))
                for row, prompt in enumerate(asked):
                    found = mistakes(problem, answer.scores, row)
                    wrong[prompt] = [(answer.scores.examples[i], given) for i, given in found]
            if step == self.steps:
                return
            parents = [p for p in best_of(values, self.beam) for _ in range(self.expand)]
            requests = []
            for parent in parents:
                known = [(p, scores[p]) for p in lines[parent] if not np.isnan(scores[p])]
                earlier = known[-self.history :] if self.history else []
                requests.append(self._request(problem, rng, parent, wrong[parent], earlier))
            texts = yield from self.write(problem, rng, requests)
            asked = []
            for parent, text in zip(parents, texts, strict=True):
                for prompt in fresh([text], parent, seen):
                    lines[prompt] = [*lines[parent], parent]
                    asked.append(prompt)

    def _request(
        self,
        problem: Problem,
        rng: np.random.Generator,
        prompt: Prompt,
        wrong: Wrong,
        earlier: list[tuple[Prompt, float]],
    ) -> Request:
        """Return the meta-prompt for a prompt, with some of its mistakes.

        Without a mistake it shows training examples with their right answers.
        """
        if wrong:
            picks = rng.choice(len(wrong), size=min(self.batch, len(wrong)), replace=False)
            some = [wrong[i] for i in picks.tolist()]
            errors = shown(problem, [e for e, _ in some], [given for _, given in some])
        else:
            errors = shown(problem, draw(rng, problem.task.train, self.batch))
        told = [f"{p.instruction} (score {round(100 * value)})" for p, value in earlier]
        limit = f" Change {self.step_size} words of it at most." if self.step_size else ""
        slots = {
            "task": problem.task.description or problem.task.name,
            "braces": "{prompt}",
            "template": problem.template.text,
            "history": "\n".join(["It was before, oldest first:", *told, ""]) if told else "",
            "prompt": prompt.instruction,
            "errors": errors,
            "limit": limit,
        }
        return Request(fill(META, slots), prompt.instruction)
