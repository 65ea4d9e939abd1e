"""What the processes of test_killed_runs.py do: one training run, begun or resumed.

They are forked from one that has imported this module, and so the libraries and the model.
"""

from __future__ import annotations

import signal
from typing import Any

import torch

from promptgym import load_model
from promptgym.evaluation.experiment import Experiment, run_experiment

torch.set_num_threads(1)
load_model("tiny")


def train(config: dict[str, Any], out: str, resume: bool, cache: str | None) -> None:
    """Train as `promptgym train` does, without a report."""
    # A shell that begins a command in the background lets it ignore interrupts.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    run_experiment(Experiment(**config), out, resume=resume, report=False, cache=cache)
