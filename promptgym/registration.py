"""The tables of environments, and their registration with Gymnasium and PettingZoo."""

from __future__ import annotations

import pettingzoo
from gymnasium.envs.registration import register, registry

ENVIRONMENTS: dict[str, tuple[str, str]] = {
    # id: (entry point of the scalar environment, entry point of the vector environment)
    "PromptEdit-v0": ("promptgym.envs.prompt_edit:make", "promptgym.envs.prompt_edit:make_vec"),
    "PromptRewrite-v0": (
        "promptgym.envs.prompt_rewrite:make",
        "promptgym.envs.prompt_rewrite:make_vec",
    ),
    "PromptTable-v0": ("promptgym.envs.prompt_table:make", "promptgym.envs.prompt_table:make_vec"),
    "PromptToken-v0": ("promptgym.envs.prompt_token:make", "promptgym.envs.prompt_token:make_vec"),
    "InstanceRewrite-v0": (
        "promptgym.envs.instance_rewrite:make",
        "promptgym.envs.instance_rewrite:make_vec",
    ),
}

MULTI_AGENT: dict[str, tuple[str, str]] = {
    # id: (entry point of the AEC environment, entry point of the parallel environment)
    "MultiPrompter-v0": (
        "promptgym.envs.multi_prompter:env",
        "promptgym.envs.multi_prompter:parallel_env",
    ),
}


def module_of(env_id: str) -> str:
    """Return the module of a registered environment."""
    return {**ENVIRONMENTS, **MULTI_AGENT}[env_id][0].partition(":")[0]


def register_all() -> None:
    """Register each row of `ENVIRONMENTS` and `MULTI_AGENT` that is not known yet."""
    for env_id, (entry_point, vector_entry_point) in ENVIRONMENTS.items():
        if env_id not in registry:
            register(env_id, entry_point=entry_point, vector_entry_point=vector_entry_point)
    for env_id, (aec, parallel) in MULTI_AGENT.items():
        if env_id not in pettingzoo.aec_registry:
            pettingzoo.register("aec", env_id, aec)
        if env_id not in pettingzoo.parallel_registry:
            pettingzoo.register("parallel", env_id, parallel)
