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
from promptgym.llms.lines import LEAST, Item, Layout, Line, batches_of, lines_of
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


@pytest.mark.parametrize(("kind", "name"), [("causal", "gpt2"), ("masked", "bert")])
def test_long_texts_that_begin_alike_are_cut_up_at_their_ends_only(
    built: Any, monkeypatch: pytest.MonkeyPatch, kind: str, name: str
) -> None:
    model: Any = load_model(built(kind, name))
    rng = random.Random(5)
    inputs = [sentence(rng, 100, 300) for _ in range(5)] + ["x" * 700, "a  b " * 200, " c" * 300]

    def check(count: int) -> None:
        prompts = [sentence(rng, 1, 9) for _ in range(count)]
        for texts in ([f"{i} {p}" for p in prompts for i in inputs], inputs, prompts):
            for special in (True, False):
                want = [model.tokenizer(t, add_special_tokens=special)["input_ids"] for t in texts]
                assert model.encode(texts, special=special) == want

    check(4)
    pieces = model._pieces
    assert pieces.exact and pieces._begun and max(map(len, pieces._begun.values())) > 99
    monkeypatch.setattr("promptgym.llms.pieces.BEGINNINGS", 500)
    check(4)
    assert 0 < sum(map(len, pieces._begun)) < 5000


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


@pytest.mark.parametrize("odd", ["bar\u200b", "\u200b", "\ufeff", "\u200bbar", "bar\u00a0"])
def test_a_character_that_is_read_as_a_space_is_no_part_of_a_piece(odd: str) -> None:
    """As sentencepiece's rules (`nmt_nfkc`) have it; several spaces become one (Pegasus)."""
    from tokenizers import Regex, Tokenizer, models, normalizers, pre_tokenizers, trainers

    core = Tokenizer(models.Unigram())
    one = normalizers.Replace(Regex(" {2,}"), " ")
    core.normalizer = normalizers.Sequence([normalizers.Nmt(), normalizers.NFKC(), one])
    core.pre_tokenizer = pre_tokenizers.Metaspace()
    trainer = trainers.UnigramTrainer(
        vocab_size=60, unk_token="<unk>", special_tokens=["<unk>"], show_progress=False
    )
    core.train_from_iterator(["the best of the lot foo bar a"] * 9, trainer)
    pieces = PieceTokenizer(core)
    pieces.encode(["foo the", "the foo"], special=True)  # known, so that nothing new is tried
    for text in (odd, f"foo {odd}", f"{odd} the", f"the {odd} foo"):
        assert pieces.encode([text], special=True) == [core.encode(text).ids]
    assert pieces.exact


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
    table = PrefixTable([(long, 5), (short, 3), (long, 2)], room=4)  # lie as 2, 3, 5
    assert table.holds([(short, 3), (long, 5)], 4) and not table.holds([(short, 2)])
    assert not table.holds([(short, 3)], 5), "no such room"
    assert not table.holds([(long, 2), (long, 5)]), "another lies between them"
    for rows, in_place in (
        ([(short, 3), (long, 5), (short, 3)], False),
        ([(short, 3), (long, 2)], False),
        ([(long, 2), (short, 3)], True),
        ([(short, 3), (long, 5)], True),
    ):
        for width in (4, 5):
            longest = max(tokens for _, tokens in rows)
            cache = table.cache(rows, width, scratch)
            for number, layer in enumerate(cache.layers):
                new = torch.randn(2, len(rows), 2, width, 4)
                for side, found in enumerate(layer.update(new[0], new[1])):
                    own = (
                        found.untyped_storage().data_ptr() != table.kv.untyped_storage().data_ptr()
                    )
                    assert own != (in_place and longest + width <= 9)
                    assert found.shape == (len(rows), 2, longest + width, 4)
                    assert torch.equal(found[:, :, longest:], new[side])
                    for row, (source, tokens) in zip(found, rows, strict=True):
                        assert torch.equal(row[:, :tokens], source.kv[number, side, :, :tokens])


# --- rows of a batch --------------------------------------------------------------------------


@given(st.lists(st.tuples(st.integers(0, 4), st.integers(1, 9)), max_size=40), st.integers(0, 60))
@settings(max_examples=100, deadline=None)
def test_lines_hold_every_item_once_behind_its_prefix(
    drawn: list[tuple[int, int]], limit: int
) -> None:
    prefixes = [None, *(entry(4 * n, n) for n in range(1, 5))]
    items = [
        Item(i, list(range(width)), prefixes[which], 4 * which, range(width - 1, width), i == 3)
        for i, (which, width) in enumerate(drawn)
    ]
    lines = lines_of(items, limit)
    assert sorted(item.row for line in lines for item in line.items) == list(range(len(items)))
    for line in lines:
        assert line.width == sum(len(item.tokens) for item in line.items)
        assert all(i.source is line.source and i.start == line.start for i in line.items)
        if len(line.items) > 1:
            assert line.start and line.start + line.width <= limit and line.width <= LEAST
            assert not any(item.keep for item in line.items)
    places = {line.prefix: n for n, line in enumerate(sorted(lines, key=lambda x: x.start))}
    for known in ({}, places):
        batches = batches_of(lines, 64, 32, known)
        assert sorted(id(line) for batch in batches for line in batch) == sorted(map(id, lines))


def test_lines_of_different_prefixes_make_a_batch_in_the_order_of_memory() -> None:
    prefixes = [entry(tokens, tokens) for tokens in (30, 40, 20, 10)]
    items = [
        Item(n, [1] * 10, prefixes[n % 4], len(prefixes[n % 4].key) // 4, range(9, 10))
        for n in range(24)
    ]
    lines = lines_of(items, 1000)
    assert [len(line.items) for line in lines] == [3] * 8
    places = {line.prefix: n for n, line in enumerate(sorted(lines, key=lambda x: x.start))}
    batches = batches_of(lines, 4096, 100, places)
    assert [[line.start for line in batch] for batch in batches] == [[10, 20, 30, 40]] * 2
    assert len(batches_of(lines, 4096, 200, places)) == 1, "too small batches: one copies instead"


def test_a_position_attends_to_its_prefix_and_to_its_own_item() -> None:
    source = entry(6, 0)
    lines = [Line(source, 5), Line(None, 0)]
    for row, tokens in enumerate(([7, 8], [9])):
        lines[0].add(Item(row, tokens, source, 5, range(len(tokens) - 1, len(tokens))))
    lines[1].add(Item(2, [3], None, 0, range(1)))
    layout = Layout.of(lines)
    assert layout.ids.tolist() == [[7, 8, 9], [3, 0, 0]]
    assert layout.positions[0].tolist() == [5, 6, 5] and layout.positions[1, 0] == 0
    assert layout.wants.tolist() == [[0, 0, 1], [1, 2, 0]]
    assert layout.attended()[0].astype(int).tolist() == [
        [1, 1, 1, 1, 1, 1, 0, 0],
        [1, 1, 1, 1, 1, 1, 1, 0],
        [1, 1, 1, 1, 1, 0, 0, 1],
    ]
    assert layout.attended()[1, 0].astype(int).tolist() == [0, 0, 0, 0, 0, 1, 0, 0]
    assert layout.attended().any(axis=2).all(), "padding attends to something, too"
    assert layout.visible().tolist() == [[1] * 8, [0, 0, 0, 0, 0, 1, 0, 0]]


def test_wide_models_take_larger_batches_on_a_processor() -> None:
    class Wide:
        def get_input_embeddings(self) -> torch.nn.Embedding:
            return torch.nn.Embedding(2, 512)

    tiny: Any = load_model("tiny")
    assert tiny.batch_tokens == 3072
    assert batch_tokens_for(Wide(), torch.device("cpu")) == 8192
    assert batch_tokens_for(Wide(), torch.device("cuda")) == 32768
