"""What the searches over demonstrations share: where examples come from, and who can show them."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal

from promptgym.errors import ConfigError
from promptgym.problem import Problem
from promptgym.prompts import Example, Prompt
from promptgym.ranges import COUNT, check_choices, check_ranges
from promptgym.search.driver import SearchMethod

Source = Literal["auto", "pool", "train"]


@dataclass(frozen=True)
class DemonstrationSearch(SearchMethod):
    """Keeps the initial prompt's words and looks for solved examples to show before the question.

    Attributes:
        shots: examples shown.
        source: where they come from: the task's "pool" of demonstrations, its "train" split, or
            "auto": the pool where the task has one, else train. An example of train that is shown
            is also scored, with its answer in sight: training scores are then too good, and the
            choice on dev puts that right.
        batch: prompts asked at a time (a matter of speed only).
    """

    shots: int = 4
    source: Source = "auto"
    batch: int = 8

    def __post_init__(self) -> None:
        """Refuse unknown options."""
        check_choices(self.name, self)
        check_ranges(self.name, self, {COUNT: ("shots", "batch")})

    def check(self, problem: Problem) -> None:
        """Refuse a problem that shows no demonstrations, or has too few."""
        super().check(problem)
        if not problem.template.has_demonstrations:
            raise ConfigError(
                f"{self.name} needs a template with {{demonstrations}}, got "
                f"{problem.template.text!r}; say where they stand"
            )
        if len(found := self.examples(problem)) < self.shots:
            raise ConfigError(
                f"{self.name}: shots is {self.shots}, task {problem.task.name!r} has {len(found)} "
                f"examples to show (source={self.source!r}); give fewer shots or another source"
            )

    def examples(self, problem: Problem) -> tuple[Example, ...]:
        """Return what may be shown."""
        task = problem.task
        if self.source == "auto":
            return task.pool or task.train
        return task.pool if self.source == "pool" else task.train

    def showing(self, problem: Problem, chosen: list[Example]) -> Prompt:
        """Return the initial prompt with these demonstrations."""
        return replace(problem.initial_prompt, demonstrations=tuple(chosen))
