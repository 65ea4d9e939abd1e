"""RLPrompt's policy: the frozen writer with an adaptor, and a slow copy of it."""

from __future__ import annotations

import copy
from typing import Any, Literal

import torch

from promptgym.agents.frozen_writer import Actions, Adaptor, FrozenWriter


class PolicyLM(FrozenWriter):
    """RLPrompt's policy: the frozen writer and its two adaptors (online and target)."""

    def __init__(self, backend: Any, actions: Actions, adaptor: Adaptor, source: str = "") -> None:
        """Put the parts together.

        Args:
            backend: as of `FrozenWriter`.
            actions: what may be written.
            adaptor: the trained part; the target network starts as a copy (never an alias).
            source: as of `FrozenWriter`.
        """
        super().__init__(backend, actions, source)
        self.adaptor = adaptor.to(self.device)
        self.target = copy.deepcopy(adaptor).requires_grad_(False)

    @property
    def trained(self) -> Adaptor:
        """The online adaptor."""
        return self.adaptor

    def logits(
        self, states: torch.Tensor, net: Literal["adaptor", "target"] = "adaptor"
    ) -> torch.Tensor:
        """Return the Q-values of all actions at states (..., H), shape (..., A)."""
        return self.head((self.adaptor if net == "adaptor" else self.target)(states))

    def logits_at(self, states: torch.Tensor, place: int) -> torch.Tensor:
        """Return the Q-values; the place does not matter."""
        return self.logits(states)

    @torch.no_grad()
    def polyak(self, tau: float) -> None:
        """Move the target network: target <- (1 - tau) target + tau online."""
        for slow, fast in zip(self.target.parameters(), self.adaptor.parameters(), strict=True):
            slow.lerp_(fast, tau)
