"""`promptgym leaderboard build`: from real submissions, a forged one among them, to a site."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from html_pages import Page
from test_submissions import command, run

from promptgym.leaderboard.packing import About, pack_bench

SUITE = """
description = "Two floors"
seeds = 5
budgets = [{ queries = 200 }]
models = ["tiny"]
tasks = [{ task = "review-author", options = { sizes = { train = 16, dev = 16, test = 40 } } }]
methods = ["empty", "manual"]
"""


@pytest.fixture(scope="module")
def submissions(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two submissions; one of them claims to be better than it is."""
    folder = tmp_path_factory.mktemp("floors")
    empty, _ = pack_bench(run(folder, SUITE).path, folder / "submissions", About(authors="A"))
    manifest = json.loads((empty / "submission.json").read_text())
    manifest["cells"][0]["claim"]["test"] = 0.975
    (empty / "submission.json").write_text(json.dumps(manifest))
    return folder / "submissions"


def test_what_passes_is_shown_and_what_does_not_is_listed_with_the_reason(
    submissions: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "site"
    assert command("leaderboard", "build", str(submissions), "--out", str(out), "--jobs", "2") == 0
    said = capsys.readouterr().out.splitlines()
    assert said == ["1 submissions shown, 1 refused, 8 files", str(out / "index.html")]
    index, refused = Page(out / "index.html"), Page(out / "refused.html")
    head, row = [r for r in index.rows() if len(r) > 5][-2:]
    assert row[:2] == ["1", "manual"] and dict(zip(head, row, strict=True))["queries"] == "32"
    assert "200 queries" in index.path.read_text()
    (reason,) = [text for tag, _, text in refused.texts if tag == "li"]
    assert "0.975" in reason and "empty" in refused.path.read_text()


def test_a_folder_without_submissions_is_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert command("leaderboard", "build", str(tmp_path), "--out", str(tmp_path / "site")) == 2
    assert "holds no submissions" in capsys.readouterr().err
    assert not (tmp_path / "site").exists()
