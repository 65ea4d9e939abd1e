"""Hyperparameters of the DPO rewriter and its presets."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Literal

from promptgym.agents.preferences import Rule
from promptgym.errors import ConfigError


@dataclass(frozen=True)
class DPORewriterConfig:
    """Hyperparameters; beta is Question Rewriter's and TRL's.

    Attributes:
        rewriter: "tiny-rewriter" (embedded) or "hf:NAME_OR_FOLDER".
        rewriter_options: further arguments of `from_pretrained`.
        rounds: of sampling, scoring and training; the budget may end them earlier.
        group: K, rewrites of every draft and round.
        drafts: drafts of a round.
        start: the drafts: "initial" (the problem's), or "manual" (the task's, drawn).
        meta_prompt: what the rewriter is asked, with a slot {prompt}; None for PRewrite's (for the
            embedded rewriter, what that was taught).
        pairs: how preferences are made of scores, see `promptgym.agents.preferences.pairs_of`.
        margin: of the rule "margin", as a share of the reward of a perfect prompt.
        most: preferences of a round at most, drawn.
        loss: "sigmoid", "ipo" or another of TRL's DPO losses; or "kto".
        beta: weight of the pull to the reference.
        reference: the policy as the round began, or as training did ("start").
        rejected: the worse ones are this round's rewrites, or those of the first round ("past").
        chosen: the better ones are this round's rewrites, or those of a policy that was trained on
            them first ("future"; costs their scores).
        easy_first: train on the largest margins first.
        epochs: over the preferences of a round.
        batch: preferences of an update.
        errors: examples that the draft's prompt gets wrong, shown to the rewriter with the answer
            given and the right one (FIPO's optional slots), where the meta-prompt has {errors}.
        learning_rate: of AdamW.
        temperature: of the draws.
        max_tokens: longest rewrite in tokens.
        max_characters: longest rewrite in characters; what is longer is cut.
        samples: of the trained policy, of which dev chooses one.
        memory: do not ask again for prompts whose scores are known.
        lora: arguments of peft's LoraConfig, for low-rank adapters; None trains all weights.
        trainer: further arguments of TRL's DPOConfig or KTOConfig; they win over all of these.
        log_every: rounds between two rows of the statistics kept in the result.
        checkpoint_every: rounds between two checkpoints.
    """

    rewriter: str = "tiny-rewriter"
    rewriter_options: dict[str, Any] = field(default_factory=dict)
    rounds: int = 6
    group: int = 64
    drafts: int = 2
    start: Literal["initial", "manual"] = "initial"
    meta_prompt: str | None = None
    errors: int = 0
    pairs: Rule = "margin"
    margin: float = 0.03
    most: int = 512
    loss: str = "sigmoid"
    beta: float = 0.1
    reference: Literal["round", "start"] = "round"
    rejected: Literal["round", "past"] = "round"
    chosen: Literal["round", "future"] = "round"
    easy_first: bool = False
    epochs: int = 1
    batch: int = 32
    learning_rate: float = 2e-4
    temperature: float = 1.0
    max_tokens: int = 16
    max_characters: int = 160
    samples: int = 10
    memory: bool = True
    lora: dict[str, Any] | None = None
    trainer: dict[str, Any] = field(default_factory=dict)
    log_every: int = 1
    checkpoint_every: int = 1

    def __post_init__(self) -> None:
        """Refuse values that cannot work."""
        counts = ("rounds", "drafts", "most", "epochs", "batch", "max_tokens", "max_characters")
        for name in (*counts, "samples", "log_every", "checkpoint_every"):
            if getattr(self, name) < 1:
                raise ConfigError(
                    f"dpo_rewriter: {name} must be at least 1, got {getattr(self, name)}"
                )
        if self.group < 2:
            raise ConfigError(f"dpo_rewriter: group must be at least 2, got {self.group}")
        if self.temperature <= 0 or self.beta <= 0:
            raise ConfigError(
                f"dpo_rewriter: temperature and beta must be > 0, got {self.temperature} and "
                f"{self.beta}"
            )
        paired = self.easy_first or self.rejected == "past" or self.chosen == "future"
        if self.loss == "kto" and paired:
            raise ConfigError(
                "dpo_rewriter: kto has no pairs; leave out easy_first, rejected and chosen"
            )


PRESETS: dict[str, DPORewriterConfig] = {
    "default": DPORewriterConfig(),
    "question_rewriter": DPORewriterConfig(rounds=1, pairs="pareto", group=100, drafts=1),
    "chat": DPORewriterConfig(
        rewriter="hf:Qwen/Qwen3-0.6B",
        group=16,
        drafts=8,
        start="manual",
        batch=8,
        learning_rate=1e-5,
        max_tokens=256,
        max_characters=2000,
        lora={"r": 16, "lora_alpha": 32, "target_modules": "all-linear"},
    ),
}
