"""Problems for the environment tests: all transparent, each with something of its own."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from promptgym.evaluation.table_builder import build_table
from promptgym.llms import LabelLogprobs
from promptgym.problem import Problem, make_problem
from promptgym.prompts import Example, Prompt, Template
from promptgym.tasks.prompt_table import PromptTable
from promptgym.testing import TransparentModel, transparent_task

SECTIONS = (  # of an environment's page
    "Description",
    "Action Space",
    "Observation Space",
    "Starting State",
    "Rewards",
    "Episode End",
    "Information",
    "Arguments",
    "References",
    "Version History",
)
SIZE = 8  # examples a prompt is asked about
IDS = (
    "InstanceRewrite-v0",
    "PromptEdit-v0",
    "PromptRewrite-v0",
    "PromptTable-v0",
    "PromptToken-v0",
)
VARIANTS: dict[str, tuple[str, dict[str, Any]]] = {
    # name: (id, the environment's own arguments); "pool", "generation" etc. choose the problem
    "edit": ("PromptEdit-v0", {}),
    "edit-swap-sparse": ("PromptEdit-v0", {"swap": True, "shaping": "sparse", "horizon": 5}),
    "edit-absolute-tokens": ("PromptEdit-v0", {"shaping": "absolute", "level": "token"}),
    "edit-archive": ("PromptEdit-v0", {"archive": 3, "start": "manual", "horizon": 3}),
    "edit-pool": ("PromptEdit-v0", {"horizon": 12}),
    "edit-generation": ("PromptEdit-v0", {}),
    "edit-short": ("PromptEdit-v0", {"max_words": 2, "min_words": 0}),
    "token": ("PromptToken-v0", {}),
    "token-stop-fluent": ("PromptToken-v0", {"early_stop": True, "fluency": 4, "length": 3}),
    "token-scaled": ("PromptToken-v0", {"reward_scale": 1.0, "shaping": "absolute"}),
    "table": ("PromptTable-v0", {}),
    "table-random-sparse": ("PromptTable-v0", {"start": "random", "shaping": "sparse"}),
    "table-absolute": (
        "PromptTable-v0",
        {"shaping": "absolute", "reward_scale": None, "horizon": 3},
    ),
    "rewrite": ("PromptRewrite-v0", {}),
    "rewrite-turns": ("PromptRewrite-v0", {"turns": 3, "start": "manual"}),
    "rewrite-turns-examples": ("PromptRewrite-v0", {"turns": 2, "examples": 3, "errors": 5}),
    "rewrite-pool-sparse": ("PromptRewrite-v0", {"turns": 2, "shaping": "sparse", "errors": 0}),
    "rewrite-generation": ("PromptRewrite-v0", {"turns": 2, "shaping": "absolute"}),
    "instancerewrite": ("InstanceRewrite-v0", {}),
    "instancerewrite-turns": ("InstanceRewrite-v0", {"turns": 3}),
}
TEXTS = tuple(name for name in VARIANTS if "rewrite" in name)  # actions are texts


TABLE = "table:" + str(Path(__file__).parent / "data" / "small.npz")  # that of `small_table`


def small_table() -> PromptTable:
    """Return a table of a transparent model: its best prompts hold alpha, beta and gamma."""
    words = ("alpha", "beta", "gamma", "anti", "one")
    task = transparent_task(SIZE)
    return build_table(task, TransparentModel(), words, name="small", slots=3)


def problem_for(variant: str, **options: Any) -> Problem:
    """Return a new problem for a variant."""
    if "table" in variant:
        return make_problem(TABLE, TABLE, **options)
    task = transparent_task(SIZE)
    task = replace(task, manual_prompts=(Prompt("one two"), Prompt("three unheard of")))
    if "pool" in variant:
        pool = tuple(Example(f"pool{i} plus", "plus") for i in range(3))
        template = Template("{demonstrations}{prompt} {input}")
        task = replace(task, pool=pool, template=template)
    if "generation" in variant:
        task = replace(task, labels=None, verbalizers={})
        options = {"reward": "accuracy", **options}
    return Problem(task, TransparentModel(), **options)


class FailingModel(TransparentModel):
    """Fails on every text with a given word in it."""

    word = "anti"

    def label_logprobs(self, texts: Any, labels: Any) -> LabelLogprobs:
        """Answer NaN where the word is."""
        good = super().label_logprobs(texts, labels)
        bad = {i: "no answer" for i, text in enumerate(texts) if self.word in text.split()}
        good.logprobs[list(bad)] = np.nan
        return LabelLogprobs(good.logprobs, good.tokens, bad)
