"""The landscapes of the bundled tasks under the embedded models: the figures of the model card.

    python benchmarks/landscapes.py --out runs/landscapes --jobs 2

runs `promptgym.evaluation.landscape` (what `promptgym tasks landscape NAME` prints) for every
bundled task under "tiny", and for the classification tasks under "tiny-masked" (without climbers),
one JSON file and one picture each; those that are there are not measured again. Then it prints the
tables of MODEL_CARD.md.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterable, Sequence
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any

from promptgym.evaluation.survey import GAP_RANGE

OPTIONS: dict[str, dict[str, int]] = {"tiny": {}, "tiny-masked": {"climbers": 0}}
LOOKS = (200, 500, 1000, 2000)  # prompts of a climber at which the table shows test accuracy
SETS = ("none", "worst", "best")  # of demonstrations


def measure(task: str, model: str, path: Path) -> None:
    """Write one landscape."""
    import torch

    from promptgym.evaluation import landscape
    from promptgym.runs.folder import write_json

    torch.set_num_threads(1)
    found = landscape(task, model, **OPTIONS[model])
    found.plot(path.with_suffix(".png"))
    write_json(path, found.to_json())
    missed = [bar.name for bar in found.bars if bar.passed is False]
    print(f"{task} under {model}: {found.seconds:.0f} s; not met: {missed or 'none'}", flush=True)


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Return a table in Markdown."""
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines) + "\n"


def two(values: Iterable[float]) -> str:
    """Return figures with two decimals."""
    return " ".join(f"{value:.2f}" for value in values)


def shares(land: dict[str, Any]) -> str:
    """Return which share of the edits moves the gap reward and the metric."""
    changed = land["edits"]["accuracy"]
    up, down = (sum(sign * c > 0 for c in changed) / len(changed) for sign in (1, -1))
    gaps = land["edits"]["gap"]
    moved = 0.005 * GAP_RANGE  # as the bar has it
    gap = "" if gaps is None else f"{sum(abs(g) > moved for g in gaps) / len(gaps):.2f} / "
    return f"{gap}{up + down:.2f} ({up:.2f}, {down:.2f})"


def climbs(land: dict[str, Any]) -> str:
    """Return test accuracy of every climber after so many prompts; one that arrived stays there."""
    return "; ".join(
        two([value for asked, value in climb["curve"] if asked <= look + 16][-1] for look in LOOKS)
        for climb in land["climbs"]
    )


def landscape_rows(lands: Iterable[dict[str, Any]]) -> Iterable[list[str]]:
    """Return one row a task."""
    for land in lands:
        known = [f"{land[name]['test']:.3f}" for name in ("empty", "manual", "best")]
        found = land["random_best"]
        chance = f"{found['dev']:.2f} / {found['test']:.2f}"
        steps = two(land["staircase"]["means"])
        failed = [b["name"] for b in land["bars"] if b["passed"] is False]
        yield [land["task"], *known, chance, steps, shares(land), "; ".join(failed) or "all met"]


def report(lands: list[dict[str, Any]]) -> str:
    """Return the tables of one model."""
    head = ("task", "empty", "manual", "best known", "best of random: dev / test", "staircase, dev")
    edits = "edits: gap moved / accuracy moved (up, down)"
    parts = [table([*head, edits, "bars not met"], landscape_rows(lands))]
    at = ", ".join(f"{look:,}" for look in LOOKS)
    climbed = [[land["task"], climbs(land)] for land in lands if land["climbs"]]
    shown = [
        [land["task"], *(f"{land['demonstrations'][key]['test']:.3f}" for key in SETS)]
        for land in lands
        if land["demonstrations"]
    ]
    drawn = [
        [land["task"], two(draw["test"] for draw in land["rewriter"])]
        for land in lands
        if land["rewriter"]
    ]
    for columns, rows in (
        (["task", f"climbers of the margin, test after {at} prompts"], climbed),
        (["task", "no demonstrations", "worst set", "best set"], shown),
        (["task", "untrained rewriter: best of 16, five draws"], drawn),
    ):
        if rows:
            parts.append(table(columns, rows))
    return "\n".join(parts)


def main() -> None:
    """Measure what is missing and print the tables."""
    from promptgym.tasks.world import WORLD_TASKS

    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--out", type=Path, default=Path("runs/landscapes"))
    parser.add_argument("--models", nargs="+", choices=OPTIONS, default=list(OPTIONS))
    parser.add_argument("--tasks", nargs="+", default=list(WORLD_TASKS))
    parser.add_argument("--jobs", type=int, default=2)
    args = parser.parse_args()
    args.out.mkdir(parents=True, exist_ok=True)
    cells = [
        (task, model, args.out / f"{task}.{model}.json")
        for model in args.models
        for task in args.tasks
        if model != "tiny-masked" or WORLD_TASKS[task].labels
    ]
    with ProcessPoolExecutor(args.jobs) as pool:
        started = [pool.submit(measure, *cell) for cell in cells if not cell[2].exists()]
        for future in started:
            future.result()
    for model in args.models:
        lands = [json.loads(path.read_text()) for _, name, path in cells if name == model]
        print(f"\n## {model}\n\n{report(lands)}")


if __name__ == "__main__":
    main()
