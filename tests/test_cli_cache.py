"""The command line about cost and cache: `cache ...`, `--cache`, `--max-failures`, `--dry-run`."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from promptgym.cli import main
from promptgym.llms import LabelLogprobs, forget_models
from promptgym.llms.registry import LOADERS
from promptgym.testing import TransparentModel


class Counted(TransparentModel):
    """Counts the texts it was asked; fails on all of them if told to."""

    texts = 0
    failing = False

    def logit(self, text: str) -> float:
        """Have some opinion on any text."""
        return len(text) % 7 - 3.0

    def label_logprobs(self, texts: Sequence[str], labels: Sequence[str]) -> LabelLogprobs:
        """Answer, or fail."""
        Counted.texts += len(texts)
        found = super().label_logprobs(texts, labels)
        if not Counted.failing:
            return found
        found.logprobs[:] = np.nan
        return LabelLogprobs(
            found.logprobs, found.tokens, dict.fromkeys(range(len(texts)), "timeout: 30 s")
        )


@pytest.fixture(autouse=True)
def _model(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setitem(LOADERS, "counted", lambda name, **_: Counted())
    Counted.texts, Counted.failing = 0, False
    yield
    forget_models()


def run(capsys: pytest.CaptureFixture[str], *arguments: object) -> str:
    """Run a command and return what it printed."""
    try:
        main([str(a) for a in arguments])
    except SystemExit as end:
        assert not end.code, capsys.readouterr().err
    return capsys.readouterr().out


def search(out: Path, *more: object) -> tuple[object, ...]:
    method = ("train", "random_tokens", "--task", "author", "--model", "counted:x")
    return (*method, "--budget", 1000, "--no-report", "--quiet", "--json", "--out", out, *more)


def test_a_second_run_asks_nothing_and_finds_the_same(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    cache = tmp_path / "cache"
    first = json.loads(run(capsys, *search(tmp_path / "a", "--cache", cache)))
    asked = Counted.texts
    again = json.loads(run(capsys, *search(tmp_path / "b", "--cache", cache)))
    assert asked > 0 and Counted.texts == asked, "held-out scores come from the cache as well"
    for record in (first, again):
        record["spent"].pop("seconds")
    assert again == first
    run(capsys, *search(tmp_path / "c"))
    assert Counted.texts >= 2 * asked, "without --cache a model of this machine is asked"
    assert str(cache) not in (tmp_path / "a" / "config.json").read_text()


def test_cache_info_export_clear_and_import(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    cache, file = tmp_path / "cache", tmp_path / "scores.jsonl.gz"
    place = ("--cache", cache)
    assert "it is empty" in run(capsys, "cache", "info", *place)
    assert not cache.exists(), "looking makes nothing"
    run(capsys, *search(tmp_path / "a", *place))
    (held,) = json.loads(run(capsys, "cache", "info", *place, "--json"))["settings"]
    assert held["model"].startswith("transparent") and held["scores"] == Counted.texts
    assert f"{Counted.texts:,}" in run(capsys, "cache", "info", *place)
    done = json.loads(run(capsys, "cache", "export", file, *place, "--json"))
    assert done["exported"] == held["rows"]
    gone = json.loads(run(capsys, "cache", "clear", "--yes", *place, "--json"))
    assert gone == {"deleted": held["rows"]}
    assert "it is empty" in run(capsys, "cache", "info", *place)
    assert f"{held['rows']:,} rows read" in run(capsys, "cache", "import", file, *place)
    asked = Counted.texts
    run(capsys, *search(tmp_path / "b", *place))
    assert Counted.texts == asked


def test_the_default_place_is_that_of_the_environment(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PROMPTGYM_CACHE", str(tmp_path / "mine.sqlite"))
    run(capsys, *search(tmp_path / "a", "--cache", "on"))
    assert (tmp_path / "mine.sqlite").is_file()
    assert str(tmp_path / "mine.sqlite") in run(capsys, "cache", "info")


@pytest.mark.parametrize("which", [("--model", ""), ("--older-than-days", "-5")])
def test_clear_refuses_what_would_delete_all(
    which: tuple[str, str], capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    with pytest.raises(SystemExit) as end:
        main(["cache", "clear", *which, "--yes", "--cache", str(tmp_path / "scores.sqlite")])
    assert end.value.code == 2
    assert which[0] in capsys.readouterr().err


@pytest.mark.parametrize("command", [("info",), ("clear", "--yes"), ("export", "x.jsonl")])
def test_a_cache_that_cannot_be_used_is_an_error_here(
    command: tuple[str, ...],
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "scores.sqlite").mkdir()
    with pytest.raises(SystemExit) as end, pytest.warns(UserWarning, match="not used any more"):
        main(["cache", *command, "--cache", str(tmp_path / "scores.sqlite")])
    assert end.value.code == 2
    assert "cannot be used" in capsys.readouterr().err
    assert not (tmp_path / "x.jsonl").exists()


@pytest.mark.parametrize("more", [(), ("--report",)], ids=str)
def test_a_run_that_fails_too_often_says_how_to_go_on(
    more: tuple[str, ...], capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    Counted.failing = True
    with pytest.raises(SystemExit) as end:
        main([str(a) for a in search(tmp_path / "a")])
    said = capsys.readouterr().err
    assert end.value.code == 2 and "timeout" in said and "30 s" in said
    assert f"promptgym train --resume {tmp_path / 'a'}" in said
    Counted.failing = False
    record = run(capsys, "train", "--resume", tmp_path / "a", *more, "--quiet", "--json")
    assert json.loads(record)["best"]["dev"]["failures"] == 0
    # It was begun with --no-report, which holds unless something else is said.
    assert (tmp_path / "a" / "report.html").exists() == bool(more)


def test_evaluate_tells_failures_by_kind(capsys: pytest.CaptureFixture[str]) -> None:
    Counted.failing = True
    ask = ("evaluate", "--prompt", "", "--task", "author", "--model", "counted:x", "--limit", "30")
    with pytest.raises(SystemExit):
        main([str(a) for a in ask])
    printed = capsys.readouterr()
    assert "30 timeout; 0.000 with them" in printed.out
    assert "every evaluation failed" in printed.err


def test_a_dry_run_prints_what_a_run_would_cost(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    options: list[Any] = ["--dry-run", "--budget-usd", 5]
    found = json.loads(run(capsys, *search(tmp_path / "a", "--dry-run")))
    assert 0 < found["search"]["queries"] <= 1000 and found["search"]["tokens"] > 0
    table = run(capsys, *(a for a in search(tmp_path / "a", "--dry-run") if a != "--json"))
    assert "queries" in table and "unknown" in table and "was not asked" in table
    assert Counted.texts == 0 and not (tmp_path / "a").exists()
    ask = ("evaluate", "--prompt", "", "--prompt", "alpha", "--task", "author")
    ask = (*ask, "--model", "counted:x", "--limit", "30")
    assert json.loads(run(capsys, *ask, "--dry-run", "--json"))["queries"] == 60
    assert "was not asked" in run(capsys, *ask, "--dry-run") and Counted.texts == 0
    with pytest.raises(SystemExit):
        main([str(a) for a in search(tmp_path / "a", *options)])
    assert "is not known" in capsys.readouterr().err
