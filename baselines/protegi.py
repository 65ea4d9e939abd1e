"""ProTeGi: a proposer says what is wrong with a prompt, and edits it accordingly; a beam of those.

Source: Pryzant et al., "Automatic Prompt Optimization with 'Gradient Descent' and Beam Search",
EMNLP 2023, algorithms 1-4. A step takes each prompt of the beam, shows the proposer some of its
mistakes on a minibatch and asks for a reason (the "gradient"), then for a prompt that mends it,
then for variants of that prompt ("Monte Carlo"); a bandit chooses the next beam. The numbers are
those of the published code; its default selection is brute force ("all"), the paper's comparison
favours UCB, the default here. The wording of the requests is this library's.
"""

from __future__ import annotations

from collections.abc import Generator
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from promptgym.baselines.ape import vary
from promptgym.baselines.bandits import Kind, Pulls, choose
from promptgym.baselines.proposals import END, ProposingMethod, Request, draw, fresh, shown
from promptgym.envs.outcome import mistakes
from promptgym.envs.text import fill
from promptgym.problem import Problem
from promptgym.prompts import Prompt
from promptgym.ranges import COUNT, NOT_NEGATIVE, check_ranges
from promptgym.search.driver import Answer, Ask, Propose, Search

REASON = "reason"
CRITICIZE = f"""A language model is given this instruction:
<prompt>{{prompt}}</prompt>
and with it, it gets these examples wrong:

{{errors}}

What about the instruction may have led to these mistakes? Give one reason.
Write it between <{REASON}> and </{REASON}>."""
EDIT = f"""A language model is given this instruction:
<prompt>{{prompt}}</prompt>
and with it, it gets these examples wrong:

{{errors}}

What seems to be wrong with the instruction: {{reason}}

Write an instruction that mends this. {END}"""


@dataclass(frozen=True)
class ProTeGi(ProposingMethod):
    """Improves a beam of prompts by criticism for some rounds.

    Attributes:
        rounds: optimization steps.
        beam: prompts kept after each.
        minibatch: training examples on which a round looks for mistakes.
        gradients: reasons asked for each prompt, each from other mistakes.
        errors: mistakes shown for one reason.
        edits: new prompts asked for each reason.
        variants: variants asked of each new prompt, and of each of the beam.
        expansion: successors of one prompt at most, drawn at random.
        selection: how the next beam is chosen: "ucb", "ucb-e", "sr" (successive rejects), "sh"
            (successive halving), or "all" (every candidate on every example).
        pulls: rounds of UCB and UCB-E.
        pulled: prompts asked in each.
        samples: examples they are asked about.
        exploration: the c of their bounds.

    The beam chosen from few examples is then asked about all, for the choice on dev.
    """

    name: ClassVar[str] = "protegi"
    endless: ClassVar[bool] = False
    temperature: float = 0.7
    max_tokens: int = 1024
    rounds: int = 6
    beam: int = 4
    minibatch: int = 64
    gradients: int = 4
    errors: int = 4
    edits: int = 1
    variants: int = 2
    expansion: int = 8
    selection: Kind = "ucb"
    pulls: int = 8
    pulled: int = 8
    samples: int = 32
    exploration: float = 1.0

    def __post_init__(self) -> None:
        """Refuse numbers that mean nothing, and unknown selections."""
        super().__post_init__()
        counts = ("rounds", "beam", "minibatch", "gradients", "errors", "edits", "expansion")
        bandit = ("pulls", "pulled", "samples")
        numbers = {COUNT: (*counts, *bandit), NOT_NEGATIVE: ("variants", "exploration")}
        check_ranges(self.name, self, numbers)

    def search(self, problem: Problem, rng: np.random.Generator) -> Search:
        """Expand the beam and choose the next one, round after round."""
        beam, whole = [problem.initial_prompt], set[Prompt]()
        pulls = Pulls(self.pulls, self.pulled, self.samples, self.exploration)
        for _ in range(self.rounds):
            if new := [p for p in beam if p not in whole]:
                yield new
                whole |= set(new)
            candidates = [*beam, *(yield from self._expand(problem, rng, beam))]
            if len(candidates) > self.beam:
                kept = yield from choose(self.selection, problem, rng, candidates, self.beam, pulls)
                candidates = [candidates[i] for i in kept]
            beam = candidates
        if new := [p for p in beam if p not in whole]:
            yield new

    def _expand(
        self, problem: Problem, rng: np.random.Generator, beam: list[Prompt]
    ) -> Generator[Ask | Propose, Any, list[Prompt]]:
        """Return new prompts: edits of the beam's and their variants (algorithm 2)."""
        answer: Answer = yield Ask(beam, draw(rng, problem.task.train, self.minibatch))
        asked: list[tuple[int, str]] = []
        for row in range(len(beam)):
            wrong = mistakes(problem, answer.scores, row)
            for _ in range(self.gradients if wrong else 0):
                picks = rng.choice(len(wrong), size=min(self.errors, len(wrong)), replace=False)
                some = [wrong[i] for i in picks.tolist()]
                examples = [answer.scores.examples[j] for j, _ in some]
                asked.append((row, shown(problem, examples, [given for _, given in some])))
        edited: list[tuple[int, str]] = []
        if asked:
            edited = yield from self._edit(problem, rng, beam, asked)
        origins = edited + [(row, prompt.instruction) for row, prompt in enumerate(beam)]
        requests = [(row, vary(text)) for row, text in origins for _ in range(self.variants)]
        if requests:
            texts = yield from self.write(problem, rng, [r for _, r in requests])
            edited += [(row, t) for (row, _), t in zip(requests, texts, strict=True) if t]
        out: list[Prompt] = []
        seen = set(beam)
        for row, parent in enumerate(beam):
            children = fresh((text for of, text in edited if of == row), parent, seen)
            picks = rng.permutation(len(children))[: self.expansion]
            out += [children[i] for i in picks.tolist()]
        return out

    def _edit(
        self,
        problem: Problem,
        rng: np.random.Generator,
        beam: list[Prompt],
        asked: list[tuple[int, str]],
    ) -> Generator[Propose, Any, list[tuple[int, str]]]:
        """Return (row of the beam, edited instruction) for mistakes of prompts: two requests."""
        texts = [beam[row].instruction for row, _ in asked]
        slots = [{"prompt": t, "errors": e} for t, (_, e) in zip(texts, asked, strict=True)]
        criticism = [Request(fill(CRITICIZE, s), s["prompt"]) for s in slots]
        reasons = yield from self.write(problem, rng, criticism, REASON)
        requests = [
            (row, Request(fill(EDIT, {**s, "reason": reason}), s["prompt"]))
            for (row, _), s, reason in zip(asked, slots, reasons, strict=True)
            if reason is not None
            for _ in range(self.edits)
        ]
        if not requests:
            return []
        found = yield from self.write(problem, rng, [r for _, r in requests])
        return [(row, text) for (row, _), text in zip(requests, found, strict=True) if text]
