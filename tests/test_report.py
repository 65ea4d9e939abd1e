"""The report: self-contained, escaped, and true to what the model answered."""

from __future__ import annotations

import re
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest

from promptgym import Problem, Prompt
from promptgym.agents import make_optimizer
from promptgym.evaluation.experiment import record_of
from promptgym.evaluation.explain import Answer, Change, changes, telling, word_effects
from promptgym.evaluation.report import fixed_levels, write_report
from promptgym.prompts import Example
from promptgym.runs.folder import RunFolder
from promptgym.testing import TransparentModel, transparent_task
from promptgym.types import JSON

BEST = Prompt("alpha one anti beta")


@pytest.fixture
def problem() -> Problem:
    """The transparent problem; only its budget knows what was spent."""
    return Problem(transparent_task(), TransparentModel(), budget=4000)


def test_a_words_effect_is_the_difference_it_makes(problem: Problem) -> None:
    effects = word_effects(problem, BEST)
    assert [e.word for e in effects] == ["alpha", "one", "anti", "beta"]
    assert [e.added for e in effects] == [True, False, True, True]
    alpha, one, anti, beta = effects
    assert alpha.metric > 0 and alpha.fixed > 0 and alpha.broken == 0
    assert (one.metric, one.reward, one.fixed, one.broken) == (0.0, 0.0, 0, 0)
    assert anti.reward < 0 and anti.fixed == 0
    assert beta.reward > 0
    assert alpha.reward > beta.reward
    assert problem.ledger.queries == 0


def test_a_words_effect_agrees_with_scores_asked_one_by_one(problem: Problem) -> None:
    dev = problem.task.dev
    effects = word_effects(problem, BEST)
    for i, effect in enumerate(effects):
        rest = Prompt(" ".join(w for j, w in enumerate(BEST.words) if j != i))
        scores = problem.score([BEST, rest], dev)
        assert effect.metric == pytest.approx(scores.mean[0] - scores.mean[1])
        assert effect.fixed == int((scores.values[0] > scores.values[1]).sum())


def test_no_words_no_effects(problem: Problem) -> None:
    assert word_effects(problem, Prompt("")) == []
    assert len(word_effects(problem, BEST, most=2)) == 2


def test_changes_are_the_models_own_answers(problem: Problem) -> None:
    found = changes(problem, Prompt("anti"), Prompt("alpha beta gamma delta"))
    assert [c.example for c in found] == list(problem.task.dev)
    for change in found:
        for answer, prompt in ((change.before, "anti"), (change.after, "alpha beta gamma delta")):
            z = TransparentModel().logit(f"{change.example.input} {prompt}")
            assert answer.gold == pytest.approx(1 / (1 + np.exp(-z)))
            right = answer.text == change.example.target
            assert answer.value == float(right)
            if abs(z) > 1e-9:
                assert right == (z > 0)


def _change(before: float, after: float) -> Change:
    return Change(
        Example(f"{before} {after}", "x"), Answer("", 0.5, before), Answer("", 0.5, after)
    )


@pytest.mark.parametrize(
    ("mended", "spoiled", "same", "expected"),
    [(20, 20, 20, (6, 3, 3)), (1, 0, 20, (1, 0, 11)), (20, 0, 0, (12, 0, 0)), (0, 2, 0, (0, 2, 0))],
)
def test_telling_examples_are_a_mix(
    mended: int, spoiled: int, same: int, expected: tuple[int, int, int]
) -> None:
    pool = [_change(0, 1)] * mended + [_change(1, 0)] * spoiled + [_change(1, 1)] * same
    shown = telling(pool)
    gains = [c.gain for c in shown]
    assert (gains.count(1), gains.count(-1), gains.count(0)) == expected
    assert gains == sorted(gains, reverse=True)


class Reader(HTMLParser):
    """Collects tags, attributes and text, and checks that tags close in order."""

    VOID = ("meta", "link", "br", "img")

    def __init__(self) -> None:
        """Start empty."""
        super().__init__()
        self.open: list[str] = []
        self.tags: list[str] = []
        self.links: list[str] = []
        self.text = ""

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Note a tag and what it links to."""
        self.tags.append(tag)
        self.links += [value or "" for name, value in attrs if name in ("src", "href")]
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Note a tag that closes itself."""
        self.tags.append(tag)

    def handle_endtag(self, tag: str) -> None:
        """Check that it closes the last one."""
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        """Collect text."""
        self.text += data


def _report(folder: Path, best: str | None = None) -> tuple[str, Reader, JSON]:
    """Run a small search and return its page; `best` pretends that a prompt was found."""
    task = transparent_task()
    hostile = Example("<img src=x onerror=alert(2)> plus", "plus")
    task = replace(task, dev=(hostile, *task.dev[1:]))
    run = RunFolder.create(folder, {"method": "hill_climbing", "note": "</pre><script>"})
    problem = Problem(task, TransparentModel(), budget=4000, events=run.log)
    result = make_optimizer("hill_climbing").optimize(problem, seed=0)
    run.log.emit("warning", message="<b>collapsed</b>")
    if best is not None:
        result = replace(result, best=replace(result.best, prompt=Prompt(best)))
    record = record_of(result, problem, task)
    page = write_report(run, problem, record).read_text(encoding="utf-8")
    reader = Reader()
    reader.feed(page)
    return page, reader, record


def test_the_page_is_whole_and_self_contained(tmp_path: Path) -> None:
    page, reader, record = _report(tmp_path / "run")
    assert reader.open == []
    assert reader.links == []
    assert "script" not in reader.tags
    assert not re.search(r"url\(|@import|https?://", page)
    assert "prefers-color-scheme: dark" in page
    for title in ("Held-out score", "Best prompts", "Before and after", "What each word does"):
        assert title in reader.text
    best = record["best"]
    assert best["prompt"]["instruction"] in reader.text
    score = best["test"]
    assert f"{score['value']:.3f} [{score['low']:.3f}, {score['high']:.3f}]" in reader.text
    assert "</pre><script>" in reader.text
    assert "warning: <b>collapsed</b>" in reader.text
    assert "nan" not in reader.text.lower()
    assert page.count('<svg viewBox="0 0 720') == 1


def test_prompts_and_inputs_are_escaped(tmp_path: Path) -> None:
    prompt = '<script>alert("1")</script> alpha </style> & "x" $title'
    _, reader, _ = _report(tmp_path / "run", prompt)
    assert prompt in reader.text
    assert "onerror=alert(2)" in reader.text
    assert "script" not in reader.tags and "img" not in reader.tags
    assert reader.open == []


def test_levels_of_the_curve_are_the_fixed_prompts(tmp_path: Path) -> None:
    _, _, record = _report(tmp_path / "run")
    assert list(fixed_levels(record)) == ["empty", "manual"]
    record["compared"][0]["dev"] = None
    assert list(fixed_levels(record)) == ["manual"]


def test_a_task_without_a_manual_prompt_has_no_row_of_it() -> None:
    task = replace(transparent_task(), manual_prompts=(Prompt(""),))
    problem = Problem(task, TransparentModel(), budget=4000)
    result = make_optimizer("hill_climbing").optimize(problem, seed=0)
    record = record_of(result, problem, task)
    assert [row["name"] for row in record["compared"]] == ["empty", "learned"]
    assert list(fixed_levels(record)) == ["empty"]
