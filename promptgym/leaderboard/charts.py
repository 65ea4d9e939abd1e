"""Drawings of a site as inline SVG: interval bars, anytime curves of one method, of all on a task.

Colours come from the style sheet by class; nothing carries a style of its own, which the pages'
content security policy would not let through.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from markupsafe import Markup

from promptgym.evaluation import stats
from promptgym.leaderboard.entries import Run
from promptgym.leaderboard.standings import Estimate, finite
from promptgym.runs.curve import ticks
from promptgym.types import JSON, FloatArray

POINTS = 49
"""At which curves are read, evenly from no query to the end."""
RESAMPLES = 1000
LABELLED = 5
"""Curves of a task that are in colour and have their name beside them."""
Range = tuple[float, float]


@dataclass(frozen=True, slots=True)
class Course:
    """The anytime curve of a method on a task: the best prompt so far, mean over seeds.

    Attributes:
        queries: spent, shape (K,), from where all runs have a prompt.
        value: mean, shape (K,).
        low: lower end of its 95 % interval, shape (K,).
        high: upper end.
    """

    queries: FloatArray
    value: FloatArray
    low: FloatArray
    high: FloatArray


def course_of(runs: Sequence[Run], measure: str, end: float) -> Course | None:
    """Return the curve of runs up to `end` queries; None where no curve has the measure.

    A run that has ended keeps its last value. Intervals are bootstraps over seeds, as of
    `stats.stratified_bootstrap`.
    """
    grid = np.linspace(0.0, end, POINTS)
    rows = [row for run in runs if (row := _staircase(run.curve, measure, grid)) is not None]
    values = np.array(rows).reshape(-1, POINTS)
    known = ~np.isnan(values).any(axis=0) if rows else np.zeros(POINTS, dtype=bool)
    if not known.any():
        return None
    # What does not change from one point to the next has the same interval there.
    steps, at = np.unique(values[:, known], axis=1, return_inverse=True)
    drawn = stats.stratified_bootstrap(
        lambda scores: np.asarray(scores.mean(axis=-2)),
        steps,
        rng=np.random.default_rng(0),
        resamples=RESAMPLES,
    )
    at = np.ravel(at)
    return Course(grid[known], drawn.point[at], drawn.low[at], drawn.high[at])


def interval_bar(estimate: Estimate, scale: Range, width: int = 88) -> Markup:
    """Draw an interval as a bar with a dot at the value; beside it stand the numbers."""

    def x(value: float) -> str:
        return f"{(value - scale[0]) / (scale[1] - scale[0]) * width:.1f}"

    return Markup(
        '<svg class="bar" viewBox="0 0 {w} 10" width="{w}" height="10" aria-hidden="true">'
        '<path class="track" d="M0,5 H{w}"/><path class="span" d="M{low},5 H{high}"/>'
        '<circle cx="{at}" cy="5" r="3"/></svg>'
    ).format(w=width, low=x(estimate.low), high=x(estimate.high), at=x(estimate.value))


def interval_line(estimate: Estimate, scale: Range, kind: str) -> Markup:
    """Draw an interval as wide as its cell, over the lines of `interval_axis`.

    The drawing is stretched, its strokes are not: a dot is a stroke without length.
    """

    def x(value: float) -> str:
        return f"{(value - scale[0]) / (scale[1] - scale[0]) * 1000:.1f}"

    return Markup(
        '<svg class="dots {kind}" viewBox="0 0 1000 20" preserveAspectRatio="none" '
        'aria-hidden="true">{grid}<path class="span" d="M{low},10 H{high}"/>'
        '<path class="dot" d="M{at},10 h0.01"/></svg>'
    ).format(
        kind=kind,
        grid=Markup("").join(
            Markup('<path class="grid" d="M{},0 V20"/>').format(x(v)) for v in ticks(*scale)
        ),
        low=x(estimate.low),
        high=x(estimate.high),
        at=x(estimate.value),
    )


def axis_marks(scale: Range) -> list[tuple[str, str]]:
    """Return the numbers of an axis and where they stand, as shares of it: 0 to 1000."""
    return [
        (f"{value:g}", f"{(value - scale[0]) / (scale[1] - scale[0]) * 1000:.0f}")
        for value in ticks(*scale)
    ]


class Frame:
    """Maps queries and values to the units of a drawing."""

    def __init__(self, width: int, height: int, right: int, end: float, low_high: Range) -> None:
        """Take the size, the room at the right, and the ranges of the data."""
        self.width, self.height = width, height
        self.left, self.right = 40, width - right
        self.top, self.bottom = 10, height - 24
        self.end, (self.low, self.high) = end, low_high

    def x(self, queries: float) -> float:
        """Return the horizontal place."""
        return self.left + (self.right - self.left) * queries / self.end

    def y(self, value: float) -> float:
        """Return the vertical place."""
        share = (value - self.low) / (self.high - self.low)
        return self.bottom - (self.bottom - self.top) * share

    def line(self, xs: FloatArray, ys: FloatArray) -> str:
        """Return a path through points; those between equals on a level are left out."""
        places = [(f"{self.x(a):.1f}", f"{self.y(b):.1f}") for a, b in zip(xs, ys, strict=True)]
        kept = [
            place
            for i, place in enumerate(places)
            if not 0 < i < len(places) - 1 or not places[i - 1][1] == place[1] == places[i + 1][1]
        ]
        return "M" + " ".join(",".join(place) for place in kept)

    def band(self, course: Course) -> str:
        """Return the outline of a curve's interval."""
        back = self.line(course.queries[::-1], course.low[::-1])
        return f"{self.line(course.queries, course.high)} L{back[1:]} Z"

    def axes(self, columns: int) -> Markup:
        """Draw grid lines and their numbers."""
        across = [
            Markup(
                '<path class="grid" d="M{left},{y} H{right}"/>'
                '<text x="{at}" y="{below:.1f}" text-anchor="end">{value:g}</text>'
            ).format(
                left=self.left,
                right=self.right,
                at=self.left - 6,
                y=f"{self.y(value):.1f}",
                below=self.y(value) + 4,
                value=value,
            )
            for value in ticks(self.low, self.high, 4)
        ]
        along = [
            Markup('<text x="{:.1f}" y="{}" text-anchor="middle">{}</text>').format(
                self.x(value), self.height - 6, _short(value)
            )
            for value in ticks(0, self.end, columns)
        ]
        return Markup("").join([*across, *along])


def panel(course: Course, leader: Course | None, end: float, scale: Range, title: str) -> Markup:
    """Draw a method's curve on a task with its band; dashed, that of the first on the board."""
    frame = Frame(320, 190, 12, end, scale)
    first = Markup("")
    if leader is not None:
        first = Markup('<path class="leader" d="{}"/>').format(
            frame.line(leader.queries, leader.value)
        )
    return Markup(
        '<svg class="curve" viewBox="0 0 320 190" role="img" aria-label="{}">{}'
        '<path class="band" d="{}"/>{}<path class="mean" d="{}"/></svg>'
    ).format(
        f"{title}: mean and 95 % interval against queries; at the end {course.value[-1]:.3f}",
        frame.axes(4),
        frame.band(course),
        first,
        frame.line(course.queries, course.value),
    )


def overview(
    courses: Mapping[str, Course], names: Mapping[str, str], end: float, scale: Range, title: str
) -> Markup:
    """Draw the curves of all methods on a task; the first ones are coloured and labelled.

    Args:
        courses: id of the method -> its curve, best method first.
        names: id -> name.
        end: of the axis of queries.
        scale: of the measure.
        title: for readers who do not see the drawing.
    """
    frame = Frame(880, 400, 190, end, scale)
    top = list(courses)[:LABELLED]
    lines = [
        Markup('<path class="{}" data-course="{}" d="{}"><title>{}</title></path>').format(
            f"course top c{top.index(id)}" if id in top else "course",
            id,
            frame.line(course.queries, course.value),
            names[id],
        )
        for id, course in reversed([*courses.items()])
    ]
    ends = {id: frame.y(float(courses[id].value[-1])) for id in top}
    labels = [
        Markup(
            '<path class="lead c{i}" d="M{x0},{at:.1f} L{x1},{y:.1f}"/>'
            '<text class="label" x="{x2}" y="{ty:.1f}">{name}</text>'
        ).format(
            i=top.index(id),
            x0=frame.right + 2,
            x1=frame.right + 14,
            x2=frame.right + 18,
            at=ends[id],
            y=y,
            ty=y + 4,
            name=cut(names[id], 26),
        )
        for id, y in _apart(ends, 15.0, frame.top, frame.bottom).items()
    ]
    return Markup(
        '<svg class="curve all" viewBox="0 0 880 400" role="img" aria-label="{}">{}{}{}</svg>'
    ).format(title, frame.axes(5), Markup("").join(lines), Markup("").join(labels))


def cut(text: str, longest: int) -> str:
    """Return text, cut where it is too long."""
    return text if len(text) <= longest else f"{text[: longest - 1]}…"


def _apart(places: Mapping[str, float], gap: float, low: float, high: float) -> dict[str, float]:
    """Return places moved so far that labels at them do not overlap, in the same order."""
    out: dict[str, float] = {}
    at = low - gap
    for id in sorted(places, key=lambda id: (places[id], id)):
        at = out[id] = max(places[id], at + gap)
    over = max(0.0, at - high)
    ceiling = high
    for id in reversed(out):
        if over:
            out[id] = ceiling = min(out[id], ceiling)
            ceiling -= gap
    return out


def _staircase(curve: Sequence[JSON], measure: str, grid: FloatArray) -> FloatArray | None:
    """Return a run's measure of the best prompt so far at each query count; NaN before the first.

    None for a run without a curve, or with a prompt whose measure is not known.
    """
    values = [finite(row.get(measure)) for row in curve]
    if not values or None in values:
        return None
    at = [row["queries"] for row in curve]
    known: FloatArray = np.array([np.nan, *values], dtype=np.float64)
    return np.asarray(known[np.searchsorted(at, grid, side="right")])


def _short(queries: float) -> str:
    """Return a count as an axis has it: 20k."""
    return f"{queries / 1000:g}k" if queries >= 1000 else f"{queries:g}"
