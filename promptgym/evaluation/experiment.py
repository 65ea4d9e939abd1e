"""One training run from start to report: config, folder, optimizer, held-out score, pictures."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from promptgym import __version__
from promptgym.agents import make_optimizer
from promptgym.errors import ConfigError, ModelError
from promptgym.evaluation.ensembles import ensemble_record
from promptgym.evaluation.evaluate import held_out
from promptgym.evaluation.report import fixed_levels, write_report
from promptgym.llms import LanguageModel, load_model
from promptgym.llms.writers import check_writer_name
from promptgym.problem import Problem, make_problem
from promptgym.prompts import Prompt
from promptgym.runs import Tee
from promptgym.runs.curve import read_curve, write_png
from promptgym.runs.display import Display, NoDisplay
from promptgym.runs.folder import RunFolder
from promptgym.scoring import Budget
from promptgym.scoring.store import CacheSpec
from promptgym.search import Candidate, Optimizer, Result
from promptgym.tasks import Task, load_task, split_hash, summarize_task
from promptgym.types import JSON


@dataclass(frozen=True, slots=True, kw_only=True)
class Experiment:
    """What a run is made of, in plain JSON values: the content of `config.json`.

    Attributes:
        method: registered name of an agent or a baseline.
        preset: preset of an agent's hyperparameters; None for its default.
        options: hyperparameters that differ from the preset.
        task: what `load_task` takes.
        task_options: further arguments of `load_task`.
        model: what `load_model` takes.
        model_options: further arguments of `load_model`.
        proposer: model that writes prompts, for methods that ask one; what `load_model` takes.
        proposer_options: further arguments of `load_model` for it.
        reward: what `make_reward` takes.
        budget: caps by kind, see `promptgym.Budget`.
        seed: of the method.
        template: template text instead of the task's own.
        initial_prompt: where editing starts; None for the task's first manual prompt.
    """

    method: str
    task: str
    preset: str | None = None
    options: JSON = field(default_factory=dict)
    task_options: JSON = field(default_factory=dict)
    model: str = "tiny"
    model_options: JSON = field(default_factory=dict)
    proposer: str | None = None
    proposer_options: JSON = field(default_factory=dict)
    reward: Any = "gap"
    budget: JSON = field(default_factory=dict)
    seed: int = 0
    template: str | None = None
    initial_prompt: str | None = None

    @classmethod
    def of(cls, config: Mapping[str, Any]) -> Experiment:
        """Read an experiment back from `config.json`.

        Raises:
            ConfigError: for keys that are missing or unknown.
        """
        known = {k: v for k, v in config.items() if k not in ("identity", "promptgym")}
        try:
            return cls(**known)
        except TypeError as error:
            raise ConfigError(f"config.json is not a training run's: {error}") from None

    def build(self) -> Optimizer:
        """Return the optimizer; what can be told before a model is loaded is.

        Raises:
            ConfigError: for a method, preset or setting that there is not, a value of the wrong
                type, or a proposer that writes nothing.
        """
        if self.proposer is not None:
            check_writer_name(self.proposer, self.proposer_options)
        preset = {} if self.preset is None else {"preset": self.preset}
        if twice := preset.keys() & self.options.keys():
            raise ConfigError(f"{self.method}: {min(twice)} is given twice; leave one of them out")
        return make_optimizer(self.method, **preset, **self.options)

    def load(self) -> tuple[Task, LanguageModel]:
        """Load task and model."""
        return (
            load_task(self.task, **self.task_options),
            load_model(self.model, **self.model_options),
        )

    def problem(
        self,
        task: Task,
        model: LanguageModel,
        *,
        cache: CacheSpec = None,
        max_failures: float = 0.5,
    ) -> Problem:
        """Put the problem together; see `make_problem` for what it raises."""
        return make_problem(
            task,
            model,
            proposer=self.proposer,
            proposer_options=self.proposer_options,
            reward=self.reward,
            budget=Budget.of(self.budget),
            template=self.template,
            initial_prompt=self.initial_prompt,
            cache=cache,
            max_failures=max_failures,
        )

    def config(self, task: Task, model: LanguageModel) -> JSON:
        """Return `config.json`: the experiment and the identity of the data and model it met."""
        identity = {
            "model": model.name,
            "train": split_hash(task.train),
            "dev": split_hash(task.dev),
            "test": split_hash(task.test),
        }
        return {**asdict(self), "identity": identity}


def run_experiment(
    experiment: Experiment,
    out: str | Path,
    *,
    resume: bool = False,
    display: Display | None = None,
    report: bool = True,
    cache: CacheSpec = None,
    max_failures: float = 0.5,
) -> JSON:
    """Train, choose on dev, ask test once, and leave everything in a run folder.

    Args:
        experiment: what to run.
        out: the run folder; new or empty, or with `resume` one that holds this experiment.
        resume: continue an interrupted run.
        display: what shows the progress; None shows nothing.
        report: also write report.html, which asks the model a little more (words x dev examples).
        cache: the cache that outlives the run, as `Problem` takes it; no part of `config.json`.
        max_failures: share of failed evaluations above which the run stops; no part of it, either.

    Returns:
        The content of `result.json`.

    Raises:
        ConfigError: for a folder that holds something else, naming what differs.
        TooManyFailures, KeyboardInterrupt: passed on; what is in the folder can be resumed.
    """
    Budget.of(experiment.budget)  # a mistake is told before a model is loaded
    optimizer = experiment.build()
    task, model = experiment.load()
    config = experiment.config(task, model)
    run = RunFolder.resume(out, config) if resume else None
    if run is not None and run.finished:
        return run.result()
    # Before there is a folder: what cannot start leaves none behind.
    problem = experiment.problem(task, model, cache=cache, max_failures=max_failures)
    optimizer.check(problem)
    run = run or RunFolder.create(out, config)
    shown = display if display is not None else NoDisplay()
    problem.events = Tee(run.log, shown)
    with ExitStack() as stack:
        stack.enter_context(shown)
        problem.events.emit(
            "session",
            promptgym=__version__,
            resume=resume,
            report=report,
            task=summarize_task(task),
        )
        try:
            result = optimizer.optimize(
                problem, experiment.seed, checkpoint_dir=run.checkpoints, resume=resume
            )
        except (ConfigError, ModelError):
            if not resume and not problem.ledger.queries:
                run.discard()
            raise
        record = record_of(result, problem, task)
    save = getattr(optimizer, "save", None)
    if save is not None:
        save(run.path / "policy")
    curve = read_curve(run.events(), task.metric.name, fixed_levels(record))
    write_png(curve, run.path / "curve.png", f"{experiment.method} on {task.name}")
    if report:
        write_report(run, problem, record)
    run.write_result(record)
    return record


def follow_experiment(experiment: Experiment, out: str | Path | None = None) -> None:
    """Take part in the training of another process (`accelerate launch`), which keeps the run.

    Args:
        experiment: what that process runs.
        out: the run folder, if the run is resumed; where it is finished there is nothing to do.

    Raises:
        ConfigError: for a method that trains in one process only.
    """
    optimizer = experiment.build()
    if out is not None and RunFolder.open(out).finished:
        return
    problem = experiment.problem(*experiment.load(), cache=False)
    optimizer.check(problem)
    learn = getattr(optimizer, "learn", None)
    if learn is not None:
        learn(problem, experiment.seed)


def check_processes(experiment: Experiment, processes: int) -> None:
    """Refuse several processes for a method that trains in one.

    Raises:
        ConfigError: naming the method.
    """
    if processes > 1 and not getattr(experiment.build(), "distributed", False):
        raise ConfigError(
            f"{experiment.method} runs in one process, and {processes} were started; leave out "
            "`accelerate launch` (a model can have replicas: --model ray:...)"
        )


def record_of(result: Result, problem: Problem, task: Task) -> JSON:
    """Return the content of `result.json`: the outcome with held-out scores beside fixed prompts.

    Args:
        result: what the optimizer returned.
        problem: its problem; the budget is not touched any more.
        task: the task with its test split, which is asked here and nowhere else.
    """
    named = {name: Prompt.of(p) for name, p in result.stats.get("named", {}).items()}
    prompts = {"empty": Prompt(), "manual": task.manual_prompts[0], **named}
    if prompts["manual"] == prompts["empty"]:  # nobody wrote one
        del prompts["manual"]
    prompts["learned"] = result.best.prompt
    rows: dict[str, list[JSON | None]] = {s: [None] * len(prompts) for s in ("dev", "test")}
    for split in rows:
        if getattr(task, split):
            rows[split] = [*held_out(list(prompts.values()), problem, task, split)]
    dev, test = rows["dev"], rows["test"]
    compared = [
        {"name": name, "prompt": prompt.to_json(), "dev": dev[i], "test": test[i]}
        for i, (name, prompt) in enumerate(prompts.items())
    ]
    best = _candidate(result.best)
    return {
        "method": result.method,
        "seed": result.seed,
        "promptgym": __version__,
        "task": task.name,
        "model": problem.model.name,
        "metric": task.metric.name,
        "best": {**best, "dev": dev[-1], "test": test[-1]},
        "compared": compared,
        "candidates": [_candidate(c) for c in result.candidates],
        "history": list(result.history),
        "spent": result.spent,
        "policy": result.policy,
        "stats": result.stats,
        "ensemble": ensemble_record(result.ensemble, problem, task),
    }


def _candidate(candidate: Candidate) -> JSON:
    """Return a candidate as JSON."""
    return {**asdict(candidate), "prompt": candidate.prompt.to_json()}
