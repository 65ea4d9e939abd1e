"""Steps a second of `PromptTable-v0` as a vector, beside Gymnasium's CartPole in the same run.

    taskset -c 0 python benchmarks/table_steps.py

CPU seconds of this process; actions are drawn beforehand, legal or not; medians of rounds that take
turns.
"""

from __future__ import annotations

import argparse
import statistics
import time
from typing import Any

import gymnasium as gym
import numpy as np

import promptgym  # noqa: F401  # registers the environments

SIZES = (1, 64, 1024)
IDS = {"PromptTable-v0": {}, "CartPole-v1": {"vectorization_mode": "vector_entry_point"}}


def rate(env: Any, actions: Any) -> float:
    """Return sub-environment steps a CPU second."""
    env.reset(seed=0)
    begun = time.process_time()
    for action in actions:
        env.step(action)
    return float(actions.size / (time.process_time() - begun))


def main() -> None:
    """Measure and print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--steps", type=int, default=2000, help="vector steps of a round")
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()
    print(
        "| sub-environments | PromptTable-v0, steps/s | CartPole-v1, steps/s |\n| --- | --- | --- |"
    )
    for size in SIZES:
        envs = [gym.make_vec(env_id, num_envs=size, **more) for env_id, more in IDS.items()]
        rng = np.random.default_rng(0)
        found: list[list[float]] = [[] for _ in envs]
        for _ in range(options.rounds):
            for env, rates in zip(envs, found, strict=True):
                n = int(env.single_action_space.n)  # type: ignore[attr-defined]
                rates.append(rate(env, rng.integers(n, size=(options.steps, size))))
        table, cart = (statistics.median(rates) for rates in found)
        print(f"| {size:,} | {table:,.0f} | {cart:,.0f} |")


if __name__ == "__main__":
    main()
