"""What learned policies share: asking for rewards, the training loop, checkpoints, the result.

An agent's own file holds its hyperparameters and its update rule. Training is `_train_step` until
the steps or the budget are spent. A run with a folder keeps a journal of all scores and, every so
many steps, a checkpoint; resuming reads the checkpoint and repeats what came after it with the
journal's scores, so it is exact wherever the run was stopped.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import asdict
from pathlib import Path
from typing import Any, ClassVar, Self

import numpy as np

from promptgym.agents.checkpoint import Tensors, read_checkpoint, write_checkpoint
from promptgym.errors import BudgetExhausted, ConfigError
from promptgym.problem import Problem
from promptgym.prompts import Prompt
from promptgym.search import Result, Selection
from promptgym.search.journal import JournaledProblem, describe, examples_id, journaled
from promptgym.types import JSON, FloatArray

SAMPLES = 32
"""Prompts drawn from a trained policy for its result."""


class PolicyAgent(ABC):
    """Base of agents whose policy writes whole prompts.

    Attributes:
        name: registered name.
        config: a frozen dataclass with at least `steps`, `memory`, `patience`, `log_every`
            and `checkpoint_every`.
        known: reward of every prompt asked on the whole training split.
        log: rows of statistics.
        step: updates done.
    """

    name: ClassVar[str]
    config: Any
    known: dict[Prompt, float]
    log: list[JSON]
    step: int

    @abstractmethod
    def _build(self, problem: Problem, seed: int) -> None:
        """Make everything that is trained or drawn from anew."""

    @abstractmethod
    def _train_step(self, problem: Problem, selection: Selection | None) -> None:
        """Sample, ask, then update once; ends with `_end_step`.

        `_updating` is to be set before the first change to what `_get_state` returns.

        Raises:
            BudgetExhausted: when not all that was sampled could be asked.
        """

    @abstractmethod
    def _get_state(self) -> tuple[Tensors, JSON]:
        """Return all that training goes on from, as it was when the step under way began."""

    @abstractmethod
    def _set_state(self, tensors: Tensors, state: JSON) -> None:
        """Take back what `_get_state` returned."""

    @abstractmethod
    def predict(self, n: int = 1, *, greedy: bool = True, seed: int = 0) -> list[Prompt]:
        """Return prompts of the policy: its likeliest one, or `n` samples.

        Args:
            n: how many; the greedy prompt is one and the same each time.
            greedy: the likeliest word each time instead of a draw.
            seed: of the draws.
        """

    def learn(
        self,
        problem: Problem,
        seed: int = 0,
        *,
        selection: Selection | None = None,
        checkpoint_dir: Path | None = None,
        resume: bool = False,
    ) -> Self:
        """Train until the steps or the budget are spent.

        Args:
            problem: what is optimized.
            seed: of initialization and sampling.
            selection: is shown every score, if given.
            checkpoint_dir: where journal and checkpoints are kept; None keeps none.
            resume: continue what that folder holds, exactly.

        Returns:
            The agent.

        Raises:
            ConfigError: if the folder holds another run, or one that is not to be resumed.
        """
        problem = self._journaled(problem, seed, checkpoint_dir, resume)
        self._build(problem, seed)
        self.known, self.log, self.step = {}, [], 0
        self._records, self._updating, self._new = 0, False, 0
        file = None if checkpoint_dir is None else checkpoint_dir / f"{self.name}.safetensors"
        if file is not None and file.exists():
            self._continue(problem, selection, file)
        try:
            while self.step < self.config.steps and not self._converged():
                self._train_step(problem, selection)
                if file is not None and self.step % self.config.checkpoint_every == 0:
                    self._checkpoint(file)
        except BudgetExhausted:
            pass
        except KeyboardInterrupt:
            if file is not None and not self._updating:
                self._checkpoint(file)
            raise
        return self

    def optimize(
        self,
        problem: Problem,
        seed: int = 0,
        *,
        checkpoint_dir: Path | None = None,
        resume: bool = False,
    ) -> Result:
        """Train and return the prompt chosen on dev, with the policy's own prompts.

        Args: as of `learn`.

        Raises:
            PromptGymError: if the budget did not reach one prompt.
        """
        problem = self._journaled(problem, seed, checkpoint_dir, resume)
        selection = Selection(problem)
        self.learn(problem, seed, selection=selection, checkpoint_dir=checkpoint_dir, resume=resume)
        best, finalists = selection.finish()
        samples = self.predict(SAMPLES, greedy=False, seed=seed)
        return Result(
            method=self.name,
            seed=seed,
            best=best,
            candidates=finalists,
            history=tuple(selection.history),
            spent=problem.ledger.snapshot(),
            policy={
                "greedy": self.predict()[0].to_json(),
                "samples": [p.to_json() for p in samples],
            },
            stats={"steps": self.step, "distinct": len(self.known), "log": self.log},
        )

    def _ask(
        self, problem: Problem, selection: Selection | None, prompts: list[Prompt]
    ) -> FloatArray:
        """Return the rewards of prompts, shape (P,); with `memory` only new ones are asked.

        Raises:
            BudgetExhausted: if not all of them fitted; the complete ones were taken in.
        """
        new = prompts
        if self.config.memory:
            new = list(dict.fromkeys(p for p in prompts if p not in self.known))
        if new:
            scores = problem.score(new)
            rewards = problem.rewards(scores)
            if selection is not None:
                selection.observe(scores, rewards)
            if not scores.complete.all():
                raise BudgetExhausted("the budget cut the last batch short")
            before = len(self.known)
            self.known.update(zip(scores.prompts, rewards.tolist(), strict=True))
            if len(self.known) > before:
                self._new = self.step
        return np.array([self.known[p] for p in prompts])

    def _converged(self) -> bool:
        """Whether a policy that pays for new prompts only has written none for too long."""
        return bool(self.config.memory) and self.step - self._new > self.config.patience

    def _progress(self, problem: Problem) -> float:
        """Return how much of the steps or of the query budget is spent, in [0, 1]."""
        budget = problem.ledger.budget.queries
        spent = problem.ledger.queries / budget if budget else 0.0
        return min(1.0, max(self.step / int(self.config.steps), spent))

    def _end_step(self, problem: Problem, row: JSON) -> None:
        """Count a finished update, then say so; what is asked next belongs to the next step.

        Args:
            problem: whose events are told.
            row: the step's statistics; every `log_every`-th is kept.
        """
        self.step += 1
        queries = problem.ledger.queries
        row = {"step": self.step, "queries": queries, "prompts": len(self.known), **row}
        if self.step == 1 or self.step % self.config.log_every == 0:
            self.log.append(row)
        self._records = position(problem)
        self._updating = False
        problem.events.emit("policy", **row)

    def _journaled(self, problem: Problem, seed: int, folder: Path | None, resume: bool) -> Problem:
        """Return the problem with the run's journal, if there is a folder and none is open."""
        if isinstance(problem, JournaledProblem):
            return problem
        header = describe(problem, self.name, seed, asdict(self.config))
        return journaled(problem, folder, header, resume)

    def _checkpoint(self, file: Path) -> None:
        """Write the state, with the journal's position it belongs to."""
        tensors, state = self._get_state()
        own = {"step": self.step, "records": self._records, "new": self._new, "log": self.log}
        write_checkpoint(file, tensors, {"agent": state, **own})

    def _continue(self, problem: Problem, selection: Selection | None, file: Path) -> None:
        """Take the journal in up to the checkpoint, then the checkpoint.

        Raises:
            ConfigError: if they are not of one run.
        """
        tensors, state = read_checkpoint(file)
        assert isinstance(problem, JournaledProblem)
        train = examples_id(problem.task.train)
        while problem.journal.position < state["records"]:
            if not problem.journal.replaying or problem.journal.peek().get("examples") != train:
                raise ConfigError(f"{file} and {problem.journal.path} are not of one run")
            prompts = [Prompt.of(p) for p in problem.journal.peek()["prompts"]]
            self._ask(problem, selection, prompts)
        self._set_state(tensors, state["agent"])
        self.step, self._new = state["step"], state["new"]
        self.log, self._records = state["log"], state["records"]


def position(problem: Problem) -> int:
    """Return how many records of its journal a run has written or read; 0 without one."""
    return problem.journal.position if isinstance(problem, JournaledProblem) else 0
