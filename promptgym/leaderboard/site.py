"""The static site of a leaderboard: pages of plain HTML that show checked entries.

What a submitter wrote reaches a page as escaped text only, names of files are made, not taken
(`names`), and every page forbids scripts and styles but the site's own two files. Nothing is loaded
from elsewhere and all links are relative, so the folder works from a disk and under any address.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from functools import cached_property
from importlib import resources
from pathlib import Path
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup, escape

from promptgym.errors import ConfigError
from promptgym.leaderboard import charts
from promptgym.leaderboard.columns import DASH, best_of, columns_of, shown
from promptgym.leaderboard.entries import Entry
from promptgym.leaderboard.names import encodable, prompt_text, safe_url
from promptgym.leaderboard.standings import (
    Board,
    Row,
    boards_of,
    finite,
    numbers_of,
    span,
)
from promptgym.runs.folder import write_text

ASSETS = ("site.css", "site.js", "icon.svg")
FOLDERS = ("methods", "tasks")
LONGEST_NAME = 60
"""Characters of a name in tables; its own page has all of it."""
TRACKS = {
    "search": "a search that asks no other model",
    "proposer": "a model other than the target proposes prompts",
    "policy": "a learned policy writes the prompts",
}


def build_site(
    entries: Sequence[Entry],
    out: Path,
    *,
    refused: Mapping[str, Sequence[str]] | None = None,
    title: str = "promptgym leaderboard",
) -> list[Path]:
    """Write the site of entries; the same entries give the same bytes.

    Args:
        entries: submissions that passed their check.
        out: folder, made if it is not there; one that holds a site is written over, and pages of
            methods and tasks that are no more are deleted.
        refused: name of a submission that did not pass -> why.
        title: of the site.

    Returns:
        The files written.

    Raises:
        ConfigError: if `out` is a file, or holds something else than a site.
    """
    out = Path(out)
    _check_folder(out)
    site = Site(entries, refused or {}, title)
    files = {f"assets/{name}": _asset(name) for name in ASSETS} | site.pages()
    for folder in ("assets", *FOLDERS):
        (out / folder).mkdir(parents=True, exist_ok=True)
    for name, text in files.items():
        write_text(out / name, encodable(text))
    for folder in FOLDERS:
        for old in sorted((out / folder).glob("*.html")):
            if f"{folder}/{old.name}" not in files:
                old.unlink()
    return [out / name for name in files]


class Site:
    """The pages of a site, as text.

    Attributes:
        boards: what they show.
        refused: name of a submission -> why it was refused.
        title: of the site.
    """

    def __init__(
        self, entries: Sequence[Entry], refused: Mapping[str, Sequence[str]], title: str
    ) -> None:
        """Compute the boards."""
        self.boards = boards_of(entries)
        self.refused, self.title = refused, title

    def pages(self) -> dict[str, str]:
        """Return path -> text of all pages."""
        out = {f"{name}.html": self._page(f"{name}.html") for name in ("index", "about", "refused")}
        for board in self.boards:
            others = [other for other in self.boards if other is not board]
            views = {task: TaskView(board, task) for task in board.tasks}
            for row in board.rows:
                own = [views[task] for task in row.entry.tasks]
                same = [(r.id, b) for b in others for r in b.rows if r.entry.name == row.entry.name]
                out[f"methods/{row.id}.html"] = self._page(
                    "method.html", "../", board=board, row=row, views=own, others=same
                )
            for task, id in board.tasks.items():
                same = [(b.tasks[task], b) for b in others if task in b.tasks]
                out[f"tasks/{id}.html"] = self._page(
                    "task.html", "../", board=board, view=views[task], others=same
                )
        return out

    def _page(self, template: str, root: str = "", **more: Any) -> str:
        """Fill in a template; `root` leads from the page to the top of the site."""
        return self._templates.get_template(template).render(
            root=root, site=self, name=template.partition(".")[0], **more
        )

    @cached_property
    def _templates(self) -> Environment:
        """Return the templates and what they may call."""
        found = Environment(
            loader=PackageLoader("promptgym.leaderboard"),
            autoescape=True,
            undefined=StrictUndefined,
            trim_blocks=True,
            lstrip_blocks=True,
        )
        found.globals |= {
            "DASH": DASH,
            "TRACKS": TRACKS,
            "axis_marks": charts.axis_marks,
            "best_of": best_of,
            "columns_of": columns_of,
            "interval_bar": charts.interval_bar,
            "interval_line": charts.interval_line,
            "numbers_of": numbers_of,
            "safe_url": safe_url,
        }
        found.filters |= {
            "breakable": _breakable,
            "as_json": lambda value: json.dumps(value, indent=2, ensure_ascii=False),
            "plain": lambda value: "" if finite(value) is None else f"{value:.6g}",
            "prompt": prompt_text,
            "shown": lambda value, form=".3f": shown(finite(value), form),
        }
        return found


class TaskView:
    """What the pages show of one task of a board.

    Attributes:
        board: the board.
        task: the task's name.
        id: of its page.
    """

    def __init__(self, board: Board, task: str) -> None:
        """Take a task of a board."""
        self.board, self.task, self.id = board, task, board.tasks[task]

    @cached_property
    def rows(self) -> list[Row]:
        """Return the methods that were run on the task, best on it first."""
        sign = 1 if self.board.lower_is_better else -1
        own = [row for row in self.board.rows if self.task in row.entry.tasks]
        known = [row for row in own if self.task in row.tasks]
        known.sort(key=lambda row: sign * row.tasks[self.task].value)
        return known + [row for row in own if self.task not in row.tasks]

    @cached_property
    def scale(self) -> tuple[float, float]:
        """Return the range of the intervals."""
        found = [row.tasks[self.task] for row in self.rows if self.task in row.tasks]
        return span(end for e in found for end in (e.low, e.high))

    @cached_property
    def end(self) -> float:
        """Return how far curves are drawn: to the cap on queries, or the most that were asked."""
        cap = self.rows[0].entry.budget.get("queries")
        asked = [run.queries for row in self.rows for run in row.entry.of(self.task)]
        return float(cap or max([1, *asked]))

    @cached_property
    def courses(self) -> dict[str, charts.Course]:
        """Return the curves of the methods that have one, best first: id -> curve."""
        found = {
            row.id: charts.course_of(row.entry.of(self.task), self.board.measure, self.end)
            for row in self.rows
        }
        return {id: course for id, course in found.items() if course is not None}

    @cached_property
    def range(self) -> tuple[float, float]:
        """Return the range of the curves, the same on the pages of all methods."""
        ends = [(c.low.min(), c.high.max()) for c in self.courses.values()]
        return span(float(end) for pair in ends for end in pair)

    def panel(self, id: str) -> Any:
        """Draw the curve of a method; None if it has none."""
        leader = next((r.id for r in self.board.rows if r.id in self.courses), None)
        if id not in self.courses:
            return None
        first = None if leader in (None, id) else self.courses[str(leader)]
        return charts.panel(self.courses[id], first, self.end, self.range, self.task)

    def overview(self) -> Any:
        """Draw the curves of all methods; None if there are none."""
        if not self.courses:
            return None
        names = {row.id: row.entry.name for row in self.rows}
        title = f"{self.board.measure} on {self.task} against queries, a curve a method"
        means = span(
            float(v) for c in self.courses.values() for v in (c.value.min(), c.value.max())
        )
        return charts.overview(self.courses, names, self.end, means, title)


def _breakable(name: str) -> Markup:
    """Return a name as HTML for a table: cut where it is long, with places to break a line."""
    return escape(charts.cut(name, LONGEST_NAME)).replace("_", Markup("_<wbr>"))


def _asset(name: str) -> str:
    """Return a file that comes with the package."""
    return resources.files("promptgym.leaderboard").joinpath("templates", name).read_text("utf-8")


def _check_folder(out: Path) -> None:
    """Refuse to write over what is no site.

    Raises:
        ConfigError: see `build_site`.
    """
    if out.exists() and not out.is_dir():
        raise ConfigError(f"{out} is a file; a site is written into a folder: give another --out")
    if out.exists() and any(out.iterdir()) and not (out / "assets" / "site.js").exists():
        raise ConfigError(
            f"{out} holds something, but no site that was built before; give an empty folder, or "
            "one that is not there yet, as --out"
        )
