"""What a check loads: tasks and models of the package by their names, others only if told to.

A submission names tasks and models. A name could be a path, an address, or a model that brings
code, so nothing is loaded but what the package holds or whoever checks has allowed.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Collection, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Any

from promptgym.evaluation.experiment import Experiment
from promptgym.evaluation.suite import Part, Suite
from promptgym.evaluation.suite_file import load_suite, suites
from promptgym.leaderboard import submission
from promptgym.leaderboard.files import Refused
from promptgym.leaderboard.submission import Cell, Manifest, suite_content
from promptgym.leaderboard.tracks import is_known
from promptgym.llms import load_model
from promptgym.llms.registry import TINY
from promptgym.problem import Problem
from promptgym.runs.events import plain
from promptgym.tasks import Task, split_hash
from promptgym.tasks.bundled import bundled_name
from promptgym.tasks.prompt_table import SCHEME, tables
from promptgym.types import JSON

MOST_EXAMPLES = 20_000
"""Examples of a split that a check generates at most."""


@dataclass
class Shelf:
    """Tasks and problems of a check, each made once.

    Attributes:
        allowed: specs of tasks and models beside those of the package that may be loaded.
    """

    allowed: Collection[str] = ()
    _made: dict[str, tuple[Task, Problem]] = field(default_factory=dict)

    def problem(self, cell: Cell) -> tuple[Task, Problem]:
        """Return the task of a run with its test split open, and its problem without a budget.

        Raises:
            Refused: for what may not be loaded, or is not what the run met.
        """
        experiment = self._experiment(cell.config)
        key = repr(experiment)
        if key not in self._made:
            task, model = experiment.load()
            self._made[key] = task, experiment.problem(task, model, cache=False, max_failures=1.0)
        task, problem = self._made[key]
        here = {
            "model": problem.model.name,
            **{split: split_hash(getattr(task, split)) for split in ("train", "dev", "test")},
        }
        for name, found in here.items():
            if (said := getattr(cell.identity, name)) != found:
                raise Refused(f"the {name} of {cell.task} is {said} there and {found} here")
        return task, problem

    def _experiment(self, config: JSON) -> Experiment:
        """Return what scores of a run depend on, if it may be loaded."""
        experiment = Experiment.of(config)
        for what, spec, own in (
            ("task", experiment.task, is_own_task(experiment.task)),
            ("model", experiment.model, is_own_model(experiment.model)),
        ):
            if not own and spec not in self.allowed:
                raise Refused(
                    f"the {what} {spec!r} is not of the package; whoever trusts it gives --load "
                    f"{spec!r}"
                )
        options = dict(experiment.task_options)
        sizes = options.get("sizes") or {}
        if set(options) - {"sizes", "seed", "k_shot"} or not _are_sizes(sizes):
            raise Refused(f"task options that a check does not take: {options}")
        if experiment.model_options:
            raise Refused(f"model options that a check does not take: {experiment.model_options}")
        bare = replace(experiment, method="", preset=None, options={}, budget={}, seed=0)
        return replace(bare, proposer=None, proposer_options={})


def counter(cell: Cell) -> Callable[[Sequence[str]], int] | None:
    """Return what counts the tokens of a run's proposer; None if it is not of the package."""
    spec = cell.config.get("proposer")
    if not is_own_model(spec):
        return None
    model = load_model(str(spec))
    return lambda texts: int(model.count_tokens(texts).sum())


def is_own_task(spec: Any) -> bool:
    """Whether a task is of the package."""
    return isinstance(spec, str) and (bundled_name(spec) is not None or _is_own_table(spec))


def is_own_model(spec: Any) -> bool:
    """Whether a model is of the package."""
    return isinstance(spec, str) and (spec in TINY or _is_own_table(spec))


def _is_own_table(spec: str) -> bool:
    """Whether a prompt table is of the package."""
    return spec.startswith(SCHEME) and spec.removeprefix(SCHEME) in tables()


def _are_sizes(sizes: Any) -> bool:
    """Whether sizes of splits are numbers within bounds."""
    return isinstance(sizes, dict) and all(
        type(n) is int and 0 <= n <= MOST_EXAMPLES for n in sizes.values()
    )


def check_suite(manifest: Manifest) -> str:
    """Refuse runs other than the suite asks for; return how boards call the suite.

    A suite of the package is called by its name; another one by its name and a hash, so that it is
    never on a board with one that asks for something else.

    Raises:
        Refused: naming the run that lacks or differs.
    """
    content, name = manifest.suite.content, manifest.suite.name
    called = name
    if name not in suites() or content != plain(suite_content(load_suite(name).to_json())):
        called = f"{name} ({_digest(content)})"
        if name in suites():
            raise Refused(
                f"the suite {name!r} asks for something else here than there: run it with this "
                "version of promptgym, or give a suite of your own another name"
            )
    expected = _expected(manifest)
    found = {(c.task, c.model, c.start, c.seed): c for c in manifest.cells}
    if len(found) != len(manifest.cells):
        raise Refused("a run stands twice")
    if missing := [key for key in expected if key not in found]:
        raise Refused(
            f"the suite {name!r} asks for {len(expected)} runs, and {len(missing)} of them are not "
            f"there: {', '.join(map(str, missing[0]))}"
        )
    for key, cell in found.items():
        if key not in expected:
            raise Refused(f"the suite {name!r} has no run {', '.join(map(str, key))}")
        if cell.config != expected[key]["config"] or cell.budget != expected[key]["budget"]:
            raise Refused(f"{cell.title}: its configuration is not that of the suite")
    return called


def _expected(manifest: Manifest) -> dict[tuple[str, str, str, int], JSON]:
    """Return what every run of a manifest's suite is started with."""
    method = manifest.method
    suite = _suite(manifest)
    if len(suite.budgets) != 1 or len(suite.starts) != 1:
        raise Refused("a submission has one budget and one start prompt")
    pairs = sum(len(suite.models) if task.model is None else 1 for task in suite.tasks)
    if (runs := pairs * len(suite.seeds)) > submission.MOST_CELLS:
        raise Refused(
            f"the suite {suite.name!r} asks for {runs:,} runs; at most {submission.MOST_CELLS:,} "
            "are checked"
        )
    known = is_known(method.spec)
    out = {}
    for cell in (suite if known else replace(suite, methods=_stand_in(method.name))).cells():
        config = plain(asdict(cell.experiment))
        if not known:  # nobody here knows what it takes
            config |= {"method": method.spec, "options": method.options}
        out[cell.task, cell.model, cell.start, cell.seed] = {
            "config": config,
            "budget": plain(cell.budget),
        }
    return out


def _stand_in(name: str) -> tuple[Part, ...]:
    """Return a method of the package in place of one that is not."""
    return (Part(name, "manual"),)


def _suite(manifest: Manifest) -> Suite:
    """Return the suite of a manifest, for its method."""
    raw, method = dict(manifest.suite.content), manifest.method
    try:
        for kind in ("tasks", "models"):
            raw[kind] = tuple(Part(**part) for part in raw[kind])
        raw["proposer"] = None if raw["proposer"] is None else Part(**raw["proposer"])
        raw["budgets"], raw["seeds"] = tuple(map(dict, raw["budgets"])), tuple(raw["seeds"])
        parts = (Part(method.name, method.spec, method.options),)
        return Suite(name=manifest.suite.name, methods=parts, **raw)
    except (TypeError, KeyError, ValueError) as error:
        raise Refused(f"the suite {manifest.suite.name!r} is none ({error!r})") from None


def _digest(content: JSON) -> str:
    """Return a few letters that tell suites apart."""
    said = json.dumps(content, sort_keys=True).encode()
    return hashlib.blake2b(said, digest_size=8).hexdigest()
