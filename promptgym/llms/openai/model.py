"""`OpenAIModel`: a served model behind the contract of `promptgym.llms.LanguageModel`."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from functools import partial
from typing import Any

import numpy as np

from promptgym.errors import ModelError
from promptgym.llms.base import (
    Completion,
    Kind,
    LabelLogprobs,
    Sampling,
    check_sampling,
    empty_logprobs,
)
from promptgym.llms.openai import loop, wire
from promptgym.llms.openai.asking import Answer, Asker
from promptgym.llms.openai.client import Server, server_for
from promptgym.llms.openai.keys import read_key
from promptgym.llms.openai.logprobs import joined
from promptgym.llms.openai.options import Endpoint, OpenAIOptions
from promptgym.llms.openai.parser import LabelParser
from promptgym.llms.openai.prices import Meter, Price, Usage
from promptgym.llms.openai.probe import Abilities, probe
from promptgym.llms.openai.tokens import counter
from promptgym.llms.shared import SharedModel
from promptgym.types import FloatArray, IntArray


class OpenAIModel(SharedModel):
    """A model at an OpenAI-compatible server.

    Calls are synchronous and may come from several threads; requests run side by side on one
    background event loop, through one limiter for each server. Copying returns the same object;
    pickling keeps spec and options (the key is read from the environment again).

    **Labels.** With log-probabilities (`labels == "logprobs"`), text and label are sent as one and
    the label's tokens are summed, as the local causal models do. Without, the model writes an
    answer and `LabelParser` reads it: the label it means has log-probability 0, the others -inf.

    **Failures.** What fails is a record (`LabelLogprobs.failures`, `Completion.error`) that starts
    with one of `api_error: `, `timeout: `, `refused: `, `parse_error: `; never a score.

    Attributes:
        name: spec, how labels are scored, the revision given, and a hash of options that change
            answers.
        labels: "logprobs" or "generate".
        api: "chat" or "completions": how texts are generated.
    """

    kind: Kind = "causal"
    mask_token = ""

    def __init__(self, name: str, *, spec: str, **options: Any) -> None:
        """Ask the server what it can do, unless the options say it.

        Args:
            name: `http://host:port/v1#model`.
            spec: with the scheme.
            options: see `OpenAIOptions`.

        Raises:
            ModelError: an address, option or key that cannot be used; a server that cannot be
                reached or cannot do what is asked.
        """
        self.endpoint = Endpoint.of(name)
        self.name = self.spec = spec
        self.given = options
        self.options = OpenAIOptions.of(spec, options)
        self._count = counter(spec, self.options.tokenizer)
        self._meter = Meter(Price(self.options.price_in, self.options.price_out))
        self._connect()
        self._asker = Asker(self.endpoint.model, self.options, self._meter, lambda: self.server)
        self._abilities = self._find_abilities()
        self.labels = self._abilities.labels
        self.api = "chat" if self._abilities.path == wire.CHAT else "completions"
        mode = "logprobs" if self.labels == "logprobs" else self.api
        self.name = f"{spec}@{self.options.identity(mode)}"

    def _connect(self) -> None:
        """Share the server's connections and limiter with other models of this process."""
        options = self.options
        self._process = loop.current()
        key = read_key(self.spec, self.endpoint.host, options.key_env)
        if key.stands_in(self.spec) or key.stands_in(json.dumps(self.given, default=str)):
            raise ModelError(
                "an openai: model's address, name or options hold the key itself, which is shown "
                "nowhere; take it out, it is sent from the environment"
            )
        self._shared = server_for(self.endpoint.url, key, options.key_env)
        limiter = self._shared.limiter
        limits = options.concurrency, options.requests_per_minute, options.tokens_per_minute
        loop.soon(lambda: limiter.set(*limits))

    @property
    def server(self) -> Server:
        """The server as this process knows it (connections do not survive a fork)."""
        if self._process is not loop.current():
            self._connect()
        return self._shared

    def _find_abilities(self) -> Abilities:
        """Take what the options say, or ask the server."""
        paths = {"chat": wire.CHAT, "completions": wire.COMPLETIONS}
        if self.options.labels == "generate" and self.options.api != "auto":
            return Abilities(paths[self.options.api], "generate")
        return loop.run(probe(self.spec, self.endpoint.model, self.options, self._asker.try_out))

    @property
    def price(self) -> Price:
        """What tokens cost, as far as it was given."""
        return self._meter.price

    @property
    def usage(self) -> Usage:
        """What was used and spent since the model was loaded, what failed included."""
        return self._meter.usage()

    def count_tokens(self, texts: Sequence[str]) -> IntArray:
        """Return the tokens of texts, shape (N,): an estimate, unless `tokenizer` was given."""
        return self._count(texts)

    def check_labels(self, labels: Sequence[str]) -> None:
        """Raise ModelError for labels that cannot be told apart.

        Read from an answer, those are labels without a letter, or equal but for case and
        punctuation; scored by log-probabilities, empty or equal labels, and one that begins with
        the words of another.
        """
        if self.labels == "generate":
            LabelParser(labels)
        else:
            _check_words(self.name, labels)

    def label_logprobs(self, texts: Sequence[str], labels: Sequence[str]) -> LabelLogprobs:
        """Score every label as the continuation of, or the answer to, every text.

        Returns:
            Log-probabilities, shape (N, L): exact, or 0 for the label answered and -inf for the
            others. Tokens are those the server says it read for a text, all requests and written
            tokens included; where it does not say, they are counted or estimated.
        """
        out = empty_logprobs(len(texts), len(labels))
        tokens = np.zeros(len(texts), dtype=np.int64)
        failures: dict[int, str] = {}
        for where, part in self.label_parts(texts, labels):
            out[where], tokens[where] = part.logprobs, part.tokens
            failures.update({where[n]: reason for n, reason in part.failures.items()})
        return LabelLogprobs(out, tokens, dict(sorted(failures.items())))

    def book(self) -> Meter:
        """Return an empty book for the use of one caller, see `label_parts`."""
        return Meter(self.price)

    def label_cost(self, texts: Sequence[str], labels: Sequence[str]) -> tuple[IntArray, IntArray]:
        """Return the tokens that labels of texts take to read, and at most to write, each (N,).

        They are as exact as `count_tokens`.
        """
        texts = list(texts)
        if self.labels == "logprobs":
            read = sum(self.count_tokens([joined(t, label) for t in texts]) for label in labels)
            return np.asarray(read, dtype=np.int64), np.full(len(texts), len(labels))
        limit, system = self._asker.answer_form(self._abilities.path, labels)
        read = self.count_tokens(texts) + (self.count_tokens([system])[0] if system else 0)
        return read, np.full(len(texts), limit)

    def label_parts(
        self, texts: Sequence[str], labels: Sequence[str], book: Meter | None = None
    ) -> Iterator[tuple[list[int], LabelLogprobs]]:
        """Yield what `label_logprobs` returns, in parts, as the answers come.

        Args:
            texts: N texts.
            labels: see `label_logprobs`.
            book: counts what this work uses; `usage` counts all work.

        Yields:
            Which texts have been answered since the part before, and their answers.
        """
        self.check_labels(labels)
        texts, labels = list(texts), list(labels)
        expected = self.count_tokens(texts)
        ask, path = self._asker, self._abilities.path
        if self.labels == "logprobs":
            together = self._abilities.together

            async def score(i: int) -> Answer[list[float]]:
                n = float(expected[i])
                return await ask.labels_by_echo(texts[i], labels, n, together=together)
        else:
            parser = LabelParser(labels, continues=self.api == "completions")

            async def score(i: int) -> Answer[list[float]]:
                return await ask.label_by_answer(path, texts[i], parser, float(expected[i]))

        for landed in loop.stream(partial(ask.each, len(texts), score, book=book)):
            where = [i for i, _ in landed]
            out, tokens = empty_logprobs(len(where), len(labels)), expected[where]
            failures: dict[int, str] = {}
            for n, (_, answer) in enumerate(landed):
                if answer.tokens is not None:
                    tokens[n] = answer.tokens
                if answer.value is None:
                    failures[n] = answer.reason or ""
                else:
                    out[n] = answer.value
            yield where, LabelLogprobs(out, tokens, failures)

    def loglikelihood(self, contexts: Sequence[str], continuations: Sequence[str]) -> FloatArray:
        """Return log P(continuation | context), nats, shape (N,); NaN where the request failed.

        Raises:
            ModelError: the server gives no log-probabilities, or a continuation is empty.
        """
        if self.labels != "logprobs":
            raise ModelError(
                f"{self.name} gives no log-probabilities of a text; use a server whose completions "
                "echo the prompt with them, or a local model (hf:...)"
            )
        pairs = []
        for context, continuation in zip(contexts, continuations, strict=True):
            if not continuation.strip():
                raise ModelError(f"{self.name}: a continuation has no tokens of its own")
            text = context.rstrip()  # space at its end is the continuation's, as in lm-evaluation
            pairs.append((text, context[len(text) :] + continuation))

        lengths = self.count_tokens(contexts)

        async def score(i: int) -> Answer[list[float]]:
            context, continuation = pairs[i]
            return await self._asker.labels_by_echo(
                context, [continuation], float(lengths[i]), together=True, as_written=True
            )

        out = np.full(len(pairs), np.nan)
        for landed in loop.stream(partial(self._asker.each, len(pairs), score)):
            for i, answer in landed:
                out[i] = np.nan if answer.value is None else answer.value[0]
        return out

    def generate(self, texts: Sequence[str], sampling: Sampling) -> list[Completion]:
        """Continue every text (completions) or answer it (chat).

        Sampled texts are seeded by the seed, the text and how often it has come before in the
        call; whether the same seed gives the same text is up to the server.

        Raises:
            ModelError: sampling settings that mean nothing.
        """
        out = [Completion("")] * len(texts)
        for where, part in self.completion_parts(texts, sampling):
            for i, completion in zip(where, part, strict=True):
                out[i] = completion
        return out

    def completion_parts(
        self, texts: Sequence[str], sampling: Sampling, book: Meter | None = None
    ) -> Iterator[tuple[list[int], list[Completion]]]:
        """Yield what `generate` returns, in parts, as the answers come; see `label_parts`."""
        check_sampling(sampling)
        texts = list(texts)
        seeds = wire.seeds(texts, sampling.seed)
        expected = self.count_tokens(texts)

        path = self._abilities.path

        async def write(i: int) -> Answer[str]:
            return await self._asker.write(
                path, texts[i], sampling, float(expected[i]), seed=seeds[i], system=""
            )

        for landed in loop.stream(partial(self._asker.each, len(texts), write, book=book)):
            yield (
                [i for i, _ in landed],
                [
                    Completion("", error=answer.reason)
                    if answer.value is None
                    else Completion(answer.value, self._written(answer))
                    for _, answer in landed
                ],
            )

    def _written(self, answer: Answer[str]) -> int:
        """Return the tokens of an answer: as the server counts, else counted or estimated."""
        if answer.written is not None:
            return answer.written
        return int(self.count_tokens([answer.value or ""])[0])


def _check_words(name: str, labels: Sequence[str]) -> None:
    """Refuse labels of which one could never be the likelier one."""
    if not labels:
        raise ModelError("no labels were given")
    for place, label in enumerate(labels):
        words = label.split()
        if not words:
            raise ModelError(f"label {label!r} is empty: give a word")
        for other in (*labels[:place], *labels[place + 1 :]):
            if words[: len(other.split())] == other.split():
                raise ModelError(
                    f"label {label!r} begins with the words of {other!r} and can never be the "
                    f"likelier one for {name}; change one verbalizer, or load the model with "
                    "labels='generate'"
                )
