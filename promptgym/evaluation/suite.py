"""`Suite`: a benchmark as a small TOML file: tasks x models x methods x starts x budgets x seeds.

    description = "two tasks, two methods"
    seeds = 5                       # 0 to 4; or a list
    budgets = [6400]                # queries; or tables as `promptgym.Budget` takes them
    tasks = ["author", {task = "data.csv", name = "mine", options = {k_shot = 16}}]
    models = ["tiny"]               # or {model, name, options}
    methods = ["manual", {method = "rlprompt:repaired", options = {length = 4}}]

    [[starts]]                      # start prompts; without any, the task's manual prompt
    name = "empty"
    prompt = ""

Further keys: `reward` (default "gap"); `proposer`, the model that writes prompts for methods that
ask one (a name, or {model, options}); `split_by_seed`, to load tasks with the run's seed as well,
so that seeds differ in their examples, as in few-shot studies. A task may name its own `model`, in
place of the suite's models. `promptgym.evaluation.suite_file` reads and checks all this.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from promptgym.agents import make_optimizer
from promptgym.evaluation.experiment import Experiment
from promptgym.types import JSON


@dataclass(frozen=True, slots=True)
class Part:
    """One task, model or method.

    Attributes:
        name: how tables and folders call it.
        spec: what `load_task`, `load_model` or `make_optimizer` takes.
        options: its further arguments.
        model: of a task only: the model it goes with, in place of the suite's.
    """

    name: str
    spec: str
    options: JSON = field(default_factory=dict)
    model: str | None = None


@dataclass(frozen=True, slots=True)
class Cell:
    """One run of a suite.

    Attributes:
        task, model, method, start: names of its parts.
        budget: caps by kind.
        seed: of the method.
        experiment: what is run.
    """

    task: str
    model: str
    method: str
    start: str
    budget: JSON
    seed: int
    experiment: Experiment

    @property
    def name(self) -> str:
        """Return the name of its folder."""
        caps = "-".join(f"{_short(kind)}{cap:.15g}" for kind, cap in sorted(self.budget.items()))
        parts = (self.task, self.model, self.method, self.start, caps, f"s{self.seed}")
        return ".".join(slug(part) for part in parts)


@dataclass(frozen=True, slots=True, kw_only=True)
class Suite:
    """A benchmark.

    Attributes:
        name: the file's stem.
        description: one line.
        tasks, models, methods: the parts, each by another name.
        starts: name -> start prompt; None is the task's manual prompt.
        budgets: caps by kind.
        seeds: of the methods.
        reward: what `make_reward` takes.
        proposer: writes prompts for the methods that ask for it.
        split_by_seed: whether tasks are loaded with the run's seed.
    """

    name: str
    tasks: tuple[Part, ...]
    models: tuple[Part, ...]
    methods: tuple[Part, ...]
    budgets: tuple[JSON, ...]
    seeds: tuple[int, ...] = (0,)
    starts: Mapping[str, str | None] = field(default_factory=lambda: {"manual": None})
    reward: Any = "gap"
    proposer: Part | None = None
    split_by_seed: bool = False
    description: str = ""

    def to_json(self) -> JSON:
        """Return the suite as plain JSON."""
        return asdict(self)

    def cells(self) -> list[Cell]:
        """Return all runs, seed by seed, so that an interrupted suite has something of all."""
        pairs = [
            (task, model)
            for task in self.tasks
            for model in (self.models if task.model is None else [Part(task.model, task.model)])
        ]
        # others' runs stay the same when a suite is given a proposer
        asking = {m.name for m in self.methods if self.proposer is not None and proposes(m)}
        return [
            self._cell(task, model, method, start, dict(budget), seed, method.name in asking)
            for seed, budget, (task, model), start, method in itertools.product(
                self.seeds, self.budgets, pairs, self.starts, self.methods
            )
        ]

    def _cell(
        self,
        task: Part,
        model: Part,
        method: Part,
        start: str,
        budget: JSON,
        seed: int,
        asks: bool,
    ) -> Cell:
        """Return one run; with the suite's proposer if its method asks one."""
        drawn = {"seed": seed} if self.split_by_seed else {}
        asked: JSON = {}
        if self.proposer is not None and asks:
            asked = {
                "proposer": self.proposer.spec,
                "proposer_options": self.proposer.options,
            }
        experiment = Experiment(
            method=method.spec,
            options=method.options,
            task=task.spec,
            task_options={**task.options, **drawn},
            model=model.spec,
            model_options=model.options,
            reward=self.reward,
            budget=budget,
            seed=seed,
            initial_prompt=self.starts[start],
            **asked,
        )
        return Cell(task.name, model.name, method.name, start, budget, seed, experiment)


def proposes(method: Part) -> bool:
    """Return whether a method, with its options, asks a proposer for its prompts.

    Raises:
        ConfigError: for a method or option that there is not.
    """
    return bool(getattr(make_optimizer(method.spec, **method.options), "proposes", False))


def _short(kind: str) -> str:
    """Return the first letters of a kind of cap: q for queries, pt for proposer_tokens."""
    return "".join(word[0] for word in kind.split("_"))


def slug(text: str) -> str:
    """Return a text as part of a folder's name."""
    return re.sub(r"[^\w=-]+", "-", text).strip("-") or "-"
