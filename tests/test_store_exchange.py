"""The cache that lasts, exported, imported and cleared."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from store_cases import PROMPTS, SETTING, TASK, WRITTEN, Watched, scorer_of

from promptgym.errors import ConfigError
from promptgym.prompts import Example, Prompt
from promptgym.scoring.store import (
    Answered,
    ExampleSet,
    Shelf,
    export_store,
    import_store,
    store_at,
)
from promptgym.scoring.store.admin import clear, describe


@pytest.mark.parametrize("name", ["cache.jsonl", "cache.jsonl.gz"])
@pytest.mark.parametrize("task", [TASK, WRITTEN], ids=["labels", "generation"])
def test_an_export_is_read_back_elsewhere(
    place: str, tmp_path: Path, name: str, task: object
) -> None:
    demonstrated = Prompt("x", (Example("in", "plus"),))
    scorer = scorer_of(Watched(), place, task)
    scorer.score(PROMPTS, TASK.train)
    assert scorer.shelf is not None
    examples = ExampleSet(TASK.train[:2])
    shelf = Shelf(scorer.shelf.store, SETTING)
    odd = np.array([[0.0, -np.inf], [-1e-300, -0.1]])
    shelf.write([Answered(demonstrated, examples, odd, np.array([1, 2]))])
    assert export_store(scorer.shelf.store, tmp_path / name) == 6
    assert export_store(scorer.shelf.store, tmp_path / "some.jsonl", model="m@1") == 1
    assert export_store(scorer.shelf.store, tmp_path / "none.jsonl", model="nobody") == 0
    assert len((tmp_path / "none.jsonl").read_text().splitlines()) == 1, "no examples of others"
    other = store_at(tmp_path / "other")
    assert import_store(other, tmp_path / name) == 6
    assert import_store(other, tmp_path / name) == 6, "what is there already stays"
    assert [i.to_json() | {"written": 0} for i in describe(other)] == [
        i.to_json() | {"written": 0} for i in describe(scorer.shelf.store)
    ]
    model = Watched()
    scorer_of(model, tmp_path / "other", task).score(PROMPTS, TASK.train)
    assert not model.asked
    (found,) = Shelf(other, SETTING).read([demonstrated], [examples])
    assert found is not None
    np.testing.assert_array_equal(found.answers, odd)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("{}\n", "line 1"),
        ("garbage\n", "line 1"),
        ('{"format": "promptgym-cache", "version": 1}\n{"kind": "answers"}\n', "line 2"),
    ],
)
def test_a_file_that_is_no_export_is_refused_by_line(tmp_path: Path, text: str, said: str) -> None:
    (tmp_path / "file.jsonl").write_text(text)
    with pytest.raises(ConfigError, match=f"{said}: not a line of a cache export"):
        import_store(store_at(tmp_path / "cache"), tmp_path / "file.jsonl")


def test_what_cannot_be_written_or_read_is_refused(tmp_path: Path) -> None:
    store = store_at(tmp_path / "cache")
    (tmp_path / "file").write_text("")
    for place in (tmp_path, tmp_path / "file" / "x.jsonl"):
        with pytest.raises(ConfigError, match=r"a folder|cannot be written"):
            export_store(store, place)
    with pytest.raises(ConfigError, match="there is no such file"):
        import_store(store, tmp_path / "nothing.jsonl")


def test_clearing_takes_what_was_named_and_what_only_that_referred_to(place: str) -> None:
    scorer = scorer_of(Watched(), place)
    scorer.score(PROMPTS, TASK.train)
    assert scorer.shelf is not None
    store = scorer.shelf.store
    shelf = Shelf(store, SETTING)
    examples = ExampleSet(TASK.dev[:2])
    shelf.write([Answered(PROMPTS[0], examples, np.zeros((2, 2)), np.array([1, 2]))])
    assert clear(store, model="nobody") == 0
    assert clear(store, older_than_days=1) == 0
    assert clear(store, model="m@1") == 1
    assert shelf.read([PROMPTS[0]], [examples]) == [None]
    assert [i.rows for i in describe(store)] == [5]
    assert clear(store) == 5 and not describe(store)
    scorer_of(Watched(), place).score(PROMPTS, TASK.train)
    assert [i.rows for i in describe(store)] == [5]
