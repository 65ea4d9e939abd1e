"""Numbers that show a prompt policy collapsing; the loss does not.

Three kinds are told apart: a frozen policy (few distinct prompts, no entropy), one that does not
see its state (one word repeated, no active hidden unit) and one whose values ran away (soft values
far beyond ln of the number of actions, while its prompts stay varied).
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from promptgym.types import JSON, FloatArray


def distinct_share(prompts: Sequence[Sequence[object]]) -> float:
    """Return the share of prompts in a batch that are different ones, in (0, 1]."""
    return len({tuple(p) for p in prompts}) / len(prompts)


def repeated_share(prompts: Sequence[Sequence[object]]) -> float:
    """Return the share of words that stand earlier in the same prompt too, in [0, 1)."""
    words = sum(len(p) for p in prompts)
    return sum(len(p) - len(set(p)) for p in prompts) / max(1, words)


def batch_statistics(
    prompts: Sequence[Sequence[object]], rewards: FloatArray, entropy: float
) -> JSON:
    """Return the statistics of one batch of sampled prompts.

    Args:
        prompts: the words (or tokens) of each.
        rewards: raw reward of each, shape (P,); NaN where the prompt could not be scored.
        entropy: of the policy, nats a word.
    """
    valid = rewards[~np.isnan(rewards)]
    return {
        "distinct": distinct_share(prompts),
        "repeated": repeated_share(prompts),
        "entropy": entropy,
        "reward_mean": float(valid.mean()) if valid.size else None,
        "reward_std": float(valid.std()) if valid.size else None,
        "reward_best": float(valid.max()) if valid.size else None,
        "failed": int(rewards.size - valid.size),
    }
