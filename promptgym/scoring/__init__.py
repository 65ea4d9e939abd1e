"""Scoring: the single path by which prompts meet a model, under a budget."""

from promptgym.scoring.ledger import Budget, Ledger
from promptgym.scoring.proposing import Proposals, Proposer
from promptgym.scoring.racing import Race, race
from promptgym.scoring.scorer import Scorer
from promptgym.scoring.scores import (
    API_ERROR,
    OK,
    PARSE_ERROR,
    REFUSED,
    SKIPPED,
    STATUS_NAMES,
    TIMEOUT,
    Failure,
    Scores,
)

__all__ = [
    "API_ERROR",
    "OK",
    "PARSE_ERROR",
    "REFUSED",
    "SKIPPED",
    "STATUS_NAMES",
    "TIMEOUT",
    "Budget",
    "Failure",
    "Ledger",
    "Proposals",
    "Proposer",
    "Race",
    "Scorer",
    "Scores",
    "race",
]
