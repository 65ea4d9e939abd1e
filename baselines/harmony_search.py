"""Harmony search: prompts put together from pieces of the best prompts so far.

Sources: Geem et al. (Simulation 2001); Pan et al., "Plum: Prompt Learning using Metaheuristic"
(Findings of ACL 2024) and its code: 10 harmonies, 5 segments, considering rate 0.4, adjusting rate
0.5.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from promptgym.baselines.asking import Memory
from promptgym.baselines.hill_climbing import Words
from promptgym.baselines.neighbours import NeighbourSearch
from promptgym.baselines.phrases import Edits
from promptgym.problem import Problem
from promptgym.ranges import COUNT, SHARE, check_ranges
from promptgym.search.driver import Search


@dataclass(frozen=True)
class HarmonySearch(NeighbourSearch):
    """Improvises `candidates` prompts a step; the best `harmonies` of all are kept.

    Segment j of a new prompt is segment j of a random harmony. With probability `considering` it is
    kept, and then adjusted by one small edit with probability `adjusting`; else it is edited in any
    case. (Plum's small edit is its paraphrase and its other one any edit. Without paraphrases both
    are edits of the kind chosen. Its code also loses the last unit of each segment; this does not.)
    Patience counts steps without a new best prompt.

    Attributes:
        harmonies: prompts kept (N_H).
        segments: pieces that a prompt is cut into (k_s).
        considering: harmony memory considering rate (HMCR).
        adjusting: pitch adjusting rate (PAR).
    """

    name: ClassVar[str] = "harmony_search"
    harmonies: int = 10
    segments: int = 5
    considering: float = 0.4
    adjusting: float = 0.5

    def __post_init__(self) -> None:
        """Refuse unknown options."""
        super().__post_init__()
        numbers = {COUNT: ("harmonies", "segments"), SHARE: ("considering", "adjusting")}
        check_ranges(self.name, self, numbers)

    def walk(self, problem: Problem, memory: Memory, rng: np.random.Generator) -> Search:
        """Improvise until steps, patience or budget end."""
        start, edits = problem.initial_prompt, self.neighbourhood(problem)
        best = float((yield from memory.values([start.with_words(edits.start)]))[0])
        kept, waited = {edits.start: best}, 0
        for _ in self.steps():
            harmonies = list(kept)
            asked = [self.improvised(harmonies, edits, rng) for _ in range(self.candidates)]
            values = yield from memory.values([start.with_words(u) for u in asked])
            kept.update(zip(asked, values.tolist(), strict=True))
            kept = dict(sorted(kept.items(), key=lambda item: -item[1])[: self.harmonies])
            now = max(kept.values())
            waited = 0 if now > best else waited + 1
            best = now
            if self.is_over(waited, memory):
                return

    def improvised(self, harmonies: list[Words], edits: Edits, rng: np.random.Generator) -> Words:
        """Return a new prompt's units.

        An edit of words may make a segment longer; what then exceeds `longest` is cut off.
        """
        out: list[str] = []
        for j in range(self.segments):
            units = harmonies[int(rng.integers(len(harmonies)))]
            first = math.ceil(j / self.segments * len(units))
            segment = units[first : math.ceil((j + 1) / self.segments * len(units))]
            kept = rng.random() < self.considering
            if not kept or rng.random() < self.adjusting:
                segment = edits.draw(segment, rng, units)
            out += segment
        return tuple(out[: max(self.longest, len(edits.start))])
