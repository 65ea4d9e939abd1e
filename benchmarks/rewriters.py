"""Does training a rewriter help? PRewrite and DPO beside the frozen rewriter at equal queries.

The frozen rewriter samples, and dev chooses, until the budget is spent: best of N, the control that
an audit of rewriting by reinforcement learning found as good as PPO. It is the reference of every
difference. Cells, command line and report are those of `benchmarks/learning.py`.

    python benchmarks/rewriters.py run --out runs/rewriters --jobs 2
    python benchmarks/rewriters.py report --out runs/rewriters
"""

from __future__ import annotations

from learning import Against, Methods, main

TASKS = ("review-author", "news-outcome")
FROZEN = ("frozen", "frozen, hot")
HOT = {"temperature": 2.0}

METHODS: Methods = {
    "random": ("random_tokens", {}),
    "frozen": ("prewrite:frozen", {}),
    "frozen, hot": ("prewrite:frozen", HOT),
    "prewrite": ("prewrite", {"temperature": 1.0}),
    "prewrite, hot": ("prewrite", HOT),
    **{f"dpo, {n} rounds": ("dpo_rewriter", {"rounds": n, "group": 960 // n}) for n in (1, 2, 3)},
    "dpo, 3 rounds, hot": ("dpo_rewriter", {"rounds": 3, "group": 320, **HOT}),
}
AGAINST: Against = {name: () if name in FROZEN else FROZEN for name in METHODS}


if __name__ == "__main__":
    main(__doc__, "runs/rewriters", METHODS, AGAINST, TASKS)
