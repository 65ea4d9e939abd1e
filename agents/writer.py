"""`Writer`: the language model that writes prompts: loaded, sampled from, saved."""

from __future__ import annotations

import logging
import os
import tempfile
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError

from promptgym.agents.checkpoint import make_readable, remove_weights, write_about
from promptgym.errors import ConfigError, ModelError
from promptgym.integrations.trl import text_of
from promptgym.llms.tiny import REWRITE_TEMPLATE, weights_path
from promptgym.types import JSON

EMBEDDED = "tiny-rewriter"
ADAPTER = "adapter_config.json"  # of peft
BATCH = 64  # texts written at once


class Writer:
    """A causal model of transformers with its tokenizer, one that may be trained.

    Attributes:
        model: the model; of its own, shared with nobody.
        tokenizer: its tokenizer, padding on the left.
        chat: whether it is asked in conversations.
    """

    def __init__(self, model: Any, tokenizer: Any, *, chat: bool) -> None:
        """Put the parts together."""
        self.model, self.tokenizer, self.chat = model, tokenizer, chat

    @classmethod
    def load(cls, spec: str, options: Mapping[str, Any] | None = None) -> Writer:
        """Load a model anew.

        Args:
            spec: "tiny-rewriter" (embedded) or "hf:NAME_OR_FOLDER".
            options: further arguments of `from_pretrained`; its dtype is float32 unless given.

        Raises:
            ConfigError: for another spec.
            ModelError: if it cannot be loaded.
        """
        place, given = rewriter_place(spec), f" with {dict(options)}" if options else ""
        try:
            tokenizer, model = _tokenizer(place), _model(place, options or {})
        except (OSError, ValueError, TypeError, AttributeError, ImportError, RuntimeError) as error:
            raise ModelError(f"the rewriter {spec!r} cannot be loaded{given}: {error}") from error
        chat = spec != EMBEDDED and bool(getattr(tokenizer, "chat_template", None))
        return cls(model, tokenizer, chat=chat)

    @torch.no_grad()
    def write(
        self,
        texts: Sequence[str],
        *,
        temperature: float = 1.0,
        max_tokens: int = 256,
        seed: int = 0,
    ) -> list[str]:
        """Continue texts; the process's random generators are left as they were.

        Args:
            texts: what the model is asked (as a user's message in a conversation, if `chat`).
            temperature: of the draws; 0 writes the likeliest token each time.
            max_tokens: longest continuation.
            seed: of the draws.
        """
        asked = [self._asked(text) for text in texts]
        device = self.model.device
        drawn: dict[str, Any] = {"do_sample": temperature > 0}
        if temperature > 0:
            drawn |= {"temperature": temperature, "top_k": 0, "top_p": 1.0}
        training = self.model.training
        self.model.eval()
        out: list[str] = []
        with torch.random.fork_rng([device] if device.type == "cuda" else []):
            torch.manual_seed(seed)
            for start in range(0, len(asked), BATCH):
                part = asked[start : start + BATCH]
                inputs = self.tokenizer(
                    part, return_tensors="pt", padding=True, add_special_tokens=not self.chat
                ).to(device)
                written = self.model.generate(**inputs, max_new_tokens=max_tokens, **drawn)
                new = written[:, inputs["input_ids"].shape[1] :]
                out += self.tokenizer.batch_decode(new, skip_special_tokens=True)
        self.model.train(training)
        return [text_of(text) for text in out]

    @torch.no_grad()
    def logprobs(self, texts: Sequence[str], written: Sequence[str]) -> list[tuple[float, int]]:
        """Return log P(written and its end | text) in nats, and how many tokens that is.

        Args:
            texts: what the model is asked, N of them.
            written: what it wrote, N.
        """
        training, found = self.model.training, []
        self.model.eval()
        for text, answer in zip(texts, written, strict=True):
            asked = self._ids(self._asked(text))
            whole = self._ids(self._asked(text) + answer + self.tokenizer.eos_token)
            ids = torch.tensor([whole], device=self.model.device)
            logits = self.model(input_ids=ids).logits[0, len(asked) - 1 : -1].float()
            rows = torch.log_softmax(logits, -1).gather(1, ids[0, len(asked) :, None])
            found.append((float(rows.sum()), len(rows)))
        self.model.train(training)
        return found

    def _ids(self, text: str) -> list[int]:
        """Return the tokens of a text as the model reads it."""
        ids: list[int] = self.tokenizer(text, add_special_tokens=not self.chat)["input_ids"]
        return ids

    def _asked(self, text: str) -> str:
        """Return a text as the model reads it."""
        if not self.chat:
            return text
        message = [{"role": "user", "content": text}]
        shown = self.tokenizer.apply_chat_template(
            message, tokenize=False, add_generation_prompt=True
        )
        return str(shown)

    def save(self, folder: Path, agent: str, about: JSON) -> None:
        """Write model (safetensors; of LoRA the adapter), tokenizer and `policy.json`."""
        folder.mkdir(parents=True, exist_ok=True)
        for adapter in getattr(self.model, "peft_config", {}).values():
            adapter.base_model_name_or_path = about["options"]["rewriter"].removeprefix("hf:")
        with tempfile.TemporaryDirectory(dir=folder) as place, quiet():
            new = Path(place)
            self.model.save_pretrained(new)
            (new / "README.md").unlink(missing_ok=True)  # peft's empty form
            self.tokenizer.save_pretrained(new)
            for weights in new.glob("*.safetensors"):
                make_readable(weights)
            files = sorted(new.iterdir())
            remove_weights(folder, [path.name for path in files])
            for path in files:
                os.replace(path, folder / path.name)
        write_about(folder, agent, {"chat": self.chat, **about})

    @classmethod
    def read(cls, folder: Path, about: JSON) -> Writer:
        """Return what `save` wrote, on the GPU if there is one.

        Adapters are put on the model that they were trained on, which is loaded as it was then.

        Args:
            folder: of the saved policy.
            about: its `policy.json`.

        Raises:
            ConfigError: if the policy is damaged.
        """
        try:
            adapted = (folder / ADAPTER).is_file()
            place = rewriter_place(about["options"]["rewriter"]) if adapted else str(folder)
            model = _model(place, about["options"]["rewriter_options"])
            if adapted:
                model = _adapted(model, folder)
            tokenizer = _tokenizer(str(folder))
            chat = about["chat"]
        except (OSError, ValueError, KeyError, TypeError, SafetensorError) as error:
            raise ConfigError(f"the policy in {folder} is damaged: {error}") from None
        return cls(model.to(_device()), tokenizer, chat=chat)


def rewriter_place(spec: str) -> str:
    """Return where a rewriter's weights are.

    Raises:
        ConfigError: for a spec that is neither embedded nor of transformers.
    """
    if spec == EMBEDDED:
        return str(weights_path("rewriter"))
    scheme, _, name = spec.partition(":")
    if scheme != "hf" or not name:
        raise ConfigError(
            f"a rewriter is trained, so it is {EMBEDDED!r} or 'hf:NAME_OR_FOLDER', got {spec!r}"
        )
    return name


def default_meta_prompt(spec: str) -> str | None:
    """Return how a rewriter is asked; None for the environment's own meta-prompt."""
    return REWRITE_TEMPLATE if spec == EMBEDDED else None


def lora_config(options: Mapping[str, Any]) -> Any:
    """Return peft's configuration of low-rank adapters.

    Raises:
        ConfigError: without peft, or for an option that it refuses.
    """
    _peft()
    from peft import LoraConfig

    try:
        return LoraConfig(**{"task_type": "CAUSAL_LM", **options})
    except (TypeError, ValueError, AttributeError, ImportError) as error:
        raise ConfigError(f"lora={dict(options)!r} is refused: {error}") from None


def _tokenizer(place: str) -> Any:
    """Load a tokenizer that pads on the left."""
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(place, padding_side="left")
    if tokenizer.pad_token is None:
        tokenizer.pad_token = tokenizer.eos_token
    return tokenizer


def _model(place: str, options: Mapping[str, Any]) -> Any:
    """Load a model, in float32 unless the options say otherwise."""
    from transformers import AutoModelForCausalLM

    with quiet():
        return AutoModelForCausalLM.from_pretrained(place, **{"dtype": "float32", **options})


def _adapted(model: Any, folder: Path) -> Any:
    """Put saved adapters on their model."""
    _peft()
    from peft import PeftModel

    return PeftModel.from_pretrained(model, folder)


def _device() -> str:
    """Return where a model is put that is not trained any more."""
    return "cuda" if torch.cuda.is_available() else "cpu"


def _peft() -> None:
    """Refuse low-rank adapters where peft is missing.

    Raises:
        ConfigError: with the command that installs it.
    """
    if find_spec("peft") is None:
        raise ConfigError("lora needs peft, which is not installed: pip install 'promptgym[lora]'")


@contextmanager
def quiet() -> Iterator[None]:
    """Keep from the terminal what transformers, datasets and TRL say to their own callers.

    These are progress bars, deprecations, and TRL's warning of a completion without a reward, which
    is how a budget ends.
    """
    from datasets import utils as datasets
    from transformers.utils import logging as transformers_logging

    trainers = [logging.getLogger(f"trl.trainer.{name}_trainer") for name in ("grpo", "rloo")]
    shown = transformers_logging.is_progress_bar_enabled()
    mapped = not datasets.are_progress_bars_disabled()
    transformers_logging.disable_progress_bar()
    datasets.disable_progress_bars()
    for logger in trainers:
        logger.addFilter(_is_news)
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", category=FutureWarning, module="transformers")
            yield
    finally:
        for logger in trainers:
            logger.removeFilter(_is_news)
        if shown:
            transformers_logging.enable_progress_bar()
        if mapped:
            datasets.enable_progress_bars()


def _is_news(record: logging.LogRecord) -> bool:
    """Whether a message of TRL is to be shown."""
    return "All reward functions returned None" not in record.getMessage()
