"""The results that the repository ships: whole, small, and what a check of today lets pass."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from promptgym.agents import AGENTS
from promptgym.baselines import BASELINES
from promptgym.evaluation.suite_file import load_suite
from promptgym.leaderboard.check import check_submission
from promptgym.leaderboard.files import LOG, MANIFEST
from promptgym.leaderboard.packing import folder_name

SHIPPED = Path(__file__).resolve().parents[1] / "leaderboard"


def test_every_method_of_the_suites_is_there() -> None:
    for name in ("tiny", "table"):
        methods = {folder_name(method.name) for method in load_suite(name).methods}
        shipped = {folder.name for folder in (SHIPPED / "submissions" / name).iterdir()}
        assert shipped == methods
    specs = set()
    for file in SHIPPED.glob(f"submissions/*/*/{MANIFEST}"):
        specs.add(json.loads(file.read_text(encoding="utf-8"))["method"]["spec"].partition(":")[0])
    assert specs == {*AGENTS, *BASELINES}


def test_they_are_small_and_the_site_shows_them() -> None:
    files = [file for file in SHIPPED.rglob("*") if file.is_file()]
    assert sum(file.stat().st_size for file in files) <= 20e6
    submissions = [file.parent for file in SHIPPED.glob(f"submissions/*/*/{LOG}")]
    pages = list((SHIPPED / "site" / "methods").glob("*.html"))
    assert len(pages) == len(submissions) > 60
    index = (SHIPPED / "site" / "index.html").read_text(encoding="utf-8")
    for page in pages:
        assert f"methods/{page.name}" in index


@pytest.mark.parametrize("name", ["table/protegi", "table/rlprompt-repaired", "tiny/empty"])
def test_a_check_of_today_lets_them_pass(name: str) -> None:
    check = check_submission(SHIPPED / "submissions" / name, sample=8)
    assert check.problems == ()
    assert check.entry is not None and len(check.entry.seeds) == 5
