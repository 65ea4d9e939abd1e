"""Labels that nobody named: what is found out from the data, and when the caller has to say."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from task_files import REVIEWS, refusal, write_csv, write_lines

from promptgym.cli.common import task_options
from promptgym.cli.tasks import print_task
from promptgym.tasks import describe_task, load_task


def table(tmp_path: Path, targets: list[str]) -> Path:
    """Write one row a target, every input different."""
    return write_csv(tmp_path / "data.csv", [(f"input {i}", t) for i, t in enumerate(targets)])


def of(different: int, rows: int) -> list[str]:
    """Return so many targets in so many rows; no two resemble one another."""
    return [f"{i % different}{chr(97 + i % different)}" * 3 for i in range(rows)]


@pytest.mark.parametrize(
    ("different", "rows", "found"),
    [
        (2, 40, "labels"),
        (20, 40, "labels"),
        (20, 39, "unclear"),
        (3, 5, "unclear"),
        (21, 200, "unclear"),
        (21, 42, "unclear"),
        (22, 43, "answers"),
        (10, 10, "answers"),
        (30, 30, "answers"),
    ],
)
def test_the_rule(tmp_path: Path, different: int, rows: int, found: str) -> None:
    path = table(tmp_path, of(different, rows))
    what = f"holds {different} different targets in {rows} rows"
    if found == "unclear":
        message = refusal(path)
        for part in ("data.csv: column 'label'", what, "labels='data'", "labels=None"):
            assert part in message
    else:
        task = load_task(path)
        assert task.decided.startswith(f"{path}: column 'label' {what}")
        assert (len(task.labels) if task.labels else 0) == (different if found == "labels" else 0)
    assert load_task(path, labels=None, dev=1, test=1).metric.name == "exact_match"
    told = load_task(path, metric="token_f1", dev=1, test=1)
    assert told.labels is None and "since the metric 'token_f1' was given" in told.decided
    every = load_task(path, labels="data", dev=1, test=1)
    assert every.labels == tuple(sorted(set(of(different, rows))))
    assert every.decided == ""  # it was said


def test_numbers_that_are_labels_are_in_the_order_of_numbers(tmp_path: Path) -> None:
    task = load_task(table(tmp_path, [str(i % 12) for i in range(36)]))
    assert task.labels == tuple(str(i) for i in range(12))


@pytest.mark.parametrize(
    ("targets", "said"),
    [
        (["good", "bad"] * 4 + ["Good"], "row 10: label 'Good' stands there once; did you mean"),
        (["good", "bad", "Good"] * 4, "row 4: label 'Good' differs from 'good' in case only"),
        (["good", "bad"] * 4 + ["BADD"] * 1, "row 10: label 'BADD' stands there once"),
        (["1", "0", "nan"] * 4, "row 4: label 'nan' looks like a missing value"),
    ],
)
def test_slips_are_refused_unless_they_are_said_to_be_labels(
    tmp_path: Path, targets: list[str], said: str
) -> None:
    path = table(tmp_path, targets)
    assert f"data.csv, {said}" in refusal(path)
    assert load_task(path, labels="data").labels == tuple(sorted(set(targets)))


def test_targets_put_together_from_columns_are_counted_as_any(tmp_path: Path) -> None:
    task = load_task(write_csv(tmp_path / "a.csv", REVIEWS), target="so {label}")
    assert task.labels == ("so negative", "so positive")
    for wrong in ("{label", "{label} }", "{label!r}", "{label:{text}}"):
        assert "format string over columns" in refusal(tmp_path / "a.csv", target=wrong)


@pytest.mark.parametrize("labels", [["good"], [], ["good", "good"], {"0": "good", "1": "good"}])
def test_fewer_than_two_labels_are_refused(tmp_path: Path, labels: Any) -> None:
    path = table(tmp_path, ["good"] * 10)
    assert "at least two different labels" in refusal(path, labels=labels)


def test_an_empty_cell_is_named_before_anything_is_found_out(tmp_path: Path) -> None:
    path = write_lines(tmp_path / "a.jsonl", [{"text": "x", "label": v} for v in ("a", None)])
    assert "a.jsonl, row 2: column 'label' holds nothing" in refusal(path)


def saved(tmp_path: Path, names: list[str]) -> Path:
    """Save a dataset whose class 0 is the first of the names."""
    datasets = pytest.importorskip("datasets")
    kinds = {"text": datasets.Value("string"), "label": datasets.ClassLabel(names=names)}
    data = {"text": [f"t{i}" for i in range(20)], "label": [i % len(names) for i in range(20)]}
    features = datasets.Features(kinds)
    datasets.Dataset.from_dict(data, features=features).save_to_disk(str(tmp_path / "saved"))
    return tmp_path / "saved"


def test_a_copy_that_numbers_classes_the_other_way_round_is_taken_at_its_word(
    tmp_path: Path,
) -> None:
    folder = saved(tmp_path, ["positive", "negative"])
    task = load_task("mr", data_dir=folder)
    assert task.labels == ("negative", "positive")  # the definition's order
    right = {f"t{i}": ("positive", "negative")[i % 2] for i in range(20)}
    assert all(e.target == right[e.input] for s in (task.train, task.dev, task.test) for e in s)


def test_labels_of_a_saved_dataset_may_be_given_by_its_class_names(tmp_path: Path) -> None:
    folder = saved(tmp_path, ["neg", "pos"])
    task = load_task(folder, labels={"pos": "good", "neg": "bad"})
    assert task.labels == ("good", "bad")
    assert {e.target for e in task.train if int(e.input[1:]) % 2} == {"good"}
    assert load_task(folder, labels="data").labels == ("neg", "pos")
    assert (
        load_task(folder, verbalizers={"pos": "great", "neg": "awful"}).words_for("neg") == "awful"
    )


@pytest.mark.parametrize(
    ("text", "labels"), [("data", "data"), ("auto", "auto"), ("None", None), ("a, b", ["a", "b"])]
)
def test_the_command_line_says_it_too(text: str, labels: object) -> None:
    assert task_options(None, text) == {"labels": labels}


def test_what_was_decided_and_left_out_is_shown(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_csv(tmp_path / "data.csv", [*REVIEWS, REVIEWS[0], REVIEWS[1]])
    task = load_task(tmp_path / "data.csv", duplicates="drop")
    print_task({**describe_task(task), "examples": []})
    shown = capsys.readouterr().out
    assert "holds 2 different targets in 42 rows: each is a label" in shown
    assert "row 42 repeats" in shown and "and 1 more" in shown
