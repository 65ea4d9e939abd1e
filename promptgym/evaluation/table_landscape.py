"""The landscape of a prompt table: everything is known, so nothing is estimated."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from promptgym.evaluation.landscape_view import check_picture, histogram
from promptgym.problem import Problem
from promptgym.scoring.tabulated import table_of, tabulate
from promptgym.tasks.prompt_table import PromptTable
from promptgym.types import JSON, BoolArray, FloatArray, IntArray

BUDGETS = (1, 4, 16, 64, 256, 1024, 4096)
BEST = 5  # prompts that are listed


@dataclass(frozen=True, slots=True)
class TableLandscape:
    """How hard it is to find the best prompt of a table.

    Attributes:
        table: its name.
        reward: name of the reward that is climbed.
        size: number of prompts (P).
        words: number of words (V).
        slots: most words of a prompt.
        queries: of one prompt.
        regret: of every prompt, in parts of a perfect prompt's reward, shape (P,).
        score: the metric of every prompt on train, shape (P,).
        empty: metric of the empty prompt.
        optimum: metric of the optimum.
        best: the best prompts, each with its metric and regret.
        peaks: which prompts no single edit of `PromptTable-v0` makes better, shape (P,).
        climbed: regret of where steepest ascent ends, from every prompt, shape (P,).
        steps: edits that it makes, shape (P,).
        rounding: by how much log-odds may differ from the model's own, nats.
        random: prompts drawn -> expected regret of the best of them.
    """

    table: str
    reward: str
    size: int
    words: int
    slots: int
    queries: int
    regret: FloatArray
    score: FloatArray
    empty: float
    optimum: float
    best: tuple[tuple[str, float, float], ...]
    peaks: BoolArray
    climbed: FloatArray
    steps: IntArray
    rounding: float
    random: dict[int, float]

    @property
    def solved(self) -> float:
        """Share of starts from which steepest ascent ends at the optimum."""
        return float((self.climbed <= 0).mean())

    def to_json(self) -> JSON:
        """Return the figures as plain JSON, arrays as their summary."""
        arrays = ("regret", "score", "peaks", "climbed", "steps")
        out = {k: v for k, v in asdict(self).items() if k not in arrays}
        return out | {
            "peaks": int(self.peaks.sum()),
            "optima": int((self.regret <= 0).sum()),
            "solved": self.solved,
            "solved_from_empty": bool(self.climbed[0] <= 0),
            "regret_climbed_from_empty": float(self.climbed[0]),
            "regret_climbed": float(self.climbed.mean()),
            "regret_random": float(self.regret.mean()),
            "steps": float(self.steps.mean()),
        }

    def __str__(self) -> str:
        """Return figures and histogram as plain text."""
        from_empty = "the optimum" if self.climbed[0] <= 0 else f"a regret of {self.climbed[0]:.3f}"
        lines = [
            f"{self.table}: {self.size:,} prompts of up to {self.slots} of {self.words} words, "
            f"{self.queries} queries each; reward {self.reward}; log-odds rounded by up to "
            f"{self.rounding:.3f} nats",
            "",
            f"empty prompt {self.empty:.3f}, optimum {self.optimum:.3f} (metric on train)",
            *(f"  {score:.3f}  regret {regret:.3f}  {text!r}" for text, score, regret in self.best),
            "",
            f"local optima under single edits: {int(self.peaks.sum()):,}",
            f"steepest ascent ends at the optimum from {self.solved:.1%} of all starts, after "
            f"{self.steps.mean():.1f} edits on average; from the empty prompt at {from_empty}",
            "best of n random prompts, expected regret: "
            + ", ".join(f"{n:,}: {regret:.3f}" for n, regret in self.random.items()),
            "",
            "metric of all prompts:",
            *histogram(self.score),
        ]
        return "\n".join(lines)

    def plot(self, path: str | Path) -> Path:
        """Draw the landscape (png, svg or pdf, by the name's ending) and return the path."""
        from matplotlib.figure import Figure

        path = Path(path)
        check_picture(path)
        figure = Figure(figsize=(10, 7), layout="constrained")
        axes = figure.subplots(2, 2)
        _draw_scores(self, axes[0, 0])
        _draw_peaks(self, axes[0, 1])
        _draw_climbs(self, axes[1, 0])
        _draw_random(self, axes[1, 1])
        figure.suptitle(
            f"{self.table}: {self.size:,} prompts, {int(self.peaks.sum()):,} local optima"
        )
        figure.savefig(path, dpi=150)
        return path


def table_landscape(problem: Problem) -> TableLandscape:
    """Look at every prompt of a problem's table.

    Raises:
        ConfigError: for a problem without a table.
    """
    table = table_of(problem.model)
    worth = tabulate(problem.task, problem.model, problem.reward)
    regret = (worth.optimum - worth.reward) / problem.reward.scale
    upward = steepest(table, worth.reward)
    order = np.argsort(regret, kind="stable")[:BEST].tolist()
    end, steps = np.arange(len(table)), np.zeros(len(table), dtype=np.int64)
    while (moving := upward[end] != end).any():
        steps += moving
        end = upward[end]
    return TableLandscape(
        table=problem.task.name,
        reward=problem.reward.name,
        size=len(table),
        words=len(table.words),
        slots=table.slots,
        queries=len(problem.task.train),
        regret=regret,
        score=worth.score,
        empty=float(worth.score[0]),
        optimum=float(worth.score[worth.best[0]]),
        best=tuple((str(table.prompts[i]), float(worth.score[i]), float(regret[i])) for i in order),
        peaks=upward == np.arange(len(table)),
        climbed=regret[end],
        steps=steps,
        rounding=table.step / 2,
        random={n: best_of_random(regret, n) for n in BUDGETS if n <= len(table)},
    )


def steepest(table: PromptTable, reward: FloatArray) -> IntArray:
    """Return for every prompt the best prompt a single edit away, itself if none is better.

    Edits are those of `PromptTable-v0`: write a word into a slot or the first empty one, empty a
    slot. Of equally good ones it is the first that these find, in this order.

    Args:
        table: with P prompts.
        reward: of each, shape (P,).
    """
    size, offsets = len(table.words), table.offsets
    best = np.arange(len(table))
    for n in range(table.slots + 1):
        block = np.arange(offsets[n], offsets[n + 1])
        number = block - offsets[n]
        found = [block]
        for slot in range(n):
            unit = size ** (n - 1 - slot)  # what one word further is worth in the number
            high, word, low = number // (unit * size), number // unit % size, number % unit
            others = (number - word * unit)[:, None] + np.arange(size) * unit + offsets[n]
            found += [_best(others, reward), offsets[n - 1] + high * unit + low]
        if n < table.slots:
            longer = number[:, None] * size + np.arange(size) + offsets[n + 1]
            found.append(_best(longer, reward))
        best[block] = _best(np.stack(found, axis=1), reward)
    return best


def _best(rows: IntArray, reward: FloatArray) -> IntArray:
    """Return of each line of rows the one of largest reward."""
    return np.take_along_axis(rows, reward[rows].argmax(axis=1)[:, None], axis=1)[:, 0]


def best_of_random(regret: FloatArray, n: int) -> float:
    """Return the expected least regret of n prompts drawn with replacement.

    E[min] = sum over the sorted regrets r_1 <= ... <= r_P of r_i (((P - i + 1) / P)^n -
    ((P - i) / P)^n), the i-th being the least of the n with that probability.
    """
    size = len(regret)
    above = (np.arange(size, -1, -1) / size) ** n  # P(all n are at or beyond the i-th)
    return float(np.sort(regret) @ (above[:-1] - above[1:]))


def _draw_scores(land: TableLandscape, axes: Any) -> None:
    """Draw the histogram of the metric."""
    levels = np.arange(land.queries + 2) / land.queries - 0.5 / land.queries  # one bar a level
    axes.hist(land.score, bins=levels, color="0.6")
    axes.set_xlim(land.score.min() - 0.02, land.optimum + 0.02)
    axes.axvline(land.empty, color="C0", label=f"empty prompt {land.empty:.2f}")
    axes.axvline(land.optimum, color="C3", label=f"optimum {land.optimum:.2f}")
    axes.set(title="What prompts score", xlabel="metric on train", ylabel="prompts", yscale="log")
    axes.legend(loc="lower center")


def _draw_peaks(land: TableLandscape, axes: Any) -> None:
    """Draw where local optima lie."""
    axes.hist(land.regret[land.peaks], bins=40, color="C1")
    axes.set(title="Prompts that no single edit improves", xlabel="regret", ylabel="prompts")


def _draw_climbs(land: TableLandscape, axes: Any) -> None:
    """Draw how far greedy search gets."""
    share = np.arange(1, land.size + 1) / land.size
    axes.step(np.sort(land.climbed), share, where="post", color="C2", label="steepest ascent")
    axes.step(np.sort(land.regret), share, where="post", color="0.6", label="where it starts")
    axes.axvline(land.climbed[0], color="C0", ls=":", label="ascent from the empty prompt")
    axes.set(title="How far greedy search gets", xlabel="regret at most", ylabel="share of starts")
    axes.legend()


def _draw_random(land: TableLandscape, axes: Any) -> None:
    """Draw what random search would find."""
    axes.plot([*land.random], [*land.random.values()], "o-", color="C4")
    axes.set(
        title="Best of n random prompts", xlabel="prompts", ylabel="expected regret", xscale="log"
    )
