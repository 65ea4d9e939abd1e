"""The code of README, CONTRIBUTING and docs runs, page by page, as a reader would run it."""

from __future__ import annotations

import re
import runpy
import shlex
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import gymnasium as gym
import pytest

from promptgym.agents import AGENTS
from promptgym.baselines import BASELINES
from promptgym.cli import main
from promptgym.registration import ENVIRONMENTS, MULTI_AGENT

ROOT = Path(__file__).resolve().parents[1]
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("*.md"))]

BLOCK = re.compile(r"(?:<!-- not run: [^>]+ -->\n)?```(\w+)\n(.*?)```", re.S)


def blocks(page: Path) -> list[tuple[str, str]]:
    """Return (language, code) of a page's blocks that are to be run, in order.

    A block stands for itself unless the line above it says why not: `<!-- not run: reason -->`.
    """
    return [
        (match[1], match[2])
        for match in BLOCK.finditer(page.read_text(encoding="utf-8"))
        if not match[0].startswith("<!--") and match[1] in ("python", "bash")
    ]


@pytest.fixture
def registries() -> Iterator[None]:
    """Leave the tables of environments, agents and baselines as they were."""
    tables: list[dict[str, object]] = [AGENTS, BASELINES, ENVIRONMENTS, gym.registry]  # type: ignore[list-item]
    before = [dict(table) for table in tables]
    yield
    for table, old in zip(tables, before, strict=True):
        table.clear()
        table.update(old)


def commands(text: str) -> list[str]:
    """Return the command lines of a shell block, continued lines joined."""
    lines = text.replace("\\\n", " ").splitlines()
    return [line.strip() for line in lines if line.strip() and not line.startswith("#")]


@pytest.mark.parametrize("page", [p for p in PAGES if blocks(p)], ids=lambda p: p.stem)
def test_the_code_of_a_page_runs(
    page: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, registries: None
) -> None:
    module = ModuleType(f"docs_{page.stem}")
    monkeypatch.setitem(sys.modules, module.__name__, module)  # pickles look classes up there
    monkeypatch.chdir(tmp_path)
    for language, code in blocks(page):
        if language == "python":
            source = code.replace("from __future__ import annotations\n", "")
            exec(compile(source, str(page), "exec"), module.__dict__)
            continue
        for line in commands(code):
            words = shlex.split(line)
            if words[0] != "promptgym":
                assert words[0] in ("make", "pip", "git"), f"{page.name}: cannot run {line!r}"
                continue
            with pytest.raises(SystemExit) as left:
                main(words[1:])
            assert left.value.code in (0, None), line


def test_the_pages_were_found() -> None:
    assert {p.name for p in PAGES} >= {"README.md", "CONTRIBUTING.md", "index.md", "cli.md"}
    assert sum(len(blocks(p)) for p in PAGES) > 15


def test_make_targets_that_pages_name_exist() -> None:
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.M))
    for page in PAGES:
        for name in re.findall(r"`make ([a-z-]+)", page.read_text(encoding="utf-8")):
            assert name in targets, f"{page.name} names `make {name}`"


@pytest.mark.parametrize("page", PAGES, ids=lambda p: p.stem)
def test_links_between_pages_lead_somewhere(page: Path) -> None:
    for target in re.findall(r"\]\(([^)#\s]+)", page.read_text(encoding="utf-8")):
        if not re.match(r"[a-z]+:", target) and "reference/" not in target:
            assert (page.parent / target).exists(), f"{page.name}: dead link {target}"


def test_a_reference_page_is_made_for_every_environment(tmp_path: Path) -> None:
    build = runpy.run_path(str(ROOT / "docs" / "build.py"))
    assert build["write_reference"](tmp_path / "reference") == [*ENVIRONMENTS, *MULTI_AGENT]
    for env_id in (*ENVIRONMENTS, *MULTI_AGENT):
        text = (tmp_path / "reference" / f"{env_id}.md").read_text()
        assert text.startswith(f"# {env_id}\n") and "## Action Space" in text
