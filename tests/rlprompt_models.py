"""A small policy language model whose words are those of the transparent task."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from tokenizers import Tokenizer
from tokenizers.models import WordLevel
from tokenizers.pre_tokenizers import WhitespaceSplit
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from promptgym.problem import Problem
from promptgym.testing import TransparentModel, transparent_task
from promptgym.testing.transparent import FILLERS, LABELS, WEIGHTS

WORDS = ("<s>", "<unk>", *WEIGHTS, *FILLERS, *LABELS)


def build_policy(folder: Path) -> str:
    """Write a Llama with random weights and a word-level tokenizer; return its spec."""
    words = Tokenizer(WordLevel({w: i for i, w in enumerate(WORDS)}, unk_token="<unk>"))
    words.pre_tokenizer = WhitespaceSplit()
    PreTrainedTokenizerFast(
        tokenizer_object=words, bos_token="<s>", unk_token="<unk>"
    ).save_pretrained(folder)
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=len(WORDS),
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        bos_token_id=0,
        eos_token_id=None,
        initializer_range=0.3,
    )
    LlamaForCausalLM(config).save_pretrained(folder)
    return f"hf:{folder}"


def make(budget: int | None = None, **options: Any) -> Problem:
    """Return the transparent problem."""
    return Problem(transparent_task(), TransparentModel(), budget=budget, **options)


class Silent(TransparentModel):
    """Fails where a text holds "one"."""

    def label_logprobs(self, texts: Any, labels: Any) -> Any:
        """Answer the others."""
        out = super().label_logprobs(texts, labels)
        bad = {i: "boom" for i, text in enumerate(texts) if "one" in text.split()}
        out.logprobs[list(bad)] = np.nan
        return replace(out, failures=bad)
