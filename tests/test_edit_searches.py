"""GrIPS and Plum's metaheuristics: what each accepts, keeps and ends by."""

from __future__ import annotations

from collections import Counter
from typing import Any

import numpy as np
import pytest
from additive import GOOD, batches, make
from hypothesis import given
from hypothesis import strategies as st

from promptgym.agents import make_optimizer
from promptgym.baselines.genetic import Genetic, crossed, tournament
from promptgym.baselines.grips import Grips
from promptgym.baselines.harmony_search import HarmonySearch
from promptgym.baselines.phrases import Edits, cut, phrase_edit
from promptgym.baselines.simulated_annealing import SimulatedAnnealing
from promptgym.baselines.tabu import Tabu
from promptgym.errors import ConfigError
from promptgym.prompts import Prompt

PLUM = ("simulated_annealing", "genetic", "tabu", "harmony_search")
units = st.lists(st.sampled_from(["of the", "b", "c d", "e"]), max_size=5).map(tuple)


@pytest.mark.parametrize(
    ("text", "phrases"),
    [
        ("what is the opinion of the author ?", ["what is the opinion", "of the author ?"]),
        ("Read the review , then answer", ["Read", "the review ,", "then answer"]),
        ("good", ["good"]),
        ("? !", ["? !"]),
        ("", []),
    ],
)
def test_phrases_are_function_words_and_what_follows(text: str, phrases: list[str]) -> None:
    assert list(cut(tuple(text.split()))) == phrases


@given(st.lists(st.sampled_from(["the", "of", "x", "y.", ",", "?", "z!"])).map(tuple))
def test_cutting_loses_nothing(words: tuple[str, ...]) -> None:
    for level in ("phrase", "word", "sentence"):
        assert tuple(" ".join(cut(words, level)).split()) == words


@given(units, st.integers(0, 2**32 - 1))
def test_an_edit_of_phrases_deletes_swaps_or_adds_back(now: tuple[str, ...], seed: int) -> None:
    start = ("of the", "b", "c d", "e")
    after = phrase_edit(now, start, np.random.default_rng(seed))
    lost, new = Counter(now) - Counter(after), Counter(after) - Counter(now)
    if len(after) < len(now):
        assert lost.total() == 1 and not new
    elif len(after) > len(now):
        assert new.total() == 1 and not lost and not new - (Counter(start) - Counter(now))
    else:
        assert not lost and not new


def test_grips_finds_the_best_it_can_say() -> None:
    # Deletions and swaps alone: the best is the start without its harmful word.
    start = "anti alpha of beta"
    method = Grips(objective="margin", level="word", iterations=0, patience=0)
    result = method.optimize(make(4000, initial_prompt=start))
    assert Counter(result.best.prompt.words) - Counter(start.split()) == Counter()
    assert {"alpha", "beta"} <= set(result.best.prompt.words)
    assert "anti" not in result.best.prompt.words


def test_grips_asks_the_paper_s_numbers_and_loses_patience() -> None:
    start = "alpha of beta of gamma of delta of one of two"  # nothing it can say is better
    asked = batches(Grips(), make(initial_prompt=start))
    assert [len(b) for b in asked[:1]] == [1]
    assert 1 < len(asked) <= 3  # two steps without progress, known candidates left out
    assert all(len(b) <= 5 for b in asked)
    long = batches(Grips(patience=0), make(40_000, initial_prompt=start))
    assert 3 < len(long) <= 11  # ten steps


def test_composed_edits_reach_further() -> None:
    problem = make(initial_prompt="a b c d e f")
    one, three = (Grips(candidates=50, level="word", compose=n) for n in (1, 3))
    rng = np.random.default_rng(0)
    edits = one.neighbourhood(problem)
    assert {len(u) for u in one.neighbours(edits.start, edits, rng)} == {5, 6}
    assert {len(u) for u in three.neighbours(edits.start, edits, rng)} >= {3, 4}


@pytest.mark.parametrize("name", PLUM)
def test_a_metaheuristic_finds_the_optimum_of_an_additive_problem(name: str) -> None:
    options: dict[str, Any] = {"objective": "margin", "iterations": 0, "patience": 0}
    if name == "simulated_annealing":
        options["temperature"] = 0.1  # margins are nats
    result = make_optimizer(name, **options).optimize(make(40_000), seed=0)
    assert set(result.best.prompt.words) >= GOOD
    assert "anti" not in result.best.prompt.words


@pytest.mark.parametrize("name", PLUM)
def test_phrases_only_say_what_the_start_says(name: str) -> None:
    start = "the alpha of anti in one"
    method = make_optimizer(name, edits="phrases", iterations=15)
    said = {text for batch in batches(method, make(initial_prompt=start)) for text in batch}
    assert len(said) > 5
    phrases = Counter(cut(tuple(start.split())))
    for text in said:
        if name in ("simulated_annealing", "tabu"):
            assert not Counter(cut(tuple(text.split()))) - phrases
        assert set(text.split()) <= set(start.split())


@pytest.mark.parametrize("name", PLUM)
def test_steps_and_patience_end_a_search(name: str) -> None:
    flat = {"vocabulary": ("one", "two", "three"), "initial_prompt": "one two"}
    few = batches(make_optimizer(name, iterations=2, patience=0), make(**flat))
    assert 2 <= len(few) <= 5
    assert len(batches(make_optimizer(name, patience=3), make(**flat))) <= 1 + 2 * 3


@pytest.mark.parametrize("name", (*PLUM, "grips"))
def test_restarts_spend_what_patience_leaves(name: str) -> None:
    once, again = (
        batches(make_optimizer(name, edits="words", restarts=r), make(30_000))
        for r in (False, True)
    )
    assert again[: len(once)] == once  # the paper's run, and then others
    asked = [text for batch in again for text in batch]
    assert len(asked) == len(set(asked)) > 2 * sum(map(len, once))
    problem = make(30_000)
    make_optimizer(name, edits="words", restarts=True).optimize(problem, seed=0)
    assert problem.ledger.queries > 0.95 * 30_000


def test_restarts_end_where_nothing_is_new() -> None:
    few = {"vocabulary": ("one", "two"), "initial_prompt": "one"}
    for name in PLUM:
        method = make_optimizer(name, restarts=True, longest=1)
        result = method.optimize(make(100_000, **few), seed=0)
        assert 1 < result.stats["distinct"] <= 3, name  # "", "one", "two"


def test_plums_constants_are_those_of_its_published_commands() -> None:
    shared = {"candidates": 10, "iterations": 50, "patience": 7, "objective": "grips"}
    own: dict[str, dict[str, Any]] = {
        "simulated_annealing": {"temperature": 10.0, "decay": 5.0},
        "genetic": {"tournament": 5, "population": 10, "mutation": 0.5},
        "tabu": {"tabu": 5, "passing": 0.5},
        "harmony_search": {"harmonies": 10, "segments": 5, "considering": 0.4, "adjusting": 0.5},
    }
    for name, values in own.items():
        found = make_optimizer(name)
        assert {k: getattr(found, k) for k in (shared | values)} == shared | values
    climber = Grips(candidates=10, iterations=50, patience=7)  # Plum's hill climbing
    asked = batches(climber, make(initial_prompt="alpha of beta of gamma of delta of one"))
    assert max(map(len, asked[1:])) > 5 and len(asked) <= 51


def test_annealing_accepts_by_the_rule_of_metropolis() -> None:
    method, rng = SimulatedAnnealing(), np.random.default_rng(0)
    for gain, step in ((-1.0, 1), (-5.0, 3), (-2.0, 10)):
        heat = 10 * np.exp(-step / 5)
        share = np.mean([method.accepts(gain, step, rng) for _ in range(4000)])
        assert share == pytest.approx(np.exp(gain / heat), abs=0.03)
    assert method.accepts(0.0, 10**6, rng)
    assert not method.accepts(-1e-6, 10**6, rng)
    assert not method.accepts(float("nan"), 1, rng)


def test_annealing_walks_downhill_while_it_is_hot() -> None:
    down: dict[float, bool] = {}
    for heat in (1e9, 1e-9):
        method = SimulatedAnnealing(
            "margin", candidates=1, iterations=200, patience=0, temperature=heat, decay=1e9
        )
        start = "alpha beta gamma delta"  # nothing is better
        asked = batches(method, make(6000, initial_prompt=start), seed=1)
        down[heat] = any(len(set(text.split()) & GOOD) < 3 for b in asked for text in b)
    assert down == {1e9: True, 1e-9: False}


def test_tabu_leaves_an_optimum_and_does_not_go_back_at_once() -> None:
    start = "alpha beta gamma delta"
    walks, stays = Tabu(objective="margin", patience=0), Tabu(moves="better", patience=0)
    far = [t for b in batches(walks, make(20_000, initial_prompt=start)) for t in b]
    near = [t for b in batches(stays, make(20_000, initial_prompt=start)) for t in b]
    assert all(len(set(t.split()) & GOOD) >= 3 for t in near)
    assert max(len(t.split()) for t in far) > 5 >= max(len(t.split()) for t in near)


def test_a_forbidden_prompt_passes_as_often_as_it_is_let() -> None:
    rng, listed = np.random.default_rng(0), {("a",)}
    units = [("a",), ("b",)] * 4000
    for passing in (0.0, 0.5, 1.0):
        kept = Tabu(passing=passing).allowed(units, listed, rng)
        assert kept.count(("b",)) == 4000
        assert kept.count(("a",)) == pytest.approx(4000 * passing, abs=120)
    assert Tabu().passing == 0.5  # Plum's code; 0 is Glover's search


def test_only_forbidden_prompts_drive_a_walk_off_an_optimum() -> None:
    # "anti anti" is two steps down from the best prompts, "alpha" and "alpha alpha".
    words = {"vocabulary": ("alpha", "anti"), "initial_prompt": "alpha"}
    reached = {}
    for passing in (0.0, 1.0):
        method = Tabu("margin", candidates=60, longest=2, passing=passing, iterations=20)
        asked = batches(method, make(20_000, **words))
        reached[passing] = "anti anti" in {text for batch in asked for text in batch}
    assert reached == {0.0: True, 1.0: False}


def test_children_have_the_head_of_one_parent_and_the_tail_of_the_other() -> None:
    rng = np.random.default_rng(0)
    first, second = ("a", "b", "c"), ("d", "e")
    children = {crossed(first, second, rng) for _ in range(100)}
    assert children == {("d", "e"), ("a", "e"), ("a", "b")}
    assert crossed((), (), rng) == ()


def test_a_tournament_of_all_is_won_by_the_best() -> None:
    population = [(float(i), (str(i),)) for i in range(4)]
    rng = np.random.default_rng(0)
    assert tournament(population, 60, rng) == ("3",)
    assert len({tournament(population, 1, rng) for _ in range(60)}) == 4


@pytest.mark.parametrize("crossover", [True, False])
def test_a_population_keeps_its_size_and_its_best(crossover: bool) -> None:
    method = Genetic(objective="margin", crossover=crossover, iterations=0, patience=0)
    result = method.optimize(make(30_000), seed=1)
    assert set(result.best.prompt.words) >= GOOD
    kept = method._fittest([(1.0, ("a",)), (3.0, ("b",))], [2.0, 3.0], [("c",), ("b",)])
    assert kept == [(3.0, ("b",)), (2.0, ("c",)), (1.0, ("a",))]


def test_a_harmony_is_made_of_segments_of_the_kept_ones() -> None:
    keep = HarmonySearch(considering=1.0, adjusting=0.0, segments=2)
    edits = Edits("words", (), ("x",), 14)
    rng = np.random.default_rng(0)
    harmonies = [("a", "b", "c", "d"), ("e", "f", "g")]
    made = {keep.improvised(harmonies, edits, rng) for _ in range(100)}
    assert made == {
        ("a", "b", "c", "d"),
        ("a", "b", "g"),
        ("e", "f", "c", "d"),
        ("e", "f", "g"),
    }
    never = HarmonySearch(considering=0.0, segments=2)
    edited = [never.improvised([("a", "b")], edits, rng) for _ in range(50)]
    assert all("x" in m or len(m) < 2 for m in edited)


@pytest.mark.parametrize(
    ("name", "wrong"),
    [
        ("grips", {"level": "clause"}),
        ("grips", {"compose": 0}),
        ("grips", {"candidates": 0}),
        ("grips", {"patience": -1}),
        ("simulated_annealing", {"temperature": 0.0}),
        ("simulated_annealing", {"decay": float("inf")}),
        ("tabu", {"moves": "worst"}),
        ("tabu", {"tabu": 0}),
        ("tabu", {"passing": 1.5}),
        ("tabu", {"objective": "loss"}),
        ("genetic", {"mutation": 1.5}),
        ("genetic", {"population": 0}),
        ("harmony_search", {"considering": -0.1}),
        ("harmony_search", {"edits": "letters"}),
    ],
)
def test_wrong_options_are_refused(name: str, wrong: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match=f"{name}.*{next(iter(wrong))}"):
        make_optimizer(name, **wrong)


def test_an_empty_start_without_vocabulary_words_ends() -> None:
    result = Grips(patience=0, iterations=0).optimize(make(initial_prompt=""))
    assert result.best.prompt == Prompt("")
    assert result.stats["prompts"] == 1
