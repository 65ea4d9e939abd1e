"""Checks and test problems for people who write their own environments, agents and baselines."""

from promptgym.testing.transparent import TransparentModel, transparent_task

__all__ = ["TransparentModel", "transparent_task"]
