"""Preferences: by hand, as data sets, from the log of any run."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from datasets import load_from_disk

from promptgym.agents.preferences import (
    Judged,
    Pair,
    Rewrite,
    judged,
    kto_weights,
    pairs_from_run,
    pairs_of,
    preference_dataset,
    unpaired_dataset,
)
from promptgym.errors import ConfigError
from promptgym.evaluation.experiment import Experiment, run_experiment

RNG = np.random.default_rng(0)

A, B, C, D = (
    Rewrite("a", 0.9, 0.8),
    Rewrite("b", 0.6, 0.9),
    Rewrite("c", 0.5, 0.5),
    Rewrite("d", 0.1, 0.5),
)


def compared(rule: Any, rewrites: list[Rewrite], **options: Any) -> list[tuple[str, str]]:
    found = pairs_of("p", rewrites, rewrites, rule=rule, rng=RNG, **options)
    assert all(p.prompt == "p" and p.margin > 0 for p in found)
    return [(p.chosen, p.rejected) for p in found]


def test_preferences_by_hand() -> None:
    group = [C, A, D, B, A]
    assert compared("best_worst", group) == [("a", "d")]
    assert compared("best_worst", [A]) == []
    assert set(compared("margin", group, margin=0.35)) == {
        ("a", "c"),
        ("a", "d"),
        ("b", "d"),
        ("c", "d"),
    }
    # b has the higher metric and the lower reward than a: neither is better than the other.
    assert compared("pareto", [A, B], draft=A) == []
    assert compared("pareto", group, draft=C) == [("a", "d"), ("b", "d")]
    assert compared("pareto", group, draft=D) == []
    many = [Rewrite(f"good {i}", 1 + i / 100, 1.0) for i in range(30)]
    many += [Rewrite(f"bad {i}", 0.0, 0.0) for i in range(30)]
    found = compared("pareto", many, draft=C)
    assert len(found) == 10 * 20
    assert {chosen for chosen, _ in found} == {f"good {i}" for i in range(20, 30)}
    margins = pairs_of("p", [A], [D], rng=RNG)
    assert [p.margin for p in margins] == [pytest.approx(0.8)]
    with pytest.raises(ConfigError, match="draft"):
        compared("pareto", group)
    with pytest.raises(ConfigError, match="'best'"):
        compared("best", group)


def test_preferences_are_a_dataset(tmp_path: Path) -> None:
    pairs = [Pair("p", "good", "bad", 0.5)]
    plain = preference_dataset(pairs)
    assert plain[0] == {"prompt": "p", "chosen": "good", "rejected": "bad", "margin": 0.5}
    plain.save_to_disk(tmp_path / "pairs")
    assert load_from_disk(tmp_path / "pairs")[0] == plain[0]
    chat = preference_dataset(pairs, chat=True)[0]
    assert chat["prompt"] == [{"role": "user", "content": "p"}]
    assert chat["chosen"] == [{"role": "assistant", "content": "good"}]
    rows = list(unpaired_dataset(judged("p", [A, C, D, A])))
    assert [(r["completion"], r["label"]) for r in rows] == [
        ("a", True),
        ("c", False),
        ("d", False),
    ]
    assert judged("p", [C, Rewrite("e", 0.5, 0.1)]) == [], "none is paid more than the other"


def test_ktos_weights_balance_both_kinds() -> None:
    rows = [Judged("p", str(i), label=i < 2) for i in range(8)]
    for balance in (1.0, 4 / 3):
        for part, counts in ((rows, (2, 6)), (rows[:3], (2, 1)), (rows[1:2] + rows[2:3], (1, 1))):
            weights = kto_weights(part, balance)
            good, bad = weights["desirable_weight"], weights["undesirable_weight"]
            assert good * counts[0] / (bad * counts[1]) == pytest.approx(balance)
            assert min(good, bad) == 1.0
    assert set(kto_weights(rows[:2], 1.0).values()) == {1.0}


def test_preferences_come_of_any_runs_log(tmp_path: Path) -> None:
    experiment = Experiment(method="random_tokens", task="author", budget={"queries": 4000})
    run_experiment(experiment, tmp_path / "run", report=False)
    pairs = pairs_from_run(tmp_path / "run", "rewrite this", margin=10.0, most=50)
    assert 0 < len(pairs) <= 50
    events = [json.loads(x) for x in (tmp_path / "run" / "events.jsonl").read_text().splitlines()]
    asked: dict[str, float] = {}
    for event in events:
        if event["kind"] == "scores" and event["split"] == "train":
            texts = [p["instruction"] for p in event["prompts"]]
            asked |= dict(zip(texts, event["rewards"], strict=True))
    for pair in pairs:
        assert pair.margin == pytest.approx(asked[pair.chosen] - asked[pair.rejected])
        assert pair.margin > 10.0
