"""What all learned policies share: a run's journal, checkpoints, and the result.

A run with a folder keeps a journal of all scores and, every so many updates, a checkpoint; resuming
reads the checkpoint and repeats what came after it with the journal's scores, so it is exact
wherever the run was stopped.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import asdict, replace
from numbers import Integral
from pathlib import Path
from typing import Any, ClassVar, Self, TypeVar

from promptgym.agents.checkpoint import (
    Tensors,
    of_this_version,
    read_checkpoint,
    write_checkpoint,
)
from promptgym.errors import ConfigError
from promptgym.problem import Problem
from promptgym.prompts import Prompt
from promptgym.search import Result, Selection
from promptgym.search.journal import JournaledProblem, describe, journaled
from promptgym.search.selection import check_budget, dev_reserve
from promptgym.tasks import split_hash
from promptgym.types import JSON

Config = TypeVar("Config")

SAMPLES = 32
"""Prompts of a trained policy that its result shows."""


class Agent(ABC):
    """Base of agents: `learn` and `optimize` around a training loop of their own.

    Attributes:
        name: registered name.
        config: a frozen dataclass with at least `checkpoint_every`.
        log: rows of statistics.
        step: updates done.
        records: how many records of its journal the run had used at the end of the last update.
    """

    name: ClassVar[str]
    carried: ClassVar[tuple[str, ...]] = ("step", "records", "log")
    """Attributes that a checkpoint holds beside the state."""

    config: Any
    log: list[JSON]
    step: int
    records: int

    def _check(self, problem: Problem) -> None:  # noqa: B027  # by default nothing is refused
        """Refuse a problem that this agent cannot be trained on, before anything is written."""

    @abstractmethod
    def _prepare(self, problem: Problem, selection: Selection | None, seed: int) -> None:
        """Make everything that is trained or drawn from anew."""

    @abstractmethod
    def _train(self, problem: Problem, selection: Selection | None, file: Path | None) -> None:
        """Train from where the agent is until the steps or the budget are spent.

        Args:
            problem: what is optimized.
            selection: is shown every score, if given.
            file: for `_checkpoint`, after updates for which it is due.
        """

    @abstractmethod
    def _take_in(
        self, problem: Problem, selection: Selection | None, prompts: list[Prompt]
    ) -> None:
        """Ask for prompts as training did before the checkpoint; the journal answers."""

    @abstractmethod
    def _show(self, problem: Problem, seed: int) -> tuple[Prompt, list[Prompt]]:
        """Return the trained policy's greedy prompt and samples of it, for the result."""

    @abstractmethod
    def _get_state(self) -> tuple[Tensors, JSON]:
        """Return all that training goes on from, as it was when the step under way began."""

    @abstractmethod
    def _set_state(self, tensors: Tensors, state: JSON) -> None:
        """Take back what `_get_state` returned."""

    def _more(self, problem: Problem) -> JSON:
        """Return further figures for the result.

        `named`, name -> prompt, are measured on held-out examples beside the one chosen.
        """
        return {}

    def _reserve(self, problem: Problem, cap: int) -> int:
        """Return the queries of a cap that training leaves for `_show`."""
        return 0

    def check(self, problem: Problem) -> None:
        """Refuse a problem that cannot be optimized, before anything is asked or written.

        Raises:
            ConfigError: if the problem is none for this agent, or its budget reaches no prompt.
        """
        self._check(problem)
        check_budget(
            problem, lambda cap: dev_reserve(problem.task, cap) + self._reserve(problem, cap)
        )

    def learn(
        self,
        problem: Problem,
        seed: int = 0,
        *,
        selection: Selection | None = None,
        checkpoint_dir: str | Path | None = None,
        resume: bool = False,
    ) -> Self:
        """Train anew until the steps or the budget are spent.

        Args:
            problem: what is optimized.
            seed: of initialization and sampling.
            selection: is shown every score, if given.
            checkpoint_dir: where journal and checkpoints are kept; None keeps none.
            resume: continue what that folder holds, exactly.

        Returns:
            The agent.

        Raises:
            ConfigError: if the problem is none for this agent, or the folder holds another run, or
                one that is not to be resumed.
        """
        check_budget(problem, lambda cap: 0)
        problem = self._journaled(problem, seed, checkpoint_dir, resume)
        self._prepare(problem, selection, seed)
        self.log, self.step, self.records = [], 0, 0
        folder = None if checkpoint_dir is None else Path(checkpoint_dir)
        file = None if folder is None else folder / f"{self.name}.safetensors"
        if file is not None and file.exists():
            self._continue(problem, selection, file)
        self._train(problem, selection, file)
        return self

    def optimize(
        self,
        problem: Problem,
        seed: int = 0,
        *,
        checkpoint_dir: str | Path | None = None,
        resume: bool = False,
    ) -> Result:
        """Train and return the prompt chosen on dev, with the policy's own prompts.

        Args: as of `learn`.

        Raises:
            ConfigError: as `learn`.
            PromptGymError: if no prompt could be scored.
        """
        self.check(problem)
        problem = self._journaled(problem, seed, checkpoint_dir, resume)
        selection = Selection(problem)
        cap = problem.ledger.budget.queries
        reserve = 0 if cap is None else self._reserve(problem, cap)
        problem.ledger.reserved += reserve
        self.learn(problem, seed, selection=selection, checkpoint_dir=checkpoint_dir, resume=resume)
        problem.ledger.reserved -= reserve
        greedy, samples = self._show(problem, seed)
        best, finalists = selection.finish()
        return Result(
            method=self.name,
            seed=seed,
            best=best,
            candidates=finalists,
            history=tuple(selection.history),
            spent=problem.ledger.snapshot(),
            policy={"greedy": greedy.to_json(), "samples": [p.to_json() for p in samples]},
            stats={
                "steps": self.step,
                "distinct": len(selection.known),
                "log": self.log,
                **self._more(problem),
            },
        )

    def _count(self, problem: Problem, row: JSON, *, keep: bool = True) -> JSON:
        """Count a finished update; what is asked next belongs to the next one.

        Args:
            problem: what is optimized.
            row: the update's statistics.
            keep: put them into the log.

        Returns:
            The row with the step and the queries spent.
        """
        self.step += 1
        row = {"step": self.step, "queries": problem.ledger.queries, **row}
        if keep:
            self.log.append(row)
        self.records = position(problem)
        return row

    def _journaled(
        self, problem: Problem, seed: int, folder: str | Path | None, resume: bool
    ) -> Problem:
        """Return the problem with the run's journal, if there is a folder and none is open."""
        self._check(problem)
        if isinstance(problem, JournaledProblem):
            return problem
        header = describe(problem, self.name, seed, asdict(self.config))
        return journaled(problem, folder, header, resume)

    def _checkpoint_if_due(self, file: Path | None) -> None:
        """Write a checkpoint if there is a file for it and it is time."""
        if file is not None and self.step % self.config.checkpoint_every == 0:
            self._checkpoint(file)

    def _checkpoint(self, file: Path) -> None:
        """Write the state, with the journal's position it belongs to."""
        tensors, state = self._get_state()
        own = {name: getattr(self, name) for name in self.carried}
        write_checkpoint(file, tensors, {"agent": state, **own})

    def _continue(self, problem: Problem, selection: Selection | None, file: Path) -> None:
        """Take the journal in up to the checkpoint, then the checkpoint.

        Raises:
            ConfigError: if they are not of one run.
        """
        tensors, state = read_checkpoint(file)
        assert isinstance(problem, JournaledProblem)
        train = split_hash(problem.task.train)
        while problem.journal.position < state["records"]:
            if not problem.journal.replaying or problem.journal.peek().get("examples") != train:
                raise ConfigError(f"{file} and {problem.journal.path} are not of one run")
            prompts = [Prompt.of(p) for p in problem.journal.peek()["prompts"]]
            self._take_in(problem, selection, prompts)
        with of_this_version(
            file, f"remove it, and the run is resumed from {problem.journal.path}"
        ):
            self._set_state(tensors, state["agent"])
            for name in self.carried:
                setattr(self, name, state[name])


def check_draws(n: int) -> None:
    """Refuse a number of prompts that `predict` cannot return.

    Raises:
        ConfigError: for less than one.
    """
    if not isinstance(n, Integral) or n < 1:
        raise ConfigError(f"predict(n): n is a number of prompts, at least 1, got {n!r}")


def position(problem: Problem) -> int:
    """Return how many records of its journal a run has written or read; 0 without one."""
    return problem.journal.position if isinstance(problem, JournaledProblem) else 0


def configured(
    agent: str, presets: Mapping[str, Config], preset: str, options: Mapping[str, Any]
) -> Config:
    """Return a preset's hyperparameters with what is to differ from them.

    Raises:
        ConfigError: for an unknown preset or option, or a value that cannot work.
    """
    if preset not in presets:
        raise ConfigError(f"{agent}: unknown preset {preset!r}; known: {', '.join(presets)}")
    try:
        return replace(presets[preset], **options)  # type: ignore[type-var]  # all are dataclasses
    except TypeError as error:
        raise ConfigError(f"{agent}: {error}") from None
