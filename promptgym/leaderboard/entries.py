"""`Entry`: one method on one suite as the leaderboard shows it, every number recomputed.

What one run looks like on its way: a cell of a benchmark (its journal) becomes lines of a
submission's log (`packing`), these are read back and recomputed (`check`) into a `Run`, and the
runs of a submission make an `Entry`, of which `site` draws pages.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Literal

from promptgym.types import JSON

Track = Literal["search", "proposer", "policy"]
"""Who writes the prompts: a search without another model, one with a proposer, a learned policy."""
Shots = Literal["zero-shot", "few-shot"]


@dataclass(frozen=True, slots=True)
class Run:
    """One run of a method: a task, a model and a seed.

    Attributes:
        task: its name.
        model: the target model's name.
        seed: of the run.
        prompt: the prompt chosen on dev, as JSON (`Prompt.to_json`).
        train: its metric on the training split.
        dev: on dev; None where the task has none.
        test: on test; None where the task has none.
        queries: prompt x example pairs asked.
        tokens: input tokens that the target model read.
        proposer_tokens: tokens that the proposer read and wrote; 0 without one.
        seconds: that the run took, as its log says.
        failures: evaluations that failed; never counted as 0.
        curve: rows of `queries`, `prompt`, `dev`, `test` of the best prompt so far, and `regret`
            where the best prompt of all is known.
        robustness: as `promptgym.evaluation.robustness` gives it; None if it was not measured.
        rescored: prompts of this run that were asked again by the check.
    """

    task: str
    model: str
    seed: int
    prompt: JSON
    train: float
    dev: float | None
    test: float | None
    queries: int
    tokens: int
    proposer_tokens: int
    seconds: float
    failures: int
    curve: tuple[JSON, ...]
    robustness: JSON | None = None
    rescored: int = 0

    @property
    def gap(self) -> float | None:
        """Return train minus test: what the score on the examples trained on flatters."""
        return None if self.test is None else self.train - self.test

    @property
    def regret(self) -> float | None:
        """Return what the chosen prompt lacks to the best there is; None where unknown."""
        found: float | None = self.curve[-1].get("regret") if self.curve else None
        return found


@dataclass(frozen=True)
class Entry:
    """One method on one suite.

    Attributes:
        name: of the method, as tables show it.
        spec: what `--method` takes.
        options: of the method, beside its defaults.
        track: who writes the prompts.
        shots: whether its prompts may hold demonstrations.
        suite: name of the suite.
        version: of the environments: what `promptgym` version the runs were made with.
        budget: caps by kind; the same for all runs.
        start: name of the start prompt.
        authors: who submitted it.
        url: of a paper or of code; "" without.
        description: in the submitter's words.
        command: that made the runs.
        runs: all of them.
    """

    name: str
    spec: str
    options: JSON
    track: Track
    shots: Shots
    suite: str
    version: str
    budget: JSON
    start: str
    authors: str
    url: str
    description: str
    command: str
    runs: tuple[Run, ...]

    @cached_property
    def tasks(self) -> tuple[str, ...]:
        """Return the tasks, in the order of the runs."""
        return tuple(dict.fromkeys(run.task for run in self.runs))

    @cached_property
    def models(self) -> tuple[str, ...]:
        """Return the target models."""
        return tuple(dict.fromkeys(run.model for run in self.runs))

    @cached_property
    def seeds(self) -> tuple[int, ...]:
        """Return the seeds, ascending."""
        return tuple(sorted({run.seed for run in self.runs}))

    def of(self, task: str) -> tuple[Run, ...]:
        """Return the runs on a task."""
        return tuple(run for run in self.runs if run.task == task)

    @cached_property
    def board(self) -> tuple[str, str, str, str]:
        """Return suite, version, budget and models: only within one board are methods compared."""
        caps = ", ".join(f"{value:,.15g} {kind}" for kind, value in self.budget.items())
        return self.suite, self.version, caps, ", ".join(self.models)
