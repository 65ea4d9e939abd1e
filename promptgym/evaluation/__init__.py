"""Evaluation: held-out scores with intervals, comparisons, runs and their reports, landscapes."""

from promptgym.evaluation.evaluate import Evaluation, compare, evaluate, held_out
from promptgym.evaluation.intervals import Difference, bootstrap, paired_bootstrap, wilson

__all__ = [
    "Difference",
    "Evaluation",
    "bootstrap",
    "compare",
    "evaluate",
    "held_out",
    "paired_bootstrap",
    "wilson",
]
