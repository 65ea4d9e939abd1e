"""Drawing few shots, held-out parts and smaller sets from examples; all of it seeded."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeVar

import numpy as np

from promptgym.errors import TaskError
from promptgym.prompts import Example

T = TypeVar("T")


def few_shot_split(
    examples: Sequence[Example], k: int, seed: int = 0, *, dev_k: int | None = None
) -> tuple[tuple[Example, ...], tuple[Example, ...]]:
    """Draw `k` examples of every class for train and as many others for dev, as LM-BFF does.

    The same as in LM-BFF's `generate_k_shot_data.py` (Gao et al. 2021): the whole training set is
    shuffled once by NumPy's legacy generator with this seed; classes come in the order in which
    they then appear; of each, the first `k` are train and the next `k` are dev (10 `k` in its
    "k-shot-10x" mode: `dev_k=10 * k`). From the same rows in the same order this draws the same
    examples, in the same order.

    Not the same: a class with too few examples is an error here, there it is silently short; a
    generator of our own is seeded, not NumPy's global one; nothing is written to disk; and rows
    that `load_task(duplicates="drop")` removed are gone before the shuffle, which changes the draw.
    A task without labels (each target its own) is no case of LM-BFF: see `k_shots`.

    Args:
        examples: the full training set; the target is the class.
        k: examples a class in train.
        seed: LM-BFF's are 100, 13, 21, 42 and 87.
        dev_k: examples a class in dev; `k` if not given.

    Raises:
        TaskError: if a class has fewer than `k + dev_k` examples.
    """
    return k_shots(examples, [e.target for e in examples], k, seed, dev_k=dev_k)


def k_shots(
    items: Sequence[T], classes: Sequence[str], k: int, seed: int, *, dev_k: int | None = None
) -> tuple[tuple[T, ...], tuple[T, ...]]:
    """Draw as `few_shot_split` does, with the class of each item given beside it.

    For free answers give one class for all items: `k` examples in all.
    """
    dev_k = k if dev_k is None else dev_k
    if k < 1 or dev_k < 0:
        raise TaskError(f"few-shot sampling needs k >= 1 and dev_k >= 0, got {k} and {dev_k}")
    order = list(range(len(items)))
    np.random.RandomState(seed).shuffle(order)
    by_class: dict[str, list[int]] = {}
    for i in order:
        by_class.setdefault(classes[i], []).append(i)
    for name, members in by_class.items():
        if len(members) < k + dev_k:
            raise TaskError(
                f"class {name!r} has {len(members)} training examples; {k} for train and {dev_k} "
                "for dev were asked for"
            )
    train = tuple(items[i] for members in by_class.values() for i in members[:k])
    dev = tuple(items[i] for members in by_class.values() for i in members[k : k + dev_k])
    return train, dev


def shares(sizes: Sequence[int], total: int) -> list[int]:
    """Divide `total` over groups in proportion to their sizes (largest remainder)."""
    exact = np.asarray(sizes, dtype=float) * total / max(sum(sizes), 1)
    out = np.floor(exact).astype(int)
    for i in np.argsort(-(exact - out), kind="stable")[: total - int(out.sum())]:
        out[i] += 1
    return [int(n) for n in out]


def split_off(
    items: Sequence[T], classes: Sequence[str], part: float | int, seed: int
) -> tuple[tuple[T, ...], tuple[T, ...]]:
    """Take a stratified random part out of a sequence; both parts keep the order.

    Args:
        items: what is divided.
        classes: the class of each item; the part has every class in proportion.
        part: a fraction between 0 and 1 (a float), or a number of items (an int).
        seed: of the draw.

    Returns:
        (what is left, the part).

    Raises:
        TaskError: if the part would be empty, or nothing would be left.
    """
    sound = 0 < part < len(items)  # false for NaN
    count = 0 if not sound else part if isinstance(part, int) else round(part * len(items))
    if not 0 < count < len(items):
        raise TaskError(
            f"cannot take {part!r} of {len(items)} examples: expected a fraction between 0 and 1 "
            "or a number of examples, with something left on both sides"
        )
    groups: dict[str, list[int]] = {}
    for i, name in enumerate(classes):
        groups.setdefault(name, []).append(i)
    rng = np.random.default_rng(seed)
    taken: set[int] = set()
    for members, n in zip(
        groups.values(), shares([len(m) for m in groups.values()], count), strict=True
    ):
        taken.update(members[j] for j in rng.permutation(len(members))[:n])
    rest = tuple(item for i, item in enumerate(items) if i not in taken)
    return rest, tuple(item for i, item in enumerate(items) if i in taken)


def subsample(items: Sequence[T], classes: Sequence[str], size: int, seed: int) -> tuple[T, ...]:
    """Return `size` of the items, stratified, in their order.

    Raises:
        TaskError: if there are fewer.
    """
    if size == len(items):
        return tuple(items)
    if size > len(items):
        raise TaskError(f"{size} examples were asked for, there are {len(items)}")
    return split_off(items, classes, size, seed)[1]
