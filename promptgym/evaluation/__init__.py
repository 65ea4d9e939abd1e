"""Evaluation: held-out scores with intervals, comparisons, runs and their reports, landscapes."""

from promptgym.evaluation.evaluate import Evaluation, compare, evaluate, held_out
from promptgym.evaluation.intervals import Difference, bootstrap, paired_bootstrap, wilson
from promptgym.evaluation.landscape import Bar, Landscape, landscape

__all__ = [
    "Bar",
    "Difference",
    "Evaluation",
    "Landscape",
    "bootstrap",
    "compare",
    "evaluate",
    "held_out",
    "landscape",
    "paired_bootstrap",
    "wilson",
]
