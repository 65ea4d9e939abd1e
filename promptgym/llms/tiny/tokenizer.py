"""The word-level tokenizer of the embedded models.

WordPiece over a hand-made vocabulary: every word of the text world is one token, any other word is
spelled in characters, so whatever a user types is accepted and prompts of the world are counted in
words.
"""

from __future__ import annotations

import functools
import string
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from promptgym.tasks.world import cues

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerFast

PAD, UNK, BOS, EOS, TEXT, INSTRUCTION, ANSWER, MASK, REWRITE = SPECIAL_TOKENS = (
    "<pad>",
    "<unk>",
    "<bos>",
    "<eos>",
    "<text>",
    "<instruction>",
    "<answer>",
    "<mask>",
    "<rewrite>",
)
CHAT_TEMPLATE = (
    "{% for message in messages %}{% if message['role'] == 'assistant' %}<answer> {{ "
    "message['content'] }} <eos> {% else %}{{ message['content'] }} {% endif %}{% endfor %}{% "
    "if add_generation_prompt %}<answer>{% endif %}"
)


@functools.cache
def token_ids() -> dict[str, int]:
    """Token -> id: special tokens, words, characters that start and that continue a word."""
    words = cues.vocabulary()
    known = set(words)
    starts = [
        c for c in string.ascii_lowercase + string.digits + string.punctuation if c not in known
    ]
    pieces = ["##" + c for c in string.ascii_lowercase + string.digits]
    return {token: i for i, token in enumerate([*SPECIAL_TOKENS, *words, *starts, *pieces])}


def encode_word(word: str) -> list[int]:
    """Ids of one word, longest piece first, as WordPiece does."""
    ids = token_ids()
    if word in ids:
        return [ids[word]]
    out, start = [], 0
    while start < len(word):
        for end in range(len(word), start, -1):
            piece = word[start:end] if start == 0 else "##" + word[start:end]
            if piece in ids:
                out.append(ids[piece])
                start = end
                break
        else:
            return [ids[UNK]]
    return out


def encode_words(words: Sequence[str]) -> list[int]:
    """Ids of a sequence of words or special tokens."""
    return [i for word in words for i in encode_word(word)]


def build_tokenizer(kind: str, folder: Path | None = None) -> PreTrainedTokenizerFast:
    """The `transformers` tokenizer of a model.

    Args:
        kind: "masked" puts <bos> ... <eos> around a text, anything else <bos> before it.
        folder: where to save tokenizer.json and tokenizer_config.json, if anywhere.
    """
    from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, processors
    from transformers import PreTrainedTokenizerFast

    ids = token_ids()
    core = Tokenizer(
        models.WordPiece(
            vocab=ids, unk_token=UNK, continuing_subword_prefix="##", max_input_chars_per_word=64
        )
    )
    core.normalizer = normalizers.Sequence(
        [normalizers.NFKD(), normalizers.StripAccents(), normalizers.Lowercase()]
    )
    core.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.WhitespaceSplit(), pre_tokenizers.Punctuation("isolated")]
    )
    core.decoder = decoders.WordPiece(prefix="##", cleanup=False)
    ends = [(BOS, ids[BOS]), (EOS, ids[EOS])]
    single = f"{BOS} $A {EOS}" if kind == "masked" else f"{BOS} $A"
    pair = f"{BOS} $A $B {EOS}" if kind == "masked" else f"{BOS} $A $B"
    core.post_processor = processors.TemplateProcessing(
        single=single, pair=pair, special_tokens=ends
    )
    options: dict[str, Any] = {"extra_special_tokens": [TEXT, INSTRUCTION, ANSWER, REWRITE]}
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=core,
        pad_token=PAD,
        unk_token=UNK,
        bos_token=BOS,
        eos_token=EOS,
        mask_token=MASK,
        model_max_length=192,
        padding_side="right",
        **options,
    )
    tokenizer.chat_template = CHAT_TEMPLATE
    if folder is not None:
        tokenizer.save_pretrained(folder)
    return tokenizer
