"""The live display: one bar with what is spent, an ETA, reward, best dev score and best prompt."""

from __future__ import annotations

import sys
import time
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol, TextIO

import numpy as np
from rich.align import Align
from rich.console import Console, Group
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.text import Text

from promptgym.prompts import Prompt
from promptgym.types import JSON

CAPS = ("queries", "calls", "tokens", "seconds", "usd")


def one_line(text: str, width: int = 80) -> str:
    """Return text fit for one terminal line: no control characters, whitespace folded, cut.

    Prompts are written by models; an escape sequence in one must not reach the terminal.
    """
    clean = " ".join("".join(c if c.isprintable() else " " for c in text).split())
    return clean if len(clean) <= width else clean[: width - 1] + "…"


def clock(seconds: float | None) -> str:
    """Return seconds as `m:ss` or `h:mm:ss`; `-:--` if unknown."""
    if seconds is None:
        return "-:--"
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{rest:02d}" if hours else f"{minutes}:{rest:02d}"


@dataclass(slots=True)
class Standing:
    """Where a run stands, kept up to date from its events.

    Attributes:
        budget: cap by kind (`queries`, `calls`, `tokens`, `seconds`, `usd`), none of them None.
        spent: the ledger's last snapshot.
        reward: mean training reward of the last batch.
        best_reward: the highest training reward of a fully scored prompt.
        dev: dev metric of the incumbent.
        prompt: the incumbent; before the first choice on dev, the best by reward.
        failures: failed evaluations so far in this session, by kind.
        task: a line about the task.
        warning: the last warning of the method, e.g. that its policy collapsed.
    """

    budget: Mapping[str, float]
    spent: JSON = field(default_factory=dict)
    reward: float | None = None
    best_reward: float | None = None
    dev: float | None = None
    prompt: Prompt | None = None
    failures: Counter[str] = field(default_factory=Counter)
    task: str = ""
    warning: str = ""
    _since: tuple[float, float] | None = None  # clock and fraction at the first event

    @property
    def fraction(self) -> float:
        """Share of the tightest cap that is spent, in [0, 1]; 0 without caps."""
        shares = [(self.spent.get(k) or 0) / cap for k, cap in self.budget.items() if cap]
        return min(1.0, max(shares, default=0.0))

    @property
    def eta(self) -> float | None:
        """Seconds until the budget is spent at this session's pace; None if unknown."""
        if self._since is None:
            return None
        start, before = self._since
        gained = self.fraction - before
        elapsed = time.monotonic() - start
        return (1 - self.fraction) * elapsed / gained if gained > 0 else None

    def take(self, kind: str, fields: Mapping[str, Any]) -> None:
        """Take one event."""
        if "spent" in fields:
            self._take_spending(fields["spent"])
        if kind == "scores":
            self._take_scores(fields)
        elif kind == "incumbent":
            self.dev = fields.get("dev")
            self.prompt = Prompt.of(fields["prompt"])
        elif kind == "session":
            self.task = str(fields.get("task", ""))
        elif kind == "warning":
            self.warning = str(fields["message"])

    def _take_spending(self, spent: JSON) -> None:
        """Take what is spent; the caps on the proposer are named `proposer_calls` and so on."""
        self.spent = {**spent, **{f"proposer_{k}": v for k, v in spent.get("proposer", {}).items()}}

    def _take_scores(self, fields: Mapping[str, Any]) -> None:
        """Take what a batch earned."""
        if self._since is None:
            self._since = (time.monotonic(), self.fraction)
        self.failures.update(fields.get("statuses", {}))
        rewards = np.asarray(fields["rewards"], dtype=np.float64)
        if fields.get("split") != "train" or not np.isfinite(rewards).any():
            return
        self.reward = float(np.nanmean(rewards))
        whole = np.where(np.asarray(fields["complete"], dtype=bool), rewards, np.nan)
        if np.isfinite(whole).any():
            top = int(np.nanargmax(whole))
            if self.best_reward is None or whole[top] > self.best_reward:
                self.best_reward = float(whole[top])
                if self.dev is None:
                    self.prompt = Prompt.of(fields["prompts"][top])

    def spending(self) -> str:
        """Return what is spent of the budget, e.g. `1,280 of 20,000 queries`."""
        caps = self.budget or {"queries": 0}
        kind = max(caps, key=lambda k: (self.spent.get(k) or 0) / caps[k] if caps[k] else 0.0)
        spent, name = self.spent.get(kind) or 0, kind.replace("_", " ")
        if kind == "usd":
            return f"{spent:,.4f} of {caps[kind]:,.2f} USD"
        return f"{spent:,.0f} of {caps[kind]:,.0f} {name}" if caps[kind] else f"{spent:,} {name}"

    def summary(self) -> str:
        """Return reward, dev score and failures on one line."""
        parts = []
        if self.reward is not None:
            parts.append(f"reward {self.reward:.3g}")
        if self.best_reward is not None:
            parts.append(f"best reward {self.best_reward:.3g}")
        if self.dev is not None:
            parts.append(f"best dev {self.dev:.3f}")
        if self.failures:
            kinds = ", ".join(f"{n} {kind}" for kind, n in self.failures.most_common())
            parts.append(f"{self.failures.total()} failed ({kinds})")
        return " | ".join(parts)

    def prompt_line(self, width: int) -> str:
        """Return the best prompt so far on one line; demonstrations as a count."""
        if self.prompt is None:
            return ""
        shots = len(self.prompt.demonstrations)
        tail = f" (+{shots} demonstrations)" if shots else ""
        return one_line(self.prompt.instruction, max(10, width - len(tail))) + tail


class Display(Protocol):
    """A display is an event sink that is entered before and left after a run."""

    def emit(self, kind: str, **fields: Any) -> None:
        """Take one event."""
        ...

    def __enter__(self) -> Display:
        """Start showing."""
        ...

    def __exit__(self, *_: object) -> None:
        """Stop showing, leaving the last state on the screen."""
        ...


class LiveDisplay:
    """A bar and a few lines, redrawn in place on a terminal."""

    def __init__(self, budget: Mapping[str, float], console: Console) -> None:
        """Prepare; nothing is drawn before `with`."""
        self.standing = Standing(budget)
        self._console = console
        self._live = Live(console=console, get_renderable=self._draw, refresh_per_second=4)

    def emit(self, kind: str, **fields: Any) -> None:
        """Take one event; the refresher draws it."""
        self.standing.take(kind, fields)

    def _draw(self) -> Group:
        """Return what stands on the screen now."""
        s = self.standing
        width = max(20, min(100, self._console.width - 2))
        bar = ProgressBar(total=1.0, completed=s.fraction, width=min(40, width))
        head = f"{s.spending()} | {s.fraction:.0%} | eta {clock(s.eta)}"
        lines = [Text(one_line(s.task, width))] if s.task else []
        lines += [Text(one_line(head, width)), Text(one_line(s.summary(), width))]
        if s.prompt is not None:
            lines.append(Text(f"best prompt: {s.prompt_line(width - 13)}", style="bold"))
        if s.warning:
            lines.append(Text(f"warning: {one_line(s.warning, 3 * width)}", style="yellow"))
        return Group(Align.left(bar), *lines)  # a bar by itself does not end its line

    def __enter__(self) -> LiveDisplay:
        """Start drawing."""
        self._live.start()
        return self

    def __exit__(self, *_: object) -> None:
        """Draw once more and stop."""
        self._live.stop()


class PlainDisplay:
    """One line every few seconds, for logs and pipes."""

    def __init__(self, budget: Mapping[str, float], stream: TextIO, every: float = 5.0) -> None:
        """Print to `stream`, at most one line in `every` seconds and one at the end."""
        self.standing = Standing(budget)
        self._stream = stream
        self._every = every
        self._next = 0.0
        self._shown = ""

    def emit(self, kind: str, **fields: Any) -> None:
        """Take one event and print a line if one is due; task and warnings at once."""
        self.standing.take(kind, fields)
        if kind == "session" and self.standing.task:
            print(one_line(self.standing.task, 500), file=self._stream, flush=True)
        if kind == "warning":
            print(f"warning: {one_line(self.standing.warning, 500)}", file=self._stream, flush=True)
        if time.monotonic() >= self._next and self.standing.spent:
            self._print()

    def _print(self) -> None:
        """Print where the run stands, unless that was just said."""
        s = self.standing
        facts = f"{s.spending()} ({s.fraction:.0%})"
        line = f'{facts} | {s.summary()} | "{s.prompt_line(60)}"'
        if line != self._shown:
            print(
                f"{facts} | eta {clock(s.eta)}{line[len(facts) :]}", file=self._stream, flush=True
            )
        self._shown = line
        self._next = time.monotonic() + self._every

    def __enter__(self) -> PlainDisplay:
        """Do nothing."""
        return self

    def __exit__(self, *_: object) -> None:
        """Print the last state."""
        if self.standing.spent:
            self._print()


class NoDisplay:
    """Shows nothing (`--quiet`)."""

    def emit(self, kind: str, **fields: Any) -> None:
        """Do nothing."""

    def __enter__(self) -> NoDisplay:
        """Do nothing."""
        return self

    def __exit__(self, *_: object) -> None:
        """Do nothing."""


def make_display(budget: Mapping[str, float | None], *, quiet: bool = False) -> Display:
    """Return the display for standard error: live on a terminal, plain lines elsewhere.

    Standard output is left to results, so that `--json` can be piped.
    """
    if quiet:
        return NoDisplay()
    caps = {kind: float(cap) for kind, cap in budget.items() if cap is not None}
    console = Console(stderr=True)
    if console.is_terminal and not console.is_dumb_terminal:
        return LiveDisplay(caps, console)
    return PlainDisplay(caps, sys.stderr)
