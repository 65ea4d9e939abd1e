"""The driver of search methods: it owns budget, events, selection and resuming; they only search.

A method is a generator. It yields the prompts it wants scored and is sent an `Answer` to exactly
those, in their order. A batch that the budget cuts short is not answered: its complete prompts
still take part in the selection, and the search is over. A method that `proposes` may also yield a
`Propose` for the problem's proposer, and is sent `Proposals`. A `Note` is for the result only.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Generator, Sequence
from dataclasses import asdict, dataclass, field, is_dataclass
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from promptgym.errors import BudgetExhausted, ConfigError, PromptGymError
from promptgym.llms import Sampling
from promptgym.problem import Problem
from promptgym.prompts import Example, Prompt
from promptgym.scoring import Proposals, Race, Scores, race
from promptgym.search.ensemble import Ensemble
from promptgym.search.journal import describe, journaled
from promptgym.search.result import Result
from promptgym.search.selection import Selection, check_budget, dev_reserve
from promptgym.types import JSON, FloatArray

IDLE = 50
"""Requests to the proposer in a row, without a prompt asked between them, that end a search."""


@dataclass(frozen=True, slots=True)
class Ask:
    """What a method wants to know: prompts, on the whole training split or on some examples.

    Only prompts scored on the whole split take part in the selection.

    Attributes:
        prompts: whose scores.
        examples: on these only; None is the whole training split.
        dev: ask the whole dev split instead, for what a method chooses beside the best prompt (that
            one the driver chooses). Neither `examples` nor `race` go with it.
        race: ask about a few of the examples first, and about the rest only for prompts that are
            still in the race by their reward. `Scores.complete` says which those were; the reward
            of the others is that of the examples they were asked about.
    """

    prompts: Sequence[Prompt]
    examples: Sequence[Example] | None = None
    race: Race | None = None
    dev: bool = False


@dataclass(frozen=True, slots=True)
class Note:
    """What a method wants said in its `Result`; it is sent None, and the last word counts.

    Attributes:
        stats: numbers for `Result.stats`, as plain JSON.
        ensemble: prompts that answer together, for `Result.ensemble`.
    """

    stats: JSON = field(default_factory=dict)
    ensemble: Ensemble | None = None


@dataclass(frozen=True, slots=True)
class Propose:
    """What a method wants written; it is sent `Proposals`.

    Attributes:
        texts: what the proposer is asked; it answers each, equal ones independently.
        sampling: how completions are drawn.
        tag: proposals stand between `<tag>` and `</tag>`; None takes whole completions.
    """

    texts: Sequence[str]
    sampling: Sampling
    tag: str | None = None


@dataclass(frozen=True, slots=True)
class Answer:
    """What it is told.

    Attributes:
        scores: of the prompts asked, in their order.
        rewards: the problem's reward of each, shape (P,); NaN where every call failed.
    """

    scores: Scores
    rewards: FloatArray


Question = Ask | Sequence[Prompt] | Propose | Note
"""What a method yields."""
Search = Generator[Question, Any, None]
"""Of questions; it is sent an `Answer`, for a `Propose` its `Proposals`, for a `Note` None."""


class SearchMethod(ABC):
    """Base of the baselines: a frozen dataclass of options with a `search` generator.

    Attributes:
        name: registered name.
        endless: whether only the budget ends the search; then a problem without one is refused.
    """

    name: ClassVar[str]
    endless: ClassVar[bool] = True

    @property
    def proposes(self) -> bool:
        """Whether it asks the problem's proposer; then a problem without one is refused."""
        return False

    @abstractmethod
    def search(self, problem: Problem, rng: np.random.Generator) -> Search:
        """Yield what to score, take the answers.

        Args:
            problem: for its task, vocabulary and start; it is the driver that scores.
            rng: the only source of chance, so that a resumed search repeats itself.
        """

    def options(self) -> JSON:
        """Return the options as plain JSON."""
        return asdict(self) if is_dataclass(self) and not isinstance(self, type) else {}

    def check(self, problem: Problem) -> None:
        """Refuse a problem that cannot be searched, before anything is asked or written.

        Raises:
            ConfigError: for an endless method without a budget, a budget that reaches no prompt, or
                a missing proposer.
        """
        if self.proposes and problem.proposer is None:
            raise ConfigError(
                f"{self.name} asks a proposer for its prompts and the problem has none; give it a "
                "model that generates, e.g. proposer='tiny-rewriter' (embedded; --proposer)"
            )
        caps = asdict(problem.ledger.budget)
        if not self.proposes:
            caps = {kind: cap for kind, cap in caps.items() if not kind.startswith("proposer_")}
        if self.endless and not any(caps.values()):
            raise ConfigError(f"{self.name} ends with the budget only; give the problem a budget")
        check_budget(problem, lambda cap: dev_reserve(problem.task, cap))

    def optimize(
        self,
        problem: Problem,
        seed: int = 0,
        *,
        checkpoint_dir: str | Path | None = None,
        resume: bool = False,
    ) -> Result:
        """Search until the method or the budget ends; return the prompt chosen on dev.

        Args:
            problem: what is optimized.
            seed: of the method's random generator.
            checkpoint_dir: where the journal of scores is kept; None keeps none.
            resume: continue the run of that folder, bit-identically and at no model call for what
                it was told already.

        Raises:
            ConfigError: for a problem that `check` refuses, or a folder of another run.
            PromptGymError: if no prompt could be scored, or the proposer brought none.
        """
        self.check(problem)
        header = describe(problem, self.name, seed, self.options())
        return drive(self, journaled(problem, checkpoint_dir, header, resume), seed)


def drive(method: SearchMethod, problem: Problem, seed: int) -> Result:
    """Run the generator of a method against a problem and choose on dev."""
    selection = Selection(problem)
    search = method.search(problem, np.random.default_rng(seed))
    stats: dict[str, Any] = {"asks": 0, "prompts": 0}
    if method.proposes:
        stats |= {"requests": 0, "proposals": 0, "unparsable": 0}
    ensemble: Ensemble | None = None
    idle = 0
    try:
        ask = next(search)
        while idle < IDLE:
            if isinstance(ask, Note):
                stats |= ask.stats
                ensemble = ask.ensemble or ensemble
                ask = search.send(None)
                continue
            if isinstance(ask, Propose):
                ask = search.send(_proposals(problem, ask, stats))
                idle += 1
                continue
            idle = 0
            answer = _answer(method, problem, selection, ask)
            stats["asks"] += 1
            stats["prompts"] += len(answer.scores)
            ask = search.send(answer)
        if not stats["asks"]:
            raise PromptGymError(idle_warning(method, problem))
        problem.events.emit("warning", message=idle_warning(method, problem))
    except (StopIteration, BudgetExhausted):
        pass
    finally:
        search.close()
    best, finalists = selection.finish()
    stats["distinct"] = len(selection.known)
    return Result(
        method=method.name,
        seed=seed,
        best=best,
        candidates=finalists,
        history=tuple(selection.history),
        spent=problem.ledger.snapshot(),
        stats=stats,
        ensemble=ensemble,
    )


def _proposals(problem: Problem, ask: Propose, stats: dict[str, Any]) -> Proposals:
    """Have proposals written, and count them."""
    found = problem.propose(ask.texts, ask.sampling, tag=ask.tag)
    stats["requests"] += 1
    stats["proposals"] += len(found.parsed)
    stats["unparsable"] += found.parsed.count(None)
    return found


def idle_warning(method: SearchMethod, problem: Problem) -> str:
    """Return what is said when a proposer brings a search no further."""
    name = "" if problem.proposer is None else f" {problem.proposer.model.name!r}"
    return (
        f"{method.name} asked the proposer{name} {IDLE} times in a row and got no new prompt to "
        "score: the search ends here. What was written is in the events; a larger model, or a "
        "higher temperature, may help"
    )


def _answer(
    method: SearchMethod, problem: Problem, selection: Selection, ask: Ask | Sequence[Prompt]
) -> Answer:
    """Score what a method asks.

    Raises:
        BudgetExhausted: if not all of it fitted.
    """
    if not isinstance(ask, Ask):
        ask = Ask(ask)
    if not ask.prompts:
        raise PromptGymError(f"{method.name} asked for the scores of no prompt")
    if ask.dev:
        scores = problem.score(ask.prompts, split="dev")
        whole = bool(scores.complete.all())
        selection.learn_dev(scores)
    elif ask.race is None:
        scores = problem.score(ask.prompts, ask.examples)
        whole = bool(scores.complete.all())
    else:
        examples = problem.task.train if ask.examples is None else ask.examples
        scores, whole = race(problem.score, ask.prompts, examples, problem.rewards, ask.race)
    rewards = problem.rewards(scores)
    if ask.examples is None and not ask.dev:
        selection.observe(scores, rewards)
    if not whole:
        raise BudgetExhausted("the budget cut the last batch short")
    return Answer(scores, rewards)
