"""Landscapes: measurements checked against a model with a formula, and how the bars judge them."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from promptgym.errors import TaskError
from promptgym.evaluation import Landscape, evaluate, landscape
from promptgym.evaluation.landscape import floor_range
from promptgym.evaluation.landscape_view import histogram
from promptgym.evaluation.survey import Climb, Demonstrations, Edits, Known, Staircase, Survey
from promptgym.llms import Completion, Sampling
from promptgym.problem import Problem
from promptgym.prompts import Example, Prompt, Template
from promptgym.tasks import Task, get_metric, load_task
from promptgym.tasks.world import WORLD_TASKS
from promptgym.testing import TransparentModel, transparent_task

SMALL = {"n_random": 60, "n_edits": 60, "climbers": 2, "climb_prompts": 250}


@pytest.fixture(scope="module")
def measured() -> Landscape:
    return landscape(transparent_task(), TransparentModel(bias=-2.0), **SMALL)  # type: ignore[arg-type]


def test_prompts_are_measured_on_the_split_that_is_named(measured: Landscape) -> None:
    task, model = transparent_task(), TransparentModel(bias=-2.0)
    prompts = [measured.empty, measured.manual, measured.best, measured.random_best]
    for split in ("dev", "test"):
        again = evaluate([known.prompt for known in prompts], task, model, split=split)
        assert [getattr(known, split) for known in prompts] == again.mean.tolist()
    assert measured.random_best.dev == measured.random_dev.max()
    assert measured.manual.prompt == task.manual_prompts[0]


def test_edits_change_the_gap_by_what_the_formula_says(measured: Landscape) -> None:
    task = transparent_task()
    problem = Problem(task, TransparentModel(bias=-2.0))
    words = [
        "one two",
        *(f"one two {word}" for word in ("alpha", "beta", "gamma", "delta", "anti")),
    ]
    rewards = problem.rewards(problem.score([Prompt(text) for text in words]))
    assert measured.edits.gap is not None
    changes = set(np.round(measured.edits.gap, 9))
    assert changes == set(np.round(rewards - rewards[0], 9))


def test_the_staircase_climbs_from_the_empty_prompt_to_all_helpful_words(
    measured: Landscape,
) -> None:
    stairs = measured.staircase
    assert stairs.words == ("alpha", "beta", "gamma", "delta")  # no other word helps
    assert stairs.means[0] == measured.empty.dev
    assert stairs.means[-1] == pytest.approx(measured.best.dev)
    assert (np.diff(stairs.means) >= 0).all()


def test_a_climber_stops_once_it_has_arrived_and_not_before() -> None:
    task = transparent_task()
    arrives = Survey(task, TransparentModel()).climb(0, 2000)
    assert arrives.final.test >= 0.95
    assert arrives.asked < 2000
    assert arrives.curve[-1] == (arrives.asked, arrives.final.test)
    assert arrives.curve[0][0] <= 200
    wide = replace(task, vocabulary=(*task.vocabulary, *(f"filler{i}" for i in range(100))))
    cannot = Survey(wide, TransparentModel(bias=-2.0)).climb(0, 420)
    assert 420 <= cannot.asked < 440
    assert [n for n, _ in cannot.curve] == [193, 385, cannot.asked]
    assert cannot.final.test < 0.95


def test_a_climber_ends_where_every_neighbour_is_known() -> None:
    end = Survey(transparent_task(), TransparentModel(bias=-2.0)).climb(0, 10_000)
    assert end.asked < 1000
    assert end.curve[-1] == (end.asked, end.final.test)


def test_equal_seeds_give_equal_landscapes_and_others_do_not(measured: Landscape) -> None:
    task, model = transparent_task(), TransparentModel(bias=-2.0)
    again = landscape(task, model, **SMALL)  # type: ignore[arg-type]
    assert replace(again, seconds=0.0).to_json() == replace(measured, seconds=0.0).to_json()
    other = landscape(task, model, seed=1, **SMALL)  # type: ignore[arg-type]
    assert other.random_dev.tolist() != measured.random_dev.tolist()


def test_progress_reaches_every_total(measured: Landscape) -> None:
    seen: dict[str, list[tuple[int, int]]] = {}

    def note(stage: str, done: int, total: int) -> None:
        seen.setdefault(stage, []).append((done, total))

    landscape(transparent_task(), TransparentModel(bias=-2.0), on_progress=note, **SMALL)  # type: ignore[arg-type]
    assert {"random prompts", "single edits", "single words", "staircase"} <= set(seen)
    assert {"hill climber 0", "hill climber 1"} <= set(seen)
    for stage, steps in seen.items():
        assert steps[-1][0] == steps[-1][1], stage


def known(dev: float, test: float) -> Known:
    return Known(Prompt("x"), dev, test)


def climbs(*finals: float, early: bool = False) -> tuple[Climb, ...]:
    return tuple(
        Climb(i, ((193, v if early else 0.6), (385, v)), 385, known(v, v))
        for i, v in enumerate(finals)
    )


def ideal(measured: Landscape, tier: str | None = "standard") -> Landscape:
    """Return a landscape that passes everything."""
    gap = np.array([5.0, -5.0, 5.0, 0.0])
    return replace(
        measured,
        tier=tier,
        classes=2,
        empty=known(0.6, 0.6),
        manual=known(0.65, 0.62),
        best=known(0.97, 0.97),
        random_best=known(0.8, 0.8),
        edits=Edits(gap, np.array([0.1, -0.1, 0.0, 0.0])),
        staircase=Staircase(("a",) * 4, np.array([0.6, 0.7, 0.8, 0.9, 0.95])),
        climbs=climbs(0.96, 0.97, 0.98, 0.8, 0.7),
    )


BREAKS: list[tuple[str, Callable[[Landscape], Landscape]]] = [
    ("empty prompt", lambda x: replace(x, empty=known(0.6, 0.8))),
    ("empty prompt", lambda x: replace(x, empty=known(0.6, 0.4))),
    ("manual prompt", lambda x: replace(x, manual=known(0.9, 0.76))),
    ("best known prompt", lambda x: replace(x, best=known(0.97, 0.94))),
    ("random prompts", lambda x: replace(x, random_best=known(0.9, 0.88))),
    ("gap reward", lambda x: replace(x, edits=replace(x.edits, gap=np.array([5.0, -5, 1, 1])))),
    ("gap reward", lambda x: replace(x, edits=replace(x.edits, gap=np.full(4, 5.0)))),
    ("move accuracy", lambda x: replace(x, edits=replace(x.edits, accuracy=np.zeros(4)))),
    ("move accuracy", lambda x: replace(x, edits=replace(x.edits, accuracy=np.full(4, 0.1)))),
    ("levels", lambda x: replace(x, staircase=Staircase(("a",) * 2, np.array([0.6, 0.8, 0.95])))),
    ("largest step", lambda x: replace(x, staircase=Staircase(("a",), np.array([0.5, 0.8])))),
    ("hill climbers", lambda x: replace(x, climbs=climbs(0.96, 0.97, 0.8, 0.8, 0.7))),
    ("hill climbers", lambda x: replace(x, climbs=climbs(0.96, 0.97, 0.98, 0.9, 0.9, early=True))),
]


def test_an_ideal_landscape_passes(measured: Landscape) -> None:
    assert ideal(measured).passed


@pytest.mark.parametrize(("name", "change"), BREAKS, ids=lambda value: str(value)[:20])
def test_each_bar_fails_alone(
    measured: Landscape, name: str, change: Callable[[Landscape], Landscape]
) -> None:
    broken = change(ideal(measured))
    assert not broken.passed
    assert name in " ".join(bar.name for bar in broken.bars if bar.passed is False)
    good = {bar.name for bar in ideal(measured).bars if bar.passed}
    lost = good - {bar.name for bar in broken.bars if bar.passed}
    assert len(lost) <= 2  # a lower best known prompt also lowers what others must stay under


def test_tiers_ask_for_opposite_things(measured: Landscape) -> None:
    stuck = climbs(0.7, 0.8, 0.85, 0.96, 0.97)
    assert not replace(ideal(measured), climbs=stuck).passed
    assert replace(ideal(measured, "hard"), climbs=stuck).passed
    assert not ideal(measured, "hard").passed
    for either in (stuck, ideal(measured).climbs):
        assert replace(ideal(measured, None), climbs=either).passed
    between = climbs(0.96, 0.92, 0.92, 0.92, 0.92)
    assert not replace(ideal(measured, None), climbs=between).passed


def test_without_climbers_their_bar_is_not_measured(measured: Landscape) -> None:
    land = replace(ideal(measured), climbs=())
    bar = next(bar for bar in land.bars if "climbers" in bar.name)
    assert bar.passed is None and bar.measured == "not asked for"
    assert land.passed


def test_plain_prompts_belong_between_chance_and_halfway_up() -> None:
    assert floor_range(2) == (0.5, 0.75)
    assert floor_range(4) == (0.25, 0.625)
    assert floor_range(0) == (0.0, 0.5)


def with_pool() -> Task:
    """Return a task whose demonstrations help (`alpha`, `beta`) or harm (`anti`)."""
    words = ("alpha", "beta", "anti", "one", "two")
    return replace(
        transparent_task(),
        template=Template("{demonstrations}{input} {prompt}", "{input} {answer} "),
        pool=tuple(Example(f"pool{i} {word}", "minus") for i, word in enumerate(words)),
    )


def test_demonstrations_are_chosen_on_dev_and_judged_on_test() -> None:
    # Three good words in front, all but the last two steps of hardness are mastered.
    found = Survey(with_pool(), TransparentModel(bias=0.1)).demonstrations()
    assert found is not None
    assert found.best.dev == found.dev.max()
    assert found.worst.dev == found.dev.min()
    assert found.best.test > found.none.test > found.worst.test
    assert Survey(transparent_task(), TransparentModel()).demonstrations() is None


class Writer(TransparentModel):
    """Rewrites anything into one of three instructions, by row."""

    def generate(self, texts: Sequence[str], sampling: Sampling) -> list[Completion]:
        """Write."""
        assert all(text == "<rewrite> one two <instruction>" for text in texts)
        assert sampling.temperature == 1.0
        return [Completion(("one", "alpha beta", "three")[i % 3], 2) for i in range(len(texts))]


def test_the_rewriter_bar_takes_the_best_of_its_samples_by_dev() -> None:
    land = landscape(transparent_task(), TransparentModel(), rewriter=Writer(), **SMALL)  # type: ignore[arg-type]
    assert land.rewriter is not None
    assert [draw.prompt for draw in land.rewriter] == [Prompt("alpha beta")] * 5
    assert any("untrained rewriter, best" in bar.name for bar in land.bars)


def test_one_lucky_draw_of_the_rewriter_fails_nothing(measured: Landscape) -> None:
    draws = [known(0.6, value) for value in (0.58, 0.97, 0.59, 0.6, 0.57)]
    for found, passed in ((draws, True), (draws[1:2], False)):
        bar = replace(measured, rewriter=tuple(found)).bars[-1]
        assert bar.passed is passed and "0.970" in bar.measured


def test_a_task_answered_by_generation_is_measured_by_its_metric() -> None:
    task = replace(
        transparent_task(), labels=None, verbalizers={}, metric=get_metric("exact_match")
    )
    land = landscape(task, TransparentModel(), **SMALL)  # type: ignore[arg-type]
    assert land.edits.gap is None
    assert land.classes == 0
    assert not any("gap reward" in bar.name for bar in land.bars)
    assert land.best.test == 1.0


def test_text_json_and_picture_hold_every_bar(measured: Landscape, tmp_path: Path) -> None:
    text = str(measured)
    values = json.loads(json.dumps(measured.to_json(), allow_nan=False))
    for bar in measured.bars:
        assert f"{bar.name}: {bar.measured}" in text
        assert bar.name in [row["name"] for row in values["bars"]]
    assert values["passed"] is measured.passed
    assert "FAIL" in text
    path = measured.plot(tmp_path / "pictures" / "land.png")
    assert path.read_bytes().startswith(b"\x89PNG")
    assert [p.name for p in path.parent.iterdir()] == ["land.png"]


def test_a_bar_that_does_not_count_informs_and_the_verdict_says_what_holds(
    measured: Landscape,
) -> None:
    weak = Demonstrations(known(0.6, 0.57), known(0.6, 0.59), known(0.5, 0.5), np.array([0.6]))
    land = replace(ideal(measured), demonstrations=weak, rewriter=(known(0.9, 0.9),))
    lines = str(land).splitlines()
    assert lines[0].endswith("all bars that count hold")
    at = next(i for i, line in enumerate(lines) if " demonstrations (1 sets" in line)
    assert lines[at].startswith("info") and lines[at + 1].split()[:2] == ["not", "met,"]
    assert "FAIL" not in str(land)
    good = str(replace(land, rewriter=(known(0.7, 0.7),))).splitlines()
    at = next(i for i, line in enumerate(good) if " untrained rewriter" in line)
    assert good[at].startswith("info") and good[at + 1].strip().startswith("met,")
    assert "hill climbers, its tier's own, were not asked for" in str(replace(land, climbs=()))


def test_words_that_may_help_by_chance_are_told_from_those_of_the_best_prompt(
    measured: Landscape,
) -> None:
    means = np.array([0.6, 0.7, 0.8, 0.9])
    text = str(replace(measured, staircase=Staircase(("alpha", "beta", "noise"), means, 2)))
    assert "words of the staircase: alpha beta\n" in text
    assert "(some by chance): noise\n" in text
    found = Survey(transparent_task(), TransparentModel(bias=-2.0)).staircase(Prompt("alpha one"))
    assert found.words[: found.known] == ("alpha", "one") and len(found.words) > found.known


def test_a_histogram_shows_the_range_that_is_filled() -> None:
    lines = histogram(np.array([0.51, 0.52, 0.63, np.nan]))
    assert [line.split()[:2] for line in lines] == [["0.50", "2"], ["0.55", "0"], ["0.60", "1"]]
    assert histogram(np.array([np.nan])) == ["(none)"]


def test_closed_tasks_and_unknown_tiers_are_refused() -> None:
    with pytest.raises(TaskError, match="test split cannot be reached"):
        landscape(transparent_task().closed(), TransparentModel())
    with pytest.raises(TaskError, match="unknown tier 'easy'"):
        landscape(transparent_task(), TransparentModel(), tier="easy")


BUNDLED = [name for name, row in WORLD_TASKS.items() if row.labels]


@pytest.mark.slow
@pytest.mark.parametrize("name", BUNDLED)
def test_the_bars_hold_for_every_bundled_classification_task(name: str) -> None:
    land = landscape(name, "tiny")
    asked = [bar for bar in land.bars if bar.counts or "untrained rewriter" in bar.name]
    assert all(bar.passed for bar in asked), str(land)


def test_demonstrations_help_in_some_bundled_task() -> None:
    task = load_task("words-code")
    shown = Prompt("", demonstrations=task.pool[:4])
    without, shot = evaluate(["", shown], task, "tiny", split="dev").mean
    assert shot > without + 0.5
