"""The driver of search methods, selection on dev, and resuming from the journal."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from promptgym.errors import ConfigError, PromptGymError
from promptgym.problem import Problem
from promptgym.prompts import Example, Prompt, Template
from promptgym.runs import ListSink
from promptgym.search import Answer, Ask, Result, Search, SearchMethod
from promptgym.search.journal import FILE
from promptgym.search.records import pack, unpack
from promptgym.tasks import get_metric
from promptgym.testing import TransparentModel, transparent_task

TRAIN = len(transparent_task().train)
DEV = len(transparent_task().dev)


def make(budget: Any = 4000, **options: Any) -> Problem:
    return Problem(transparent_task(), TransparentModel(), budget=budget, **options)


@dataclass(frozen=True)
class Script(SearchMethod):
    """Asks the batches it is given; keeps what it is told in `told`."""

    name: ClassVar[str] = "script"
    endless: ClassVar[bool] = False
    batches: tuple[tuple[str, ...], ...] = ()
    examples: int = 0

    def search(self, problem: Problem, rng: np.random.Generator) -> Search:
        """Ask the batches."""
        for batch in self.batches:
            prompts = [Prompt(text) for text in batch]
            if self.examples:
                answer = yield Ask(prompts, problem.task.train[: self.examples])
                assert len(answer.scores.examples) == self.examples
            answer = yield prompts
            told.append(answer)


told: list[Answer] = []


@pytest.fixture(autouse=True)
def _forget() -> None:
    told.clear()


@dataclass(frozen=True)
class Walk(SearchMethod):
    """A random walk whose every step depends on chance and on all answers so far."""

    name: ClassVar[str] = "walk"

    def search(self, problem: Problem, rng: np.random.Generator) -> Search:
        """Walk on."""
        at, value = problem.initial_prompt, -np.inf
        while True:
            words = [problem.vocabulary[i] for i in rng.integers(len(problem.vocabulary), size=3)]
            tries = [at.with_words([*at.words[-4:], w]) for w in words]
            answer = yield Ask(tries, problem.task.train[:7])
            first = int(answer.rewards.argmax())
            answer = yield [tries[first]]
            if answer.rewards[0] > value or rng.random() < 0.3:
                at, value = tries[first], float(answer.rewards[0])


def outcome(result: Result) -> dict[str, Any]:
    """What must not depend on whether a run was interrupted: all but the seconds."""
    spent = {k: v for k, v in result.spent.items() if k != "seconds"}
    return {
        "best": result.best,
        "candidates": result.candidates,
        "history": result.history,
        "stats": result.stats,
        "spent": spent,
    }


def test_a_method_is_told_the_scores_of_what_it_asked_in_its_order() -> None:
    problem = make()
    Script(batches=(("one", "alpha", "one"), ("beta alpha",))).optimize(problem)
    assert [s.instruction for s in told[0].scores.prompts] == ["one", "alpha", "one"]
    assert told[0].rewards[0] == told[0].rewards[2] < told[0].rewards[1]
    expected = problem.reward(make().score([Prompt("beta alpha")]))
    np.testing.assert_array_equal(told[1].rewards, expected)


def test_the_best_prompt_is_chosen_on_dev_among_the_finalists() -> None:
    result = Script(batches=(("one", "alpha", "alpha beta", "anti"),)).optimize(make())
    assert result.best.prompt == Prompt("alpha beta")
    fresh = make()
    dev = fresh.score([Prompt("alpha beta")], split="dev").mean[0]
    assert result.best.dev == dev
    assert [c.dev for c in result.candidates] == sorted(
        (c.dev for c in result.candidates), reverse=True
    )


def test_minibatches_are_charged_and_take_no_part_in_the_selection() -> None:
    problem = make()
    result = Script(batches=(("alpha", "one"),), examples=5).optimize(problem)
    dev = len(result.candidates) * DEV
    assert result.spent["queries"] == 2 * 5 + 2 * TRAIN + dev
    assert result.stats["distinct"] == 2


def test_a_batch_cut_by_the_budget_ends_the_search_and_its_scored_prompts_count() -> None:
    # A quarter of the budget is set aside for dev; 2.5 passes over train are left beside it.
    budget = int(2.5 * TRAIN / 0.75)
    problem = make(budget)
    result = Script(batches=(("one", "alpha", "beta"), ("two",))).optimize(problem)
    assert told == []
    assert result.stats["distinct"] == 2
    assert {c.prompt.instruction for c in result.candidates} <= {"one", "alpha"}
    assert result.spent["queries"] <= budget
    assert problem.ledger.reserved == 0


@pytest.mark.parametrize("budget", [200, 1000, 3333])
def test_an_endless_method_never_crosses_the_budget_and_spends_it(budget: int) -> None:
    result = Walk().optimize(make(budget), seed=1)
    assert budget - TRAIN - 8 * DEV <= result.spent["queries"] <= budget


def test_a_budget_too_small_for_one_prompt_is_refused_before_anything_is_written(
    tmp_path: Path,
) -> None:
    script, folder = Script(batches=(("one",),)), tmp_path / "run"
    with pytest.raises(ConfigError, match=f"budget of {TRAIN} queries.* takes {TRAIN} ") as refused:
        script.optimize(make(TRAIN), checkpoint_dir=folder)
    assert not folder.exists()
    enough = int(re.findall(r"at least (\d+)", str(refused.value))[0])
    with pytest.raises(ConfigError, match="too small"):
        script.optimize(make(enough - 1))
    assert script.optimize(make(enough)).best.prompt == Prompt("one")


def test_a_budget_that_nothing_foresaw_to_be_too_small_is_an_error() -> None:
    with pytest.raises(PromptGymError, match="no prompt was scored completely"):
        Script(batches=(("one",),)).optimize(make({"tokens": 1}))


def test_an_endless_method_without_a_budget_is_refused() -> None:
    with pytest.raises(ConfigError, match="give the problem a budget"):
        Walk().optimize(make(None))


def test_the_test_split_is_none_that_a_problem_asks_about() -> None:
    with pytest.raises(ConfigError, match="'train' or 'dev', got 'test'"):
        make().score([Prompt("one")], split="test")


def test_asking_for_nothing_is_an_error() -> None:
    with pytest.raises(PromptGymError, match="no prompt"):
        Script(batches=((),)).optimize(make())


class Killed(Exception):
    """What the test raises in the middle of a run."""


class Bomb(ListSink):
    """Raises after so many events."""

    def __init__(self, after: int, error: type[BaseException] = Killed) -> None:
        """Take how many, and what to raise."""
        super().__init__()
        self.after, self.error = after, error

    def emit(self, kind: str, **fields: Any) -> None:
        """Keep the event; raise when there are too many."""
        super().emit(kind, **fields)
        if len(self.events) > self.after:
            raise self.error


@pytest.mark.parametrize("after", [0, 1, 5, 17])
def test_a_killed_search_resumes_bit_identically_and_repeats_no_call(
    tmp_path: Path, after: int
) -> None:
    whole = Walk().optimize(make(2000), seed=3)
    with pytest.raises(Killed):
        Walk().optimize(make(2000, events=Bomb(after)), seed=3, checkpoint_dir=tmp_path)
    records = (tmp_path / FILE).read_text().count("\n") - 1
    model = TransparentModel()
    events = ListSink()
    problem = Problem(transparent_task(), model, budget=2000, events=events)
    resumed = Walk().optimize(problem, seed=3, checkpoint_dir=tmp_path, resume=True)
    assert outcome(resumed) == outcome(whole)
    uninterrupted = TransparentModel()
    Walk().optimize(Problem(transparent_task(), uninterrupted, budget=2000), seed=3)
    if records:
        assert events.events[0]["kind"] == "resumed"
        assert model.calls < uninterrupted.calls


def test_a_finished_search_resumed_costs_no_call(tmp_path: Path) -> None:
    first = Walk().optimize(make(1000), seed=3, checkpoint_dir=tmp_path)
    model = TransparentModel()
    problem = Problem(transparent_task(), model, budget=1000)
    again = Walk().optimize(problem, seed=3, checkpoint_dir=tmp_path, resume=True)
    assert outcome(again) == outcome(first)
    assert model.calls == 0


def test_a_line_cut_short_by_a_kill_is_dropped(tmp_path: Path) -> None:
    whole = Walk().optimize(make(1000), seed=3, checkpoint_dir=tmp_path)
    file = tmp_path / FILE
    lines = file.read_bytes().splitlines(keepends=True)
    file.write_bytes(b"".join(lines[:7]) + lines[7][:40])
    resumed = Walk().optimize(make(1000), seed=3, checkpoint_dir=tmp_path, resume=True)
    assert outcome(resumed) == outcome(whole)
    assert file.read_bytes().splitlines()[:7] == [line.rstrip(b"\n") for line in lines[:7]]
    assert all(json.loads(line) for line in file.read_text().splitlines())


def test_a_folder_of_another_run_is_refused(tmp_path: Path) -> None:
    Walk().optimize(make(1000), seed=3, checkpoint_dir=tmp_path)
    with pytest.raises(ConfigError, match="resume it"):
        Walk().optimize(make(1000), seed=3, checkpoint_dir=tmp_path)
    with pytest.raises(ConfigError, match="seed was 3, is 4"):
        Walk().optimize(make(1000), seed=4, checkpoint_dir=tmp_path, resume=True)
    with pytest.raises(ConfigError, match="budget"):
        Walk().optimize(make(2000), seed=3, checkpoint_dir=tmp_path, resume=True)


@pytest.mark.parametrize(
    ("before", "now", "said"),
    [
        ("gap", {"name": "gap", "right": 150.0}, "reward.right was 200.0, is 150.0"),
        ({"name": "tempera", "ties": "by-value"}, "tempera", "reward.ties was"),
        (
            {"name": "weighted", "terms": [["gap", 1], ["length", -1]]},
            {"name": "weighted", "terms": [[{"name": "gap", "wrong": 1.0}, 1], ["length", -1]]},
            "reward.terms was",
        ),
    ],
)
def test_a_changed_option_of_the_reward_is_refused_by_name(
    tmp_path: Path, before: Any, now: Any, said: str
) -> None:
    Walk().optimize(make(200, reward=before), checkpoint_dir=tmp_path)
    Walk().optimize(make(200, reward=before), checkpoint_dir=tmp_path, resume=True)
    with pytest.raises(ConfigError, match=re.escape(said)):
        Walk().optimize(make(200, reward=now), checkpoint_dir=tmp_path, resume=True)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"verbalizers": {"minus": "plus", "plus": "minus"}}, "verbalizers.minus was"),
        ({"metric": get_metric("balanced_accuracy")}, "metric was"),
        ({"template": Template("{demonstrations}{input} {prompt}", "{input} {answer}")}, "demonst"),
        ({"pool": (Example("more", "plus"),)}, "pool was"),
    ],
)
def test_a_changed_task_of_the_same_name_is_refused_by_what_changed(
    tmp_path: Path, changes: dict[str, Any], said: str
) -> None:
    Walk().optimize(make(200), checkpoint_dir=tmp_path)
    task = replace(transparent_task(), **changes)
    with pytest.raises(ConfigError, match=said):
        Walk().optimize(
            Problem(task, TransparentModel(), budget=200), checkpoint_dir=tmp_path, resume=True
        )


def test_a_journal_of_another_version_is_refused(tmp_path: Path) -> None:
    Walk().optimize(make(200), checkpoint_dir=tmp_path)
    file = tmp_path / FILE
    header, rest = file.read_text().split("\n", 1)
    file.write_text(json.dumps({**json.loads(header), "version": 1}) + "\n" + rest)
    with pytest.raises(ConfigError, match="is of version 1"):
        Walk().optimize(make(200), checkpoint_dir=tmp_path, resume=True)


def test_a_journal_that_answers_another_question_is_refused(tmp_path: Path) -> None:
    Walk().optimize(make(1000), seed=3, checkpoint_dir=tmp_path)
    file = tmp_path / FILE
    rows = file.read_text().splitlines()
    row = json.loads(rows[3])
    row["prompts"][0]["instruction"] += " ten"
    rows[3] = json.dumps(row)
    file.write_text("\n".join(rows) + "\n")
    with pytest.raises(ConfigError, match="record 3"):
        Walk().optimize(make(1000), seed=3, checkpoint_dir=tmp_path, resume=True)


def test_a_failed_call_survives_the_journal(tmp_path: Path) -> None:
    class Flaky(TransparentModel):
        def label_logprobs(self, texts: Any, labels: Any) -> Any:
            out = super().label_logprobs(texts, labels)
            bad = {i: "boom" for i, text in enumerate(texts) if "three" in text}
            logprobs = out.logprobs
            logprobs[list(bad)] = np.nan
            return replace(out, logprobs=logprobs, failures=bad)

    def problem() -> Problem:
        return Problem(transparent_task(), Flaky(), budget=2000)

    script = Script(batches=(("alpha", "three"),))
    first = script.optimize(problem(), checkpoint_dir=tmp_path)
    again = script.optimize(problem(), checkpoint_dir=tmp_path, resume=True)
    assert first.stats["distinct"] == 1
    assert outcome(again) == outcome(first)
    live, replayed = told
    assert live.scores.failures == replayed.scores.failures
    assert len(live.scores.failures) == TRAIN
    assert np.isnan(live.rewards[1]) and np.isnan(replayed.rewards[1])
    np.testing.assert_array_equal(live.scores.values, replayed.scores.values)


@given(
    hnp.arrays(
        st.sampled_from([np.float64, np.int8, np.int64]), hnp.array_shapes(min_dims=1, min_side=0)
    )
)
def test_packing_an_array_is_exact(array: np.ndarray[Any, Any]) -> None:
    back = unpack(json.loads(json.dumps(pack(array))))
    assert back.dtype == array.dtype and back.shape == array.shape
    assert back.tobytes() == array.tobytes()


def test_a_seed_that_no_generator_takes_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="seed must be at least 0, got -1"):
        Script().optimize(make(), seed=-1, checkpoint_dir=tmp_path)
    assert not any(tmp_path.iterdir())


def test_a_damaged_journal_is_named_with_its_line(tmp_path: Path) -> None:
    Script(batches=(("alpha",),)).optimize(make(), checkpoint_dir=tmp_path)
    path = tmp_path / FILE
    path.write_text(path.read_text() + "garbage\n{}\n")
    line = len(path.read_text().splitlines()) - 1
    with pytest.raises(ConfigError, match=f"{FILE}, line {line}: not a JSON object"):
        Script(batches=(("alpha",),)).optimize(make(), checkpoint_dir=tmp_path, resume=True)


def test_a_choice_without_dev_is_said() -> None:
    """Only a cap on queries has a part set aside for dev."""
    sink = ListSink()
    method = Script(batches=(("alpha",), ("beta",), ("gamma",)))
    result = method.optimize(make({"tokens": 170}, events=sink), seed=0)
    assert result.best.dev is None
    said = [e["message"] for e in sink.events if e["kind"] == "warning"]
    assert any("left nothing for dev" in message for message in said)
