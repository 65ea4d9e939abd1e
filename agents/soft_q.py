"""The loss of soft Q-learning with path consistency that RLPrompt trains with (Guo et al. 2021)."""

from __future__ import annotations

import torch
from torch.nn.functional import mse_loss


def soft_q_loss(
    logits: torch.Tensor,
    target_logits: torch.Tensor,
    actions: torch.Tensor,
    rewards: torch.Tensor,
    *,
    prior: float = 0.0,
    reversed_halves: float | None = None,
) -> torch.Tensor:
    """RLPrompt's loss: the mean of v2 and v3, summed over words, averaged over prompts.

    Args:
        logits: Q-values of the online network, shape (B, T, A).
        target_logits: of the target network, shape (B, T, A).
        actions: the words written, shape (B, T).
        rewards: shaped rewards of the prompts, shape (B,).
        prior: subtracted from the soft values V (ln A centres them on a uniform prior).
        reversed_halves: weight of the forward direction; None for it alone.

    Returns:
        A scalar.
    """
    forward = _v2_v3(logits, target_logits, actions, rewards, prior)
    if reversed_halves is None:
        return forward
    backward = _v2_v3(target_logits, logits, actions, rewards, prior)
    return reversed_halves * forward + (1 - reversed_halves) * backward


def _v2_v3(
    logits: torch.Tensor,
    target_logits: torch.Tensor,
    actions: torch.Tensor,
    rewards: torch.Tensor,
    prior: float,
) -> torch.Tensor:
    """Return the forward direction of `soft_q_loss`."""
    q = logits.gather(-1, actions[..., None])[..., 0]
    advantage = q - (logits.logsumexp(-1) - prior)
    value = target_logits.logsumexp(-1) - prior
    following = torch.cat([value[:, 1:], rewards[:, None]], dim=1)
    v2 = mse_loss(advantage, following - value, reduction="none")
    to_go = advantage.flip(1).cumsum(1).flip(1)
    v3 = mse_loss(to_go, rewards[:, None] - value, reduction="none")
    return ((v2 + v3) / 2).sum(1).mean()
