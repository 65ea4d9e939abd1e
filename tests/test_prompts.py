"""Prompts, examples and templates: values that survive a round trip and render exactly."""

from __future__ import annotations

import json
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from promptgym.errors import PromptGymError, TemplateError
from promptgym.prompts import Example, Prompt, Template, content_key

TEXT = st.text(max_size=40)  # without surrogates, as UTF-8 files are
EXAMPLES = st.builds(
    Example,
    input=TEXT,
    target=TEXT,
    alternatives=st.lists(TEXT, max_size=2).map(tuple),
)
PROMPTS = st.builds(
    Prompt,
    instruction=TEXT,
    demonstrations=st.lists(EXAMPLES, max_size=3).map(tuple),
    system=TEXT,
)
WORDS = st.text("abcxyz{}<>", min_size=1, max_size=6)


@given(PROMPTS)
def test_a_prompt_survives_json(prompt: Prompt) -> None:
    again = Prompt.of(json.loads(json.dumps(prompt.to_json())))
    assert again == prompt
    assert hash(again) == hash(prompt)


def test_prompt_of_takes_text_prompts_and_lists() -> None:
    assert Prompt.of("be brief") == Prompt("be brief")
    prompt = Prompt("x", [Example("a", "b")])  # type: ignore[arg-type]
    assert Prompt.of(prompt) is prompt
    assert prompt in {prompt}


@pytest.mark.parametrize(
    ("value", "said"),
    [
        (7, "got int"),
        ({"instructions": "x"}, "'instructions'"),
        ({"instruction": 5}, "instruction is a text, got 5"),
        ({"demonstrations": [{"text": "x"}]}, "a demonstration is"),
        ({"demonstrations": [{"input": 1, "target": "x"}]}, "input is a text, got 1"),
    ],
)
def test_prompt_of_refuses_what_is_no_prompt(value: object, said: str) -> None:
    with pytest.raises(PromptGymError, match=said):
        Prompt.of(value)  # type: ignore[arg-type]


@given(st.lists(WORDS, max_size=8))
def test_words_go_in_and_out(words: list[str]) -> None:
    prompt = Prompt("old", system="kept").with_words(words)
    assert list(prompt.words) == words
    assert prompt.system == "kept"


@given(TEXT, TEXT)
def test_content_keys_fold_whitespace_and_nothing_else(one: str, other: str) -> None:
    assert content_key(one) == content_key("  " + one.replace(" ", " \t\n ") + "\n")
    assert (content_key(one) == content_key(other)) == (one.split() == other.split())


def test_the_content_key_is_the_same_on_every_machine() -> None:
    assert content_key("a b") == "5a5a0de410718a06"
    assert Example("a  b", "yes").key == Example("a b", "no").key == content_key("a b")


@given(TEXT, TEXT, TEXT)
def test_rendering_puts_every_part_in_as_it_is(prompt: str, text: str, system: str) -> None:
    template = Template("[{system}|{prompt}|{input}] {mask} {{x}}")
    got = template.render(Prompt(prompt, (), system), text, mask="<m>")
    assert got == f"[{system}|{prompt}|{text}] <m> {{x}}"


@pytest.mark.parametrize(
    ("text", "instruction", "expected"),
    [
        ("{input} {prompt} {mask} .", "", "IN <m> ."),
        ("{input} {prompt} {mask} .", "It was", "IN It was <m> ."),
        ("{mask} {prompt} {input}", "", "<m> IN"),
        ("{mask} {prompt} {input}", "News:", "<m> News: IN"),
        ("{prompt} {input}", "", "IN"),
        ("{input} {prompt}", "", "IN"),
        ("{demonstrations}{prompt}\n{input}\nAnswer: {answer}", "", "IN\nAnswer:"),
        ("{demonstrations}{prompt}\n{input}\nAnswer: {answer}", "Do", "Do\nIN\nAnswer:"),
        ("Q: {input}\nA: {prompt} {answer}", "", "Q: IN\nA:"),
        ("A\n{prompt}\n{input}", "", "A\nIN"),
        ("{input}\nOutput:\n{answer}", "", "IN\nOutput:\n"),
        ("{{mask}} {input}", "", "{mask} IN"),
    ],
)
def test_an_empty_part_leaves_no_gap(text: str, instruction: str, expected: str) -> None:
    template = Template(text)
    mask = "<m>" if template.has_mask else ""
    assert template.render(Prompt(instruction), "IN", mask=mask) == expected


def test_around_a_mask_the_input_keeps_its_spaces() -> None:
    # RLPrompt's data has inputs that end in a space, and a tokenizer sees it.
    masked = Template("{mask} {prompt} {input}")
    assert masked.render(Prompt("p"), "two  spaces. ", mask="<m>") == "<m> p two  spaces. "
    assert Template("{prompt} {input}").render(Prompt("p"), "two  spaces. ") == "p two  spaces."


def test_demonstrations_are_rendered_in_order_with_their_verbalizers() -> None:
    template = Template("{demonstrations}{prompt}\n{input} =>", "{input} => {answer}\n")
    prompt = Prompt("Go", (Example("a", "neg"), Example("b", "pos")))
    got = template.render(prompt, Example("c", "pos"), verbalizers={"neg": "bad"})
    assert got == "a => bad\nb => pos\nGo\nc =>"


@given(WORDS)
def test_braces_in_values_are_not_placeholders(value: str) -> None:
    template = Template("{demonstrations}{prompt} {input}", "{input}={answer};")
    prompt = Prompt("{input}", (Example(value, "{prompt}"),))
    assert template.render(prompt, "{mask}") == f"{value}={{prompt}};{{input}} {{mask}}"


@pytest.mark.parametrize(
    ("text", "demonstration", "said"),
    [
        ("{prompt}", "{input} {answer}", "no {input}"),
        ("{input} {mask} {mask}", "{input} {answer}", "more than one {mask}"),
        ("{answer} {input}", "{input} {answer}", "only at the end"),
        ("{input} {mask} {answer}", "{input} {answer}", "both {mask} and {answer}"),
        ("{input} {text}", "{input} {answer}", "unknown placeholder {text}"),
        ("{input} {}", "{input} {answer}", "unknown placeholder {}"),
        ("{input!r}", "{input} {answer}", "unknown placeholder {input!r}"),
        ("{input:>9}", "{input} {answer}", "unknown placeholder {input:>9}"),
        ("{input} {", "{input} {answer}", "not a format string"),
        ("{input}", "{input}", "must hold {input} and {answer}"),
        ("{input}", "{input} {answer} {mask}", "must hold {input} and {answer}"),
    ],
)
def test_a_template_that_cannot_render_is_refused(text: str, demonstration: str, said: str) -> None:
    with pytest.raises(TemplateError) as caught:
        Template(text, demonstration)
    assert said in str(caught.value)


def test_rendering_refuses_what_would_be_read_wrongly() -> None:
    shot = Prompt("x", (Example("a", "b"),))
    with pytest.raises(TemplateError, match=r"has no \{demonstrations\}"):
        Template("{input}").render(shot, "c")
    with pytest.raises(TemplateError, match="no mask token"):
        Template("{input} {mask}").render(Prompt(), "c")


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda: Prompt(None), "instruction is a text, got None"),
        (lambda: Prompt(3), "instruction is a text, got 3"),
        (lambda: Prompt("a", system=None), "system message is a text, got None"),
        (lambda: Prompt("a", ({"input": "x", "target": "y"},)), "demonstrations are Examples"),
        (lambda: Prompt("a\ud800b"), r"not valid Unicode at character 2: 'a\\ud800b'"),
        (lambda: Prompt.of("\udcff bad"), "not valid Unicode at character 1"),
        (lambda: Example("x", 3), "target is a text, got 3"),
        (lambda: Example("x\udfff", "y"), "input is not valid Unicode"),
        (lambda: Example("x", "y", alternatives="yes"), "a list of texts, got 'yes'"),
        (lambda: Example("x", "y", alternatives=("\ud800",)), "alternative is not valid"),
        (lambda: Template("{input}\udcff"), "a template is valid Unicode"),
    ],
)
def test_what_is_no_text_is_refused(make: Callable[[], object], said: str) -> None:
    with pytest.raises(PromptGymError, match=said):
        make()


def test_characters_beyond_the_basic_plane_are_text() -> None:
    assert Prompt("\U0001f600 \u4e2d").words == ("\U0001f600", "\u4e2d")


def test_a_system_message_without_a_place_is_refused_like_demonstrations() -> None:
    prompt = Prompt("a", system="SYS")
    with pytest.raises(TemplateError, match=r"no \{system\}, but .* message 'SYS'"):
        Template("{input} {prompt}").render(prompt, "x")
    assert Template("{system} {input} {prompt}").render(prompt, "x") == "SYS x a"
