"""Which models write prompts: a proposer generates, and not every model does.

A mistake is told before anything is loaded, as far as a name says what is behind it. The embedded
models and tables are known by name. Of a model of transformers the `config.json` is read, if it
lies in the model's folder or in the Hub's cache on this machine; nothing is downloaded for it, so
that of a model that was never here one hears when it is loaded.
"""

from __future__ import annotations

from typing import Any

from promptgym.errors import ConfigError
from promptgym.llms.base import LanguageModel
from promptgym.llms.registry import TINY, shown

ALLOWED = (
    "give one that writes: tiny-rewriter, tiny, hf:NAME (causal or encoder-decoder), "
    "openai:URL#model, vllm:NAME"
)


def check_writer(model: LanguageModel) -> None:
    """Refuse a model that writes nothing as a proposer.

    Raises:
        ConfigError: naming the model and those that do.
    """
    if not hasattr(model, "generate"):
        raise ConfigError(f"proposer must be a model that generates, got {model!r}")
    if getattr(model, "kind", "") == "masked":
        raise _refusal(model.name, "a masked model")


def check_writer_name(spec: str, options: dict[str, Any]) -> None:
    """Refuse a proposer of which its name, or what lies on this machine, says that it writes none.

    Args:
        spec: what `load_model` takes; nothing is loaded.
        options: its further arguments.

    Raises:
        ConfigError: naming the model and those that do.
    """
    scheme, _, name = spec.partition(":")
    if scheme == "ray":
        check_writer_name(name, options)
    elif scheme == "table":
        raise _refusal(spec, "a prompt table")
    elif TINY.get(spec) == "masked":
        raise _refusal(spec, "a masked model")
    elif scheme in ("hf", "vllm"):
        from promptgym.llms.transformers_common import kind_here

        if kind_here(name, options.get("revision")) == "masked":
            raise _refusal(spec, "a masked model")


def _refusal(name: str, what: str) -> ConfigError:
    """Return what is said of a model that writes nothing."""
    return ConfigError(f"proposer {shown(name)!r} is {what} and writes no prompts; {ALLOWED}")
