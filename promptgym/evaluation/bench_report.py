"""The report of a benchmark: report.md, results.csv and one self-contained report.html.

The page is laid out as that of a run is, light or dark as the reader's system is; the plots have no
ground, and dark pages turn their colours round.
"""

from __future__ import annotations

import base64
import csv
import html
import io
import math
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

import numpy as np

from promptgym.evaluation import stats
from promptgym.evaluation.bench import BenchFolder
from promptgym.evaluation.bench_plots import plots
from promptgym.evaluation.bench_results import Finding, Setting, read_bench
from promptgym.evaluation.report import REPORT, page
from promptgym.runs.folder import write_text
from promptgym.types import JSON, FloatArray

COLUMNS = (
    *("task", "model", "method", "start", "budget", "seed", "status", "test", "dev", "reward"),
    "regret",
    *("queries", "tokens", "usd", "seconds", "prompt"),
)
NOTE = (
    "Test scores of the prompt chosen on dev. Intervals are 95 % percentile bootstraps over seeds "
    "within tasks, too narrow for few seeds; p is a permutation test within tasks against the "
    "strongest baseline, by Holm's correction. Seeds that did not finish on all tasks are left "
    "out of the aggregates."
)
NO_SCORES = "No aggregates: no method has finished a seed on all tasks."
SHARES = (0.25, 0.5)
"""Of the budget of queries, beside the whole, at which the anytime curves are read."""
Table = tuple[list[str], list[list[str]]]


def write_bench_report(path: str | Path) -> list[Path]:
    """Write the report of a benchmark into its folder.

    Returns:
        The files: report.html, report.md and results.csv.

    Raises:
        ConfigError: see `read_bench`.
    """
    bench = BenchFolder.open(path)
    findings, settings = read_bench(path)
    name = bench.suite["name"]
    about = f"{_counts(findings)} with promptgym {bench.version}. {NOTE}"
    texts = [f"# {name}", about]
    body: list[str] = []

    def add(title: str, *tables: Table) -> None:
        texts.extend([f"## {title}", *map(markdown, tables)])
        body.extend([f"<h2>{html.escape(title)}</h2>", *map(html_table, tables)])

    for budget, table in regret_tables(findings).items():
        add(f"Simple regret of the prompt chosen, to the best of the table, {budget}", table)
    for name_of, table in optimum_tables(findings).items():
        add(f"Least regret of the prompts asked: {name_of}", table)
    for setting in settings:
        if all(f.test is None for f in setting.findings) and regret_tables(setting.findings):
            continue  # nothing was measured twice: there is a regret, and no test
        tables = task_table(setting), summary_table(setting), anytime_table(setting)
        add(setting.name, *filter(None, tables))
        if not setting.scores:
            texts.append(NO_SCORES)
            body.append(f"<p>{NO_SCORES}</p>")
        for title, png in plots(setting).items():
            data = base64.b64encode(png).decode()
            caption = html.escape(title)
            body.append(f"<h3>{caption}</h3>")
            body.append(f'<img alt="{caption}" src="data:image/png;base64,{data}">')
    contents = {REPORT: page(name, about, body), "report.md": "\n\n".join(texts) + "\n"}
    contents["results.csv"] = as_csv(findings)
    for file, content in contents.items():
        write_text(bench.path / file, content)
    return [bench.path / file for file in contents]


def task_table(setting: Setting) -> Table:
    """Return mean test score and interval of every method on every task, with the failed cells."""
    return _by_task(setting.findings, lambda finding: finding.test)


def regret_tables(findings: Sequence[Finding]) -> dict[str, Table]:
    """Return, for each budget, mean regret and interval of every method where it is known."""
    known = [f.cell["task"] for f in findings if f.regret is not None]
    own = [f for f in findings if f.cell["task"] in known]
    return {
        budget: _by_task([f for f in own if f.budget == budget], lambda finding: finding.regret)
        for budget in dict.fromkeys(f.budget for f in own)
    }


def optimum_tables(findings: Sequence[Finding]) -> dict[str, Table]:
    """Return, for each prompt table and budget, how near to the optimum each method came.

    The least regret of the prompts asked, by shares of the queries, and the share of seeds that
    asked the best prompt; means over seeds and intervals. A dash is a method that had no prompt by
    then in every seed.
    """
    own = [f for f in findings if f.lacking]
    tables: dict[str, Table] = {}
    for task, budget in dict.fromkeys((f.cell["task"], f.budget) for f in own):
        runs = [f for f in own if (f.cell["task"], f.budget) == (task, budget)]
        cap = runs[0].cell["budget"].get("queries")
        ends = [cap * share for share in (*SHARES, 1.0)] if cap else [math.inf]
        rows = []
        for method in dict.fromkeys(f.cell["method"] for f in runs):
            curves = [f for f in runs if f.cell["method"] == method]
            cells = [method]
            for end in ends:
                known = [r for f in curves if (r := f.regret_at(end)) is not None]
                cells.append(_shown(_mean(known)) if len(known) == len(curves) else "-")
            found = [float(f.regret_at(math.inf) == 0) for f in curves]
            rows.append([*cells, _shown(_mean(found))])
        head = [f"by {end:,.0f} queries" if cap else "at the end" for end in ends]
        tables[f"{task}, {budget}"] = ["least regret", *head, "found the optimum"], rows
    return tables


def _by_task(findings: Sequence[Finding], value: Callable[[Finding], float | None]) -> Table:
    """Return mean and interval of a value, methods x tasks, with the failed cells."""
    tasks = list(dict.fromkeys(f.cell["task"] for f in findings))
    rows = []
    for method in dict.fromkeys(f.cell["method"] for f in findings):
        own = [f for f in findings if f.cell["method"] == method]
        cells = [method]
        for task in tasks:
            found = [value(f) for f in own if f.cell["task"] == task]
            values = [v for v in found if v is not None]
            cells.append("-" if not values else _shown(_mean(values)))
        statuses = [f.status for f in own]
        rows.append([*cells, str(statuses.count("failed")), str(statuses.count("missing"))])
    return ["method", *tasks, "failed", "missing"], rows


def summary_table(setting: Setting) -> Table | None:
    """Return the aggregates of every method; None where no seed finished on all tasks."""
    if not setting.scores:
        return None
    names = [name.replace("_", " ") for name in stats.AGGREGATES]
    head = ["method", "seeds", *names]
    if setting.reference is not None:
        head += [f"P(better than {setting.reference})", "p"]
    rows = []
    for row in setting.summary():
        shown = [_shown(row[name]) for name in stats.AGGREGATES]
        against = "-" if row["improvement"] is None else _shown(row["improvement"])
        p = "-" if row["p"] is None else f"{row['p']:.3f}"
        rows.append([row["method"], str(row["seeds"]), *shown, against, p][: len(head)])
    return head, rows


def anytime_table(setting: Setting) -> Table | None:
    """Return the IQM of every method at shares of the queries, read off the anytime curves.

    None for a setting without a cap on queries or without a score. A dash is a method that had no
    incumbent by then.
    """
    cap = setting.findings[0].cell["budget"].get("queries")
    if cap is None or not setting.scores:
        return None
    columns: dict[str, dict[str, FloatArray]] = {}
    for queries in (cap * share for share in SHARES):
        at = partial(Finding.test_at, queries=queries)
        columns[f"{queries:,.0f} queries"] = setting.matrices(at)
    columns[f"{cap:,} queries"] = setting.scores
    rows = [
        [method, *(_iqm(found[method]) if method in found else "-" for found in columns.values())]
        for method in setting.scores
    ]
    return ["IQM by", *columns], rows


def markdown(table: Table) -> str:
    """Return a table as Markdown."""
    head, rows = table
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join(
        "| " + " | ".join(c.replace("|", "\\|") for c in line) + " |" for line in lines
    )


def html_table(table: Table) -> str:
    """Return a table as HTML."""
    head, rows = table
    lines = ["<tr>" + "".join(f"<th>{html.escape(c)}</th>" for c in head) + "</tr>"]
    lines += ["<tr>" + "".join(f"<td>{html.escape(c)}</td>" for c in r) + "</tr>" for r in rows]
    return '<div class="wide"><table>\n' + "\n".join(lines) + "\n</table></div>"


def as_csv(findings: list[Finding]) -> str:
    """Return one row a cell, also for those that failed or did not run."""
    target = io.StringIO()
    writer = csv.DictWriter(target, COLUMNS, lineterminator="\n")
    writer.writeheader()
    writer.writerows(map(_row, findings))
    return target.getvalue()


def _row(finding: Finding) -> JSON:
    """Return a cell as a row."""
    cell, result = finding.cell, finding.result
    budget = " ".join(f"{kind}={value}" for kind, value in cell["budget"].items())
    row: JSON = {name: cell[name] for name in ("task", "model", "method", "start", "seed")}
    row |= {"budget": budget, "status": finding.status, "test": finding.test}
    if result:
        best, spent = result["best"], result["spent"]
        row |= {kind: spent.get(kind) for kind in ("queries", "tokens", "usd", "seconds")}
        row |= {"dev": (best["dev"] or {}).get("value"), "reward": best["reward"]}
        row["regret"] = finding.regret
        row["prompt"] = best["prompt"]["instruction"]
    return row


def _counts(findings: list[Finding]) -> str:
    """Return how many cells finished and failed."""
    done = sum(f.status == "finished" for f in findings)
    failed = sum(f.status == "failed" for f in findings)
    return f"{done} of {len(findings)} cells finished, {failed} failed"


def _mean(values: list[float]) -> list[float]:
    """Return the mean over seeds and its interval."""
    scores = np.array(values)[:, None]
    found = stats.stratified_bootstrap(stats.mean, scores, rng=np.random.default_rng(0))
    return [float(found.point), float(found.low), float(found.high)]


def _iqm(scores: FloatArray) -> str:
    """Return the IQM of scores (R, T) and its interval."""
    found = stats.stratified_bootstrap(stats.iqm, scores, rng=np.random.default_rng(0))
    return _shown([float(found.point), float(found.low), float(found.high)])


def _shown(triple: list[float]) -> str:
    """Return `0.812 [0.790, 0.830]`."""
    point, low, high = triple
    return f"{point:.3f} [{low:.3f}, {high:.3f}]"
