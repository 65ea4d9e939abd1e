"""Bringing your own data: formats, labels, splits, few shots, and the page about it."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
from task_files import REVIEWS, counts, inputs, refusal, write_csv, write_lines

from promptgym.tasks import load_task
from promptgym.types import JSON

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
