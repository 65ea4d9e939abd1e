"""MultiPrompter (Kim et al. 2023, arXiv:2310.16730): several prompters write one prompt in turns.

**Policies.** N prompters share one frozen causal language model; each has an adaptor of its own
(RLPrompt's MLP before the output layer) and appends n words to the shared prompt. All are paid the
reward of the finished prompt: the game of `MultiPrompter-v0`, played for a whole batch at a time.

**Update** (MAPPO, Yu et al. 2022, arXiv:2103.01955). With r the ratio of the new to the old
probability of a word and A its advantage by a critic of the shared prompt (`agents/mappo.py`):

    policy:  - mean over prompts, sum over words of  min(r A, clip(r, 1 - c, 1 + c) A) + entropy
    critic:  clipped Huber loss of V against A + V

`critic="central"` is one critic of the whole episode, so that what a prompter leaves to the next is
worth something to it; `"independent"` gives each its own, which sees its own words only (IPPO, de
Witt et al. 2020). `prompters=1` is one agent with the whole horizon.

`mappo` has the published hyperparameters. `default` learns within a few thousand prompts, by what
repaired RLPrompt (see docs/agents.md): all words alike likely at first, and good prompts of the
past learned again, by self-imitation (Oh et al. 2018).
"""

from __future__ import annotations

import math
from typing import Any, ClassVar

import numpy as np
import torch
from torch import nn

from promptgym.agents.agent import configured
from promptgym.agents.collapse import batch_statistics
from promptgym.agents.frozen_writer import Actions, Adaptor, Rollout
from promptgym.agents.mappo import (
    advantages,
    clipped_policy_loss,
    clipped_value_loss,
    imitation_loss,
)
from promptgym.agents.multi_prompter_config import PRESETS, MultiPrompterConfig
from promptgym.agents.team_policy import Critics, TeamPolicy
from promptgym.agents.writing import WritingAgent
from promptgym.problem import Problem
from promptgym.types import JSON, FloatArray


class MultiPrompter(WritingAgent[TeamPolicy]):
    """MultiPrompter as an agent: `learn`, `predict`, `save`, `load`, `optimize`."""

    name: ClassVar[str] = "multi_prompter"
    config: MultiPrompterConfig

    def __init__(self, preset: str = "default", **options: Any) -> None:
        """Take a preset and what is to differ from it.

        Raises:
            ConfigError: for an unknown preset or option.
        """
        super().__init__()
        self.config = configured(self.name, PRESETS, preset, options)

    @property
    def length(self) -> int:
        """Words of a whole prompt."""
        return self.config.prompters * self.config.tokens

    def _make_policy(
        self, backend: Any, actions: Actions, generator: torch.Generator
    ) -> TeamPolicy:
        """Return the frozen model with an adaptor a prompter."""
        c = self.config
        size = backend.model.get_output_embeddings().weight.shape[1]
        heads = [
            Adaptor(size, c.hidden, gains=c.gains, biases=(0.0, 0.0), generator=generator)
            for _ in range(c.prompters)
        ]
        return TeamPolicy(backend, actions, heads, c.tokens, c.source)

    def _make_optimizer(self, generator: torch.Generator) -> torch.optim.Optimizer:
        """Make the critics; return Adam on all networks."""
        c = self.config
        count = 1 if c.critic == "central" else c.prompters
        self.critics = Critics(count, self.policy.size, self.length, c.critic_hidden, generator)
        self.critics.to(self.policy.device)
        groups = [
            {"params": list(self.policy.heads.parameters()), "lr": c.learning_rate},
            {"params": list(self.critics.parameters()), "lr": c.critic_rate},
        ]
        return torch.optim.Adam(groups, eps=1e-5)  # MAPPO's epsilon

    def _networks(self) -> dict[str, nn.Module]:
        """Return policies and critics."""
        return {"policy": self.policy, "critics": self.critics}

    def _learn_from(
        self, problem: Problem, rollout: Rollout, rewards: FloatArray, uniform: bool
    ) -> JSON:
        """Learn from a batch, with the entropy's weight of this part of the budget."""
        c = self.config
        weight = c.entropy * (c.entropy_end / c.entropy) ** self._progress(problem)
        row = self._update(rollout, rewards, uniform, weight)
        return row | batch_statistics(rollout.actions.tolist(), rewards, row["entropy"])

    def _update(self, rollout: Rollout, rewards: FloatArray, uniform: bool, entropy: float) -> JSON:
        """Learn from a batch in several passes; return statistics of the first.

        Prompts whose every call failed take no part.
        """
        c = self.config
        valid = np.flatnonzero(~np.isnan(rewards))
        if not valid.size:
            return {"loss": math.nan, "entropy": math.nan}
        states, actions = rollout.states[valid], rollout.actions[valid]
        replayed, known = self._replayed(actions, rewards[valid])
        shaped = torch.tensor(self.stabilizer(rewards[valid], known), dtype=torch.float32)
        shaped = shaped.to(states.device)
        new, old = shaped[: valid.size], torch.split(shaped[valid.size :], max(1, c.replay))
        with torch.no_grad():
            values = self.critics(states)
            horizon = None if c.critic == "central" else c.tokens
            advantage = advantages(values, new, c.decay, horizon)
            targets = advantage + values
            if c.normalize:
                advantage = (advantage - advantage.mean()) / (advantage.std() + 1e-5)
            logits = self.policy.logits(states)
            sampled = torch.zeros_like(logits) if uniform else logits
            before = chosen(sampled, actions)
        row: JSON = {}
        for epoch in range(c.epochs):
            logits = self.policy.logits(states)
            logp = chosen(logits, actions)
            spread = entropies(logits)
            policy_loss = clipped_policy_loss(logp, before, advantage, c.clip) - entropy * spread
            value_loss = clipped_value_loss(self.critics(states), values, targets, c.clip, c.huber)
            loss = policy_loss.sum(1).mean() + value_loss.sum(1).mean()
            if c.replay:
                loss = loss + self._imitate(replayed[epoch], old[epoch], entropy)
            if not epoch:
                row = {
                    "loss": float(loss.detach()),
                    "value_loss": float(value_loss.detach().mean()),
                    "entropy": float(spread.detach().mean()),
                    "active": self.policy.active_share(states),
                }
            self._descend(loss)
        with torch.no_grad():
            ratio = (chosen(self.policy.logits(states), actions) - before).exp()
            row["clipped"] = float(((ratio - 1).abs() > c.clip).float().mean())
        return row

    def _imitate(
        self, actions: torch.Tensor, rewards: torch.Tensor, entropy: float
    ) -> torch.Tensor:
        """Return the loss of self-imitation on past prompts (R, T), where entropy counts too."""
        states = self.policy.states_of(actions)
        logits = self.policy.logits(states)
        policy_loss, value_loss = imitation_loss(
            chosen(logits, actions), self.critics(states), rewards
        )
        loss = self.config.imitation * (policy_loss + value_loss) - entropy * entropies(logits)
        return loss.sum(1).mean()

    def _descend(self, loss: torch.Tensor) -> None:
        """Take one step of Adam; the gradients of policies and critics are clipped apart."""
        self.optimizer.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        for network in (self.policy.heads, self.critics):
            torch.nn.utils.clip_grad_norm_(network.parameters(), self.config.largest_norm)
        self.optimizer.step()

    def _replayed(
        self, actions: torch.Tensor, rewards: FloatArray
    ) -> tuple[tuple[torch.Tensor, ...], FloatArray | None]:
        """Remember a batch; draw past prompts for each pass."""
        c = self.config
        if not c.replay:
            return (), None
        self.past.add(actions, rewards)
        again, known = self.past.draw(c.replay * c.epochs, c.replay_temperature, self.generator)
        return torch.split(again, c.replay), known


def chosen(logits: torch.Tensor, actions: torch.Tensor) -> torch.Tensor:
    """Return the log-probability of each word written; (B, T, A), (B, T) -> (B, T)."""
    return logits.log_softmax(-1).gather(-1, actions[..., None])[..., 0]


def entropies(logits: torch.Tensor) -> torch.Tensor:
    """Return the entropy of each choice, nats; (B, T, A) -> (B, T)."""
    logp = logits.log_softmax(-1)
    return -(logp.exp() * logp).sum(-1)
