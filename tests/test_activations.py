"""GELU in the cache: the same values, and only where nothing needs what is written over."""

from __future__ import annotations

from typing import Any

import torch
from transformers import GPT2Config, GPT2LMHeadModel

from promptgym.llms.activations import PIECE, TanhGELU, fuse_activations


def net(kind: str = "gelu_new") -> Any:
    torch.manual_seed(0)
    sizes = {"n_embd": 16, "n_layer": 2, "n_head": 2, "vocab_size": 40, "n_positions": 32}
    return GPT2LMHeadModel(GPT2Config(activation_function=kind, **sizes)).eval()


def test_values_are_those_of_the_tanh_form() -> None:
    x = torch.cat([torch.linspace(-12, 12, PIECE + 5), torch.tensor([0.0, -1e30, 1e30])])
    want = torch.nn.functional.gelu(x.double(), approximate="tanh")
    with torch.inference_mode():
        got = TanhGELU()(x.clone())
    torch.testing.assert_close(got.double(), want, atol=1e-6, rtol=1e-6)


def test_gradients_flow_and_nothing_is_written_over_with_them() -> None:
    x = torch.randn(7, requires_grad=True)
    TanhGELU()(x).sum().backward()  # type: ignore[no-untyped-call]
    assert x.grad is not None and x.grad.abs().sum() > 0


def test_a_model_gets_it_where_it_changes_nothing() -> None:
    model, ids = net(), torch.arange(8)[None]
    with torch.inference_mode():
        before = model(ids).logits
        fuse_activations(model)
        assert isinstance(model.transformer.h[0].mlp.act, TanhGELU)
        torch.testing.assert_close(model(ids).logits, before, atol=1e-5, rtol=1e-5)
    other = net("relu")
    fuse_activations(other)
    assert not any(isinstance(part, TanhGELU) for part in other.modules())


def test_a_model_that_reads_the_input_again_keeps_its_own() -> None:
    model = net()
    block = model.transformer.h[1].mlp

    def forward(hidden: torch.Tensor) -> torch.Tensor:
        wide = block.c_fc(hidden)
        return block.c_proj(block.act(wide) + wide)  # type: ignore[no-any-return]

    block.forward = forward
    fuse_activations(model)
    assert not any(isinstance(part, TanhGELU) for part in model.modules())
