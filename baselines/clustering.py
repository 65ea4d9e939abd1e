"""K-means, and the words that stand for its clusters.

Sources: Lloyd (IEEE Transactions on Information Theory 1982); the first centres are those of
k-means++ (Arthur & Vassilvitskii, SODA 2007).
"""

from __future__ import annotations

import numpy as np

from promptgym.types import FloatArray, IntArray

CHUNK = 4096
"""Rows whose distances to all centres are held at a time."""


def first_centres(rows: FloatArray, k: int, rng: np.random.Generator) -> FloatArray:
    """Return rows drawn one by one, those far from all that were drawn before the likeliest.

    The probability is in proportion to the squared distance from the nearest of those.

    Args:
        rows: shape (V, D).
        k: how many; fewer are drawn where fewer rows differ.
        rng: chance.
    """
    drawn = [int(rng.integers(len(rows)))]
    distance = ((rows - rows[drawn[0]]) ** 2).sum(axis=1)
    while len(drawn) < k and distance.any():
        cumulative = distance.cumsum()
        pick = int(np.searchsorted(cumulative, rng.random() * cumulative[-1], side="right"))
        drawn.append(min(pick, int(distance.nonzero()[0][-1])))
        distance = np.minimum(distance, ((rows - rows[drawn[-1]]) ** 2).sum(axis=1))
        distance[drawn] = 0.0
    return rows[drawn]


def nearest(rows: FloatArray, centres: FloatArray) -> IntArray:
    """Return the index of the nearest centre (K, D) of every row (V, D), shape (V,)."""
    size = (centres**2).sum(axis=1)
    found = [
        (size - 2 * rows[i : i + CHUNK] @ centres.T).argmin(axis=1)
        for i in range(0, len(rows), CHUNK)
    ]
    return np.concatenate(found)


def kmeans(
    rows: FloatArray, k: int, rng: np.random.Generator, *, iterations: int = 300
) -> FloatArray:
    """Return the centres of at most `k` clusters, shape (K, D).

    Args:
        rows: shape (V, D).
        k: clusters.
        rng: chance, of the first centres.
        iterations: at most; it ends where no row changes its cluster.
    """
    centres = first_centres(rows, k, rng)
    label = nearest(rows, centres)
    for _ in range(iterations):
        counts = np.bincount(label, minlength=len(centres))
        sums = np.zeros_like(centres)
        np.add.at(sums, label, rows)
        centres = np.where(counts[:, None] > 0, sums / np.maximum(counts, 1)[:, None], centres)
        before, label = label, nearest(rows, centres)
        if np.array_equal(before, label):
            break
    return centres


def representatives(rows: FloatArray, k: int, rng: np.random.Generator) -> IntArray:
    """Return the rows that stand for `k` clusters: of each the nearest to its centre, in order.

    Clusters whose nearest row is the same are stood for once, so that fewer may be returned.
    """
    return np.unique(nearest(kmeans(rows, k, rng), rows))
