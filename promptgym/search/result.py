"""What an optimizer is, and what it hands back."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from promptgym.problem import Problem
from promptgym.prompts import Prompt
from promptgym.search.ensemble import Ensemble
from promptgym.types import JSON


@dataclass(frozen=True, slots=True)
class Candidate:
    """A prompt with what is known of it.

    Attributes:
        prompt: the prompt.
        reward: training reward over the whole training split.
        train: training metric.
        dev: dev metric, None if never asked.
        queries: ledger count when it was first scored.
    """

    prompt: Prompt
    reward: float
    train: float
    dev: float | None = None
    queries: int = 0


@dataclass(frozen=True, slots=True)
class Result:
    """The outcome of one optimization.

    Attributes:
        method: registered name of the agent or baseline.
        seed: its seed.
        best: the prompt chosen on dev.
        candidates: the finalists, best by dev first.
        history: the anytime curve: one row a selection point, `{"queries", "prompt", "dev",
            "train", "reward"}`.
        spent: the ledger's final counts.
        policy: for agents: `{"greedy": prompt JSON, "samples": [prompt JSON, ...]}`; empty for
            baselines.
        stats: method-specific numbers.
        ensemble: prompts that answer together, of methods that make one beside the best prompt.
    """

    method: str
    seed: int
    best: Candidate
    candidates: tuple[Candidate, ...]
    history: tuple[JSON, ...]
    spent: JSON
    policy: JSON = field(default_factory=dict)
    stats: JSON = field(default_factory=dict)
    ensemble: Ensemble | None = None


class Optimizer(Protocol):
    """What agents and baselines share."""

    name: str

    def check(self, problem: Problem) -> None:
        """Refuse a problem that cannot be optimized, before anything is asked or written.

        Raises:
            ConfigError: naming what does not fit.
        """
        ...

    def optimize(
        self,
        problem: Problem,
        seed: int = 0,
        *,
        checkpoint_dir: str | Path | None = None,
        resume: bool = False,
    ) -> Result:
        """Spend the problem's budget and return the prompt chosen on dev.

        Args:
            problem: what is optimized.
            seed: of everything random.
            checkpoint_dir: where what a resumed run needs is kept; None keeps nothing.
            resume: continue the run of that folder, exactly; an empty folder begins anew.
        """
        ...
