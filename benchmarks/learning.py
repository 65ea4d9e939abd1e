"""Figure 2: what learned policies and searches reach at equal queries, on standard and hard tasks.

Runs cells (task x method x seed) into a folder, one JSON file a cell; cells that are there are not
run again, and one that was interrupted goes on from its checkpoint. Every cell is one
`optimize(problem, seed)` under the same cap on queries; the test split is asked at the end only, by
`promptgym.evaluate`, which charges nothing to the budget.

    python benchmarks/learning.py run --out runs/learning --jobs 2
    python benchmarks/learning.py report --out runs/learning

`report` writes `table.md` and `curves.png`: held-out accuracy of the best-by-dev prompt, of the
greedy prompt, of dev's choice of ten samples (PRewrite-S) and the mean over the policy's own
samples, at the end and (but for the choice) against queries; means over seeds with 95 % bootstrap
intervals, and the difference to a reference with its interval: the better of the two keep-the-best
climbers (of the margin, of the reward); seconds and peak memory of a run, medians. What the
policies are asked on the way is measured beside the run and not charged to its budget.
"""

from __future__ import annotations

import argparse
import itertools
import json
import multiprocessing
import os
import resource
import time
from concurrent.futures import ProcessPoolExecutor, as_completed
from pathlib import Path
from typing import Any

import numpy as np

from promptgym.evaluation import stats

METHODS: dict[str, tuple[str, dict[str, Any]]] = {
    # name in tables: (registered name, options)
    "rlprompt published": ("rlprompt:published", {}),
    "rlprompt repaired": ("rlprompt:repaired", {}),
    "ppo": ("ppo_edit", {}),
    "random": ("random_tokens", {}),
    "climber": ("hill_climbing", {}),
    "climber of the reward": ("hill_climbing", {"objective": "reward"}),
}
ROWS = ("best by dev", "greedy prompt", "policy's samples")
CLIMBERS = ("climber", "climber of the reward")
AGAINST = {method: () if method in CLIMBERS else CLIMBERS for method in METHODS}
"""Method -> the methods of which the better one is subtracted from it in the table."""
TASKS = ("review-author", "news-topic", "review-staff", "news-outcome")
PROMPTS = 2000
"""The budget in prompts scored on the whole training split (queries = prompts x its size)."""
LOOKS = 10
"""How often a policy is looked at during a run."""
SAMPLES = 16
"""Its samples each time."""
CHOSEN_FROM = 10
"""Of how many dev chooses one, PRewrite's K."""
NAN = float("nan")
Cell = tuple[str, str, int]
Triple = tuple[float, float, float]
Methods = dict[str, tuple[str, dict[str, Any]]]
Against = dict[str, tuple[str, ...]]


def cell_path(out: Path, cell: Cell) -> Path:
    """Return where a cell's result lies."""
    task, method, seed = cell
    return out / "cells" / f"{task}.{method.replace(' ', '-')}.{seed}.json"


class Looks:
    """An event sink that looks at a policy each time another tenth of the budget is spent.

    Attributes:
        seen: queries spent, the greedy prompt, and samples.
    """

    def __init__(self, agent: Any, problem: Any, budget: int) -> None:
        """Watch an agent.

        Args:
            agent: the one that learns.
            problem: like the one it learns, without a budget.
            budget: of the one it learns, in queries.
        """
        self.agent, self.problem, self.budget = agent, problem, budget
        self.seen: list[tuple[int, Any, list[Any]]] = []

    def emit(self, kind: str, **fields: Any) -> None:
        """Look, if it is time."""
        if kind != "policy" or fields["queries"] < self.next:
            return
        if hasattr(self.agent, "edit"):  # a policy over edits: its samples are where episodes ended
            greedy, samples = self.agent.edit(self.problem), list(self.agent.finished)[-SAMPLES:]
        else:
            greedy = self.agent.predict()[0]
            samples = self.agent.predict(SAMPLES, greedy=False, seed=len(self.seen))
        self.seen.append((fields["queries"], greedy, samples))

    @property
    def next(self) -> float:
        """The queries at which it is time again."""
        spent = self.seen[-1][0] if self.seen else 0
        part = self.budget / LOOKS
        return (spent // part + 1) * part


def run_cell(
    out: Path, cell: Cell, prompts: int, model: str, agent: tuple[str, dict[str, Any]]
) -> str:
    """Run one cell (or go on with it) and write its file; return one line about it.

    Args:
        out: results folder.
        cell: task, method by its name in tables, seed.
        prompts: the budget in prompts.
        model: the target model.
        agent: the method's registered name and options.
    """
    import torch

    from promptgym import __version__
    from promptgym.agents import make_optimizer
    from promptgym.evaluation import evaluate
    from promptgym.llms import load_model
    from promptgym.problem import Problem
    from promptgym.tasks import load_task

    torch.set_num_threads(1)
    name, method, seed = cell
    task, target = load_task(name), load_model(model)
    budget = prompts * len(task.train)
    registered, options = agent
    folder = out / "checkpoints" / cell_path(out, cell).stem
    started = time.monotonic()
    optimizer = make_optimizer(registered, **options)
    looks = Looks(optimizer, Problem(task, target), budget)
    problem = Problem(task, target, budget=budget, events=looks)
    result = optimizer.optimize(problem, seed, checkpoint_dir=folder, resume=True)
    seconds = time.monotonic() - started

    def test(rows: list[Any]) -> list[float]:
        return [float(v) for v in evaluate(rows, task, target).mean] if rows else []

    curve = test([row["prompt"] for row in result.history])
    asked = [p for _, greedy, samples in looks.seen for p in [greedy, *samples]]
    tested = dict(zip(asked, test(asked), strict=True))
    record = {
        "task": name,
        "method": method,
        "options": {"name": registered, **options},
        "seed": seed,
        "budget": budget,
        "model": target.name,
        "promptgym": __version__,
        "best": {"prompt": result.best.prompt.to_json(), "dev": result.best.dev},
        "test": test([result.best.prompt])[0],
        "curve": [[row["queries"], t] for row, t in zip(result.history, curve, strict=True)],
        "greedy": test([result.policy["greedy"]])[0] if result.policy else None,
        "samples": test(result.policy.get("samples", [])) if result.policy else [],
        "looks": [
            [queries, tested[greedy], float(np.mean([tested[p] for p in samples]))]
            for queries, greedy, samples in looks.seen
            if samples
        ],
        "policy": result.policy,
        "spent": result.spent,
        "seconds": round(seconds, 1),
        "peak_mb": round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024),
    }
    path = cell_path(out, cell)
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_suffix(f".{os.getpid()}.tmp")
    temporary.write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")
    os.replace(temporary, path)
    return f"{path.stem}: test {record['test']:.3f} in {seconds:.0f} s"


def run(arguments: argparse.Namespace) -> None:
    """Run what is missing, `--jobs` cells at a time, one torch thread each."""
    out = Path(arguments.out)
    cells = [
        cell
        for seed, task, method in itertools.product(
            range(arguments.first_seed, arguments.first_seed + arguments.seeds),
            arguments.tasks,
            arguments.methods,
        )
        if not cell_path(out, cell := (task, method, seed)).exists()
    ]
    print(f"{len(cells)} cells to run")
    os.environ["OMP_NUM_THREADS"] = "1"
    context = multiprocessing.get_context("spawn")
    # A process a cell, so that its peak memory is its own.
    with ProcessPoolExecutor(arguments.jobs, context, max_tasks_per_child=1) as pool:
        prompts, model, table = arguments.prompts, arguments.model, arguments.table
        jobs = [pool.submit(run_cell, out, c, prompts, model, table[c[1]]) for c in cells]
        for job in as_completed(jobs):
            print(job.result(), flush=True)


def of_samples(record: dict[str, Any], model: str) -> float | None:
    """Return the test accuracy of that of ten samples which dev chooses: PRewrite-S."""
    from promptgym.evaluation import evaluate
    from promptgym.prompts import Prompt

    if not record["samples"]:
        return None
    rows = [Prompt.of(row) for row in record["policy"]["samples"][:CHOSEN_FROM]]
    dev = evaluate(rows, record["task"], model, split="dev").mean
    return float(record["samples"][int(np.argmax(dev))])


def interval(values: list[float]) -> Triple:
    """Return mean and 95 % percentile-bootstrap interval over seeds; NaN ends for one seed."""
    if len(values) < 2:
        return float(np.mean(values)) if values else NAN, NAN, NAN
    return bootstrapped(stats.mean, values)


def difference(a: list[float], b: list[float]) -> Triple:
    """Return mean(a) - mean(b) and its 95 % interval, both sets of seeds resampled."""
    if min(len(a), len(b)) < 2:
        return NAN, NAN, NAN
    return bootstrapped(lambda x, y: stats.mean(x) - stats.mean(y), a, b)


def bootstrapped(statistic: stats.Statistic, *scores: list[float]) -> Triple:
    """Return a statistic of scores on one task, and the ends of its interval."""
    columns = [np.array(values, dtype=np.float64)[:, None] for values in scores]
    found = stats.stratified_bootstrap(statistic, *columns, rng=np.random.default_rng(0))
    return float(found.point), float(found.low), float(found.high)


def shown(triple: Triple, sign: str = "") -> str:
    """Write `mean [low, high]`."""
    mean, low, high = triple
    if np.isnan(mean):
        return "-"
    ends = "" if np.isnan(low) else f" [{low:{sign}.3f}, {high:{sign}.3f}]"
    return f"{mean:{sign}.3f}{ends}"


def table(records: list[dict[str, Any]], methods: Methods, against: Against) -> str:
    """Return the table as Markdown, one part a task."""
    lines = []
    for task in dict.fromkeys(r["task"] for r in records):
        rows = [r for r in records if r["task"] == task]
        budgets = sorted({r["budget"] for r in rows})
        lines += [
            f"## {task}",
            "",
            f"Budget {', '.join(f'{b:,}' for b in budgets)} queries; model {rows[0]['model']}.",
            "",
            "| method | seeds | best by dev | minus reference | greedy | dev's of 10 samples "
            "| samples (mean) | s | MB |",
            "|---|---|---|---|---|---|---|---|---|",
        ]
        for method in methods:
            own = [r for r in rows if r["method"] == method]
            if not own:
                continue
            best = [r["test"] for r in own]
            others = [[r["test"] for r in rows if r["method"] == m] for m in against[method]]
            other = max(others, key=lambda x: float(np.mean(x)) if x else 0.0, default=[])
            gap = difference(best, other)
            greedy = interval([r["greedy"] for r in own if r["greedy"] is not None])
            chosen = interval([r["chosen"] for r in own if r["chosen"] is not None])
            samples = interval([float(np.mean(r["samples"])) for r in own if r["samples"]])
            seconds = np.median([r["seconds"] for r in own])
            memory = np.median([r.get("peak_mb", np.nan) for r in own])
            lines.append(
                f"| {method} | {len(own)} | {shown(interval(best))} | {shown(gap, '+')} "
                f"| {shown(greedy)} | {shown(chosen)} | {shown(samples)} "
                f"| {seconds:.0f} | {memory:.0f} |"
            )
        lines.append("")
    return "\n".join(lines)


def plot(records: list[dict[str, Any]], path: Path, methods: Methods) -> None:
    """Draw test accuracy against queries, mean over seeds: a row for each of the three numbers."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    tasks = list(dict.fromkeys(r["task"] for r in records))
    figure = Figure(figsize=(3.9 * len(tasks), 9), layout="constrained")
    FigureCanvasAgg(figure)
    grid_of = figure.subplots(3, len(tasks), sharex=True, sharey=True, squeeze=False)
    for (line, name), (column, task) in itertools.product(enumerate(ROWS), enumerate(tasks)):
        axes = grid_of[line, column]
        for number, method in enumerate(methods):
            own = [r for r in records if r["task"] == task and r["method"] == method]
            curves = [r["curve" if line == 0 else "looks"] for r in own]
            if not all(curves) or not curves:
                continue
            grid = np.linspace(0, max(r["budget"] for r in own), 201)
            place = max(line, 1)
            values = np.array([held([[row[0], row[place]] for row in c], grid) for c in curves])
            bands = np.array([interval(v[~np.isnan(v)].tolist()) for v in values.T])
            axes.plot(grid / 1000, bands[:, 0], color=f"C{number}", label=method)
            axes.fill_between(
                grid / 1000, bands[:, 1], bands[:, 2], color=f"C{number}", alpha=0.15, lw=0
            )
        axes.set(ylim=(0.4, 1.02))
        axes.grid(alpha=0.3)
        if line == 0:
            axes.set_title(task)
        if line == len(ROWS) - 1:
            axes.set_xlabel("queries (thousands)")
        if column == 0:
            axes.set_ylabel(f"test accuracy: {name}")
    handles, labels = grid_of[0, 0].get_legend_handles_labels()
    across = min(len(labels), max(1, 3 * len(tasks) // 2))  # as many as fit
    figure.legend(handles, labels, loc="outside lower center", ncols=across)
    figure.savefig(path, dpi=100)


def held(curve: list[list[float]], grid: Any) -> Any:
    """Return the last value at or before each point of the grid; NaN before the first."""
    at = np.array([x for x, _ in curve])
    values = np.array([np.nan, *(v for _, v in curve)])
    return values[np.searchsorted(at, grid, side="right")]


def report(arguments: argparse.Namespace) -> None:
    """Write the table and the plot of all cells of the folder."""
    out = Path(arguments.out)
    files = sorted((out / "cells").glob("*.json"))
    if not files:
        raise SystemExit(f"{out} has no cells; give the command `run` first")
    records = [json.loads(f.read_text(encoding="utf-8")) for f in files]
    order = {task: i for i, task in enumerate(TASKS)}
    for record in records:
        record["chosen"] = of_samples(record, arguments.model)
    records.sort(key=lambda r: (order.get(r["task"], len(order)), r["task"], r["seed"]))
    text = table(records, arguments.table, arguments.against)
    (out / "table.md").write_text(text, encoding="utf-8")
    plot(records, out / "curves.png", arguments.table)
    print(text)
    print(f"wrote {out / 'table.md'} and {out / 'curves.png'}")


def main(
    about: str | None = __doc__,
    out: str = "runs/learning",
    methods: Methods = METHODS,
    against: Against = AGAINST,
    tasks: tuple[str, ...] = TASKS,
) -> None:
    """Read the command line.

    Args:
        about: what is compared; the first line is shown.
        out: results folder, if none is given.
        methods: what is compared, by name in tables.
        against: see `AGAINST`.
        tasks: on which, if none are given.
    """
    parser = argparse.ArgumentParser(description=(about or "").partition("\n")[0])
    commands = parser.add_subparsers(required=True)
    for name, function in (("run", run), ("report", report)):
        command = commands.add_parser(name, help=function.__doc__)
        command.add_argument("--out", default=out, help="results folder")
        command.add_argument("--model", default="tiny")
        command.set_defaults(function=function, table=methods, against=against)
        if name == "run":
            command.add_argument("--tasks", nargs="+", default=list(tasks))
            command.add_argument("--methods", nargs="+", choices=methods, default=list(methods))
            command.add_argument("--seeds", type=int, default=5, help="how many")
            command.add_argument(
                "--first-seed", type=int, default=100, help="the defaults were chosen on small ones"
            )
            command.add_argument("--prompts", type=int, default=PROMPTS, help="budget in prompts")
            command.add_argument("--jobs", type=int, default=2)
    arguments = parser.parse_args()
    arguments.function(arguments)


if __name__ == "__main__":
    main()
