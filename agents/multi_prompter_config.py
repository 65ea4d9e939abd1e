"""Hyperparameters of the MultiPrompter agent: MAPPO's published ones, and what learns here."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

from promptgym.agents.ranges import COUNT, NOT_NEGATIVE, POSITIVE, SHARE, check_ranges
from promptgym.errors import ConfigError
from promptgym.rewards.stabilizers import make_stabilizer

NAME = "multi_prompter"
COUNTS = (
    *("steps", "batch", "prompters", "tokens", "epochs"),
    *("hidden", "critic_hidden", "log_every", "checkpoint_every"),
)
AMOUNTS = (
    *("learning_rate", "critic_rate", "huber", "gains", "replay", "imitation"),
    *("patience", "greedy_every"),
)


@dataclass(frozen=True)
class MultiPrompterConfig:
    """Hyperparameters; the defaults are those of preset `default`.

    Attributes:
        steps: updates at most; the budget may end training earlier.
        batch: prompts a step.
        prompters: how many; 1 is one agent with the whole horizon.
        tokens: words of each one's sub-prompt.
        critic: "central" or "independent".
        epochs: passes over a batch.
        clip: PPO's epsilon, of policy and value.
        decay: lambda of the advantages; the discount is 1.
        entropy: weight of the policy's entropy at the start (rewards are about 1 in size).
        entropy_end: at the end of the budget; it changes geometrically.
        learning_rate: of Adam, for the policies.
        critic_rate: for the critics.
        largest_norm: of the gradients, policies and critics each.
        huber: where the value loss becomes linear.
        hidden: hidden units of each adaptor.
        critic_hidden: hidden units of each critic.
        gains: Xavier-uniform gain of an adaptor's first and second layer.
        explore: share of the budget over which all words are alike likely; what is learned from
            these prompts is weighted by the ratio to that uniform policy.
        replay: past prompts learned again at each pass; 0 for none. They cost no query.
        replay_temperature: they are drawn with probability ~ exp(R / (temperature * std R)), over
            all prompts so far.
        imitation: weight of what is learned from them.
        stabilizer: what is done to a batch's rewards, see `promptgym.rewards.stabilizers`.
        memory: do not ask again for prompts whose reward is known.
        patience: with memory, training ends after so many steps without a new prompt.
        vocabulary: "problem": the problem's words that are single tokens of the policy's tokenizer;
            "policy": all of its tokens but special ones.
        policy_lm: "target" for the problem's own, or what `load_model` takes.
        source: text before the prompt; "" for the policy's first token.
        greedy_every: steps between two looks at the greedy prompt (asked if it is a new one); 0
            for never.
        log_every: steps between two rows of the statistics kept in the result.
        checkpoint_every: steps between two checkpoints.
    """

    steps: int = 12_000
    batch: int = 16
    prompters: int = 2
    tokens: int = 5
    critic: Literal["central", "independent"] = "central"
    epochs: int = 4
    clip: float = 0.2
    decay: float = 0.95
    entropy: float = 0.2
    entropy_end: float = 0.05
    learning_rate: float = 1e-3
    critic_rate: float = 1e-3
    largest_norm: float = 10.0
    huber: float = 10.0
    hidden: int = 512
    critic_hidden: int = 64
    gains: tuple[float, float] = (1.0, 1e-4)
    explore: float = 0.25
    replay: int = 32
    replay_temperature: float = 1.0
    imitation: float = 0.1
    stabilizer: tuple[str | dict[str, Any], ...] = ("fixed_scale",)
    memory: bool = True
    patience: int = 50
    vocabulary: Literal["policy", "problem"] = "problem"
    policy_lm: str = "tiny"
    source: str = ""
    greedy_every: int = 10
    log_every: int = 10
    checkpoint_every: int = 100

    def __post_init__(self) -> None:
        """Refuse values that cannot work; take the lists that JSON has for tuples."""
        for name in ("gains", "stabilizer"):
            object.__setattr__(self, name, tuple(getattr(self, name)))
        check_ranges(
            NAME,
            self,
            {
                COUNT: COUNTS,
                NOT_NEGATIVE: AMOUNTS,
                POSITIVE: ("entropy", "entropy_end", "clip", "replay_temperature", "largest_norm"),
                SHARE: ("explore", "decay"),
            },
        )
        if self.critic not in ("central", "independent"):
            raise ConfigError(
                f"{NAME}: critic must be 'central' or 'independent', got {self.critic!r}"
            )
        if self.vocabulary not in ("policy", "problem"):
            raise ConfigError(
                f"{NAME}: vocabulary must be 'policy' or 'problem', got {self.vocabulary!r}"
            )
        make_stabilizer(self.stabilizer)


PRESETS: dict[str, MultiPrompterConfig] = {
    "default": MultiPrompterConfig(),
    # Defaults of MAPPO's released code (config.py), where they have a meaning here; discount 1.
    "mappo": MultiPrompterConfig(
        epochs=15,
        entropy=0.01,
        entropy_end=0.01,
        learning_rate=5e-4,
        critic_rate=5e-4,
        gains=(1.0, 0.01),
        explore=0.0,
        replay=0,
        stabilizer=("running_z",),
        memory=False,
    ),
}
