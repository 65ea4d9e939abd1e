"""The state of Stable-Baselines3's PPO as tensors and JSON: nothing is pickled.

Stable-Baselines3's own `save` holds neither the environment nor the random generators
(DLR-RM/stable-baselines3#1643), and its zip file is unpickled on load. Here a training state is
taken between two updates, when the rollout buffer is empty, and holds all that goes on from there.
"""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import numpy as np
import torch
from gymnasium import spaces

from promptgym.agents.checkpoint import (
    Tensors,
    load_optimizer,
    of_prefix,
    optimizer_tensors,
    read_policy,
    with_prefix,
    write_policy,
)
from promptgym.agents.spaces import space_from_json, space_to_json
from promptgym.types import JSON, FloatArray

AGENT = "ppo_edit"


def training_state(model: Any) -> tuple[Tensors, JSON]:
    """Return weights, optimizer, generators, environment and counters of a model."""
    kind, keys, position, has_gauss, gauss = np.random.get_state()
    tensors = {
        **with_prefix("policy", model.policy.state_dict()),
        **with_prefix("optimizer", optimizer_tensors(model.policy.optimizer)),
        **with_prefix("observation", {k: torch.as_tensor(v) for k, v in model._last_obs.items()}),
        "episode_starts": torch.as_tensor(model._last_episode_starts),
        "torch": torch.get_rng_state(),
        "numpy": torch.as_tensor(np.asarray(keys, dtype=np.int64)),
    }
    version, words, gauss_next = random.getstate()
    state = {
        "timesteps": model.num_timesteps,
        "updates": model._n_updates,
        "numpy": [kind, int(position), int(has_gauss), float(gauss)],
        "random": [version, list(words), gauss_next],
        "env": model.get_env().env.get_state(),
    }
    return tensors, state


def restore_training(model: Any, tensors: Tensors, state: JSON) -> None:
    """Put a model made alike where `training_state` was taken."""
    model.policy.load_state_dict(of_prefix("policy", tensors))
    load_optimizer(model.policy.optimizer, of_prefix("optimizer", tensors))
    model._last_obs = {k: v.numpy() for k, v in of_prefix("observation", tensors).items()}
    model._last_episode_starts = tensors["episode_starts"].numpy()
    model.num_timesteps, model._n_updates = state["timesteps"], state["updates"]
    model.get_env().env.set_state(state["env"])
    torch.set_rng_state(tensors["torch"])
    kind, position, has_gauss, gauss = state["numpy"]
    keys = tensors["numpy"].numpy().astype(np.uint32)
    np.random.set_state((kind, keys, position, has_gauss, gauss))
    version, words, gauss_next = state["random"]
    random.setstate((version, tuple(words), gauss_next))


def save_policy(folder: Path, model: Any, options: JSON) -> None:
    """Write weights, hyperparameters and spaces."""
    about = {
        "options": options,
        "observation_space": space_to_json(model.observation_space),
        "action_space": space_to_json(model.action_space),
    }
    write_policy(folder, AGENT, model.policy.state_dict(), about)


def load_policy(folder: Path) -> tuple[JSON, spaces.Space[Any], spaces.Space[Any], Tensors]:
    """Return options, observation space, action space and weights of a saved policy.

    Raises:
        ConfigError: if the folder holds the policy of another agent, or none.
    """
    weights, about = read_policy(folder, AGENT)
    observations = space_from_json(about["observation_space"])
    return about["options"], observations, space_from_json(about["action_space"]), weights


def vectors_in(weights: Tensors) -> tuple[FloatArray, FloatArray] | None:
    """Return the word vectors that a saved policy holds (see `WordPolicy`), if any."""
    seen = weights.get("features_extractor.embeddings.tokens.table")
    written = weights.get("action_net.words")
    if seen is None or written is None:
        return None
    return seen.double().numpy(), written.double().numpy()
