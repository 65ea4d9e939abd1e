"""Checks and test problems for people who write their own environments, agents and baselines."""

from promptgym.testing.checks import check_prompt_env, check_vector_env
from promptgym.testing.transparent import TransparentModel, transparent_task

__all__ = ["TransparentModel", "check_prompt_env", "check_vector_env", "transparent_task"]
