"""The one table of environments, and its registration with Gymnasium."""

from __future__ import annotations

from gymnasium.envs.registration import register, registry

ENVIRONMENTS: dict[str, tuple[str, str]] = {
    # id: (entry point of the scalar environment, entry point of the vector environment)
    "PromptEdit-v0": ("promptgym.envs.prompt_edit:make", "promptgym.envs.prompt_edit:make_vec"),
    "PromptRewrite-v0": (
        "promptgym.envs.prompt_rewrite:make",
        "promptgym.envs.prompt_rewrite:make_vec",
    ),
    "PromptToken-v0": ("promptgym.envs.prompt_token:make", "promptgym.envs.prompt_token:make_vec"),
    "InstanceRewrite-v0": (
        "promptgym.envs.instance_rewrite:make",
        "promptgym.envs.instance_rewrite:make_vec",
    ),
}


def register_all() -> None:
    """Register each row of `ENVIRONMENTS` that Gymnasium does not know yet."""
    for env_id, (entry_point, vector_entry_point) in ENVIRONMENTS.items():
        if env_id not in registry:
            register(env_id, entry_point=entry_point, vector_entry_point=vector_entry_point)
