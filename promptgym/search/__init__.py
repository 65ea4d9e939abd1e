"""Optimizers: their contract, the rule of selection, the driver of search methods."""

from promptgym.search.driver import Answer, Ask, Note, Propose, Search, SearchMethod
from promptgym.search.ensemble import Ensemble
from promptgym.search.result import Candidate, Optimizer, Result
from promptgym.search.selection import Selection

__all__ = [
    "Answer",
    "Ask",
    "Candidate",
    "Ensemble",
    "Note",
    "Optimizer",
    "Propose",
    "Result",
    "Search",
    "SearchMethod",
    "Selection",
]
