"""`RewriterConfig`: the hyperparameters that all agents have whose policy rewrites a prompt."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, ClassVar, Literal

from promptgym.errors import ConfigError
from promptgym.ranges import COUNT, NOT_NEGATIVE, POSITIVE, Range, check_choices, check_ranges

COUNTS = ("drafts", "max_tokens", "max_characters", "samples", "log_every", "checkpoint_every")
_FOLDER = "the run folder: --out, or checkpoint_dir="
_SAVES = "checkpoint_every, and a run folder"
_LOGS = "log_every; each update is an event of the run"
OWNED: dict[str, str] = {
    "output_dir": _FOLDER,
    **dict.fromkeys(("save_strategy", "save_steps", "save_only_model"), _SAVES),
    **dict.fromkeys(("logging_strategy", "logging_steps", "logging_first_step"), _LOGS),
}


@dataclass(frozen=True)
class RewriterConfig:
    """Hyperparameters of the rewriter, its drafts and its rewrites.

    Attributes:
        rewriter: "tiny-rewriter" (embedded) or "hf:NAME_OR_FOLDER".
        rewriter_options: further arguments of `from_pretrained`.
        lora: arguments of peft's LoraConfig, for low-rank adapters; None trains all weights.
        start: the drafts: "initial" (the problem's), or "manual" (the task's, drawn).
        meta_prompt: what the rewriter is asked, with a slot {prompt}; None for PRewrite's (for the
            embedded rewriter, what that was taught).
        errors: examples that the draft's prompt gets wrong, shown to the rewriter where the
            meta-prompt has FIPO's optional slots: {responses} (with the answers given), {truths}
            (with the right ones), or {errors} (with both).
        group: rewrites of one draft that are compared with one another.
        drafts: of one update or round.
        learning_rate: of AdamW.
        temperature: of the draws.
        max_tokens: longest rewrite in tokens.
        max_characters: longest rewrite in characters; what is longer is cut.
        samples: of the trained policy, of which dev chooses one.
        memory: do not ask again for prompts whose scores are known.
        trainer: further arguments of TRL's configuration; they win over all of these, but for those
            that decide what a run keeps (`owned`), which are refused.
        log_every: updates or rounds between two rows of the statistics kept in the result.
        checkpoint_every: updates or rounds between two checkpoints.
    """

    agent: ClassVar[str]
    counts: ClassVar[tuple[str, ...]]
    """Further fields that must be at least 1."""
    owned: ClassVar[dict[str, str]] = OWNED
    """Arguments of TRL's configuration that are not taken, and what to give instead."""

    rewriter: str = "tiny-rewriter"
    rewriter_options: dict[str, Any] = field(default_factory=dict)
    lora: dict[str, Any] | None = None
    start: Literal["initial", "manual"] = "initial"
    meta_prompt: str | None = None
    errors: int = 0
    group: int = 16
    drafts: int = 2
    learning_rate: float = 5e-4
    temperature: float = 1.0
    max_tokens: int = 16
    max_characters: int = 160
    samples: int = 10
    memory: bool = True
    trainer: dict[str, Any] = field(default_factory=dict)
    log_every: int = 1
    checkpoint_every: int = 1

    def __post_init__(self) -> None:
        """Refuse values that cannot work."""
        check_ranges(
            self.agent,
            self,
            {
                COUNT: (*COUNTS, *self.counts),
                Range(2): ("group",),
                NOT_NEGATIVE: ("errors", "learning_rate"),
                POSITIVE: ("temperature",),
            },
        )
        check_choices(self.agent, self)
        for name, instead in self.owned.items():
            if name in self.trainer:
                raise ConfigError(
                    f"{self.agent}: trainer cannot set {name} (got {self.trainer[name]!r}); "
                    f"use {instead}"
                )


CHAT: dict[str, Any] = {
    "rewriter": "hf:Qwen/Qwen3-0.6B",
    "learning_rate": 1e-5,
    "max_tokens": 256,
    "max_characters": 2000,
    "lora": {"r": 16, "lora_alpha": 32, "target_modules": "all-linear"},
}
"""What the presets for chat models have in common."""
