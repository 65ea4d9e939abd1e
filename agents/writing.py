"""`WritingAgent`: what agents share whose policy is a `FrozenWriter`.

Such an agent's own file holds its hyperparameters, its networks and its update. Here are sampling,
the memory of past prompts, checkpoints and files.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, ClassVar, Generic, Literal, Self, TypeVar

import torch
from torch import nn

from promptgym.agents.agent import check_draws
from promptgym.agents.base import PolicyAgent
from promptgym.agents.checkpoint import (
    ABOUT,
    TRAIN_AGAIN,
    Tensors,
    load_optimizer,
    of_prefix,
    of_this_version,
    optimizer_tensors,
    with_prefix,
)
from promptgym.agents.frozen_writer import (
    Actions,
    FrozenWriter,
    Rollout,
    actions_of,
    load_policy_lm,
    read_writer,
    save_writer,
)
from promptgym.agents.replay import PastPrompts
from promptgym.errors import PromptGymError
from promptgym.problem import Problem
from promptgym.prompts import Prompt
from promptgym.ranges import (
    COUNT,
    NOT_NEGATIVE,
    POSITIVE,
    SHARE,
    Range,
    check_choices,
    check_ranges,
)
from promptgym.rewards.stabilizers import make_stabilizer
from promptgym.search import Selection
from promptgym.types import JSON, FloatArray

Policy = TypeVar("Policy", bound=FrozenWriter)


@dataclass(frozen=True)
class WritingConfig:
    """Hyperparameters of a policy that writes word by word; the defaults are RLPrompt's.

    Attributes:
        steps: updates at most; the budget may end training earlier.
        batch: prompts a step.
        learning_rate: of Adam.
        hidden: hidden units of an adaptor.
        gains: Xavier-uniform gain of an adaptor's first and second layer.
        explore: share of the budget over which all words are alike likely, whatever has been
            learned.
        stabilizer: what is done to a batch's rewards, see `promptgym.rewards.stabilizers`.
        replay: how many earlier prompts join an update, off-policy; 0 is on-policy. Their rewards
            are known and cost no query.
        replay_temperature: they are drawn with probability ~ exp(R / (temperature * std R)), over
            all prompts so far.
        memory: do not ask again for prompts whose reward is known.
        patience: with memory, training ends after so many steps without a new prompt.
        vocabulary: "policy": all tokens of the policy's tokenizer but special ones; "problem": the
            problem's words that are single tokens of it.
        policy_lm: "target" for the problem's own, or what `load_model` takes.
        source: text before the prompt; "" for the policy's first token.
        greedy_every: steps between two looks at the greedy prompt (asked if it is a new one); 0
            for never.
        log_every: steps between two rows of the statistics kept in the result.
        checkpoint_every: steps between two checkpoints.
    """

    agent: ClassVar[str]
    ranges: ClassVar[Mapping[Range, tuple[str, ...]]]
    """Of further fields."""

    steps: int = 12_000
    batch: int = 16
    learning_rate: float = 5e-5
    hidden: int = 2048
    gains: tuple[float, float] = (1e-4, 1e-4)
    explore: float = 0.0
    stabilizer: tuple[str | dict[str, Any], ...] = ("batch_z", "affine")
    replay: int = 0
    replay_temperature: float = 1.0
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
        for name in ("gains", "stabilizer"):
            object.__setattr__(self, name, tuple(getattr(self, name)))
        shared = {
            COUNT: ("steps", "batch", "hidden", "log_every", "checkpoint_every"),
            NOT_NEGATIVE: ("learning_rate", "gains", "replay", "patience", "greedy_every"),
            POSITIVE: ("replay_temperature",),
            SHARE: ("explore",),
        }
        check_ranges(self.agent, self, shared)
        check_ranges(self.agent, self, self.ranges)
        check_choices(self.agent, self)
        make_stabilizer(self.stabilizer)


class WritingAgent(PolicyAgent, Generic[Policy]):
    """Base of agents whose policy is a `FrozenWriter`.

    Attributes:
        past: prompts that may be learned from again.
    """

    config: WritingConfig

    def __init__(self) -> None:
        """Begin without a policy."""
        self._policy: Policy | None = None
        self._start = Prompt("")

    @property
    def policy(self) -> Policy:
        """The policy; raises PromptGymError before `learn` or `load`."""
        if self._policy is None:
            raise PromptGymError("this agent has no policy yet: call learn, optimize or load")
        return self._policy

    @property
    @abstractmethod
    def length(self) -> int:
        """Words of a prompt."""

    @property
    def top_k(self) -> int:
        """Words among which the next one is drawn; 0 for all."""
        return 0

    @abstractmethod
    def _make_policy(self, backend: Any, actions: Actions, generator: torch.Generator) -> Policy:
        """Return the policy, its weights drawn."""

    @abstractmethod
    def _make_optimizer(self, generator: torch.Generator) -> torch.optim.Optimizer:
        """Return the optimizer of all that is trained; makes what is trained beside the policy."""

    @abstractmethod
    def _learn_from(
        self, problem: Problem, rollout: Rollout, rewards: FloatArray, uniform: bool
    ) -> JSON:
        """Update on a batch; return the step's statistics.

        Args:
            problem: whose budget says how far training is; its events take warnings.
            rollout: the batch.
            rewards: of its prompts, shape (B,); NaN where every call failed.
            uniform: whether the words were drawn alike likely.
        """

    def _networks(self) -> dict[str, nn.Module]:
        """Return all that is trained, by the name it has in checkpoints."""
        return {"policy": self.policy}

    def _build(self, problem: Problem, seed: int) -> None:
        """Make policy, optimizer, generator and memory anew."""
        c = self.config
        backend = load_policy_lm(c.policy_lm, problem)
        drawing = torch.Generator().manual_seed(seed)
        actions = actions_of(backend, c.vocabulary, problem)
        self._policy = self._make_policy(backend, actions, drawing)
        self.optimizer = self._make_optimizer(drawing)
        self.generator = torch.Generator(self.policy.device).manual_seed(seed)
        self.stabilizer = make_stabilizer(c.stabilizer)
        self.past = PastPrompts()
        self._start = problem.initial_prompt

    def _train_step(self, problem: Problem, selection: Selection | None) -> None:
        """Sample a batch, have it scored, update; look at the greedy prompt now and then."""
        c = self.config
        self._drawn = self.generator.get_state()
        uniform = self._progress(problem) < c.explore
        rollout = self.policy.rollout(
            c.batch, self.length, self.generator, top_k=self.top_k, uniform=uniform
        )
        rewards = self._ask(problem, selection, self._prompts(rollout.actions))
        if c.greedy_every and self.step % c.greedy_every == 0:
            self._ask(problem, selection, [p for p in self.predict() if p not in self.known])
        self._updating = True
        row = self._learn_from(problem, rollout, rewards, uniform)
        self._drawn = self.generator.get_state()
        self._end_step(problem, row)

    def predict(self, n: int = 1, *, greedy: bool = True, seed: int = 0) -> list[Prompt]:
        """Return prompts of the policy: its likeliest one, or `n` samples."""
        check_draws(n)
        if greedy:
            return self._prompts(self.policy.rollout(1, self.length, None).actions) * n
        generator = torch.Generator(self.policy.device).manual_seed(seed)
        rollout = self.policy.rollout(n, self.length, generator, top_k=self.top_k)
        return self._prompts(rollout.actions)

    def _prompts(self, actions: torch.Tensor) -> list[Prompt]:
        """Return the prompts of actions (B, T); demonstrations and system stay the start's."""
        return [replace(self._start, instruction=text) for text in self.policy.texts(actions)]

    def _get_state(self) -> tuple[Tensors, JSON]:
        """Return weights, optimizer, generator, past prompts and stabilizer."""
        tensors: Tensors = {"generator": self._drawn, **self.past.get_state(self.length)}
        for name, network in self._networks().items():
            tensors |= with_prefix(name, network.state_dict())
        tensors |= with_prefix("optimizer", optimizer_tensors(self.optimizer))
        return tensors, {"stabilizer": self.stabilizer.get_state()}

    def _set_state(self, tensors: Tensors, state: JSON) -> None:
        """Take them back."""
        for name, network in self._networks().items():
            network.load_state_dict(of_prefix(name, tensors))
        load_optimizer(self.optimizer, of_prefix("optimizer", tensors))
        self.generator.set_state(tensors["generator"])
        self.stabilizer.set_state(state["stabilizer"])
        self.past.set_state(tensors)

    def save(self, folder: str | Path) -> None:
        """Write the policy: `policy.json` and `policy.safetensors`."""
        save_writer(Path(folder), self.name, self.policy, asdict(self.config), self._start)

    @classmethod
    def load(cls, folder: str | Path, model: Any = None) -> Self:
        """Return an agent with a saved policy, ready to `predict`.

        Args:
            folder: what `save` wrote.
            model: the policy's language model; None loads what `policy_lm` names.

        Raises:
            ConfigError: if the policy was trained on another language model.
        """
        agent = cls()
        with of_this_version(Path(folder) / ABOUT, TRAIN_AGAIN):
            saved = read_writer(Path(folder), cls.name, model)
            agent.config = type(agent.config)(**saved.options)
            agent._policy = agent._make_policy(saved.backend, saved.actions, torch.Generator())
            agent._policy.trained.load_state_dict(saved.weights)
            agent._start = saved.start
        return agent
