"""The learning curve of a run, read from its events; as a PNG file and as an inline SVG."""

from __future__ import annotations

import math
import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from promptgym.types import JSON

Point = tuple[float, float]


@dataclass(slots=True)
class Curve:
    """A run against the queries it spent.

    Attributes:
        train: (queries, mean train metric of the batch).
        dev: (queries, dev metric of the incumbent), in steps.
        references: name -> dev metric of a fixed prompt, drawn as a level line.
        metric: the metric's name, for the axis.
    """

    train: list[Point] = field(default_factory=list)
    dev: list[Point] = field(default_factory=list)
    references: dict[str, float] = field(default_factory=dict)
    metric: str = "metric"

    @property
    def end(self) -> float:
        """The last query count; 1 for an empty curve."""
        return max((x for x, _ in (*self.train, *self.dev)), default=1.0)


def read_curve(
    events: Iterable[JSON], metric: str = "metric", references: Mapping[str, float] | None = None
) -> Curve:
    """Build the curve of a run from its events.

    A resumed run repeats what it did after its last checkpoint: points logged before the
    interruption that lie beyond the count it resumed at are dropped.
    """
    curve = Curve(metric=metric, references=dict(references or {}))
    resumed = False
    for event in events:
        if event["kind"] == "resumed":
            resumed = True
        elif event["kind"] == "scores":
            x = float(event["spent"]["queries"])
            if resumed:
                curve.train = [p for p in curve.train if p[0] < x]
                curve.dev = [p for p in curve.dev if p[0] < x]
                resumed = False
            values = [v for v in event["values"] if v is not None and not math.isnan(v)]
            if event["split"] == "train" and values:
                curve.train.append((x, sum(values) / len(values)))
        elif event["kind"] == "incumbent" and event.get("dev") is not None:
            curve.dev.append((float(event["queries"]), float(event["dev"])))
    return curve


def thin(points: Sequence[Point], most: int = 200) -> list[Point]:
    """Average neighbours until at most `most` points are left (for noisy batch means)."""
    group = max(1, math.ceil(len(points) / most))
    chunks = [points[i : i + group] for i in range(0, len(points), group)]
    return [(c[-1][0], sum(y for _, y in c) / len(c)) for c in chunks]


def steps(points: Sequence[Point], end: float) -> list[Point]:
    """Return the corners of a staircase that holds each value until the next, and to the end."""
    out: list[Point] = []
    for x, y in points:
        if out:
            out.append((x, out[-1][1]))
        out.append((x, y))
    if out:
        out.append((end, out[-1][1]))
    return out


def write_png(curve: Curve, path: Path, title: str = "") -> None:
    """Draw the curve with matplotlib (no display needed), whole or not at all."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(7.2, 4.0), layout="constrained")
    axes = figure.subplots()
    axes.plot(*_columns(thin(curve.train)), color="0.65", lw=1, label="train, new prompts")
    axes.plot(*_columns(steps(curve.dev, curve.end)), color="#0b6bcb", lw=2, label="dev, best")
    for (name, level), dash in zip(curve.references.items(), ("--", ":", "-.") * 9, strict=False):
        axes.axhline(level, color="0.3", lw=1, ls=dash, label=f"dev, {name}")
    axes.set(xlabel="queries (prompt x example)", ylabel=curve.metric, title=title, xlim=(0, None))
    axes.grid(alpha=0.25)
    figure.legend(loc="outside lower center", ncols=5, fontsize="small", frameon=False)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    figure.savefig(temporary, dpi=144, format="png")
    os.replace(temporary, path)


def _columns(points: Sequence[Point]) -> tuple[list[float], list[float]]:
    """Return xs and ys."""
    return [x for x, _ in points], [y for _, y in points]


class _Frame:
    """Maps data to the pixels of a 720 x 320 drawing."""

    left, right, top, bottom = 52.0, 706.0, 12.0, 276.0

    def __init__(self, end: float, low: float, high: float) -> None:
        """Take the data's ranges: x in [0, end], y in [low, high]."""
        self.end, self.low, self.high = end, low, high

    def x(self, value: float) -> float:
        """Return the horizontal pixel."""
        return self.left + (self.right - self.left) * value / self.end

    def y(self, value: float) -> float:
        """Return the vertical pixel."""
        share = (value - self.low) / (self.high - self.low)
        return self.bottom - (self.bottom - self.top) * share

    def path(self, points: Iterable[Point]) -> str:
        """Return an SVG path through the points."""
        places = [f"{self.x(a):.1f},{self.y(b):.1f}" for a, b in points]
        return "M" + " L".join(places) if places else ""


def ticks(low: float, high: float, count: int = 5) -> list[float]:
    """Return about `count` round numbers within [low, high]."""
    raw = (high - low) / count
    power = 10.0 ** math.floor(math.log10(raw))
    step = next(m * power for m in (1, 2, 5, 10) if m * power >= raw * 0.999)
    first, last = math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9)
    return [round(i * step, 10) for i in range(first, last + 1)]


def svg(curve: Curve) -> str:
    """Draw the curve as an inline SVG that takes its colours from the page (`--line`, `--ink` ...).

    Only numbers of the run get in, so there is nothing to escape.
    """
    ys = [y for _, y in (*curve.train, *curve.dev)] + list(curve.references.values())
    low, high = min(ys, default=0.0), max(ys, default=1.0)
    pad = max(0.02, (high - low) * 0.06)
    frame = _Frame(curve.end, low - pad, high + pad)
    parts = ['<svg viewBox="0 0 720 320" role="img" aria-label="learning curve">']
    for value in ticks(frame.low, frame.high):
        y = frame.y(value)
        parts.append(f'<path class="grid" d="M{frame.left},{y:.1f} H{frame.right}"/>')
        parts.append(f'<text x="46" y="{y + 4:.1f}" text-anchor="end">{value:g}</text>')
    for value in ticks(0, frame.end):
        x = frame.x(value)
        parts.append(f'<text x="{x:.1f}" y="294" text-anchor="middle">{value:,.0f}</text>')
    parts.append('<text x="379" y="314" text-anchor="middle">queries spent</text>')
    for index, level in enumerate(curve.references.values()):
        line = f"M{frame.left},{frame.y(level):.1f} H{frame.right}"
        parts.append(f'<path class="level level{index % 3}" d="{line}"/>')
    parts.append(f'<path class="train" d="{frame.path(thin(curve.train))}"/>')
    parts.append(f'<path class="dev" d="{frame.path(steps(curve.dev, curve.end))}"/>')
    return "\n".join([*parts, "</svg>"])
