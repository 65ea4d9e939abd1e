"""Training batches: documents of similar lengths, padded, with the mask that keeps blocks apart.

Batch number s depends on the seed and s alone, so a resumed run sees the same stream as an
uninterrupted one.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from concurrent.futures import Future, ProcessPoolExecutor
from dataclasses import dataclass
from multiprocessing import get_context

import numpy as np
import numpy.typing as npt

from promptgym.llms.tiny.documents import CHOICES, Document

BATCHES_PER_POOL = 16
IntArray = npt.NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Batch:
    """B documents of at most T tokens, N places to predict.

    Attributes:
        ids: token ids, shape (B, T).
        positions: position numbers, shape (B, T).
        allowed: which places a place may attend to, shape (B, 1, T, T).
        places: flat index b * T + t of each place to predict, shape (N,).
        choices: token ids of each target distribution, shape (N, CHOICES).
        shares: their probabilities, shape (N, CHOICES).
        weights: weight in the loss, shape (N,).
    """

    ids: IntArray
    positions: IntArray
    allowed: npt.NDArray[np.bool_]
    places: IntArray
    choices: IntArray
    shares: npt.NDArray[np.float32]
    weights: npt.NDArray[np.float32]


def ancestry(parents: list[int]) -> npt.NDArray[np.bool_]:
    """Which places of a tree a place sees: itself and its ancestors, shape (T, T)."""
    out = np.eye(len(parents), dtype=bool)
    for place, parent in enumerate(parents):
        if parent >= 0:
            out[place] |= out[parent]
    return out


def collate(documents: list[Document], *, causal: bool) -> Batch:
    """Pad documents into one batch.

    In the causal model a place attends to itself and its ancestors, in the masked model to the
    whole document.
    """
    size, longest = len(documents), max(len(doc.ids) for doc in documents)
    ids = np.zeros((size, longest), np.int64)
    positions = np.zeros((size, longest), np.int64)
    allowed = np.broadcast_to(np.eye(longest, dtype=bool), (size, longest, longest)).copy()
    places, choices, shares, weights = [], [], [], []
    for row, doc in enumerate(documents):
        n = len(doc.ids)
        ids[row, :n], positions[row, :n] = doc.ids, doc.positions
        allowed[row, :n, :n] = ancestry(doc.parents) if causal else True
        for at, (target, weight) in enumerate(zip(doc.targets, doc.weights, strict=True)):
            if weight:
                pad = CHOICES - len(target)
                places.append(row * longest + at)
                choices.append([token for token, _ in target] + [0] * pad)
                shares.append([share for _, share in target] + [0.0] * pad)
                weights.append(weight)
    return Batch(
        ids,
        positions,
        allowed[:, None],
        np.array(places),
        np.array(choices),
        np.array(shares, np.float32),
        np.array(weights, np.float32),
    )


Writer = Callable[[random.Random, float], Document]


@dataclass(frozen=True, slots=True)
class Plan:
    """What a run's batches are made of.

    Attributes:
        write: writes one document, given a generator and how far the run is, in [0, 1]; must be
            picklable.
        documents: documents a batch.
        seed: of the stream.
        steps: length of the run, for the curriculum.
        causal: see `collate`.
    """

    write: Writer
    documents: int
    seed: int
    steps: int
    causal: bool

    def pool(self, number: int) -> list[Batch]:
        """One pool of documents, cut into batches of similar lengths."""
        rng = random.Random(f"{self.seed}/{number}")
        progress = number * BATCHES_PER_POOL / self.steps
        size = self.documents
        documents = [self.write(rng, progress) for _ in range(BATCHES_PER_POOL * size)]
        documents.sort(key=lambda doc: len(doc.ids))
        groups = [documents[i : i + size] for i in range(0, len(documents), size)]
        rng.shuffle(groups)
        return [collate(group, causal=self.causal) for group in groups]


class Stream:
    """The batches of a run, written ahead by a second process."""

    def __init__(self, plan: Plan) -> None:
        """Start the process."""
        self._plan = plan
        self._worker = ProcessPoolExecutor(1, mp_context=get_context("spawn"))
        self._pools: dict[int, Future[list[Batch]]] = {}

    def batch(self, step: int) -> Batch:
        """Batch number `step`, counted from 0."""
        number, place = divmod(step, BATCHES_PER_POOL)
        last = (self._plan.steps - 1) // BATCHES_PER_POOL
        for ahead in range(number, min(number + 2, last) + 1):
            if ahead not in self._pools:
                self._pools[ahead] = self._worker.submit(self._plan.pool, ahead)
        for old in [key for key in self._pools if key < number]:
            del self._pools[old]
        return self._pools[number].result()[place]

    def close(self) -> None:
        """End the process."""
        self._worker.shutdown(cancel_futures=True)
