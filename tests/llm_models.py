"""Small random-weight models of many architectures, written to folders as users have them."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

TEXT = (
    "the a movie plot was great bad terrible dull lovely acting and but never boring script actor "
    "scene with for good awful fine quite very not at all in on of it this that film story"
)
WORDS = TEXT.split()

SMALL = {
    "hidden_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "intermediate_size": 64,
    "max_position_embeddings": 96,
}
# name -> config class, fields: one of every way to know positions, to scale and to remember
CAUSAL: dict[str, tuple[str, dict[str, Any]]] = {
    "gpt2": ("GPT2Config", {"n_embd": 32, "n_layer": 2, "n_head": 4, "n_positions": 96}),
    "llama": ("LlamaConfig", {**SMALL, "num_key_value_heads": 2}),
    "qwen2": ("Qwen2Config", {**SMALL, "num_key_value_heads": 2}),
    "sliding": ("MistralConfig", {**SMALL, "num_key_value_heads": 2, "sliding_window": 8}),
    "local": (
        "GPTNeoConfig",
        {
            "hidden_size": 32,
            "num_layers": 2,
            "num_heads": 4,
            "attention_types": [[["global", "local"], 1]],
            "window_size": 12,  # more than the trial at loading can see
            "initializer_range": 0.3,  # attention that is not the same everywhere
            "max_position_embeddings": 96,
        },
    ),
    "turning": (
        "Phi3Config",
        {
            **SMALL,
            "num_key_value_heads": 2,
            "pad_token_id": 0,
            "original_max_position_embeddings": 16,
            "rope_scaling": {
                "type": "longrope",
                "short_factor": [1.0] * 4,
                "long_factor": [4.0] * 4,
            },
        },
    ),
    "softcap": (
        "Gemma2Config",
        {**SMALL, "num_key_value_heads": 2, "head_dim": 8, "final_logit_softcapping": 3.0},
    ),
    "scaled": ("GraniteConfig", {**SMALL, "num_key_value_heads": 2, "logits_scaling": 8.0}),
    "head-bias": ("PhiConfig", {**SMALL, "num_key_value_heads": 4}),
    "alibi": ("BloomConfig", {"hidden_size": 32, "n_layer": 2, "n_head": 4}),
    "neox": ("GPTNeoXConfig", {**SMALL}),
    "opt": ("OPTConfig", {**SMALL, "ffn_dim": 64, "word_embed_proj_dim": 32}),
    "bart-decoder": (  # cannot be told positions
        "BartConfig",
        {
            "d_model": 32,
            "decoder_layers": 2,
            "decoder_attention_heads": 4,
            "decoder_ffn_dim": 64,
            "max_position_embeddings": 96,
            "is_decoder": True,
        },
    ),
    "state-space": ("MambaConfig", {"hidden_size": 32, "num_hidden_layers": 2, "state_size": 4}),
}
MASKED: dict[str, tuple[str, dict[str, Any]]] = {
    "roberta": ("RobertaConfig", SMALL),
    "bert": ("BertConfig", SMALL),
    "distilbert": (
        "DistilBertConfig",
        {"dim": 32, "n_layers": 2, "n_heads": 4, "hidden_dim": 64, "max_position_embeddings": 96},
    ),
    "fourier": ("FNetConfig", SMALL),  # mixes padding in
    "modernbert": ("ModernBertConfig", {**SMALL, "local_attention": 8}),
}
SEQ2SEQ: dict[str, tuple[str, dict[str, Any]]] = {
    "t5": ("T5Config", {"d_model": 32, "d_kv": 8, "d_ff": 64, "num_layers": 2, "num_heads": 4}),
    "bart": (
        "BartConfig",
        {
            "d_model": 32,
            "encoder_layers": 2,
            "decoder_layers": 2,
            "encoder_attention_heads": 4,
            "decoder_attention_heads": 4,
            "encoder_ffn_dim": 64,
            "decoder_ffn_dim": 64,
            "max_position_embeddings": 96,
        },
    ),
}
HEADS = {"causal": "AutoModelForCausalLM", "masked": "AutoModelForMaskedLM"}

BEGIN = {"t5": [0], "bart": [0, 1]}
"""What stands before a label of an encoder-decoder: BART's tokenizer adds <s>."""


def byte_level_bpe(kind: str, *, begin: bool = False) -> Any:
    """Train a byte-level BPE tokenizer on a few words: " great" is one token."""
    from tokenizers import (
        AddedToken,
        Tokenizer,
        decoders,
        models,
        pre_tokenizers,
        processors,
        trainers,
    )
    from transformers import PreTrainedTokenizerFast

    mask = "<mask>"
    core = Tokenizer(models.BPE(unk_token=None))
    core.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    core.decoder = decoders.ByteLevel()
    special = ["<pad>", "<s>", "</s>", AddedToken(mask, lstrip=True, special=True)]
    trainer = trainers.BpeTrainer(
        vocab_size=420,
        special_tokens=special,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    core.train_from_iterator([TEXT] * 40, trainer)
    ends = [("<s>", 1), ("</s>", 2)]
    if kind != "causal":
        shape = "<s> $A </s>" if begin or kind == "masked" else "$A </s>"
        core.post_processor = processors.TemplateProcessing(single=shape, special_tokens=ends)
    return PreTrainedTokenizerFast(
        tokenizer_object=core,
        pad_token="<pad>",
        bos_token="<s>",
        eos_token="</s>",
        mask_token=AddedToken(mask, lstrip=True, special=True) if kind == "masked" else None,
        model_max_length=96,
    )


def build(folder: Path, kind: str, name: str) -> str:
    """Write a model and its tokenizer to a folder; return its spec."""
    import torch
    import transformers

    table = {"causal": CAUSAL, "masked": MASKED, "seq2seq": SEQ2SEQ}[kind]
    config_class, fields = table[name]
    tokenizer = byte_level_bpe(kind, begin=name == "bart")
    special = {"pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2}
    if kind == "seq2seq":
        special["decoder_start_token_id"] = 0
    size = {"vocab_size": len(tokenizer), "initializer_range": 0.3, "init_std": 0.3}
    known = getattr(transformers, config_class)
    config = known(**{**size, **special, **fields})
    torch.manual_seed(0)
    head = HEADS.get(kind, "AutoModelForSeq2SeqLM")
    model = getattr(transformers, head).from_config(config)
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return f"hf:{folder}"


def sentence(rng: random.Random, low: int, high: int) -> str:
    """Return a sentence of `low` to `high` words."""
    return " ".join(rng.choice(WORDS) for _ in range(rng.randint(low, high)))
