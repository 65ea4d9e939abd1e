"""What is packaged is complete, and what is tested is the package when `make test` says so."""

from __future__ import annotations

import importlib.util
import os
import re
import tomllib
from importlib import metadata, resources
from pathlib import Path
from typing import Any

import pytest

import promptgym
from promptgym.llms.tiny import MODELS

ROOT = Path(__file__).resolve().parents[1]
FOLDERS = ("promptgym", "envs", "agents", "baselines")


@pytest.fixture(scope="module")
def project() -> dict[str, Any]:
    """The content of pyproject.toml."""
    return tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))


def packages() -> dict[str, Path]:
    """Return every package of the tree by the name it is imported by."""
    out = {}
    for folder in FOLDERS:
        for path in (ROOT / folder).rglob("__init__.py"):
            parts = path.parent.relative_to(ROOT).parts
            out[".".join(parts if folder == "promptgym" else ("promptgym", *parts))] = path.parent
    return out


def test_every_package_of_the_tree_is_packaged(project: dict[str, Any]) -> None:
    assert sorted(project["tool"]["setuptools"]["packages"]) == sorted(packages())


def test_every_data_file_of_the_tree_is_packaged(project: dict[str, Any]) -> None:
    found = packages()
    patterns = project["tool"]["setuptools"]["package-data"]
    packed = {
        path
        for package, globs in patterns.items()
        for pattern in globs
        for path in found[package].glob(pattern)
        if path.is_file()
    }
    data = {
        path
        for folder in FOLDERS
        for path in (ROOT / folder).rglob("*")
        if path.is_file() and path.suffix not in (".py", ".pyc")
    }
    assert data == packed


def test_the_data_is_there_at_run_time() -> None:
    assert resources.files("promptgym").joinpath("py.typed").is_file()
    assert resources.files("promptgym.evaluation").joinpath("report.html").is_file()
    weights = resources.files("promptgym.llms.tiny").joinpath("weights")
    for name in MODELS:
        assert weights.joinpath(name, "model.safetensors").is_file()
        assert weights.joinpath(name, "config.json").is_file()


def name_of(requirement: str) -> str:
    """Return the normalized name of a requirement."""
    found = re.match(r"[A-Za-z0-9._-]+", requirement)
    assert found
    return re.sub(r"[-_.]+", "-", found[0]).lower()


def test_every_dependency_has_a_lower_bound_and_a_tested_version(project: dict[str, Any]) -> None:
    lines = (ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines()
    pins = [line for line in lines if not line.startswith("#")]
    assert all(re.fullmatch(r"[A-Za-z0-9._-]+==[A-Za-z0-9.]+", pin) for pin in pins)
    tested = {name_of(pin) for pin in pins}
    assert len(tested) == len(pins)
    groups = project["project"]["optional-dependencies"]
    wanted = [*project["project"]["dependencies"], *(r for g in groups.values() for r in g)]
    untested = {"vllm"}  # needs a GPU; its adapter is tested on a stand-in
    assert {name_of(r) for r in wanted} - untested <= tested
    assert all(">=" in r for r in project["project"]["dependencies"])


def test_versions_agree(project: dict[str, Any]) -> None:
    assert promptgym.__version__ == project["project"]["version"]


@pytest.mark.skipif(
    "PROMPTGYM_TEST_INSTALLED" not in os.environ, reason="only `make test` installs the wheel"
)
def test_it_is_the_installed_wheel_that_is_tested() -> None:
    for name in packages():
        where = importlib.import_module(name).__file__
        assert where is not None and "site-packages" in where, f"{name} comes from {where}"
    assert not [p for p in promptgym.__path__ if Path(p).resolve() == ROOT]
    files = {str(f) for f in metadata.files("promptgym") or ()}
    assert {"promptgym/py.typed", "promptgym/evaluation/report.html"} <= files
    assert not [f for f in files if f.startswith(("envs/", "agents/", "baselines/", "tests/"))]


def test_the_modules_that_the_makefile_runs_can_be_run() -> None:
    text = (ROOT / "Makefile").read_text(encoding="utf-8")
    modules = set(re.findall(r"-m (promptgym[\w.]*)", text))
    assert modules
    for module in modules:
        assert importlib.util.find_spec(f"{module}.__main__") is not None, module
    for script in re.findall(r"\$\(PY\) (\S+\.py)", text):
        assert (ROOT / script).is_file(), script
