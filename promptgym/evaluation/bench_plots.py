"""Plots of a benchmark's setting, as PNG: anytime curves, intervals, profiles, improvement."""

from __future__ import annotations

import io
from typing import Any

import numpy as np

from promptgym.evaluation import stats
from promptgym.evaluation.bench_results import Setting
from promptgym.types import FloatArray

RESAMPLES = 2000
COLORS = 10
"""Curves that one plot can tell apart; of more methods the best have a colour."""
FLOORS = ("manual", "random_tokens")
OTHERS = "0.72"


def plots(setting: Setting) -> dict[str, bytes]:
    """Return the plots that the scores of a setting allow: title -> PNG."""
    out = {}
    if any(row.curve and row.test is not None for row in setting.findings):
        out["Test score of the best prompt by dev, against queries"] = anytime_plot(setting)
    if any(f.lacking for f in setting.findings):
        out["Regret to the optimum, against queries"] = regret_plot(setting)
    if setting.scores:
        out["Aggregates over tasks, with 95 % intervals"] = interval_plot(setting)
        out["Share of runs above a score"] = profile_plot(setting)
    if len(setting.scores) > 1:
        out["Probability that the row improves on the column"] = improvement_plot(setting)
    return out


def anytime_plot(setting: Setting) -> bytes:
    """Draw test against queries, a panel a task: means over seeds, bands of their intervals."""
    figure, axes = _figure(len(setting.tasks), 3.4)
    end = max(row["queries"] for f in setting.findings for row in f.curve)
    grid = np.linspace(0, end, 101)
    for panel, task in zip(axes, setting.tasks, strict=True):
        for method in setting.methods:
            _band(panel, setting, method, grid, setting.curves(method, task, grid))
        panel.set(title=task, xlabel="queries")
    return _png(figure, legend=True)


def regret_plot(setting: Setting) -> bytes:
    """Draw simple and cumulative regret against queries: means over seeds, bands of intervals."""
    tasks = list(dict.fromkeys(f.cell["task"] for f in setting.findings if f.lacking))
    figure, axes = _figure(2 * len(tasks), 3.4)
    end = max(row["queries"] for f in setting.findings for row in f.lacking)
    grid = np.linspace(0, end, 101)
    kinds = [(task, kind) for task in tasks for kind in ("simple", "cumulative")]
    for panel, (task, kind) in zip(axes, kinds, strict=True):
        for method in setting.methods:
            _band(panel, setting, method, grid, setting.regret_curves(method, task, kind, grid))
        panel.set(title=f"{task}: {kind} regret", xlabel="queries")
    return _png(figure, legend=True)


def _band(panel: Any, setting: Setting, method: str, grid: FloatArray, rows: FloatArray) -> None:
    """Draw the mean of curves (R, K) and its interval, from where all of them are known."""
    known = ~np.isnan(rows).any(axis=0) if len(rows) else np.zeros(len(grid), dtype=bool)
    if not known.any():
        return
    found = stats.stratified_bootstrap(
        lambda s: np.asarray(s.mean(axis=-2)),
        rows[:, known],
        rng=np.random.default_rng(0),
        resamples=RESAMPLES,
    )
    _line(panel, setting, method, grid[known], found)


def interval_plot(setting: Setting) -> bytes:
    """Draw each aggregate, a line a method."""
    figure, axes = _figure(len(stats.AGGREGATES), 0.9 + 0.3 * len(setting.scores))
    names = list(setting.scores)
    rows = setting.summary(RESAMPLES)
    for panel, aggregate in zip(axes, stats.AGGREGATES, strict=True):
        for i, row in enumerate(rows):
            point, low, high = row[aggregate]
            panel.plot([low, high], [i, i], color=_color(setting, names[i]), lw=6, alpha=0.35)
            panel.plot([point], [i], "|", color=_color(setting, names[i]), ms=14, mew=2)
        panel.set(title=aggregate.replace("_", " "), yticks=range(len(names)))
        panel.set_yticklabels(names if panel is axes[0] else [])
        panel.locator_params(axis="x", nbins=4)
        panel.invert_yaxis()
    return _png(figure)


def profile_plot(setting: Setting) -> bytes:
    """Draw which share of runs scores above each threshold, with pointwise intervals."""
    figure, (panel,) = _figure(1, 3.4)
    scores = np.concatenate([s.ravel() for s in setting.scores.values()])
    grid = np.linspace(scores.min() - 0.02, scores.max() + 0.02, 81)
    for method, matrix in setting.scores.items():
        found = stats.stratified_bootstrap(
            lambda s: stats.performance_profile(s, grid),
            matrix,
            rng=np.random.default_rng(0),
            resamples=RESAMPLES,
        )
        _line(panel, setting, method, grid, found)
    panel.set(xlabel="test score", ylabel="share of runs above it", ylim=(-0.02, 1.02))
    return _png(figure, legend=True)


def improvement_plot(setting: Setting) -> bytes:
    """Draw the matrix of probabilities of improvement."""
    names = list(setting.scores)
    values = np.array(
        [
            [
                float(stats.probability_of_improvement(setting.scores[a], setting.scores[b]))
                for b in names
            ]
            for a in names
        ]
    )
    figure, (panel,) = _figure(1, 1.6 + 0.4 * len(names))
    panel.imshow(values, vmin=0, vmax=1, cmap="RdBu", aspect="auto")
    panel.set(xticks=range(len(names)), yticks=range(len(names)))
    panel.set_xticklabels(names, rotation=45, ha="right")
    panel.set_yticklabels(names)
    panel.grid(False)
    for (i, j), value in np.ndenumerate(values):
        ink = "white" if abs(value - 0.5) > 0.35 else "black"
        panel.text(j, i, "" if i == j else f"{value:.2f}", ha="center", va="center", color=ink)
    return _png(figure)


def _line(panel: Any, setting: Setting, method: str, at: FloatArray, found: stats.Interval) -> None:
    """Draw a curve with its band; of methods that have no colour a thin line without."""
    color = _color(setting, method)
    if color == OTHERS:
        panel.plot(at, found.point, color=color, label="others", lw=0.8, zorder=1)
        return
    panel.plot(at, found.point, color=color, label=method, lw=1.5)
    panel.fill_between(at, found.low, found.high, color=color, alpha=0.15, lw=0)


def featured(setting: Setting) -> list[str]:
    """Return the methods that have a colour: all if there are few, else floors and the best by IQM.

    Where the best prompt is known, the best are those of least regret.
    """
    if len(setting.methods) <= COLORS:
        return [*setting.methods]

    def worth(method: str) -> float:
        lacking = [f.regret_at(np.inf) for f in setting.of(method) if f.lacking]
        known = [value for value in lacking if value is not None]
        if known:
            return -float(np.mean(known))
        scores = setting.scores.get(method)
        return -np.inf if scores is None else float(stats.iqm(scores))

    floors = [method for method in FLOORS if method in setting.methods]
    ranked = sorted(setting.methods, key=worth, reverse=True)
    best = [method for method in ranked if method not in floors][: COLORS - len(floors)]
    return [method for method in setting.methods if method in (*best, *floors)]


def _color(setting: Setting, method: str) -> Any:
    """Return the colour of a method, the same in all plots."""
    known = featured(setting)
    return f"C{known.index(method)}" if method in known else OTHERS


def _figure(panels: int, height: float) -> tuple[Any, Any]:
    """Return a figure and its panels side by side (needs no display)."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(min(16.0, max(7.0, 1.5 + 3.6 * panels)), height), layout="constrained")
    axes = figure.subplots(1, panels, squeeze=False)[0]
    for panel in axes:
        panel.grid(alpha=0.25)
    return figure, axes


def _png(figure: Any, *, legend: bool = False) -> bytes:
    """Return a figure as PNG."""
    if legend:
        panels = figure.axes
        found = {t: h for a in panels for h, t in zip(*a.get_legend_handles_labels(), strict=True)}
        figure.legend(
            found.values(), found.keys(), loc="outside lower center", ncols=4, frameon=False
        )
    target = io.BytesIO()
    figure.savefig(target, dpi=110, format="png", transparent=True)
    return target.getvalue()
