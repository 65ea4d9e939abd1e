"""Optimizers: their contract, the rule of selection, the driver of search methods."""

from promptgym.search.result import Candidate, Optimizer, Result
from promptgym.search.selection import Selection

__all__ = ["Candidate", "Optimizer", "Result", "Selection"]
