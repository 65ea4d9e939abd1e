"""SPO: a proposer improves a prompt and judges by the outputs, two at a time, without a label.

Source: Xiang et al., "Self-Supervised Prompt Optimization", EMNLP Findings 2025, algorithm 1, and
the published code for the numbers: 10 rounds (of which the first there only runs the start prompt),
3 samples a round, 4 judgements of which more than half must be for the new prompt (a tie keeps the
old one), temperature 0.7 to write and 0.3 to judge. The wording of the requests is this library's.
"""

from __future__ import annotations

from collections.abc import Generator, Sequence
from dataclasses import dataclass, replace
from typing import Any, ClassVar

import numpy as np

from promptgym.baselines.proposals import END, ProposingMethod, Request, draw
from promptgym.envs.outcome import said
from promptgym.envs.text import fill
from promptgym.problem import Problem
from promptgym.prompts import Example, Prompt
from promptgym.ranges import COUNT, NOT_NEGATIVE, check_ranges
from promptgym.search.driver import Answer, Ask, Propose, Search

CHOICE = "choice"
IMPROVE = f"""A language model does this task: {{task}}
It is given this instruction:
<prompt>{{prompt}}</prompt>
What it then answers:

{{outputs}}

Think about what could be better about these answers, and write an instruction that leads to better
ones. {END}"""
JUDGE = f"""A language model does this task: {{task}}
It did so twice, with different instructions.

Answers A:

{{first}}

Answers B:

{{second}}

Which answers do the task better, A or B? Write the letter between <{CHOICE}> and </{CHOICE}>."""


@dataclass(frozen=True)
class SPO(ProposingMethod):
    """Has the best prompt improved, and takes the new one if its outputs win most comparisons.

    The method reads no label. Each prompt that wins is then asked about the whole training split,
    so that the driver can choose among the winners on dev, as it does for every method.

    Attributes:
        rounds: of improvement.
        samples: training inputs whose outputs are compared, drawn anew each round.
        judgements: comparisons a round; the two sides change places from one to the next.
        judge_temperature: of the judge's draws.
    """

    name: ClassVar[str] = "spo"
    endless: ClassVar[bool] = False
    temperature: float = 0.7
    rounds: int = 10
    samples: int = 3
    judgements: int = 4
    judge_temperature: float = 0.3

    def __post_init__(self) -> None:
        """Refuse numbers that mean nothing."""
        super().__post_init__()
        counts = ("rounds", "samples", "judgements")
        check_ranges(self.name, self, {COUNT: counts, NOT_NEGATIVE: ("judge_temperature",)})

    def search(self, problem: Problem, rng: np.random.Generator) -> Search:
        """Improve, compare, keep the winner."""
        best = problem.initial_prompt
        yield [best]
        for _ in range(self.rounds):
            examples = draw(rng, problem.task.train, self.samples)
            answer: Answer = yield Ask([best], examples)
            old = outputs(problem, answer, examples)
            slots = {"prompt": best.instruction, "outputs": old}
            request = Request(fill(IMPROVE, {"task": described(problem), **slots}), slots["prompt"])
            (text,) = yield from self.write(problem, rng, [request])
            new = best if text is None else replace(best, instruction=text)
            if new == best:
                continue
            answer = yield Ask([new], examples)
            if (yield from self._wins(problem, rng, outputs(problem, answer, examples), old, best)):
                best = new
                yield [best]

    def _wins(
        self, problem: Problem, rng: np.random.Generator, new: str, old: str, best: Prompt
    ) -> Generator[Propose, Any, bool]:
        """Return whether more than half of the judgements are for the new outputs.

        A judgement that cannot be read is for nobody.
        """
        requests = []
        for number in range(self.judgements):
            first, second = (new, old) if number % 2 == 0 else (old, new)
            slots = {"task": described(problem), "first": first, "second": second}
            requests.append(Request(fill(JUDGE, slots), best.instruction))
        found = yield from self.write(
            problem, rng, requests, CHOICE, temperature=self.judge_temperature
        )
        votes = sum(choice == "AB"[number % 2] for number, choice in enumerate(found))
        return votes > self.judgements / 2


def described(problem: Problem) -> str:
    """Return what the task is, in words: its description, else its name."""
    return problem.task.description or problem.task.name


def outputs(problem: Problem, answer: Answer, examples: Sequence[Example]) -> str:
    """Return the inputs with what the model answered to each."""
    lines = []
    for i, example in enumerate(examples):
        given = said(problem, answer.scores, 0, i)
        given = problem.task.words_for(given) if problem.task.labels else given
        lines.append(f"Input: {example.input}\nAnswer: {given}")
    return "\n\n".join(lines)
