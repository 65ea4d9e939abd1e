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
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import torch

from promptgym.agents.agent import check_draws, configured
from promptgym.agents.base import PolicyAgent
from promptgym.agents.checkpoint import (
    Tensors,
    load_optimizer,
    of_prefix,
    optimizer_tensors,
    with_prefix,
)
from promptgym.agents.collapse import batch_statistics
from promptgym.agents.mappo import (
    advantages,
    clipped_policy_loss,
    clipped_value_loss,
    imitation_loss,
)
from promptgym.agents.multi_prompter_config import PRESETS, MultiPrompterConfig
from promptgym.agents.replay import PastPrompts
from promptgym.agents.rlprompt_policy import (
    Adaptor,
    Rollout,
    load_policy_lm,
    token_actions,
    word_actions,
)
from promptgym.agents.team_policy import AGENT, Critics, TeamPolicy, load_team, save_team
from promptgym.errors import PromptGymError
from promptgym.problem import Problem
from promptgym.prompts import Prompt
from promptgym.rewards.stabilizers import make_stabilizer
from promptgym.search import Selection
from promptgym.types import JSON, FloatArray


class MultiPrompter(PolicyAgent):
    """MultiPrompter as an agent: `learn`, `predict`, `save`, `load`, `optimize`."""

    name: ClassVar[str] = AGENT
    config: MultiPrompterConfig

    def __init__(self, preset: str = "default", **options: Any) -> None:
        """Take a preset and what is to differ from it.

        Raises:
            ConfigError: for an unknown preset or option.
        """
        self.config = configured(self.name, PRESETS, preset, options)
        self._policy: TeamPolicy | None = None
        self._start = Prompt("")

    @property
    def policy(self) -> TeamPolicy:
        """The prompters; raises PromptGymError before `learn` or `load`."""
        if self._policy is None:
            raise PromptGymError("this agent has no policy yet: call learn, optimize or load")
        return self._policy

    @property
    def length(self) -> int:
        """Words of a whole prompt."""
        return self.config.prompters * self.config.tokens

    def _build(self, problem: Problem, seed: int) -> None:
        """Make policies, critics, optimizer, generator and replay memory anew."""
        c = self.config
        backend = load_policy_lm(c.policy_lm, problem)
        rows, size = backend.model.get_output_embeddings().weight.shape
        if c.vocabulary == "problem":
            actions = word_actions(backend.tokenizer, problem.vocabulary)
        else:
            actions = token_actions(backend.tokenizer, rows)
        drawing = torch.Generator().manual_seed(seed)
        heads = [
            Adaptor(size, c.hidden, gains=c.gains, biases=(0.0, 0.0), generator=drawing)
            for _ in range(c.prompters)
        ]
        self._policy = TeamPolicy(backend, actions, heads, c.tokens, c.source)
        count = 1 if c.critic == "central" else c.prompters
        self.critics = Critics(count, size, self.length, c.critic_hidden, drawing)
        self.critics.to(self.policy.device)
        self.generator = torch.Generator(self.policy.device).manual_seed(seed)
        groups = [
            {"params": list(self.policy.heads.parameters()), "lr": c.learning_rate},
            {"params": list(self.critics.parameters()), "lr": c.critic_rate},
        ]
        self.optimizer = torch.optim.Adam(groups, eps=1e-5)  # MAPPO's epsilon
        self.stabilizer = make_stabilizer(c.stabilizer)
        self.past = PastPrompts()
        self._start = problem.initial_prompt

    def _train_step(self, problem: Problem, selection: Selection | None) -> None:
        """Sample a batch, have it scored, update; look at the greedy prompt now and then."""
        c = self.config
        self._drawn = self.generator.get_state()
        uniform = self._progress(problem) < c.explore
        rollout = self.policy.rollout(c.batch, self.length, self.generator, uniform=uniform)
        rewards = self._ask(problem, selection, self._prompts(rollout.actions))
        if c.greedy_every and self.step % c.greedy_every == 0:
            self._ask(problem, selection, [p for p in self.predict() if p not in self.known])
        self._updating = True
        weight = c.entropy * (c.entropy_end / c.entropy) ** self._progress(problem)
        row = self._update(rollout, rewards, uniform, weight)
        statistics = batch_statistics(rollout.actions.tolist(), rewards, row.pop("entropy"))
        self._drawn = self.generator.get_state()
        self._end_step(problem, {**row, **statistics})

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
            logits = self.policy.logits(states)
            sampled = torch.zeros_like(logits) if uniform else logits
            before = chosen(sampled, actions)
        row: JSON = {}
        for epoch in range(c.epochs):
            logits = self.policy.logits(states)
            logp = chosen(logits, actions)
            spread = entropies(logits)
            policy_loss = clipped_policy_loss(logp, before, advantage, c.clip) - entropy * spread
            value_loss = clipped_value_loss(
                self.critics(states), values, advantage + values, c.clip, c.huber
            )
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

    def predict(self, n: int = 1, *, greedy: bool = True, seed: int = 0) -> list[Prompt]:
        """Return prompts of the team: its likeliest one, or `n` samples."""
        check_draws(n)
        if greedy:
            return self._prompts(self.policy.rollout(1, self.length, None).actions) * n
        generator = torch.Generator(self.policy.device).manual_seed(seed)
        return self._prompts(self.policy.rollout(n, self.length, generator).actions)

    def _prompts(self, actions: torch.Tensor) -> list[Prompt]:
        """Return the prompts of actions (B, T); demonstrations and system stay the start's."""
        return [replace(self._start, instruction=text) for text in self.policy.texts(actions)]

    def _get_state(self) -> tuple[Tensors, JSON]:
        """Return weights, optimizer, generator, replay memory and stabilizer."""
        tensors = {
            **with_prefix("policy", self.policy.state_dict()),
            **with_prefix("critics", self.critics.state_dict()),
            **with_prefix("optimizer", optimizer_tensors(self.optimizer)),
            "generator": self._drawn,
            **self.past.get_state(self.length),
        }
        return tensors, {"stabilizer": self.stabilizer.get_state()}

    def _set_state(self, tensors: Tensors, state: JSON) -> None:
        """Take them back."""
        self.policy.load_state_dict(of_prefix("policy", tensors))
        self.critics.load_state_dict(of_prefix("critics", tensors))
        load_optimizer(self.optimizer, of_prefix("optimizer", tensors))
        self.generator.set_state(tensors["generator"])
        self.stabilizer.set_state(state["stabilizer"])
        self.past.set_state(tensors)

    def save(self, folder: str | Path) -> None:
        """Write the policies: `policy.json` and `policy.safetensors`."""
        save_team(Path(folder), self.policy, asdict(self.config), self._start)

    @classmethod
    def load(cls, folder: str | Path, model: Any = None) -> MultiPrompter:
        """Return an agent with saved policies.

        Args:
            folder: what `save` wrote.
            model: the policies' language model; None loads what `policy_lm` names.

        Raises:
            ConfigError: if they were trained on another language model.
        """
        agent = cls()
        agent._policy, options, agent._start = load_team(Path(folder), model)
        agent.config = MultiPrompterConfig(**options)
        return agent


def chosen(logits: torch.Tensor, actions: torch.Tensor) -> torch.Tensor:
    """Return the log-probability of each word written; (B, T, A), (B, T) -> (B, T)."""
    return logits.log_softmax(-1).gather(-1, actions[..., None])[..., 0]


def entropies(logits: torch.Tensor) -> torch.Tensor:
    """Return the entropy of each choice, nats; (B, T, A) -> (B, T)."""
    logp = logits.log_softmax(-1)
    return -(logp.exp() * logp).sum(-1)
