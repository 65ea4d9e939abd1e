"""What prompts cost beside what they earn: length and perplexity.

Both are *positive* amounts; they become penalties by a negative weight in `weighted`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar

import numpy as np

from promptgym.errors import RewardError
from promptgym.llms import LanguageModel
from promptgym.rewards.base import register_reward
from promptgym.scoring import Scores
from promptgym.types import FloatArray


@register_reward("length")
@dataclass(frozen=True)
class Length:
    """Length of the instruction in tokens of the target model."""

    name: ClassVar[str] = "length"
    needs_labels: ClassVar[bool] = False
    scale: ClassVar[float] = 1.0

    def __call__(self, scores: Scores) -> FloatArray:
        """Return the token counts, shape (P,).

        Raises:
            RewardError: if the scores carry no token counts.
        """
        if scores.prompt_tokens is None:
            raise RewardError("reward 'length' needs Scores.prompt_tokens; score through a Scorer")
        return scores.prompt_tokens.astype(np.float64)


def log_perplexity(model: LanguageModel, texts: Sequence[str], context: str = "") -> FloatArray:
    """Return -log P(text | context) / tokens of every text, nats a token, shape (N,).

    Raises:
        ModelError: the model gives no likelihoods, or a text has no tokens or too many.
    """
    logp = model.loglikelihood([context] * len(texts), texts)
    return np.asarray(-logp / np.maximum(1, model.count_tokens(texts)))


@register_reward("perplexity")
@dataclass(frozen=True)
class Perplexity:
    """Perplexity of the instruction under a language model: exp(-log P(instruction) / tokens).

    An empty instruction has perplexity 1: nothing in it surprises. Each instruction is asked once;
    answers are kept with the object.

    Attributes:
        model: a model, or what `load_model` takes; loaded at the first call.
        model_options: further arguments of `load_model`.
        context: the text that the instruction follows.
        log: return log-perplexity (nats a token), which weighs an unlikely prompt less brutally.
    """

    name: ClassVar[str] = "perplexity"
    needs_labels: ClassVar[bool] = False
    scale: ClassVar[float] = 1.0
    model: str | LanguageModel = "tiny"
    model_options: dict[str, Any] = field(default_factory=dict)
    context: str = ""
    log: bool = False
    _known: dict[str, float] = field(default_factory=dict, init=False, repr=False, compare=False)
    _loaded: list[LanguageModel] = field(
        default_factory=list, init=False, repr=False, compare=False
    )

    def __call__(self, scores: Scores) -> FloatArray:
        """Return the perplexities, shape (P,)."""
        texts = [prompt.instruction for prompt in scores.prompts]
        missing = list(dict.fromkeys(t for t in texts if t.strip() and t not in self._known))
        if missing:
            model = self._language_model()
            found = log_perplexity(model, missing, self.context)
            self._known.update(zip(missing, found.tolist(), strict=True))
        nats = np.array([self._known[t] if t.strip() else 0.0 for t in texts])
        return nats if self.log else np.exp(nats)

    def __getstate__(self) -> dict[str, Any]:
        """Pickle the options, not a model that was loaded by name."""
        return {**self.__dict__, "_loaded": []}

    def _language_model(self) -> LanguageModel:
        """Load the model at the first call."""
        if not isinstance(self.model, str):
            return self.model
        if not self._loaded:
            from promptgym.llms import load_model

            self._loaded.append(load_model(self.model, **self.model_options))
        return self._loaded[0]
