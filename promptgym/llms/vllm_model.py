"""`vllm:NAME`: a causal model that vLLM runs in this process (the extra `vllm`).

Labels, contexts and lengths are treated as for `hf:NAME`: `VLLMModel` is that backend with another
engine, so both score the same tokens and differ by precision only. Use `openai:` instead where vLLM
runs as a server.
"""

from __future__ import annotations

import threading
from collections.abc import Sequence
from dataclasses import dataclass, field, fields
from typing import Any, cast

import torch

from promptgym.errors import ExtraMissingError, ModelError
from promptgym.llms.base import Completion, Normalization, Sampling, check_sampling
from promptgym.llms.causal import CausalModel
from promptgym.llms.labels import LabelTokens
from promptgym.llms.openai.wire import seeds
from promptgym.llms.transformers_common import (
    TransformersOptions,
    found_folder,
    identity_of,
    kind_of,
)
from promptgym.llms.vllm_engine import VLLMEngine
from promptgym.types import JSON


@dataclass(frozen=True, slots=True)
class VLLMOptions:
    """Options of `load_model("vllm:...")`.

    Attributes:
        dtype: "auto" (the model's own), "float32", "bfloat16" or "float16".
        revision: branch, tag or commit on the Hub.
        tensor_parallel_size: GPUs that share the model.
        gpu_memory_utilization: share of a GPU's memory that vLLM takes.
        max_model_len: tokens of the longest text and answer; None is the model's own.
        normalize: labels of several tokens, see `TransformersOptions`.
        engine: further arguments of `vllm.LLM`, as JSON.
    """

    dtype: str = "auto"
    revision: str | None = None
    tensor_parallel_size: int = 1
    gpu_memory_utilization: float = 0.9
    max_model_len: int | None = None
    normalize: Normalization = "none"
    engine: JSON = field(default_factory=dict)

    @classmethod
    def of(cls, spec: str, options: JSON) -> VLLMOptions:
        """Build from keyword arguments, refusing unknown names and values."""
        known = [f.name for f in fields(cls)]
        unknown = sorted(set(options) - set(known))
        if unknown:
            raise ModelError(f"model {spec!r}: unknown options {unknown}; allowed: {known}")
        out = cls(**options)
        if out.normalize not in ("none", "tokens", "characters"):
            raise ModelError(
                f"model {spec!r}: normalize {out.normalize!r} is not none, tokens or characters"
            )
        if not isinstance(out.engine, dict):
            raise ModelError(f"model {spec!r}: engine must be an object of arguments of vllm.LLM")
        ours = sorted(set(out.engine) & {*known, "model", "trust_remote_code"})
        if ours:
            raise ModelError(
                f"model {spec!r}: engine holds {ours}; give them as options (code from the Hub is "
                "never run)"
            )
        return out

    def arguments(self, name: str) -> JSON:
        """Return the arguments of `vllm.LLM`."""
        out: JSON = {
            "model": name,
            "dtype": self.dtype,
            "revision": self.revision,
            "tokenizer_revision": self.revision,
            "tensor_parallel_size": self.tensor_parallel_size,
            "gpu_memory_utilization": self.gpu_memory_utilization,
            "max_model_len": self.max_model_len,
            "enable_prefix_caching": True,
            "disable_log_stats": True,
            "seed": 0,
        }
        return {k: v for k, v in {**out, **self.engine}.items() if v is not None}


def load_vllm(name: str, *, spec: str, **options: Any) -> VLLMModel:
    """Load a folder or Hub model into vLLM.

    Raises:
        ExtraMissingError: vllm is not installed.
        ModelError: an option that cannot be used, a model that is not causal or that vLLM refuses.
    """
    opts = VLLMOptions.of(spec, options)
    try:
        import vllm
    except ImportError as error:
        raise ExtraMissingError(
            f"model {spec!r} needs vLLM in this process: pip install 'promptgym[vllm]' (a GPU and "
            "Linux; on other machines use hf:NAME, or openai:URL#NAME for a server)"
        ) from error
    from transformers import AutoConfig

    try:
        name = found_folder(name, spec)
        config = AutoConfig.from_pretrained(name, revision=opts.revision)
        kind = kind_of(config.architectures, name)
        if kind != "causal":
            raise ModelError(
                f"model {spec!r} is {kind}; vLLM scores causal models: load it as hf:{name}"
            )
        llm = vllm.LLM(**opts.arguments(name))
    except ModelError:
        raise
    except (OSError, ValueError, RuntimeError, KeyError, TypeError) as error:
        first = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise ModelError(f"model {spec!r} cannot be loaded by vLLM: {first}") from error
    identity = identity_of(name, config)
    out = VLLMModel(VLLMEngine(llm, vllm), spec=spec, options=opts, identity=identity)
    out.given = options
    return out


class VLLMModel(CausalModel):
    """A causal model whose passes are vLLM's; everything else is `CausalModel`'s.

    Attributes:
        engine: vLLM behind the questions of a `CausalEngine`.
    """

    def __init__(
        self, engine: VLLMEngine, *, spec: str, options: VLLMOptions, identity: str
    ) -> None:
        """Take a loaded engine; the model's weights are in it, not here."""
        self.model = None
        self._vllm = engine
        self.engine = cast(Any, engine)
        self.tokenizer = engine.llm.get_tokenizer()
        self.spec = spec
        self.given = {}
        self.options = TransformersOptions(normalize=options.normalize)
        self.name = f"{spec}@{identity}:{options.dtype}{self.options.per}"
        self.mask_token = ""
        self.device = torch.device("cpu")
        self.batch_tokens = 0
        self.max_length = self._longest(options)
        self.special_tokens = int(self.tokenizer.num_special_tokens_to_add(False))
        sample = self.tokenizer("a")["input_ids"]
        self.appends_end = len(sample) > 1 and sample[-1] == self.tokenizer.eos_token_id
        self._lock = threading.RLock()
        self._labels: dict[tuple[bool, tuple[str, ...]], LabelTokens] = {}

    def _longest(self, options: VLLMOptions) -> int | None:
        """Return the tokens of the longest text: one less than vLLM holds, for what it writes."""
        config = getattr(self._vllm.llm, "model_config", None)
        found = options.max_model_len or getattr(config, "max_model_len", None)
        return None if found is None else int(found) - 1

    def generate(self, texts: Sequence[str], sampling: Sampling) -> list[Completion]:
        """Continue every text.

        Sampled texts are seeded by the seed, the text and how often it has come before in the call.
        """
        check_sampling(sampling)
        contexts = self.context_ids(texts)
        out: list[Completion] = []
        for context in contexts:
            reason = self.too_long(len(context) + sampling.max_new_tokens - 1)
            if reason:
                reason = f"{reason} (of these tokens {sampling.max_new_tokens} are for the answer)"
            out.append(Completion("", error=reason))
        good = [i for i, completion in enumerate(out) if completion.error is None]
        drawn = seeds(texts, sampling.seed)
        with self._lock:
            written = self._vllm.generate(
                [contexts[i] for i in good], sampling, [drawn[i] for i in good]
            )
        for i, completion in zip(good, written, strict=True):
            out[i] = completion
        return out
