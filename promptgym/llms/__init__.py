"""Language models: one contract, several backends."""

from promptgym.llms.base import (
    AnswersInParts,
    Completion,
    Kind,
    LabelLogprobs,
    LanguageModel,
    Normalization,
    Sampling,
)
from promptgym.llms.registry import forget_models, load_model, register_loader

__all__ = [
    "AnswersInParts",
    "Completion",
    "Kind",
    "LabelLogprobs",
    "LanguageModel",
    "Normalization",
    "Sampling",
    "forget_models",
    "load_model",
    "register_loader",
]
