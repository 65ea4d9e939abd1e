"""What each option of a transformers model does to speed and scores, beside the defaults.

    python benchmarks/options.py                      # two shapes of random weights
    python benchmarks/options.py --shape gpt2:6x768 --rounds 3

All variants score the same new prompts in turn, round by round; the median over rounds of the ratio
of CPU seconds is shown (above 1: faster than the defaults), the largest difference of any
log-probability, and what loading and the first round took (a compiled model compiles then).
"""

from __future__ import annotations

import argparse
import statistics
import time
from typing import Any

import numpy as np
import torch
from shapes import build

from promptgym.errors import ModelError
from promptgym.llms import load_model
from promptgym.prompts import Prompt
from promptgym.scoring import Scorer
from promptgym.tasks import load_task

VARIANTS: tuple[dict[str, Any], ...] = (
    {},
    {"attention": "eager"},
    {"dtype": "bfloat16"},
    {"compile": True},
    {"batch_tokens": 512},
    {"batch_tokens": 32768},
    {"kv_cache_mb": 0},
)
COLUMNS = ("shape", "options", "scores/CPU-s", "ratio", "difference, nats", "begin, CPU-s")


def compare(shape: str, prompts: int, rounds: int) -> list[list[str]]:
    """Return the rows of one shape."""
    task, spec = load_task("author"), build(shape, None)
    rng = np.random.default_rng(0)
    scorers: list[Scorer] = []
    variants: list[dict[str, Any]] = []
    begin: list[float] = []
    for options in VARIANTS:
        start = time.process_time()
        try:
            model = load_model(spec, device="cpu", **options)
        except ModelError as error:  # no compiler here
            print(f"not measured: {error}")
            continue
        template = task.masked_template if model.kind == "masked" else task.template
        assert template is not None
        scorers.append(Scorer(task, model, template))
        variants.append(options)
        begin.append(time.process_time() - start)
    spent: list[list[float]] = [[] for _ in variants]
    difference = [0.0] * len(variants)
    for at in range(rounds + 1):
        drawn = rng.choice(task.vocabulary, (prompts, 8))
        asked = [Prompt(" ".join(row)) for row in drawn]
        usual = None
        for number, scorer in enumerate(scorers):
            start = time.process_time()
            found = scorer.score(asked, task.train).label_logprobs
            seconds = time.process_time() - start
            assert found is not None
            usual = found if usual is None else usual
            difference[number] = max(difference[number], float(np.abs(found - usual).max()))
            if at:
                spent[number].append(seconds)
            else:
                begin[number] += seconds
    rows = []
    for number, options in enumerate(variants):
        ratio = statistics.median(a / b for a, b in zip(spent[0], spent[number], strict=True))
        rate = prompts * len(task.train) / statistics.median(spent[number])
        said = ", ".join(f"{name}={value}" for name, value in options.items()) or "defaults"
        cells = [f"{rate:,.0f}", f"{ratio:.2f}", f"{difference[number]:.1e}"]
        rows.append([shape, said, *cells, f"{begin[number]:.1f}"])
    return rows


def main() -> None:
    """Parse arguments and print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--shape", action="append", default=[], help="see shapes.py; repeatable")
    parser.add_argument("--prompts", type=int, default=16, help="prompts a round")
    parser.add_argument("--rounds", type=int, default=7)
    args = parser.parse_args()
    torch.set_num_threads(1)
    print("| " + " | ".join(COLUMNS) + " |")
    print("|" + " --- |" * len(COLUMNS))
    for shape in args.shape or ["gpt2:4x256", "roberta:4x256"]:
        for row in compare(shape, args.prompts, args.rounds):
            print("| " + " | ".join(row) + " |", flush=True)


if __name__ == "__main__":
    main()
