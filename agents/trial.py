"""Settings that are passed on to TRL, peft and transformers, tried before a model is asked.

What these libraries refuse they refuse late: TRL some values only in the first update. So settings
that were given are tried on the embedded rewriter first, in one update, and what is raised becomes
an error that names them.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch

from promptgym.agents.writer import lora_config, quiet, rewriter_place
from promptgym.errors import ConfigError, ModelError, PromptGymError
from promptgym.types import JSON

HEAVY = ("deepspeed", "fsdp", "fsdp_config", "parallelism_config", "torch_compile")
"""Settings of TRL's configurations that are not for a trial in this process."""
OF_CONFIG = ("trust_remote_code", "revision", "token")
"""Arguments of `from_pretrained` that its configuration is found with."""
QUIETLY: JSON = {"max_steps": 1, "report_to": "none", "push_to_hub": False}
"""What a trial never does otherwise."""
MODES = ("colocate", "server")


@contextmanager
def named(setting: str, given: object) -> Iterator[None]:
    """Turn what a library raises into an error that names a setting and what was given.

    Raises:
        ConfigError: with what the library expected, in its own words.
    """
    try:
        yield
    except PromptGymError:
        raise
    except Exception as error:  # of any library, and of any kind
        said = " ".join(str(error).split()) or type(error).__name__
        raise ConfigError(f"{setting}={given!r} is refused: {said}") from error


def try_lora(agent: str, rewriter: str, options: Mapping[str, Any], lora: JSON) -> None:
    """Put low-rank adapters on a rewriter without weights.

    Raises:
        ConfigError: without peft, or if it refuses the options.
        ModelError: if the rewriter is not found.
    """
    adapters = lora_config(lora)
    from peft import get_peft_model
    from transformers import AutoConfig, AutoModelForCausalLM

    found = {name: options[name] for name in OF_CONFIG if name in options}
    try:
        config = AutoConfig.from_pretrained(rewriter_place(rewriter), **found)
        with torch.device("meta"):
            bare = AutoModelForCausalLM.from_config(config)
    except (OSError, ValueError) as error:
        raise ModelError(f"the rewriter {rewriter!r} cannot be loaded: {error}") from None
    with named(f"{agent}: lora", lora), torch.device("meta"), quiet():
        get_peft_model(bare, adapters)


def try_trainer(agent: str, config: Any, given: JSON, update: Callable[[], None]) -> None:
    """Try settings of a trainer, if there are any.

    Args:
        agent: registered name, for the message.
        config: TRL's configuration.
        given: the settings.
        update: trains the embedded rewriter once with them.

    Raises:
        ConfigError: naming what is refused.
    """
    check_vllm(agent, config)
    alone = int(os.environ.get("WORLD_SIZE", "1")) == 1
    if given and alone and not any(given.get(name) for name in HEAVY):
        with named(f"{agent}: trainer", given), quiet():
            update()


def check_vllm(agent: str, config: Any) -> None:
    """Refuse vLLM where it is not installed, and values that it has no use for.

    Raises:
        ConfigError: naming the setting.
    """
    if not getattr(config, "use_vllm", False):
        return
    from trl.import_utils import is_vllm_available

    mode, share = config.vllm_mode, config.vllm_gpu_memory_utilization
    if mode not in MODES:
        raise ConfigError(f"{agent}: trainer: vllm_mode must be one of {MODES}, got {mode!r}")
    if not 0 < share <= 1:
        raise ConfigError(
            f"{agent}: trainer: vllm_gpu_memory_utilization must be above 0 and at most 1, "
            f"got {share}"
        )
    if not is_vllm_available():
        raise ConfigError(
            f"{agent}: trainer: use_vllm=True needs vLLM, which is not installed: "
            "pip install 'promptgym[vllm]', in a version that TRL takes; or leave use_vllm out"
        )
