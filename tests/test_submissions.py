"""Submissions: packed from real runs, checked from their logs, and every forgery refused."""

from __future__ import annotations

import json
import lzma
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from promptgym.cli import main
from promptgym.errors import ConfigError
from promptgym.evaluation.bench import CELLS, BenchFolder
from promptgym.evaluation.bench_cell import ANYTIME, run_cell
from promptgym.evaluation.suite_file import load_suite
from promptgym.leaderboard import outcomes
from promptgym.leaderboard.check import Check, check_submission, check_submissions
from promptgym.leaderboard.entries import Entry
from promptgym.leaderboard.files import (
    LOG,
    MANIFEST,
    Limits,
    Refused,
    check_folder,
    parse,
    read_log,
)
from promptgym.leaderboard.leaks import leaks
from promptgym.leaderboard.packing import About, folder_name, pack_bench
from promptgym.leaderboard.recount import SPENT, Recount
from promptgym.leaderboard.submission import Cell
from promptgym.leaderboard.tracks import track_of
from promptgym.prompts import Example, Prompt
from promptgym.scoring import Scores
from promptgym.scoring.scores import API_ERROR, OK, SKIPPED, TIMEOUT
from promptgym.tasks import load_task
from promptgym.tasks.metrics import get_metric
from promptgym.testing.forgeries import FORGERIES, Forgery, Opened

SUITE = """
description = "A small one"
seeds = 5
budgets = [{ queries = 700, proposer_tokens = 2000 }]
models = ["tiny"]
proposer = "tiny-rewriter"
tasks = [{ task = "review-author", options = { sizes = { train = 16, dev = 16, test = 40 } } }]
methods = [
  "random_tokens",
  { name = "raced", method = "random_tokens", options = { batch = 8, keep = 2 } },
  "best_of_n",
  "random_demonstrations",
]
"""


def run(folder: Path, suite: str) -> BenchFolder:
    """Run all cells of a suite in this process."""
    folder.mkdir(parents=True, exist_ok=True)
    file = folder / "small.toml"
    file.write_text(suite)
    bench = BenchFolder.create(folder / "bench", load_suite(file))
    for cell in load_suite(file).cells():
        run_cell(bench.job(cell))
    return bench


def command(*arguments: str) -> int:
    """Run promptgym in this process; return its exit status."""
    with pytest.raises(SystemExit) as ended:
        main(list(arguments))
    return int(ended.value.code or 0)


@pytest.fixture(scope="module")
def bench(tmp_path_factory: pytest.TempPathFactory) -> BenchFolder:
    return run(tmp_path_factory.mktemp("bench"), SUITE)


@pytest.fixture(scope="module")
def packed(bench: BenchFolder, tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    out = tmp_path_factory.mktemp("submissions")
    return pack_bench(bench.path, out, About(authors="A. Author", url="https://example.org/x"))


@pytest.fixture(scope="module")
def checks(packed: list[Path]) -> dict[str, Check]:
    return {path.name: check_submission(path) for path in packed}


def entry(check: Check) -> Entry:
    assert check.problems == ()
    assert check.entry is not None
    return check.entry


def test_a_submission_is_two_files_and_passes(packed: list[Path], checks: dict[str, Check]) -> None:
    names = ["random_tokens", "raced", "best_of_n", "random_demonstrations"]
    assert [path.name for path in packed] == names
    for path in packed:
        assert sorted(file.name for file in path.iterdir()) == [LOG, MANIFEST]
        check = checks[path.name]
        assert check.problems == ()
        assert check.rows == sum(1 for _ in read_log(path))
        assert check.rescored >= 15  # train, dev and test of five chosen prompts


def test_what_is_worked_out_is_what_the_runs_found(
    bench: BenchFolder, checks: dict[str, Check]
) -> None:
    for cell in bench.cells:
        folder = bench.path / CELLS / cell["name"]
        result = json.loads((folder / "result.json").read_text())
        curve = json.loads((folder / ANYTIME).read_text())
        shown = entry(checks[folder_name(cell["method"])])
        (run_,) = [r for r in shown.runs if r.seed == cell["seed"]]
        assert run_.prompt == result["best"]["prompt"]
        assert run_.train == pytest.approx(result["best"]["train"])
        assert run_.test == pytest.approx(result["best"]["test"]["value"])
        assert run_.dev == pytest.approx(result["best"]["dev"]["value"])
        assert run_.queries == result["spent"]["queries"] <= 700
        assert run_.tokens == result["spent"]["tokens"]
        assert run_.failures == 0
        points = [{k: row[k] for k in ("queries", "dev", "test")} for row in run_.curve]
        assert points == [pytest.approx(row) for row in curve]
        assert run_.robustness is not None
        assert run_.robustness["examples"] == 40


def test_tracks_shots_and_boards(checks: dict[str, Check]) -> None:
    of = {name: entry(check) for name, check in checks.items()}
    assert {name: e.track for name, e in of.items()} == {
        "random_tokens": "search",
        "raced": "search",
        "best_of_n": "proposer",
        "random_demonstrations": "search",
    }
    assert [name for name, e in of.items() if e.shots == "few-shot"] == ["random_demonstrations"]
    assert of["best_of_n"].runs[0].proposer_tokens > 0
    assert len({e.board for e in of.values()}) == 1
    assert of["raced"].board[0].startswith("small (")  # not a suite of the package: told apart
    assert of["raced"].url == "https://example.org/x"
    assert track_of("prewrite:frozen", {}) == "proposer"
    assert track_of("rlprompt:repaired", {}) == "policy"
    with pytest.raises(ConfigError, match="no method of promptgym"):
        track_of("os:system", {})


@pytest.mark.parametrize("forgery", FORGERIES, ids=[f.what for f in FORGERIES])
def test_forgeries_are_refused_with_the_reason(
    forgery: Forgery, packed: list[Path], tmp_path: Path
) -> None:
    folder = tmp_path / "forged"
    shutil.copytree(packed[0], folder)
    forgery.forge(folder)
    check = check_submission(folder)
    assert check.entry is None
    assert any(forgery.says in problem for problem in check.problems), check.problems


def test_the_same_prompts_are_asked_again_for_the_same_seed(packed: list[Path]) -> None:
    one, two = (check_submission(packed[0], sample=4, seed=7) for _ in range(2))
    assert one.entry == two.entry
    assert check_submission(packed[0], sample=0).rescored >= 15  # and the other incumbents


def test_one_bad_submission_does_not_stop_the_others(packed: list[Path], tmp_path: Path) -> None:
    for path in packed[:2]:
        shutil.copytree(path, tmp_path / "all" / path.name)
    (tmp_path / "all" / "random_tokens" / "notes.txt").write_text("hello")
    entries, refused = check_submissions(tmp_path / "all")
    assert [e.name for e in entries] == ["raced"]
    assert list(refused) == ["random_tokens"]
    assert "notes.txt" in refused["random_tokens"][0]
    with pytest.raises(Refused, match="no submissions"):
        check_submissions(tmp_path / "nothing")


def edited(path: Path, tmp_path: Path, edit: Callable[[Opened], None]) -> tuple[str, ...]:
    folder = tmp_path / "edited"
    shutil.copytree(path, folder)
    opened = Opened(folder)
    edit(opened)
    opened.write()
    return check_submission(folder).problems


def test_runs_missing_twice_or_in_another_order_are_told(
    packed: list[Path], tmp_path: Path
) -> None:
    def twice(s: Opened) -> None:
        s.manifest["cells"].append(s.manifest["cells"][0])

    def turned(s: Opened) -> None:
        s.rows.reverse()

    def other_seed(s: Opened) -> None:
        s.cell["seed"] = 99

    for edit, says in (
        (twice, "stands twice"),
        (turned, "expected run 0"),
        (other_seed, "1 of them are not there: review-author, tiny, manual, 0"),
    ):
        (problem,) = edited(packed[0], tmp_path / edit.__name__, edit)
        assert says in problem


def test_a_method_of_ones_own_passes_with_its_own_track(packed: list[Path], tmp_path: Path) -> None:
    folder = tmp_path / "own"
    shutil.copytree(packed[0], folder)
    opened = Opened(folder)
    opened.manifest["method"] |= {"spec": "my_method", "name": "Mine", "options": {"depth": 3}}
    opened.manifest["method"]["track"] = "policy"
    for cell in opened.manifest["cells"]:
        cell["config"] |= {"method": "my_method", "options": {"depth": 3}}
    opened.write()
    shown = entry(check_submission(folder))
    assert (shown.name, shown.track) == ("Mine", "policy")


def test_packing_refuses_what_is_not_whole(bench: BenchFolder, tmp_path: Path) -> None:
    about = About(authors="A. Author")
    with pytest.raises(ConfigError, match="no method 'nobody'"):
        pack_bench(bench.path, tmp_path / "out", about, methods=["nobody"])
    copy = tmp_path / "bench"
    shutil.copytree(bench.path, copy)
    broken = next(c for c in bench.cells if c["method"] == "raced")
    (copy / CELLS / broken["name"] / ANYTIME).unlink()
    with pytest.raises(ConfigError, match="1 of 5 runs of raced are not finished"):
        pack_bench(copy, tmp_path / "out", about)
    assert not (tmp_path / "out").exists()
    pack_bench(copy, tmp_path / "out", about, methods=["random_tokens"], robust=False)
    few = tmp_path / "few"
    text = SUITE.replace("seeds = 5", "seeds = 2")
    short = run(few, text[: text.index("methods")] + 'methods = ["manual"]\n')
    with pytest.raises(ConfigError, match="manual has 2 seeds"):
        pack_bench(short.path, tmp_path / "out", about)


def test_prompt_tables_have_regret_and_no_robustness(tmp_path: Path) -> None:
    suite = """
seeds = 5
budgets = [1600]
models = ["table:staff"]
tasks = ["table:staff"]
methods = ["random_tokens"]
"""
    (path,) = pack_bench(run(tmp_path, suite).path, tmp_path / "out", About(authors="A"))
    shown = entry(check_submission(path))
    assert shown.runs[0].robustness is None
    assert all(run_.regret is not None and 0 <= run_.regret < 1 for run_ in shown.runs)


def test_outcomes_come_back_exactly() -> None:
    rng = np.random.default_rng(0)
    prompts = [Prompt(str(i)) for i in range(3)]
    examples = [Example(str(i), "a") for i in range(13)]
    status = rng.choice([OK, OK, OK, API_ERROR, TIMEOUT, SKIPPED], size=(3, 13)).astype(np.int8)
    for values in (rng.integers(2, size=(3, 13)).astype(float), rng.random((3, 13)).round(6)):
        values[status != OK] = np.nan
        scores = Scores(tuple(prompts), tuple(examples), get_metric("accuracy"), values, status)
        row = json.loads(json.dumps(outcomes.to_json(scores)))
        assert ("bits" in row) == bool(np.isin(values[status == OK], (0, 1)).all())
        back = outcomes.from_json(row, prompts, examples, scores.metric)
        np.testing.assert_array_equal(back.values, values)
        np.testing.assert_array_equal(back.status, status)


@pytest.mark.parametrize(
    "row",
    [
        None,
        {"bits": "AA=="},
        {"bits": "?", "failed": []},
        {"bits": "AAAA", "failed": []},
        {"values": [1.0], "failed": []},
        {"values": ["1", 0], "failed": []},
        {"bits": "AA==", "failed": [[2, "timeout"]]},
        {"bits": "AA==", "failed": [[0, "ok"]]},
        {"bits": "AA==", "failed": {}},
    ],
)
def test_outcomes_that_are_none_are_refused(row: object) -> None:
    examples = [Example("a", "a"), Example("b", "a")]
    with pytest.raises(Refused):
        outcomes.from_json(row, [Prompt("p")], examples, get_metric("accuracy"))


def test_reading_stays_within_its_limits(tmp_path: Path) -> None:
    lines = b"".join(b'{"cell": %d}\n' % i for i in range(1000))
    (tmp_path / MANIFEST).write_text("{}")
    (tmp_path / LOG).write_bytes(lzma.compress(lines))
    assert sum(1 for _ in read_log(tmp_path)) == 1000
    for limits, says in (
        (Limits(unpacked=5000), "unpacks to more than 5,000"),
        (Limits(packed=10), "at most 10 are read"),
        (Limits(memory=1000), "can be unpacked"),
    ):
        with pytest.raises(Refused, match=says):
            check_folder(tmp_path, limits)
            list(read_log(tmp_path, limits))
    for data, says in (
        (lzma.compress(lines)[:-20], "cut short"),
        (lzma.compress(lines) + b"more", "behind its end"),
        (lzma.compress(lines[:-1]), "whole line"),
        (lzma.compress(b"[]\n"), "not a JSON object"),
    ):
        (tmp_path / LOG).write_bytes(data)
        with pytest.raises(Refused, match=says):
            list(read_log(tmp_path))


@pytest.mark.parametrize(
    "text", [b"NaN", b"Infinity", b'{"a": 1, "a": 2}', b"\xff", b"[" * 50 + b"]" * 50]
)
def test_json_is_read_strictly(text: bytes) -> None:
    with pytest.raises(Refused):
        parse(text, "it")


def test_leaks_are_found_whatever_the_spaces_and_the_case() -> None:
    task = load_task("author", sizes={"train": 4, "dev": 4, "test": 4})
    example = task.test[0]
    words = example.input.split()
    said = f"say:  {' '.join(words[:3])}\n{' '.join(words[3:])}!".upper()
    for held in (Prompt(said), Prompt("x", (example,)), Prompt("x", system=said)):
        (found,) = leaks([Prompt("who wrote it"), held], task)
        assert repr(example.input[:60]) in found
    assert list(leaks([Prompt(" ".join(words[:-1])), Prompt("x", task.train)], task)) == []
    short = load_task("author", sizes={"train": 4, "dev": 4, "test": 0})
    assert list(leaks([Prompt(said)], short)) == []


def test_the_command_packs_and_checks(
    bench: BenchFolder, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    given = ["submit", str(bench.path), "--out", str(out), "--authors", "A", "--method", "raced"]
    assert command(*given, "--no-robustness") == 0
    assert capsys.readouterr().out.strip() == str(out / "raced")
    assert command("submit", "--check", str(out / "raced"), "--sample", "2") == 0
    assert "everything matches" in capsys.readouterr().out
    (out / "raced" / "x").write_text("")
    assert command("submit", "--check", str(out / "raced"), "--json") == 1
    assert "is no part of a submission" in json.loads(capsys.readouterr().out)["problems"][0]
    for wrong, says in (
        (["submit", str(bench.path)], "--out and --authors"),
        (["submit", "--check", str(out), "--authors", "A"], "without --check"),
        (["submit", str(bench.path), "--sample", "3"], "with --check"),
    ):
        assert command(*wrong) == 2
        assert says in capsys.readouterr().err


def asked_in_parts(*parts: list[int] | None) -> Recount:
    """Follow a log that asks about one prompt in parts, right about the example 0 only."""
    task = load_task("author", sizes={"train": 4, "dev": 4, "test": 0})
    recount, queries = Recount(Cell.model_construct(budget={}), task), 0
    for part in parts:
        places = range(4) if part is None else part
        queries += len(places)
        values = np.array([[float(place == 0) for place in places]])
        scores = Scores(
            (Prompt("p"),),
            tuple(task.train[place] for place in places),
            task.metric,
            values,
            np.zeros(values.shape, dtype=np.int8),
        )
        row = {"cell": 0, "kind": "scores", "split": "train", "subset": part}
        spent = dict.fromkeys(SPENT, 0) | {"queries": queries}
        answers = {"outcomes": outcomes.to_json(scores), "rewards": [float(values.mean())]}
        recount.take({**row, "prompts": [{"instruction": "p"}], **answers, "spent": spent})
    return recount


def test_prompts_asked_in_parts_are_put_together_where_that_is_possible() -> None:
    raced = asked_in_parts([0, 1], [3, 2]).known["train", Prompt("p")]
    assert (raced.since, raced.mean, raced.reward, raced.at_once) == (4, 0.25, 0.25, False)
    bandit = asked_in_parts([0, 1], [1, 2], [0, 3]).known["train", Prompt("p")]
    assert bandit.since is None  # the rewards of overlapping parts say nothing of the whole
    whole = asked_in_parts([0, 1], [1, 2], None, None).known["train", Prompt("p")]
    assert (whole.since, whole.mean, whole.reward, whole.at_once) == (8, 0.25, 0.25, True)
