"""Robustness: formulas and plain loops on the transparent model; the embedded models."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from promptgym.errors import ConfigError, ModelError, TaskError
from promptgym.evaluation.formats import FORMATS, Format
from promptgym.evaluation.robustness import (
    KINDS,
    Variants,
    kept,
    measure_robustness,
    perturbed,
)
from promptgym.evaluation.sensitivity import label_lengths, posix
from promptgym.llms import Completion, LabelLogprobs, LanguageModel, Sampling, load_model
from promptgym.prompts import Example, Prompt, Template
from promptgym.tasks import Task, load_task
from promptgym.testing import TransparentModel, transparent_task
from promptgym.testing.transparent import LABELS, WEIGHTS
from promptgym.types import FloatArray, IntArray

GOOD = "alpha beta gamma delta"
BIAS = -0.45  # no sum of weights and hardness is 0, which would be a tie


class Model(TransparentModel):
    """Counts characters as tokens, so that lengths matter; fails where told to."""

    def __init__(self, bias: float = BIAS, failing: str = "never", name: str = "") -> None:
        """Fail on texts that do not hold a word."""
        super().__init__(bias=bias)
        self.name = name or self.name
        self.failing = failing

    def count_tokens(self, texts: Sequence[str]) -> IntArray:
        """Count characters."""
        return np.array([len(t) for t in texts], dtype=np.int64)

    def label_logprobs(self, texts: Sequence[str], labels: Sequence[str]) -> LabelLogprobs:
        """Answer NaN where told to."""
        found = super().label_logprobs(texts, labels)
        bad = [i for i, t in enumerate(texts) if self.failing != "never" and self.failing not in t]
        found.logprobs[bad] = np.nan
        return LabelLogprobs(found.logprobs, found.tokens, dict.fromkeys(bad, "timeout: 30 s"))


class Writer(Model):
    """Answers with the likelier label, or nothing where the input says so."""

    def generate(self, texts: Sequence[str], sampling: Sampling) -> list[Completion]:
        """Write a label; an empty text about `test3`."""
        found = super().generate(texts, sampling)
        return [
            replace(c, text="") if "test3 " in t else c for c, t in zip(found, texts, strict=True)
        ]


def accuracy(instruction: str, bias: float = BIAS) -> float:
    """Return the metric that the transparent model has by its formula, with 20 examples."""
    z = bias + sum(WEIGHTS.get(word, 0.0) for word in set(instruction.split()))
    return float(np.mean([z > hard / 2 for hard in range(5)]))


def measure(prompts: Any = GOOD, model: Any = None, **options: Any) -> list[dict[str, Any]]:
    """Measure on the transparent task."""
    task = options.pop("task", None) or transparent_task()
    return measure_robustness(prompts, task, model or Model(), **options)


def written(task: Task) -> Task:
    """Return the task with generated answers."""
    return replace(task, labels=None, verbalizers={}, template=Template("{input} {prompt} :"))


def plain_posix(
    model: LanguageModel,
    texts: Sequence[Sequence[str]],
    answers: Sequence[Sequence[str]],
    likelihood: Any,
) -> float:
    """Return the index by two loops over prompts, as the formula is written."""
    psis = []
    for e in range(len(texts[0])):
        known = [i for i in range(len(texts)) if answers[i][e]]
        total, n = 0.0, len(known)
        for i in known:
            for j in known:
                y = answers[j][e]
                ratio = likelihood(texts[i][e], y) - likelihood(texts[j][e], y)
                total += abs(ratio) / int(model.count_tokens([y])[0])
        if n > 1:
            psis.append(total / (n * (n - 1)))
    return float(np.mean(psis))


def test_drops_and_spread_are_those_of_the_formula() -> None:
    [row] = measure(seed=5, variants=6)
    assert row["value"] == accuracy(GOOD) == 1.0
    for kind in KINDS:
        variants = perturbed(GOOD, kind, seed=5, variants=6, keep=kept(transparent_task()))
        values = [accuracy(v.instruction) for v in variants]
        assert row[kind]["variants"] == [
            {"prompt": v.to_json(), "value": pytest.approx(value)}
            for v, value in zip(variants, values, strict=True)
        ]
        drops = [1 - value / row["value"] for value in values]
        assert row[kind]["drop"] == pytest.approx(np.mean(drops))
        assert row[kind]["worst"] == pytest.approx(max(drops))
    assert row["character"]["drop"] > 0.2 > row["sentence"]["drop"] == 0
    found = {json.dumps(v["format"]): v["value"] for v in row["format"]["variants"]}
    assert len(found) == FORMATS
    for form, value in found.items():
        prompt = Format(**json.loads(form)).apply(Prompt(GOOD))
        assert value == pytest.approx(accuracy(prompt.instruction))
    low, high = min(found.values()), max(found.values())
    assert [row["format"][k] for k in ("low", "high", "spread")] == [low, high, high - low]
    assert high - low > 0


def test_posix_of_labels_is_that_of_a_double_loop() -> None:
    task, model = transparent_task(), Model()
    [row] = measure([GOOD], model, variants=4)
    prompts = Variants.of(GOOD, task, variants=4).same_intent
    assert len(prompts) == 17
    texts = [[task.template.render(p, e) for e in task.test] for p in prompts]

    def likelihood(text: str, label: str) -> float:
        return float(model.label_logprobs([text], [label]).logprobs[0, 0])

    answers = [[max(LABELS, key=lambda y: likelihood(t, y)) for t in row] for row in texts]
    assert row["posix"] == pytest.approx(plain_posix(model, texts, answers, likelihood))
    assert row["posix"] > 0.01


def test_posix_of_written_answers_is_that_of_a_double_loop() -> None:
    task, model = written(transparent_task()), Writer()
    [row] = measure([GOOD], model, task=task, variants=2)
    prompts = Variants.of(GOOD, task, variants=2).same_intent
    texts = [[task.template.render(p, e) for e in task.test] for p in prompts]
    answers = [[c.text for c in model.generate(t, Sampling())] for t in texts]
    assert any("" in row for row in answers)

    def likelihood(text: str, answer: str) -> float:
        return float(model.loglikelihood([text], [" " + answer])[0])

    assert row["posix"] == pytest.approx(plain_posix(model, texts, answers, likelihood))
    pairs = row["spent"]["queries"] - 20 * len(Variants.of(GOOD, task, variants=2).distinct)
    assert 0 < pairs <= 19 * len(prompts) * 2  # every text with the two answers there are, once
    assert row["spent"]["calls"] == 2


def test_posix_by_hand() -> None:
    logp = np.array([[[-1.0], [-4.0]], [[-3.0], [-2.0]]])  # [i, j]: prompt i on answer j
    assert posix(logp, np.array([[2], [1]])) == pytest.approx((2 / 2 + 2 / 1) / 2)
    logp[1, 1] = np.nan
    assert np.isnan(posix(logp, np.array([[2], [1]])))
    assert posix(np.zeros((3, 3, 4)), np.ones((3, 4))) == 0
    two = np.zeros((2, 2, 2))
    two[0, 1] = [3.0, np.nan]  # the second example has a likelihood that nobody knows
    assert posix(two, np.ones((2, 2))) == 1.5
    two[0, 1, 0] = -np.inf
    assert np.isinf(posix(two, np.ones((2, 2))))


def test_label_lengths_undo_what_a_model_has_divided_by() -> None:
    words = ["very bad", "good"]
    found = [
        label_lengths(load_model("tiny", normalize=how), words)
        for how in ("none", "tokens", "characters")
    ]
    assert found == [[2.0, 1.0], [1.0, 1.0], [2 / 8, 1 / 4]]


def test_what_was_not_measured_is_none_and_never_0() -> None:
    [row] = measure("alpha one", Model(failing="alpha one"), variants=6)
    values = [v["value"] for kind in KINDS for v in row[kind]["variants"]]
    assert row["value"] == accuracy("alpha one") and None in values
    assert row["word"]["drop"] is not None or all(
        v["value"] is None for v in row["word"]["variants"]
    )
    [lost] = measure("alpha one", Model(failing="nowhere"))
    assert lost["value"] is None and lost["posix"] is None
    assert lost["character"]["drop"] is lost["character"]["worst"] is None
    assert lost["format"]["spread"] is lost["format"]["low"] is None
    assert [v["value"] for v in lost["word"]["variants"]] == [None] * 3


def test_a_prompt_that_is_never_right_has_no_drop() -> None:
    [row] = measure(GOOD, Model(bias=-9.0), transfer=[Model(name="other")])
    assert row["value"] == 0 and row["word"]["variants"][0]["value"] == 0
    assert row["word"]["drop"] is row["word"]["worst"] is None
    assert row["transfer"] == {"other": {"value": 1.0, "drop": None}}


def test_the_empty_prompt_has_sentences_only() -> None:
    [row] = measure("")
    assert row["character"] is row["word"] is row["semantic"] is row["format"] is None
    assert row["sentence"]["variants"] and row["posix"] is not None


def test_everything_is_asked_once_in_one_call_and_booked_apart() -> None:
    task, model = transparent_task(), Model()
    rows = measure([GOOD, "one two", GOOD], model)
    distinct = {p for text in (GOOD, "one two") for p in Variants.of(text, task).distinct}
    assert model.calls == rows[0]["spent"]["calls"] == 1
    assert rows[0]["spent"]["queries"] == 20 * len(distinct)
    assert rows[0]["spent"] == rows[1]["spent"] and rows[0] == rows[2]


def test_a_prompt_is_measured_the_same_whatever_else_is() -> None:
    alone, [_, beside] = measure([GOOD])[0], measure(["one two", GOOD])
    for row in (alone, beside):
        del row["spent"]
    assert alone == beside
    other = measure([GOOD], seed=1)[0]
    assert alone["character"]["variants"] != other["character"]["variants"]


def test_transfer_is_to_other_models_of_either_kind() -> None:
    weak = Model(bias=BIAS - 1, name="weak")
    [row] = measure("alpha beta", transfer=[weak])
    own, other = accuracy("alpha beta"), accuracy("alpha beta", BIAS - 1)
    assert row["value"] == pytest.approx(own) and other < own
    assert row["transfer"] == {
        "weak": {"value": pytest.approx(other), "drop": pytest.approx(1 - other / own)}
    }
    [row] = measure_robustness(
        "carefully author", "author", "tiny", limit=20, variants=1, transfer=["tiny-masked"],
        template="{input} <instruction> {prompt} <answer>",
    )  # fmt: skip
    masked = measure_robustness("carefully author", "author", "tiny-masked", limit=20, variants=1)
    assert row["transfer"]["tiny-masked"]["value"] == masked[0]["value"]


def test_a_model_that_cannot_do_the_task_is_said_to_be_one() -> None:
    [row] = measure_robustness(
        "write the contrast word", "words-opposite", "tiny", limit=3, variants=1,
        transfer=["tiny-masked"],
    )  # fmt: skip
    found = row["transfer"]["tiny-masked"]
    assert found["value"] is found["drop"] is None and "masked model" in found["reason"]


@pytest.mark.parametrize(("model", "transfer"), [("tiny", "tiny-masked"), ("tiny-masked", "tiny")])
def test_the_embedded_models(model: str, transfer: str) -> None:
    prompts = ["what is the opinion of the author ?", ""]
    rows = measure_robustness(
        prompts, "author", model, split="dev", limit=12, variants=2, transfer=[transfer]
    )
    assert json.loads(json.dumps(rows, allow_nan=False)) == rows
    task, asked = load_task("author"), load_model(model)
    layout = task.masked_template if model == "tiny-masked" else task.template
    assert layout is not None
    for prompt, row in zip(prompts, rows, strict=True):
        assert (row["split"], row["examples"], row["seed"]) == ("dev", 12, 0)
        assert 0 <= row["value"] <= 1 and 0 <= row["transfer"][transfer]["value"] <= 1
        asked_of = Variants.of(prompt, task, variants=2).same_intent
        texts = [
            [layout.render(p, e, mask=asked.mask_token) for e in task.dev[:12]] for p in asked_of
        ]
        words = [task.words_for(label) for label in task.labels or ()]
        found = {t: asked.label_logprobs([t], words).logprobs[0] for row in texts for t in row}
        answers = [[words[int(found[t].argmax())] for t in row] for row in texts]
        index = plain_posix(
            asked,
            texts,
            answers,
            lambda text, y: float(found[text][words.index(y)]),  # noqa: B023
        )
        assert row["posix"] == pytest.approx(index, rel=1e-4)


def test_the_embedded_model_writes() -> None:
    prompt, task, model = "write the contrast word", load_task("words-opposite"), load_model("tiny")
    [row] = measure_robustness(prompt, task, model, limit=4, variants=1)
    prompts = Variants.of(prompt, task, variants=1).same_intent
    texts = [[task.template.render(p, e) for e in task.test[:4]] for p in prompts]
    how = Sampling(max_new_tokens=task.max_new_tokens, stop=task.stop)
    answers = [[c.text.strip() for c in model.generate(t, how)] for t in texts]

    def likelihood(text: str, answer: str) -> float:
        return float(model.loglikelihood([text], [" " + answer])[0])

    assert row["posix"] == pytest.approx(plain_posix(model, texts, answers, likelihood), rel=1e-3)
    assert json.loads(json.dumps(row, allow_nan=False)) == row


def test_a_model_without_likelihoods_has_no_posix_of_written_answers() -> None:
    class Silent(Writer):
        def loglikelihood(
            self, contexts: Sequence[str], continuations: Sequence[str]
        ) -> FloatArray:
            raise ModelError("no likelihoods")

    [row] = measure(model=Silent(), task=written(transparent_task()))
    assert row["posix"] is None and row["word"]["drop"] is not None


def test_a_model_that_only_answers_has_no_posix() -> None:
    class Answering(Model):
        def label_logprobs(self, texts: Sequence[str], labels: Sequence[str]) -> LabelLogprobs:
            found = super().label_logprobs(texts, labels)
            best = found.logprobs.argmax(axis=1)
            answers = np.where(np.arange(len(labels)) == best[:, None], 0.0, -np.inf)
            return LabelLogprobs(answers, found.tokens)

    [row] = measure("one two", Answering(bias=9.0))  # whatever the wording, one answer
    assert row["posix"] is None and row["value"] == 1


def test_what_likelihoods_cost_is_booked() -> None:
    @dataclass
    class Usage:
        known_usd: float = 0.0
        unpriced: int = 0

    class Paid(Writer):
        def __init__(self) -> None:
            super().__init__()
            self.usage = Usage()

        def generate(self, texts: Sequence[str], sampling: Sampling) -> list[Completion]:
            self.usage.known_usd += 1.0
            return super().generate(texts, sampling)

        def loglikelihood(
            self, contexts: Sequence[str], continuations: Sequence[str]
        ) -> FloatArray:
            self.usage.known_usd += 0.25
            self.usage.unpriced += 1
            return super().loglikelihood(contexts, continuations)

    model = Paid()
    rows = measure([GOOD, GOOD], model, task=written(transparent_task()), cache=False)
    assert rows[0]["spent"]["usd"] == model.usage.known_usd == 1.25  # a prompt twice, asked once
    assert rows[0]["spent"]["unpriced"] == 1


def test_a_lasting_cache_answers_in_the_models_place(tmp_path: Path) -> None:
    first, second = Model(), Model()
    rows = [measure(model=m, cache=tmp_path)[0] for m in (first, second)]
    assert (first.calls, second.calls) == (1, 0)
    for row in rows:
        row["spent"].pop("seconds")
    assert rows[0] == rows[1]


def test_demonstrations_stand_in_every_variant() -> None:
    task = transparent_task()
    task = replace(task, template=Template("{demonstrations}{input} {prompt}"))
    prompt = Prompt("alpha beta", (Example("other plus", "plus"),))
    [row] = measure([prompt], task=task)
    variants = [v["prompt"] for kind in KINDS for v in row[kind]["variants"]]
    assert all(v["demonstrations"] == prompt.to_json()["demonstrations"] for v in variants)


def test_mistakes_are_refused_by_name() -> None:
    with pytest.raises(TaskError, match="unknown split 'tset'"):
        measure(split="tset")
    with pytest.raises(TaskError, match="test split cannot be reached"):
        measure(task=transparent_task().closed())
    with pytest.raises(ConfigError, match="variants must be at least 1, got 0"):
        measure(variants=0)
    with pytest.raises(ConfigError, match="seed must be 0 or more, got -1"):
        measure(seed=-1)
    with pytest.raises(ConfigError, match="limit must be at least 1"):
        measure(limit=0)
    with pytest.raises(ConfigError, match="no prompts to measure"):
        measure([])
    with pytest.raises(ModelError, match="unknown model 'tinny'"):
        measure(transfer=["tinny"])
    with pytest.raises(ConfigError, match="transfer"):
        measure(transfer="tiny")
