"""`landscape`: is a task graded, neither trivial nor flat, for this model? Bars with figures.

A bundled task is worth having if wording matters by degrees: the plain prompt is mediocre, the
best known one good, chance does not find it, single edits move the reward, and a hill climber
arrives (standard tier) or gets stuck (hard tier). Each of these is a bar that passes or fails. The
bars were set for classification; generation is measured by the same ones where they apply.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

from promptgym.errors import ConfigError, TaskError
from promptgym.evaluation.survey import (
    GAP_RANGE,
    SOLVED,
    Climb,
    Demonstrations,
    Edits,
    Known,
    Progress,
    Staircase,
    Survey,
)
from promptgym.llms import LanguageModel, load_model
from promptgym.llms.tiny import REWRITE_TEMPLATE
from promptgym.problem import the_model, the_task
from promptgym.runs import plain
from promptgym.tasks import Task
from promptgym.types import JSON, FloatArray

UNDER_BEST = 0.10  # what empty, manual and random prompts must stay under the best known
STUCK = 0.90
EARLY = 200  # prompts within which no climber may arrive
STEP = 0.02  # a rise of the staircase's mean that counts as a level
TIERS = ("standard", "hard")


@dataclass(frozen=True, slots=True)
class Bar:
    """One requirement, what was measured, and whether it holds.

    Attributes:
        name: what is looked at.
        measured: the figures, as text.
        required: the requirement, as text.
        passed: None if it was not measured.
        counts: whether the task as a whole depends on it; where not, `passed` is information.
    """

    name: str
    measured: str
    required: str
    passed: bool | None
    counts: bool = True


@dataclass(frozen=True, slots=True)
class Landscape:
    """Everything that was measured about a task under a model, and the bars.

    Attributes:
        task: name of the task.
        model: name of the model.
        tier: "standard", "hard", or None where the task states none and either will do.
        seed: of everything random.
        classes: number of labels; 0 for generation.
        empty: the empty prompt.
        manual: the task's plain prompt.
        best: the best known prompt: the best on dev of the references and of the climbers' finds.
        random_dev: dev metric of the random prompts, shape (N,).
        random_best: the best of them by dev.
        edits: single edits of the manual prompt.
        staircase: mean metric against the number of helpful words.
        climbs: the hill climbers.
        demonstrations: None if the task has no pool.
        rewriter: best of 16 untrained rewrites, each draw; None if not asked for.
        seconds: how long it took.
        queries: what it cost.
    """

    task: str
    model: str
    tier: str | None
    seed: int
    classes: int
    empty: Known
    manual: Known
    best: Known
    random_dev: FloatArray
    random_best: Known
    edits: Edits
    staircase: Staircase
    climbs: tuple[Climb, ...]
    demonstrations: Demonstrations | None
    rewriter: tuple[Known, ...] | None
    seconds: float
    queries: int

    @property
    def bars(self) -> tuple[Bar, ...]:
        """Return every bar, in the order they are printed."""
        return (
            *_floor_bars(self),
            *_edit_bars(self.edits),
            *_staircase_bars(self.staircase),
            _climber_bar(self.climbs, self.best, self.tier),
            _demonstration_bar(self.demonstrations),
            _rewriter_bar(self.rewriter),
        )

    @property
    def passed(self) -> bool:
        """Whether every bar that counts holds."""
        return all(bar.passed for bar in self.bars if bar.counts)

    def to_json(self) -> JSON:
        """Return bars and measurements as JSON."""
        values: JSON = plain(asdict(self))
        values["bars"] = [asdict(bar) for bar in self.bars]
        values["passed"] = self.passed
        return values

    def __str__(self) -> str:
        """Return the bars and the pictures as plain text."""
        from promptgym.evaluation.landscape_view import as_text

        return as_text(self)

    def plot(self, path: str | Path) -> Path:
        """Draw the landscape (png, svg or pdf, by the name's ending) and return the path."""
        from promptgym.evaluation.landscape_view import plot

        return plot(self, Path(path))


def landscape(
    task: str | Path | Task,
    model: str | LanguageModel = "tiny",
    *,
    seed: int = 0,
    n_random: int = 2000,
    n_edits: int = 600,
    climbers: int = 5,
    climb_prompts: int = 2000,
    tier: str | None = None,
    rewriter: str | LanguageModel | None = "auto",
    rewrite_template: str = REWRITE_TEMPLATE,
    task_options: JSON | None = None,
    model_options: JSON | None = None,
    on_progress: Progress | None = None,
) -> Landscape:
    """Measure a task's landscape under a model.

    Args:
        task: a task with its test split open, or what `load_task` takes.
        model: a model, or what `load_model` takes.
        seed: of everything random; the climbers take seed, seed + 1, ...
        n_random: uniformly random prompts.
        n_edits: single edits of the manual prompt.
        climbers: hill climbers.
        climb_prompts: prompts each may ask; one that has arrived stops.
        tier: "standard" or "hard": which climber bar applies; None takes the bundled task's own,
            and for others accepts either.
        rewriter: a model that writes instructions, or its name; None leaves its bar out, "auto"
            takes the embedded one for the embedded model "tiny" and none for others.
        rewrite_template: how it is asked, with `{prompt}`.
        task_options: further arguments of `load_task`.
        model_options: further arguments of `load_model`.
        on_progress: called with (stage, done, total).

    Raises:
        TaskError: if a split is empty or closed, or the tier unknown.
        ConfigError: for a number of prompts, edits or climbers that measures nothing.
    """
    least = {"n_random": 1, "n_edits": 1, "climbers": 0, "climb_prompts": 1}
    for name, value in zip(least, (n_random, n_edits, climbers, climb_prompts), strict=True):
        if value < least[name]:
            raise ConfigError(f"landscape: {name} must be at least {least[name]}, got {value}")
    task = the_task(task, **(task_options or {}))
    if rewriter == "auto":
        rewriter = "tiny-rewriter" if model == "tiny" else None
    model = the_model(model, **(model_options or {}))
    if isinstance(rewriter, str):
        rewriter = load_model(rewriter)
    tier = _tier(task, tier)
    started = time.monotonic()
    survey = Survey(task, model, seed, on_progress)
    empty, manual, references = survey.floors()
    random_dev, random_best = survey.random_prompts(n_random)
    edits = survey.edits(n_edits)
    climbs = tuple(survey.climb(seed + i, climb_prompts) for i in range(climbers))
    known = [manual, *references, *(climb.final for climb in climbs)]
    best = max(known, key=lambda k: -1.0 if np.isnan(k.dev) else k.dev)
    return Landscape(
        task=task.name,
        model=model.name,
        tier=tier,
        seed=seed,
        classes=len(task.labels or ()),
        empty=empty,
        manual=manual,
        best=best,
        random_dev=random_dev,
        random_best=random_best,
        edits=edits,
        staircase=survey.staircase((references or [best])[0].prompt),
        climbs=climbs,
        demonstrations=survey.demonstrations(),
        rewriter=None if rewriter is None else survey.rewriter(rewriter, rewrite_template),
        seconds=time.monotonic() - started,
        queries=survey.scorer.ledger.queries + sum(c.asked for c in climbs) * len(task.train),
    )


def _tier(task: Task, tier: str | None) -> str | None:
    """Return the tier asked for, or that of a bundled task."""
    if tier is None:
        from promptgym.tasks.world import WORLD_TASKS

        row = WORLD_TASKS.get(task.name)
        return row.tier if row is not None and row.tier in TIERS else None
    if tier not in TIERS:
        raise TaskError(f"unknown tier {tier!r}; expected one of {TIERS}")
    return tier


def floor_range(classes: int) -> tuple[float, float]:
    """Return where plain prompts belong: from chance to halfway up; 0 to 0.5 for generation."""
    chance = 1 / classes if classes else 0.0
    return chance, (1 + chance) / 2


def _floor_bars(land: Landscape) -> Sequence[Bar]:
    """Judge the empty, the manual, the best known and the random prompts."""
    low, high = floor_range(land.classes)
    below = land.best.test - UNDER_BEST
    bars = [
        Bar(
            f"{name} prompt",
            f"{known.test:.3f} test, {known.dev:.3f} dev",
            f"{low:.2f} to {high:.2f} on test, at least {UNDER_BEST:.2f} under the best",
            low <= known.test <= min(high, below),
        )
        for name, known in (("empty", land.empty), ("manual", land.manual))
    ]
    found = land.random_best
    return [
        *bars,
        Bar(
            "best known prompt",
            f"{land.best.test:.3f} test, {land.best.dev:.3f} dev",
            f">= {SOLVED:.2f} on test",
            land.best.test >= SOLVED,
        ),
        Bar(
            f"best by dev of {len(land.random_dev)} random prompts",
            f"{found.test:.3f} test, {found.dev:.3f} dev",
            f"at least {UNDER_BEST:.2f} under the best known, on test",
            found.test <= below,
        ),
    ]


def _edit_bars(edits: Edits) -> Sequence[Bar]:
    """Judge what single edits do."""
    n = len(edits.accuracy)
    up, down = int((edits.accuracy > 0).sum()), int((edits.accuracy < 0).sum())
    bars = []
    if edits.gap is not None:
        share = float((np.abs(edits.gap) > 0.005 * GAP_RANGE).mean())
        higher = float((edits.gap > 0.005 * GAP_RANGE).mean())
        bars.append(
            Bar(
                f"of {n} single edits, those that move the gap reward",
                f"{share:.0%}: {higher:.0%} up, {share - higher:.0%} down",
                ">= 60 % by more than 0.5 % of its range, some up, some down",
                share >= 0.6 and 0 < higher < share,
            )
        )
    return [
        *bars,
        Bar(
            f"of {n} single edits, those that move accuracy",
            f"{(up + down) / n:.0%}: {up / n:.0%} up, {down / n:.0%} down",
            ">= 10 %, some up, some down",
            up + down >= 0.1 * n and up > 0 and down > 0,
        ),
    ]


def _staircase_bars(staircase: Staircase) -> Sequence[Bar]:
    """Judge levels and steps of the mean against the number of helpful words."""
    steps = np.diff(staircase.means)
    levels = 1 + int((steps >= STEP).sum())
    largest = float(np.abs(steps).max())
    means = " ".join(f"{mean:.2f}" for mean in staircase.means)
    return [
        Bar(
            "levels of the staircase",
            f"{levels}: {means}",
            f">= 4 (rises of >= {STEP:.2f} a helpful word, and the start)",
            levels >= 4,
        ),
        Bar("largest step of the staircase", f"{largest:.2f}", "<= 0.25", largest <= 0.25),
    ]


def _climber_bar(climbs: Sequence[Climb], best: Known, tier: str | None) -> Bar:
    """Judge what the hill climbers reach."""
    arrived = sum(c.final.test >= SOLVED for c in climbs)
    early = sum(any(n <= EARLY and v >= SOLVED for n, v in c.curve) for c in climbs)
    stuck = sum(c.final.test < STUCK for c in climbs)
    needed = (3 * len(climbs) + 4) // 5  # three of five
    ok = {
        "standard": arrived >= needed and early == 0,
        "hard": stuck >= needed and best.test >= SOLVED,
    }
    texts = {
        "standard": f"standard: >= {SOLVED:.2f} on test in at least {needed}, "
        f"none within {EARLY} prompts",
        "hard": f"hard: under {STUCK:.2f} on test in at least {needed}, "
        f"though a prompt with >= {SOLVED:.2f} is known",
    }
    required = "; or ".join(texts[name] for name in ([tier] if tier else TIERS))
    if not climbs:
        return Bar("hill climbers on the margin", "not asked for", required, None, counts=False)
    finals = " ".join(f"{c.final.test:.2f}@{c.asked}" for c in climbs)
    wanted = [tier] if tier else list(TIERS)
    holds = [name for name in wanted if ok[name]]
    note = f", {early} within {EARLY}" if early else ""
    return Bar(
        f"{len(climbs)} hill climbers on the margin",
        f"{finals} prompts; {arrived} arrived{note}, {stuck} stuck"
        + ("" if tier else f" ({holds[0] if holds else 'neither tier'})"),
        required,
        bool(holds),
    )


def _demonstration_bar(found: Demonstrations | None) -> Bar:
    """Judge demonstrations; one task that passes is enough, so no task depends on it."""
    required = "best >= none + 0.10 and best >= worst + 0.05 on test (in at least one task)"
    if found is None:
        return Bar("demonstrations", "the task has no pool", required, None, counts=False)
    return Bar(
        f"demonstrations ({len(found.dev)} sets, chosen on dev)",
        f"none {found.none.test:.3f}, best {found.best.test:.3f}, worst {found.worst.test:.3f}",
        required,
        found.best.test >= found.none.test + 0.10 and found.best.test >= found.worst.test + 0.05,
        counts=False,
    )


def _rewriter_bar(found: Sequence[Known] | None) -> Bar:
    """Judge the untrained rewriter, if there was one, by its median draw: any may be lucky."""
    required = "median <= 0.80 on test before reinforcement learning (after it >= 0.95: train it)"
    if not found:
        return Bar("untrained rewriter", "not asked for", required, None, counts=False)
    middle = float(np.median([known.test for known in found]))
    draws = " ".join(f"{known.test:.3f}" for known in found)
    return Bar(
        "untrained rewriter, best by dev of 16",
        f"{middle:.3f} test, the median of {draws}",
        required,
        middle <= 0.80,
        counts=False,
    )
