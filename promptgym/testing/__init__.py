"""Checks and test problems for people who write their own environments, agents and baselines."""

from promptgym.testing.checks import check_prompt_env, check_vector_env
from promptgym.testing.rule import RuleProposer
from promptgym.testing.transparent import TransparentModel, transparent_task

__all__ = [
    "RuleProposer",
    "TransparentModel",
    "check_prompt_env",
    "check_vector_env",
    "transparent_task",
]
