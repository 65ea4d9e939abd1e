"""The cache that lasts: it answers as the model did, costs the same, and no trouble ends a run."""

from __future__ import annotations

import pickle
import sqlite3
import threading
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from databases import Missing, cluster, new_database
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from promptgym import Problem
from promptgym.errors import CacheWarning, ConfigError
from promptgym.llms import Completion, LabelLogprobs, Sampling
from promptgym.prompts import Example, Prompt
from promptgym.scoring import OK, Budget, Ledger, Scorer
from promptgym.scoring.store import (
    Answered,
    ExampleSet,
    ScoreStore,
    Setting,
    Shelf,
    default_place,
    export_store,
    import_store,
    open_store,
    store_at,
)
from promptgym.scoring.store.admin import clear, describe
from promptgym.scoring.store.setting import canonical, prompt_content
from promptgym.tasks import get_metric
from promptgym.testing.transparent import TransparentModel, transparent_task

TASK = transparent_task(12)
WRITTEN = replace(TASK, labels=None, verbalizers={}, metric=get_metric("exact_match"))
PROMPTS = [Prompt(p) for p in ("alpha", "alpha beta", "", "one anti", "gamma two")]
SETTING = Setting("m@1", "causal", "", "{input} {prompt}", "", ("no", "yes"))


class Watched(TransparentModel):
    """The transparent model, with a list of what it was asked and texts at which it fails."""

    def __init__(self, fails: str = "\0") -> None:
        """Take a piece of text."""
        super().__init__()
        self.asked: list[str] = []
        self.fails = fails

    def label_logprobs(self, texts: Sequence[str], labels: Sequence[str]) -> LabelLogprobs:
        """Answer, or fail."""
        self.asked += texts
        found = super().label_logprobs(texts, labels)
        failures = {i: "timeout: 1 s" for i, text in enumerate(texts) if self.fails in text}
        found.logprobs[list(failures)] = np.nan
        return LabelLogprobs(found.logprobs, found.tokens, failures)

    def generate(self, texts: Sequence[str], sampling: Sampling) -> list[Completion]:
        """Answer."""
        self.asked += texts
        return super().generate(texts, sampling)


@pytest.fixture(scope="session")
def server() -> Iterator[str]:
    """A PostgreSQL cluster of the tests' own; skips where there is none."""
    try:
        with cluster() as socket:
            yield socket
    except Missing as reason:
        pytest.skip(str(reason))


@pytest.fixture(params=["sqlite", "postgresql"])
def place(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """An empty place for a cache: a SQLite file, then a PostgreSQL database."""
    if request.param == "sqlite":
        return str(tmp_path / "cache" / "scores.sqlite")
    return new_database(request.getfixturevalue("server"), tmp_path.name)


def scorer_of(
    model: TransparentModel, place: str | Path | None, task: object = TASK, **caps: int
) -> Scorer:
    store = None if place is None else ScoreStore(store_at(place).url)
    return Scorer(task, model, TASK.template, ledger=Ledger(Budget(**caps)), store=store)  # type: ignore[arg-type]


def same_cost(first: Scorer, second: Scorer) -> bool:
    ledgers = first.ledger, second.ledger
    return len({(x.queries, x.calls, x.tokens, x.held.tokens) for x in ledgers}) == 1


# --- answers and costs ------------------------------------------------------------------------


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


# --- on or off, and where ---------------------------------------------------------------------


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


# --- trouble ----------------------------------------------------------------------------------


def filled(place: Path, count: int = 5) -> None:
    scorer = scorer_of(Watched(), place)
    scorer.score(PROMPTS[:count], TASK.train)
    assert scorer.shelf is not None
    scorer.shelf.store.close()


def works_again(place: Path) -> None:
    filled(place)
    model = Watched()
    scorer_of(model, place).score(PROMPTS, TASK.train)
    assert not model.asked


@pytest.mark.parametrize("kind", ["garbage", "head", "middle"])
def test_a_damaged_file_is_set_aside_with_a_message(tmp_path: Path, kind: str) -> None:
    file = tmp_path / "scores.sqlite"
    filled(file)
    whole = file.read_bytes()
    bad = {
        "garbage": b"this is no database " * 500,
        "head": whole[:16] + b"\xff" * 4000 + whole[4016:],
        "middle": whole[: len(whole) // 2],
    }[kind]
    for old in tmp_path.iterdir():
        old.unlink()
    file.write_bytes(bad)
    scorer = scorer_of(Watched(), file)
    with pytest.warns(CacheWarning, match=r"set aside as scores\.sqlite\.broken-"):
        scores = scorer.score(PROMPTS, TASK.train)
    assert (scores.status == OK).all()
    (aside,) = tmp_path.glob("scores.sqlite.broken-*-?")
    assert aside.read_bytes()[: len(bad) // 2] == bad[: len(bad) // 2]
    works_again(file)


def test_damage_in_the_middle_of_a_run_is_survived(tmp_path: Path) -> None:
    file = tmp_path / "scores.sqlite"
    filled(file)
    scorer = scorer_of(Watched(), file)
    scorer.score(PROMPTS[:1], TASK.train)
    assert scorer.shelf is not None
    scorer.shelf.store.close()
    with file.open("r+b") as handle:
        handle.seek(4096)
        handle.write(b"\xee" * (file.stat().st_size - 4096))
    with pytest.warns(CacheWarning, match="set aside"):
        assert (scorer.score(PROMPTS[1:], TASK.train).status == OK).all()
    assert not scorer.shelf.store.off
    works_again(file)


def test_a_damaged_row_is_asked_and_written_anew(tmp_path: Path) -> None:
    file = tmp_path / "scores.sqlite"
    filled(file)
    with sqlite3.connect(file) as connection:
        connection.execute("UPDATE promptgym_answers_1 SET answers = zeroblob(length(answers))")
    model = Watched()
    scores = scorer_of(model, file).score(PROMPTS, TASK.train)
    assert len(model.asked) == 60
    want = scorer_of(Watched(), None).score(PROMPTS, TASK.train)
    np.testing.assert_array_equal(scores.values, want.values)
    works_again(file)


def test_a_lost_or_damaged_set_of_examples_costs_its_rows_only(tmp_path: Path) -> None:
    for change in (
        "DELETE FROM promptgym_examples_1",
        "UPDATE promptgym_examples_1 SET content=x''",
    ):
        file = tmp_path / f"{len(change)}.sqlite"
        filled(file)
        with sqlite3.connect(file) as connection:
            connection.execute(change)
        model = Watched()
        scorer_of(model, file).score(PROMPTS, TASK.train[:4])
        assert len(model.asked) == 20
        works_again(file)


def test_the_database_of_another_program_is_left_alone(tmp_path: Path) -> None:
    file = tmp_path / "theirs.db"
    with sqlite3.connect(file) as connection:
        connection.execute("CREATE TABLE people (name TEXT)")
    before = file.read_bytes()
    with pytest.warns(CacheWarning, match=r"another program.*theirs-promptgym\.db"):
        filled(file)
    assert file.read_bytes() == before
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", CacheWarning)
        works_again(file)


def test_a_cache_that_cannot_be_opened_is_switched_off(tmp_path: Path) -> None:
    (tmp_path / "wall").write_text("")
    scorer = scorer_of(Watched(), tmp_path / "wall" / "scores.sqlite")
    with pytest.warns(CacheWarning, match="is not used any more") as said:
        first = scorer.score(PROMPTS[:2], TASK.train)
        scorer.score(PROMPTS[2:], TASK.train)
    assert (first.status == OK).all() and len(said) == 1


def test_a_server_that_is_not_there_is_switched_off_without_its_password() -> None:
    pytest.importorskip("psycopg")
    scorer = scorer_of(Watched(), "postgresql://me:secret@127.0.0.1:9/none")
    with pytest.warns(CacheWarning, match="is not used any more") as said:
        assert (scorer.score(PROMPTS, TASK.train).status == OK).all()
    assert "secret" not in str(said[0].message)


# --- threads ----------------------------------------------------------------------------------


def test_threads_that_ask_the_same_ask_once(place: str) -> None:
    class Slow(Watched):
        remote = True

        def label_logprobs(self, texts: Sequence[str], labels: Sequence[str]) -> LabelLogprobs:
            gate.wait(0.05)
            return super().label_logprobs(texts, labels)

    gate = threading.Event()
    model = Slow()
    scorer = scorer_of(model, place)
    results: list[object] = []

    def ask(number: int) -> None:
        prompts = PROMPTS[number % 3 :] + PROMPTS[: number % 3]
        scores = scorer.score(prompts, TASK.train)
        results.append(scores.select(np.argsort([PROMPTS.index(p) for p in prompts])).values)

    threads = [threading.Thread(target=ask, args=(i,)) for i in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(timeout=60)
    assert len(results) == 8 and len(model.asked) == 60
    want = scorer_of(TransparentModel(), None).score(PROMPTS, TASK.train).values
    for got in results:
        np.testing.assert_array_equal(got, want)  # type: ignore[arg-type]
    assert scorer.ledger.queries == 8 * 60 and scorer.ledger.held.queries == 0


def test_what_others_learned_since_the_first_look_is_not_asked_again() -> None:
    model = Watched()
    scorer = scorer_of(model, None)
    first_look = scorer._open

    def interrupted(*arguments: Any) -> Any:
        work = first_look(*arguments)
        scorer._open = first_look  # type: ignore[method-assign]
        scorer.score(PROMPTS[1:4], TASK.train)
        return work

    scorer._open = interrupted  # type: ignore[method-assign]
    assert (scorer.score(PROMPTS, TASK.train).status == OK).all()
    assert len(model.asked) == 60


def test_a_thread_whose_call_breaks_leaves_nothing_behind() -> None:
    class Breaking(Watched):
        remote = True
        broken = threading.Event()

        def label_logprobs(self, texts: Sequence[str], labels: Sequence[str]) -> LabelLogprobs:
            if not self.broken.is_set():
                self.broken.set()
                raise RuntimeError("gone")
            return super().label_logprobs(texts, labels)

    scorer = scorer_of(Breaking(), None, queries=1000, tokens=10_000)
    with pytest.raises(RuntimeError, match="gone"):
        scorer.score(PROMPTS, TASK.train)
    held = scorer.ledger.held
    assert (held.queries, held.calls, held.tokens) == (0, 0, 0)
    assert (scorer.ledger.queries, scorer.ledger.calls, scorer.ledger.tokens) == (0, 1, 0)
    assert (scorer.score(PROMPTS, TASK.train).status == OK).all()
    assert scorer.ledger.queries == 60


def test_a_scorer_with_a_store_is_pickled_as_its_place(tmp_path: Path) -> None:
    filled(tmp_path / "scores.sqlite")
    scorer = scorer_of(TransparentModel(), tmp_path / "scores.sqlite")
    scorer.score(PROMPTS[:1], TASK.train)
    copied = pickle.loads(pickle.dumps(scorer))
    assert (copied.score(PROMPTS, TASK.train).status == OK).all()
    assert copied.shelf.served == 48 and copied.ledger.queries == 12 + 60


# --- export, import, clear --------------------------------------------------------------------


@pytest.mark.parametrize("name", ["cache.jsonl", "cache.jsonl.gz"])
@pytest.mark.parametrize("task", [TASK, WRITTEN], ids=["labels", "generation"])
def test_an_export_is_read_back_elsewhere(
    place: str, tmp_path: Path, name: str, task: object
) -> None:
    demonstrated = Prompt("x", (Example("in", "plus"),))
    scorer = scorer_of(Watched(), place, task)
    scorer.score(PROMPTS, TASK.train)
    assert scorer.shelf is not None
    examples = ExampleSet(TASK.train[:2])
    shelf = Shelf(scorer.shelf.store, SETTING)
    odd = np.array([[0.0, -np.inf], [-1e-300, -0.1]])
    shelf.write([Answered(demonstrated, examples, odd, np.array([1, 2]))])
    assert export_store(scorer.shelf.store, tmp_path / name) == 6
    assert export_store(scorer.shelf.store, tmp_path / "some.jsonl", model="m@1") == 1
    other = store_at(tmp_path / "other")
    assert import_store(other, tmp_path / name) == 6
    assert import_store(other, tmp_path / name) == 6, "what is there already stays"
    assert [i.to_json() | {"written": 0} for i in describe(other)] == [
        i.to_json() | {"written": 0} for i in describe(scorer.shelf.store)
    ]
    model = Watched()
    scorer_of(model, tmp_path / "other", task).score(PROMPTS, TASK.train)
    assert not model.asked
    (found,) = Shelf(other, SETTING).read([demonstrated], [examples])
    assert found is not None
    np.testing.assert_array_equal(found.answers, odd)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("{}\n", "line 1"),
        ("garbage\n", "line 1"),
        ('{"format": "promptgym-cache", "version": 1}\n{"kind": "answers"}\n', "line 2"),
    ],
)
def test_a_file_that_is_no_export_is_refused_by_line(tmp_path: Path, text: str, said: str) -> None:
    (tmp_path / "file.jsonl").write_text(text)
    with pytest.raises(ConfigError, match=f"{said}: not a line of a cache export"):
        import_store(store_at(tmp_path / "cache"), tmp_path / "file.jsonl")


def test_clearing_takes_what_was_named_and_what_only_that_referred_to(place: str) -> None:
    scorer = scorer_of(Watched(), place)
    scorer.score(PROMPTS, TASK.train)
    assert scorer.shelf is not None
    store = scorer.shelf.store
    shelf = Shelf(store, SETTING)
    examples = ExampleSet(TASK.dev[:2])
    shelf.write([Answered(PROMPTS[0], examples, np.zeros((2, 2)), np.array([1, 2]))])
    assert clear(store, model="nobody") == 0
    assert clear(store, older_than_days=1) == 0
    assert clear(store, model="m@1") == 1
    assert shelf.read([PROMPTS[0]], [examples]) == [None]
    assert [i.rows for i in describe(store)] == [5]
    assert clear(store) == 5 and not describe(store)
    scorer_of(Watched(), place).score(PROMPTS, TASK.train)
    assert [i.rows for i in describe(store)] == [5]
