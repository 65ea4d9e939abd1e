"""Kill and resume: every registered baseline, killed at random points, against a whole run.

    python benchmarks/resume.py                     # every baseline, 10 points each
    python benchmarks/resume.py --methods opro spo --points 3

Each run is a process of its own on the embedded model (and the embedded rewriter, for methods that
ask a proposer), with the run folder of `promptgym train`. A run is killed by SIGKILL at random
moments, one after the other, and resumed each time; where it ends before the last of them, another
one takes the kills that are left. "Equal" means, bit for bit, like the run that was never killed:
the result, every record of the journal (prompts, scores, log-probabilities, completions, what was
spent), every event about them, and the state of the method's random generator at each question it
asked. Only seconds are left out.
"""

from __future__ import annotations

import argparse
import json
import signal
import sys
import tempfile
import time
from itertools import count
from pathlib import Path
from typing import Any

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "tests"))

from killed_work import finish, journal, kill_at, lines, outcome, start

from promptgym.agents import make_optimizer
from promptgym.baselines import BASELINES

SIZES = {"train": 16, "dev": 8, "test": 16}
QUERIES = 800


def config(name: str, seed: int) -> dict[str, Any]:
    """Return the experiment of a baseline."""
    method: Any = make_optimizer(name)
    return {
        "method": name,
        "task": "author",
        "task_options": {"sizes": SIZES},
        "budget": {"queries": QUERIES},
        "seed": seed,
        **({"proposer": "tiny-rewriter"} if method.proposes else {}),
    }


def killed_often(
    experiment: dict[str, Any], run: Path, records: int, pause: float, points: list[float]
) -> int:
    """Kill a run at one point after the other, resume it each time, and let it end.

    Args:
        experiment: what is run.
        run: its folder.
        records: lines of the whole run's journal.
        pause: seconds between two of them.
        points: ascending, as shares of the records.

    Returns:
        How many kills met it; fewer than points if it came to its end before the last ones.
    """
    for kills, point in enumerate(points):
        process = start(experiment, str(run), kills > 0, None)
        at = point * records
        kill_at(process, journal(run), 1 + int(at), pause * (at % 1))
        if process.exitcode == 0:
            return kills
        assert process.exitcode == -signal.SIGKILL, f"{run} ended with {process.exitcode}"
    finish(start(experiment, str(run), True, None))
    return len(points)


def read_seconds(run: Path) -> float:
    """Return how long a run searched."""
    result: dict[str, Any] = json.loads((run / "result.json").read_text(encoding="utf-8"))
    return float(result["spent"]["seconds"])


def compare(name: str, points: int, folder: Path, seed: int) -> tuple[list[str], bool]:
    """Return the row of a baseline, and whether its killed runs are equal to the whole one."""
    began, rng = time.monotonic(), np.random.default_rng(seed)
    experiment, whole = config(name, seed), folder / name / "whole"
    finish(start(experiment, str(whole), False, None))
    expected, records = outcome(whole), lines(journal(whole))
    pause = read_seconds(whole) / records
    kills, different = 0, list[str]()
    for number in count():
        run, left = folder / name / f"killed-{number}", points - kills
        kills += killed_often(experiment, run, records, pause, sorted(rng.random(left).tolist()))
        found = outcome(run)
        different += [part for part in expected if found[part] != expected[part]]
        if kills == points:
            break
    equal = f"no: {', '.join(different)}" if different else "yes"
    seconds = time.monotonic() - began
    return [name, str(records - 1), str(kills), equal, f"{seconds:.0f}"], not different


def main() -> None:
    """Parse arguments and print the table; exit with 1 if a run differs."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument(
        "--methods", nargs="+", choices=sorted(BASELINES), default=sorted(BASELINES)
    )
    parser.add_argument("--points", type=int, default=10, help="kills of each")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--keep", type=Path, help="folder that keeps the runs")
    args = parser.parse_args()
    columns = ["method", "records", "kills", "equal", "seconds"]
    print("| " + " | ".join(columns) + " |")
    print("|" + " --- |" * len(columns), flush=True)
    equal = []
    with tempfile.TemporaryDirectory() as folder:
        for name in args.methods:
            row, same = compare(name, args.points, args.keep or Path(folder), args.seed)
            equal.append(same)
            print("| " + " | ".join(row) + " |", flush=True)
    sys.exit(int(not all(equal)))


if __name__ == "__main__":
    main()
