"""Hyperparameters of PPO over prompt edits: the learning study's, and TEMPERA's."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Literal

from promptgym.errors import ConfigError
from promptgym.ranges import (
    COUNT,
    NOT_NEGATIVE,
    POSITIVE,
    SHARE,
    Range,
    check_choices,
    check_ranges,
)

COUNTS = ("steps", "num_envs", "n_steps", "batch_size", "epochs", "checkpoint_every")


@dataclass(frozen=True)
class PPOEditConfig:
    """Hyperparameters; the defaults learn within a few thousand prompts (docs/agents.md).

    Attributes:
        steps: updates at most; None for as many as the query budget allows (with `memory`, three
            times as many: prompts that recur cost nothing, and a converged policy would never end).
        num_envs: prompts edited at a time.
        n_steps: edits of each between two updates; `num_envs * n_steps` transitions an update.
        batch_size: transitions a gradient step.
        epochs: passes over the transitions of an update.
        learning_rate: of Adam.
        decay: let the learning rate fall linearly to 0 over the run.
        clip: PPO's clip range.
        gamma: discount; at 1 a return is what the last prompt is worth above the first.
        gae_lambda: of generalized advantage estimation.
        entropy: weight of the entropy bonus.
        value: weight of the value loss.
        normalize_advantage: scale the advantages of every minibatch to unit spread; without it a
            minibatch in which nothing happened moves the policy little.
        max_grad_norm: largest gradient norm.
        extractor: "mlp" or "attention", see `PromptFeatures`.
        words: "model": the policy reads and chooses words by the target model's own input
            embeddings (see `WordPolicy`), where that model is one of transformers; "learned", or
            any other model: by embeddings and logits of its own.
        embedding: width of a word.
        hidden: features.
        layers: encoder layers (attention).
        heads: attention heads (attention).
        head: units of the one hidden layer of policy and value.
        horizon: edits an episode has.
        demonstrations: solved examples the policy may put into a prompt; 0 keeps to the instruction
            as the search baselines do (zero-shot and few-shot results do not compare), None takes
            the environment's default for the task.
        archive: three quarters of the episodes start from one of this many best prompts that the
            sub-environment has found, instead of the problem's initial prompt; 0 for none.
        reward_scale: what a perfect prompt is worth; None for the reward's own units.
        env: further arguments of `PromptEdit-v0` (JSON), e.g. `{"swap": True}`.
        memory: do not ask again for prompts whose scores are known.
        checkpoint_every: updates between two checkpoints.
    """

    steps: int | None = None
    num_envs: int = 16
    n_steps: int = 8
    batch_size: int = 128
    epochs: int = 4
    learning_rate: float = 1e-2
    decay: bool = False
    clip: float = 0.2
    gamma: float = 1.0
    gae_lambda: float = 0.95
    entropy: float = 0.02
    value: float = 0.5
    normalize_advantage: bool = True
    max_grad_norm: float = 0.5
    extractor: Literal["mlp", "attention"] = "mlp"
    words: Literal["model", "learned"] = "model"
    embedding: int = 32
    hidden: int = 128
    layers: int = 3
    heads: int = 3
    head: int = 64
    horizon: int = 8
    demonstrations: int | None = 0
    archive: int = 4
    reward_scale: float | None = 4.0
    env: Mapping[str, Any] = field(default_factory=dict)
    memory: bool = True
    checkpoint_every: int = 1

    def __post_init__(self) -> None:
        """Refuse values that cannot work."""
        check_ranges(
            "ppo_edit",
            self,
            {
                COUNT: (*COUNTS, "embedding", "hidden", "layers", "heads", "head"),
                Range(2): ("horizon",),
                NOT_NEGATIVE: ("learning_rate", "entropy", "value", "demonstrations", "archive"),
                POSITIVE: ("clip", "max_grad_norm", "reward_scale"),
                SHARE: ("gamma", "gae_lambda"),
            },
        )
        check_choices("ppo_edit", self)
        if self.num_envs * self.n_steps < 2:
            raise ConfigError("ppo_edit: an update needs at least 2 transitions")


# Zhang et al., ICLR 2023, table 8: 256 processes x 8 steps, lr 5e-5, entropy 0.005, gamma 0.99, GAE
# 0.95. From its released code: clip 0.2, 4 epochs of 32 mini-batches, linear decay, attention of 3
# layers, 3 heads, width 48; rewards 100 (s' - s) with s at most 2.
TEMPERA = PPOEditConfig(
    num_envs=256,
    n_steps=8,
    batch_size=64,
    epochs=4,
    learning_rate=5e-5,
    decay=True,
    gamma=0.99,
    entropy=0.005,
    extractor="attention",
    words="learned",
    embedding=48,
    demonstrations=None,
    archive=0,
    reward_scale=200.0,
    memory=False,
)

PRESETS: dict[str, PPOEditConfig] = {
    "default": PPOEditConfig(),
    "tempera": TEMPERA,
    # What the README of the released code runs: 64 processes x 32 steps, lr 6e-4, entropy 0.01,
    # gamma 0.999. Which of the two is behind the paper's tables is not said.
    "tempera_readme": replace(
        TEMPERA, num_envs=64, n_steps=32, learning_rate=6e-4, gamma=0.999, entropy=0.01
    ),
}
