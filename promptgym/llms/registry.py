"""`load_model`: from a name to a shared, loaded model."""

from __future__ import annotations

import json
import re
import threading
from collections.abc import Callable
from typing import Any

from promptgym.errors import ModelError
from promptgym.llms.base import LanguageModel

Loader = Callable[..., LanguageModel]

TINY = {"tiny": "causal", "tiny-masked": "masked", "tiny-rewriter": "rewriter"}
LOADERS: dict[str, Loader] = {}
_loaded: dict[str, LanguageModel] = {}
_lock = threading.RLock()


def register_loader(scheme: str) -> Callable[[Loader], Loader]:
    """Register `loader(name, spec=..., **options)` for specs of the form `scheme:name`."""

    def add(loader: Loader) -> Loader:
        if scheme in LOADERS:
            raise ModelError(f"a loader for {scheme!r} is registered already")
        LOADERS[scheme] = loader
        return loader

    return add


def load_model(spec: str, /, **options: Any) -> LanguageModel:
    """Return the model a spec names, loaded once per process for equal spec and options.

    Args:
        spec: `"tiny"`, `"tiny-masked"`, `"tiny-rewriter"` (embedded, offline), or
            `"hf:NAME_OR_FOLDER"` (a causal, masked or encoder-decoder model of transformers),
            `"openai:http://host:port/v1#model"` (a model at an OpenAI-compatible server),
            `"replay:FILE_OR_FOLDER"` (what a model said or scored before),
            `"table:NAME_OR_FILE"` (a prompt table, where every prompt's score is known),
            `"ray:SPEC"` (replicas of a model as Ray actors) or
            `"vllm:NAME_OR_FOLDER"` (a causal model that vLLM runs in this process).
        options: JSON values for the backend; see
            `promptgym.llms.transformers_common.TransformersOptions` and
            `promptgym.llms.openai.options.OpenAIOptions`.

    Raises:
        ModelError: unknown spec or option, or a model that cannot be loaded.
    """
    try:
        key = json.dumps([spec, options], sort_keys=True)
    except TypeError as error:
        what = f"model {shown(spec)!r}: options must be JSON values ({error})"
        raise ModelError(what) from None
    with _lock:
        if key not in _loaded:
            _loaded[key] = _load(spec, options)
        return _loaded[key]


def _load(spec: str, options: dict[str, Any]) -> LanguageModel:
    """Load a model anew."""
    if own := options.keys() & {"name", "spec"}:
        raise ModelError(
            f"model {shown(spec)!r} has no option {min(own)!r}: the spec alone names it"
        )
    if spec in TINY:
        from promptgym.llms.tiny import weights_path

        try:
            path = weights_path(TINY[spec])
        except FileNotFoundError as error:
            raise ModelError(f"model {spec!r}: {error}") from error
        return LOADERS["hf"](str(path), spec=spec, **options)
    scheme, colon, name = spec.partition(":")
    if not colon or scheme not in LOADERS or not name:
        known = [*TINY, *(f"{s}:NAME" for s in LOADERS)]
        hint = f"; for a transformers model write 'hf:{shown(spec)}'" if not colon else ""
        raise ModelError(f"unknown model {shown(spec)!r}; known: {', '.join(known)}{hint}")
    return LOADERS[scheme](name, spec=spec, **options)


def shown(spec: str) -> str:
    """Return a spec as messages may show it: what may be a secret in an address is `***`."""
    return re.sub(r"(?<=://)[^/#]*(?=@)|(?<=\?)[^#]*", "***", spec)


def reload_model(spec: str, options: dict[str, Any]) -> LanguageModel:
    """Rebuild a pickled model: what `__reduce__` of a backend names."""
    return load_model(spec, **options)


def forget_models() -> None:
    """Drop the registry's references, so that models nobody holds are freed."""
    with _lock:
        _loaded.clear()


@register_loader("hf")
def _load_transformers(name: str, *, spec: str, **options: Any) -> LanguageModel:
    """Load a model of transformers; imported only here, so that torch is."""
    from promptgym.llms.transformers_common import load_transformers

    return load_transformers(name, spec=spec, **options)


@register_loader("openai")
def _load_openai(name: str, *, spec: str, **options: Any) -> LanguageModel:
    """Load a model at a server; imported only here, so that the HTTP library is."""
    from promptgym.llms.openai.model import OpenAIModel

    return OpenAIModel(name, spec=spec, **options)


@register_loader("replay")
def _load_replay(name: str, *, spec: str, **options: Any) -> LanguageModel:
    """Load a record of a model: its answers, or its scores."""
    from promptgym.llms.replay import load_replay

    return load_replay(name, spec=spec, **options)


@register_loader("table")
def _load_table(name: str, *, spec: str, **options: Any) -> LanguageModel:
    """Load the model of a prompt table."""
    from promptgym.llms.table import load_table

    return load_table(name, spec=spec, **options)


@register_loader("ray")
def _load_ray(name: str, *, spec: str, **options: Any) -> LanguageModel:
    """Put replicas of a model behind the contract of one; imported only here, so that ray is."""
    from promptgym.llms.ray_model import RayModel

    return RayModel(name, spec=spec, **options)


@register_loader("vllm")
def _load_vllm(name: str, *, spec: str, **options: Any) -> LanguageModel:
    """Load a causal model into vLLM; imported only here, so that torch and vllm are."""
    from promptgym.llms.vllm_model import load_vllm

    return load_vllm(name, spec=spec, **options)
