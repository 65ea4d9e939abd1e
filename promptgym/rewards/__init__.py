"""Rewards: scores of prompts -> what a policy is paid."""

from promptgym.rewards.base import REWARDS, Reward, RewardSpec, make_reward, register_reward

__all__ = ["REWARDS", "Reward", "RewardSpec", "make_reward", "register_reward"]
