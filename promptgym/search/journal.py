"""The journal of a run: every score and proposal it was given; a resumed run repeats no call.

A resumed run does again what the interrupted one did, from its seed or from a checkpoint; while the
journal lasts, scores, proposals and ledger counts come from it. What follows is therefore
bit-identical to a run that was never interrupted, whatever the score cache still holds.

Two things would tell a resumed run from one that was not interrupted. A causal model of this
machine keeps the key/values of beginnings it has read, and reads on from them what it would else
read whole: the same but for the last bits. So a record says whether the model kept something new
while it was asked, and then a resumed run asks it again: that is so for the first scores on a
split, and for few after them. And money is paid while a batch is under way: `paid.json` says how
much, and how many requests of unknown cost a kill would leave behind.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any

from promptgym.errors import BudgetExhausted, ConfigError, TooManyFailures
from promptgym.llms import LanguageModel, Sampling
from promptgym.problem import Problem, describe_problem
from promptgym.prompts import Example, Prompt, PromptsLike, prompts_of
from promptgym.runs import EventSink
from promptgym.runs.events import parsed, plain
from promptgym.runs.folder import differences, write_text
from promptgym.scoring import OK, Ledger, Proposals, Scorer, Scores
from promptgym.search.records import (
    proposals_to_json,
    request_key,
    scores_from_json,
    scores_to_json,
    subset_of,
)
from promptgym.tasks import split_hash
from promptgym.types import JSON

FILE = "journal.jsonl"
PAID = "paid.json"
VERSION = 5


class Journal:
    """An append-only file of records, read back to its end before anything is appended."""

    def __init__(self, folder: Path, header: JSON, *, resume: bool = False) -> None:
        """Open the journal of a folder.

        Args:
            folder: where `journal.jsonl` lies or will lie.
            header: what the run is; a resumed run must be the same.
            resume: read what is there first; a folder without a journal is begun anew.

        Raises:
            ConfigError: if there is a journal and `resume` is False, or it is of another run.
        """
        self.path = folder / FILE
        self.paid = folder / PAID
        self.position = 0
        self._rows: list[JSON] = []
        header = plain({"version": VERSION, **header})
        folder.mkdir(parents=True, exist_ok=True)
        if self.path.exists() and not resume:
            raise ConfigError(
                f"{self.path} holds an earlier run; resume it (resume=True) or use another folder"
            )
        rows = list(self._whole_lines()) if self.path.exists() else []
        if not rows:
            self.paid.unlink(missing_ok=True)
            self.path.write_text(json.dumps(header) + "\n", encoding="utf-8")
            return
        if (version := rows[0].get("version")) != VERSION:
            raise ConfigError(
                f"{self.path} is of version {version!r}, this promptgym writes {VERSION}: the run "
                "cannot be resumed; start it anew in another folder"
            )
        if differing := differences(rows[0], header):
            raise ConfigError(f"{self.path} was written by another run: {'; '.join(differing)}")
        self._rows = rows[1:]

    def _whole_lines(self) -> Iterator[JSON]:
        """Yield the records; cut off a last line that a kill left half-written."""
        end = 0
        with self.path.open("rb+") as file:
            for number, line in enumerate(file, 1):
                if not line.endswith(b"\n"):
                    file.truncate(end)
                    return
                end += len(line)
                yield parsed(line, self.path, number)

    @property
    def replaying(self) -> bool:
        """Whether records of an earlier session are still to be served."""
        return self.position < len(self._rows)

    def peek(self) -> JSON:
        """Return the next record without serving it."""
        return self._rows[self.position]

    def serve(self) -> JSON:
        """Return the next record; it is not kept (a long run's scores need not stay in memory)."""
        row, self._rows[self.position] = self._rows[self.position], {}
        self.position += 1
        return row

    def append(self, row: JSON) -> None:
        """Write one record, flushed at once."""
        with self.path.open("a", encoding="utf-8") as file:
            file.write(json.dumps(row, ensure_ascii=False) + "\n")
        self._rows.append({})
        self.position += 1

    def note_money(self, paid: Sequence[tuple[float | None, int]]) -> None:
        """Write down (usd, unpriced) of each ledger at this point, the batch under way included."""
        row = {"records": self.position, "paid": paid}
        write_text(self.paid, json.dumps(row) + "\n")

    def money(self) -> list[tuple[float | None, int]]:
        """Return what `note_money` was told of a batch that broke off; nothing if none did."""
        if not self.paid.exists():
            return []
        row = parsed(self.paid.read_text(encoding="utf-8"), self.paid, 1)
        return [(u, n) for u, n in row["paid"]] if row["records"] == len(self._rows) else []


class Gate:
    """Passes events on when open; forgets them while it is not."""

    def __init__(self, sink: EventSink, *, is_open: bool) -> None:
        """Stand before a sink."""
        self.sink = sink
        self.is_open = is_open

    def emit(self, kind: str, **fields: Any) -> None:
        """Pass the event on, or not."""
        if self.is_open:
            self.sink.emit(kind, **fields)


class JournaledProblem(Problem):
    """A problem that writes every score to a journal, and reads it back first when resumed.

    It shares scorer, ledger and reward with the problem it is made of. While the journal lasts no
    events are emitted (they were, in the earlier session) and the model is not called.
    """

    def __init__(self, problem: Problem, journal: Journal) -> None:
        """Take over the parts of a problem."""
        self.__dict__.update(vars(problem))
        self.journal = journal
        self.events = self._gate = Gate(problem.events, is_open=not journal.replaying)
        self.scorer.paying = partial(self._note_money, self.ledger)
        if self.proposer is not None:
            self.proposer.paying = partial(self._note_money, self.proposer.ledger)
        if not journal.replaying:
            self._take_money()

    def score(
        self,
        prompts: PromptsLike,
        examples: Sequence[Example] | None = None,
        *,
        split: str = "train",
    ) -> Scores:
        """Score as `Problem.score` does, from the journal as long as it lasts.

        Raises:
            BudgetExhausted: if not even one prompt fits, or fitted in the earlier session.
            TooManyFailures: as `Problem.score`; a resumed run pays for that batch and asks again.
            ConfigError: if the journal answers another question than the one asked.
        """
        prompts = prompts_of(prompts)
        if self.journal.replaying:
            return self._replay(prompts, examples, split)
        before = kept_by(self.model)
        with self._endings():
            scores = super().score(prompts, examples, split=split)
        row = scores_to_json(scores, self.ledger.snapshot())
        asked = {"split": split, "subset": subset_of(scores.examples, self.examples(split))}
        self.journal.append({**asked, **row, "kept": kept_by(self.model) != before})
        return scores

    def _replay(
        self, prompts: Sequence[Prompt], examples: Sequence[Example] | None, split: str
    ) -> Scores:
        """Serve one record and put the ledger where it was."""
        examples = self.examples(split) if examples is None else examples
        row = self.journal.serve()
        if row.get("kept"):
            self._remind(prompts, examples)
        self._go_back(row)
        if "stopped" in row:
            return self.score(prompts, examples, split=split)
        asked = [p.to_json() for p in prompts]
        if row.get("prompts") != asked or row["examples"] != split_hash(examples):
            raise self._other(row.get("prompts", ["a request to the proposer"])[:2], asked[:2])
        scores = scores_from_json(row, examples, self)
        if not row.get("kept"):
            warm(self.scorer, scores)
        return scores

    def propose(
        self, texts: Sequence[str], sampling: Sampling, *, tag: str | None = None
    ) -> Proposals:
        """Propose as `Problem.propose` does, from the journal as long as it lasts.

        Raises:
            BudgetExhausted: if it does not fit, or did not in the earlier session.
            TooManyFailures: as `Problem.propose`; a resumed run pays for that and asks again.
            ConfigError: if the journal answers another question than the one asked.
        """
        key = request_key(texts, sampling, tag)
        if self.journal.replaying:
            row = self.journal.serve()
            self._go_back(row)
            if "stopped" in row:
                return self.propose(texts, sampling, tag=tag)
            if row.get("asked") != key:
                raise self._other(row.get("prompts", ["another request"])[:2], list(texts[:1]))
            failures = {int(i): reason for i, reason in row["failures"]}
            return Proposals.read(row["completions"], failures, tag)
        with self._endings():
            found = super().propose(texts, sampling, tag=tag)
        self.journal.append(proposals_to_json(key, found, self.ledger.snapshot()))
        return found

    @contextmanager
    def _endings(self) -> Iterator[None]:
        """Write down how a question ended that got no answer."""
        try:
            yield
        except BudgetExhausted as error:
            self.journal.append({"exhausted": str(error), "spent": self.ledger.snapshot()})
            raise
        except TooManyFailures as error:
            self.journal.append({"stopped": str(error), "spent": self.ledger.snapshot()})
            raise

    def _go_back(self, row: JSON) -> None:
        """Put the ledger where it was after a record; after the last one, events go on.

        Raises:
            BudgetExhausted: if the record says so.
        """
        self.ledger.restore(row["spent"])
        if not self.journal.replaying:
            self._take_money()
            self._gate.is_open = True
            self.events.emit("resumed", records=self.journal.position, spent=row["spent"])
        if "exhausted" in row:
            raise BudgetExhausted(row["exhausted"])

    def _other(self, known: Sequence[Any], asked: Sequence[Any]) -> ConfigError:
        """Return the error for a journal that answers another question."""
        return ConfigError(
            f"{self.journal.path}, record {self.journal.position}: the journal answers "
            f"{known}..., but {asked}... was asked: the code or its libraries "
            "changed since the run began; start it anew in another folder"
        )

    def _remind(self, prompts: Sequence[Prompt], examples: Sequence[Example]) -> None:
        """Have a model keep what it kept when it was asked this before."""
        shelf, self.scorer.shelf = self.scorer.shelf, None
        try:
            with suppress(BudgetExhausted, TooManyFailures):
                self.scorer.score(prompts, examples)
        finally:
            self.scorer.shelf = shelf

    def _ledgers(self) -> list[Ledger]:
        """Return the ledgers that count money: of the target model, and of a proposer."""
        return [self.ledger] if self.proposer is None else [self.ledger, self.proposer.ledger]

    def _note_money(self, paying: Ledger, under_way: int) -> None:
        """Write down what is spent; what a kill would leave unknown is one request at least."""
        unknown = max(1, under_way)
        self.journal.note_money(
            [(of.usd, of.unpriced + (unknown if of is paying else 0)) for of in self._ledgers()]
        )

    def _take_money(self) -> None:
        """Book what was paid for a batch that broke off."""
        for ledger, money in zip(self._ledgers(), self.journal.money(), strict=False):
            ledger.usd, ledger.unpriced = money


def kept_by(model: LanguageModel) -> int:
    """Return a number that changes when a model keeps something for later calls."""
    return int(getattr(model, "kept", 0))


def warm(scorer: Scorer, scores: Scores) -> None:
    """Put answers into a scorer's cache and outcomes, as asking the model would have done.

    So a prompt that comes again after a resume costs as many calls and tokens as it would have, and
    the share of failures is that of the whole run.
    """
    asked = [scores.prompts.index(p) for p in dict.fromkeys(scores.prompts)]
    scorer.outcomes.update(scores.select(asked).counts())
    answers = scores.completions if scores.label_logprobs is None else scores.label_logprobs
    if answers is None:
        return
    columns = scorer.cache.columns(scores.examples)
    for row, prompt in enumerate(scores.prompts):
        new = scores.status[row] == OK
        values, known = scores.values[row].copy(), answers[row].copy()
        hit = scorer.cache.read(prompt, columns, values, known)
        if hit is not None:
            new &= ~hit
        scorer.outcomes["ok"] += int(new.sum())
        scorer.cache.write(prompt, columns[new], scores.values[row][new], answers[row][new])


def describe(problem: Problem, method: str, seed: int, options: JSON) -> JSON:
    """Return what makes a run this run: the header of its journal.

    Raises:
        ConfigError: for a seed that no generator takes.
    """
    if seed < 0:
        raise ConfigError(f"the seed must be at least 0, got {seed}")
    return {
        "method": method,
        "seed": seed,
        "options": options,
        "budget": asdict(problem.ledger.budget),
        **describe_problem(problem),
    }


def journaled(problem: Problem, folder: str | Path | None, header: JSON, resume: bool) -> Problem:
    """Return the problem with a journal in `folder`, or as it is without a folder."""
    if folder is None:
        return problem
    return JournaledProblem(problem, Journal(Path(folder), header, resume=resume))
