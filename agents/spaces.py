"""Spaces as JSON, so that a saved policy is rebuilt without its environment, nothing pickled."""

from __future__ import annotations

from typing import Any

import numpy as np
from gymnasium import spaces

from promptgym.errors import ConfigError
from promptgym.types import JSON


def space_to_json(space: spaces.Space[Any]) -> JSON:
    """Return a space as JSON; a Box must have one lower and one upper bound.

    Raises:
        ConfigError: for a space of another kind.
    """
    if isinstance(space, spaces.Dict):
        return {"kind": "Dict", "of": [[k, space_to_json(s)] for k, s in space.items()]}
    if isinstance(space, spaces.MultiDiscrete):
        return {"kind": "MultiDiscrete", "nvec": space.nvec.tolist()}
    if isinstance(space, spaces.Discrete):
        return {"kind": "Discrete", "n": int(space.n)}
    if isinstance(space, spaces.MultiBinary):
        return {"kind": "MultiBinary", "n": int(np.prod(space.shape))}
    if isinstance(space, spaces.Box) and len({*space.low.flat}) == len({*space.high.flat}) == 1:
        return {
            "kind": "Box",
            "low": space.low.flat[0].item(),
            "high": space.high.flat[0].item(),
            "shape": list(space.shape),
            "dtype": str(space.dtype),
        }
    raise ConfigError(f"cannot write the space {space} as JSON")


def space_from_json(value: JSON) -> spaces.Space[Any]:
    """Return the space that `space_to_json` was given."""
    kind = value["kind"]
    if kind == "Dict":
        return spaces.Dict([(k, space_from_json(s)) for k, s in value["of"]])
    if kind == "MultiDiscrete":
        return spaces.MultiDiscrete(value["nvec"])
    if kind == "Discrete":
        return spaces.Discrete(value["n"])
    if kind == "MultiBinary":
        return spaces.MultiBinary(value["n"])
    if kind == "Box":
        dtype: Any = np.dtype(value["dtype"]).type
        return spaces.Box(value["low"], value["high"], tuple(value["shape"]), dtype)
    raise ConfigError(f"unknown kind of space {kind!r}")
