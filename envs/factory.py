"""Entry points: plain arguments -> problem -> MDP -> shell.

Arguments that every environment takes, besides its own:

| argument | default | what |
|---|---|---|
| `task`, `task_options` | "author", None | a task, or name and more arguments for `load_task` |
| `model`, `model_options` | "tiny", None | a model, or name and more for `load_model` |
| `reward` | "gap" | a reward, its name, or `{"name": ..., ...}` |
| `template` | None | a `Template` or its text; None for the task's own |
| `vocabulary` | None | units that may be written; None for the task's own |
| `initial_prompt` | None | where editing starts; None for the task's first manual prompt |
| `budget` | None | cap on queries, or `{"queries": ..., "tokens": ...}` |
| `cache` | None | the cache that outlives the run, as `Problem` takes it: True, False or a place |
| `max_failures` | 0.5 | share of failed evaluations above which scoring stops |
| `problem` | None | a live `Problem` in place of all of the above; its budget is then shared |
| `shaping`, `reward_scale` | by environment | see `ShellOptions` |
| `archive`, `archive_probability` | 0, 0.75 | see `ShellOptions` |
| `render_mode` | None | "ansi" or "human" |

Vector environments take `num_envs`, `max_episode_steps` and `autoreset_mode` in addition. Named
models are loaded once a process; each environment made from names has its own budget.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import fields
from functools import partial
from typing import Any

from promptgym.arguments import check_arguments, hints, takes_any
from promptgym.envs.episode import ShellOptions
from promptgym.envs.mdp import PromptMDP
from promptgym.envs.shell import PromptEnv
from promptgym.envs.vector import PromptVectorEnv
from promptgym.errors import ConfigError
from promptgym.problem import Problem, make_problem

PROBLEM_ARGUMENTS = (
    "task",
    "task_options",
    "model",
    "model_options",
    "reward",
    "template",
    "vocabulary",
    "initial_prompt",
    "budget",
    "cache",
    "max_failures",
)
SHELL_ARGUMENTS = tuple(f.name for f in fields(ShellOptions))

Parts = tuple[PromptMDP, ShellOptions]


def entry_points(
    mdp: Callable[..., PromptMDP], **shell_defaults: Any
) -> tuple[Callable[..., PromptEnv], Callable[..., PromptVectorEnv]]:
    """Return the entry points that Gymnasium's `register` wants, scalar and vector.

    Put them into the module of the MDP as `make` and `make_vec`; a pickled environment finds them
    there again.

    Args:
        mdp: the class (or a function) taking a problem and the environment's own arguments.
        shell_defaults: defaults of `ShellOptions` that suit it.
    """

    def make(*, render_mode: str | None = None, **arguments: Any) -> PromptEnv:
        """Make the scalar environment; see `promptgym.envs.factory` for the arguments."""
        whole = {"render_mode": render_mode, **arguments}
        rebuild = rebuilder(mdp.__module__, "make", whole)
        return PromptEnv(
            *parts(mdp, arguments, shell_defaults), render_mode=render_mode, rebuild=rebuild
        )

    def make_vec(
        *,
        num_envs: int = 1,
        max_episode_steps: int | None = None,
        autoreset_mode: Any = "NextStep",
        render_mode: str | None = None,
        **arguments: Any,
    ) -> PromptVectorEnv:
        """Make the vector environment; see `promptgym.envs.factory` for the arguments."""
        shape = {
            "num_envs": num_envs,
            "max_episode_steps": max_episode_steps,
            "autoreset_mode": autoreset_mode,
            "render_mode": render_mode,
        }
        rebuild = rebuilder(mdp.__module__, "make_vec", {**shape, **arguments})
        return PromptVectorEnv(*parts(mdp, arguments, shell_defaults), **shape, rebuild=rebuild)

    return make, make_vec


def parts(
    mdp: Callable[..., PromptMDP], arguments: Mapping[str, Any], shell_defaults: Mapping[str, Any]
) -> Parts:
    """Return the MDP and the shell's options that plain arguments stand for.

    Args:
        mdp: as of `entry_points`.
        arguments: those of the problem, the shell and the MDP, together.
        shell_defaults: defaults of `ShellOptions` that suit the MDP.

    Raises:
        ConfigError: for an argument that nobody takes, or of the wrong type.
    """
    own = dict(arguments)
    problem = own.pop("problem", None)
    given = {name: own.pop(name) for name in PROBLEM_ARGUMENTS if name in own}
    shell = {name: own.pop(name) for name in SHELL_ARGUMENTS if name in own}
    if problem is None:
        problem = make_problem(**given)
    elif given:
        raise ConfigError(
            f"{sorted(given)} cannot be given beside `problem`, which has them already"
        )
    elif not isinstance(problem, Problem):
        raise ConfigError(f"problem must be a Problem, got {type(problem).__name__}")
    name = getattr(mdp, "__name__", str(mdp))
    check_arguments(name, hints(ShellOptions), shell, ConfigError)
    known = {key: hint for key, hint in hints(mdp).items() if key != "problem"}
    if takes_any(mdp):
        known = dict.fromkeys(own, Any) | known
    known |= dict.fromkeys((*PROBLEM_ARGUMENTS, *SHELL_ARGUMENTS, "render_mode"), Any)
    check_arguments(name, known, own, ConfigError)
    return mdp(problem, **own), ShellOptions(**{**shell_defaults, **shell})


def rebuilder(module: str, name: str, arguments: dict[str, Any]) -> Callable[[], Any] | None:
    """Return what makes the same environment anew: an entry point with its arguments.

    Args:
        module: where the entry point is.
        name: of the entry point.
        arguments: what it was called with.

    Returns:
        None if the arguments are not JSON.
    """
    try:
        json.dumps(arguments)
    except (TypeError, ValueError):
        return None
    return partial(_again, module, name, arguments)


def _again(module: str, name: str, arguments: dict[str, Any]) -> Any:
    """Call the entry point of a module (module-level, so that pickles can name it)."""
    from importlib import import_module

    return getattr(import_module(module), name)(**arguments)
