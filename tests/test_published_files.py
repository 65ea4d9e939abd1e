"""Ready definitions read the files that the data sets' authors ship."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from task_files import counts, refusal, write_csv

from promptgym.tasks import load_task
from promptgym.types import JSON


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
