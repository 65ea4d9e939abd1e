"""What a run lacks to the best there is, where the best is known: measured and prompt tables.

Simple regret is that of the best prompt found, cumulative regret the sum over all prompts asked
(Lattimore & Szepesvari, "Bandit Algorithms", 2020, sections 4.2 and 33.1). A prompt asked about
some examples only counts in that part towards the sum, and as found once it was asked about as many
examples as train has.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from functools import lru_cache

import numpy as np

from promptgym.evaluation.evaluate import evaluate
from promptgym.llms import LanguageModel
from promptgym.llms.table import TableModel
from promptgym.problem import Problem
from promptgym.prompts import Prompt
from promptgym.scoring.tabulated import table_of, tabulate
from promptgym.tasks import Task
from promptgym.types import JSON, FloatArray

MEASURED = "measured"
"""The metric of measured tables (`promptgym.tasks.measured`), of which the best prompt is known."""
POINTS = 200  # of a curve, at most


def regrets(prompts: list[JSON], task: Task, problem: Problem) -> list[float] | None:
    """Return the simple regret of prompts; None where the best prompt is not known.

    On a prompt table it is what they lack to the optimum in training reward, in parts of a perfect
    prompt's; on a measured table what they lack to its best prompt in the mean over test examples,
    or those of training where it has no others.

    Args:
        prompts: as JSON.
        task: with its test split open.
        problem: whose model answers.
    """
    known = [Prompt.of(p) for p in prompts]
    if is_prompt_table(problem.model):
        table, lacks = table_of(problem.model), _lacks(problem)
        return [float(lacks[table.row(p.instruction)]) for p in known]
    if task.metric.name != MEASURED:
        return None
    split = "test" if task.test else "train"
    everything = [*known, *task.manual_prompts]
    values = evaluate(everything, task, problem.model, split=split, cache=False).mean
    lacking: list[float] = (np.nanmax(values) - values[: len(known)]).tolist()
    return lacking


def table_curve(events: Iterable[JSON], problem: Problem) -> list[JSON]:
    """Return the regret of a run on a prompt table, from its events.

    Args:
        events: of the run.
        problem: with the table and the reward.

    Returns:
        Rows of `queries` spent (those on dev included), `simple` and `cumulative` regret, both in
        parts of a perfect prompt's reward; `simple` is None until a prompt is known. At most
        `POINTS` rows, the last one of the whole run.
    """
    table, regret = table_of(problem.model), _lacks(problem)
    size = len(problem.task.train)
    asked: Counter[int] = Counter()
    best, total = None, 0.0
    rows: list[JSON] = []
    for event in events:
        if event["kind"] != "scores" or event["split"] != "train":
            continue
        for prompt, complete in zip(event["prompts"], event["complete"], strict=True):
            if not complete:
                continue
            row = table.row(Prompt.of(prompt).instruction)
            lacks = float(regret[row])
            total += lacks * event["examples"] / size
            asked[row] += event["examples"]
            if asked[row] >= size:
                best = lacks if best is None else min(best, lacks)
        queries = event["spent"]["queries"]
        rows.append({"queries": queries, "simple": best, "cumulative": total})
    kept = np.unique(np.linspace(0, len(rows) - 1, min(POINTS, len(rows))).round().astype(int))
    return [rows[i] for i in kept]


def is_prompt_table(model: LanguageModel) -> bool:
    """Whether a model answers from a prompt table."""
    return isinstance(model, TableModel)


@lru_cache(maxsize=1)  # of the run that is looked at
def _lacks(problem: Problem) -> FloatArray:
    """Return what every prompt of a table lacks to the optimum, shape (P,)."""
    worth = tabulate(problem.task, problem.model, problem.reward)
    return (worth.optimum - worth.reward) / problem.reward.scale
