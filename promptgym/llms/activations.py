"""Activation functions that transformers writes out in Python, as one operation each."""

from __future__ import annotations

from typing import Any

import torch

FORMS = {
    "NewGELUActivation": "tanh",
    "FastGELUActivation": "tanh",
    "AccurateGELUActivation": "tanh",
}
"""Class in `transformers.activations` -> which of PyTorch's GELUs it is."""


def fuse_activations(model: Any) -> None:
    """Replace the activation functions of a model that PyTorch has as one operation.

    GPT-2's GELU takes eight passes in transformers, each through fresh memory, and PyTorch's takes
    one. Values agree to float32's last digit.
    """
    for module in list(model.modules()):
        for name, part in module.named_children():
            if form := FORMS.get(type(part).__name__):
                setattr(module, name, torch.nn.GELU(approximate=form))
