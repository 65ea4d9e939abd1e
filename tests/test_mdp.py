"""The parts of environments that never score: vocabulary, edits, states, masks."""

from __future__ import annotations

import json
from itertools import pairwise

import numpy as np
import pytest
from env_problems import VARIANTS, problem_for
from hypothesis import given, settings
from hypothesis import strategies as st

import promptgym.envs
from promptgym.envs import PromptEdit, PromptMDP, PromptState, PromptToken, Vocabulary
from promptgym.envs.edits import edit
from promptgym.envs.factory import SHELL_ARGUMENTS
from promptgym.envs.mdp import head_sizes, sample_action
from promptgym.envs.outcome import Outcome
from promptgym.errors import ConfigError
from promptgym.prompts import Prompt

WORDPIECES = ("un", "##happy", "##ly", "happy", "a", "##a", "good")
BPE = ("Ġun", "happy", "ly", "Ġhappy", "Ġa", "a", "Ġgood")
words = st.lists(st.sampled_from(["unhappy", "happyly", "a", "aaa", "good", "goodly"]), max_size=6)


def mdp_for(variant: str) -> PromptMDP:
    env_id, options = VARIANTS[variant]
    own = {k: v for k, v in options.items() if k not in SHELL_ARGUMENTS}
    kind = getattr(promptgym.envs, env_id.rpartition("-v")[0])
    mdp: PromptMDP = kind(problem_for(variant), **own)
    return mdp


@given(words)
def test_text_survives_cutting_and_joining(chosen: list[str]) -> None:
    text = " ".join(chosen)
    for vocabulary in (
        Vocabulary(WORDPIECES),
        Vocabulary(WORDPIECES, level="token"),
        Vocabulary(BPE, level="token"),
    ):
        assert vocabulary.join(vocabulary.split(text)) == text


@given(words)
def test_tokens_are_known_units(chosen: list[str]) -> None:
    for vocabulary in (Vocabulary(WORDPIECES, level="token"), Vocabulary(BPE, level="token")):
        assert set(vocabulary.split(" ".join(chosen))) <= set(vocabulary.units)


def test_words_of_start_prompts_have_ids_but_cannot_be_written() -> None:
    vocabulary = Vocabulary(["a", "b"], extra=["a stranger"])
    assert len(vocabulary) == 2
    assert vocabulary.n_ids == 5
    assert vocabulary.ids(["a", "b", "stranger", "nobody"]) == [2, 3, 4, 1]


@pytest.mark.parametrize("bad", [[], ["a", "a"], ["a b"], [""]])
def test_a_vocabulary_that_cannot_be_used_is_refused(bad: list[str]) -> None:
    with pytest.raises(ConfigError, match="vocabulary"):
        Vocabulary(bad)


@given(st.lists(st.integers(0, 9), max_size=6), st.integers(0, 9), st.integers(100, 200))
def test_edits_undo_each_other(items: list[int], position: int, item: int) -> None:
    before = tuple(items)
    longer, _ = edit(before, "insert", position, item)
    assert len(longer) == len(before) + 1
    at = longer.index(item)
    assert at == min(position, len(before))
    assert edit(longer, "delete", at, 0)[0] == before
    if before:
        replaced, _ = edit(before, "replace", position, item)
        place = min(position, len(before) - 1)
        assert replaced[place] == item
        assert edit(replaced, "replace", place, before[place])[0] == before
        swapped, _ = edit(before, "swap", position, 0)
        assert edit(swapped, "swap", position, 0)[0] == before
        assert sorted(swapped) == sorted(before)
    else:
        with pytest.raises(ValueError, match="needs a sequence"):
            edit(before, "replace", position, item)


@pytest.mark.parametrize("variant", VARIANTS)
@settings(max_examples=15, deadline=None)
@given(seed=st.integers(0, 2**32 - 1))
def test_what_masks_allow_can_be_done_and_observed(variant: str, seed: int) -> None:
    mdp, rng = mdp_for(variant), np.random.default_rng(seed)
    state = mdp.initial(rng)
    steps = 0
    while not mdp.terminal(state):
        mask = mdp.mask(state)
        assert mask.shape == (sum(head_sizes(mdp.action_space)),)
        action = sample_action(mdp.action_space, mask, rng)
        assert mdp.allows(mask, action)
        after = mdp.apply(state, action)
        assert after.step == state.step + 1
        assert after.no_op == (after.content == state.content)
        assert mdp.observe(after, Outcome()) in mdp.observation_space
        assert PromptState.from_json(json.loads(json.dumps(after.to_json()))) == after
        start = PromptState(after.units, after.demonstrations)
        if mdp.archivable:
            assert mdp.state_of(mdp.prompt(after)).demonstrations == start.demonstrations
        state, steps = after, steps + 1
    assert steps <= 24


def test_every_edit_operation_does_what_it_says() -> None:
    problem = problem_for("pool")
    mdp = PromptEdit(problem, swap=True, max_demonstrations=2)
    names, index = list(mdp.operations), problem.vocabulary.index
    state = mdp.initial(np.random.default_rng(0))
    script = [
        ("insert", 0, "alpha", 0, ("alpha", "one", "two"), ()),
        ("insert", 9, "beta", 0, ("alpha", "one", "two", "beta"), ()),
        ("replace", 1, "gamma", 0, ("alpha", "gamma", "two", "beta"), ()),
        ("delete", 2, "one", 0, ("alpha", "gamma", "beta"), ()),
        ("swap", 2, "one", 0, ("beta", "gamma", "alpha"), ()),
        ("insert demonstration", 0, "one", 2, ("beta", "gamma", "alpha"), (2,)),
        ("insert demonstration", 0, "one", 0, ("beta", "gamma", "alpha"), (0, 2)),
        ("swap demonstrations", 0, "one", 0, ("beta", "gamma", "alpha"), (2, 0)),
        ("remove demonstration", 5, "one", 0, ("beta", "gamma", "alpha"), (2,)),
    ]
    for operation, position, word, item, units, shown in script:
        action = np.array([names.index(operation), position, index(word), item])
        assert mdp.allows(mdp.mask(state) | (np.arange(len(mdp.mask(state))) > 6), action)
        state = mdp.apply(state, action)
        assert (state.units, state.demonstrations) == (units, shown)
        assert not state.no_op
        assert operation in state.edit
    assert mdp.prompt(state).demonstrations == (problem.task.pool[2],)
    same = mdp.apply(state, np.array([names.index("replace"), 0, index("beta"), 0]))
    assert same.no_op
    assert mdp.observe(state, Outcome())["demonstrations"].tolist() == [3, 0]


def test_masks_close_what_cannot_be_done() -> None:
    mdp = PromptEdit(problem_for("edit"), max_words=2)
    legal = dict(zip(mdp.operations, mdp.mask(PromptState(("one", "two"))), strict=False))
    assert legal == {"insert": False, "replace": True, "delete": True, "stop": False}
    legal = dict(zip(mdp.operations, mdp.mask(PromptState(("one",), step=1)), strict=False))
    assert legal == {"insert": True, "replace": True, "delete": False, "stop": True}
    legal = dict(zip(mdp.operations, mdp.mask(PromptState()), strict=False))
    assert legal == {"insert": True, "replace": False, "delete": False, "stop": False}


def test_a_pool_item_is_shown_once() -> None:
    mdp = PromptEdit(problem_for("pool"))
    head = mdp.mask(PromptState(("one",), (0, 2)))[-3:]
    assert head.tolist() == [False, True, False]
    everything = mdp.mask(PromptState(("one",), (0, 1, 2)))
    assert not everything[mdp.operations.index("insert demonstration")]
    assert everything[-3:].any()


def test_fluency_allows_the_likeliest_units() -> None:
    problem = problem_for("token")
    mdp = PromptToken(problem, fluency=2, early_stop=True)
    # The transparent model is the surer of its answer the heavier the words; "minus" is right.
    mask = mdp.mask(PromptState())
    scores = problem.model.loglikelihood([""] * len(problem.vocabulary), problem.vocabulary)
    assert set(np.flatnonzero(mask)) == set(np.argsort(-scores, kind="stable")[:2])
    assert not mask[-1]
    assert mdp.mask(PromptState(("one",)))[-1]


def test_ids_tell_states_apart() -> None:
    mdp = PromptEdit(problem_for("edit"), start="manual")
    seen = [
        mdp.observe(mdp.state_of(Prompt(text)), Outcome())["tokens"].tolist()
        for text in ("one two", "two one", "three unheard of", "alpha", "")
    ]
    assert all(one != two for one, two in pairwise(seen))
    assert 1 not in seen[2]  # words of manual prompts have ids although they cannot be written


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"horizon": 1}, "horizon"),
        ({"max_words": 1}, "max_words is 1"),
        ({"start": "anywhere"}, "start must be"),
        ({"max_demonstrations": 2}, "pool"),
        ({"level": "letter"}, "level"),
    ],
)
def test_arguments_that_mean_nothing_are_refused(options: dict[str, object], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        PromptEdit(problem_for("edit"), **options)  # type: ignore[arg-type]


def test_outcomes_go_through_json() -> None:
    for outcome in (Outcome(), Outcome("ok", 0.5, 1.0, 0.1, (0.2, 0.8), (0.0, 1.0), 0.5, 20)):
        again = Outcome.from_json(json.loads(json.dumps(outcome.to_json())))
        assert repr(again) == repr(outcome)
