"""Rewards: scores of prompts -> what a policy is paid. Importing this fills the registries."""

from promptgym.rewards import answers, classification, composite, penalties
from promptgym.rewards.base import (
    REWARDS,
    Reward,
    RewardSpec,
    describe_reward,
    make_reward,
    register_reward,
)
from promptgym.rewards.composite import Weighted
from promptgym.rewards.formulas import delta
from promptgym.rewards.stabilizers import STABILIZERS, Stabilizer, make_stabilizer

__all__ = [
    "REWARDS",
    "STABILIZERS",
    "Reward",
    "RewardSpec",
    "Stabilizer",
    "Weighted",
    "answers",
    "classification",
    "composite",
    "delta",
    "describe_reward",
    "make_reward",
    "make_stabilizer",
    "penalties",
    "register_reward",
]
