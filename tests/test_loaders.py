"""Bringing your own data: every format, every fault named with its file and row."""

from __future__ import annotations

import csv
import json
import re
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from promptgym.errors import TaskError
from promptgym.tasks import Task, describe_task, load_task
from promptgym.types import JSON

REVIEWS = [(f"review number {i} is here", ("negative", "positive")[i % 2]) for i in range(40)]


def write_csv(path: Path, rows: list[Any], header: list[str] | None = None, **kw: Any) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", newline="", encoding=kw.pop("encoding", "utf-8")) as file:
        writer = csv.writer(file, **kw)
        if header != []:
            writer.writerow(header or ["text", "label"])
        writer.writerows(rows)
    return path


def write_lines(path: Path, rows: list[JSON]) -> Path:
    path.write_text("\n".join(json.dumps(row) for row in rows) + "\n", encoding="utf-8")
    return path


def inputs(task: Task) -> list[str]:
    return [e.input for s in (task.train, task.dev, task.test) for e in s]


def counts(task: Task, split: str) -> dict[str, int]:
    found: dict[str, int] = describe_task(task)["splits"][split]["labels"]
    return found


def refusal(*args: Any, **options: Any) -> str:
    with pytest.raises(TaskError) as caught:
        load_task(*args, **options)
    return str(caught.value)


# --- formats -------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["csv", "tsv", "jsonl", "json"])
def test_one_file_is_divided_into_three_stratified_splits(tmp_path: Path, kind: str) -> None:
    path = tmp_path / f"reviews.{kind}"
    if kind in ("csv", "tsv"):
        write_csv(path, REVIEWS, delimiter={"csv": ",", "tsv": "\t"}[kind])
    else:
        rows = [{"text": text, "label": label} for text, label in REVIEWS]
        path.write_text(json.dumps(rows)) if kind == "json" else write_lines(path, rows)
    task = load_task(path, input="text", target="label")
    assert task.name == "reviews"
    assert task.labels == ("negative", "positive")
    assert task.metric.name == "accuracy"
    assert sorted(inputs(task)) == sorted(text for text, _ in REVIEWS)
    assert [counts(task, s) for s in ("train", "dev", "test")] == [
        {"negative": 12, "positive": 12},
        {"negative": 4, "positive": 4},
        {"negative": 4, "positive": 4},
    ]
    assert load_task(str(path)) == task  # usual column names are found
    assert load_task(str(path), seed=1).train != task.train


def test_fields_keep_commas_quotes_line_breaks_and_spaces(tmp_path: Path) -> None:
    odd = ["a, b", 'say "x"', "two\nlines", "  spaces  ", "crème brûlée", "'", "{prompt}", "#"]
    rows = [(text, str(i % 2)) for i, text in enumerate(odd)]
    for path in (
        write_csv(tmp_path / "a.csv", rows),
        write_csv(tmp_path / "b.tsv", rows, delimiter="\t"),
        write_csv(tmp_path / "c.txt", rows, delimiter=";"),
    ):
        delimiter = ";" if path.suffix == ".txt" else None
        task = load_task(path, dev=2, test=0, delimiter=delimiter)
        assert sorted(inputs(task)) == sorted(odd)


def test_tab_separated_text_may_be_unquoted(tmp_path: Path) -> None:
    lines = ["sentence\tlabel", '"it \'s great" , he says\t1', 'a "quote\t0', '"open\t1', 'end"\t0']
    path = tmp_path / "glue.tsv"
    path.write_text("\n".join(lines) + "\n")
    task = load_task(path, dev=1, test=0)
    assert sorted(inputs(task)) == sorted(line.split("\t")[0] for line in lines[1:])


def test_byte_order_marks_line_ends_and_blank_lines_do_no_harm(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    path.write_bytes(b"\xef\xbb\xbftext,label\r\nx,0\r\n\r\ny,1\nz,0\nw,1\n")
    assert sorted(inputs(load_task(path, dev=1, test=0))) == ["w", "x", "y", "z"]
    path = tmp_path / "b.jsonl"
    path.write_text('{"text": "a\u2028b", "label": 0}\n\n{"text": "c", "label": 1}\n' * 1 + "\n")
    assert sorted(inputs(load_task(path, labels=["0", "1"], dev=1, test=0))) == ["a\u2028b", "c"]


def test_another_encoding_can_be_said(tmp_path: Path) -> None:
    rows = [(f"café {i}", str(i % 2)) for i in range(10)]
    for encoding in ("latin-1", "utf-16"):
        path = write_csv(tmp_path / f"{encoding}.csv", rows, encoding=encoding)
        task = load_task(path, encoding=encoding)
        assert "café 3" in inputs(task)


def test_columns_can_be_named_and_joined(tmp_path: Path) -> None:
    rows = [(f"p{i}", f"h{i}", ("yes", "no")[i % 2]) for i in range(10)]
    path = write_csv(tmp_path / "nli.csv", rows, [])
    task = load_task(
        path,
        columns=["premise", "hypothesis", "gold"],
        input="{premise} ? {hypothesis}",
        target="gold",
    )
    assert "p3 ? h3" in inputs(task)


def test_folders_hold_a_file_a_split(tmp_path: Path) -> None:
    write_csv(tmp_path / "train.csv", REVIEWS[:20])
    write_csv(tmp_path / "validation.tsv", REVIEWS[20:30], delimiter="\t")
    write_lines(tmp_path / "test.jsonl", [{"text": t, "label": y} for t, y in REVIEWS[30:]])
    task = load_task(tmp_path)
    assert [len(s) for s in (task.train, task.dev, task.test)] == [20, 10, 10]
    assert [e.input for e in task.train] == [t for t, _ in REVIEWS[:20]]  # order is kept
    given = load_task(
        tmp_path / "train.csv", dev=tmp_path / "validation.tsv", test=tmp_path / "test.jsonl"
    )
    assert inputs(given) == inputs(task)
    drawn = load_task(tmp_path, dev=0.25)
    assert (len(drawn.train), len(drawn.dev), len(drawn.test)) == (15, 5, 10)


# --- the datasets library ------------------------------------------------------------------------


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder as `DatasetDict.save_to_disk` writes it, labels as integer classes."""
    datasets = pytest.importorskip("datasets")
    features = datasets.Features(
        {
            "text": datasets.Value("string"),
            "label": datasets.ClassLabel(names=["negative", "positive"]),
        }
    )

    def part(rows: list[tuple[str, str]]) -> Any:
        data = {"text": [t for t, _ in rows], "label": [y for _, y in rows]}
        return datasets.Dataset.from_dict(data, features=features)

    path = tmp_path_factory.mktemp("saved") / "reviews"
    splits = {"train": REVIEWS[:20], "validation": REVIEWS[20:30], "test": REVIEWS[30:]}
    datasets.DatasetDict({k: part(v) for k, v in splits.items()}).save_to_disk(str(path))
    part(REVIEWS).save_to_disk(str(path.parent / "single"))
    return path


def test_a_saved_dataset_loads_with_its_class_names(saved: Path) -> None:
    task = load_task(saved)
    assert task.labels == ("negative", "positive")
    assert [(e.input, e.target) for e in task.train] == REVIEWS[:20]
    assert [len(s) for s in (task.train, task.dev, task.test)] == [20, 10, 10]
    single = load_task(saved.parent / "single")
    assert [len(s) for s in (single.train, single.dev, single.test)] == [24, 8, 8]
    assert "reviews [train]" in refusal(saved, input="body")


def test_a_ready_definition_reads_a_saved_copy(saved: Path) -> None:
    task = load_task("mr", data_dir=saved)
    assert dict(task.verbalizers) == {"negative": "terrible", "positive": "great"}
    assert [(e.input, e.target) for e in task.test] == REVIEWS[30:]
    sst2 = load_task("sst2", data_dir=saved)  # whose test split is the Hub's validation
    assert [e.input for e in sst2.test] == [t for t, _ in REVIEWS[20:30]]


def test_without_a_network_the_hub_says_what_to_do() -> None:
    said = refusal("sst2")
    assert "hub:stanfordnlp/sst2 cannot be loaded" in said
    assert "data_dir=" in said
    assert "load it from files" in refusal("hub:owner/no-such-name")
    assert "expected 'hub:owner/name'" in refusal("hub:a/b/c")
    assert "orhonovich/instruction-induction" in refusal("instruction-induction/sum")


# --- labels --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "labels", "words"),
    [
        ({}, ("0", "1"), ("0", "1")),
        ({"labels": ["bad", "good"]}, ("bad", "good"), ("bad", "good")),
        ({"labels": {"1": "good", "0": "bad"}}, ("good", "bad"), ("good", "bad")),
        ({"verbalizers": {"0": "terrible", "1": "great"}}, ("0", "1"), ("terrible", "great")),
        ({"verbalizers": {1: "great", 0: "terrible"}}, ("0", "1"), ("terrible", "great")),
        (
            {"labels": ["bad", "good"], "verbalizers": ["terrible", "great"]},
            ("bad", "good"),
            ("terrible", "great"),
        ),
        (
            {"labels": ["bad", "good"], "verbalizers": {"0": "terrible", "good": "great"}},
            ("bad", "good"),
            ("terrible", "great"),
        ),
    ],
)
def test_labels_and_verbalizers_can_be_said_in_many_ways(
    tmp_path: Path, options: JSON, labels: tuple[str, ...], words: tuple[str, ...]
) -> None:
    rows = [(text, "01"[label == "positive"]) for text, label in REVIEWS]
    task = load_task(write_csv(tmp_path / "a.csv", rows), **options)
    assert task.labels == labels
    assert tuple(task.verbalizers.values()) == words
    right = {"0": labels[labels.index("bad") if "bad" in labels else 0]}
    for example in task.train:
        raw = dict(rows)[example.input]
        assert (example.target == right["0"]) == (raw == "0")


def test_free_answers_are_told_from_labels(tmp_path: Path) -> None:
    path = write_csv(tmp_path / "qa.csv", [(f"what is {i} ?", f"answer {i}") for i in range(30)])
    task = load_task(path)
    assert task.labels is None
    assert task.metric.name == "exact_match"
    reviews = write_csv(tmp_path / "reviews.csv", REVIEWS)
    assert load_task(reviews, labels=None).labels is None
    assert load_task(reviews, metric="token_f1").labels is None
    assert load_task(reviews, metric="balanced_accuracy").metric.balanced


# --- faults, each with file and row --------------------------------------------------------------


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
        ("text;label\na;0\n", {}, ["['text;label']", "delimiter="]),
        ("text,label\na,0\nb,1,x\n", {}, ["row 3: 3 fields, expected 2 (text, label)"]),
        ("text,label\na,0\n ,1\n", {}, ["row 3", "'text' holds", "expected the input"]),
        ("text,label\na,0\nb,\n", {"labels": ["x", "y"]}, ["row 3", "expected the target"]),
        ("text,text\na,0\n", {}, ["row 1", "must be different"]),
        ('text,label\n"a"b,0\n', {}, ["not valid CSV"]),
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
        ("text,label\na,0\nb,1\nc,0\nd,1\n", {"dev": 9, "test": 0}, ["cannot take 9 of 4"]),
        ("text,label\na,0\nb,1\nc,0\nd,1\n", {"encoding": "utf-99"}, ["unknown encoding"]),
        ("text,label\na,0\nb,1\nc,0\nd,1\n", {"labels": "x"}, ["expected 'auto', None"]),
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
    path.write_text(content)
    message = refusal(path, **options)
    for part in said:
        assert part in message


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


# --- few shots, sizes, pools ---------------------------------------------------------------------


def test_k_shots_sizes_and_pools(tmp_path: Path) -> None:
    write_csv(tmp_path / "train.csv", REVIEWS[:30])
    write_csv(tmp_path / "test.csv", REVIEWS[30:])
    task = load_task(tmp_path, k_shot=4, seed=13, pool=6)
    assert counts(task, "train") == counts(task, "dev") == {"negative": 4, "positive": 4}
    assert counts(task, "pool") == {"negative": 3, "positive": 3}
    assert len(task.test) == 10
    assert task == load_task(tmp_path, k_shot=4, seed=13, pool=6)
    assert task.train != load_task(tmp_path, k_shot=4, seed=21, pool=6).train
    cut = load_task(tmp_path, sizes={"train": 10, "dev": 4, "test": 6})
    assert counts(cut, "train") == {"negative": 5, "positive": 5}
    assert [len(s) for s in (cut.train, cut.dev, cut.test)] == [10, 4, 6]
    assert load_task(tmp_path, sizes={"test": 0}).test == ()


def test_every_option_that_names_data_is_json(tmp_path: Path) -> None:
    path = write_csv(tmp_path / "a.csv", REVIEWS)
    options: JSON = {
        "labels": {"negative": "negative", "positive": "positive"},
        "verbalizers": {"negative": "bad", "positive": "good"},
        "template": "{demonstrations}{input} {prompt}",
        "demonstration": "{input} = {answer}; ",
        "masked_template": "{demonstrations}{input} {mask} {prompt}",
        "manual_prompts": ["It was", {"instruction": "All in all"}],
        "metric": "promptgym.tasks.metrics:exact_match",
        "stop": [".", "\n"],
        "sizes": {"train": 8},
        "max_new_tokens": 3,
        "name": "mine",
        "description": "reviews",
    }
    task = load_task(str(path), **json.loads(json.dumps(options)))
    assert task.template.text == options["template"]
    assert task.template.demonstration == options["demonstration"]
    assert task.masked_template is not None
    assert task.masked_template.demonstration == options["demonstration"]
    assert [p.instruction for p in task.manual_prompts] == ["It was", "All in all"]
    assert (task.name, task.description, task.max_new_tokens) == ("mine", "reviews", 3)
    assert task.stop == (".", "\n")


# --- the published files -------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["mr", "cr", "subj", "trec", "sst5"])
def test_lm_bff_files_without_a_header(tmp_path: Path, name: str) -> None:
    from promptgym.tasks import DEFINITIONS

    raw = DEFINITIONS[name].raw
    rows = [(value, f"{split} text {value}") for split in "abc" for value in raw]
    for split, part in zip(
        ("16-13/train", "16-13/dev", "test"),
        (rows[: len(raw)], rows[len(raw) : 2 * len(raw)], rows[2 * len(raw) :]),
        strict=True,
    ):
        write_csv(tmp_path / f"{split}.csv", part, [])
    task = load_task(name, data_dir=tmp_path / "16-13")
    for examples in (task.train, task.dev, task.test):
        assert [e.target for e in examples] == list(raw.values())
        assert all(raw[e.input[-1]] == e.target for e in examples)


@pytest.mark.parametrize("seed", [100, 13, 21, 42, 87])
def test_sst2_as_rlprompt_ships_it(shared: Path, seed: int) -> None:
    task = load_task("sst-2", data_dir=shared / "data" / "few-shot" / "sst-2" / f"16-{seed}")
    assert counts(task, "train") == counts(task, "dev") == {"negative": 16, "positive": 16}
    assert counts(task, "test") == {"negative": 912, "positive": 909}
    assert dict(task.verbalizers) == {"negative": "terrible", "positive": "great"}
    assert not task.dropped


def test_ag_news_as_rlprompt_ships_it(shared: Path) -> None:
    for seed in (100, 13, 21):
        folder = shared / "data" / "few-shot" / "agnews" / f"16-{seed}"
        task = load_task("agnews", data_dir=folder)
        assert set(counts(task, "train").values()) == set(counts(task, "dev").values()) == {16}
        assert set(counts(task, "test").values()) == {1900}
        assert tuple(task.verbalizers.values()) == ("World", "Sports", "Business", "Tech")
        # Quoted fields are read as their writer meant them.
        assert not any(e.input.startswith('"') and '""' in e.input for e in task.test)


def test_gsm8k_as_openai_ships_it(shared: Path) -> None:
    task = load_task("gsm8k", data_dir=shared / "data" / "gsm8k", sizes={"train": 64, "dev": 64})
    assert (len(task.train), len(task.dev), len(task.test)) == (64, 64, 1319)
    assert task.metric.name == "numeric_match"
    assert task.labels is None
    assert not any("<<" in e.target for e in (*task.train, *task.test))
    assert task.metric.score(f"So it is {task.test[0].target[-2:]}.", task.test[0]) == 1.0


def test_instruction_induction_as_its_authors_ship_it(shared: Path) -> None:
    folder = shared / "data" / "instruction-induction"
    names = sorted(path.stem for path in (folder / "induce").iterdir())
    assert len(names) == 10
    repeated: Counter[str] = Counter()
    for name in names:
        task = load_task(f"instruction-induction/{name}", data_dir=folder)
        assert len(task.test) == 100
        assert len(task.train) + len(task.dev) + len(task.dropped) == 200
        assert len(task.reference_prompts) >= 8
        for example in task.test:
            assert task.metric.score(example.target, example) == 1.0
        repeated[name] = len(task.dropped)
    assert {n: c for n, c in repeated.items() if c} == {"larger_animal": 1, "rhymes": 35}
    rhymes = load_task("instruction-induction/rhymes", data_dir=folder)
    pig = next(e for e in (*rhymes.train, *rhymes.dev) if e.input == "pig")
    assert rhymes.metric.score("Dig.", pig) == 1.0
    assert "induce/synonyms.json" in refusal("instruction-induction/synonyms", data_dir=folder)


def test_instruction_induction_tasks_of_another_shape(tmp_path: Path) -> None:
    shapes: dict[str, list[JSON]] = {
        "cause_and_effect": [{"cause": f"c{i}.", "effect": f"e{i}."} for i in range(10)],
        "common_concept": [
            {"items": [f"a{i}", "b"], "all_common_concepts": ["things", "items"]} for i in range(10)
        ],
    }
    for name, rows in shapes.items():
        for place, part in (("induce", rows[:6]), ("execute", rows[6:])):
            path = tmp_path / "data" / "raw" / place / f"{name}.json"
            path.parent.mkdir(parents=True, exist_ok=True)
            examples = {str(i): row for i, row in enumerate(part, start=1)}
            path.write_text(json.dumps({"metadata": {}, "examples": examples}))
    cause = load_task("instruction-induction/cause_and_effect", data_dir=tmp_path)
    assert len(cause.test) == 8
    assert cause.test[1].input == "Sentence 1: e6. Sentence 2: c6."
    assert cause.test[1].target == "c6."
    concept = load_task("instruction-induction/common_concept", data_dir=tmp_path)
    assert concept.test[0].input == "a6, b"
    assert concept.test[0].answers == ("things", "items")
    assert concept.metric.score("they are items", concept.test[0]) == pytest.approx(0.5)


@pytest.mark.parametrize(("name", "reference"), [("sst2", "sst-2"), ("ag_news", "agnews")])
def test_rlprompts_rewards_come_out_of_the_whole_path(
    shared: Path, name: str, reference: str
) -> None:
    """Its data, template, verbalizers and prompts, through our loader, scorer and reward."""
    from transformers import AutoTokenizer

    from promptgym.problem import make_problem
    from promptgym.prompts import Prompt

    folder = shared / "parity" / "rlprompt"
    recorded = json.loads((folder / f"{reference}.json").read_text("utf-8"))
    problem = make_problem(
        name,
        f"hf:{folder / 'tiny-roberta'}",
        task_options={"data_dir": str((shared / "data" / recorded["data"]).parent)},
    )
    tokenizer = AutoTokenizer.from_pretrained(folder / "tiny-roberta")
    prompts = [Prompt(tokenizer.convert_tokens_to_string(p)) for p in recorded["prompts"]]
    rewards = problem.rewards(problem.score(prompts))
    np.testing.assert_allclose(rewards, recorded["raw"], rtol=0, atol=1e-4)


# --- the page about it ---------------------------------------------------------------------------

PAGE = Path(__file__).resolve().parents[1] / "docs" / "tasks.md"


def test_the_examples_of_the_page_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    space: dict[str, Any] = {}
    blocks = re.findall(r"```python\n(.*?)```", PAGE.read_text("utf-8"), re.DOTALL)
    assert len(blocks) >= 5
    for block in blocks:
        exec(block, space)
    assert space["task"].labels == ("negative", "positive")


def test_the_page_names_every_task_and_metric() -> None:
    from promptgym.tasks import METRICS, list_tasks

    page = PAGE.read_text("utf-8")
    for name in [*(info.name for info in list_tasks()), *METRICS]:
        assert f"`{name.removeprefix('instruction-induction/')}`" in page, name
