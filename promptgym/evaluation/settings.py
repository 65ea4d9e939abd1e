"""Settings of an optimizer that come as text or JSON, checked before anything is loaded."""

from __future__ import annotations

from dataclasses import fields
from typing import Any, get_type_hints

from promptgym.arguments import check_arguments
from promptgym.errors import ConfigError
from promptgym.search import Optimizer
from promptgym.types import JSON


def check_settings(optimizer: Optimizer, settings: JSON) -> None:
    """Refuse settings that an optimizer does not have, or of the wrong type.

    Args:
        optimizer: any one of the method; its hyperparameters are its own fields, or those of its
            `config`.
        settings: name -> plain JSON value.

    Raises:
        ConfigError: naming setting, value and what was expected.
    """
    owner: Any = getattr(optimizer, "config", optimizer)
    if not hasattr(owner, "__dataclass_fields__"):
        return
    types = get_type_hints(type(owner))
    known = {f.name: types[f.name] for f in fields(owner) if f.init}
    check_arguments(optimizer.name, known, settings, ConfigError, what="setting")
