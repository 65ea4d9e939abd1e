"""Language models: one contract, several backends."""

from promptgym.llms.base import (
    Completion,
    Kind,
    LabelLogprobs,
    LanguageModel,
    Normalization,
    Sampling,
)

__all__ = ["Completion", "Kind", "LabelLogprobs", "LanguageModel", "Normalization", "Sampling"]
