"""`Scorer`: the single path by which prompts meet a model, batched, cached and within a budget."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from promptgym.errors import BudgetExhausted, ModelError, TaskError
from promptgym.llms import LanguageModel, Sampling
from promptgym.prompts import Example, Prompt, Template
from promptgym.scoring.cache import AnswerCache, distinct
from promptgym.scoring.ledger import Ledger
from promptgym.scoring.scores import OK, SKIPPED, Failure, Scores, status_of
from promptgym.tasks import Task
from promptgym.types import FloatArray, IntArray, ObjectArray, StatusArray

TIMED_BATCH = 256  # texts of a model call under a cap on seconds: what may overrun it


class Scorer:
    """Prompts x examples -> `Scores`, everything unknown in as few model calls as possible.

    **Answers.** With labels, the prediction is the label of largest log-probability (the first one
    of a tie) and the task's metric pays it; without, the model generates, the completion is
    stripped and the metric pays that. A failed pair is NaN, a status that says how it failed and a
    record; it is asked anew next time. Equal texts are asked once, known answers not at all.

    **Budget.** Caps are hard and whole prompts are the unit: a prompt is scored on every example or
    `SKIPPED`. *Queries* are charged for every pair, known or not; prompts that no longer fit are
    skipped from the end. One *call* is one request to the model (at most `batch_size` texts, or one
    prompt's if that is more); calls, *tokens* (those of the texts, special ones left out, plus
    generated ones) and *seconds* are checked before every call. A call is cut to the prompts whose
    tokens fit (a generated answer is counted as its longest), so tokens never cross their cap. With
    a cap on seconds a call holds at most 256 texts or one prompt; the call during which time runs
    out is finished. Once any cap is reached, `score` raises; a prompt whose answers are all known
    needs no call, and is scored beside others that are skipped.

    Attributes:
        ledger: what was spent.
        task: the task, its test split closed.
        cache: the answers known.
    """

    def __init__(
        self,
        task: Task,
        model: LanguageModel,
        template: Template,
        *,
        ledger: Ledger | None = None,
        batch_size: int = 8192,
        cache_pairs: int = 2_000_000,
    ) -> None:
        """Bind task, model and template; refuse those that do not fit together.

        Args:
            task: the task; its test split is closed here.
            model: the frozen model.
            template: how prompts meet examples.
            ledger: where spending is booked; default: one without caps.
            batch_size: texts of one model call, the model cuts them into forward passes.
            cache_pairs: answers kept in memory; 0 keeps none.

        Raises:
            ModelError: the model cannot tell the labels apart, or its kind and the template differ.
        """
        self.task = task.closed()
        self.model = model
        self.template = template
        self.ledger = ledger if ledger is not None else Ledger()
        self.batch_size = batch_size
        self.cache = AnswerCache(cache_pairs)
        if template.has_mask != (model.kind == "masked"):
            raise ModelError(
                f"template {template.text!r} has {'a' if template.has_mask else 'no'} {{mask}}, "
                f"but {model.name!r} is a {model.kind} model; "
                "a mask is for masked models, and they need one"
            )
        self.words = tuple(task.words_for(label) for label in task.labels or ())
        if task.labels is not None:
            model.check_labels(self.words)
        self._paid = _payments(task)
        self._sampling = Sampling(max_new_tokens=task.max_new_tokens, stop=task.stop)
        self._lengths: dict[str, int] = {}

    def score(self, prompts: Sequence[Prompt], examples: Sequence[Example]) -> Scores:
        """Score every prompt on every example.

        Args:
            prompts: P prompts; repeats are charged, but asked once.
            examples: E examples, at least one.

        Returns:
            Scores of all P prompts; those beyond the budget are `SKIPPED` rows of NaN.

        Raises:
            BudgetExhausted: not even one prompt fits.
            TaskError: no examples.
        """
        prompts, examples = tuple(prompts), tuple(examples)
        if not examples:
            raise TaskError(f"task {self.task.name!r}: no examples to score prompts on")
        fits = self.ledger.fitting(len(prompts), len(examples))
        unique, index = distinct(prompts[:fits])
        work = self._open(unique, examples)
        self._ask_missing(work)
        answered = (work.status != SKIPPED).all(axis=1)
        work.status[~answered], work.values[~answered] = SKIPPED, np.nan
        rows = int(answered[index].sum())
        if prompts and not rows:
            raise BudgetExhausted(
                f"budget spent: {self.ledger.snapshot()} of {self.ledger.budget}; the next prompt "
                f"needs more than is left"
            )
        self.ledger.charge(queries=rows * len(examples))
        return self._scores(prompts, examples, work, index)

    def _open(self, unique: list[Prompt], examples: tuple[Example, ...]) -> _Work:
        """Look up what is known of the prompts."""
        shape = (len(unique), len(examples))
        answers: FloatArray | ObjectArray
        if self.task.labels is None:
            answers = np.full(shape, None, dtype=np.object_)
        else:
            answers = np.full((*shape, len(self.task.labels)), np.nan)
        work = _Work(
            prompts=unique,
            examples=examples,
            columns=self.cache.columns(examples),
            values=np.full(shape, np.nan),
            status=np.full(shape, SKIPPED, dtype=np.int8),
            answers=answers,
        )
        for row, prompt in enumerate(unique):
            hit = self.cache.read(prompt, work.columns, work.values[row], work.answers[row])
            if hit is not None:
                work.status[row, hit] = OK
        return work

    def _ask_missing(self, work: _Work) -> None:
        """Ask the model for what is unknown, in calls of whole prompts, while the budget lasts."""
        rows = [int(r) for r in np.flatnonzero((work.status != OK).any(axis=1))]
        while rows and not self.ledger.exhausted:
            batch = self._next_batch(work, rows)
            if not batch:
                return
            self._ask(work, batch)

    def _next_batch(self, work: _Work, rows: list[int]) -> list[_Row]:
        """Take the rows of one call off the front of `rows`; none if no tokens are left for one."""
        limit = self.batch_size
        if self.ledger.budget.seconds is not None:
            limit = min(limit, TIMED_BATCH)
        cap = self.ledger.budget.tokens
        left = None if cap is None else cap - self.ledger.tokens
        batch: list[_Row] = []
        pairs = 0
        while rows:
            row = rows[0]
            places = np.flatnonzero(work.status[row] != OK)
            if batch and pairs + len(places) > limit:
                break
            texts = [self._render(work.prompts[row], work.examples[i]) for i in places]
            if left is not None:
                left -= int(self.model.count_tokens(texts).sum())
                if self.task.labels is None:
                    left -= len(texts) * self._sampling.max_new_tokens
                if left < 0:
                    rows.clear()
                    break
            rows.pop(0)
            pairs += len(places)
            batch.append(_Row(row, places, texts))
        return batch

    def _render(self, prompt: Prompt, example: Example) -> str:
        """Return the text the model reads."""
        return self.template.render(
            prompt, example, mask=self.model.mask_token, verbalizers=self.task.verbalizers
        )

    def _ask(self, work: _Work, batch: list[_Row]) -> None:
        """Send one call and write what came back."""
        place: dict[str, int] = {}
        index = np.array([place.setdefault(t, len(place)) for row in batch for t in row.texts])
        texts = list(place)
        self.ledger.charge(calls=1)
        answers: FloatArray | ObjectArray
        if self.task.labels is None:
            completions = self.model.generate(texts, self._sampling)
            read = int(self.model.count_tokens(texts).sum())
            self.ledger.charge(tokens=read + sum(c.tokens for c in completions))
            reasons = {i: c.error for i, c in enumerate(completions) if c.error is not None}
            answers = np.array([c.text.strip() for c in completions], dtype=np.object_)
        else:
            result = self.model.label_logprobs(texts, self.words)
            self.ledger.charge(tokens=int(result.tokens.sum()))
            answers = result.logprobs
            reasons = dict(result.failures)
            for i in np.flatnonzero(np.isnan(answers).any(axis=1)).tolist():
                reasons.setdefault(i, f"parse_error: {self.model.name} answered NaN")
        start = 0
        for row in batch:
            self._write(work, row, answers, index[start : start + len(row.texts)], reasons)
            start += len(row.texts)

    def _write(
        self,
        work: _Work,
        row: _Row,
        answers: FloatArray | ObjectArray,
        index: IntArray,
        reasons: Mapping[int, str],
    ) -> None:
        """Write one prompt's answers into the work and the cache; failures into the work only."""
        good = np.array([i not in reasons for i in index.tolist()]) if reasons else slice(None)
        for place, i in zip(row.places.tolist(), index.tolist(), strict=True):
            if i in reasons:
                work.status[row.number, place], reason = status_of(reasons[i])
                work.failures[row.number, place] = reason
        places, got = row.places[good], answers[index[good]]
        values = self._pay(got, [work.examples[i] for i in places.tolist()])
        work.status[row.number, places] = OK
        work.values[row.number, places] = values
        work.answers[row.number, places] = got
        self.cache.write(work.prompts[row.number], work.columns[places], values, got)

    def _pay(self, answers: FloatArray | ObjectArray, examples: Sequence[Example]) -> FloatArray:
        """Return the metric of answers to examples."""
        if self._paid is not None:
            gold = np.array(self.task.target_index(tuple(examples)), dtype=np.int64)
            return np.asarray(self._paid[answers.argmax(axis=1), gold])
        score = self.task.metric.score
        pairs = zip(answers.tolist(), examples, strict=True)
        return np.array([score(text, e) for text, e in pairs], dtype=np.float64)

    def _scores(
        self,
        prompts: tuple[Prompt, ...],
        examples: tuple[Example, ...],
        work: _Work,
        index: IntArray,
    ) -> Scores:
        """Spread the answers over repeated prompts and add the rows the budget did not reach."""
        shape = (len(prompts), len(examples))
        values = np.full(shape, np.nan)
        status: StatusArray = np.full(shape, SKIPPED, dtype=np.int8)
        answers = np.full((*shape, *work.answers.shape[2:]), None, dtype=work.answers.dtype)
        values[: len(index)] = work.values[index]
        status[: len(index)] = work.status[index]
        answers[: len(index)] = work.answers[index]
        labels = self.task.labels is not None
        failures = (
            [
                Failure(p, e, work.failures[row, e], int(work.status[row, e]))
                for p, row in enumerate(index.tolist())
                for e in range(len(examples))
                if (row, e) in work.failures and work.status[row, e] != SKIPPED
            ]
            if work.failures
            else []
        )
        return Scores(
            prompts=prompts,
            examples=examples,
            metric=self.task.metric,
            values=values,
            status=status,
            label_logprobs=answers if labels else None,
            targets=self._targets(examples) if labels else None,
            completions=None if labels else answers,
            failures=tuple(failures),
            prompt_tokens=self._prompt_tokens(prompts),
        )

    def _targets(self, examples: tuple[Example, ...]) -> IntArray:
        """Return the gold label of every example."""
        return np.array(self.task.target_index(examples), dtype=np.int64)

    def _prompt_tokens(self, prompts: tuple[Prompt, ...]) -> IntArray:
        """Count the tokens of the instructions, each once."""
        known = self._lengths
        new = [t for t in dict.fromkeys(p.instruction for p in prompts) if t not in known]
        if new:
            if len(known) > 1_000_000:
                known.clear()
            known.update(zip(new, self.model.count_tokens(new).tolist(), strict=True))
        return np.array([known[p.instruction] for p in prompts], dtype=np.int64)


def _payments(task: Task) -> FloatArray | None:
    """Return what predicting label i pays when label j is right, (L, L); None for generation."""
    if task.labels is None:
        return None
    pay = task.metric.per_example
    return np.array([[pay(got, want) for want in task.labels] for got in task.labels])


@dataclass(slots=True)
class _Work:
    """One `score` call under way: U different prompts x E examples."""

    prompts: list[Prompt]
    examples: tuple[Example, ...]
    columns: IntArray
    values: FloatArray
    status: StatusArray
    answers: FloatArray | ObjectArray
    failures: dict[tuple[int, int], str] = field(default_factory=dict)


@dataclass(slots=True)
class _Row:
    """The part of a model call that is one prompt: its row, the examples asked, their texts."""

    number: int
    places: IntArray
    texts: list[str]
