"""Two Ray workers of one thread beside one: scores per second, of one call after another.

Needs two free cores, takes less than a minute. Each repeat asks both, in turn, so that what else
the machine does falls on both; the median of the ratios is printed.

    python benchmarks/ray_workers.py --texts 4096 --repeats 5
"""

from __future__ import annotations

import argparse
import statistics
import time
from typing import Any

from promptgym import load_model, load_task
from promptgym.prompts import Prompt


def texts_of(count: int, start: int) -> list[str]:
    """Return so many different texts of a bundled task; another start gives others."""
    task = load_task("author")
    out = []
    for i in range(start, start + count):
        prompt = Prompt(f"variant {i} of what it is")
        out.append(task.template.render(prompt, task.train[i % len(task.train)]))
    return out


def seconds(model: Any, texts: list[str], labels: list[str]) -> float:
    """Return how long one call takes."""
    start = time.perf_counter()
    result = model.label_logprobs(texts, labels)
    if result.failures:
        raise SystemExit(f"{len(result.failures)} texts failed: {next(iter(result.failures))}")
    return time.perf_counter() - start


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", default="tiny")
    parser.add_argument("--texts", type=int, default=4096)
    parser.add_argument("--repeats", type=int, default=5)
    args = parser.parse_args()
    task = load_task("author")
    labels = [task.words_for(label) for label in task.labels or ()]
    started = time.perf_counter()
    models = {n: load_model(f"ray:{args.model}", replicas=n) for n in (1, 2)}
    for model in models.values():
        seconds(model, texts_of(200, 0), labels)
    print(f"three replicas started in {time.perf_counter() - started:.1f} s", flush=True)
    ratios = []
    for repeat in range(args.repeats):
        texts = texts_of(args.texts, 1000 + repeat * args.texts)
        took = {n: seconds(models[n], texts, labels) for n in sorted(models, reverse=repeat % 2)}
        ratios.append(took[1] / took[2])
        rates = ", ".join(f"{n} replicas {args.texts / s:,.0f}" for n, s in sorted(took.items()))
        print(f"texts a second: {rates}; ratio {ratios[-1]:.2f}", flush=True)
    print(f"two workers over one, median of {args.repeats}: {statistics.median(ratios):.2f}x")


if __name__ == "__main__":
    main()
