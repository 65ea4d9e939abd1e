"""promptgym: reinforcement-learning environments, agents and baselines for prompt optimization.

Importing this package registers its Gymnasium environments and imports no deep-learning library;
public names below are resolved on first use.
"""

from __future__ import annotations

import importlib
from pathlib import Path
from typing import Any

__version__ = "0.1.0"

_ROOT = Path(__file__).resolve().parent.parent
if (_ROOT / "envs" / "__init__.py").is_file() and (_ROOT / "pyproject.toml").is_file():
    # A source checkout keeps envs/, agents/ and baselines/ beside this folder.
    __path__.append(str(_ROOT))

_LAZY = {
    "Budget": "promptgym.scoring",
    "Example": "promptgym.prompts",
    "Problem": "promptgym.problem",
    "Prompt": "promptgym.prompts",
    "Result": "promptgym.search",
    "Scorer": "promptgym.scoring",
    "Scores": "promptgym.scoring",
    "Task": "promptgym.tasks",
    "Template": "promptgym.prompts",
    "evaluate": "promptgym.evaluation",
    "load_model": "promptgym.llms",
    "load_task": "promptgym.tasks",
    "make_problem": "promptgym.problem",
}

_PACKAGES = (
    "agents",
    "baselines",
    "envs",
    "evaluation",
    "integrations",
    "llms",
    "prompts",
    "rewards",
    "scoring",
    "search",
    "tasks",
    "testing",
)

__all__ = ["__version__", "register_envs", *_LAZY, *_PACKAGES]


def __getattr__(name: str) -> Any:
    """Import a public name from the module that defines it, or a package, once."""
    if name in _PACKAGES:
        return importlib.import_module(f"promptgym.{name}")
    if name not in _LAZY:
        raise AttributeError(f"module 'promptgym' has no attribute {name!r}")
    value = getattr(importlib.import_module(_LAZY[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    """List the public names, resolved or not."""
    return sorted(set(globals()) | set(__all__))


def register_envs() -> None:
    """Register every environment of promptgym with Gymnasium (done at import; idempotent)."""
    from promptgym.registration import register_all

    register_all()


register_envs()
