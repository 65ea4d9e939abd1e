"""Tasks: splits that cannot overlap, a test split that stays closed, few shots, the catalog."""

from __future__ import annotations

import json
import pickle

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from promptgym.errors import TaskError
from promptgym.problem import Problem
from promptgym.prompts import Example, Prompt, Template
from promptgym.tasks import (
    DEFINITIONS,
    Definition,
    Task,
    describe_task,
    few_shot_split,
    list_tasks,
    load_task,
    split_hash,
)
from promptgym.tasks.sampling import k_shots, shares, split_off, subsample
from promptgym.tasks.world import WORLD_TASKS
from promptgym.testing import TransparentModel, transparent_task

TEMPLATE = Template("{input} {prompt}")


def rows(*pairs: tuple[str, str]) -> tuple[Example, ...]:
    return tuple(Example(text, target) for text, target in pairs)


def task(**changes: object) -> Task:
    values: dict[str, object] = {
        "name": "t",
        "template": TEMPLATE,
        "train": rows(("a", "no"), ("b", "yes")),
        "dev": rows(("c", "no")),
        "test_split": rows(("d", "yes")),
        "labels": ("no", "yes"),
    }
    return Task(**{**values, **changes})  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"dev": rows(("a", "no"))}, "dev 1 = train 1|train 1 = dev 1"),
        ({"test_split": rows(("x", "no"), (" b ", "no"))}, "train 2 = test 2"),
        ({"train": rows(("a", "no"), ("a", "yes"))}, "train 1 = train 2"),
        ({"pool": rows(("d", "yes"))}, "test 1 = pool 1"),
        ({"dev": rows(("c", "maybe"))}, "dev example 1: label 'maybe' is not one of"),
        ({"pool": rows(("e", "maybe"))}, "pool example 1: label 'maybe'"),
        ({"labels": ("no",)}, "at least two different names"),
        ({"labels": ("no", "no")}, "at least two different names"),
        ({"verbalizers": {"no": "bad"}}, "verbalizers are given for"),
        ({"verbalizers": {"no": "bad", "yes": "bad "}}, "stands for 'no' already"),
        ({"verbalizers": {"no": "bad", "yes": " "}}, "which is empty"),
        ({"template": "{input} {prompt}"}, "expected a Template, got '{input} {prompt}'"),
    ],
)
def test_an_unsound_task_cannot_be_made(changes: dict[str, object], said: str) -> None:
    with pytest.raises(TaskError, match=said):
        task(**changes)


def test_lists_become_tuples() -> None:
    made = task(train=list(rows(("a", "no"))), labels=["no", "yes"])
    assert made.labels == ("no", "yes") and isinstance(made.train, tuple)


def test_the_test_split_is_closed_in_a_problem() -> None:
    problem = Problem(transparent_task(4), TransparentModel())
    with pytest.raises(TaskError, match="cannot be reached from a Problem"):
        _ = problem.task.test
    assert problem.task.test_split is None
    again = pickle.loads(pickle.dumps(problem.task))
    with pytest.raises(TaskError, match="cannot be reached"):
        _ = again.test
    assert not any("test" in str(e) for e in (*problem.task.train, *problem.task.dev))
    assert task().closed().closed() == task().closed()
    assert [e.input for e in task().test] == ["d"]


def test_verbalizers_follow_the_order_of_the_labels() -> None:
    made = task(verbalizers={"yes": "great", "no": "bad"})
    assert list(made.verbalizers.items()) == [("no", "bad"), ("yes", "great")]
    assert made.words_for("yes") == "great"
    assert made.target_index(made.train) == [0, 1]


def lm_bff(items: list[list[str]], k: int, seed: int) -> tuple[list[list[str]], list[list[str]]]:
    """LM-BFF's procedure, from its description: global NumPy seed, shuffle, first k, next k."""
    state = np.random.get_state()
    np.random.seed(seed)
    items = [list(item) for item in items]
    np.random.shuffle(items)
    np.random.set_state(state)
    groups: dict[str, list[list[str]]] = {}
    for item in items:
        groups.setdefault(item[0], []).append(item)
    train = [item for group in groups.values() for item in group[:k]]
    return train, [item for group in groups.values() for item in group[k : 2 * k]]


@given(
    st.lists(st.sampled_from("abc"), min_size=12, max_size=60),
    st.integers(1, 3),
    st.sampled_from([0, 13, 21, 42, 87, 100]),
)
def test_few_shots_are_drawn_as_lm_bff_draws_them(labels: list[str], k: int, seed: int) -> None:
    items = [[label, f"text {i}"] for i, label in enumerate(labels)]
    examples = [Example(text, label) for label, text in items]
    if any(labels.count(name) < 2 * k for name in set(labels)):
        with pytest.raises(TaskError, match="were asked for"):
            few_shot_split(examples, k, seed)
        return
    train, dev = few_shot_split(examples, k, seed)
    want_train, want_dev = lm_bff(items, k, seed)
    assert [[e.target, e.input] for e in train] == want_train
    assert [[e.target, e.input] for e in dev] == want_dev
    assert len(train) == len(dev) == k * len(set(labels))
    assert not {e.key for e in train} & {e.key for e in dev}


def test_few_shots_leave_numpys_generator_alone_and_differ_by_seed() -> None:
    examples = [Example(f"text {i}", "ab"[i % 2]) for i in range(100)]
    np.random.seed(5)
    before = np.random.get_state()[1].tolist()  # type: ignore[index]
    draws = {tuple(e.input for e in few_shot_split(examples, 4, seed)[0]) for seed in range(20)}
    assert np.random.get_state()[1].tolist() == before  # type: ignore[index]
    assert len(draws) == 20
    assert len(few_shot_split(examples, 4, 0, dev_k=40)[1]) == 80
    assert len(k_shots(examples, [""] * 100, 5, 0)[0]) == 5


@given(st.lists(st.integers(0, 50), min_size=1, max_size=6), st.floats(0, 1))
def test_shares_add_up_and_stay_in_proportion(sizes: list[int], fraction: float) -> None:
    total = round(sum(sizes) * fraction)
    got = shares(sizes, total)
    assert sum(got) == total
    assert all(abs(n - s * total / max(sum(sizes), 1)) < 1 for n, s in zip(got, sizes, strict=True))
    assert all(n <= s for n, s in zip(got, sizes, strict=True))


@given(st.lists(st.sampled_from("aab"), min_size=4, max_size=60), st.integers(0, 5))
def test_a_part_is_stratified_and_keeps_the_order(classes: list[str], seed: int) -> None:
    items = list(range(len(classes)))
    rest, part = split_off(items, classes, 0.5, seed)
    assert sorted(rest + part) == items
    assert list(rest) == sorted(rest)
    assert list(part) == sorted(part)
    for name in set(classes):
        share = sum(classes[i] == name for i in part) - classes.count(name) * len(part) / len(items)
        assert abs(share) < 1
    assert split_off(items, classes, 0.5, seed) == (rest, part)


@pytest.mark.parametrize("part", [0, 0.0, 1.0, 10, -1, 1.5])
def test_an_impossible_part_is_refused(part: float) -> None:
    with pytest.raises(TaskError, match="of 10 examples"):
        split_off(list(range(10)), ["a"] * 10, part, 0)


def test_a_subsample_cannot_be_larger() -> None:
    assert subsample([1, 2], ["a", "b"], 2, 0) == (1, 2)
    with pytest.raises(TaskError, match="3 examples were asked for, there are 2"):
        subsample([1, 2], ["a", "b"], 3, 0)


@pytest.mark.parametrize("name", WORLD_TASKS)
def test_a_bundled_task_is_sound(name: str) -> None:
    loaded = load_task(name)
    sizes = {s: d["examples"] for s, d in describe_task(loaded)["splits"].items()}
    assert sizes == {"train": 64, "dev": 64, "test": 500, "pool": 32}
    assert loaded.name == name
    if loaded.labels:
        for split in (loaded.train, loaded.dev, loaded.test):
            counts = [sum(e.target == label for e in split) for label in loaded.labels]
            assert max(counts) - min(counts) <= 1
        assert loaded.masked_template is not None
        assert loaded.masked_template.has_mask
    assert loaded.manual_prompts[0].instruction
    assert set(loaded.reference_prompts[0].words) <= set(loaded.vocabulary)
    assert loaded.template.has_demonstrations
    shot = Prompt("do", loaded.pool[:1])
    assert loaded.pool[0].target in loaded.template.render(shot, loaded.train[0])


def test_bundled_tasks_depend_on_their_seed_and_sizes_only() -> None:
    first = load_task("review-author")
    assert load_task("author") is first  # generated once
    assert load_task("author", seed=1).train != first.train
    keys = {e.key for e in first.test}
    small = load_task("author", sizes={"train": 8, "dev": 6}, pool=0)
    assert (len(small.train), len(small.dev), len(small.pool)) == (8, 6, 0)
    assert {e.key for e in small.test} == keys  # test stays the same when the others change
    changed = load_task("author", name="mine", metric="balanced_accuracy", manual_prompts=["go"])
    assert changed.name == "mine"
    assert changed.metric.balanced
    assert changed.manual_prompts == (Prompt("go"),)
    assert changed.template == first.template


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"k_shot": 4}, "is a bundled task and reads no data"),
        ({"data_dir": "x"}, "is a bundled task and reads no data"),
        ({"columns": ["a"], "labels": ["x", "y"]}, "so it takes no columns, labels:"),
        ({"pool": -1}, "pool must be at least 0"),
        ({"sizes": 3}, "sizes takes"),
        ({"sizes": {"validation": 3}}, "expected some of"),
        ({"sizes": {"train": 0}}, "at least 1"),
        ({"manual_prompts": []}, "a list of prompts"),
        ({"masked_template": "{input}"}, "has no {mask}"),
    ],
)
def test_bundled_tasks_refuse_what_they_cannot_use(options: dict[str, object], said: str) -> None:
    with pytest.raises(TaskError) as caught:
        load_task("author", **options)  # type: ignore[arg-type]
    assert said in str(caught.value)


@pytest.mark.parametrize("found", DEFINITIONS.values(), ids=lambda d: d.name)
def test_a_ready_definition_holds_together(found: Definition) -> None:
    assert found.hub is not None or found.obtain
    labels = found.labels
    assert labels != "auto"
    train = rows(*((f"text {i}", name) for i, name in enumerate(labels or ("3", "4"))))
    made = Task(
        name=found.name,
        template=found.template,
        masked_template=found.masked_template,
        labels=labels,
        verbalizers=dict(found.verbalizers),
        train=train,
        dev=(),
    )
    assert set(found.raw.values()) == set(labels or ())
    for prompt in found.manual_prompts:
        shot = Prompt(prompt.instruction, train[:1])
        for template, mask in ((made.template, ""), (made.masked_template, "<mask>")):
            if template is not None:
                text = template.render(shot, "INPUT", mask=mask, verbalizers=made.verbalizers)
                assert "INPUT" in text
                assert prompt.instruction in text
                assert "text 0" in text
                assert text.count("<mask>") == bool(mask)


def test_the_list_of_tasks_has_every_task_once() -> None:
    infos = list_tasks()
    names = [info.name for info in infos]
    assert len(names) == len(set(names))
    assert set(names) == set(WORLD_TASKS) | set(DEFINITIONS)
    by_name = {info.name: info for info in infos}
    assert by_name["sst2"].origin == "hub:stanfordnlp/sst2"
    assert by_name["trec"].kind == "classification, 6 labels"
    assert by_name["instruction-induction/sum"].origin == "files"
    assert by_name["review-author"].origin == "bundled"
    assert all(info.description for info in infos)


def test_a_description_is_json_and_keeps_the_test_split_closed() -> None:
    loaded = load_task("news-topic")
    described = describe_task(loaded)
    assert json.loads(json.dumps(described)) == described
    assert described["splits"]["test"]["examples"] == 500
    assert sum(described["splits"]["dev"]["labels"].values()) == 64
    assert describe_task(loaded.closed())["splits"]["test"] is None


@given(st.lists(st.tuples(st.text(max_size=5), st.text(max_size=5)), max_size=4))
def test_the_hash_of_a_split_sees_every_character(pairs: list[tuple[str, str]]) -> None:
    examples = rows(*pairs)
    assert split_hash(examples) == split_hash(rows(*pairs))
    assert split_hash(examples) != split_hash((*examples, Example("", "")))
    for i, (text, target) in enumerate(pairs):
        changed = [*pairs[:i], (text, target + "!"), *pairs[i + 1 :]]
        assert split_hash(rows(*changed)) != split_hash(examples)
