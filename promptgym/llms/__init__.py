"""Language models: one contract, several backends."""

from promptgym.llms.base import (
    Completion,
    Kind,
    LabelLogprobs,
    LanguageModel,
    Normalization,
    Sampling,
)
from promptgym.llms.registry import forget_models, load_model, register_loader

__all__ = [
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
