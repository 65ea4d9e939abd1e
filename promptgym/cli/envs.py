"""`promptgym envs`: the environments and their pages."""

from __future__ import annotations

import importlib
import inspect
from typing import Annotated

import typer

from promptgym.cli.common import examples, print_json, print_table
from promptgym.cli.options import AsJson
from promptgym.errors import ConfigError

EXAMPLES = examples("promptgym envs", "promptgym envs PromptEdit-v0", "promptgym envs --json")

EnvId = Annotated[str | None, typer.Argument(metavar="ID", help="Show one environment's page.")]


def list_ids() -> list[str]:
    """Return the ids of all environments, those of several agents last."""
    from promptgym.registration import ENVIRONMENTS, MULTI_AGENT

    return [*ENVIRONMENTS, *MULTI_AGENT]


def page_of(env_id: str) -> str:
    """Return the page of an environment: the docstring of the class that its id names.

    Raises:
        ConfigError: for an id that is not registered.
    """
    from promptgym.registration import module_of

    known = list_ids()
    if env_id not in known:
        raise ConfigError(f"unknown environment {env_id!r}; known: {', '.join(known)}")
    module = importlib.import_module(module_of(env_id))
    return inspect.getdoc(getattr(module, env_id.rpartition("-v")[0])) or ""


def envs(env_id: EnvId = None, as_json: AsJson = False) -> None:
    """List the environments, or show the page of one."""
    if env_id is not None:
        page = page_of(env_id)
        if as_json:
            print_json({"id": env_id, "page": page})
        else:
            print(page)
        return
    lines = {name: page_of(name).strip().partition("\n")[0] for name in list_ids()}
    if as_json:
        print_json([{"id": name, "summary": line} for name, line in lines.items()])
    else:
        print_table(["environment", "what it is"], [[name, line] for name, line in lines.items()])
        print('\nimport promptgym; gymnasium.make("PromptEdit-v0", task="author")')
