"""Models with random weights, for measuring speed: `gpt2:2x64` or `roberta:6x768:50265`."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

import torch
from transformers import AutoTokenizer, GPT2Config, GPT2LMHeadModel, RobertaConfig
from transformers import RobertaForMaskedLM as RobertaMasked

from promptgym.llms import load_model

POSITIONS = 1024


def build(shape: str, tokenizer: str | None) -> str:
    """Write a model to a temporary folder that lasts as long as the process; return its spec.

    Args:
        shape: "gpt2" or "roberta", layers x width, and the size of the vocabulary if it is to be
            larger than the tokenizer's: "gpt2:6x768:50257". Heads are 4, or 64 wide.
        tokenizer: folder with a tokenizer; None takes that of the embedded models.
    """
    name, size, *rest = shape.split(":")
    layers, width = map(int, size.split("x"))
    if tokenizer is None:
        embedded: Any = load_model("tiny" if name == "gpt2" else "tiny-masked")
        words = embedded.tokenizer
    else:
        words = AutoTokenizer.from_pretrained(tokenizer)
    words.model_max_length = POSITIONS
    common: dict[str, Any] = {
        "vocab_size": int(rest[0]) if rest else len(words),
        "bos_token_id": words.bos_token_id,
        "eos_token_id": words.eos_token_id,
        "pad_token_id": words.pad_token_id,
    }
    heads = max(4, width // 64)
    torch.manual_seed(0)
    model: Any
    if name == "gpt2":
        model = GPT2LMHeadModel(
            GPT2Config(n_layer=layers, n_embd=width, n_head=heads, n_positions=POSITIONS, **common)
        )
    elif name == "roberta":
        model = RobertaMasked(
            RobertaConfig(
                num_hidden_layers=layers,
                hidden_size=width,
                num_attention_heads=heads,
                intermediate_size=4 * width,
                max_position_embeddings=POSITIONS + 2,
                type_vocab_size=1,
                **common,
            )
        )
    else:
        raise SystemExit(f"shape {shape!r}: expected gpt2:LAYERSxWIDTH or roberta:LAYERSxWIDTH")
    folder = tempfile.TemporaryDirectory(prefix="promptgym-shape-")
    _kept.append(folder)
    model.save_pretrained(folder.name)
    words.save_pretrained(folder.name)
    return f"hf:{Path(folder.name)}"


_kept: list[tempfile.TemporaryDirectory[str]] = []
