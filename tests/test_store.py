"""The cache that lasts: it answers as the model did and costs the same."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from store_cases import PROMPTS, SETTING, TASK, WRITTEN, Watched, same_cost, scorer_of

from promptgym import Problem
from promptgym.errors import ConfigError
from promptgym.llms import Sampling
from promptgym.prompts import Prompt
from promptgym.scoring import OK, Scorer
from promptgym.scoring.store import Setting, default_place, open_store, store_at
from promptgym.scoring.store.admin import describe
from promptgym.scoring.store.setting import canonical, prompt_content
from promptgym.testing.transparent import TransparentModel


@pytest.mark.parametrize("task", [TASK, WRITTEN], ids=["labels", "generation"])
def test_another_run_is_answered_by_the_store_at_the_same_charge(place: str, task: object) -> None:
    models = Watched(), Watched(), Watched()
    plain, first, second = (
        scorer_of(model, where, task)
        for model, where in zip(models, (None, place, place), strict=True)
    )
    for prompts, examples in (([*PROMPTS, PROMPTS[0]], TASK.train), (PROMPTS[::-1], TASK.dev[:5])):
        want = plain.score(prompts, examples)
        for scorer in (first, second):
            scores = scorer.score(prompts, examples)
            np.testing.assert_array_equal(scores.values, want.values)
            if want.label_logprobs is not None and scores.label_logprobs is not None:
                np.testing.assert_array_equal(scores.label_logprobs, want.label_logprobs)
            else:
                assert scores.completions is not None and want.completions is not None
                assert scores.completions.tolist() == want.completions.tolist()
    assert models[1].asked == models[0].asked and not models[2].asked
    assert same_cost(plain, first) and same_cost(first, second)
    assert second.shelf is not None and second.shelf.served == 5 * (12 + 5)


def test_caps_stop_a_run_at_the_same_point_with_a_full_store(place: str) -> None:
    scorer_of(Watched(), place).score(PROMPTS, TASK.train)
    for caps in ({"tokens": 100}, {"calls": 1}, {"queries": 30}):
        plain, stored = scorer_of(Watched(), None, **caps), scorer_of(Watched(), place, **caps)
        done = [s.score(PROMPTS, TASK.train).complete.tolist() for s in (plain, stored)]
        assert done[0] == done[1] and same_cost(plain, stored)


def test_rows_of_other_sets_serve_the_examples_they_share(place: str) -> None:
    scorer_of(Watched(), place).score(PROMPTS[:2], TASK.train[:5])
    model = Watched()
    scorer = scorer_of(model, place)
    got = scorer.score(PROMPTS[:2], TASK.train)
    assert len(model.asked) == 2 * 7
    np.testing.assert_array_equal(
        got.values, scorer_of(Watched(), None).score(PROMPTS[:2], TASK.train).values
    )
    again = Watched()
    scorer_of(again, place).score(PROMPTS[:2], (*TASK.dev[:1], *TASK.train[::-1]))
    assert len(again.asked) == 2, "one new example a prompt; two rows tell the others"


def test_one_row_a_prompt_and_set_and_each_set_once(place: str) -> None:
    scorer = scorer_of(Watched(), place)
    scorer.score(PROMPTS, TASK.train)
    scorer.score(PROMPTS[:2], TASK.dev)
    assert scorer.shelf is not None
    (found,) = describe(scorer.shelf.store)
    assert (found.rows, found.prompts, found.scores) == (7, 5, 5 * 12 + 2 * 12)
    assert found.size == found.scores * (2 * 8 + 4), "log-probabilities of two labels, one count"
    assert found.content["model"] == scorer.model.name


def test_failures_are_not_stored(place: str) -> None:
    failing = scorer_of(Watched("train5"), place)
    assert (failing.score(PROMPTS[:2], TASK.train).status[:, 5] != OK).all()
    model = Watched()
    healed = scorer_of(model, place).score(PROMPTS[:2], TASK.train)
    assert (healed.status == OK).all() and len(model.asked) == 2
    silent = Watched()
    scorer_of(silent, place).score(PROMPTS[:2], TASK.train)
    assert not silent.asked


@pytest.mark.parametrize(
    "changed",
    [
        {"model": "m@2"},
        {"kind": "seq2seq"},
        {"mask": "<mask>"},
        {"template": "{prompt} {input}"},
        {"demonstration": "{input}={answer}\n"},
        {"labels": ("yes", "no")},
        {"labels": None, "decoding": {"seed": 0}},
        {"verbalizers": {"a": "no"}},
        {"version": 2},
    ],
)
def test_whatever_changes_an_answer_changes_the_key(changed: dict[str, object]) -> None:
    other = replace(SETTING, **changed)  # type: ignore[arg-type]
    assert other.key != SETTING.key
    assert Setting.from_json(other.to_json()).key == other.key


def test_the_sample_index_and_all_of_sampling_are_in_the_key(tmp_path: Path) -> None:
    keys = set()
    for sampling in (
        Sampling(),
        Sampling(seed=1),
        Sampling(temperature=1.0),
        Sampling(max_new_tokens=4),
        Sampling(stop=("\n",)),
    ):
        store = store_at(tmp_path)
        scorer = Scorer(WRITTEN, Watched(), TASK.template, store=store, sampling=sampling)
        assert scorer.shelf is not None
        keys.add(scorer.shelf.setting.key)
    assert len(keys) == 5


@given(st.text(), st.booleans())
def test_the_short_way_to_a_prompts_content_is_the_long_one(text: str, system: bool) -> None:
    prompt = Prompt(text, system="s" * system)
    assert prompt_content(prompt) == canonical(prompt.to_json())


@given(
    asks=st.lists(
        st.tuples(
            st.lists(st.integers(0, 4), min_size=1, max_size=3),
            st.lists(st.integers(0, 11), min_size=1, max_size=6),
            st.booleans(),
        ),
        min_size=1,
        max_size=8,
    )
)
@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.too_slow])
def test_whatever_is_asked_in_whatever_order_the_answers_are_the_models(
    tmp_path_factory: pytest.TempPathFactory, asks: list[tuple[list[int], list[int], bool]]
) -> None:
    place = tmp_path_factory.mktemp("cache")
    free, scorer = scorer_of(TransparentModel(), None), scorer_of(Watched(), place)
    for chosen, wanted, anew in asks:
        if anew:
            scorer = scorer_of(Watched(), place)
        prompts = [PROMPTS[i] for i in chosen]
        examples = [TASK.train[i] for i in wanted]
        got, want = scorer.score(prompts, examples), free.score(prompts, examples)
        np.testing.assert_array_equal(got.values, want.values)
        np.testing.assert_array_equal(got.label_logprobs, want.label_logprobs)  # type: ignore[arg-type]


def test_nothing_is_opened_before_the_first_question(tmp_path: Path) -> None:
    problem = Problem(TASK, Watched(), cache=tmp_path / "deep" / "er")
    assert not list(tmp_path.iterdir())
    problem.score(PROMPTS[:1])
    assert (tmp_path / "deep" / "er" / "scores.sqlite").is_file()


def test_the_default_is_on_for_models_over_a_network_and_off_for_others() -> None:
    local, remote = Watched(), Watched()
    remote.remote = True  # type: ignore[attr-defined]
    assert Problem(TASK, local).store is None
    found = Problem(TASK, remote).store
    assert found is not None and found.path == Path(default_place()) / "scores.sqlite"
    counting = Watched()
    counting.usage = None  # type: ignore[attr-defined]
    assert Problem(TASK, counting).store is found, "who counts use is asked over a network"
    assert Problem(TASK, remote, cache=False).store is None
    assert Problem(TASK, remote, cache="off").store is None
    assert Problem(TASK, local, cache=True).store is found
    assert Problem(TASK, local, cache="on").store is found
    assert Problem(TASK, local, cache=found).store is found


def test_the_environment_names_the_place(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name, where in (("x.sqlite", "x.sqlite"), ("folder", "folder/scores.sqlite")):
        monkeypatch.setenv("PROMPTGYM_CACHE", str(tmp_path / name))
        store = open_store(True, Watched())
        assert store is not None and store.path == tmp_path / where
    monkeypatch.delenv("PROMPTGYM_CACHE")
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    assert default_place() == str(tmp_path / ".cache" / "promptgym")


def test_a_place_that_cannot_be_one_is_refused_without_its_password(tmp_path: Path) -> None:
    (tmp_path / "data.csv").write_text("a,b\n")
    with pytest.raises(ConfigError, match=r"data\.csv is a file; expected a folder"):
        store_at(tmp_path / "data.csv")
    with pytest.raises(ConfigError, match="'mysql' is not supported") as error:
        store_at("mysql://me:secret@host/db")
    assert "secret" not in str(error.value)
    assert "secret" not in repr(store_at("postgresql://me:secret@host/db"))
