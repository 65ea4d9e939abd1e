"""Steps per second of PromptEdit-v0: vector against scalar environments, 1 to 64 prompts at once.

Run from the repository root: `python benchmarks/env_steps.py [--model tiny] [--seconds 20]`.
Episodes are zero-shot and legal actions drawn at random, so nearly each step meets a prompt that is
not in the cache; both kinds have a cache of their own. Prints a Markdown table of env steps per CPU
second (one thread, so the same as steps per second on a core that does nothing else) and the ratio.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from typing import Any

import gymnasium as gym
import numpy as np

import promptgym
from promptgym.envs import sample_action


def rates(steppers: list[Callable[[], int]], seconds: float, rounds: int = 6) -> list[float]:
    """Return env steps per CPU second of functions that make some and say how many.

    They take turns, so that a machine that slows down slows all of them; CPU time leaves out what
    other processes took.
    """
    done, spent = [0] * len(steppers), [0.0] * len(steppers)
    for step in steppers:
        step()
    for _ in range(rounds):
        for i, step in enumerate(steppers):
            start = time.process_time()
            while time.process_time() - start < seconds / rounds:
                done[i] += step()
            spent[i] += time.process_time() - start
    return [n / t for n, t in zip(done, spent, strict=True)]


def scalar_stepper(envs: list[gym.Env[Any, Any]], seed: int) -> Callable[[], int]:
    """Step scalar environments one after another, resetting those that are over."""
    rng = np.random.default_rng(seed)
    for i, env in enumerate(envs):
        env.reset(seed=seed + i)

    def step() -> int:
        for env in envs:
            mask = env.get_wrapper_attr("action_masks")()
            _, _, terminated, truncated, _ = env.step(sample_action(env.action_space, mask, rng))
            if terminated or truncated:
                env.reset()
        return len(envs)

    return step


def vector_stepper(envs: Any, seed: int) -> Callable[[], int]:
    """Step a vector environment."""
    rng = np.random.default_rng(seed)
    envs.reset(seed=seed)

    def step() -> int:
        space = envs.single_action_space
        envs.step(np.stack([sample_action(space, mask, rng) for mask in envs.action_masks()]))
        return int(envs.num_envs)

    return step


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--task", default="author")
    parser.add_argument("--model", default="tiny")
    parser.add_argument("--seconds", type=float, default=20.0, help="CPU seconds a cell")
    parser.add_argument("--sizes", type=int, nargs="+", default=[1, 8, 64])
    parser.add_argument("--threads", type=int, default=1)
    options = parser.parse_args()
    import torch

    torch.set_num_threads(options.threads)
    names = {"task": options.task, "model": options.model}
    examples = len(promptgym.make_problem(**names).task.train)
    print(
        f"{options.model} on {options.task}, {examples} examples a prompt, {options.threads} thread"
    )
    print("\n| sub-environments | scalar, steps/CPU s | vector, steps/CPU s | ratio |")
    print("|---|---|---|---|")
    for seed, size in enumerate(options.sizes):
        problem = promptgym.make_problem(**names)
        envs = [
            gym.make("PromptEdit-v0", problem=problem, max_demonstrations=0) for _ in range(size)
        ]
        batch = gym.make_vec(
            "PromptEdit-v0",
            num_envs=size,
            autoreset_mode="SameStep",
            max_demonstrations=0,
            problem=promptgym.make_problem(**names),
        )
        one, many = rates(
            [scalar_stepper(envs, 1000 * seed), vector_stepper(batch, 1000 * seed)], options.seconds
        )
        print(f"| {size} | {one:.0f} | {many:.0f} | {many / one:.2f} |", flush=True)


if __name__ == "__main__":
    main()
