"""How long `import promptgym` takes in a fresh interpreter (aim: at most 0.3 s).

Run: `python benchmarks/import_time.py [--repeats 11]`. Prints the median and the fastest of the
wall times, with the bare interpreter's start subtracted, and the ten slowest modules.
"""

from __future__ import annotations

import argparse
import statistics
import subprocess
import sys
import time


def wall(statement: str) -> float:
    """Return the seconds a fresh interpreter takes to run a statement."""
    start = time.perf_counter()
    subprocess.run([sys.executable, "-c", statement], check=True)
    return time.perf_counter() - start


def slowest_modules(count: int = 10) -> list[tuple[float, str]]:
    """Return (own seconds, module) of the slowest imports below `import promptgym`."""
    run = subprocess.run(
        [sys.executable, "-X", "importtime", "-c", "import promptgym"],
        capture_output=True,
        text=True,
        check=True,
    )
    rows = []
    for line in run.stderr.splitlines():
        own, _, name = line.removeprefix("import time:").split("|")
        if own.strip().isdigit():
            rows.append((int(own) / 1e6, name.strip()))
    return sorted(rows, reverse=True)[:count]


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--repeats", type=int, default=11)
    repeats = parser.parse_args().repeats
    wall("import promptgym")  # compiles the bytecode, fills the file cache
    bare = statistics.median(wall("pass") for _ in range(repeats))
    times = [wall("import promptgym") - bare for _ in range(repeats)]
    print(f"import promptgym: median {statistics.median(times):.3f} s, fastest {min(times):.3f} s")
    print(f"(bare interpreter {bare:.3f} s subtracted, {repeats} repeats)")
    for seconds, name in slowest_modules():
        print(f"  {seconds * 1000:6.1f} ms  {name}")


if __name__ == "__main__":
    main()
