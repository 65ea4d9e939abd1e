"""Environments whose actions are whole texts: what is shown, what is asked, what is normalized."""

from __future__ import annotations

import re
from dataclasses import replace
from typing import Any

import gymnasium as gym
import pytest
from env_problems import SIZE, problem_for
from gymnasium.vector import SyncVectorEnv
from hypothesis import given
from hypothesis import strategies as st

from promptgym.envs.text import ASCII, characters, clean, fill
from promptgym.errors import ConfigError
from promptgym.problem import Problem, make_problem
from promptgym.prompts import Example, Prompt
from promptgym.tasks import list_tasks
from promptgym.tasks.world import WORLD_TASKS
from promptgym.testing import TransparentModel, transparent_task
from promptgym.testing.compare import difference


def make(env_id: str = "PromptRewrite-v0", **options: Any) -> gym.Env[Any, Any]:
    problem = options.pop("problem", None) or problem_for("rewrite")
    return gym.make(env_id, problem=problem, **options)


@given(st.text(max_size=60), st.text(max_size=5), st.integers(1, 40))
def test_any_text_becomes_one_of_the_space(text: str, more: str, limit: int) -> None:
    allowed = characters([], more)
    cleaned = clean(text, allowed, limit)
    assert set(cleaned) <= allowed
    assert len(cleaned) <= limit
    assert clean(cleaned, allowed, limit) == cleaned
    assert set(text) - allowed or cleaned == text.strip()[:limit].strip()


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("\u201csay\u201d \u2013 don\u2019t\u2026", '"say" - don\'t...'),
        ("café naïve", "cafe naive"),
        ("a\x00b\u2003c", "a b c"),
        ("ﬁne ①", "fine 1"),
        (
            "of\ufb01ce, e\ufb03cient, Stra\u00dfe, \u0153uvre, S\u00f8ren",
            "office, efficient, Strasse, oeuvre, Soren",
        ),
        ("\u00bd cup, 1\u00bd cups, 3\u2044 4", "1/2 cup, 1 1/2 cups, 3/ 4"),
        ("10\u00b2 m\u00b2, H\u2082O, \u00b2", "10^2 m^2, H2O, 2"),
        ("a \u2260 b \u2264 c \u2192 2 \u00d7 3", "a != b <= c -> 2 x 3"),
        ("at 20 \u2103", "at 20  C"),
        ("日本", ""),
        ("  kept as  it\nis ", "kept as  it\nis"),
    ],
)
def test_what_is_outside_the_character_set_is_written_with_what_is_inside(
    text: str, expected: str
) -> None:
    assert clean(text, ASCII, 100) == expected


@pytest.mark.parametrize("name", sorted(WORLD_TASKS))
def test_a_rewriter_is_told_what_is_asked_and_not_how_the_task_is_made(name: str) -> None:
    problem = make_problem(name, TransparentModel())
    observation, _ = gym.make("PromptRewrite-v0", problem=problem).reset(seed=0)
    line = next(x for x in observation["text"].splitlines() if x.startswith("Task: "))
    assert line == f"Task: {WORLD_TASKS[name].description}"
    assert not re.search("careful|hard|standard|generat|climb|prompt", line, re.IGNORECASE)
    info = next(info for info in list_tasks() if info.name == name)
    assert WORLD_TASKS[name].difficulty in info.description


def test_braces_in_what_is_shown_mean_nothing() -> None:
    assert fill("{prompt} {task}", {"prompt": "{task} {0}", "task": "x{"}) == "{task} {0} x{"


def test_the_characters_of_the_task_belong_to_the_space() -> None:
    task = transparent_task(SIZE)
    task = replace(task, train=(Example("ein plus für ß", "plus"), *task.train))
    env = make(problem=Problem(task, TransparentModel(), initial_prompt="größer"), alphabet="λ")
    observation, info = env.reset(seed=0)
    assert observation in env.observation_space
    assert info["prompt"] == "größer"
    *_, info = env.step("für λ und é")
    assert info["prompt"] == "für λ und e"
    with pytest.raises(ConfigError, match="holds 'ï'; add that to `alphabet`"):
        env.reset(options={"prompt": "naïve"})


def test_one_turn_pays_what_the_rewrite_is_worth_and_asks_nothing_else() -> None:
    problem = problem_for("rewrite")
    env = make(problem=problem)
    observation, info = env.reset(seed=0)
    assert problem.ledger.queries == 0
    assert observation["text"].endswith("\nInstruction: one two")
    assert "Task: answer with the sign" in observation["text"]
    assert "score" not in info
    _, reward, terminated, _, info = env.step("alpha beta gamma")
    assert terminated
    scores = problem.score([Prompt("alpha beta gamma")])
    assert reward == pytest.approx(problem.rewards(scores)[0] / problem.reward.scale)
    assert info["score"] == scores.mean[0]


def test_later_turns_see_scores_and_mistakes_and_are_paid_the_difference() -> None:
    problem = problem_for("rewrite")
    env = make(problem=problem, turns=2, errors=2)
    observation, info = env.reset(seed=0)
    first = info["score"]
    assert (
        f"Instructions so far and their scores: one two (score {first:.3f})"
        in (observation["text"])
    )
    observation, one, terminated, _, info = env.step("anti")
    assert not terminated
    text = observation["text"]
    assert f"- one two (score {first:.3f})\n- anti (score {info['score']:.3f})\n" in text
    wrong = problem.score([Prompt("anti")])
    lines = [line for line in text.splitlines() if "(right: " in line]
    assert len(lines) == 2
    for line, j in zip(lines, (wrong.values[0] < 1).nonzero()[0], strict=False):
        example = problem.task.train[int(j)]
        assert line.startswith(f"- {example.input} -> ")
        assert line.endswith(f"(right: {example.target})")
        assert f"-> {example.target} (" not in line
    _, two, terminated, _, info = env.step("alpha")
    assert terminated
    last, before = (
        problem.rewards(problem.score([Prompt(text)]))[0] for text in ("alpha", "one two")
    )
    assert one + two == pytest.approx((last - before) / problem.reward.scale)


def test_a_generated_answer_is_shown_as_it_was_given() -> None:
    problem = problem_for("rewrite-generation")
    observation, _ = make(problem=problem, errors=1).reset(seed=0)
    assert (
        "-> minus (right: plus)" in observation["text"]
        or "-> plus (right: minus)" in (observation["text"])
    )


def test_responses_and_truths_are_shown_apart_or_together() -> None:
    problem, shown = problem_for("rewrite"), {}
    for slots in ("{errors}", "{responses}", "{truths}", "{responses}{truths}"):
        meta = f"{slots}Instruction: {{prompt}}"
        observation, _ = make(problem=problem, errors=1, meta_prompt=meta).reset(seed=0)
        shown[slots] = observation["text"].splitlines()[:-1]
    wrong = problem.score([problem.initial_prompt]).values[0]
    example = problem.task.train[int((wrong < 1).nonzero()[0][0])]
    other = next(name for name in problem.task.labels or () if name != example.target)
    start = "Examples that went wrong"
    answer = f"{start}, with the answers given: {example.input} -> {other}"
    truth = f"{start}, with the right answers: {example.input} -> {example.target}"
    assert shown["{errors}"] == [f"{start}: {example.input} -> {other} (right: {example.target})"]
    assert shown["{responses}"] == [answer]
    assert shown["{truths}"] == [truth]
    assert shown["{responses}{truths}"] == [answer, truth]


def test_an_episode_on_some_examples_asks_those_and_the_seed_decides_which() -> None:
    problem = problem_for("rewrite")
    env = make(problem=problem, examples=3)
    drawn = []
    for seed in (0, 1, 0):
        env.reset(seed=seed)
        state = env.unwrapped.episode.state
        *_, info = env.step("alpha")
        chosen = [problem.task.train[i] for i in state.examples]
        assert info["score"] == problem.score([Prompt("alpha")], chosen).mean[0]
        assert info["queries"] == 3
        drawn.append(state.examples)
    assert drawn[0] == drawn[2] != drawn[1]


def test_a_rewritten_input_is_asked_with_the_prompt_as_it_is() -> None:
    problem = problem_for("rewrite")
    env = make("InstanceRewrite-v0", problem=problem)
    observation, info = env.reset(seed=0)
    example = problem.task.train[env.unwrapped.episode.state.examples[0]]
    assert info["prompt"] == example.input == observation["prompt"]
    assert observation["text"].endswith(f"\nQuestion: {example.input}")
    *_, info = env.step(f"{example.target} alpha")
    asked = replace(example, input=f"{example.target} alpha", key="")
    expected = problem.score([problem.initial_prompt], [asked])
    assert info["prompt_reward"] == pytest.approx(problem.rewards(expected)[0])
    with pytest.raises(ConfigError, match="drawn by the seed"):
        env.reset(options={"prompt": "one"})


def test_rewritten_inputs_are_asked_in_one_call_and_charged_in_order() -> None:
    model = TransparentModel()
    problem = Problem(transparent_task(SIZE), model, budget=6)
    batched: Any = gym.make_vec("InstanceRewrite-v0", num_envs=4, problem=problem)
    shared = Problem(transparent_task(SIZE), TransparentModel(), budget=6)
    single = SyncVectorEnv([lambda: gym.make("InstanceRewrite-v0", problem=shared)] * 4)
    expected: Any = single.reset(seed=0)
    found: Any = batched.reset(seed=0)
    for texts in ("abcd", "alpha", "efgh", "beta"):
        assert difference(expected, found) is None, difference(expected, found)
        calls = model.calls
        actions = [f"plus {c}" for c in texts[:4]]
        expected, found = single.step(actions), batched.step(actions)
        assert model.calls - calls <= 1
    assert batched.problem.ledger.queries == 6


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"turns": 0}, "turns and max_length must be >= 1"),
        ({"errors": -1}, "errors >= 0"),
        ({"start": "nowhere"}, "'initial' or 'manual'"),
        ({"examples": 99}, f"between 1 and the {SIZE}"),
        ({"meta_prompt": "no slot"}, r"must hold \{prompt\}"),
        ({"meta_prompt": "{prompt} {else}"}, r"unknown slot \{else\}; slots: \{prompt\}, \{task\}"),
        ({"meta_prompt": "{prompt"}, "is no template"),
        ({"archive": 2}, "always starts afresh"),
    ],
)
def test_wrong_arguments_are_named(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        make(**options)


@pytest.mark.parametrize("action", [None, 3, ["a"], b"a"])
def test_what_is_no_text_is_refused(action: Any) -> None:
    env = make().unwrapped
    env.reset(seed=0)
    with pytest.raises(ConfigError, match="is a text, got"):
        env.step(action)


def test_a_text_that_is_too_long_is_cut_and_said_to_be() -> None:
    env = make(max_length=10)
    env.reset(seed=0)
    *_, info = env.step("alpha beta gamma")
    assert info["prompt"] == "alpha beta"
    assert info["edit"] == "rewrite, cut at 10 characters"
    # What counts is the text that is kept: signs written out make it longer, others go.
    for text, kept, cut in (
        ("alpha be\u2026", "alpha be..", True),
        ("alpha beta\u2003\x00", "alpha beta", False),
        ("alphabeta\u00bd", "alphabeta1", True),
    ):
        env.reset(seed=0)
        *_, info = env.step(text)
        assert info["prompt"] == kept
        assert ("cut" in info["edit"]) == cut
