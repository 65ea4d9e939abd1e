"""`PolicyAgent`: the training loop of agents whose policy writes whole prompts.

Such an agent's own file holds its hyperparameters and its update rule. Training is `_train_step`
until the steps or the budget are spent; journal, checkpoints and the result are those of `Agent`.
"""

from __future__ import annotations

from abc import abstractmethod
from pathlib import Path
from typing import ClassVar

import numpy as np

from promptgym.agents.agent import SAMPLES, Agent
from promptgym.errors import BudgetExhausted
from promptgym.problem import Problem
from promptgym.prompts import Prompt
from promptgym.search import Selection
from promptgym.types import JSON, FloatArray


class PolicyAgent(Agent):
    """Base of agents whose policy writes whole prompts.

    Its `config` needs `steps`, `memory`, `patience`, `log_every` and `checkpoint_every`.

    Attributes:
        known: reward of every prompt asked on the whole training split.
        new: the step that last asked a prompt not known before.
    """

    carried: ClassVar[tuple[str, ...]] = (*Agent.carried, "new")

    known: dict[Prompt, float]
    new: int

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
    def predict(self, n: int = 1, *, greedy: bool = True, seed: int = 0) -> list[Prompt]:
        """Return prompts of the policy: its likeliest one, or `n` samples.

        Args:
            n: how many; the greedy prompt is one and the same each time.
            greedy: the likeliest word each time instead of a draw.
            seed: of the draws.
        """

    def _prepare(self, problem: Problem, selection: Selection | None, seed: int) -> None:
        """Build the policy; forget what was known."""
        self._build(problem, seed)
        self.known, self.new, self._updating = {}, 0, False

    def _train(self, problem: Problem, selection: Selection | None, file: Path | None) -> None:
        """Take training steps; an interrupt between two updates leaves a checkpoint."""
        try:
            while self.step < self.config.steps and not self._converged():
                self._train_step(problem, selection)
                self._checkpoint_if_due(file)
        except BudgetExhausted:
            pass
        except KeyboardInterrupt:
            if file is not None and not self._updating:
                self._checkpoint(file)
            raise

    def _take_in(
        self, problem: Problem, selection: Selection | None, prompts: list[Prompt]
    ) -> None:
        """Ask for prompts again."""
        self._ask(problem, selection, prompts)

    def _show(self, problem: Problem, seed: int) -> tuple[Prompt, list[Prompt]]:
        """Return the greedy prompt and `SAMPLES` samples."""
        return self.predict()[0], self.predict(SAMPLES, greedy=False, seed=seed)

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
                self.new = self.step
        return np.array([self.known[p] for p in prompts])

    def _converged(self) -> bool:
        """Whether a policy that pays for new prompts only has written none for too long."""
        return bool(self.config.memory) and self.step - self.new > self.config.patience

    def _progress(self, problem: Problem) -> float:
        """Return how much of the steps or of the query budget is spent, in [0, 1]."""
        budget = problem.ledger.budget.queries
        spent = problem.ledger.queries / budget if budget else 0.0
        return min(1.0, max(self.step / int(self.config.steps), spent))

    def _end_step(self, problem: Problem, row: JSON) -> None:
        """Count a finished update, then say so; what is asked next belongs to the next step.

        Args:
            problem: whose events are told.
            row: the step's statistics; the first and every `log_every`-th are kept.
        """
        keep = self.step == 0 or (self.step + 1) % self.config.log_every == 0
        row = self._count(problem, {"prompts": len(self.known), **row}, keep=keep)
        self._updating = False
        problem.events.emit("policy", **row)
