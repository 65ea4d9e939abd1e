"""Bringing your own data: every fault is named with its file and row."""

from __future__ import annotations

import json
import warnings
from pathlib import Path

import pytest
from task_files import REVIEWS, inputs, refusal, write_csv, write_lines

from promptgym.tasks import load_task, summarize_task
from promptgym.types import JSON


@pytest.mark.parametrize(
    ("content", "options", "said"),
    [
        ("", {}, ["data.csv", "the file is empty"]),
        ("  \n\n", {}, ["the file is empty"]),
        ("text,label\n", {}, ["there is a header", "no row under it"]),
        (
            "text,label\na,positive\nb,negative\nc,postive\n",
            {"labels": ["negative", "positive"]},
            ["data.csv, row 4", "'postive'", "not one of ['negative', 'positive'", "'positive'?"],
        ),
        (
            "text,label\na,pos\nb,neg\nc,pos\nd,neg\ne,poss\nf,pos\n",
            {},
            ["row 6", "'poss' stands there once", "did you mean 'pos'?"],
        ),
        (
            "body,label\na,0\nb,1\n",
            {},
            ["no column 'text' or", "['body', 'label']", "input='...'"],
        ),
        ("text,label\na,0\n", {"input": "txt"}, ["no column 'txt'", "did you mean 'text'?"]),
        ("text;label\na;0\n", {}, ["['text;label']", "delimiter=';'"]),
        ("text\tlabel\na\t0\n", {}, ["another character the separator", "delimiter='\\t'"]),
        ("text,label\na,0\n", {"labels": None}, ["test: cannot take", "test=0 takes none"]),
        (
            "text,label\na,4\nb,four\n",
            {"metric": "numeric_match"},
            ["data.csv, row 3", "'four' holds no number"],
        ),
        ("text,label\na,0\nb,1,x\n", {}, ["row 3: 3 fields, expected 2 (text, label)"]),
        ("text,label\na,0\n ,1\n", {}, ["row 3", "'text' holds", "expected the input"]),
        ("text,label\na,0\nb,\n", {"labels": ["x", "y"]}, ["row 3", "expected the target"]),
        (
            "text,label\na,pos\nb,pos \nc,pos\n",
            {},
            ["data.csv: column 'label' holds 'pos' in all 3 rows", "labels=['pos', ...]", "None"],
        ),
        ("text,label\na,1\nb,1\n", {"metric": "accuracy"}, ["column 'label' holds '1' in all 2"]),
        ("text,text\na,0\n", {}, ["row 1", "must be different"]),
        ('text,label\na,1\n"a"b,0\nc,1\n', {}, ["not valid CSV", "begins at line 3"]),
        ('text,label\n"a\nb",1\n"c,0\nd,1\n', {}, ["begins at line 4", "unexpected end of data"]),
        ("text,label\na,0\nb,1\nc,0\nd,1\n", {"dev": float("nan")}, ["cannot take nan of"]),
        ("text,label\na,0\nb,1\nc,0\nd,1\n", {"test": float("inf")}, ["cannot take inf of"]),
        ("text,label\na,0\nb\x00,1\n", {}, ["row 3", "NUL"]),
        (
            "text,label\na,0\nb,1\n a ,0\nc,1\n",
            {},
            ["data.csv, row 4 repeats", "data.csv, row 2", "duplicates='drop'"],
        ),
        ("text,label\na,0\nb,1\na,1\nc,1\n", {}, ["row 4 repeats", "with another target"]),
        ("text,label\na,0\nb,1\nc,0\nd,1\n", {"duplicates": "keep"}, ["'error' or 'drop'"]),
        ("text,label\na,0\nb,1\nc,0\nd,1\n", {"k_shot": 2}, ["'data': class", "2 for dev"]),
        ("text,label\na,0\nb,1\nc,0\nd,1\n", {"k_shot": 1, "dev": 0.5}, ["leave dev= out"]),
        ("text,label\na,0\nb,1\nc,0\nd,1\n", {"sizes": {"train": 9}}, ["9 train examples"]),
        ("text,label\na,0\nb,1\nc,0\nd,1\n", {"sizes": {"valid": 1}}, ["expected some of"]),
        ("text,label\na,0\nb,1\nc,0\nd,1\n", {"sizes": {"dev": -1}}, ["dev must be at least 0"]),
        ("text,label\na,0\nb,1\nc,0\nd,1\n", {"sizes": {"train": 0}}, ["train must be at least"]),
        ("text,label\na,0\nb,1\nc,0\nd,1\n", {"sizes": {"train": "2"}}, ["Mapping[str, int]"]),
        ("text,label\na,0\nb,1\nc,0\nd,1\n", {"max_new_tokens": 0}, ["must be at least 1"]),
        ("text,label\na,0\nb,1\nc,0\nd,1\n", {"revision": "x"}, ["revision would change"]),
        ("\ufefftext,label\na,0\n", {"encoding": "cp1252"}, ["the mark of UTF-8"]),
        ("text,label\na,0\nb,1\nc,0\nd,1\n", {"dev": 9, "test": 0}, ["cannot take 9 of 4"]),
        ("text,label\na,0\nb,1\nc,0\nd,1\n", {"encoding": "utf-99"}, ["unknown encoding"]),
        ("text,label\na,0\nb,1\nc,0\nd,1\n", {"labels": "x"}, ["labels takes", "'data' or None"]),
        ("text,label\na,0\nb,1\nc,0\nd,1\n", {"delimiter": ";;"}, ["must be one character"]),
        ("text,label\na,0\nb,1\nc,0\nd,1\n", {"columns": "text"}, ["columns takes Sequence[str]"]),
        ("text,label\na,0\nb,1\nc,0\nd,1\n", {"seed": -1}, ["seed must be at least 0, got -1"]),
        ("text,label\na,0\nb,1\nc,0\nd,1\n", {"seed": "x"}, ["seed takes int, got 'x'"]),
        ("text,label\na,0\nb,1\nc,0\nd,1\n", {"dev": True}, ["dev takes", "got True"]),
        ("text,label\na,0\nb,1\nc,0\nd,1\n", {"lables": "x"}, ["did you mean 'labels'?"]),
        (
            "text,label\na,0\nb,1\nc,0\nd,1\n",
            {"verbalizers": ["one"]},
            ["1 verbalizers ['one'] for 2 labels"],
        ),
        (
            "text,label\na,0\nb,1\nc,0\nd,1\n",
            {"labels": ["0", "1"], "verbalizers": {"0": "bad"}},
            ["no word for ['1']"],
        ),
        (
            "text,label\na,0\nb,1\nc,0\nd,1\n",
            {"verbalizers": ["bad", "bad"]},
            ["stands for '0' already"],
        ),
        (
            "text,label\na,0\nb,1\nc,0\nd,1\n",
            {"labels": None, "verbalizers": {"0": "x"}},
            ["has no labels"],
        ),
        (
            "text,label\na,0\nb,1\nc,0\nd,1\n",
            {"labels": None, "metric": "balanced_accuracy"},
            ["needs labels"],
        ),
    ],
)
def test_a_fault_is_named_with_its_place(
    tmp_path: Path, content: str, options: JSON, said: list[str]
) -> None:
    path = tmp_path / "data.csv"
    path.write_text(content, encoding="utf-8")
    message = refusal(path, **options)
    for part in said:
        assert part in message


@pytest.mark.parametrize(
    ("options", "labels"),
    [
        ({"labels": None}, None),
        ({"metric": "exact_match"}, None),
        ({"labels": ["pos", "neg"]}, ("pos", "neg")),
        ({"verbalizers": {"pos": "great", "neg": "awful"}}, ("pos", "neg")),
    ],
)
def test_one_target_in_all_rows_is_what_the_caller_says(
    tmp_path: Path, options: JSON, labels: tuple[str, ...] | None
) -> None:
    path = tmp_path / "data.csv"
    path.write_text("text,label\n" + "".join(f"{letter},pos\n" for letter in "abcdefgh"))
    assert load_task(path, **options).labels == labels


def test_a_wrong_encoding_is_named_with_its_row(tmp_path: Path) -> None:
    path = tmp_path / "data.csv"
    path.write_bytes("text,label\na,0\ncafé,1\n".encode("latin-1"))
    message = refusal(path)
    assert "data.csv, row 3: byte 0xe9 is not utf-8" in message
    assert "encoding='latin-1'" in message
    path.write_bytes("text,label\na,0\n".encode("utf-16"))
    assert "encoding='utf-16'" in refusal(path)


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("a.jsonl", '{"text": "a", "label": 0}\n{"text": "b"\n', "a.jsonl, row 2: not JSON"),
        ("a.jsonl", '{"text": "a", "label": 0}\n[1]\n', "row 2: expected an object"),
        ("a.jsonl", '{"text": "a", "label": 0}\n{"text": ["b"], "label": 1}\n', "row 2: column"),
        ("a.jsonl", '{"text": "a", "label": 0}\n{"text": null, "label": 1}\n', "holds nothing"),
        ("a.json", '{"text": "a"}\n{"text": "b"}\n', "a.json, row 2: not JSON"),
        ("a.json", "3", "expected a list of objects"),
        ("a.parquet", "x", "unknown kind of file"),
    ],
)
def test_json_faults_are_named(tmp_path: Path, name: str, content: str, said: str) -> None:
    path = tmp_path / name
    path.write_text(content)
    assert said in refusal(path, labels=["0", "1"])


def test_names_and_folders_that_do_not_exist(tmp_path: Path) -> None:
    assert "has no name" in refusal("")
    assert "name_or_path takes" in refusal(None)
    assert "did you mean 'review-author'?" in refusal("review-autor")
    assert "did you mean 'sst2'?" in refusal("sst22")
    assert "no such file or folder" in refusal(tmp_path / "none.csv")
    assert "data_dir: there is no folder" in refusal("sst2", data_dir=tmp_path / "none")
    assert "no train.csv" in refusal(tmp_path)
    assert "goes with a ready definition" in refusal("mine", data_dir=tmp_path)
    write_csv(tmp_path / "train.csv", REVIEWS)
    write_csv(tmp_path / "train.tsv", REVIEWS, delimiter="\t")
    assert "two files for train" in refusal(tmp_path)
    assert "two training files" in refusal(tmp_path / "train.csv", train=tmp_path / "train.tsv")
    assert "no training file" in refusal("sst2", test=tmp_path / "train.csv")


def test_a_file_may_be_called_like_a_task(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("author", "sst2"):
        write_csv(tmp_path / name / "train.csv", REVIEWS)
        for path in (Path(name), f"./{name}"):
            assert len(inputs(load_task(path))) == len(REVIEWS)
    assert load_task("author").name == "review-author"
    assert "hub:stanfordnlp/sst2" in refusal("sst2")


def test_overlap_names_both_rows_and_can_be_dropped(tmp_path: Path) -> None:
    write_csv(tmp_path / "train.csv", REVIEWS[:20])
    write_csv(tmp_path / "dev.csv", [*REVIEWS[20:30], REVIEWS[3]])
    write_csv(tmp_path / "test.csv", [*REVIEWS[30:], REVIEWS[4], REVIEWS[25]])
    message = refusal(tmp_path)
    assert "train.csv, row 5 repeats" in message
    assert "dev.csv, row 12" in message
    assert "test.csv, row 12" in message
    task = load_task(tmp_path, duplicates="drop")
    # Held-out rows stay: they leave train first, then dev.
    assert [len(s) for s in (task.train, task.dev, task.test)] == [18, 10, 12]
    assert len(task.dropped) == 3
    assert len(set(inputs(task))) == 40
    write_csv(tmp_path / "dev.csv", REVIEWS[:20])
    assert "every row of train stands in another split" in refusal(tmp_path, duplicates="drop")


def test_options_that_would_change_nothing_are_refused(tmp_path: Path) -> None:
    lines = write_lines(tmp_path / "a.jsonl", [{"text": t, "label": y} for t, y in REVIEWS])
    for options in ({"delimiter": ";"}, {"columns": ["text", "label"]}):
        assert "JSON names its own columns" in refusal(lines, **options)
    scores = tmp_path / "scores.csv"
    scores.write_text("task,model,prompt,score\nt,m,one,0.5\nt,m,two,0.6\n")
    for options in ({"labels": ["a", "b"]}, {"encoding": "latin-1"}, {"dev": "x.csv"}):
        assert f"takes no {next(iter(options))}" in refusal(f"replay:{scores}", **options)
    assert load_task(f"replay:{scores}", name="mine").name == "mine"


def test_an_unknown_kind_of_file_is_told_before_its_bytes_are_read(tmp_path: Path) -> None:
    (tmp_path / "a.xlsx").write_bytes(b"PK\x03\x04\x00")
    assert "unknown kind of file; expected one of .csv" in refusal(tmp_path / "a.xlsx")


def test_a_tilde_is_the_home_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    write_csv(tmp_path / "train.csv", REVIEWS)
    assert len(inputs(load_task("~/train.csv"))) == len(REVIEWS)
    assert len(inputs(load_task("mr", data_dir="~"))) == len(REVIEWS)


@pytest.mark.parametrize(
    ("name", "row", "said"),
    [
        ("common_concept", {"item": ["a"]}, "found items []"),
        ("common_concept", {"items": "ab", "all_common_concepts": ["x"]}, "'items' holds 'ab'"),
        ("cause_and_effect", {"cause": "x"}, "column 'effect' holds nothing"),
        ("rhymes", {"input": "a", "output": "b", "other_rhymes": 5}, "expected a list of texts"),
    ],
)
def test_rows_of_instruction_induction_are_checked(
    tmp_path: Path, name: str, row: JSON, said: str
) -> None:
    for part in ("induce", "execute"):
        (tmp_path / part).mkdir()
        (tmp_path / part / f"{name}.json").write_text(json.dumps({"examples": {"1": row}}))
    message = refusal(f"instruction-induction/{name}", data_dir=tmp_path)
    assert f"{name}.json, row 1: " in message and said in message


@pytest.mark.parametrize("content", ['{"annotations": "add"}', '{"annotations": [1]}', "[]", "{"])
def test_annotations_are_a_list_of_texts(tmp_path: Path, content: str) -> None:
    rows = {str(i): {"input": f"{i} 1", "output": str(i + 1)} for i in range(10)}
    for part, text in {
        "induce": json.dumps({"examples": rows}),
        "execute": json.dumps({"examples": {"1": {"input": "x", "output": "y"}}}),
        "annotations": content,
    }.items():
        (tmp_path / part).mkdir()
        (tmp_path / part / "sum.json").write_text(text)
    assert "annotations/sum.json: " in refusal("instruction-induction/sum", data_dir=tmp_path)


def test_text_that_is_not_unicode_is_named_by_row(tmp_path: Path) -> None:
    path = tmp_path / "data.jsonl"
    good = [{"text": f"{i}", "label": "pos" if i % 2 else "neg"} for i in range(8)]
    for bad in ({"text": "\ud800 3", "label": "pos"}, {"text": "3", "label": "pos\udfff"}):
        write_lines(path, [*good[:4], bad, *good[5:]])
        said = refusal(path)
        assert "data.jsonl, row 5" in said and "not valid Unicode" in said


def test_labels_without_a_training_example_are_named(tmp_path: Path) -> None:
    path = write_csv(tmp_path / "data.csv", [(f"r{i}", str(i % 2)) for i in range(20)])
    with pytest.warns(UserWarning, match="no training example has the label '2' or '3'"):
        task = load_task(path, labels=["0", "1", "2", "3"])
    assert summarize_task(task).endswith("; no training example of '2', '3'")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        task = load_task(path, labels=["0", "1", "2"])
        assert summarize_task(task).endswith("; no training example of '2'")
        assert "no training example" not in summarize_task(load_task(path))
