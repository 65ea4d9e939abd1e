"""`Asker`: one question about one text, from request to answer; and many side by side."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Generic, TypeVar

from promptgym.llms.base import Sampling
from promptgym.llms.openai import wire
from promptgym.llms.openai.client import Reply, Server
from promptgym.llms.openai.logprobs import generated_tokens, joined, tail_logprob
from promptgym.llms.openai.options import OpenAIOptions
from promptgym.llms.openai.parser import LabelParser, is_refusal
from promptgym.llms.openai.prices import BOOK, Meter, tokens_of
from promptgym.llms.openai.retry import Fault, Policy, Streak

T = TypeVar("T")
TRIAL_RETRIES = 2
SHORTEST_ANSWER = 16  # tokens left for an answer, besides the label's own


@dataclass(frozen=True, slots=True)
class Answer(Generic[T]):
    """What came of a question.

    Attributes:
        value: the answer; None if it failed.
        fault: why it failed.
        attempts: how often the last request was sent.
        tokens: read and written for it, as the server counts; None if it does not say.
        written: of these, written.
    """

    value: T | None = None
    fault: Fault | None = None
    attempts: int = 1
    tokens: int | None = None
    written: int | None = None

    @property
    def reason(self) -> str | None:
        """The reason of a failure, starting with its status; None if it went well."""
        return None if self.fault is None else self.fault.reason(self.attempts)


class Asker:
    """Asks one model of a server. Used on the background loop."""

    def __init__(
        self, model: str, options: OpenAIOptions, meter: Meter, server: Callable[[], Server]
    ) -> None:
        """Take what stays the same.

        Args:
            model: its name at the server.
            options: of the model.
            meter: where use is counted.
            server: returns the server of this process.
        """
        self.model, self.options, self.meter, self.server = model, options, meter, server
        self.policy = Policy(options.timeout, options.deadline, options.retries)

    async def try_out(self, path: str, fields: Mapping[str, Any]) -> Reply:
        """Send a small request with few retries: somebody waits to know whether it works."""
        quick = replace(self.policy, retries=min(self.policy.retries, TRIAL_RETRIES))
        return await self.post(path, dict(fields), 64.0, quick)

    async def post(
        self, path: str, fields: dict[str, Any], tokens: float, policy: Policy | None = None
    ) -> Reply:
        """Send a request with the user's own fields; `tokens` is how many are expected."""
        return await self.server().post(
            path,
            wire.with_body(fields, self.options.body),
            policy=policy or self.policy,
            meter=self.meter,
            tokens=tokens,
        )

    async def each(
        self,
        number: int,
        work: Callable[[int], Awaitable[Answer[T]]],
        landed: Callable[[tuple[int, Answer[T]]], None],
        *,
        book: Meter | None = None,
    ) -> None:
        """Hand over what work(0) ... work(number - 1) give, side by side, each as it comes.

        Once `give_up_after` of them in a row failed for reasons of the server's, the rest is not
        asked. Use is counted in `book`, too.
        """
        BOOK.set(book)  # of this task and those it begins
        streak = Streak(self.options.give_up_after)
        numbers = iter(range(number))

        async def worker() -> None:
            for i in numbers:
                broken = streak.broken()
                if broken is not None:
                    landed((i, Answer(fault=broken)))
                    continue
                answer = await work(i)
                streak.note(answer.fault)
                landed((i, answer))

        count = min(number, self.server().limiter.concurrency)
        tasks = [asyncio.ensure_future(worker()) for _ in range(count)]
        try:
            await asyncio.gather(*tasks)
        finally:
            for task in tasks:
                task.cancel()

    async def write(
        self, path: str, text: str, sampling: Sampling, expected: float, *, seed: int, system: str
    ) -> Answer[str]:
        """Have one text continued or answered."""
        fields = wire.generation(path, self.model, text, sampling, seed=seed, system=system)
        reply = await self.post(path, fields, expected + sampling.max_new_tokens)
        if reply.fault is not None:
            return Answer(fault=reply.fault, attempts=reply.attempts)
        used = tokens_of(reply.body)
        tokens = None if used is None else sum(used)
        found = wire.written(path, reply.body, sampling.stop)
        if isinstance(found, Fault):
            return Answer(fault=self._clean(found), attempts=reply.attempts, tokens=tokens)
        return Answer(found.text, None, reply.attempts, tokens, found.tokens)

    def answer_form(self, path: str, labels: Sequence[str]) -> tuple[int, str]:
        """Return how long an answer that holds a label may be, in tokens, and the instruction."""
        limit = self.options.answer_tokens or SHORTEST_ANSWER + max(map(len, labels))
        if path != wire.CHAT:
            return limit, ""
        return limit, self.options.instruction.replace("{labels}", ", ".join(labels))

    async def label_by_answer(
        self, path: str, text: str, parser: LabelParser, expected: float
    ) -> Answer[list[float]]:
        """Have an answer written and read the label from it: 0 for it, -inf for the others."""
        limit, system = self.answer_form(path, parser.labels)
        sampling = Sampling(max_new_tokens=limit)
        answer = await self.write(path, text, sampling, expected, seed=0, system=system)
        if answer.value is None:
            return Answer(fault=answer.fault, attempts=answer.attempts, tokens=answer.tokens)
        label = parser.parse(answer.value)
        if label is None:
            fault = self._clean(_no_label(answer.value))
            return Answer(fault=fault, attempts=answer.attempts, tokens=answer.tokens)
        values = [float("-inf")] * len(parser.labels)
        values[label] = 0.0
        return Answer(values, None, answer.attempts, answer.tokens)

    async def labels_by_echo(
        self,
        text: str,
        labels: Sequence[str],
        expected: float,
        *,
        together: bool,
        as_written: bool = False,
    ) -> Answer[list[float]]:
        """Have text and label read and take the label's log-probabilities.

        Args:
            text: what stands before.
            labels: what follows.
            expected: tokens of the text.
            together: ask for all labels in one request.
            as_written: put no space between text and label.
        """
        groups = [list(labels)] if together else [[label] for label in labels]
        parts = await asyncio.gather(
            *(self._echo(text, group, expected, as_written) for group in groups)
        )
        values: list[float] = []
        tokens: int | None = 0
        for part in parts:
            if part.value is None:
                return Answer(fault=part.fault, attempts=part.attempts)
            values += part.value
            tokens = None if tokens is None or part.tokens is None else tokens + part.tokens
        return Answer(values, tokens=tokens)

    async def _echo(
        self, text: str, labels: list[str], expected: float, as_written: bool
    ) -> Answer[list[float]]:
        """Send one request for some labels of a text."""
        prompts = [text + label if as_written else joined(text, label) for label in labels]
        fields = wire.echo(self.model, prompts)
        reply = await self.post(wire.COMPLETIONS, fields, len(labels) * (expected + 4))
        if reply.fault is not None:
            return Answer(fault=reply.fault, attempts=reply.attempts)
        values = read_echo(reply.body, text, labels, prompts)
        used = tokens_of(reply.body)
        tokens = None if used is None else sum(used)
        if isinstance(values, Fault):
            return Answer(fault=self._clean(values), attempts=reply.attempts, tokens=tokens)
        return Answer(values, None, reply.attempts, tokens)

    def _clean(self, fault: Fault) -> Fault:
        """Return a fault of an answer's content without anything secret, cut."""
        what = self.server().short(fault.what)
        return Fault(fault.status, what, item=fault.item)


def read_echo(
    body: Mapping[str, Any], text: str, labels: Sequence[str], prompts: Sequence[str]
) -> list[float] | Fault:
    """Return log P(label | text) of every label from an echoed completion of `prompts`."""
    found = wire.choices(body, len(prompts))
    if isinstance(found, Fault):
        return found
    values: list[float] = []
    for choice, prompt, label in zip(found, prompts, labels, strict=True):
        n = generated_tokens(body.get("usage"), choice, prompt, len(prompts))
        value = tail_logprob(choice, text, label, n)
        if isinstance(value, Fault):
            return value
        values.append(value)
    return values


def _no_label(answer: str) -> Fault:
    """Return the fault of an answer that names no label."""
    if is_refusal(answer):
        return Fault("refused", f"the model refuses: {answer}", item=True)
    return Fault("parse_error", f"the answer is none of the labels: {answer or 'empty'}", item=True)
