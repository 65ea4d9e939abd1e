"""Forged submissions, and the sentence that refuses each; seconds and memory of an honest check.

python benchmarks/forged.py SUBMISSION
"""

from __future__ import annotations

import argparse
import resource
import shutil
import tempfile
from pathlib import Path

from promptgym.leaderboard.check import check_submission
from promptgym.testing.forgeries import FORGERIES


def main() -> None:
    """Check the submission, then every forgery of it."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("submission", type=Path, help="an honest one, of two runs or more")
    folder = parser.parse_args().submission
    honest = check_submission(folder)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(
        f"{folder.name}: {len(honest.problems)} problems, {honest.rows:,} rows, "
        f"{honest.queries:,} queries, {honest.rescored} prompts asked again, "
        f"{honest.seconds:.1f} s, {peak:.0f} MB at most\n"
    )
    print("| what is forged | what refuses it |\n| --- | --- |")
    for forgery in FORGERIES:
        with tempfile.TemporaryDirectory() as work:
            copy = Path(work) / "submission"
            shutil.copytree(folder, copy)
            forgery.forge(copy)
            found = check_submission(copy).problems
        expected = [problem for problem in found if forgery.says in problem]
        said = expected[0] if expected else f"NOT REFUSED AS EXPECTED: {found}"
        print(f"| {forgery.what} | {said.replace('|', '/')[:220]} |", flush=True)


if __name__ == "__main__":
    main()
