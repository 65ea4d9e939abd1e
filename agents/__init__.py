"""Agents: one learned policy a file, and the table of everything that can be asked to optimize.

Nothing is imported before it is built, so listing names costs no deep-learning library.
"""

from __future__ import annotations

import importlib
from typing import Any

from promptgym.arguments import check_arguments, hints
from promptgym.baselines import BASELINES
from promptgym.errors import ConfigError
from promptgym.search import Optimizer
from promptgym.types import JSON

AGENTS: dict[str, str] = {
    "dpo_rewriter": "promptgym.agents.dpo_rewriter:DPORewriter",
    "multi_prompter": "promptgym.agents.multi_prompter:MultiPrompter",
    "ppo_edit": "promptgym.agents.ppo_edit:PPOEdit",
    "prewrite": "promptgym.agents.prewrite:PRewrite",
    "rlprompt": "promptgym.agents.rlprompt:RLPrompt",
}
"""Registered name -> "module:Class"."""

__all__ = ["AGENTS", "make_optimizer", "optimizer_class"]


def optimizer_class(name: str) -> Any:
    """Return the class of an agent or a baseline.

    Args:
        name: a key of `AGENTS` or `BASELINES`.

    Raises:
        ConfigError: for another name.
    """
    table = {**AGENTS, **BASELINES}
    if name not in table:
        raise ConfigError(
            f"unknown optimizer {name!r}; agents: {', '.join(sorted(AGENTS))}; "
            f"baselines: {', '.join(sorted(BASELINES))}"
        )
    module, _, attribute = table[name].partition(":")
    return getattr(importlib.import_module(module), attribute)


def make_optimizer(name: str, /, **options: Any) -> Optimizer:
    """Build an agent or a baseline.

    Args:
        name: a key of `AGENTS` or `BASELINES`; `"rlprompt:repaired"` is short for
            `"rlprompt", preset="repaired"`.
        options: its hyperparameters.

    Raises:
        ConfigError: for an unknown name or option, an option of the wrong type, or a preset given
            twice.
    """
    key, colon, preset = name.partition(":")
    factory = optimizer_class(key)
    if colon:
        if "preset" in options:
            raise ConfigError(f"{name!r} names a preset and preset={options['preset']!r} another")
        options["preset"] = preset
    if "preset" in options and key in BASELINES:
        raise ConfigError(f"{key} is a baseline and has no presets, got {options['preset']!r}")
    try:
        check_arguments(key, _settings(factory, options), options, ConfigError, what="setting")
        optimizer: Optimizer = factory(**options)
    except TypeError as error:
        raise ConfigError(f"{key}: {error}") from None
    return optimizer


def _settings(factory: Any, options: JSON) -> dict[str, Any]:
    """Return the settings of a method with their types: its own fields, or those of its config."""
    preset = {name: options[name] for name in ("preset",) if name in options}
    config = getattr(factory(**preset), "config", None)
    return hints(factory) if config is None else {"preset": str, **hints(type(config))}
