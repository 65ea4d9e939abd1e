"""Scoring: the single path by which prompts meet a model, under a budget."""

from promptgym.scoring.ledger import Budget, Ledger
from promptgym.scoring.scorer import Scorer
from promptgym.scoring.scores import FAILED, OK, SKIPPED, Failure, Scores

__all__ = ["FAILED", "OK", "SKIPPED", "Budget", "Failure", "Ledger", "Scorer", "Scores"]
