"""How the prompt of a run is perturbed for the leaderboard: always the same way."""

from __future__ import annotations

from collections.abc import Sequence

from promptgym.evaluation.robustness import measure_robustness
from promptgym.llms.table import TableModel
from promptgym.problem import Problem
from promptgym.prompts import Prompt
from promptgym.tasks import Task
from promptgym.types import JSON

SEED, VARIANTS = 0, 3


def probe(
    prompt: Prompt, task: Task, problem: Problem, transfer: Sequence[str] = ()
) -> JSON | None:
    """Return how a prompt fares when it is perturbed; None where it cannot be asked about.

    A prompt table answers for its own prompts only, and a task without test has nobody to ask.

    Args:
        prompt: that was chosen.
        task: with its test split open.
        problem: whose model and template are used.
        transfer: other models to ask.
    """
    if isinstance(problem.model, TableModel) or not task.test:
        return None
    (found,) = measure_robustness(
        [prompt],
        task,
        problem.model,
        template=problem.template,
        seed=SEED,
        variants=VARIANTS,
        transfer=transfer,
        cache=False,
    )
    return found
