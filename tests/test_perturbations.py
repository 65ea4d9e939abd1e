"""Perturbations and formats of a prompt: seeded, never the prompt itself, special tokens kept."""

from __future__ import annotations

import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from promptgym.errors import ConfigError
from promptgym.evaluation.formats import PLAIN, Format, formats
from promptgym.evaluation.perturbations import KINDS, SHARE, SPECIAL, Cut, perturbed
from promptgym.evaluation.wording import SYNONYMS
from promptgym.prompts import Example, Prompt

MANUAL = "What is the opinion of the author ?"
TEXTS = st.text(st.characters(codec="utf-8"), max_size=40)
SENTENCES = st.lists(
    st.sampled_from(
        ["<text>", "[MASK]", "{label}", "the", "is", "of", "Änderung", "naïve", "日本語", "great",
         "\u0301a", "🙂", "x", "?", "<|user|>", "author,", "in", "good"]
    ),
    max_size=12,
).map(" ".join)  # fmt: skip


def instructions(prompt: str, kind: str, **options: object) -> list[str]:
    """Return the instructions of the variants."""
    return [v.instruction for v in perturbed(prompt, kind, **options)]  # type: ignore[arg-type]


@given(TEXTS | SENTENCES, st.sampled_from(KINDS), st.integers(0, 2**40), st.integers(1, 5))
@settings(max_examples=400, deadline=None)
def test_variants_differ_are_repeatable_and_keep_special_tokens(
    text: str, kind: str, seed: int, variants: int
) -> None:
    found = perturbed(text, kind, seed=seed, variants=variants, keep=["great"])
    assert found == perturbed(Prompt(text), kind, seed=seed, variants=variants, keep=["great"])
    assert len(found) in (0, variants)
    more = perturbed(text, kind, seed=seed, variants=variants + 2, keep=["great"])
    assert more[:variants] == found
    for variant in found:
        assert variant.words != tuple(text.split())
        assert SPECIAL.findall(variant.instruction) == SPECIAL.findall(text)
        kept = [len(re.findall(r"\bgreat\b", t)) for t in (text, variant.instruction)]
        assert kept[0] == kept[1]
        variant.instruction.encode()  # no half of a surrogate pair


@given(TEXTS | SENTENCES, st.integers(0, 2**40))
@settings(max_examples=200, deadline=None)
def test_formats_differ_are_repeatable_and_keep_special_tokens(text: str, seed: int) -> None:
    found = formats(text, seed=seed, count=6, keep=["great"])
    assert found == formats(text, seed=seed, count=9, keep=["great"])[:6]
    if not text.split():
        assert found == []
        return
    written = [f.apply(Prompt(text), ["great"]) for f in found]
    assert found[0] == PLAIN and written[0] == Prompt(text)
    assert len(set(written)) == 6
    for form, prompt in zip(found, written, strict=True):
        assert Format(**form.to_json()) == form
        assert SPECIAL.findall(prompt.instruction) == SPECIAL.findall(text)
        assert prompt.instruction.endswith(form.separator + form.space)
        assert re.findall(r"\bgreat\b", prompt.instruction) == re.findall(r"\bgreat\b", text)


@given(TEXTS)
@settings(deadline=None)
def test_a_text_cut_and_put_together_is_the_same(text: str) -> None:
    cut = Cut.of(text)
    assert cut.words == tuple(text.split())
    assert cut.text() == text


def test_words_left_out_take_their_gap_along() -> None:
    cut = Cut.of(" a\tb  c\n")
    assert cut.text(["", "b", "c"]) == " b  c\n"
    assert cut.text(["a", "", "c"]) == " a  c\n"
    assert cut.text(["a", "b", ""]) == " a\tb\n"


@pytest.mark.parametrize("kind", KINDS)
def test_variants_depend_on_the_seed_and_are_different(kind: str) -> None:
    found = [instructions(MANUAL, kind, seed=seed, variants=5) for seed in range(3)]
    assert len({tuple(f) for f in found}) == 3
    assert all(len(set(f)) == 5 for f in found)


def test_characters_change_in_a_share_of_the_words_by_one_slip() -> None:
    for text in instructions(MANUAL, "character", variants=40):
        pairs = [(a, b) for a, b in zip(MANUAL.split(), text.split(), strict=True) if a != b]
        assert 1 <= len(pairs) <= round(SHARE * 7)
        assert all(abs(len(a) - len(b)) <= 1 for a, b in pairs)
        assert text.endswith(" ?")


def test_words_are_replaced_left_out_or_doubled() -> None:
    found = instructions("good precise", "word", variants=30)
    assert {len(text.split()) for text in found} == {1, 2, 3}
    alone = {text for text in instructions("good", "word", variants=30) if " " not in text}
    assert alone == set(SYNONYMS["good"])
    assert "" not in found  # a prompt never loses its last word
    assert any("Writer," in t for t in instructions("Author, well", "word", variants=30))


def test_sentences_stand_behind_the_prompt() -> None:
    added = [t.removeprefix(MANUAL + " ") for t in instructions(MANUAL, "sentence", variants=30)]
    tokens = [t for t in added if re.fullmatch("[a-z0-9]{10}", t)]
    tautologies = [t for t in added if re.fullmatch(r"and .+ is .+", t)]
    assert tokens and tautologies and len(tokens) + len(tautologies) == 30
    assert not instructions("", "sentence")[0].startswith(" ")


def test_phrasing_has_every_slip() -> None:
    plain = "Tell whether the staff is good"
    found = instructions(plain, "semantic", variants=60)
    text = " | ".join(found)
    assert re.search(r"whether staff", text)
    assert "staff are" in text or "are staff" in text
    assert "Please" in text and "thank" in text
    assert any(sorted(t.split()) == sorted(plain.split()) for t in found)


@pytest.mark.parametrize("kind", KINDS)
def test_a_prompt_with_nothing_to_change_has_no_variants(kind: str) -> None:
    assert (instructions("", kind) != []) == (kind == "sentence")
    kept = instructions("<text> great", kind, keep=["Great"])
    assert (kept == []) == (kind in ("character", "word"))


def test_phrases_to_keep_are_kept_whole() -> None:
    cut = Cut.of("say very good or good, not {this} a<b>c", ["very good"])
    assert [w for w, free in zip(cut.words, cut.free, strict=True) if not free] == [
        "very",
        "good",
        "{this}",
        "a<b>c",
    ]
    assert cut.free[cut.words.index("good,")]


def test_demonstrations_and_system_stay() -> None:
    prompt = Prompt(MANUAL, (Example("the is of", "great"),), "the system is")
    for kind in KINDS:
        for variant in perturbed(prompt, kind):
            assert (variant.demonstrations, variant.system) == (
                prompt.demonstrations,
                prompt.system,
            )
    assert Format("upper").apply(prompt).demonstrations == prompt.demonstrations


def test_wrong_draws_are_refused_by_name() -> None:
    with pytest.raises(ConfigError, match=r"kind of perturbation 'charcter'; expected .*character"):
        perturbed("a", "charcter")
    with pytest.raises(ConfigError, match="variants must be at least 1, got 0"):
        perturbed("a", "word", variants=0)
    with pytest.raises(ConfigError, match="seed must be 0 or more, got -1"):
        perturbed("a", "word", seed=-1)
    with pytest.raises(ConfigError, match="count must be at least 1, got 0"):
        formats("a", count=0)
