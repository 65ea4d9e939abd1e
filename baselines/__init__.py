"""Search baselines: one method a file, each a frozen dataclass of options with a generator.

`BASELINES` names them without importing them; `promptgym.agents.make_optimizer` builds one.
"""

from __future__ import annotations

BASELINES: dict[str, str] = {
    "empty": "promptgym.baselines.empty:EmptyPrompt",
    "hill_climbing": "promptgym.baselines.hill_climbing:HillClimbing",
    "manual": "promptgym.baselines.manual:ManualPrompts",
    "random_edits": "promptgym.baselines.random_edits:RandomEdits",
    "random_tokens": "promptgym.baselines.random_tokens:RandomTokens",
}
"""Registered name -> "module:Class"."""

__all__ = ["BASELINES"]
