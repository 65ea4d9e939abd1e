"""Shapes of the embedded models, and how a fresh one is made."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from promptgym.llms.tiny.tokenizer import BOS, EOS, MASK, PAD, token_ids

if TYPE_CHECKING:
    from transformers import PreTrainedModel

KINDS = ("causal", "masked", "rewriter")
LONGEST = 256  # positions


def fresh_model(
    kind: str, *, hidden: int = 96, layers: int = 4, heads: int = 4, feed_forward: int = 256
) -> PreTrainedModel:
    """A model with random weights; seed torch before.

    Llama's shape (Touvron et al. 2023); for "masked" EuroBERT's (Boizard et al. 2025), which is the
    same block attending both ways.
    """
    from transformers import EuroBertConfig, EuroBertForMaskedLM, LlamaConfig, LlamaForCausalLM

    ids = token_ids()
    shape: dict[str, Any] = {
        "vocab_size": len(ids),
        "hidden_size": hidden,
        "num_hidden_layers": layers,
        "num_attention_heads": heads,
        "num_key_value_heads": heads,
        "intermediate_size": feed_forward,
        "initializer_range": 0.05,
        "tie_word_embeddings": True,
        "max_position_embeddings": LONGEST,
        "rms_norm_eps": 1e-6,
        "rope_parameters": {"rope_type": "default", "rope_theta": 10000.0},
        "pad_token_id": ids[PAD],
        "bos_token_id": ids[BOS],
        "eos_token_id": ids[EOS],
    }
    if kind == "masked":
        return EuroBertForMaskedLM(EuroBertConfig(**shape, mask_token_id=ids[MASK]))
    return LlamaForCausalLM(LlamaConfig(**shape))


def both_ways(causal: PreTrainedModel) -> PreTrainedModel:
    """A masked model with a causal one's weights: the same blocks, now attending both ways."""
    config = causal.config
    masked = fresh_model(
        "masked",
        hidden=config.hidden_size,
        layers=config.num_hidden_layers,
        heads=config.num_attention_heads,
        feed_forward=config.intermediate_size,
    )
    masked.load_state_dict(causal.state_dict())
    return masked
