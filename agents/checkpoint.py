"""Checkpoints: one safetensors file with the tensors and, in its header, the rest as JSON.

One file is replaced in one step, so a kill leaves the old checkpoint or the new one, whole. Nothing
is pickled: an optimizer's state and a random generator's are tensors too.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file

from promptgym.errors import ConfigError
from promptgym.types import JSON

Tensors = dict[str, torch.Tensor]


def write_checkpoint(path: Path, tensors: Mapping[str, torch.Tensor], state: JSON) -> None:
    """Write tensors and JSON state, whole or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    whole = {name: t.detach().cpu().contiguous().clone() for name, t in tensors.items()}
    try:
        save_file(whole, temporary, metadata={"state": json.dumps(state)})
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


def read_checkpoint(path: Path) -> tuple[Tensors, JSON]:
    """Return what `write_checkpoint` wrote.

    Raises:
        ConfigError: if the file is not a checkpoint, or damaged.
    """
    try:
        with safe_open(path, framework="pt") as file:
            metadata = file.metadata() or {}
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118  # no dict
    except SafetensorError as error:
        raise ConfigError(
            f"{path} is damaged ({error}); remove it, and the run is resumed from its journal"
        ) from None
    if "state" not in metadata:
        raise ConfigError(f"{path} is a safetensors file but no checkpoint: it has no state")
    state: JSON = json.loads(metadata["state"])
    return tensors, state


def with_prefix(prefix: str, tensors: Mapping[str, torch.Tensor]) -> Tensors:
    """Return tensors under `prefix.name`."""
    return {f"{prefix}.{name}": tensor for name, tensor in tensors.items()}


def of_prefix(prefix: str, tensors: Mapping[str, torch.Tensor]) -> Tensors:
    """Return the tensors under a prefix, by their own names."""
    start = f"{prefix}."
    return {n.removeprefix(start): t for n, t in tensors.items() if n.startswith(start)}


def optimizer_tensors(optimizer: torch.optim.Optimizer) -> Tensors:
    """Return an optimizer's per-parameter state as `INDEX.NAME` tensors."""
    return {
        f"{index}.{name}": torch.as_tensor(value)
        for index, state in optimizer.state_dict()["state"].items()
        for name, value in state.items()
    }


def load_optimizer(optimizer: torch.optim.Optimizer, tensors: Mapping[str, torch.Tensor]) -> None:
    """Give an optimizer of the same parameters the state that `optimizer_tensors` returned."""
    state: dict[int, Tensors] = {}
    for key, tensor in tensors.items():
        index, name = key.split(".", 1)
        state.setdefault(int(index), {})[name] = tensor
    groups = optimizer.state_dict()["param_groups"]
    optimizer.load_state_dict({"state": state, "param_groups": groups})
