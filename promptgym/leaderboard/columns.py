"""The columns of a board's table: what each is called, what it says, how it is written."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from promptgym.evaluation.perturbations import KINDS
from promptgym.leaderboard.standings import Board, Row

Better = Literal["high", "low"]
DASH = "\u2013"
"""What stands where there is no number."""


@dataclass(frozen=True, slots=True)
class Column:
    """One column of numbers.

    Attributes:
        key: in links.
        label: at its head.
        about: what the number is, shown as a tooltip.
        group: "tasks", "cost", "checks" or "robustness"; groups can be hidden.
        better: which end comes first when a reader sorts by it.
        form: how numbers are written, as of `format`.
        value: of a row.
    """

    key: str
    label: str
    about: str
    group: str
    better: Better
    form: str
    value: Callable[[Row], float | None]

    def text(self, row: Row) -> str:
        """Return the number of a row as it is written; a dash where there is none."""
        return shown(self.value(row), self.form)


FIXED: dict[str, tuple[str, str, str, Better, str]] = {
    "queries": ("queries", "Prompt x example pairs asked, mean a run", "cost", "low", ",.0f"),
    "proposer_tokens": (
        *("proposer tokens", "Tokens the proposer read and wrote, mean a run"),
        *("cost", "low", ",.0f"),
    ),
    "seconds": ("seconds", "Time of a run by its own log, mean", "cost", "low", ",.1f"),
    "gap": (
        *("train - test", "Train minus test of the prompt chosen, mean over runs"),
        *("checks", "low", "+.3f"),
    ),
    "regret": (
        *("regret", "What the prompt chosen lacks to the best there is, mean over runs"),
        *("checks", "low", ".3f"),
    ),
    "failures": (
        *("failures", "Evaluations that failed, sum over runs; never counted as 0"),
        *("checks", "low", ",.0f"),
    ),
    "seeds": ("seeds", "Seeds that were run", "checks", "high", ",.0f"),
}
ROBUST = {
    **{
        kind: (kind, f"Share of the metric lost when the prompt is perturbed, {kind} level; mean")
        for kind in KINDS
    },
    "format": (
        "format spread",
        "Largest minus least metric over formats of the prompt; mean",
    ),
    "posix": (
        "POSIX",
        "Sensitivity index over variants of the prompt, nats a token; mean",
    ),
}


def shown(value: float | None, form: str = ".3f") -> str:
    """Return a number as it is written: a true minus, and no minus before zero."""
    if value is None:
        return DASH
    text = f"{value:{form}}"
    if not text.strip("+-0.,"):
        text = text.lstrip("+-")
    return text.replace("-", "\u2212")


def columns_of(board: Board) -> list[Column]:
    """Return the columns of a board; those of which no method has a value are left out.

    Failures and seeds are always there, and so are the tasks.
    """
    what, better = board.measure, "low" if board.lower_is_better else "high"
    out = [
        Column(id, task, f"Mean {what} over seeds", "tasks", better, ".3f", _of_task(task))  # type: ignore[arg-type]
        for task, id in board.tasks.items()
    ]
    known = {key for row in board.rows for key in row.numbers}
    for key, (label, about, group, end, form) in FIXED.items():
        if key in known and not (key == "regret" and what == "regret"):
            out.append(Column(key, label, about, group, end, form, _number(key)))
    for key, (label, about) in ROBUST.items():
        if key in known:
            form = "+.3f" if key in KINDS else ".3f"
            out.append(Column(key, label, about, "robustness", "low", form, _number(key)))
    for key in sorted(k for k in known if k.startswith("transfer:")):
        model = key.partition(":")[2]
        about = f"Metric on the target model {model}, not trained on; mean over runs"
        out.append(Column(key, f"on {model}", about, "robustness", "high", ".3f", _number(key)))
    return out


def best_of(board: Board, column: Column) -> float | None:
    """Return the best value of a column of scores; None if all are the same, or it has none."""
    known = [v for row in board.rows if (v := column.value(row)) is not None]
    if column.group == "cost" or column.key in ("gap", "failures", "seeds") or len(set(known)) < 2:
        return None
    return max(known) if column.better == "high" else min(known)


def _number(key: str) -> Callable[[Row], float | None]:
    """Return what reads a number of a row."""
    return lambda row: row.numbers.get(key)


def _of_task(task: str) -> Callable[[Row], float | None]:
    """Return what reads the mean of a task."""
    return lambda row: row.tasks[task].value if task in row.tasks else None
