"""Examples of a task: inputs with the careful answer as target."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Collection

from promptgym.tasks.world.inputs import FAMILIES, Item
from promptgym.tasks.world.table import WORLD_TASKS

MISLEADING = 0.42  # share of classification examples whose hasty answer is wrong


def _quotas(labels: tuple[str, ...], n: int) -> Counter[tuple[str, bool]]:
    """How many examples of each (label, misleading) to give."""
    quotas: Counter[tuple[str, bool]] = Counter()
    for place, label in enumerate(labels):
        count = n // len(labels) + (place < n % len(labels))
        misleading = int(count * MISLEADING + (place + 0.5) / len(labels))
        quotas[label, True], quotas[label, False] = misleading, count - misleading
    return quotas


def generate_items(
    name: str, n: int, seed: int, exclude: Collection[str] = ()
) -> list[tuple[Item, str]]:
    """As `generate`, with the inputs as `Item`, which also knows the answers to other questions.

    Raises:
        KeyError: if there is no such task.
    """
    if name not in WORLD_TASKS:
        raise KeyError(f"no task {name!r} in the text world; there are {', '.join(WORLD_TASKS)}")
    task = WORLD_TASKS[name]
    rng = random.Random(f"{name}/{seed}")
    quotas = _quotas(task.labels, n) if task.labels else None
    seen, out = set(exclude), list[tuple[Item, str]]()
    while len(out) < n:
        item = FAMILIES[task.family](rng, task.question, False)
        careful, hasty = item.answers[task.question]
        cell = (careful[0], careful != hasty)
        if item.text in seen or (quotas is not None and quotas[cell] == 0):
            continue
        if quotas is not None:
            quotas[cell] -= 1
        seen.add(item.text)
        out.append((item, " ".join(careful)))
    rng.shuffle(out)
    return out


def generate(name: str, n: int, seed: int, exclude: Collection[str] = ()) -> list[tuple[str, str]]:
    """Distinct examples of a task, the same for the same arguments.

    Classification examples are balanced over labels, and the share whose surface misleads is the
    same in every set, so that splits are equally difficult.

    Args:
        name: a key of `WORLD_TASKS`.
        n: how many.
        seed: another seed gives other examples.
        exclude: inputs that must not occur.

    Returns:
        (input, target) pairs.

    Raises:
        KeyError: if there is no such task.
    """
    return [(item.text, target) for item, target in generate_items(name, n, seed, exclude)]
