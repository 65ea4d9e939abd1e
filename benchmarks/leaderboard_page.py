"""The leaderboard's page with many methods: bytes, load time, time to sort, in headless Chromium.

    python benchmarks/leaderboard_page.py

Entries are made up (100 methods x 20 tasks x 5 seeds), the site is built of them and served. A sort
lasts from the click until the frame that shows it has been drawn; every column is sorted both ways.
"""

from __future__ import annotations

import argparse
import shutil
import statistics
import sys
import tempfile
import threading
import time
from pathlib import Path
from typing import Any

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests"))

from browser import chromium, missing  # type: ignore[import-not-found]
from leaderboard_entries import make_entry  # type: ignore[import-not-found]

from promptgym.leaderboard.serve import make_server
from promptgym.leaderboard.site import build_site

SORT = """
const [index, done] = arguments;
const button = document.querySelectorAll("section.board:not([hidden]) thead button")[index];
requestAnimationFrame(() => {
  const begun = performance.now();
  button.click();
  document.body.getBoundingClientRect();
  const laid = performance.now() - begun;
  requestAnimationFrame(() => setTimeout(() => done([laid, performance.now() - begun])));
});
"""
LOAD = """
const [page] = performance.getEntriesByType("navigation");
return [page.domContentLoadedEventEnd, page.loadEventEnd];
"""


def loads(driver: Any, url: str, rounds: int) -> float:
    """Return the median milliseconds until the page has loaded, its table ready to be sorted."""
    found = []
    for _ in range(rounds):
        driver.get("about:blank")
        driver.get(url)
        found.append(driver.execute_script(LOAD)[1])
    return statistics.median(found)


def sorts(driver: Any) -> tuple[list[float], list[float]]:
    """Return milliseconds until the rows are laid out, and until they are drawn."""
    heads = len(driver.find_elements("css selector", "section.board:not([hidden]) thead button"))
    found = [driver.execute_async_script(SORT, i) for i in range(heads) for _ in range(2)]
    laid, drawn = zip(*found, strict=True)
    return list(laid), list(drawn)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--methods", type=int, default=100)
    parser.add_argument("--tasks", type=int, default=20)
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--rounds", type=int, default=7, help="times a page is loaded")
    options = parser.parse_args()
    if missing():
        print(f"not measured: {missing()}")
        return
    rng = np.random.default_rng(0)
    tasks = [f"task-{i}" for i in range(options.tasks)]
    entries = [
        make_entry(rng, f"method {i}", tasks=tasks, seeds=options.seeds)
        for i in range(options.methods)
    ]
    folder = Path(tempfile.mkdtemp())
    begun = time.perf_counter()
    files = build_site(entries, folder / "site")
    took = time.perf_counter() - begun
    total = sum(file.stat().st_size for file in files)
    print(f"built in {took:.1f} s: {len(files)} files, {total / 1e6:.1f} MB")
    server = make_server(folder / "site", port=0)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    driver = chromium(folder / "profile")
    print("| page | kB | load, ms |\n| --- | --- | --- |")
    for kind in ("index", "methods/*", "tasks/*"):
        page = sorted((folder / "site").glob(f"{kind}.html"))[0]
        url = f"http://127.0.0.1:{server.server_port}/{page.relative_to(folder / 'site')}"
        size = page.stat().st_size / 1e3
        print(f"| {kind} | {size:.0f} | {loads(driver, url, options.rounds):.0f} |")
    driver.get(f"http://127.0.0.1:{server.server_port}/index.html")
    for name, found in zip(("laid out", "drawn"), sorts(driver), strict=True):
        middle, most = statistics.median(found), max(found)
        print(f"{len(found)} sorts, until {name}: median {middle:.0f} ms, longest {most:.0f} ms")
    driver.quit()
    server.shutdown()
    shutil.rmtree(folder)


if __name__ == "__main__":
    main()
