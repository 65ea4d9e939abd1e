"""Simulated annealing: worse prompts are accepted, the less so the later and the worse they are.

Sources: Kirkpatrick et al. (Science 1983); Pan et al., "Plum" (Findings of ACL 2024), after GrIPS
(Prasad et al., EACL 2023, appendix): accept with probability exp(gain / T), T = 10 exp(-step / 5).
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from promptgym.baselines.neighbours import NeighbourSearch
from promptgym.ranges import FINITE, check_ranges


@dataclass(frozen=True)
class SimulatedAnnealing(NeighbourSearch):
    """Moves to the best candidate if it is better, else by chance.

    The temperatures are for the scale of the objective "grips", 0 to about 107; another objective
    wants others.

    Attributes:
        temperature: T before the first step, in units of the objective.
        decay: steps in which T falls by a factor e.
    """

    name: ClassVar[str] = "simulated_annealing"
    temperature: float = 10.0
    decay: float = 5.0

    def __post_init__(self) -> None:
        """Refuse unknown options and temperatures that are none."""
        super().__post_init__()
        check_ranges(self.name, self, {FINITE: ("temperature", "decay")})

    def accepts(self, gain: float, step: int, rng: np.random.Generator) -> bool:
        """Draw whether to move to a prompt that is not better."""
        heat = max(self.temperature * math.exp(-step / self.decay), 1e-300)
        return math.isfinite(gain) and bool(rng.random() < math.exp(gain / heat))
