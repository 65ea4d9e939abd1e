"""RLPrompt (Deng et al., EMNLP 2022): write a prompt word by word, learn by soft Q-learning.

**Policy.** A frozen causal language model reads the prompt so far; a small MLP maps its last hidden
state to another one, which its own output layer turns into Q-values of all words. Sampling is from
softmax(Q); a prompt has a fixed number of words and is rewarded at its end.

**Update** (Guo et al. 2021, on-policy; `soft_q_loss`). With V = logsumexp(Q), A = Q[word] - V, a
slow copy marked ' and the shaped reward r:

    v2:  A_t           ->  V'_{t+1} - V'_t   (t < T),   r - V'_T   (t = T)
    v3:  A_t + .. + A_T ->  r - V'_t

and the loss is the batch mean of the sum over t of half of both squared errors. `published` is the
released code's behaviour, where the "reversed" halves that its option names promise are skipped.
`repaired` is what made it learn on small models: hidden units that are active at the start, all
words sampled, values centred on a uniform prior, one fixed reward scale, replay of good prompts,
and rewards that count more towards the end. See docs/agents.md.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import torch

from promptgym.agents.agent import configured
from promptgym.agents.collapse import batch_statistics
from promptgym.agents.frozen_writer import Actions, Adaptor, Rollout
from promptgym.agents.rlprompt_policy import PolicyLM
from promptgym.agents.soft_q import soft_q_loss
from promptgym.agents.writing import WritingAgent, WritingConfig
from promptgym.errors import ConfigError
from promptgym.problem import Problem
from promptgym.ranges import COUNT, NOT_NEGATIVE, POSITIVE, SHARE, Range
from promptgym.types import JSON, FloatArray


@dataclass(frozen=True)
class RLPromptConfig(WritingConfig):
    """Hyperparameters beside the shared ones; defaults are the released code's (`fsc_config.yaml`).

    Published, too: no exploration, no replay, no memory; the stabilizer is a z-score over the
    batch, then [0, 1] onto [0, 5], that is 5 z; the policy is distilgpt2.

    Attributes:
        length: words of a prompt.
        clip: largest gradient norm.
        biases: initial bias of the MLP's first and second layer.
        top_k: sample among the k likeliest words; 0 among all.
        tau: Polyak rate of the target network, moved at every update.
        centre: take soft values against a uniform prior, V - ln A for A words.
        reversed_halves: weight c of the forward losses, 1 - c of the same with online and target
            network exchanged; None leaves the reversed ones out, as the released code does.
        updates: steps of Adam on every batch; those after the first see replayed prompts only.
        replay: how many earlier prompts join each of them, off-policy; 0 is on-policy.
        sharpen: rewards count so many times more at the end of the budget than at its start, rising
            linearly: soft Q-learning keeps an entropy of its own. Published: 1.
    """

    agent: ClassVar[str] = "rlprompt"
    ranges: ClassVar[Mapping[Range, tuple[str, ...]]] = {
        COUNT: ("length", "updates"),
        NOT_NEGATIVE: ("top_k",),
        POSITIVE: ("clip", "sharpen"),
        SHARE: ("tau", "reversed_halves"),
    }

    length: int = 5
    clip: float = 5.0
    biases: tuple[float, float] = (-1e-4, -1e-4)
    top_k: int = 256
    tau: float = 0.001
    centre: bool = False
    reversed_halves: float | None = None
    updates: int = 1
    sharpen: float = 1.0

    def __post_init__(self) -> None:
        """Refuse values that cannot work; take the lists that JSON has for tuples."""
        super().__post_init__()
        object.__setattr__(self, "biases", tuple(self.biases))
        if self.updates > 1 and not self.replay:
            raise ConfigError("rlprompt: updates after the first need replay, which is 0")


PRESETS: dict[str, RLPromptConfig] = {
    "published": RLPromptConfig(),
    "repaired": RLPromptConfig(
        gains=(1.0, 1e-4),
        biases=(0.0, 0.0),
        top_k=0,
        explore=0.25,
        learning_rate=1e-3,
        stabilizer=("fixed_scale", "affine"),
        centre=True,
        updates=2,
        replay=32,
        sharpen=4.0,
        memory=True,
        vocabulary="problem",
    ),
}


class RLPrompt(WritingAgent[PolicyLM]):
    """RLPrompt as an agent: `learn`, `predict`, `save`, `load`, `optimize`."""

    name: ClassVar[str] = "rlprompt"
    config: RLPromptConfig

    def __init__(self, preset: str = "published", **options: Any) -> None:
        """Take a preset and what is to differ from it.

        Raises:
            ConfigError: for an unknown preset or option.
        """
        super().__init__()
        self.config = configured(self.name, PRESETS, preset, options)

    @property
    def length(self) -> int:
        """Words of a prompt."""
        return self.config.length

    @property
    def top_k(self) -> int:
        """Words among which the next one is drawn; 0 for all."""
        return self.config.top_k

    def _make_policy(self, backend: Any, actions: Actions, generator: torch.Generator) -> PolicyLM:
        """Return the frozen model with one adaptor."""
        c = self.config
        size = backend.model.get_output_embeddings().weight.shape[1]
        adaptor = Adaptor(size, c.hidden, gains=c.gains, biases=c.biases, generator=generator)
        return PolicyLM(backend, actions, adaptor, c.source)

    def _make_optimizer(self, generator: torch.Generator) -> torch.optim.Optimizer:
        """Return Adam on the adaptor."""
        return torch.optim.Adam(self.policy.adaptor.parameters(), lr=self.config.learning_rate)

    def _learn_from(
        self, problem: Problem, rollout: Rollout, rewards: FloatArray, uniform: bool
    ) -> JSON:
        """Learn from a batch, uniform or not: soft Q-learning may learn off-policy."""
        weight = 1.0 + (self.config.sharpen - 1.0) * self._progress(problem)
        loss, entropy = self._update(rollout, rewards, weight)
        return self._statistics(problem, rollout, rewards, loss, entropy)

    def _update(self, rollout: Rollout, rewards: FloatArray, weight: float) -> tuple[float, float]:
        """Learn from a batch; return the first loss and the policy's entropy (nats a word).

        Prompts whose every call failed take no part.
        """
        c = self.config
        valid = np.flatnonzero(~np.isnan(rewards))
        if not valid.size:
            return math.nan, math.nan
        actions, states, rewards = rollout.actions[valid], rollout.states[valid], rewards[valid]
        sizes, old = [valid.size], None
        if c.replay:
            self.past.add(actions, rewards)
            replayed, old = self.past.draw(
                c.replay * c.updates, c.replay_temperature, self.generator
            )
            actions = torch.cat([actions, replayed])
            states = torch.cat([states, self.policy.states_of(replayed)])
            sizes = [valid.size + c.replay, *[c.replay] * (c.updates - 1)]
        # Baseline and scale of the new prompts: with the replayed ones', new ones all look bad.
        shaped = weight * torch.tensor(self.stabilizer(rewards, old), dtype=torch.float32)
        with torch.no_grad():
            logp = self.policy.logits(states[: valid.size]).log_softmax(-1)
            entropy = float(-(logp.exp() * logp).sum(-1).mean())
        rows = zip(*(torch.split(x, sizes) for x in (states, actions, shaped)), strict=True)
        losses = [self._descend(*part) for part in rows]
        return losses[0], entropy

    def _descend(self, states: torch.Tensor, actions: torch.Tensor, rewards: torch.Tensor) -> float:
        """Take one step of Adam on the soft Q-learning loss; return the loss."""
        c, policy = self.config, self.policy
        policy.polyak(c.tau)
        logits = policy.logits(states)
        loss = soft_q_loss(
            logits,
            policy.logits(states, "target"),
            actions,
            rewards.to(policy.device),
            prior=math.log(logits.shape[-1]) if c.centre else 0.0,
            reversed_halves=c.reversed_halves,
        )
        self.optimizer.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        torch.nn.utils.clip_grad_norm_(policy.adaptor.parameters(), c.clip)
        self.optimizer.step()
        return float(loss.detach())

    def _statistics(
        self,
        problem: Problem,
        rollout: Rollout,
        rewards: FloatArray,
        loss: float,
        entropy: float,
    ) -> JSON:
        """Return the step's statistics; at the first step, warn of a dead network."""
        active = self.policy.adaptor.active_share(rollout.states)
        if self.step == 0 and active == 0.0:
            message = (
                "no hidden unit of the policy is active: it cannot see the prompt it writes and "
                "will repeat one word (preset 'repaired' starts with active units)"
            )
            problem.events.emit("warning", message=message)
            warnings.warn(message, stacklevel=2)
        statistics = batch_statistics(rollout.actions.tolist(), rewards, entropy)
        return {"loss": loss, "active": active, **statistics}
