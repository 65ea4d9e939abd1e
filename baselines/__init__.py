"""Search baselines: one method a file, each a frozen dataclass of options with a generator.

`BASELINES` names them without importing them; `promptgym.agents.make_optimizer` builds one.
"""

from __future__ import annotations

BASELINES: dict[str, str] = {
    "ape": "promptgym.baselines.ape:APE",
    "bdpl": "promptgym.baselines.bdpl:BDPL",
    "best_of_n": "promptgym.baselines.best_of_n:BestOfN",
    "claps": "promptgym.baselines.claps:ClaPS",
    "coordinate_ascent": "promptgym.baselines.coordinate_ascent:CoordinateAscent",
    "empty": "promptgym.baselines.empty:EmptyPrompt",
    "evoprompt_de": "promptgym.baselines.evoprompt:EvoPromptDE",
    "evoprompt_ga": "promptgym.baselines.evoprompt:EvoPromptGA",
    "genetic": "promptgym.baselines.genetic:Genetic",
    "grips": "promptgym.baselines.grips:Grips",
    "harmony_search": "promptgym.baselines.harmony_search:HarmonySearch",
    "hill_climbing": "promptgym.baselines.hill_climbing:HillClimbing",
    "manual": "promptgym.baselines.manual:ManualPrompts",
    "mmr_demonstrations": "promptgym.baselines.mmr_demonstrations:MMRDemonstrations",
    "opro": "promptgym.baselines.opro:OPRO",
    "pe2": "promptgym.baselines.pe2:PE2",
    "promptboosting": "promptgym.baselines.promptboosting:PromptBoosting",
    "protegi": "promptgym.baselines.protegi:ProTeGi",
    "random_demonstrations": "promptgym.baselines.random_demonstrations:RandomDemonstrations",
    "random_edits": "promptgym.baselines.random_edits:RandomEdits",
    "random_tokens": "promptgym.baselines.random_tokens:RandomTokens",
    "select": "promptgym.baselines.select:Select",
    "simulated_annealing": "promptgym.baselines.simulated_annealing:SimulatedAnnealing",
    "spo": "promptgym.baselines.spo:SPO",
    "tabu": "promptgym.baselines.tabu:Tabu",
}
"""Registered name -> "module:Class"."""

__all__ = ["BASELINES"]
