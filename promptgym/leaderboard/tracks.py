"""Who writes a method's prompts: a search, a proposer, or a policy that was trained to."""

from __future__ import annotations

from typing import Any

from promptgym.agents import AGENTS, make_optimizer
from promptgym.baselines import BASELINES
from promptgym.errors import ConfigError
from promptgym.leaderboard.entries import Track
from promptgym.types import JSON


def is_known(spec: str) -> bool:
    """Whether the method is one of the package."""
    return spec.partition(":")[0] in {**AGENTS, **BASELINES}


def track_of(spec: str, options: JSON) -> Track:
    """Return the track of a method of the package.

    An agent whose policy does not learn (a learning rate of 0, as `prewrite:frozen` has) only
    proposes.

    Raises:
        ConfigError: for a method or an option that there is not.
    """
    if not is_known(spec):
        raise ConfigError(f"{spec!r} is no method of promptgym")
    method: Any = make_optimizer(spec, **options)
    if spec.partition(":")[0] in AGENTS:
        rate = getattr(getattr(method, "config", None), "learning_rate", None)
        return "proposer" if rate == 0 else "policy"
    return "proposer" if getattr(method, "proposes", False) else "search"
