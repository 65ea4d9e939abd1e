"""The cost of a candidate prompt against examples, prompt length and input length.

Called by `scoring.py --plot FILE`. Models have random weights and read 1,024 tokens; texts are
random words, a token each. A prompt is new every time, the examples are not, and four prompts are
scored a call: what a search pays once it is under way.
"""

from __future__ import annotations

import statistics
import time
from pathlib import Path
from typing import Any

import numpy as np
from shapes import build

from promptgym.llms import load_model
from promptgym.prompts import Example, Prompt, Template
from promptgym.scoring import Scorer
from promptgym.tasks import Task, load_task

PROMPTS = 4
AXES = {
    "examples": (16, 64, 256, 1024),
    "prompt tokens": (4, 16, 64, 256),
    "input tokens": (8, 32, 128, 512),
}
USUAL = {"examples": 64, "prompt tokens": 8, "input tokens": 32}
TEMPLATES = {
    "input first": "{input} {prompt}",
    "prompt first": "{prompt} {input}",
    "masked": "{input} {prompt} {mask}",
}


def cost(task: Task, spec: str, template: str, sizes: dict[str, int], rounds: int) -> float:
    """Return CPU-milliseconds a candidate prompt, the median over rounds."""
    rng = np.random.default_rng(0)
    words, labels = task.vocabulary, task.labels or ()
    examples = [
        Example(" ".join(rng.choice(words, sizes["input tokens"])), labels[i % 2])
        for i in range(sizes["examples"])
    ]
    model: Any = load_model(spec, device="cpu", kv_cache_mb=4096)
    scorer = Scorer(task, model, Template(template))
    spent = []
    for _ in range(rounds + 2):
        drawn = rng.choice(words, (PROMPTS, sizes["prompt tokens"]))
        prompts = [Prompt(" ".join(row)) for row in drawn]
        start = time.process_time()
        scorer.score(prompts, examples)
        spent.append((time.process_time() - start) * 1e3 / PROMPTS)
    return statistics.median(spent[2:])


def draw(path: str, shapes: list[str], *, quick: bool) -> None:
    """Measure, print the tables and write the plot."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    task = load_task("author")
    figure, panels = pyplot.subplots(1, len(AXES), figsize=(12, 3.6), sharey=True)
    specs = [(shape, build(shape, None)) for shape in shapes]
    for panel, (axis, values) in zip(panels, AXES.items(), strict=True):
        points = values[:2] if quick else values
        print(f"| {axis} | " + " | ".join(map(str, points)) + " |")
        print("|" + " --- |" * (len(points) + 1))
        for shape, spec in specs:
            for name, template in TEMPLATES.items():
                if (name == "masked") != shape.startswith("roberta"):
                    continue
                costs = [
                    cost(task, spec, template, USUAL | {axis: n}, 1 if quick else 5) for n in points
                ]
                row = [f"{shape}, {name}", *(f"{ms:.1f}" for ms in costs)]
                print("| " + " | ".join(row) + " |", flush=True)
                panel.loglog(points, costs, "o-", label=f"{shape}, {name}", base=2)
        panel.set_xlabel(axis)
        panel.grid(alpha=0.3)
        print()
    panels[0].set_ylabel("CPU-ms a candidate prompt")
    panels[0].legend(fontsize=8)
    figure.tight_layout()
    Path(path).parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=120)
