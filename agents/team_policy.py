"""The MultiPrompter agent's networks: a policy head and a critic a prompter, or one critic for all.

All of them read the hidden states of one frozen language model, so that a prompter sees the shared
prompt so far and a step costs one pass of the model.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

from promptgym.agents.frozen_writer import Actions, Adaptor, FrozenWriter


class TeamPolicy(FrozenWriter):
    """The frozen writer with one adaptor a prompter; prompter k writes words k n to (k + 1) n."""

    def __init__(
        self, backend: Any, actions: Actions, heads: list[Adaptor], tokens: int, source: str = ""
    ) -> None:
        """Put the parts together; `tokens` is n, the rest is as of `FrozenWriter`."""
        super().__init__(backend, actions, source)
        self.heads = nn.ModuleList(heads).to(self.device)
        self.tokens = tokens

    @property
    def trained(self) -> nn.ModuleList:
        """The adaptors."""
        return self.heads

    def logits_at(self, states: torch.Tensor, place: int) -> torch.Tensor:
        """Return the logits of whoever writes the word at a place."""
        return self.head(self.heads[place // self.tokens](states))

    def logits(self, states: torch.Tensor) -> torch.Tensor:
        """Return the logits of whole prompts' states (B, T, H), shape (B, T, A)."""
        own = torch.split(states, self.tokens, dim=1)
        adapted = [head(part) for head, part in zip(self.heads, own, strict=True)]
        return self.head(torch.cat(adapted, dim=1))

    def active_share(self, states: torch.Tensor) -> float:
        """Return the share of hidden units at work, over prompters and states (B, T, H)."""
        own = zip(self.heads, torch.split(states, self.tokens, dim=1), strict=True)
        shares = [head.active_share(part) for head, part in own]  # type: ignore[operator]
        return float(sum(shares) / len(shares))


class Critics(nn.Module):
    """V(state, place): one network that sees the whole episode, or one a prompter.

    Input is the frozen model's hidden state and which word comes next, one-hot.
    """

    def __init__(
        self, count: int, size: int, length: int, hidden: int, generator: torch.Generator
    ) -> None:
        """Draw the weights; the first values are 0.

        Args:
            count: 1 for a centralized critic, else the number of prompters.
            size: width of the states.
            length: words of a prompt; the critics share them equally.
            hidden: hidden units of each critic.
            generator: source of chance.
        """
        super().__init__()
        self.length = length
        self.nets = nn.ModuleList()
        for _ in range(count):
            first, last = nn.Linear(size + length, hidden), nn.Linear(hidden, 1)
            nn.init.xavier_uniform_(first.weight, generator=generator)
            for zero in (first.bias, last.weight, last.bias):
                nn.init.zeros_(zero)
            self.nets.append(nn.Sequential(first, nn.ReLU(), last))

    def forward(self, states: torch.Tensor) -> torch.Tensor:
        """Return the values of whole prompts' states (B, T, H), shape (B, T)."""
        places = torch.eye(self.length, device=states.device).expand(len(states), -1, -1)
        whole = torch.cat([states, places], -1)
        parts = torch.split(whole, self.length // len(self.nets), dim=1)
        values = [net(part)[..., 0] for net, part in zip(self.nets, parts, strict=True)]
        return torch.cat(values, dim=1)
