"""`RecordedModel`: the answers in a file of `promptgym cache export`, as the model that gave them.

What a model says depends on the text, the labels or the decoding, and nothing else. So a recording
is a table from text to answer: prompts and examples are laid out by the template they were asked
with, and any task, metric or reward may ask again whatever was asked before, on any examples in any
order. The format is documented in `promptgym.scoring.store.exchange`.
"""

from __future__ import annotations

import gzip
import hashlib
import json
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import IO, Any

import numpy as np

from promptgym.errors import ModelError
from promptgym.llms.base import Completion, Kind, LabelLogprobs, Sampling, empty_logprobs
from promptgym.llms.shared import SharedModel
from promptgym.prompts import Example, Prompt, Template
from promptgym.types import JSON, FloatArray, IntArray

HEADER: JSON = {"format": "promptgym-cache", "version": 1}
SAME = 1e-4
"""Nats by which two recordings of one answer may differ, as the backends' own may."""

Ask = tuple[str, ...] | str
"""What was asked of texts: labels, or a decoding as canonical JSON."""


def is_recording(path: Path) -> bool:
    """Return whether a file begins as an export does (whatever its version)."""
    if not path.is_file():
        return False
    try:
        with _open(path) as file:
            first = json.loads(file.readline(1000))
    except (OSError, EOFError, ValueError, zlib.error):
        return False
    return isinstance(first, dict) and first.get("format") == HEADER["format"]


def _open(path: Path) -> IO[str]:
    """Open a text file, gzip if its name says so."""
    if path.suffix == ".gz":
        return gzip.open(path, "rt", encoding="utf-8")
    return path.open(encoding="utf-8")


@dataclass(frozen=True, slots=True)
class _Setting:
    """What one set of answers depends on, apart from prompts and examples."""

    ask: Ask
    template: Template
    mask: str
    verbalizers: dict[str, str]
    version: int

    @classmethod
    def of(cls, content: JSON) -> _Setting:
        """Read the content of a line."""
        labels = content["labels"]
        return cls(
            canonical(content["decoding"]) if labels is None else tuple(labels),
            Template(content["template"], content["demonstration"]),
            content["mask"],
            content["verbalizers"],
            content["version"],
        )


def canonical(value: Any) -> str:
    """Return JSON text that is equal for equal values."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"))


@dataclass(slots=True)
class _Answers:
    """The answers to one kind of question: hash of a text -> answer, tokens, line.

    An answer is a row of log-probabilities (nats), or a completion.
    """

    version: int
    found: dict[bytes, tuple[tuple[float, ...] | str, int, int]] = field(default_factory=dict)


def _key(text: str) -> bytes:
    return hashlib.blake2b(text.encode("utf-8", "surrogatepass"), digest_size=16).digest()


class RecordedModel(SharedModel):
    """A language model that repeats what was recorded; anything else is a failure.

    Attributes:
        name: the spec and a hash of the file.
        recorded: name of the model that was recorded.
        kind: its kind.
        mask_token: its mask token.
        prompts: the prompts that were recorded.
    """

    kind: Kind
    mask_token: str

    def __init__(self, path: Path, select: str, *, spec: str) -> None:
        """Read a file.

        Args:
            path: what `promptgym cache export` wrote.
            select: the model, or a part of its name that no other has; "" if there is but one.
            spec: with the scheme.

        Raises:
            ModelError: naming the line, what was found and what was expected.
        """
        self.spec, self.given, self.path = spec, {}, path
        digest = hashlib.blake2b(path.read_bytes(), digest_size=6)
        self.name = f"{spec}@{digest.hexdigest()}"
        self._answers: dict[Ask, _Answers] = {}
        prompts: dict[Prompt, None] = {}
        self._line = 0
        try:
            self.recorded, self.kind, self.mask_token = self._model(select)
            for number, setting, prompt, examples, row in self._rows():
                prompts[prompt] = None
                self._take(number, setting, prompt, examples, row)
        except ModelError:
            raise
        except (OSError, EOFError, ValueError, KeyError, TypeError, zlib.error) as error:
            raise ModelError(
                f"{path}, line {self._line}: not a line of a cache export "
                f"({type(error).__name__}: {error}); expected a file of `promptgym cache export`"
            ) from None
        self.prompts = tuple(prompts)

    def _lines(self) -> Iterator[tuple[int, JSON]]:
        """Yield number and content of every line behind the header."""
        with _open(self.path) as file:
            for number, line in enumerate(file, 1):
                self._line = number
                row = json.loads(line)
                if number == 1 and row != HEADER:
                    raise ModelError(
                        f"{self.path}, line 1: found {canonical(row)}, expected "
                        f"{canonical(HEADER)}: another release of promptgym wrote this file"
                    )
                if number > 1:
                    yield number, row

    def _model(self, select: str) -> tuple[str, Kind, str]:
        """Return (name, kind, mask token) of the one model that is meant."""
        found: dict[str, tuple[str, Kind, str]] = {}
        for _, row in self._lines():
            if row["kind"] == "setting":
                c = row["content"]
                found[c["model"]] = (c["model"], c["kind"], c["mask"])
        names = [n for n in found if n == select] or [n for n in found if select in n]
        if len(names) == 1:
            return found[names[0]]
        raise ModelError(
            f"{self.path}: answers of the models {list(found)}, asked for {select!r}; expected "
            "one: name it behind the file: replay:FILE#MODEL"
        )

    def _rows(self) -> Iterator[tuple[int, _Setting, Prompt, list[Example], JSON]]:
        """Yield the rows of the model; of one question, those of the newest scoring only."""
        settings: dict[str, _Setting] = {}
        sets: dict[str, list[Example]] = {}
        newest: dict[Ask, int] = {}
        for number, row in self._lines():
            if row["kind"] == "setting":
                if row["content"]["model"] == self.recorded:
                    setting = _Setting.of(row["content"])
                    settings[row["id"]] = setting
                    newest[setting.ask] = max(newest.get(setting.ask, 0), setting.version)
            elif row["kind"] == "examples":
                sets[row["id"]] = [Example(**e) for e in row["examples"]]
            elif row["kind"] != "answers":
                raise ValueError(f"kind {row['kind']!r}; expected setting, examples or answers")
            elif row["setting"] in settings:
                setting = settings[row["setting"]]
                if setting.version == newest[setting.ask]:
                    prompt = Prompt.of(row["prompt"])
                    yield number, setting, prompt, sets[row["examples"]], row

    def _take(
        self, number: int, setting: _Setting, prompt: Prompt, examples: list[Example], row: JSON
    ) -> None:
        """Enter one row; refuse an answer that differs from one given before."""
        kept = self._answers.setdefault(setting.ask, _Answers(setting.version))
        for example, answer, tokens in zip(examples, row["answers"], row["tokens"], strict=True):
            text = setting.template.render(
                prompt, example, mask=setting.mask, verbalizers=setting.verbalizers
            )
            answer = _checked(answer, setting.ask)
            before = kept.found.setdefault(_key(text), (answer, int(tokens), number))
            if not _same(before[0], answer):
                raise ModelError(
                    f"{self.path}, line {number}: the text {text[:60]!r} was answered by "
                    f"{answer!r}, in line {before[2]} by {before[0]!r}; expected one answer"
                )

    def check_labels(self, labels: Sequence[str]) -> None:
        """Raise ModelError for labels that were not asked about."""
        self._of(tuple(labels))

    def _of(self, ask: Ask) -> _Answers:
        """Return the answers to a kind of question."""
        if ask not in self._answers:
            known = [a if isinstance(a, str) else list(a) for a in self._answers]
            what = f"decoding {ask}" if isinstance(ask, str) else f"labels {list(ask)}"
            raise ModelError(f"{self.name} has no answers for {what}; it has: {known}")
        return self._answers[ask]

    def _unknown(self, text: str) -> str:
        return f"refused: {text!r} is not among the texts that {self.path.name} has answers to"

    def label_logprobs(self, texts: Sequence[str], labels: Sequence[str]) -> LabelLogprobs:
        """Return what was recorded; a text that was not is a failure.

        Raises:
            ModelError: for labels that were not asked about, in this order.
        """
        found = self._of(tuple(labels)).found
        out, tokens = empty_logprobs(len(texts), len(labels)), np.zeros(len(texts), np.int64)
        failures: dict[int, str] = {}
        for i, text in enumerate(texts):
            hit = found.get(_key(text))
            if hit is None:
                failures[i] = self._unknown(text)
            else:
                out[i], tokens[i] = hit[0], hit[1]
        return LabelLogprobs(out, tokens, failures)

    def loglikelihood(self, contexts: Sequence[str], continuations: Sequence[str]) -> FloatArray:
        """Raise ModelError: a cache keeps none."""
        raise ModelError(f"{self.name} is a recording of answers and has no likelihoods")

    def generate(self, texts: Sequence[str], sampling: Sampling) -> list[Completion]:
        """Return what was recorded; a text that was not is a failure.

        Raises:
            ModelError: for a decoding that was not recorded.
        """
        found = self._of(canonical({**asdict(sampling), "stop": [*sampling.stop]})).found
        out = []
        for text in texts:
            hit = found.get(_key(text))
            if hit is None:
                out.append(Completion("", error=self._unknown(text)))
            else:
                out.append(Completion(str(hit[0]), _written(str(hit[0]), hit[1])))
        return out

    def count_tokens(self, texts: Sequence[str]) -> IntArray:
        """Return the tokens of texts, shape (N,): as recorded, else the number of words.

        A recording keeps the sum of tokens read and written; those written are taken to be the
        words of the completion, so that both together are what was recorded.
        """
        out = []
        for text in texts:
            key = _key(text)
            hits = (kept.found[key] for kept in self._answers.values() if key in kept.found)
            hit = next(hits, None)
            if hit is None:
                out.append(len(text.split()))
            else:
                out.append(hit[1] - (_written(hit[0], hit[1]) if isinstance(hit[0], str) else 0))
        return np.array(out, dtype=np.int64)


def _written(completion: str, tokens: int) -> int:
    """Return the estimated tokens of a completion, of all tokens."""
    return min(len(completion.split()), tokens)


def _checked(answer: Any, ask: Ask) -> tuple[float, ...] | str:
    """Return one answer, of the form that was asked for."""
    if isinstance(ask, str):
        if not isinstance(answer, str):
            raise ValueError(f"answer {answer!r}; expected a text")
        return answer
    row = tuple(map(float, answer))
    if len(row) != len(ask) or any(map(np.isnan, row)):
        raise ValueError(f"answer {answer!r}; expected {len(ask)} log-probabilities")
    return row


def _same(a: tuple[float, ...] | str, b: tuple[float, ...] | str) -> bool:
    """Return whether two answers are one."""
    if isinstance(a, str) or isinstance(b, str):
        return a == b
    return bool(np.allclose(a, b, rtol=0.0, atol=SAME))
