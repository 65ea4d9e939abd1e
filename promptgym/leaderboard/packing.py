"""`pack_bench`: from a finished benchmark to submissions, one folder a method.

The log of a submission has these rows, run after run, of each run in the order in which it happened
(`cell` is the number of the run):

    scores      split, subset (places in it; null: all of it), prompts, outcomes, rewards, spent
    proposals   completions, failures, spent
    ended       why no answer came (the budget, or too many failures), spent
    incumbents  rows of queries and prompt: the best prompt by dev at points of the run
    held_out    prompts and outcomes on test, asked by the evaluator, at no cost to the run
    robustness  of the chosen prompt (`promptgym.evaluation.robustness`); null if not measured
"""

from __future__ import annotations

import json
import lzma
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from promptgym.errors import ConfigError
from promptgym.evaluation.bench import CELLS, BenchFolder
from promptgym.evaluation.bench_cell import ANYTIME
from promptgym.evaluation.evaluate import evaluate
from promptgym.evaluation.experiment import Experiment
from promptgym.leaderboard import outcomes, submission
from promptgym.leaderboard.files import LOG, MANIFEST, log_digest
from promptgym.leaderboard.pools import side_by_side
from promptgym.leaderboard.probes import probe
from promptgym.leaderboard.tracks import track_of
from promptgym.problem import Problem
from promptgym.prompts import Prompt
from promptgym.runs.folder import RunFolder, write_json
from promptgym.search.journal import FILE, VERSION
from promptgym.search.records import scores_from_json
from promptgym.tasks import Task
from promptgym.types import JSON

JOURNAL = Path("checkpoints") / FILE
DIGITS = 7
"""Significant digits that are kept of rewards."""


@dataclass(frozen=True, slots=True, kw_only=True)
class About:
    """What people say of a submission.

    Attributes:
        authors: who submits it.
        url: of a paper or of code.
        description: in their words.
    """

    authors: str
    url: str = ""
    description: str = ""


@dataclass(slots=True)
class Loaded:
    """Tasks and models of a benchmark, each loaded once.

    Attributes:
        robust: whether the chosen prompts are perturbed and asked again.
        transfer: other models that they are asked of.
    """

    robust: bool = True
    transfer: Sequence[str] = ()
    _known: dict[str, tuple[Task, Problem]] = field(default_factory=dict)
    _probed: dict[tuple[int, Prompt], JSON | None] = field(default_factory=dict)

    def probe(self, prompt: Prompt, task: Task, problem: Problem) -> JSON | None:
        """Return how a prompt fares when it is perturbed, asked once; None if not wanted."""
        if not self.robust:
            return None
        key = id(problem), prompt
        if key not in self._probed:
            self._probed[key] = probe(prompt, task, problem, self.transfer)
        return self._probed[key]

    def problem(self, experiment: Experiment) -> tuple[Task, Problem]:
        """Return the task of a run with its test split open, and its problem without a budget."""
        free = replace(experiment, seed=0, budget={}, method="", proposer=None, proposer_options={})
        free = replace(free, options={}, preset=None)
        key = json.dumps([str(free)])
        if key not in self._known:
            task, model = free.load()
            self._known[key] = task, free.problem(task, model, cache=False)
        return self._known[key]


def pack_bench(
    path: str | Path,
    out: str | Path,
    about: About,
    *,
    methods: Sequence[str] = (),
    robust: bool = True,
    transfer: Sequence[str] = (),
    jobs: int = 1,
) -> list[Path]:
    """Write a submission for every method of a benchmark.

    Args:
        path: what `promptgym bench` wrote into.
        out: where the folders go, each named after its method; those there are replaced.
        about: what people say of it.
        methods: only these; all without.
        robust: perturb the chosen prompts and ask again.
        transfer: other models that the chosen prompts are asked of.
        jobs: how many methods are packed at a time, each in a process of one thread.

    Returns:
        The folders.

    Raises:
        ConfigError: for a run that is not finished, a method that there is not, runs of another
            version, fewer seeds than a submission needs, words that none may have, or a file.
    """
    bench = BenchFolder.open(path)
    if not bench.environment:
        raise ConfigError(f"{path} does not say what it was made with; promptgym bench --resume it")
    known = {m["name"]: m for m in bench.suite["methods"]}
    if unknown := [name for name in methods if name not in known]:
        raise ConfigError(f"{path} has no method {unknown[0]!r}; it has {', '.join(known)}")
    chosen = list(methods) or list(known)
    for name in chosen:
        _check_whole(bench, name)
    folders = {folder_name(name): name for name in chosen}
    for name in chosen:
        if (other := folders[folder_name(name)]) != name:
            raise ConfigError(f"{name!r} and {other!r} would be one folder; pack them one by one")
    submission.check_said(asdict(about))
    if Path(out).exists() and not Path(out).is_dir():
        raise ConfigError(f"{out} is a file; submissions are folders in a folder: another --out")
    packing = partial(
        _pack, bench=bench, out=Path(out), about=about, robust=robust, transfer=tuple(transfer)
    )
    return side_by_side(packing, [known[name] for name in chosen], jobs)


def _check_whole(bench: BenchFolder, method: str) -> None:
    """Refuse a method some of whose runs lack, or that has too few seeds."""
    cells = [cell for cell in bench.cells if cell["method"] == method]
    missing = [c["name"] for c in cells if not (bench.path / CELLS / c["name"] / ANYTIME).exists()]
    if missing:
        raise ConfigError(
            f"{len(missing)} of {len(cells)} runs of {method} are not finished, {missing[0]} among "
            "them; go on with promptgym bench --resume, or name other methods"
        )
    seeds = {cell["seed"] for cell in cells}
    if len(seeds) < submission.SEEDS:
        raise ConfigError(
            f"{method} has {len(seeds)} seeds; a submission has at least {submission.SEEDS}"
        )
    settings = {(json.dumps(c["budget"], sort_keys=True), c["start"]) for c in cells}
    if len(settings) > 1:
        raise ConfigError(
            f"{bench.path} has {len(settings)} budgets and start prompts; a submission has one"
        )


def _pack(
    method: JSON,
    *,
    bench: BenchFolder,
    out: Path,
    about: About,
    robust: bool,
    transfer: Sequence[str],
) -> Path:
    """Write the submission of one method."""
    loaded = Loaded(robust, transfer)
    cells = [cell for cell in bench.cells if cell["method"] == method["name"]]
    runs = [bench.path / CELLS / cell["name"] for cell in cells]
    folder = out / folder_name(method["name"])
    folder.mkdir(parents=True, exist_ok=True)
    part = folder / f".{LOG}.part"
    count = 0
    with lzma.open(part, "wb", preset=6) as file:
        for number, run in enumerate(runs):
            for row in log_rows(run, loaded):
                line = json.dumps({"cell": number, **row}, ensure_ascii=False) + "\n"
                file.write(line.encode())
                count += 1
    part.replace(folder / LOG)
    suite = bench.suite
    write_json(
        folder / MANIFEST,
        {
            "format": submission.FORMAT,
            "version": submission.VERSION,
            "method": {
                "name": method["name"],
                "spec": method["spec"],
                "options": method["options"],
                "track": track_of(method["spec"], method["options"]),
            },
            "suite": {"name": suite["name"], "content": submission.suite_content(suite)},
            "authors": about.authors,
            "url": about.url,
            "description": about.description,
            "command": f"promptgym bench {suite['name']}",
            "environment": bench.environment,
            "cells": [_record(cell, run) for cell, run in zip(cells, runs, strict=True)],
            "log": {"sha256": log_digest(folder), "rows": count},
        },
    )
    return folder


def folder_name(name: str) -> str:
    """Return a name as the name of a folder."""
    return re.sub(r"[^a-z0-9_]+", "-", name.lower()).strip("-") or "method"


def _record(cell: JSON, folder: Path) -> JSON:
    """Return what a manifest says of a run."""
    run = RunFolder.open(folder)
    config = dict(run.config)
    identity = config.pop("identity")
    result = run.result()
    best, spent = result["best"], result["spent"]
    return {
        **{name: cell[name] for name in ("task", "model", "start", "seed", "budget")},
        "config": config,
        "identity": identity,
        "claim": {
            "prompt": best["prompt"],
            "train": best["train"],
            "dev": None if best["dev"] is None else best["dev"]["value"],
            "test": None if best["test"] is None else best["test"]["value"],
            "queries": spent["queries"],
            "tokens": spent["tokens"],
            "proposer_tokens": spent.get("proposer", {}).get("tokens", 0),
        },
    }


def log_rows(folder: Path, loaded: Loaded) -> Iterator[JSON]:
    """Yield what the log says of a run.

    Raises:
        ConfigError: for a journal of another version.
    """
    run = RunFolder.open(folder)
    task, problem = loaded.problem(Experiment.of(run.config))
    with (folder / JOURNAL).open(encoding="utf-8") as file:
        version = json.loads(next(file)).get("version")
        if version != VERSION:
            raise ConfigError(
                f"{folder} was made by another promptgym (its journal is of version {version}, "
                f"{VERSION} is needed): run the benchmark again"
            )
        for line in file:
            yield _row(json.loads(line), problem)
    result = run.result()
    history = [{"queries": h["queries"], "prompt": h["prompt"]} for h in result["history"]]
    yield {"kind": "incumbents", "rows": history}
    distinct = list(dict.fromkeys(Prompt.of(row["prompt"]) for row in history))
    if task.test:
        found = evaluate(
            distinct, task, problem.model, template=problem.template, cache=False
        ).scores
        asked = [p.to_json() for p in distinct]
        yield {"kind": "held_out", "prompts": asked, "outcomes": outcomes.to_json(found)}
    best = Prompt.of(result["best"]["prompt"])
    yield {"kind": "robustness", "found": loaded.probe(best, task, problem)}


def _row(row: JSON, problem: Problem) -> JSON:
    """Return a row of a journal as the log has it."""
    spent = _spent(row["spent"])
    if "asked" in row:
        said = {name: row[name] for name in ("completions", "failures")}
        return {"kind": "proposals", **said, "spent": spent}
    if "prompts" not in row:
        why = row.get("exhausted") or row.get("stopped")
        return {"kind": "ended", "why": why, "spent": spent}
    split = problem.examples(row["split"])
    examples = split if row["subset"] is None else [split[i] for i in row["subset"]]
    scores = scores_from_json(row, examples, problem)
    return {
        "kind": "scores",
        "split": row["split"],
        "subset": row["subset"],
        "prompts": row["prompts"],
        "outcomes": outcomes.to_json(scores),
        "rewards": [_rounded(value) for value in problem.rewards(scores)],
        "spent": spent,
    }


def _spent(snapshot: Mapping[str, Any]) -> JSON:
    """Return what a log keeps of a ledger."""
    proposer = snapshot.get("proposer", {})
    return {
        "queries": snapshot["queries"],
        "calls": snapshot["calls"],
        "tokens": snapshot["tokens"],
        "seconds": snapshot["seconds"],
        "proposer_calls": proposer.get("calls", 0),
        "proposer_tokens": proposer.get("tokens", 0),
    }


def _rounded(value: float) -> float | None:
    """Return a reward with few digits; None if there is none."""
    return float(f"{value:.{DIGITS}g}") if np.isfinite(value) else None
