"""Checkpoints and saved policies: tensors as safetensors, all else as JSON, nothing pickled.

A checkpoint is one file, with the JSON in its header. It is replaced in one step, so a kill leaves
the old one or the new one, whole. An optimizer's state and a random generator's are tensors too.
A saved policy is a folder with `policy.safetensors` and `policy.json`.
"""

from __future__ import annotations

import json
import os
import zipfile
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file

from promptgym.errors import ConfigError, PromptGymError
from promptgym.runs.folder import write_json
from promptgym.types import JSON

ABOUT = "policy.json"
WEIGHTS = ("*.safetensors", "*.safetensors.index.json", "adapter_config.json")
"""Files of a saved policy that would be taken for its weights, if those of an older one stayed."""
TRAIN_AGAIN = "load it with the version that wrote it, or train again"

Tensors = dict[str, torch.Tensor]


def write_checkpoint(path: Path, tensors: Mapping[str, torch.Tensor], state: JSON) -> None:
    """Write tensors and JSON state, whole or not at all."""
    _write_tensors(path, tensors, {"state": json.dumps(state)})


def read_checkpoint(path: Path) -> tuple[Tensors, JSON]:
    """Return what `write_checkpoint` wrote.

    Raises:
        ConfigError: if the file is not a checkpoint, or damaged.
    """
    try:
        tensors, metadata = _read_tensors(path)
    except SafetensorError as error:
        raise ConfigError(
            f"{path} is damaged ({error}); remove it, and the run is resumed from its journal"
        ) from None
    if "state" not in metadata:
        raise ConfigError(f"{path} is a safetensors file but no checkpoint: it has no state")
    state: JSON = json.loads(metadata["state"])
    return tensors, state


@contextmanager
def of_this_version(path: Path, remedy: str) -> Iterator[None]:
    """Name a file whose content does not fit what is read from it.

    Args:
        path: the file.
        remedy: what to do.

    Raises:
        ConfigError: in place of the errors of missing and unknown keys, and of shapes.
    """
    try:
        yield
    except PromptGymError:
        raise
    except (KeyError, TypeError, AttributeError, ValueError, RuntimeError) as error:
        raise ConfigError(
            f"{path} was written by another version of promptgym, or changed: {error!r}; {remedy}"
        ) from error


def check_trainer_folder(folder: Path, needed: tuple[str, ...], remedy: str) -> None:
    """Refuse a checkpoint of a trainer of transformers that lacks a file, or has half of one.

    Args:
        folder: what the trainer wrote.
        needed: files it must hold, beside weights as safetensors.
        remedy: what to do.

    Raises:
        ConfigError: naming the file.
    """
    try:
        weights = sorted(folder.glob("*.safetensors"))
        for name in (*needed, *(() if weights else ("model.safetensors",))):
            if not (folder / name).is_file():
                raise FileNotFoundError(f"there is no {name}")
        for path in weights:
            with safe_open(path, framework="pt"):
                pass
        for path in [*folder.glob("*.pt"), *folder.glob("*.pth")]:
            if not zipfile.is_zipfile(path):  # as PyTorch writes; the index stands at the end
                raise ValueError(f"{path.name} is cut")
        json.loads((folder / "trainer_state.json").read_text(encoding="utf-8"))
    except (OSError, ValueError, SafetensorError) as error:
        raise ConfigError(
            f"the trainer's checkpoint {folder} is missing or damaged ({error}); {remedy}"
        ) from None


def write_policy(
    folder: Path, agent: str, tensors: Mapping[str, torch.Tensor], about: JSON
) -> None:
    """Write the weights of an agent's policy, and what else it takes to use them."""
    _write_tensors(folder / "policy.safetensors", tensors)
    remove_weights(folder, ["policy.safetensors"])
    write_about(folder, agent, about)


def read_policy(folder: Path, agent: str) -> tuple[Tensors, JSON]:
    """Return what `write_policy` wrote.

    Raises:
        ConfigError: if the folder holds the policy of another agent, a damaged one, or none.
    """
    about = read_about(folder, agent)
    try:
        tensors, _ = _read_tensors(folder / "policy.safetensors")
    except (OSError, SafetensorError) as error:
        raise ConfigError(f"the policy in {folder} is damaged: {error}") from None
    return tensors, about


def remove_weights(folder: Path, keep: Collection[str]) -> None:
    """Remove the weights of a policy that was saved in a folder before.

    Args:
        folder: where a policy is saved; one that holds none is left as it is.
        keep: names of the files of the policy that is there now.
    """
    if (folder / ABOUT).is_file():
        for path in [path for kind in WEIGHTS for path in folder.glob(kind)]:
            if path.name not in keep:
                path.unlink()


def write_about(folder: Path, agent: str, about: JSON) -> None:
    """Write whose policy a folder holds, and what it takes to use it beside its weights."""
    write_json(folder / ABOUT, {"agent": agent, **about})


def read_about(folder: Path, agent: str | None = None) -> JSON:
    """Return what `write_about` wrote, with "agent".

    Args:
        folder: of the saved policy.
        agent: whose policy is expected; None takes any.

    Raises:
        ConfigError: if the folder holds the policy of another agent, a damaged one, or none.
    """
    path = folder / ABOUT
    if not path.is_file():
        raise ConfigError(f"{folder} holds no saved policy: there is no {ABOUT}")
    try:
        about: JSON = json.loads(path.read_text(encoding="utf-8"))
        found = about["agent"]
    except (ValueError, OSError, KeyError, TypeError) as error:
        raise ConfigError(f"the policy in {folder} is damaged: {ABOUT}: {error!r}") from None
    if agent is not None and found != agent:
        raise ConfigError(f"{path} is of agent {found!r}, expected {agent!r}")
    return about


def _write_tensors(
    path: Path, tensors: Mapping[str, torch.Tensor], metadata: dict[str, str] | None = None
) -> None:
    """Write a safetensors file, whole or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    whole = {name: t.detach().cpu().contiguous().clone() for name, t in tensors.items()}
    try:
        save_file(whole, temporary, metadata=metadata)
        make_readable(temporary)
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


def make_readable(path: Path) -> None:
    """Give a file the mode of any new file beside it; safetensors writes private ones."""
    usual = path.with_name(f".{path.name}.mode")
    usual.touch()
    path.chmod(usual.stat().st_mode)
    usual.unlink()


def _read_tensors(path: Path) -> tuple[Tensors, dict[str, str]]:
    """Return the tensors of a safetensors file and the metadata in its header."""
    with safe_open(path, framework="pt") as file:
        tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118  # no dict
        return tensors, file.metadata() or {}


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
