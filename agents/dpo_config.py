"""Hyperparameters of the DPO rewriter and its presets."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal

from promptgym.agents.preference_losses import OF_PAIRS, UNPAIRED, WITHOUT_REFERENCE
from promptgym.agents.preferences import Rule
from promptgym.agents.rewriter_config import CHAT, RewriterConfig
from promptgym.errors import ConfigError
from promptgym.ranges import NOT_NEGATIVE, POSITIVE, check_ranges


@dataclass(frozen=True)
class DPORewriterConfig(RewriterConfig):
    """Hyperparameters beside the shared ones.

    Attributes:
        rounds: of sampling, scoring and training; the budget may end them earlier.
        group: K, rewrites of every draft and round.
        pairs: how preferences are made of scores, see `promptgym.agents.preferences.pairs_of`.
        margin: of the rule "margin", as a share of the reward of a perfect prompt.
        most: preferences of a round at most, drawn.
        loss: "sigmoid", "ipo" or another of TRL's DPO losses; "kto"; or "cpo", "simpo", "orpo",
            which have no reference.
        beta: weight of the pull to the reference; of the log odds in "orpo", and the factor of the
            log-likelihoods in "cpo" and "simpo". None is 0.1 (Question Rewriter, TRL), 2.0 in
            "simpo".
        balance: of "kto": the weight of all desirable rewrites of a round over that of all others;
            its paper has 1 to 4/3 (equation 8). None weighs each rewrite alike.
        reference: the policy as the round began, or as training did ("start").
        rejected: the worse ones are this round's rewrites, or those of the first round ("past").
        chosen: the better ones are this round's rewrites, or those of a policy that was trained on
            them first ("future"; costs their scores).
        next_drafts: each round draws its drafts anew ("start"), or goes on from what the policy
            makes of the last round's, where that is paid more ("rewrites": FIPO's iterative stage;
            costs the scores of drafts and rewrites, one each).
        easy_first: train on the largest margins first.
        epochs: over the preferences of a round.
        batch: preferences of an update.
        trainer: further arguments of TRL's DPOConfig or KTOConfig; they win over all of these, see
            `RewriterConfig`.
    """

    agent: ClassVar[str] = "dpo_rewriter"
    counts: ClassVar[tuple[str, ...]] = ("rounds", "most", "epochs", "batch")

    rounds: int = 6
    group: int = 64
    learning_rate: float = 2e-4
    pairs: Rule = "margin"
    margin: float = 0.03
    most: int = 512
    loss: str = "sigmoid"
    beta: float | None = None
    balance: float | None = 1.0
    reference: Literal["round", "start"] = "round"
    rejected: Literal["round", "past"] = "round"
    chosen: Literal["round", "future"] = "round"
    next_drafts: Literal["start", "rewrites"] = "start"
    easy_first: bool = False
    epochs: int = 1
    batch: int = 32

    def __post_init__(self) -> None:
        """Refuse values that cannot work."""
        super().__post_init__()
        check_ranges(self.agent, self, {POSITIVE: ("beta", "balance"), NOT_NEGATIVE: ("margin",)})
        losses = (*OF_PAIRS, *WITHOUT_REFERENCE, *UNPAIRED)
        if self.loss not in losses:
            raise ConfigError(
                f"dpo_rewriter: loss must be one of {', '.join(losses)}, got {self.loss!r}"
            )
        if self.next_drafts not in ("start", "rewrites"):
            raise ConfigError(
                f"dpo_rewriter: next_drafts must be 'start' or 'rewrites', got {self.next_drafts!r}"
            )
        if self.next_drafts == "rewrites" and self.rejected == "past":
            raise ConfigError(
                "dpo_rewriter: rejected='past' takes the first round's rewrites of the same "
                "drafts; with next_drafts='rewrites' there are none; leave one of the two out"
            )
        if self.loss in UNPAIRED and self.batch < 2:
            raise ConfigError("dpo_rewriter: kto compares the rewrites of a batch; batch >= 2")
        paired = self.easy_first or self.rejected == "past" or self.chosen == "future"
        if self.loss in UNPAIRED and paired:
            raise ConfigError(
                "dpo_rewriter: kto has no pairs; leave out easy_first, rejected and chosen"
            )


PRESETS: dict[str, DPORewriterConfig] = {
    "default": DPORewriterConfig(),
    "question_rewriter": DPORewriterConfig(rounds=1, pairs="pareto", group=100, drafts=1),
    "chat": DPORewriterConfig(**CHAT, group=16, drafts=8, start="manual", batch=8),
}
