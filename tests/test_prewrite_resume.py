"""PRewrite resumes exactly: drafts that are scored, rewrites that several updates share."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from stopping import StopAt, Stopped

from promptgym.agents.prewrite import PRewrite
from promptgym.problem import Problem
from promptgym.testing import TransparentModel, transparent_task

SMALL: dict[str, Any] = {"steps": 4, "group": 4, "drafts": 2, "max_tokens": 6, "samples": 2}
WORDS = {"sentiment": 0.8, "exact": 0.6, "give": 0.6, "say": 0.5, "writer": 0.5, "the": -0.5}
DRAFT = "what is the opinion of the author ?"


def problem(**options: Any) -> Problem:
    model = options.pop("model", None) or TransparentModel(WORDS)
    return Problem(transparent_task(), model, budget=3000, initial_prompt=DRAFT, **options)


@pytest.mark.parametrize(
    "options",
    [
        {"memory": False, "errors": 1, "meta_prompt": "<rewrite> {prompt} {errors} <instruction>"},
        {"trainer": {"num_iterations": 2}},
        {"trainer": {"steps_per_generation": 2}, "algorithm": "rloo"},
        {"trainer": {"steps_per_generation": 3}, "micro_batch": 4, "steps": 5},
    ],
)
def test_a_run_stopped_anywhere_resumes_exactly(tmp_path: Path, options: dict[str, Any]) -> None:
    options = {**SMALL, "checkpoint_every": 1, **options}
    whole = PRewrite(**options)
    expected = whole.optimize(problem(), seed=3, checkpoint_dir=tmp_path / "whole")
    assert [row["step"] for row in whole.log] == list(range(1, options["steps"] + 1))
    for kind, count in (("policy", 2), ("policy", 3), ("policy", 4), ("scores", 3), ("scores", 4)):
        folder = tmp_path / f"{kind}{count}"
        with pytest.raises(Stopped):
            PRewrite(**options).optimize(
                problem(events=StopAt(kind, count, Stopped)), seed=3, checkpoint_dir=folder
            )
        torch.manual_seed(99)  # a new process starts anywhere
        second, model = PRewrite(**options), TransparentModel(WORDS)
        got = second.optimize(problem(model=model), seed=3, checkpoint_dir=folder, resume=True)
        assert (got.best, got.history) == (expected.best, expected.history)
        assert (got.policy, got.stats) == (expected.policy, expected.stats)
        assert got.spent["queries"] == expected.spent["queries"]
        assert model.calls < expected.spent["calls"], "what was scored is not asked again"
        weights = second.writer.model.state_dict()
        for name, tensor in whole.writer.model.state_dict().items():
            assert torch.equal(tensor, weights[name]), name
