"""What goes before a forward pass: tokens of pieces, groups of equal beginnings, batches."""

from __future__ import annotations

import random
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from llm_models import sentence

from promptgym.llms import load_model
from promptgym.llms.kv import PrefixTable, Scratch
from promptgym.llms.pieces import PieceTokenizer
from promptgym.llms.prefix import Entry, PrefixStore, key_of, pack, plan_groups
from promptgym.llms.transformers_common import batch_tokens_for

# --- tokens -----------------------------------------------------------------------------------


@pytest.mark.parametrize(("kind", "name"), [("causal", "gpt2"), ("masked", "bert")])
def test_texts_made_of_known_pieces_are_tokenized_as_a_whole_would_be(
    built: Any, kind: str, name: str
) -> None:
    model: Any = load_model(built(kind, name))
    rng = random.Random(4)
    odd = [
        "",
        " ",
        "a  b",
        " a",
        "a ",
        "a\n b",
        "a \nb",
        "\u00a0 a",
        "don't it's",
        "x,y (z) .",
        "7 8a",
    ]
    texts = odd + [sentence(rng, 1, 9) + rng.choice(["", *odd]) for _ in range(200)]
    texts += [f"{text} {model.mask_token} ." for text in texts if model.mask_token]
    for special in (True, False):
        got = model.encode(texts, special=special)
        assert got == [model.tokenizer(t, add_special_tokens=special)["input_ids"] for t in texts]
        assert model.encode(texts[::-1], special=special) == got[::-1]
    assert model._pieces.exact


def core_tokenizer(pattern: str | None) -> Any:
    """A tokenizer whose tokens may reach over spaces: "of the" is one."""
    from tokenizers import Regex, Tokenizer, models, pre_tokenizers, trainers

    core = Tokenizer(models.BPE())
    if pattern is not None:
        core.pre_tokenizer = pre_tokenizers.Split(Regex(pattern), "isolated")
    core.train_from_iterator(
        ["one of the best of the lot"] * 9, trainers.BpeTrainer(vocab_size=99, show_progress=False)
    )
    return core


@pytest.mark.parametrize("pattern", [None, r"\w+ \w+|\S+|\s+", r" ?(of the|\S+)"])
def test_tokenizers_that_reach_over_spaces_are_never_fed_pieces(pattern: str | None) -> None:
    core = core_tokenizer(pattern)
    pieces = PieceTokenizer(core)
    texts = ["one of the best", "of the lot", "the lot of the best", "best of one"]
    for _ in range(2):
        want = [core.encode(text).ids for text in texts]
        assert pieces.encode(texts, special=True) == want
    assert not pieces.exact, "found out at the start, or by the first text"


# --- plans ------------------------------------------------------------------------------------

rows_of_tokens = st.lists(
    st.lists(st.integers(0, 3), min_size=1, max_size=24), min_size=1, max_size=40
)


@given(rows_of_tokens, st.data())
@settings(max_examples=150, deadline=None)
def test_a_group_shares_its_prefix_and_saves_tokens(rows: list[list[int]], data: Any) -> None:
    caps = [data.draw(st.integers(0, len(row) - 1)) for row in rows]
    known = np.array([data.draw(st.integers(0, cap)) for cap in caps])
    groups = plan_groups(rows, caps, known)
    members = [i for group in groups for i in group.members]
    assert len(members) == len(set(members))
    for group in groups:
        assert len(group.members) > 1
        assert len({tuple(rows[i][: group.depth]) for i in group.members}) == 1
        assert all(group.depth <= caps[i] for i in group.members)
        alone = sum(len(rows[i]) - known[i] for i in group.members)
        cached = min(group.depth, max(known[i] for i in group.members))
        grouped = group.depth - cached + sum(len(rows[i]) - group.depth for i in group.members)
        assert grouped < alone


@given(rows_of_tokens, st.lists(st.integers(0, 3), max_size=24))
@settings(max_examples=100, deadline=None)
def test_the_store_finds_the_longest_beginning(rows: list[list[int]], wanted: list[int]) -> None:
    store = PrefixStore(10**6)
    for row in rows:
        store.put(key_of(row), torch.zeros(1, 2, 1, len(row), 1))
    entry, length = store.longest(key_of(wanted))

    def shared(row: list[int]) -> int:
        pairs = enumerate(zip(row, wanted, strict=False))
        return next((n for n, (a, b) in pairs if a != b), min(len(row), len(wanted)))

    assert length == max(map(shared, rows))
    if entry is not None:
        assert entry.key[: 4 * length] == key_of(wanted)[: 4 * length]


@given(st.lists(st.integers(1, 50), max_size=60), st.integers(1, 300))
@settings(max_examples=100, deadline=None)
def test_packing_loses_nothing_and_keeps_to_its_budget(lengths: list[int], budget: int) -> None:
    batches = pack(lengths, lengths, budget)
    assert sorted(i for batch in batches for i in batch) == list(range(len(lengths)))
    for batch in batches:
        assert len(batch) == 1 or len(batch) * max(lengths[i] for i in batch) <= budget


# --- key/values of prefixes -------------------------------------------------------------------


def entry(tokens: int, seed: int) -> Entry:
    drawn = torch.Generator().manual_seed(seed)
    kv = torch.randn(3, 2, 2, tokens, 4, generator=drawn)  # layers, sides, heads, tokens, width
    return Entry(key_of(list(range(tokens))), kv)


@pytest.mark.parametrize("scratch", [None, Scratch()])
def test_rows_of_a_batch_get_their_prefixes_and_what_is_new(scratch: Scratch | None) -> None:
    long, short = entry(5, 0), entry(3, 1)
    table = PrefixTable([(long, 5), (short, 3), (long, 2)])
    assert table.holds([(short, 3), (long, 5)]) and not table.holds([(short, 2)])
    for rows in ([(short, 3), (long, 5), (short, 3)], [(long, 2), (short, 3)]):
        longest = max(tokens for _, tokens in rows)
        cache = table.cache(rows, scratch)
        for number, layer in enumerate(cache.layers):
            new = torch.randn(2, len(rows), 2, 4, 4)
            for side, found in enumerate(layer.update(new[0], new[1])):
                assert found.shape == (len(rows), 2, longest + 4, 4)
                assert torch.equal(found[:, :, longest:], new[side])
                for row, (source, tokens) in zip(found, rows, strict=True):
                    assert torch.equal(row[:, :tokens], source.kv[number, side, :, :tokens])
                    assert not row[:, tokens:longest].any()


def test_wide_models_take_larger_batches_on_a_processor() -> None:
    class Wide:
        def get_input_embeddings(self) -> torch.nn.Embedding:
            return torch.nn.Embedding(2, 512)

    tiny: Any = load_model("tiny")
    assert tiny.batch_tokens == 3072
    assert batch_tokens_for(Wide(), torch.device("cpu")) == 8192
    assert batch_tokens_for(Wide(), torch.device("cuda")) == 32768
