"""Which of TRL's trainers and configurations a loss of the DPO rewriter belongs to."""

from __future__ import annotations

import warnings
from dataclasses import dataclass, field
from typing import Any

from promptgym.types import JSON


@dataclass(frozen=True, slots=True)
class Loss:
    """How TRL trains by a loss.

    Attributes:
        trainer: its trainer's class.
        config: that trainer's configuration.
        arguments: of the configuration.
        reference: whether a reference model is part of it.
        beta: default of the weight that its paper calls so.
    """

    trainer: Any
    config: Any
    arguments: JSON = field(default_factory=dict)
    reference: bool = True
    beta: float = 0.1


UNPAIRED = ("kto",)
"""Losses of single rewrites, good or bad by themselves."""
OF_PAIRS = (
    *("sigmoid", "hinge", "ipo", "exo_pair", "nca_pair", "robust", "bco_pair", "sppo_hard"),
    *("aot", "aot_unpaired", "apo_zero", "apo_down", "discopop", "sft", "sigmoid_norm"),
)
"""Those of TRL's DPOTrainer."""
WITHOUT_REFERENCE = ("cpo", "simpo", "orpo")


def loss_named(name: str) -> Loss:
    """Return a loss by its name; what is none of ours is a loss of TRL's DPOTrainer.

    CPO (Xu et al. 2024), SimPO (Meng et al. 2024; CPO's trainer with its likelihood term left out)
    and ORPO (Hong et al. 2024) need no reference model; TRL counts them as experimental.
    """
    import trl

    if name == "kto":
        return Loss(trl.KTOTrainer, trl.KTOConfig)
    if name not in WITHOUT_REFERENCE:
        return Loss(trl.DPOTrainer, trl.DPOConfig, {"loss_type": [name]})
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # says that it is experimental, as our docs do
        from trl.experimental.cpo import CPOConfig, CPOTrainer
        from trl.experimental.orpo import ORPOConfig, ORPOTrainer
    if name == "orpo":
        return Loss(ORPOTrainer, ORPOConfig, reference=False)
    if name == "cpo":
        return Loss(CPOTrainer, CPOConfig, reference=False)
    # beta 2, target margin gamma / beta of 0.5 nats a token: where Meng et al. 2024 say to start
    arguments = {"loss_type": "simpo", "cpo_alpha": 0.0, "simpo_gamma": 1.0}
    return Loss(CPOTrainer, CPOConfig, arguments, reference=False, beta=2.0)
