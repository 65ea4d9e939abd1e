"""What reinforcement learning makes of the embedded rewriter: TRL's GRPO on a bundled task.

    python benchmarks/rewriter.py --seeds 3

The rewriter is shown the task's manual prompt and writes another; the reward is RLPrompt's gap on
the training split (`Problem`, embedded causal model). Training samples at a temperature of 2: at 1
the rewriter settles on the first word that pays. Before and after, 16 prompts are sampled at
temperature 1, the best by training reward is kept and measured on the test split, with the mean
over all sixteen; five draws.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from typing import Any

import numpy as np


def sampled(model: Any, tokenizer: Any, start: str, count: int, seed: int) -> list[str]:
    """Prompts a rewriter writes at temperature 1."""
    import torch

    ids = tokenizer([start] * count, return_tensors="pt")
    torch.manual_seed(seed)
    with torch.inference_mode():
        out = model.generate(**ids, do_sample=True, max_new_tokens=16)
    new = out[:, ids["input_ids"].shape[1] :]
    return list(tokenizer.batch_decode(new, skip_special_tokens=True))


def figures(model: Any, tokenizer: Any, problem: Any, task: Any, start: str) -> dict[str, Any]:
    """Best of sixteen by training reward, and all sixteen, on the test split."""
    from promptgym.evaluation import evaluate
    from promptgym.prompts import Prompt

    best, means, example = [], [], ""
    model.eval()
    for seed in range(5):
        prompts = [Prompt.of(text) for text in sampled(model, tokenizer, start, 16, seed)]
        top = int(problem.rewards(problem.score(prompts)).argmax())
        tested = np.asarray(evaluate(prompts, task, problem.model).mean)
        best.append(round(float(tested[top]), 3))
        means.append(float(tested.mean()))
        example = prompts[top].instruction
    return {"best_of_16": best, "mean": round(float(np.mean(means)), 3), "example": example}


def run(name: str, steps: int, seed: int, **options: float) -> dict[str, Any]:
    """Train on one task; return figures before and after."""
    import torch
    from datasets import Dataset
    from transformers import AutoModelForCausalLM, AutoTokenizer
    from trl import GRPOConfig, GRPOTrainer

    from promptgym.llms import load_model
    from promptgym.llms.tiny import REWRITE_TEMPLATE, weights_path
    from promptgym.problem import Problem
    from promptgym.prompts import Prompt
    from promptgym.tasks import load_task

    torch.set_num_threads(1)
    task = load_task(name)
    problem = Problem(task, load_model("tiny"))
    folder = weights_path("rewriter")
    tokenizer = AutoTokenizer.from_pretrained(folder, padding_side="left")
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
    start = REWRITE_TEMPLATE.format(prompt=problem.initial_prompt.instruction)
    before = figures(model, tokenizer, problem, task, start)
    spent = problem.ledger.queries

    def reward(completions: list[str], **_: Any) -> list[float]:
        prompts = [Prompt.of(text) for text in completions]
        return [float(r) for r in problem.rewards(problem.score(prompts))]

    began = time.monotonic()
    with tempfile.TemporaryDirectory() as out:
        GRPOTrainer(
            model=model,
            reward_funcs=reward,
            args=GRPOConfig(
                output_dir=out,
                max_steps=steps,
                per_device_train_batch_size=32,
                num_generations=16,
                max_completion_length=16,
                **options,
                seed=seed,
                use_cpu=True,
                bf16=False,
                report_to="none",
                save_strategy="no",
                logging_steps=steps,
                disable_tqdm=True,
            ),
            train_dataset=Dataset.from_dict({"prompt": [start] * 64}),
            processing_class=tokenizer,
        ).train()
    seconds = time.monotonic() - began
    prompts = (problem.ledger.queries - spent) // len(task.train)
    return {
        "task": name,
        "seed": seed,
        "prompts": prompts,
        "seconds": round(seconds),
        "before": before,
        "after": figures(model, tokenizer, problem, task, start),
    }


def main() -> None:
    """Parse the command line, train, print one JSON line a task."""
    from promptgym.tasks.world import WORLD_TASKS

    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    tasks = [name for name, row in WORLD_TASKS.items() if row.labels]
    parser.add_argument("--tasks", nargs="+", default=tasks)
    parser.add_argument("--steps", type=int, default=120)
    parser.add_argument("--seeds", type=int, default=1, help="how many, from 0")
    parser.add_argument("--rate", type=float, default=5e-4)
    parser.add_argument("--beta", type=float, default=0.0)
    parser.add_argument("--temperature", type=float, default=2.0)
    args = parser.parse_args()
    options = {
        "learning_rate": args.rate,
        "beta": args.beta,
        "temperature": args.temperature,
    }
    for seed in range(args.seeds):
        for name in args.tasks:
            print(json.dumps(run(name, args.steps, seed, **options)), flush=True)


if __name__ == "__main__":
    main()
