"""Shapes of the embedded models, and how a fresh one is made."""

from __future__ import annotations

from typing import TYPE_CHECKING

from promptgym.llms.tiny.tokenizer import BOS, EOS, PAD, token_ids

if TYPE_CHECKING:
    from transformers import PreTrainedModel

KINDS = ("causal", "masked", "rewriter")
LONGEST = 256  # positions


def fresh_model(
    kind: str, *, hidden: int = 96, layers: int = 4, heads: int = 4, feed_forward: int = 256
) -> PreTrainedModel:
    """A model with random weights: Llama's shape, or RoBERTa's for "masked"; seed torch before."""
    from transformers import LlamaConfig, LlamaForCausalLM, RobertaConfig, RobertaForMaskedLM

    ids = token_ids()
    special = {"pad_token_id": ids[PAD], "bos_token_id": ids[BOS], "eos_token_id": ids[EOS]}
    shape = {
        "vocab_size": len(ids),
        "hidden_size": hidden,
        "num_hidden_layers": layers,
        "num_attention_heads": heads,
        "intermediate_size": feed_forward,
        "initializer_range": 0.05,
        "tie_word_embeddings": True,
    }
    if kind == "masked":
        return RobertaForMaskedLM(
            RobertaConfig(
                **shape,
                **special,
                max_position_embeddings=LONGEST + 1,
                hidden_dropout_prob=0.0,
                attention_probs_dropout_prob=0.0,
                type_vocab_size=1,
            )
        )
    return LlamaForCausalLM(
        LlamaConfig(**shape, **special, num_key_value_heads=heads, max_position_embeddings=LONGEST)
    )
