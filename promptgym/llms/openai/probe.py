"""What a server can do, found out with a few small requests when a model is loaded."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

from promptgym.errors import ModelError
from promptgym.llms.base import Sampling
from promptgym.llms.openai import wire
from promptgym.llms.openai.asking import read_echo
from promptgym.llms.openai.client import Reply
from promptgym.llms.openai.logprobs import joined
from promptgym.llms.openai.options import OpenAIOptions
from promptgym.llms.openai.retry import Fault

Ask = Callable[[str, Mapping[str, Any]], Awaitable[Reply]]
_TEXT, _LABELS = "The color of the sky is", ("blue", "red")
_FATAL = (401, 402, 403)


@dataclass(frozen=True, slots=True)
class Abilities:
    """How a model at a server is asked.

    Attributes:
        path: where texts are generated.
        labels: "logprobs", or "generate".
        together: whether a request may hold several prompts.
    """

    path: str
    labels: Literal["logprobs", "generate"]
    together: bool = True


async def probe(spec: str, model: str, options: OpenAIOptions, ask: Ask) -> Abilities:
    """Find out what a server can do, as far as the options leave it open.

    Raises:
        ModelError: the server cannot be reached or refuses the key or the model; or it cannot do
            what the options ask for.
    """
    faults: list[str] = []
    together = None
    if options.labels != "generate" and options.api != "chat":
        together = await _echo(spec, model, ask, faults)
        if together is None and options.labels == "logprobs":
            raise ModelError(
                f"model {spec!r}: labels='logprobs' needs a server whose completions echo the "
                f"prompt with log-probabilities; this one does not: {faults[-1]}"
            )
    path = {"chat": wire.CHAT, "completions": wire.COMPLETIONS}.get(options.api)
    if path is None and together is not None:
        path = wire.COMPLETIONS
    if path is None:
        path = await _first_that_writes(spec, model, ask, faults)
    return Abilities(path, "generate" if together is None else "logprobs", bool(together))


async def _echo(spec: str, model: str, ask: Ask, faults: list[str]) -> bool | None:
    """Return whether log-probabilities are echoed: for several prompts, for one, or (None) not."""
    for labels in (_LABELS, _LABELS[:1]):
        prompts = [joined(_TEXT, label) for label in labels]
        reply = await ask(wire.COMPLETIONS, wire.echo(model, prompts))
        _check(spec, reply.fault)
        found = reply.fault or read_echo(reply.body, _TEXT, labels, prompts)
        if not isinstance(found, Fault):
            return len(labels) > 1
        faults.append(found.reason())
    return None


async def _first_that_writes(spec: str, model: str, ask: Ask, faults: list[str]) -> str:
    """Return the first of chat and completions that answers."""
    for path in (wire.CHAT, wire.COMPLETIONS):
        body = wire.generation(path, model, _TEXT, Sampling(max_new_tokens=16))
        reply = await ask(path, body)
        _check(spec, reply.fault)
        found = reply.fault or wire.written(path, reply.body, ())
        if not isinstance(found, Fault) or found.status in ("refused", "parse_error"):
            return path
        faults.append(f"{path}: {found.reason()}")
    raise ModelError(
        f"model {spec!r}: the server answers neither chat nor completions: "
        + "; ".join(faults[-2:])
    )


def _check(spec: str, fault: Fault | None) -> None:
    """Raise for what no other way of asking would mend."""
    if fault is None:
        return
    if fault.http in _FATAL:
        raise ModelError(
            f"model {spec!r}: the server refuses the request ({fault.what}); keys are read from "
            "the environment: option key_env names the variable"
        )
    if fault.http is None and fault.what.startswith("cannot connect"):
        raise ModelError(f"model {spec!r}: {fault.what}; is the server running there?")
    if fault.again and fault.http != 500:
        raise ModelError(f"model {spec!r}: {fault.reason()}; try again when the server is well")
