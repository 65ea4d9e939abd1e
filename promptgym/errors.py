"""The errors promptgym raises. Each message names what was given, what was expected, what to do."""

from __future__ import annotations


class PromptGymError(Exception):
    """Base class of every error that promptgym raises on purpose."""


class TaskError(PromptGymError, ValueError):
    """A dataset, split, label or column is not what a task needs."""


class TemplateError(PromptGymError, ValueError):
    """A template lacks a placeholder, or holds one that cannot be filled."""


class ModelError(PromptGymError, ValueError):
    """A model cannot be loaded, or cannot do what a task asks of it."""


class RewardError(PromptGymError, ValueError):
    """A reward is unknown, or needs scores that the problem does not produce."""


class BudgetExhausted(PromptGymError, RuntimeError):
    """Nothing of the requested work fits into what is left of the budget."""


class ConfigError(PromptGymError, ValueError):
    """A run's configuration is wrong, or differs from the one it was started with."""


class ExtraMissingError(PromptGymError, ImportError):
    """An optional dependency is not installed; the message has the install line."""


class TooManyFailures(PromptGymError, RuntimeError):
    """More evaluations of a run failed than it allows; what was answered is kept."""


class CacheWarning(UserWarning):
    """Something happened to the cache that lasts; the run goes on."""
