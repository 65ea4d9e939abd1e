"""What the processes of test_prewrite.py do: one training whose drafts must be scored.

    accelerate launch ... launched_work.py FOLDER

Each process leaves in FOLDER how many calls its own target model got.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

from promptgym.agents.prewrite import PRewrite
from promptgym.problem import Problem
from promptgym.testing import TransparentModel, transparent_task

model = TransparentModel({"sentiment": 0.8, "the": -0.5})
problem = Problem(transparent_task(), model, budget=3000, initial_prompt="the opinion")
agent = PRewrite(
    steps=1,
    group=4,
    drafts=2,
    max_tokens=6,
    errors=1,
    meta_prompt="<rewrite> {prompt} {errors} <instruction>",
)
agent.learn(problem, seed=0)
shown = agent._about["text"]
assert "right:" in shown, shown
Path(sys.argv[1], os.environ["RANK"]).write_text(f"{model.calls} {shown}", encoding="utf-8")
