"""`Scorer`: the single path by which prompts meet a model, batched, cached and within a budget."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from promptgym.errors import BudgetExhausted, ConfigError, ModelError, TaskError, TooManyFailures
from promptgym.llms import LanguageModel, Sampling
from promptgym.prompts import Example, Prompt, PromptsLike, Template, prompts_of
from promptgym.scoring.asking import Answers, Asker
from promptgym.scoring.cache import AnswerCache, distinct
from promptgym.scoring.flights import Flights
from promptgym.scoring.ledger import Ledger
from promptgym.scoring.outcomes import Outcomes
from promptgym.scoring.recall import recall
from promptgym.scoring.scores import OK, SKIPPED, STATUS_NAMES, Failure, Scores, status_of
from promptgym.scoring.store import ScoreStore, Setting, Shelf
from promptgym.scoring.work import Batch, Row, Work
from promptgym.tasks import Task
from promptgym.types import FloatArray, IntArray, ObjectArray, StatusArray

TIMED_BATCH = 256  # texts of a model call under a cap on seconds or money: what may overrun it
JUDGED_FROM = 256  # evaluations before their failures can stop a run: one bad prompt does not


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
    generated ones), *seconds* and money are checked before every call. A call is cut to the prompts
    whose tokens fit (a generated answer is counted as its longest), so tokens never cross their
    cap. With a cap on seconds or money a call holds at most 256 texts or one prompt; the call
    during which they run out is finished. Once any cap is reached, `score` raises; a prompt whose
    answers are all known needs no call, and is scored beside others that are skipped.

    **Caches.** The answers of this scorer are kept in memory. Behind that, a `ScoreStore` may keep
    them for other runs: it stands in for the model, so that a call that it answers is charged (but
    for money) as if the model had.

    **Failures.** When more than a share of all evaluations of this scorer have failed (256 at
    least), `score` raises; what was answered stays in the caches.

    **Threads** may share a scorer: what one is asking about, others wait for.

    Attributes:
        ledger: what was spent.
        task: the task, its test split closed.
        cache: the answers known.
        shelf: this scorer's part of the store; None without a store.
        outcomes: evaluations asked so far, by name of their status.
        paying: called while a model that counts money is asked, its ledger up to date, with the
            number of requests of which nothing is known yet; None for nobody.
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
        store: ScoreStore | None = None,
        sampling: Sampling | None = None,
        max_failures: float = 0.5,
    ) -> None:
        """Bind task, model and template; refuse those that do not fit together.

        Args:
            task: the task; its test split is closed here.
            model: the frozen model.
            template: how prompts meet examples.
            ledger: where spending is booked; default: one without caps.
            batch_size: texts of one model call, the model cuts them into forward passes.
            cache_pairs: answers kept in memory; 0 keeps none.
            store: answers kept for other runs; None keeps none.
            sampling: how completions are drawn; default: greedy, as long as the task says. Its seed
                is the sample index.
            max_failures: share of failed evaluations above which `score` raises; 1.0 never does.

        Raises:
            ModelError: the model cannot tell the labels apart, its kind and the template differ, or
                it is masked and the task has no labels.
            ConfigError: the budget caps money and the model does not count any, or a number that
                means nothing.
        """
        _check_numbers(batch_size, cache_pairs, max_failures)
        self.task = task.closed()
        self.model = model
        self.template = template
        self.ledger = ledger if ledger is not None else Ledger()
        self.batch_size = batch_size
        self.max_failures = max_failures
        self.outcomes = Outcomes()
        self.paying: Callable[[int], None] | None = None
        self.cache = AnswerCache(cache_pairs)
        if template.has_mask != (model.kind == "masked"):
            raise ModelError(
                f"template {template.text!r} has {'a' if template.has_mask else 'no'} {{mask}}, "
                f"but {model.name!r} is a {model.kind} model; "
                "a mask is for masked models, and they need one"
            )
        if task.labels is None and model.kind == "masked":
            raise ModelError(
                f"task {task.name!r} has no labels and is answered by writing, and {model.name!r} "
                "is a masked model, which writes nothing; give the task labels, or use a causal or "
                "encoder-decoder model"
            )
        self.words = tuple(task.words_for(label) for label in task.labels or ())
        if task.labels is not None:
            model.check_labels(self.words)
        words = None if task.labels is None else self.words
        if sampling is None:
            sampling = Sampling(max_new_tokens=task.max_new_tokens, stop=task.stop)
        self._asker = Asker(model, words, sampling)
        self._asker.charge_money(self.ledger)  # nothing yet: refuses a cap that cannot be kept
        setting = Setting.of(model, template, words, task.verbalizers, sampling)
        self.shelf = None if store is None else Shelf(store, setting)
        self._paid = payments(task)
        self._flights = Flights() if store is None else Flights.shared(store.url, setting.key)
        self._lengths: dict[str, int] = {}

    def score(self, prompts: PromptsLike, examples: Sequence[Example]) -> Scores:
        """Score every prompt on every example.

        Args:
            prompts: P prompts, or texts of prompts; repeats are charged, but asked once.
            examples: E examples, at least one.

        Returns:
            Scores of all P prompts; those beyond the budget are `SKIPPED` rows of NaN.

        Raises:
            BudgetExhausted: not even one prompt fits.
            TaskError: no examples.
            TooManyFailures: too large a share of all evaluations so far failed.
        """
        prompts, examples = prompts_of(prompts), tuple(examples)
        if not examples:
            raise TaskError(f"task {self.task.name!r}: no examples to score prompts on")
        fits, hold = self.ledger.hold_rows(len(prompts), len(examples))
        rows = 0
        try:
            unique, index = distinct(prompts[:fits])
            work = self._open(unique, examples)
            self._ask_missing(work)
            answered = (work.status != SKIPPED).all(axis=1)
            work.status[~answered], work.values[~answered] = SKIPPED, np.nan
            rows = int(answered[index].sum())
        finally:
            self.ledger.settle(hold, queries=rows * len(examples))
        if prompts and not rows:
            raise BudgetExhausted(
                f"budget spent: {self.ledger.snapshot()} of {self.ledger.budget}; the next prompt "
                f"needs more than is left"
            )
        return self._scores(prompts, examples, work, index)

    def _open(self, unique: list[Prompt], examples: tuple[Example, ...]) -> Work:
        """Look up what is known of the prompts."""
        shape = (len(unique), len(examples))
        with self._flights.lock:
            columns = self.cache.columns(examples)
        work = Work(
            prompts=unique,
            examples=examples,
            targets=None if self.task.labels is None else self._targets(examples),
            columns=columns,
            values=np.full(shape, np.nan),
            status=np.full(shape, SKIPPED, dtype=np.int8),
            answers=self._asker.blank(shape),
        )
        self._look_up(work, range(len(unique)))
        return work

    def _look_up(self, work: Work, rows: Sequence[int]) -> None:
        """Fill in what the cache knows of some prompts."""
        with self._flights.lock:
            work.landings = self._flights.landings
            for row in rows:
                hit = self.cache.read(
                    work.prompts[row], work.columns, work.values[row], work.answers[row]
                )
                if hit is not None:
                    work.status[row, hit] = OK

    def _ask_missing(self, work: Work) -> None:
        """Ask the model for what is unknown, in calls of whole prompts, while the budget lasts."""
        flights = self._flights
        rows = work.missing(range(len(work.prompts)))
        while rows:
            with flights.lock:
                if work.landings != flights.landings:  # other threads have learned something
                    self._look_up(work, rows)
                    rows = work.missing(rows)
                free = [r for r in rows if work.prompts[r] not in flights]
                if not free:
                    if rows:
                        flights.wait()
                    continue
                batch = self._next_batch(work, free)
                if batch is None:
                    return
                flights.claim(work.prompts[row.number] for row in batch.rows)
            try:
                self._ask(work, batch)
            finally:
                with flights.lock:
                    alone = work.landings == flights.landings
                    flights.land(work.prompts[row.number] for row in batch.rows)
                    work.landings += alone
            done = {row.number for row in batch.rows}
            rows = [r for r in rows if r not in done]

    def _next_batch(self, work: Work, rows: Sequence[int]) -> Batch | None:
        """Set aside and return the next call: the first of `rows`; None if nothing fits."""
        if self.ledger.exhausted:
            return None
        limit = self.batch_size
        budget = self.ledger.budget
        if budget.seconds is not None or budget.usd is not None:
            limit = min(limit, TIMED_BATCH)
        left = self.ledger.tokens_left
        batch = Batch()
        pairs = tokens = 0
        for row in rows:
            places = np.flatnonzero(work.status[row] != OK)
            if batch.rows and pairs + len(places) > limit:
                break
            texts = [self._render(work.prompts[row], work.examples[i]) for i in places]
            if left is not None:
                more = self._asker.most_tokens(texts)
                if tokens + more > left:
                    break
                tokens += more
            pairs += len(places)
            batch.rows.append(Row(row, places, texts))
        if not batch.rows:
            return None
        batch.hold = self.ledger.hold(calls=1, tokens=tokens)
        return batch

    def _render(self, prompt: Prompt, example: Example) -> str:
        """Return the text the model reads."""
        return self.template.render(
            prompt, example, mask=self.model.mask_token, verbalizers=self.task.verbalizers
        )

    def _ask(self, work: Work, batch: Batch) -> None:
        """Make one call, of the model or the store, and write what came back."""
        place: dict[str, int] = {}
        index = np.array([place.setdefault(t, len(place)) for r in batch.rows for t in r.texts])
        tokens = 0
        try:
            if self.shelf is None:
                got = self._asker.ask(list(place), self._book)
            else:
                asked = [(work.prompts[r.number], r.places) for r in batch.rows]
                got = recall(
                    self.shelf, self._asker, asked, work.examples, list(place), index, self._book
                )
            tokens = int(got.tokens.sum())
        finally:
            self.ledger.settle(batch.hold, calls=1, tokens=tokens)
            self._book()
        with self._flights.lock:
            start = 0
            for row in batch.rows:
                self._write(work, row, got, index[start : start + len(row.texts)])
                start += len(row.texts)
            self._judge(work)

    def _book(self) -> None:
        """Book what was paid, and say so while it is being paid."""
        self._asker.charge_money(self.ledger)
        if self.paying is not None and self._asker.counts_money:
            self.paying(self._asker.under_way)

    def _write(self, work: Work, row: Row, got: Answers, index: IntArray) -> None:
        """Write one prompt's answers into the work and the cache; failures into the work only."""
        reasons = got.reasons
        places, answers = row.places, got.answers[index]
        if reasons:
            good = np.array([i not in reasons for i in index.tolist()])
            for place, i in zip(places[~good].tolist(), index[~good].tolist(), strict=True):
                work.status[row.number, place], reason = status_of(reasons[i])
                work.failures[row.number, place] = self.outcomes.last = reason
                self.outcomes[STATUS_NAMES[work.status[row.number, place]]] += 1
            places, answers = places[good], answers[good]
        values = self._pay(answers, work, places)
        work.status[row.number, places] = OK
        work.values[row.number, places] = values
        work.answers[row.number, places] = answers
        self.outcomes["ok"] += len(places)
        self.cache.write(work.prompts[row.number], work.columns[places], values, answers)

    def _judge(self, work: Work) -> None:
        """Raise if too many evaluations have failed.

        Raises:
            TooManyFailures: more than `max_failures` of them, and 256 or more in all.
        """
        asked, failed = self.outcomes.total(), self.outcomes.failed
        if asked < JUDGED_FROM or failed <= self.max_failures * asked or not work.failures:
            return
        raise TooManyFailures(
            f"{self.outcomes.said(self.model.name)}. That is more than the "
            f"{self.max_failures:.0%} allowed: what was answered is kept; mend the cause and go "
            "on, or allow more (max_failures)"
        )

    def _pay(self, answers: FloatArray | ObjectArray, work: Work, places: IntArray) -> FloatArray:
        """Return the metric of answers to examples."""
        if self._paid is not None and work.targets is not None:
            return np.asarray(self._paid[answers.argmax(axis=1), work.targets[places]])
        score = self.task.metric.score
        pairs = zip(answers.tolist(), places.tolist(), strict=True)
        return np.array([score(text, work.examples[i]) for text, i in pairs], dtype=np.float64)

    def _scores(
        self,
        prompts: tuple[Prompt, ...],
        examples: tuple[Example, ...],
        work: Work,
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
            targets=work.targets,
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


def _check_numbers(batch_size: int, cache_pairs: int, max_failures: float) -> None:
    """Refuse sizes and shares that mean nothing."""
    for name, size, least in (("batch_size", batch_size, 1), ("cache_pairs", cache_pairs, 0)):
        if size < least:
            raise ConfigError(f"{name} must be at least {least}, got {size}")
    if not 0 <= max_failures <= 1:
        raise ConfigError(f"max_failures is a share from 0 to 1, got {max_failures}")


def payments(task: Task) -> FloatArray | None:
    """Return what predicting label i pays when label j is right, (L, L); None for generation."""
    if task.labels is None:
        return None
    pay = task.metric.per_example
    return np.array([[pay(got, want) for want in task.labels] for got in task.labels])
