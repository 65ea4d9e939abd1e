"""Multi-agent environments for the tests: variants, and what makes and plays them."""

from __future__ import annotations

from typing import Any

import pettingzoo
from env_problems import problem_for

from promptgym.prompts import Prompt

ID = "MultiPrompter-v0"
VARIANTS: dict[str, dict[str, Any]] = {
    "token": {},
    "token-one": {"prompters": 1, "tokens": 3},
    "token-stop-fluent": {"prompters": 3, "tokens": 1, "early_stop": True, "fluency": 4},
    "edit": {"scenario": "editor-critic", "horizon": 4},
    "edit-pool": {"scenario": "editor-critic", "horizon": 4, "swap": True},
    "edit-archive": {"scenario": "editor-critic", "archive": 2, "horizon": 2},
    "edit-generation": {"scenario": "editor-critic", "shaping": "sparse", "horizon": 3},
}
PARALLEL: dict[str, dict[str, Any]] = {
    "token": {},
    "token-one": {"prompters": 1, "tokens": 3},
    "token-fluent": {"prompters": 3, "tokens": 2, "fluency": 4},
}


def aec(variant: str = "token", **more: Any) -> Any:
    problem = more.pop("problem", None) or problem_for(variant)
    return pettingzoo.make("aec", ID, problem=problem, **{**VARIANTS[variant], **more})


def parallel(variant: str = "token", **more: Any) -> Any:
    problem = more.pop("problem", None) or problem_for(variant)
    return pettingzoo.make("parallel", ID, problem=problem, **{**PARALLEL[variant], **more})


def draw(env: Any) -> Any:
    """Draw a legal action of whoever acts."""
    agent = env.agent_selection
    return env.action_space(agent).sample(env.infos[agent]["action_mask"])


def reward_of(text: str) -> float:
    problem = problem_for("token")
    return float(problem.rewards(problem.score([Prompt(text)]))[0])
