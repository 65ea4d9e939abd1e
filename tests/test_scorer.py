"""The scorer: right, asked once, within its budget to the last query, honest about failures."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import gymnasium as gym
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from llm_models import build

from promptgym.errors import (
    BudgetExhausted,
    ConfigError,
    ModelError,
    PromptGymError,
    TaskError,
    TemplateError,
)
from promptgym.llms import Completion, LabelLogprobs, Sampling, load_model
from promptgym.problem import Problem
from promptgym.prompts import Example, Prompt, Template
from promptgym.scoring import (
    API_ERROR,
    OK,
    PARSE_ERROR,
    REFUSED,
    SKIPPED,
    TIMEOUT,
    Budget,
    Failure,
    Ledger,
    Scorer,
)
from promptgym.scoring.cache import AnswerCache
from promptgym.tasks import Task, get_metric
from promptgym.testing.transparent import LABELS, TransparentModel, transparent_task

TASK = transparent_task(12)
PROMPTS = [Prompt(p) for p in ("alpha", "alpha beta", "", "one anti", "gamma two")]


class Watched(TransparentModel):
    """The transparent model, with a list of what it was asked and texts that it refuses."""

    def __init__(self, refuses: str = "\0") -> None:
        """Take a piece of text that makes a call fail."""
        super().__init__()
        self.asked: list[list[str]] = []
        self.refuses = refuses

    def label_logprobs(self, texts: Sequence[str], labels: Sequence[str]) -> LabelLogprobs:
        """Answer, or fail on the texts that are refused."""
        self.asked.append(list(texts))
        found = super().label_logprobs(texts, labels)
        failures = {
            i: "refused: not this one" for i, text in enumerate(texts) if self.refuses in text
        }
        found.logprobs[list(failures)] = np.nan
        return LabelLogprobs(found.logprobs, found.tokens, failures)

    def generate(self, texts: Sequence[str], sampling: Sampling) -> list[Completion]:
        """Answer, or fail on the texts that are refused."""
        self.asked.append(list(texts))
        found = super().generate(texts, sampling)
        return [
            Completion("", 0, "refused: not this one")
            if self.refuses in text
            else replace(c, text=f" {c.text}\n")
            for text, c in zip(texts, found, strict=True)
        ]


def scorer_of(model: TransparentModel, task: Task = TASK, **caps: float) -> Scorer:
    budget = Budget(**caps)  # type: ignore[arg-type]
    return Scorer(task, model, task.template, ledger=Ledger(budget))


def test_scores_are_the_models_answers_paid_by_the_metric() -> None:
    scores = scorer_of(Watched()).score(PROMPTS, TASK.train)
    assert scores.status.shape == (5, 12) and (scores.status == OK).all()
    assert scores.label_logprobs is not None and scores.targets is not None
    model = TransparentModel()
    for p, prompt in enumerate(PROMPTS):
        for e, example in enumerate(TASK.train):
            text = TASK.template.render(prompt, example)
            want = model.label_logprobs([text], LABELS).logprobs[0]
            np.testing.assert_array_equal(scores.label_logprobs[p, e], want)
            assert scores.values[p, e] == float(LABELS[want.argmax()] == example.target)
            assert LABELS[scores.targets[e]] == example.target
    assert scores.prompt_tokens is not None
    assert scores.prompt_tokens.tolist() == [1, 2, 0, 2, 2]
    np.testing.assert_allclose(scores.mean, scores.values.mean(axis=1))


def test_answers_of_generation_are_stripped_and_paid() -> None:
    task = replace(TASK, labels=None, verbalizers={}, metric=get_metric("exact_match"))
    model = Watched(refuses="train3")
    scorer = scorer_of(model, task)
    scores = scorer.score(PROMPTS[:2], task.train)
    assert scores.completions is not None and scores.label_logprobs is None
    assert set(scores.completions[0].tolist()) <= {*LABELS, None}
    assert (scores.status[:, 3] == REFUSED).all() and np.isnan(scores.values[:, 3]).all()
    assert list(scores.failures) == [Failure(p, 3, "not this one", REFUSED) for p in (0, 1)]
    answered = scores.values[:, [i for i in range(12) if i != 3]]
    want = scorer_of(TransparentModel()).score(PROMPTS[:2], TASK.train).values
    np.testing.assert_array_equal(answered, np.delete(want, 3, axis=1))
    read = sum(len(t.split()) for t in model.asked[0])
    assert scorer.ledger.tokens == read + 22, "one token a completion that came"


def test_equal_questions_are_asked_once() -> None:
    model = Watched()
    scorer = scorer_of(model)
    doubled = (*TASK.train, TASK.train[0])
    first = scorer.score([PROMPTS[0], PROMPTS[0], PROMPTS[1]], doubled)
    assert [len(batch) for batch in model.asked] == [24]
    again = scorer.score([PROMPTS[1], PROMPTS[0]], TASK.train[::-1])
    assert len(model.asked) == 1
    np.testing.assert_array_equal(again.values, first.values[[2, 0], :12][:, ::-1])
    scorer.score([PROMPTS[0]], (*TASK.dev[:2], *TASK.train))
    assert [len(batch) for batch in model.asked] == [24, 2]
    assert scorer.ledger.queries == 39 + 24 + 14, "known answers are charged as queries"
    assert scorer.ledger.calls == 2


def test_a_failure_is_nan_a_record_and_is_asked_again() -> None:
    model = Watched(refuses="train5")
    scorer = scorer_of(model)
    scores = scorer.score([PROMPTS[0], PROMPTS[1], PROMPTS[0]], TASK.train)
    assert (scores.status[:, 5] == REFUSED).all() and (np.delete(scores.status, 5, 1) == OK).all()
    assert np.isnan(scores.values[:, 5]).all() and scores.complete.all()
    assert [(f.prompt, f.example) for f in scores.failures] == [(0, 5), (1, 5), (2, 5)]
    assert not np.isnan(scores.mean).any(), "the mean is over the valid examples"
    model.refuses = "\0"
    healed = scorer.score([PROMPTS[0]], TASK.train)
    assert (healed.status == OK).all() and len(model.asked[-1]) == 1


def test_an_answer_of_nan_is_a_failure() -> None:
    class Broken(Watched):
        def label_logprobs(self, texts: Sequence[str], labels: Sequence[str]) -> LabelLogprobs:
            found = super().label_logprobs(texts, labels)
            found.logprobs[0, 1] = np.nan
            return found

    scores = scorer_of(Broken()).score(PROMPTS[:1], TASK.train)
    assert scores.status[0, 0] == PARSE_ERROR and "answered NaN" in scores.failures[0].reason


def test_the_kind_of_a_failure_is_read_off_its_reason() -> None:
    class Kinds(Watched):
        reasons = (
            "parse_error: no label in 'hm'",
            "refused: content filter",
            "api_error: 500",
            "timeout: 30 s: no answer",
            "connection: reset",
            "no colon",
        )

        def label_logprobs(self, texts: Sequence[str], labels: Sequence[str]) -> LabelLogprobs:
            found = super().label_logprobs(texts, labels)
            found.logprobs[: len(self.reasons)] = np.nan
            return LabelLogprobs(found.logprobs, found.tokens, dict(enumerate(self.reasons)))

    scores = scorer_of(Kinds()).score(PROMPTS[:1], TASK.train)
    kinds = [PARSE_ERROR, REFUSED, API_ERROR, TIMEOUT, API_ERROR, API_ERROR]
    assert scores.status[0].tolist() == kinds + [OK] * 6
    assert [f.status for f in scores.failures] == kinds
    said = ["no label in 'hm'", "content filter", "500", "30 s: no answer", *Kinds.reasons[4:]]
    assert [f.reason for f in scores.failures] == said
    assert scores.counts() == {"parse_error": 1, "refused": 1, "api_error": 3, "timeout": 1}
    assert scores.counts(0) == scores.counts()
    right = np.nansum(scores.values)
    assert scores.mean[0] == right / 6 and scores.mean_with_failures[0] == right / 12


# --- budget -----------------------------------------------------------------------------------


def test_a_batch_is_cut_to_the_prompts_that_fit() -> None:
    model = Watched()
    scorer = scorer_of(model, queries=30)
    scores = scorer.score(PROMPTS, TASK.train)
    assert scores.complete.tolist() == [True, True, False, False, False]
    assert (scores.status[2:] == SKIPPED).all() and np.isnan(scores.values[2:]).all()
    assert scores.label_logprobs is not None and np.isnan(scores.label_logprobs[2:]).all()
    assert scorer.ledger.queries == 24 and len(model.asked[0]) == 24
    with pytest.raises(BudgetExhausted, match="needs 12 queries"):
        scorer.score(PROMPTS[:1], TASK.train)
    assert scorer.score(PROMPTS[:1], TASK.train[:6]).complete.all(), "six queries are left"
    with pytest.raises(BudgetExhausted):
        scorer.score(PROMPTS[:1], TASK.train[:1])


def test_calls_are_a_hard_cap_but_known_answers_need_none() -> None:
    model = Watched()
    scorer = Scorer(TASK, model, TASK.template, ledger=Ledger(Budget(calls=2)), batch_size=12)
    scores = scorer.score(PROMPTS, TASK.train)
    assert [len(batch) for batch in model.asked] == [12, 12] and scorer.ledger.calls == 2
    assert scores.complete.tolist() == [True, True, False, False, False]
    assert scorer.ledger.queries == 24, "skipped prompts are not charged"


def test_tokens_are_a_hard_cap() -> None:
    each = int(
        Watched().count_tokens([TASK.template.render(PROMPTS[0], e) for e in TASK.train]).sum()
    )
    scorer = scorer_of(Watched(), tokens=2 * each + 5)
    same = [Prompt(word) for word in ("alpha", "beta", "gamma", "delta")]
    scores = scorer.score(same, TASK.train)
    assert scores.complete.tolist() == [True, True, False, False]
    assert scorer.ledger.tokens == 2 * each
    with pytest.raises(BudgetExhausted):
        scorer.score([Prompt("one")], TASK.train)
    assert scorer.score(same[:1], TASK.train).complete.all(), "known answers cost no tokens"


def test_generated_tokens_count_as_their_longest_before_they_are_known() -> None:
    task = replace(TASK, labels=None, verbalizers={}, max_new_tokens=100)
    scorer = scorer_of(Watched(), task, tokens=1000)
    with pytest.raises(BudgetExhausted):
        scorer.score(PROMPTS[:1], task.train)
    assert scorer.ledger.tokens == 0


def test_time_is_checked_before_every_call() -> None:
    class Slow(Watched):
        def label_logprobs(self, texts: Sequence[str], labels: Sequence[str]) -> LabelLogprobs:
            scorer.ledger.seconds_before += 10.0
            return super().label_logprobs(texts, labels)

    model = Slow()
    scorer = Scorer(TASK, model, TASK.template, ledger=Ledger(Budget(seconds=15.0)), batch_size=12)
    scores = scorer.score(PROMPTS, TASK.train)
    assert len(model.asked) == 2 and int(scores.complete.sum()) == 2
    assert scorer.ledger.exhausted


@given(
    caps=st.fixed_dictionaries(
        {},
        optional={
            "queries": st.integers(1, 150),
            "calls": st.integers(1, 6),
            "tokens": st.integers(1, 600),
        },
    ),
    batch=st.integers(1, 40),
    asks=st.lists(
        st.tuples(st.lists(st.integers(0, 7), min_size=1, max_size=6), st.integers(1, 12)),
        min_size=1,
        max_size=6,
    ),
)
@settings(max_examples=60, deadline=None)
def test_no_cap_is_ever_crossed(
    caps: dict[str, int], batch: int, asks: list[tuple[list[int], int]]
) -> None:
    words = ["", "alpha", "beta", "gamma", "one", "two", "alpha one", "beta two"]
    free = scorer_of(TransparentModel())
    model = TransparentModel()
    ledger = Ledger(Budget(**caps))
    scorer = Scorer(TASK, model, TASK.template, ledger=ledger, batch_size=batch)
    for chosen, n in asks:
        prompts = [Prompt(words[i]) for i in chosen]
        before = ledger.queries
        try:
            scores = scorer.score(prompts, TASK.train[:n])
        except BudgetExhausted:
            assert ledger.queries == before
            continue
        want = free.score(prompts, TASK.train[:n]).values
        done = scores.complete
        np.testing.assert_array_equal(scores.values[done], want[done])
        assert np.isnan(scores.values[~done]).all() and done.any()
        assert ledger.queries - before == int(done.sum()) * n
    for kind, cap in caps.items():
        assert getattr(ledger, kind) <= cap
    assert ledger.calls == model.calls


# --- fit of the parts -------------------------------------------------------------------------


def test_parts_that_do_not_fit_are_refused(tmp_path_factory: pytest.TempPathFactory) -> None:
    with pytest.raises(ModelError, match=r"has a \{mask\}, but .transparent.*causal model"):
        Scorer(TASK, TransparentModel(), Template("{input} {prompt} {mask}"))
    with pytest.raises(TaskError, match="no examples"):
        scorer_of(TransparentModel()).score(PROMPTS, [])
    masked = load_model(build(tmp_path_factory.mktemp("bert"), "masked", "bert"))
    with pytest.raises(ModelError, match="a mask is for masked models, and they need one"):
        Scorer(TASK, masked, TASK.template)
    with pytest.raises(ModelError, match="exactly one token"):
        Scorer(TASK, masked, Template("{input} {prompt} {mask} ."))  # "minus" is no token of it
    words = replace(TASK, verbalizers={"minus": "bad", "plus": "great"})
    scorer = Scorer(words, masked, Template("{input} {prompt} {mask} ."))
    broken = scorer.score([Prompt("one"), Prompt("a <mask>")], TASK.train)
    assert (broken.status[0] == OK).all() and (broken.status[1] == REFUSED).all()
    assert len(broken.failures) == 12 and "2 mask tokens" in broken.failures[0].reason


def test_the_scorer_holds_no_test_split() -> None:
    scorer = scorer_of(TransparentModel())
    with pytest.raises(TaskError, match="test split"):
        _ = scorer.task.test


def test_no_prompts_are_no_scores() -> None:
    scores = scorer_of(TransparentModel()).score([], TASK.train)
    assert len(scores) == 0 and scores.values.shape == (0, 12)


# --- cache ------------------------------------------------------------------------------------


@given(
    asks=st.lists(
        st.tuples(st.integers(0, 4), st.lists(st.integers(0, 9), min_size=1, max_size=6)),
        max_size=40,
    ),
    limit=st.integers(0, 30),
)
@settings(deadline=None)
def test_the_cache_returns_what_was_written_or_nothing(
    asks: list[tuple[int, list[int]]], limit: int
) -> None:
    cache = AnswerCache(limit)
    rows = [Example(str(i), "x") for i in range(10)]
    for number, wanted in asks:
        prompt, examples = Prompt(str(number)), tuple(rows[i] for i in wanted)
        columns = cache.columns(examples)
        values, answers = np.full(len(wanted), np.nan), np.full((len(wanted), 2), np.nan)
        hit = cache.read(prompt, columns, values, answers)
        missing = np.ones(len(wanted), bool) if hit is None else ~hit
        truth = np.array([100.0 * number + i for i in wanted])
        np.testing.assert_array_equal(values[~missing], truth[~missing])
        np.testing.assert_array_equal(answers[~missing, 1], truth[~missing] + 0.5)
        both = np.stack([truth, truth + 0.5], axis=1)
        cache.write(prompt, columns[missing], truth[missing], both[missing])
        assert len(cache) <= max(limit, 10)


# --- problems -----------------------------------------------------------------------------------


def test_prompts_may_be_texts_for_a_problem() -> None:
    problem = Problem(TASK, TransparentModel())
    want = problem.score([Prompt("alpha"), Prompt("one")]).mean.tolist()
    assert problem.score(["alpha", Prompt("one")]).mean.tolist() == want
    assert problem.score("alpha").mean.tolist() == want[:1]
    with pytest.raises(PromptGymError, match="expected a prompt, a string or a dict, got int"):
        problem.score([3])  # type: ignore[list-item]


def test_a_problem_needs_a_template_that_shows_the_prompt() -> None:
    with pytest.raises(TemplateError, match=r"has no \{prompt\}: whatever is learned"):
        Problem(TASK, TransparentModel(), template="{input}")
    with pytest.raises(TemplateError, match=r"has no \{prompt\}"):
        gym.make("PromptEdit-v0", template="{input}")


@pytest.mark.parametrize("bad", [["a", "a"], ["a b", "c"], ["a", ""], [" a"]])
def test_a_problem_refuses_words_that_no_environment_takes(bad: list[str]) -> None:
    with pytest.raises(ConfigError, match="the vocabulary holds"):
        Problem(TASK, TransparentModel(), vocabulary=bad)


def test_an_unknown_argument_is_told_what_there_is_but_not_self() -> None:
    with pytest.raises(ConfigError, match="did you mean 'budget'") as said:
        Problem(TASK, TransparentModel(), bugdet=1)  # type: ignore[call-arg]
    assert "It takes: task, model, reward" in str(said.value)
    with pytest.raises(ConfigError, match="max_failures takes float, got 'x'"):
        Problem(TASK, TransparentModel(), max_failures="x")  # type: ignore[arg-type]
