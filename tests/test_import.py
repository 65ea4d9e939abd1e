"""`import promptgym` is light: it registers the environments and loads no deep-learning library."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

import promptgym
from promptgym.registration import ENVIRONMENTS

HEAVY = (
    "torch",
    "transformers",
    "stable_baselines3",
    "sb3_contrib",
    "trl",
    "datasets",
    "pandas",
    "sqlalchemy",
)
LIGHT = (
    "promptgym",
    "promptgym.problem",
    "promptgym.envs",
    "promptgym.agents",
    "promptgym.baselines",
    "promptgym.evaluation",
    "promptgym.integrations",
    "promptgym.llms",
    "promptgym.prompts",
    "promptgym.rewards",
    "promptgym.runs",
    "promptgym.scoring",
    "promptgym.search",
    "promptgym.tasks",
)


def loaded_after(statement: str) -> set[str]:
    """Return the top-level modules a fresh interpreter has loaded after a statement."""
    code = f"{statement}\nimport json, sys\nprint(json.dumps(sorted(sys.modules)))"
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return {name.split(".")[0] for name in json.loads(run.stdout.splitlines()[-1])}


def test_every_light_room_is_imported_without_a_heavy_library() -> None:
    statement = "\n".join(f"import {name}" for name in LIGHT)
    loaded = loaded_after(statement)
    assert "gymnasium" in loaded
    assert not loaded & set(HEAVY)


def test_packages_are_attributes_without_an_import_of_their_own() -> None:
    code = "import promptgym\nassert promptgym.envs.PromptEdit and promptgym.rewards.make_reward"
    assert not loaded_after(code) & set(HEAVY)
    assert {"envs", "agents", "baselines"} <= set(dir(promptgym))


def test_importing_promptgym_alone_loads_neither_plots_nor_statistics() -> None:
    assert not loaded_after("import promptgym") & {*HEAVY, "matplotlib", "scipy", "rich", "typer"}


def test_the_check_sees_a_heavy_library_when_there_is_one() -> None:
    assert "stable_baselines3" in loaded_after("import promptgym.integrations.sb3")


def test_import_registers_the_environments() -> None:
    code = "import gymnasium, promptgym\nprint(sorted(gymnasium.registry))"
    out = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    ).stdout
    for env_id in ENVIRONMENTS:
        assert f"'{env_id}'" in out


@pytest.mark.parametrize("name", promptgym.__all__)
def test_every_public_name_resolves(name: str) -> None:
    assert getattr(promptgym, name) is not None
    assert name in dir(promptgym)


def test_an_unknown_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="no attribute 'promts'"):
        promptgym.promts  # noqa: B018  # the access is the test
