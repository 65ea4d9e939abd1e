"""What `openai:URL#MODEL` and its options say."""

from __future__ import annotations

import hashlib
import json
import math
import re
from dataclasses import dataclass, field, fields
from typing import Any
from urllib.parse import urlsplit

from promptgym.errors import ModelError
from promptgym.llms.openai.keys import Key

APIS = ("auto", "chat", "completions")
LABELS = ("auto", "logprobs", "generate")
INSTRUCTION = "Answer with exactly one of: {labels}. Write nothing else."
_SECRET_FIELD = re.compile(
    r"authorization|api[-_]?key|password|secret|bearer|(^|auth_|access_|id_)token$", re.IGNORECASE
)
_OURS = ("stream", "n", "echo", "logprobs", "prompt", "messages", "model")


@dataclass(frozen=True, slots=True)
class Endpoint:
    """A server and one of its models: `url` without a slash at the end, `host`, `model`."""

    url: str
    host: str
    model: str

    @classmethod
    def of(cls, name: str) -> Endpoint:
        """Read `http://host:port/v1#model`.

        Raises:
            ModelError: it is not of that form, or holds a user name, password or query, which
                would end up wherever the model's name is written. The message does not repeat it.
        """
        form = "expected openai:http://host:port/v1#model"
        url, _, model = name.partition("#")
        try:
            parts = urlsplit(url)
            host = parts.hostname or ""
            _ = parts.port
        except ValueError:
            raise ModelError(f"the address of an openai: model is no URL; {form}") from None
        if parts.username is not None or parts.password is not None or parts.query:
            raise ModelError(
                "the address of an openai: model holds a user, a password or a query (after '?'); "
                "it is written to logs and reports, so it may not: keys are read from the "
                f"environment (option key_env); {form}"
            )
        if parts.scheme not in ("http", "https") or not host:
            raise ModelError(f"model 'openai:{name}' is not at an http:// address; {form}")
        if not model:
            raise ModelError(
                f"model 'openai:{name}' does not say which model of the server is meant; {form} "
                f"(the server lists its models at {url.rstrip('/')}/models)"
            )
        return cls(url.rstrip("/"), host, model)


@dataclass(frozen=True, slots=True)
class OpenAIOptions:
    """Options of `load_model("openai:...")`; all are JSON values.

    Attributes:
        api: how the model generates: "chat", "completions", or "auto": chat if the server has it.
        labels: "logprobs" (completions with `echo`: exact), "generate" (write an answer and read
            the label from it), or "auto": log-probabilities where the server gives them.
        key_env: name of the environment variable that holds the key; None: see `keys.read_key`.
        concurrency: requests under way at a time at this server; None: 32, or what another model
            of the same server has set.
        requests_per_minute: at most so many in any 60 seconds, retries included.
        tokens_per_minute: at most so many in any 60 seconds, read and written.
        timeout: seconds one attempt may take.
        deadline: seconds one request may take, attempts and pauses between them; time spent
            waiting for the limiter does not count.
        retries: attempts after the first.
        give_up_after: requests failed in a row after which a call asks no further ones.
        price_in: USD per million tokens read; None is unknown.
        price_out: USD per million tokens written; None is unknown.
        tokenizer: folder or Hub name of the model's tokenizer, to count tokens exactly before they
            are sent; None estimates them.
        revision: what the server serves, in your words; part of the model's name and so of every
            cache key, since a server does not say when its weights change.
        instruction: system message of a chat that is asked for a label; {labels} is the list of
            labels; "" sends none.
        answer_tokens: tokens an answer may have that must hold a label; None: 16, and one for each
            character of the longest label.
        body: further fields of every request; null removes one of ours.
    """

    api: str = "auto"
    labels: str = "auto"
    key_env: str | None = None
    concurrency: int | None = None
    requests_per_minute: float | None = None
    tokens_per_minute: float | None = None
    timeout: float = 60.0
    deadline: float = 300.0
    retries: int = 5
    give_up_after: int = 64
    price_in: float | None = None
    price_out: float | None = None
    tokenizer: str | None = None
    revision: str = ""
    instruction: str = INSTRUCTION
    answer_tokens: int | None = None
    body: dict[str, Any] = field(default_factory=dict)

    @classmethod
    def of(cls, spec: str, options: dict[str, Any]) -> OpenAIOptions:
        """Build from keyword arguments.

        Raises:
            ModelError: an unknown name or an unusable value. Values that may be secrets are not
                repeated.
        """
        known = [f.name for f in fields(cls)]
        unknown = sorted(set(options) - set(known))
        if unknown:
            raise ModelError(
                f"model {spec!r}: unknown options {unknown}; allowed: {known}. Keys are read from "
                "the environment only (key_env names the variable)"
            )
        out = cls(**options)
        out._check(spec)
        return out

    def _check(self, spec: str) -> None:
        """Refuse values that cannot be used."""
        for name, allowed in (("api", APIS), ("labels", LABELS)):
            if getattr(self, name) not in allowed:
                raise ModelError(
                    f"model {spec!r}: {name} {getattr(self, name)!r} is not one of {allowed}"
                )
        if self.api == "chat" and self.labels == "logprobs":
            raise ModelError(
                f"model {spec!r}: labels='logprobs' asks the completions API; "
                "choose api='completions' or 'auto', or labels='generate'"
            )
        positive = ("concurrency", "requests_per_minute", "tokens_per_minute", "timeout")
        for name in (*positive, "deadline", "give_up_after", "answer_tokens"):
            self._number(spec, name, least=None)
        for name in ("retries", "price_in", "price_out"):
            self._number(spec, name, least=0)
        if not isinstance(self.body, dict):
            raise ModelError(f"model {spec!r}: body must be an object of request fields")
        if (found := _secret_in(self.body)) is not None:
            raise ModelError(
                f"model {spec!r}: the body may not hold {found}: options are written to disk; "
                "keys are read from the environment only (key_env)"
            )
        if ours := sorted(set(self.body) & set(_OURS)):
            raise ModelError(f"model {spec!r}: the body's {ours} are set by promptgym")

    def _number(self, spec: str, name: str, least: float | None) -> None:
        """Refuse what is not a number above 0 (or not under `least`)."""
        value = getattr(self, name)
        if value is None and name not in ("timeout", "deadline", "give_up_after", "retries"):
            return
        whole = name in ("concurrency", "give_up_after", "answer_tokens", "retries")
        kinds = (int,) if whole else (int, float)
        good = isinstance(value, kinds) and not isinstance(value, bool) and math.isfinite(value)
        if not good or (value <= 0 if least is None else value < least):
            what = "a whole number" if whole else "a number"
            bound = "above 0" if least is None else f"of at least {least:g}"
            raise ModelError(f"model {spec!r}: {name} must be {what} {bound}, got {value!r}")

    def identity(self, mode: str) -> str:
        """Return what of these options changes answers, for the model's name.

        Args:
            mode: how labels are scored: "logprobs", "chat" or "completions".
        """
        changed: dict[str, Any] = {"body": self.body} if self.body else {}
        if self.answer_tokens is not None and mode != "logprobs":
            changed["answer_tokens"] = self.answer_tokens
        if self.instruction != INSTRUCTION and mode == "chat":
            changed["instruction"] = self.instruction
        parts = [mode, self.revision] if self.revision else [mode]
        if changed:
            text = json.dumps(changed, sort_keys=True)
            parts.append(hashlib.blake2b(text.encode(), digest_size=6).hexdigest())
        return ":".join(parts)


def _secret_in(value: Any) -> str | None:
    """Return what in a JSON value is, by its name or looks, a secret; None if nothing is."""
    if isinstance(value, str):
        return None if Key().scrub(value) == value else "what looks like a key"
    if isinstance(value, dict):
        for name in value:
            if _SECRET_FIELD.search(str(name)):
                return repr(name)
        value = list(value.values())
    if isinstance(value, list):
        return next((found for v in value if (found := _secret_in(v)) is not None), None)
    return None
