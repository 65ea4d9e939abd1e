"""Hyperparameters of the MultiPrompter agent: MAPPO's published ones, and what learns here."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

from promptgym.agents.writing import WritingConfig
from promptgym.ranges import COUNT, NOT_NEGATIVE, POSITIVE, SHARE, Range


@dataclass(frozen=True)
class MultiPrompterConfig(WritingConfig):
    """Hyperparameters beside the shared ones; the defaults are those of preset `default`.

    Attributes:
        prompters: how many; 1 is one agent with the whole horizon.
        tokens: words of each one's sub-prompt.
        critic: "central" or "independent".
        epochs: passes over a batch.
        clip: PPO's epsilon, of policy and value.
        decay: lambda of the advantages; the discount is 1.
        normalize: advantages have mean 0 and deviation 1 in a batch, as in MAPPO's released code;
            without it their size follows the rewards', which the stabilizer sees to.
        entropy: weight of the policy's entropy at the start (rewards are about 1 in size).
        entropy_end: at the end of the budget; it changes geometrically.
        learning_rate: of Adam, for the policies.
        critic_rate: for the critics.
        largest_norm: of the gradients, policies and critics each.
        huber: where the value loss becomes linear.
        critic_hidden: hidden units of each critic.
        explore: share of the budget over which all words are alike likely; what is learned from
            these prompts is weighted by the ratio to that uniform policy.
        replay: past prompts learned again at each pass; 0 for none. They cost no query.
        imitation: weight of what is learned from them.
    """

    agent: ClassVar[str] = "multi_prompter"
    ranges: ClassVar[Mapping[Range, tuple[str, ...]]] = {
        COUNT: ("prompters", "tokens", "epochs", "critic_hidden"),
        NOT_NEGATIVE: ("critic_rate", "huber", "imitation"),
        POSITIVE: ("entropy", "entropy_end", "clip", "largest_norm"),
        SHARE: ("decay",),
    }

    prompters: int = 2
    tokens: int = 5
    critic: Literal["central", "independent"] = "central"
    epochs: int = 4
    clip: float = 0.2
    decay: float = 0.95
    normalize: bool = False
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
    imitation: float = 0.1
    stabilizer: tuple[str | dict[str, Any], ...] = ("fixed_scale",)
    memory: bool = True
    vocabulary: Literal["policy", "problem"] = "problem"


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
        normalize=True,
        memory=False,
    ),
}
