"""Entries of a leaderboard as a check would make them: seeded, with realistic numbers."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, get_args

import numpy as np

from promptgym.leaderboard.entries import Entry, Run, Track

TRACKS: Sequence[Track] = get_args(Track)
WORDS = (
    "carefully",
    "state",
    "the",
    "opinion",
    "of",
    "author",
    "briefly",
    "answer",
    "which",
    "staff",
)
CAP = 32_000


def make_run(
    rng: np.random.Generator,
    task: str,
    seed: int,
    level: float,
    *,
    model: str = "tiny",
    proposer: bool = False,
    robust: bool = True,
    tested: bool = True,
) -> Run:
    """Return a run that ends near `level`; without `tested` its regret is known, and no test."""
    steps = int(rng.integers(3, 9))
    at = np.sort(rng.choice(np.arange(200, CAP, 64), steps, replace=False))
    values = np.sort(rng.uniform(0.4, level, steps - 1)).tolist()
    values.append(float(np.clip(level + rng.normal(0, 0.015), 0, 1)))
    curve: list[dict[str, Any]] = []
    for queries, value in zip(at.tolist(), values, strict=True):
        prompt = {"instruction": " ".join(rng.choice(WORDS, 5))}
        dev = min(1.0, value + 0.01)
        score = {"test": value} if tested else {"test": None, "regret": 1 - value}
        curve.append({"queries": queries, "prompt": prompt, "dev": dev, **score})
    kinds = ("character", "word", "sentence", "semantic")
    robustness = {
        **{kind: {"drop": float(rng.uniform(-0.02, 0.2))} for kind in kinds},
        "format": {"spread": float(rng.uniform(0, 0.3))},
        "posix": float(rng.uniform(0, 1)),
        "transfer": {"tiny-masked": {"value": float(rng.uniform(0.4, 0.8))}},
    }
    return Run(
        task=task,
        model=model,
        seed=seed,
        prompt=curve[-1]["prompt"],
        train=min(1.0, values[-1] + float(rng.uniform(0, 0.05))),
        dev=curve[-1]["dev"],
        test=values[-1] if tested else None,
        queries=int(CAP - rng.integers(0, 64)),
        tokens=int(rng.integers(500_000, 900_000)),
        proposer_tokens=int(rng.integers(10_000, 90_000)) if proposer else 0,
        seconds=float(rng.uniform(5, 90)),
        failures=int(rng.random() < 0.05),
        curve=tuple(curve),
        robustness=robustness if robust else None,
        rescored=int(rng.integers(1, 4)),
    )


def make_entry(
    rng: np.random.Generator,
    name: str,
    *,
    tasks: Sequence[str] = ("review-author", "news-topic", "review-staff"),
    seeds: int = 5,
    models: Sequence[str] = ("tiny",),
    robust: bool = True,
    tested: bool = True,
    level: float | None = None,
    **more: Any,
) -> Entry:
    """Return one method on one suite; `more` replaces fields of the entry."""
    track = more.pop("track", TRACKS[int(rng.integers(3))])
    base = float(rng.uniform(0.55, 0.95)) if level is None else level
    levels = np.clip(base + rng.normal(0, 0.05, len(tasks)), 0.45, 0.99).tolist()
    runs = tuple(
        make_run(
            rng,
            task,
            100 + seed,
            goal,
            model=model,
            proposer=track == "proposer",
            robust=robust,
            tested=tested,
        )
        for task, goal in zip(tasks, levels, strict=True)
        for model in models
        for seed in range(seeds)
    )
    fields: dict[str, Any] = {
        "name": name,
        "spec": name.replace(" ", "_"),
        "options": {},
        "track": track,
        "shots": "zero-shot",
        "suite": "tiny",
        "version": "0.1.0",
        "budget": {"queries": CAP, "proposer_tokens": 100_000},
        "start": "manual",
        "authors": "promptgym",
        "url": "",
        "description": "",
        "command": f"promptgym bench tiny --only .{name}. --out runs/tiny",
        "runs": runs,
    }
    return Entry(**{**fields, **more})
