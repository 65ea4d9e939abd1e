"""Advantages and losses of MAPPO (Yu et al. 2022) for prompts with one reward at their end."""

from __future__ import annotations

import torch


def advantages(
    values: torch.Tensor, rewards: torch.Tensor, decay: float, horizon: int | None = None
) -> torch.Tensor:
    """Return generalized advantage estimates at discount 1 (Schulman et al. 2016, equation 16).

    Args:
        values: V before every word, shape (B, T).
        rewards: of the finished prompts, shape (B,).
        decay: lambda, in [0, 1]; 1 gives reward - V.
        horizon: words after which an agent's own episode ends. None is one episode of all words:
            what the next prompter's state is worth counts for the last. With a horizon each
            agent's last word is paid the reward itself, as independent learners see it.

    Returns:
        Shape (B, T).
    """
    b, t = values.shape
    own = values.reshape(-1, t if horizon is None else horizon)
    paid = rewards.repeat_interleave(len(own) // b)
    delta = torch.cat([own[:, 1:], paid[:, None]], 1) - own
    out, following = torch.empty_like(delta), torch.zeros_like(paid)
    for i in reversed(range(delta.shape[1])):
        following = delta[:, i] + decay * following
        out[:, i] = following
    return out.reshape(b, t)


def clipped_policy_loss(
    logprobs: torch.Tensor, old: torch.Tensor, advantage: torch.Tensor, clip: float
) -> torch.Tensor:
    """Return PPO's clipped surrogate (Schulman et al. 2017, equation 7), negated, shape as given.

    Args:
        logprobs: log-probabilities of the actions under the policy.
        old: under what sampled them.
        advantage: of the actions.
        clip: epsilon; the gain of a ratio beyond 1 +- epsilon does not count.
    """
    ratio = (logprobs - old).exp()
    return -torch.minimum(ratio * advantage, ratio.clamp(1 - clip, 1 + clip) * advantage)


def clipped_value_loss(
    values: torch.Tensor, old: torch.Tensor, returns: torch.Tensor, clip: float, huber: float
) -> torch.Tensor:
    """Return MAPPO's value loss: Huber, the worse of the new value and one clipped near the old.

    Args:
        values: of the critic.
        old: of the critic before the update.
        returns: what it is to predict.
        clip: largest useful change of a value.
        huber: where the loss becomes linear.
    """
    near = old + (values - old).clamp(-clip, clip)
    loss = torch.nn.functional.huber_loss
    return torch.maximum(
        loss(values, returns, reduction="none", delta=huber),
        loss(near, returns, reduction="none", delta=huber),
    )


def imitation_loss(
    logprobs: torch.Tensor, values: torch.Tensor, rewards: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor]:
    """Return the losses of self-imitation learning (Oh et al. 2018, equations 2 and 3).

    Past prompts are learned from only where they were better than their value: -log pi (R - V)+ and
    half the square of (R - V)+.

    Args:
        logprobs: log-probabilities of the words of past prompts, shape (B, T).
        values: V before every word, shape (B, T).
        rewards: of the prompts, shape (B,).

    Returns:
        Policy loss and value loss, each of shape (B, T).
    """
    better = (rewards[:, None] - values).clamp(min=0.0)
    return -logprobs * better.detach(), better.square() / 2
