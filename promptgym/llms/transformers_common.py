"""What every transformers backend shares: loading, identity, tokens, sharing and pickling."""

from __future__ import annotations

import hashlib
import math
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, fields
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
from transformers import AutoConfig, AutoTokenizer
from transformers.utils import logging as hf_logging

from promptgym.errors import ModelError
from promptgym.llms.activations import fuse_activations
from promptgym.llms.base import Completion, Kind, LabelLogprobs, Normalization, Sampling
from promptgym.llms.pieces import PieceTokenizer
from promptgym.llms.shared import SharedModel
from promptgym.types import FloatArray, IntArray

DTYPES = ("float32", "bfloat16", "float16")
KINDS: dict[str, Kind] = {
    "ForCausalLM": "causal",
    "LMHeadModel": "causal",
    "ForMaskedLM": "masked",
    "ForConditionalGeneration": "seq2seq",
    "ForSeq2SeqLM": "seq2seq",
}


@dataclass(frozen=True, slots=True)
class TransformersOptions:
    """Options of `load_model("hf:...")` and of the embedded models.

    Attributes:
        dtype: float32 (exact, the default), bfloat16 or float16.
        device: "auto" (a GPU if there is one, but the CPU for the embedded models), "cpu", "cuda",
            "cuda:1", "mps" ...
        revision: branch, tag or commit on the Hub; None is the main branch.
        attention: implementation in transformers; "auto" is "sdpa" where the architecture has it,
            else "eager".
        batch_tokens: tokens of one forward pass; None is 3,072 on a CPU for small models (larger
            batches leave the processor's cache), 8,192 for those of a width of 512 or more (whose
            weights do not fit in it anyway) and 32,768 elsewhere.
        kv_cache_mb: memory for the key/values of prefixes that recur; 0 keeps none.
        normalize: labels of several tokens: "none" (sum of log-probabilities), per "tokens" or
            per "characters".
        compile: whether `torch.compile` makes the layers faster, which takes up to minutes at
            first; needs a C++ compiler (a GPU: Triton).
    """

    dtype: str = "float32"
    device: str = "auto"
    revision: str | None = None
    attention: str = "auto"
    batch_tokens: int | None = None
    kv_cache_mb: float = 256.0
    normalize: Normalization = "none"
    compile: bool = False

    @classmethod
    def of(cls, spec: str, options: dict[str, Any]) -> TransformersOptions:
        """Build from keyword arguments, refusing unknown names and values."""
        known = [f.name for f in fields(cls)]
        unknown = sorted(set(options) - set(known))
        if unknown:
            raise ModelError(f"model {spec!r}: unknown options {unknown}; allowed: {known}")
        out = cls(**options)
        if out.dtype not in DTYPES:
            raise ModelError(f"model {spec!r}: dtype {out.dtype!r} is not one of {DTYPES}")
        if out.normalize not in ("none", "tokens", "characters"):
            raise ModelError(
                f"model {spec!r}: normalize {out.normalize!r} is not none, tokens or characters"
            )
        size = out.batch_tokens
        if size is not None and (type(size) is not int or size < 1):
            raise ModelError(
                f"model {spec!r}: batch_tokens must be a positive whole number, got {size!r}"
            )
        if not isinstance(out.revision, str | None):
            raise ModelError(f"model {spec!r}: revision is text, got {out.revision!r}")
        kept = out.kv_cache_mb
        if isinstance(kept, bool) or not isinstance(kept, (int, float)) or not 0 <= kept < math.inf:
            raise ModelError(
                f"model {spec!r}: kv_cache_mb is megabytes, 0 or more, got {kept!r}; 0 keeps none"
            )
        if not isinstance(out.compile, bool):
            raise ModelError(f"model {spec!r}: compile is true or false, got {out.compile!r}")
        return out

    @property
    def per(self) -> str:
        """What a model's name says of the normalization: nothing of the default."""
        return "" if self.normalize == "none" else f":per-{self.normalize}"

    def resolved_device(self, spec: str) -> torch.device:
        """Return the device, "auto" resolved.

        Raises:
            ModelError: this machine has no such device.
        """
        if self.device != "auto":
            try:
                return torch.empty(0, device=self.device).device
            except (RuntimeError, AssertionError) as error:  # torch without CUDA asserts
                first = str(error).partition("\n")[0]
                raise ModelError(f"model {spec!r}: device {self.device!r}: {first}") from None
        embedded = ":" not in spec
        return torch.device("cuda" if torch.cuda.is_available() and not embedded else "cpu")


class TransformersModel(SharedModel, ABC):
    """A frozen transformers model with its tokenizer. Subclasses add the forward passes.

    Copying or deep-copying returns the same object; pickling keeps the spec and the options, and
    unpickling goes through the registry.
    """

    kind: Kind
    _pieces: PieceTokenizer | None = None

    def __init__(
        self, model: Any, tokenizer: Any, *, spec: str, identity: str, options: TransformersOptions
    ) -> None:
        """Take a loaded model in eval mode and its tokenizer."""
        self.model = model
        self.tokenizer = tokenizer
        self.spec = spec
        self.options = options
        # Options as written: with the spec, what the registry knows.
        self.given: dict[str, Any] = {}
        dtype = "" if options.dtype == "float32" else f":{options.dtype}"
        self.name = f"{spec}@{identity}{dtype}{options.per}"  # all that scores depend on
        self.mask_token: str = ""
        self.device = next(model.parameters()).device
        self.batch_tokens = options.batch_tokens or batch_tokens_for(model, self.device)
        self.max_length = max_length_of(model, tokenizer)
        self.special_tokens = int(tokenizer.num_special_tokens_to_add(False))
        sample = tokenizer("a")["input_ids"]
        self.appends_end = len(sample) > 1 and sample[-1] == tokenizer.eos_token_id

    def encode(self, texts: Sequence[str], *, special: bool = True) -> list[list[int]]:
        """Tokenize texts in one call, nothing truncated or padded."""
        if not texts:
            return []
        fast = getattr(self.tokenizer, "backend_tokenizer", None)
        if fast is None:
            out = self.tokenizer(list(texts), add_special_tokens=special, verbose=False)
            return [list(ids) for ids in out["input_ids"]]
        if fast.truncation is not None or fast.padding is not None:  # a tokenizer file may set them
            fast.no_truncation()
            fast.no_padding()
        if self._pieces is None or self._pieces.backend is not fast:
            self._pieces = PieceTokenizer(fast)
        return self._pieces.encode(texts, special=special)

    def count_tokens(self, texts: Sequence[str]) -> IntArray:
        """Count the tokens of texts; those the model adds itself (begin, end) are left out."""
        return np.array([len(ids) for ids in self.encode(texts, special=False)], dtype=np.int64)

    def too_long(self, tokens: int) -> str | None:
        """Return what to say about an input of so many tokens, or None if it fits.

        It begins with `refused: `: the kind of failure, as `LabelLogprobs.failures` tells it.
        """
        if self.max_length is None or tokens <= self.max_length:
            return None
        return (
            f"refused: the text has {tokens} tokens, {self.name} reads at most {self.max_length}; "
            "shorten the prompt, or drop demonstrations or long examples"
        )

    @abstractmethod
    def check_labels(self, labels: Sequence[str]) -> None:
        """Raise ModelError if labels cannot be told apart."""

    @abstractmethod
    def label_logprobs(self, texts: Sequence[str], labels: Sequence[str]) -> LabelLogprobs:
        """Score every label of every text."""

    @abstractmethod
    def loglikelihood(self, contexts: Sequence[str], continuations: Sequence[str]) -> FloatArray:
        """Return log P(continuation | context), nats, shape (N,)."""

    @abstractmethod
    def generate(self, texts: Sequence[str], sampling: Sampling) -> list[Completion]:
        """Continue every text."""


def batch_tokens_for(model: Any, device: torch.device) -> int:
    """Return the default tokens of a forward pass, see `TransformersOptions`."""
    if device.type != "cpu":
        return 32768
    width: int = model.get_input_embeddings().weight.shape[1]
    return 3072 if width < 512 else 8192


def max_length_of(model: Any, tokenizer: Any) -> int | None:
    """Return how many tokens a model reads at most; None if it does not say."""
    text = model.config.get_text_config()
    if hasattr(text, "relative_attention_num_buckets"):
        return None  # relative positions (T5): any length is read
    limits = [
        int(value)
        for name in ("max_position_embeddings", "n_positions", "max_seq_len")
        if isinstance(value := getattr(text, name, None), int) and value > 0
    ]
    for name, module in model.named_modules():
        if (
            name.endswith("position_embeddings")
            and getattr(module, "padding_idx", None) is not None
        ):
            # RoBERTa counts positions from behind the padding token's
            limits.append(module.num_embeddings - module.padding_idx - 1)
    limit = getattr(tokenizer, "model_max_length", None)
    if isinstance(limit, int) and 0 < limit < 10**9:
        limits.append(limit)
    return min(limits) if limits else None


def kind_of(architectures: Sequence[str] | None, name: str) -> Kind:
    """Return the kind of model that a config's architectures stand for."""
    for architecture in architectures or ():
        for ending, kind in KINDS.items():
            if architecture.endswith(ending):
                return kind
    raise ModelError(
        f"model {name!r} has the architectures {list(architectures or ())}; expected a causal "
        "(...ForCausalLM), masked (...ForMaskedLM) or encoder-decoder "
        "(...ForConditionalGeneration) language model"
    )


def identity_of(name: str, config: Any) -> str:
    """Return 12 hex digits: the Hub commit, or a hash of a local folder's files."""
    commit = getattr(config, "_commit_hash", None)
    folder = Path(name)
    if commit and not folder.is_dir():
        return str(commit)[:12]
    digest = hashlib.blake2b(digest_size=6)
    for path in sorted(folder.glob("*")):
        if path.suffix in (".json", ".safetensors", ".model", ".txt"):
            about = path.stat()
            digest.update(f"{path.name}:{about.st_size}:".encode())
            digest.update(_digest(path, about.st_size, about.st_mtime_ns))
    return digest.hexdigest()


@cache
def _digest(path: Path, size: int, changed: int) -> bytes:
    """Return the hash of a file's whole content, read once for a size and time of change."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "blake2b").digest()


def found_folder(name: str, spec: str) -> str:
    """Return a model's name as it is, or the folder that it is the path of.

    Raises:
        ModelError: for a path (it begins with `/`, `.` or `~`, or has more than one `/`, which no
            name on the Hub has) at which there is no folder.
    """
    folder = Path(name).expanduser()
    if folder.is_dir():
        return str(folder) if name.startswith("~") else name
    if name.startswith(("/", ".", "~")) or name.count("/") > 1:
        raise ModelError(
            f"model {spec!r} cannot be loaded: there is no folder {str(folder)!r}; expected one "
            "written by save_pretrained (config, tokenizer, safetensors)"
        )
    return name


def kind_here(name: str, revision: Any = None) -> Kind | None:
    """Return the kind of a model by a config that lies on this machine, else None.

    Args:
        name: a folder, or a name on the Hub, whose cache is looked up and nothing else.
        revision: branch, tag or commit on the Hub.
    """
    try:
        folder = str(Path(name).expanduser())
        config = AutoConfig.from_pretrained(folder, revision=revision, local_files_only=True)
        return kind_of(config.architectures, name)
    except (OSError, ValueError, RuntimeError, KeyError, ImportError, TypeError, ModelError):
        return None  # whatever is wrong with it, loading says it better


def load_transformers(name: str, *, spec: str, **options: Any) -> TransformersModel:
    """Load a folder or Hub model; its config's architectures choose the backend.

    Only safetensors weights are read and no code from the Hub is run.

    Raises:
        ModelError: the model, its tokenizer or an option is not usable; says which and why.
    """
    opts = TransformersOptions.of(spec, options)
    name = found_folder(name, spec)
    try:
        config = AutoConfig.from_pretrained(name, revision=opts.revision)
        kind = kind_of(config.architectures, name)
        tokenizer = AutoTokenizer.from_pretrained(name, revision=opts.revision)
        if not tokenizer.get_vocab():
            raise OSError("it comes without a tokenizer.")
        backend, auto = _backend(kind)
        bar = hf_logging.is_progress_bar_enabled()
        hf_logging.disable_progress_bar()
        try:
            model = auto.from_pretrained(
                name,
                revision=opts.revision,
                dtype=getattr(torch, opts.dtype),
                attn_implementation=None if opts.attention == "auto" else opts.attention,
                use_safetensors=True,
            )
        finally:
            if bar:
                hf_logging.enable_progress_bar()
        model = model.to(opts.resolved_device(spec))
    except ModelError:
        raise
    except (OSError, ValueError, RuntimeError, KeyError, ImportError) as error:
        first = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise ModelError(
            f"model {spec!r} cannot be loaded: {first} Give a folder written by save_pretrained "
            "(config, tokenizer, safetensors), or a Hub name while online or cached."
        ) from error
    model.eval().requires_grad_(False)
    fuse_activations(model)
    identity = identity_of(name, config)
    out = backend(model, tokenizer, spec=spec, identity=identity, options=opts)
    out.given = options
    if opts.compile:
        check_compiler(spec, out.device)
        # Below the head, where prefixes are read, too; any length of texts with one compilation.
        model.base_model.compile(dynamic=True)
    return out


def check_compiler(spec: str, device: torch.device) -> None:
    """Compile something small.

    Raises:
        ModelError: `torch.compile` does not work here.
    """
    try:
        torch.compile(torch.sin)(torch.zeros(2, device=device))
    except RuntimeError as error:
        first = str(error).strip().partition("\n")[0]
        raise ModelError(
            f"model {spec!r}: torch.compile does not work here: {first}; install a C++ compiler "
            "(g++; Triton for a GPU), or load the model without compile"
        ) from error


def _backend(kind: Kind) -> tuple[type[TransformersModel], Any]:
    """Return our class and the transformers auto class of a kind."""
    import transformers

    if kind == "causal":
        from promptgym.llms.causal import CausalModel

        return CausalModel, transformers.AutoModelForCausalLM
    if kind == "masked":
        from promptgym.llms.masked import MaskedModel

        return MaskedModel, transformers.AutoModelForMaskedLM
    from promptgym.llms.seq2seq import Seq2SeqModel

    return Seq2SeqModel, transformers.AutoModelForSeq2SeqLM
