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
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, ClassVar, Literal

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
from promptgym.agents.ranges import COUNT, NOT_NEGATIVE, POSITIVE, SHARE, check_ranges
from promptgym.agents.replay import PastPrompts
from promptgym.agents.rlprompt_policy import (
    Adaptor,
    PolicyLM,
    Rollout,
    load_policy,
    load_policy_lm,
    save_policy,
    token_actions,
    word_actions,
)
from promptgym.agents.soft_q import soft_q_loss
from promptgym.errors import ConfigError, PromptGymError
from promptgym.problem import Problem
from promptgym.prompts import Prompt
from promptgym.rewards.stabilizers import make_stabilizer
from promptgym.search import Selection
from promptgym.types import JSON, FloatArray

COUNTS = ("steps", "batch", "length", "hidden", "updates", "log_every", "checkpoint_every")
AMOUNTS = ("learning_rate", "gains", "top_k", "replay", "patience", "greedy_every")


@dataclass(frozen=True)
class RLPromptConfig:
    """Hyperparameters; the defaults are the paper's, from its released code (`fsc_config.yaml`).

    Attributes:
        steps: updates at most; the budget may end training earlier.
        batch: prompts a step.
        length: words of a prompt.
        learning_rate: of Adam.
        clip: largest gradient norm.
        hidden: hidden units of the MLP.
        gains: Xavier-uniform gain of its first and second layer.
        biases: initial bias of both.
        top_k: sample among the k likeliest words; 0 among all.
        explore: share of the budget over which all words are alike likely, whatever has been
            learned; published: 0.
        tau: Polyak rate of the target network, moved at every update.
        stabilizer: what is done to a batch's rewards, see `promptgym.rewards.stabilizers`;
            published: z-score over the batch, then [0, 1] onto [0, 5], that is 5 z.
        centre: take soft values against a uniform prior, V - ln A for A words.
        reversed_halves: weight c of the forward losses, 1 - c of the same with online and target
            network exchanged; None leaves the reversed ones out, as the released code does.
        updates: steps of Adam on every batch; those after the first see replayed prompts only.
        replay: how many earlier prompts join each of them, off-policy; 0 is on-policy. Their
            rewards are known and cost no query.
        replay_temperature: they are drawn with probability ~ exp(R / (temperature * std R)), over
            all prompts so far.
        sharpen: rewards count so many times more at the end of the budget than at its start, rising
            linearly: soft Q-learning keeps an entropy of its own. Published: 1.
        memory: do not ask again for prompts whose reward is known; published: False.
        patience: with memory, training ends after so many steps without a new prompt.
        vocabulary: "policy": all tokens of the policy's tokenizer but special ones; "problem": the
            problem's words that are single tokens of it.
        policy_lm: "target" for the problem's own, or what `load_model` takes (paper: distilgpt2).
        source: text before the prompt; "" for the policy's first token (the released code's
            "<|endoftext|>", with GPT-2).
        greedy_every: steps between two looks at the greedy prompt (asked if it is a new one).
        log_every: steps between two rows of the statistics kept in the result.
        checkpoint_every: steps between two checkpoints.
    """

    steps: int = 12_000
    batch: int = 16
    length: int = 5
    learning_rate: float = 5e-5
    clip: float = 5.0
    hidden: int = 2048
    gains: tuple[float, float] = (1e-4, 1e-4)
    biases: tuple[float, float] = (-1e-4, -1e-4)
    top_k: int = 256
    explore: float = 0.0
    tau: float = 0.001
    stabilizer: tuple[str | dict[str, Any], ...] = ("batch_z", "affine")
    centre: bool = False
    reversed_halves: float | None = None
    updates: int = 1
    replay: int = 0
    replay_temperature: float = 1.0
    sharpen: float = 1.0
    memory: bool = False
    patience: int = 50
    vocabulary: Literal["policy", "problem"] = "policy"
    policy_lm: str = "tiny"
    source: str = ""
    greedy_every: int = 10
    log_every: int = 10
    checkpoint_every: int = 100

    def __post_init__(self) -> None:
        """Refuse values that cannot work; take the lists that JSON has for tuples."""
        for name in ("gains", "biases", "stabilizer"):
            object.__setattr__(self, name, tuple(getattr(self, name)))
        check_ranges(
            "rlprompt",
            self,
            {
                COUNT: COUNTS,
                NOT_NEGATIVE: AMOUNTS,
                POSITIVE: ("clip", "replay_temperature", "sharpen"),
                SHARE: ("explore", "tau", "reversed_halves"),
            },
        )
        if self.updates > 1 and not self.replay:
            raise ConfigError("rlprompt: updates after the first need replay, which is 0")
        if self.vocabulary not in ("policy", "problem"):
            raise ConfigError(
                f"rlprompt: vocabulary must be 'policy' or 'problem', got {self.vocabulary!r}"
            )
        make_stabilizer(self.stabilizer)


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


class RLPrompt(PolicyAgent):
    """RLPrompt as an agent: `learn`, `predict`, `save`, `load`, `optimize`."""

    name: ClassVar[str] = "rlprompt"
    config: RLPromptConfig

    def __init__(self, preset: str = "published", **options: Any) -> None:
        """Take a preset and what is to differ from it.

        Raises:
            ConfigError: for an unknown preset or option.
        """
        self.config = configured(self.name, PRESETS, preset, options)
        self._policy: PolicyLM | None = None
        self._start = Prompt("")

    @property
    def policy(self) -> PolicyLM:
        """The policy; raises PromptGymError before `learn` or `load`."""
        if self._policy is None:
            raise PromptGymError("this agent has no policy yet: call learn, optimize or load")
        return self._policy

    def _build(self, problem: Problem, seed: int) -> None:
        """Make policy, optimizer, generator and replay memory anew."""
        c = self.config
        backend = load_policy_lm(c.policy_lm, problem)
        if c.vocabulary == "problem":
            actions = word_actions(backend.tokenizer, problem.vocabulary)
        else:
            rows = backend.model.get_output_embeddings().weight.shape[0]
            actions = token_actions(backend.tokenizer, rows)
        size = backend.model.get_output_embeddings().weight.shape[1]
        drawing = torch.Generator().manual_seed(seed)
        adaptor = Adaptor(size, c.hidden, gains=c.gains, biases=c.biases, generator=drawing)
        self._policy = PolicyLM(backend, actions, adaptor, c.source)
        self.generator = torch.Generator(self.policy.device).manual_seed(seed)
        self.optimizer = torch.optim.Adam(self.policy.adaptor.parameters(), lr=c.learning_rate)
        self.stabilizer = make_stabilizer(c.stabilizer)
        self.past = PastPrompts()
        self._start = problem.initial_prompt

    def _train_step(self, problem: Problem, selection: Selection | None) -> None:
        """Sample a batch, have it scored, update once; look at the greedy prompt now and then."""
        c = self.config
        self._drawn = self.generator.get_state()
        uniform = self._progress(problem) < c.explore
        rollout = self.policy.rollout(
            c.batch, c.length, self.generator, top_k=c.top_k, uniform=uniform
        )
        rewards = self._ask(problem, selection, self._prompts(rollout.actions))
        if c.greedy_every and self.step % c.greedy_every == 0:
            self._ask(problem, selection, [p for p in self.predict() if p not in self.known])
        self._updating = True
        weight = 1.0 + (c.sharpen - 1.0) * self._progress(problem)
        loss, entropy = self._update(rollout, rewards, weight)
        row = self._statistics(problem, rollout, rewards, loss, entropy)
        self._drawn = self.generator.get_state()
        self._end_step(problem, row)

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

    def predict(self, n: int = 1, *, greedy: bool = True, seed: int = 0) -> list[Prompt]:
        """Return prompts of the policy: its likeliest one, or `n` samples of softmax(Q)."""
        check_draws(n)
        if greedy:
            rollout = self.policy.rollout(1, self.config.length, None)
            return self._prompts(rollout.actions) * n
        generator = torch.Generator(self.policy.device).manual_seed(seed)
        rollout = self.policy.rollout(n, self.config.length, generator, top_k=self.config.top_k)
        return self._prompts(rollout.actions)

    def _prompts(self, actions: torch.Tensor) -> list[Prompt]:
        """Return the prompts of actions (B, T); demonstrations and system stay the start's."""
        return [replace(self._start, instruction=text) for text in self.policy.texts(actions)]

    def _get_state(self) -> tuple[Tensors, JSON]:
        """Return weights, optimizer, generator, replay memory and stabilizer."""
        tensors = {
            **with_prefix("policy", self.policy.state_dict()),
            **with_prefix("optimizer", optimizer_tensors(self.optimizer)),
            "generator": self._drawn,
            **self.past.get_state(self.config.length),
        }
        return tensors, {"stabilizer": self.stabilizer.get_state()}

    def _set_state(self, tensors: Tensors, state: JSON) -> None:
        """Take them back."""
        self.policy.load_state_dict(of_prefix("policy", tensors))
        load_optimizer(self.optimizer, of_prefix("optimizer", tensors))
        self.generator.set_state(tensors["generator"])
        self.stabilizer.set_state(state["stabilizer"])
        self.past.set_state(tensors)

    def save(self, folder: str | Path) -> None:
        """Write the policy: `policy.json` and `policy.safetensors`."""
        save_policy(Path(folder), self.policy, asdict(self.config), self._start)

    @classmethod
    def load(cls, folder: str | Path, model: Any = None) -> RLPrompt:
        """Return an agent with a saved policy.

        Args:
            folder: what `save` wrote.
            model: the policy's language model; None loads what `policy_lm` names.

        Raises:
            ConfigError: if the policy was trained on another language model.
        """
        agent = cls()
        agent._policy, options, agent._start = load_policy(Path(folder), model)
        agent.config = RLPromptConfig(**options)
        return agent
