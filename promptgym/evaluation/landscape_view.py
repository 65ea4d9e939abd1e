"""A landscape as text and as a picture."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from promptgym.errors import ConfigError
from promptgym.types import FloatArray

if TYPE_CHECKING:
    from promptgym.evaluation.landscape import Bar, Landscape

PICTURES = (".png", ".svg", ".pdf")

_MARKS = {True: "pass", False: "FAIL", None: "-"}
_BLOCKS = " ▏▎▍▌▋▊▉█"
_WIDTH = 40


def as_text(land: Landscape) -> str:
    """Return bars, histogram and staircase as plain text."""
    verdict = "all bars that count hold" if land.passed else "NOT all bars hold"
    if land.passed and not land.climbs:
        verdict += "; hill climbers, its tier's own, were not asked for"
    lines = [
        f"{land.task} ({land.tier or 'no tier stated'}) under {land.model}, seed {land.seed}: "
        f"{verdict}",
        "",
    ]
    for bar in land.bars:
        lines += _bar(bar)
    stairs = land.staircase
    lines += [
        "",
        f"best known prompt: {land.best.prompt.instruction!r}",
        f"words of the staircase: {' '.join(stairs.words[: stairs.known]) or '(none)'}",
    ]
    if others := stairs.words[stairs.known :]:
        lines.append(
            f"and, as they raise the train split most by themselves (some by chance): "
            f"{' '.join(others)}"
        )
    lines += [
        "",
        f"dev accuracy of {len(land.random_dev)} random prompts",
        *histogram(land.random_dev),
        "",
        "mean dev accuracy against number of words of the staircase",
        *(f"{k:4d} {mean:.3f} {_block(mean)}" for k, mean in enumerate(land.staircase.means)),
        "",
        f"{land.queries:,} queries in {land.seconds:.0f} s",
    ]
    return "\n".join(lines)


def _bar(bar: Bar) -> list[str]:
    """Return a bar as two lines; one that does not count informs, and neither passes nor fails."""
    if bar.counts or bar.passed is None:
        mark, wants = _MARKS[bar.passed], "wants"
    else:
        mark, wants = "info", f"{'' if bar.passed else 'not '}met, which the task can do without:"
    return [f"{mark:4}  {bar.name}: {bar.measured}", f"      {wants} {bar.required}"]


def histogram(values: FloatArray, bins: int = 20) -> list[str]:
    """Return one line a bin of width 1 / bins that holds something, with a bar of its share."""
    counts, edges = np.histogram(values[~np.isnan(values)], bins=bins, range=(0.0, 1.0))
    filled = np.flatnonzero(counts)
    if not filled.size:
        return ["(none)"]
    return [
        f"{edges[i]:.2f} {counts[i]:5d} {_block(counts[i] / counts.max())}"
        for i in range(filled[0], filled[-1] + 1)
    ]


def check_picture(path: Path) -> None:
    """Refuse a file that no picture can be drawn into: asked before minutes are spent on one.

    Raises:
        ConfigError: for another ending than .png, .svg or .pdf.
    """
    if path.suffix.lower() not in PICTURES:
        raise ConfigError(f"{path}: no kind of picture; expected a name in {', '.join(PICTURES)}")


def plot(land: Landscape, path: Path) -> Path:
    """Draw four panels: random prompts, staircase, edits, climbers.

    Raises:
        ConfigError: for another ending than .png, .svg or .pdf.
    """
    check_picture(path)
    # Without pyplot: no global state, no display needed, any thread will do.
    from matplotlib.figure import Figure

    figure = Figure(figsize=(10, 7), layout="constrained")
    axes = figure.subplots(2, 2)
    figure.suptitle(f"{land.task} ({land.tier or 'no tier stated'}) under {land.model}")
    _random(land, axes[0, 0])
    _staircase(land, axes[0, 1])
    _edits(land, axes[1, 0])
    _climbs(land, axes[1, 1])
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.stem}.partial{path.suffix}")
    figure.savefig(temporary, dpi=110)
    temporary.replace(path)
    return path


def _random(land: Landscape, axes: Any) -> None:
    """Histogram of random prompts, with the known prompts marked."""
    axes.hist(land.random_dev, bins=np.linspace(0, 1, 41), color="0.6")
    for known, name, color in (
        (land.empty, "empty", "tab:blue"),
        (land.manual, "manual", "tab:orange"),
        (land.best, "best known", "tab:green"),
    ):
        axes.axvline(known.dev, color=color, label=name)
    axes.set(xlabel="accuracy on dev", ylabel="random prompts", xlim=(0, 1.02))
    axes.legend()


def _staircase(land: Landscape, axes: Any) -> None:
    """Mean accuracy against number of helpful words."""
    axes.plot(land.staircase.means, marker="o", color="tab:green")
    axes.set(xlabel="words of the staircase", ylabel="mean accuracy on dev", ylim=(0, 1.02))
    axes.grid(alpha=0.3)


def _edits(land: Landscape, axes: Any) -> None:
    """Histogram of what single edits change."""
    gap = land.edits.gap is not None
    changes = land.edits.gap if land.edits.gap is not None else land.edits.accuracy
    axes.hist(changes, bins=41, color="0.6")
    axes.axvline(0, color="black", linewidth=0.8)
    axes.set(
        xlabel=f"change of {'gap reward' if gap else 'accuracy'} on train",
        ylabel="single edits of the manual prompt",
        yscale="log",
    )


def _climbs(land: Landscape, axes: Any) -> None:
    """Test accuracy of every climber's best prompt against prompts asked."""
    for climb in land.climbs:
        asked = [0, *(n for n, _ in climb.curve)]
        axes.plot(asked, [land.manual.test, *(v for _, v in climb.curve)], marker=".")
    axes.axhline(land.best.test, color="tab:green", linestyle=":")
    axes.set(xlabel="prompts asked by a hill climber", ylabel="accuracy on test", ylim=(0, 1.02))
    axes.grid(alpha=0.3)


def _block(share: float) -> str:
    """Return a bar of block characters."""
    if np.isnan(share):
        return ""
    eighths = round(share * _WIDTH * 8)
    return "█" * (eighths // 8) + (_BLOCKS[eighths % 8] if eighths % 8 else "")
