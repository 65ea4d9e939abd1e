"""ClaPS: its clusters, what it prunes, and the searches it hands the rest to."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from promptgym.agents import make_optimizer
from promptgym.baselines.claps import OWN, SHARED, ClaPS
from promptgym.baselines.claps_searches import ClapsGenetic, ClapsGreedy
from promptgym.baselines.clustering import kmeans, representatives
from promptgym.errors import ConfigError
from promptgym.evaluation.survey import _Observed
from promptgym.problem import Problem, make_problem
from promptgym.runs import ListSink
from promptgym.search.driver import drive
from promptgym.testing import TransparentModel, transparent_task
from promptgym.testing.transparent import FILLERS, WEIGHTS

GOOD = {"alpha", "beta", "gamma", "delta"}
VOCABULARY = (*WEIGHTS, *FILLERS)


def make(budget: int = 8000, **options: Any) -> Problem:
    return Problem(transparent_task(), TransparentModel(), budget=budget, **options)


def asked(sink: ListSink, split: str = "train") -> list[list[str]]:
    """Return the words of every prompt that was asked, in order."""
    return [
        p["instruction"].split()
        for event in sink.events
        if event["kind"] == "scores" and event["split"] == split
        for p in event["prompts"]
    ]


def test_kmeans_finds_clusters_that_lie_apart() -> None:
    rng = np.random.default_rng(0)
    true = rng.normal(size=(7, 5)) * 100
    rows = np.concatenate([c + rng.normal(size=(20, 5)) for c in true])
    centres = kmeans(rows, 7, rng)
    expected = rows.reshape(7, 20, 5).mean(axis=1)
    assert np.allclose(np.sort(centres, axis=0), np.sort(expected, axis=0))
    chosen = representatives(rows, 7, rng)
    assert sorted(chosen // 20) == list(range(7))
    for row in chosen:
        members = rows[row // 20 * 20 : row // 20 * 20 + 20]
        away = np.linalg.norm(members - members.mean(axis=0), axis=1)
        assert away[row % 20] == away.min()


def test_kmeans_never_does_worse_than_its_first_centres_and_takes_rows_that_are_equal() -> None:
    rng = np.random.default_rng(1)
    rows = rng.normal(size=(200, 3))

    def loss(centres: Any) -> float:
        return float(((rows[:, None] - centres[None]) ** 2).sum(axis=-1).min(axis=1).sum())

    losses = [loss(kmeans(rows, 9, np.random.default_rng(5), iterations=n)) for n in (0, 1, 2, 300)]
    assert losses == sorted(losses, reverse=True) and losses[-1] < losses[0]
    same = np.repeat(np.eye(3), 10, axis=0)
    assert sorted(representatives(same, 8, rng) // 10) == [0, 1, 2]


def test_the_words_that_earn_most_are_kept_and_searched() -> None:
    sink = ListSink()
    method = ClaPS(keep=4 / 15, method="random_tokens")
    result = method.optimize(make(events=sink), seed=0)
    assert result.stats["asked_words"] == 15 and set(result.stats["kept_words"]) == GOOD
    prompts = asked(sink)
    assert prompts[:16] == [[], *([word] for word in VOCABULARY)]
    assert {word for words in prompts[16:] for word in words} == GOOD
    assert result.spent["queries"] <= 8000 and len(prompts) > 100


def test_influence_by_divergence_is_that_of_the_formula() -> None:
    problem = make()
    hard = np.array([i // 2 % 5 for i in range(20)]) / 2

    def right(weight: float) -> Any:
        return 1 / (1 + np.exp(0.5 + hard - weight))

    q = right(0.0)
    expected = {}
    for word in VOCABULARY:
        p = right(WEIGHTS.get(word, 0.0))
        expected[word] = (p * np.log(p / q) + (1 - p) * np.log((1 - p) / (1 - q))).sum()
    ranked = sorted(VOCABULARY, key=lambda w: -expected[w])
    result = ClaPS(influence="kl", keep=3 / 15, method="random_tokens").optimize(problem)
    assert set(result.stats["kept_words"]) == set(ranked[:3])
    assert "anti" in ranked[:3] and expected["one"] == pytest.approx(0.0)


@pytest.mark.parametrize("name", [*OWN, *SHARED])
def test_every_search_writes_words_of_the_pruned_vocabulary_only(name: str) -> None:
    sink = ListSink()
    problem = make(3000, events=sink)
    result = ClaPS(keep=3 / 15, method=name).optimize(problem, seed=1)
    kept = result.stats["kept_words"]
    assert kept == ["alpha", "beta", "gamma"]
    searched = asked(sink)[16:]
    assert len(searched) > 5
    assert {w for words in searched for w in words} <= {*kept, *problem.initial_prompt.words}
    assert problem.vocabulary == VOCABULARY, "the problem itself is as it was"


def test_options_reach_the_search() -> None:
    sink = ListSink()
    options = {"shortest": 7, "longest": 7}
    ClaPS(method="random_tokens", method_options=options).optimize(make(1000, events=sink))
    assert {len(words) for words in asked(sink)[16:]} == {7}


def test_words_can_be_drawn_and_asked_about_some_examples() -> None:
    sink = ListSink()
    method = ClaPS(clusters=6, representatives="random", examples=5, method="claps_greedy")
    method.optimize(make(events=sink), seed=0)
    scored = [e for e in sink.events if e["kind"] == "scores"]
    assert [e["examples"] for e in scored[:2]] == [5, 5]
    words = [p["instruction"] for p in scored[1]["prompts"]]
    assert len(set(words)) == 6 and set(words) <= set(VOCABULARY)


@pytest.mark.parametrize(
    "method", [ClapsGenetic(), ClapsGenetic(crossover="published"), ClapsGreedy()]
)
def test_the_papers_searches_find_the_optimum(method: Any) -> None:
    result = method.optimize(make(40_000), seed=0)
    assert set(result.best.prompt.words) >= GOOD and len(result.best.prompt.words) in (4, 5)
    assert "anti" not in result.best.prompt.words


def test_the_genetic_search_breeds_from_the_best_tenth() -> None:
    sink = ListSink()
    problem = make(100_000, events=sink)
    ClapsGenetic("reward", generations=2, mutants=0, children=90).optimize(problem)
    batches = [e for e in sink.events if e["kind"] == "scores" and e["split"] == "train"]
    first, second = batches
    assert len(first["prompts"]) == len({p["instruction"] for p in first["prompts"]}) <= 128
    order = np.argsort(-np.array(first["rewards"]), kind="stable")
    best = [first["prompts"][i]["instruction"].split() for i in order[:12]]
    for prompt in second["prompts"]:
        words = prompt["instruction"].split()
        assert all(any(b[i] == w for b in best) for i, w in enumerate(words)), "children only mix"


def small(budget: int = 1500) -> Problem:
    sizes = {"train": 16, "dev": 8, "test": 1}
    return make_problem("author", "tiny", task_options={"sizes": sizes}, budget=budget)


def test_the_embedded_models_words_are_clustered_and_a_resumed_run_clusters_them_again(
    tmp_path: Path,
) -> None:
    def go(folder: Path, resume: bool = False) -> Any:
        method = ClaPS(clusters=20, method_options={"population": 20})
        return method.optimize(small(), 3, checkpoint_dir=folder, resume=resume)

    whole = go(tmp_path)
    assert 10 <= whole.stats["asked_words"] <= 20
    assert len(whole.stats["kept_words"]) == 2
    assert {w for c in whole.candidates for w in c.prompt.words} <= set(small().vocabulary)
    file = tmp_path / "journal.jsonl"
    lines = file.read_bytes().splitlines(keepends=True)
    for kept in (2, len(lines) // 2):
        file.write_bytes(b"".join(lines[:kept]))
        again = go(tmp_path, resume=True)
        assert again.stats == whole.stats and again.history == whole.history
        assert file.read_bytes().splitlines()[1:] != [] and again.best == whole.best


def test_a_survey_passes_notes_on() -> None:
    looks: list[int] = []
    method = _Observed(ClaPS(keep=0.2), 200, lambda n, _: bool(looks.append(n)))
    result = drive(method, make(20_000), 0)
    assert len(result.stats["kept_words"]) == 3 and looks[-1] >= 200


def test_a_pruning_that_leaves_nothing_says_so() -> None:
    sink = ListSink()
    ClaPS().optimize(make(300, events=sink))
    assert any("leaves none" in e["message"] for e in sink.events if e["kind"] == "warning")
    quiet = ListSink()
    ClaPS().optimize(make(8000, events=quiet))
    assert not [e for e in quiet.events if e["kind"] == "warning"]


def test_words_that_cannot_be_clustered_are_refused() -> None:
    with pytest.raises(ConfigError, match=r"transparent.*no embeddings.*representatives='random'"):
        ClaPS(clusters=5).optimize(make())
    assert ClaPS(clusters=5, representatives="random").optimize(make()).stats["asked_words"] == 5


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"keep": 0.0}, "keep must be above 0"),
        ({"clusters": 0}, "clusters must be at least 1"),
        ({"influence": "entropy"}, "influence takes 'reward' or 'kl'"),
        ({"representatives": "all"}, "representatives takes"),
        ({"method": "grips"}, "writes words of the vocabulary, .*got 'grips'"),
        ({"method": "opro"}, "got 'opro'"),
        ({"method_options": {"lenght": 3}}, "did you mean 'length'"),
        ({"method_options": {"mutation": 2.0}}, "claps_genetic: mutation must be at least 0"),
        ({"method": "genetic", "method_options": {"edits": "phrases"}}, "takes no word of the"),
        ({"method": "random_tokens", "method_options": {"generator": "model"}}, "takes no word"),
    ],
)
def test_wrong_options_are_refused_before_anything_runs(
    wrong: dict[str, Any], message: str
) -> None:
    with pytest.raises(ConfigError, match=message):
        make_optimizer("claps", **wrong)
