"""`PastPrompts`: prompts that a policy wrote with what they were paid, to be learned from again."""

from __future__ import annotations

import numpy as np
import torch

from promptgym.agents.checkpoint import Tensors
from promptgym.types import FloatArray


class PastPrompts:
    """All prompts so far, each once; good ones are drawn more often.

    Attributes:
        rewards: actions of a prompt -> its reward.
    """

    def __init__(self) -> None:
        """Begin empty."""
        self.rewards: dict[tuple[int, ...], float] = {}

    def add(self, actions: torch.Tensor, rewards: FloatArray) -> None:
        """Remember prompts, shape (B, T), and their rewards, shape (B,)."""
        self.rewards.update(zip(map(tuple, actions.tolist()), rewards.tolist(), strict=True))

    def draw(
        self, count: int, temperature: float, generator: torch.Generator
    ) -> tuple[torch.Tensor, FloatArray]:
        """Draw prompts with probability ~ exp(R / (temperature * std R)), with replacement.

        Returns:
            Actions, shape (count, T), on the generator's device, and rewards, shape (count,).
        """
        known = np.array(list(self.rewards.values()))
        weights = (known - known.max()) / (temperature * known.std() + 1e-8)
        device = generator.device
        drawn = torch.multinomial(
            torch.tensor(np.exp(weights), device=device),
            count,
            replacement=True,
            generator=generator,
        ).tolist()
        prompts = list(self.rewards)
        return torch.tensor([prompts[i] for i in drawn], device=device), known[drawn]

    def get_state(self, length: int) -> Tensors:
        """Return all prompts, of `length` words, and their rewards."""
        past = np.array(list(self.rewards), dtype=np.int64).reshape(-1, length)
        rewards = torch.tensor(list(self.rewards.values()), dtype=torch.float64)
        return {"past": torch.from_numpy(past), "past_rewards": rewards}

    def set_state(self, tensors: Tensors) -> None:
        """Take them back."""
        past = map(tuple, tensors["past"].tolist())
        self.rewards = dict(zip(past, tensors["past_rewards"].tolist(), strict=True))
