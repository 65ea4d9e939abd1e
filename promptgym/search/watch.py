"""`WatchedProblem`: lets a selection see every score that an environment asks for.

An agent that learns through an environment never holds the scores itself; it gives the environment
a watched problem instead, and the best prompt is chosen among all that were visited on the way.
"""

from __future__ import annotations

from collections.abc import Sequence

from promptgym.problem import Problem
from promptgym.prompts import Example, Prompt
from promptgym.scoring import Scores
from promptgym.search.selection import Selection


class WatchedProblem(Problem):
    """The problem of a selection, whose training scores the selection observes.

    It shares everything with that problem, the ledger above all. Scores on a few examples or on
    dev are passed on unobserved: they are not comparable with those on the whole training split.
    """

    def __init__(self, selection: Selection) -> None:
        """Watch the problem of a selection."""
        self.__dict__.update(vars(selection.problem))
        self.selection = selection

    def score(
        self,
        prompts: Sequence[Prompt],
        examples: Sequence[Example] | None = None,
        *,
        split: str = "train",
    ) -> Scores:
        """Score as the watched problem does.

        Raises:
            BudgetExhausted: if not even one prompt fits.
        """
        scores = self.selection.problem.score(prompts, examples, split=split)
        if examples is None and split == "train":
            self.selection.observe(scores, self.rewards(scores))
        return scores
