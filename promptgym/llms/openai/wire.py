"""Bodies of requests, and what stands in answers."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from promptgym.llms.base import Sampling
from promptgym.llms.openai.retry import Fault

COMPLETIONS, CHAT = "/completions", "/chat/completions"
MOST_STOPS = 4  # what the protocol allows; all of them are applied to the answer here


@dataclass(frozen=True, slots=True)
class Written:
    """One generated text, stop strings cut off, and the tokens it had (None: not said)."""

    text: str
    tokens: int | None


def seeds(texts: Sequence[str], seed: int) -> list[int]:
    """Return one seed a text, from the seed, the text and how often it has come before."""
    seen: Counter[str] = Counter()
    out = []
    for text in texts:
        name = f"{seed}\x1f{seen[text]}\x1f{text}".encode("utf-8", "surrogatepass")
        seen[text] += 1
        out.append(int.from_bytes(hashlib.blake2b(name, digest_size=4).digest()) >> 1)
    return out


def with_body(fields: dict[str, Any], further: Mapping[str, Any]) -> dict[str, Any]:
    """Return fields with the user's in place of ours; null removes."""
    return {k: v for k, v in {**fields, **further}.items() if v is not None}


def generation(
    path: str, model: str, text: str, sampling: Sampling, *, seed: int = 0, system: str = ""
) -> dict[str, Any]:
    """Return the body that asks for one continuation of (or answer to) a text."""
    fields: dict[str, Any] = {"model": model}
    if path == CHAT:
        first = [{"role": "system", "content": system}] if system else []
        fields["messages"] = [*first, {"role": "user", "content": text}]
    else:
        fields["prompt"] = text
    fields["max_tokens"] = sampling.max_new_tokens
    fields["temperature"] = sampling.temperature
    if sampling.temperature > 0:
        fields["seed"] = seed
        if sampling.top_k:
            fields["top_k"] = sampling.top_k
        if sampling.top_p < 1:
            fields["top_p"] = sampling.top_p
    if sampling.stop:
        fields["stop"] = list(sampling.stop[:MOST_STOPS])
    return fields


def echo(model: str, prompts: Sequence[str]) -> dict[str, Any]:
    """Return the body that asks for the log-probabilities of prompts' own tokens.

    A single token is generated, since some servers refuse to generate none; it is left out.
    """
    return {
        "model": model,
        "prompt": prompts[0] if len(prompts) == 1 else list(prompts),
        "max_tokens": 1,
        "temperature": 0.0,
        "logprobs": 1,
        "echo": True,
    }


def choices(body: Mapping[str, Any], expected: int) -> list[dict[str, Any]] | Fault:
    """Return the choices of an answer in the order of the prompts."""
    found = body.get("choices")
    if not isinstance(found, list) or not all(isinstance(c, dict) for c in found):
        return Fault("api_error", "the answer holds no choices")
    if len(found) != expected:
        return Fault("api_error", f"the answer holds {len(found)} choices, expected {expected}")
    places = [c.get("index", n) for n, c in enumerate(found)]
    if sorted(places, key=str) != sorted(range(expected), key=str):
        return Fault(
            "api_error", f"the choices are numbered {places}, expected 0 to {expected - 1}"
        )
    return [c for _, c in sorted(zip(places, found, strict=True), key=lambda pair: pair[0])]


def written(path: str, body: Mapping[str, Any], stop: Sequence[str]) -> Written | Fault:
    """Read the one generated text of an answer; a refusal is a fault."""
    found = choices(body, 1)
    if isinstance(found, Fault):
        return found
    choice = found[0]
    message = choice.get("message") if path == CHAT else choice
    if not isinstance(message, dict):
        return Fault("api_error", "the answer's choice holds no message")
    if message.get("refusal"):
        return Fault("refused", f"the model refuses: {message['refusal']}", item=True)
    if choice.get("finish_reason") == "content_filter":
        return Fault("refused", "the server's content filter ended the answer", item=True)
    text = message.get("content" if path == CHAT else "text")
    if text is None and choice.get("finish_reason") == "length":
        return Fault(
            "parse_error",
            "the token limit was reached before any text was written; allow more tokens",
            item=True,
        )
    if not isinstance(text, str):
        return Fault("api_error", "the answer's choice holds no text")
    places = [at for s in stop if (at := text.find(s)) >= 0]
    usage = body.get("usage")
    tokens = usage.get("completion_tokens") if isinstance(usage, dict) else None
    return Written(
        text[: min(places)] if places else text, tokens if isinstance(tokens, int) else None
    )
