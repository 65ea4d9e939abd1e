"""Activation functions that transformers writes out in Python, in the processor's cache."""

from __future__ import annotations

import math
from typing import Any

import torch

NAMES = ("NewGELUActivation", "FastGELUActivation", "AccurateGELUActivation")
"""Classes of `transformers.activations` that are GELU's tanh form (Hendrycks & Gimpel 2016)."""
SLOPE = 2 * math.sqrt(2 / math.pi)
CUBIC = 0.044715 * SLOPE
PIECE = 2**16  # elements that stay in the cache between two steps


class TanhGELU(torch.nn.Module):
    """GELU in its tanh form, 0.5 x (1 + tanh(u)), as x sigmoid(2u): the same function.

    On a CPU, without gradients, it is written over its input, a piece after the other, so that the
    steps of a piece meet in the cache. Elsewhere, PyTorch's is called.
    """

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return GELU of every element."""
        plain = x.device.type == "cpu" and x.dtype == torch.float32 and x.is_contiguous()
        if not plain or torch.is_grad_enabled() or torch.compiler.is_compiling():
            return torch.nn.functional.gelu(x, approximate="tanh")
        slope = torch.tensor(SLOPE)
        scratch = x.new_empty(min(PIECE, x.numel()))
        for part in torch.split(x.view(-1), PIECE):
            gate = scratch[: len(part)]
            torch.addcmul(slope, part, part, value=CUBIC, out=gate)
            part.mul_(gate.mul_(part).sigmoid_())
        return x


@torch.inference_mode()
def fuse_activations(model: Any) -> None:
    """Replace the activation functions of a model that are GELU's tanh form.

    GPT-2's takes eight passes in transformers, each through fresh memory. Values agree to float32's
    last digits; a model that needs what is written over keeps its own, as a trial tells.
    """
    found = [
        (module, name, part)
        for module in model.modules()
        for name, part in module.named_children()
        if type(part).__name__ in NAMES
    ]
    if not found:
        return
    size = model.get_input_embeddings().weight.shape[0]
    ids = (torch.arange(12, device=model.device) * 5 % size).view(2, 6)
    trial = {"input_ids": ids}
    if model.config.is_encoder_decoder:
        trial["decoder_input_ids"] = ids
    before = model(**trial).logits
    for module, name, _ in found:
        setattr(module, name, TanhGELU())
    tolerance = 1e-4 if before.dtype == torch.float32 else 0.1
    if not torch.allclose(model(**trial).logits, before, atol=tolerance, rtol=tolerance):
        for module, name, part in found:
            setattr(module, name, part)
