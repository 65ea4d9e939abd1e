"""Scores a CPU-second: promptgym's scorer beside a plain loop over transformers.

    python benchmarks/scoring.py                      # the embedded models
    python benchmarks/scoring.py --model hf:FOLDER    # any model of transformers

Both sides score the same prompts on the same examples. The plain loop is what one writes first: for
each prompt, batches of 32 texts, `tokenizer(texts, padding=True)`, the forward pass of the model,
softmax at the answer position, the columns of the labels. Prompts are new in every round (no answer
is ever cached); the sides alternate, and the median over rounds is shown. The largest difference of
any log-probability is shown beside it: speed that changes a score does not count.
"""

from __future__ import annotations

import argparse
import statistics
import time
from typing import Any

import numpy as np
import torch

from promptgym.llms import load_model
from promptgym.problem import words_of
from promptgym.prompts import Prompt, Template
from promptgym.scoring import Scorer
from promptgym.tasks import Task, load_task
from promptgym.types import FloatArray

PLAIN_BATCH = 32


def plain_loop(model: Any, scorer: Scorer, prompts: list[Prompt], task: Task) -> FloatArray:
    """Score as one does with transformers alone, shape (P, E, L)."""
    out = []
    tokenizer, net = model.tokenizer, model.model
    if tokenizer.pad_token is None:
        tokenizer.pad_token = tokenizer.eos_token
    tokenizer.padding_side = "right"
    if model.kind == "masked":
        columns = torch.from_numpy(model.label_ids(scorer.words, " "))
    else:
        found = model.label_tokens(scorer.words)
        if found.longest > 1:
            raise SystemExit(f"the plain loop scores labels of one token; {scorer.words} have more")
        columns = torch.tensor([tokens[0] for tokens in found.ids])
    for prompt in prompts:
        texts = [
            scorer.template.render(prompt, example, mask=model.mask_token) for example in task.train
        ]
        for start in range(0, len(texts), PLAIN_BATCH):
            batch = tokenizer(texts[start : start + PLAIN_BATCH], padding=True, return_tensors="pt")
            batch.pop("token_type_ids", None)
            with torch.no_grad():
                logits = net(**batch).logits
            if model.kind == "masked":
                at = (batch["input_ids"] == model.mask_id).int().argmax(1)
            else:
                at = batch["attention_mask"].sum(1) - 1
            found = logits[torch.arange(len(at)), at].log_softmax(-1)[:, columns]
            out.append(found.double().numpy())
    return np.concatenate(out).reshape(len(prompts), len(task.train), -1)


def compare(spec: str, template: str | None, args: argparse.Namespace) -> list[str]:
    """Return one row of the table."""
    task = load_task(args.task, data_dir=args.data_dir) if args.data_dir else load_task(args.task)
    vocabulary = task.vocabulary or words_of(task)
    model: Any = load_model(spec, device="cpu")
    chosen = task.masked_template if model.kind == "masked" else task.template
    if template is not None:
        chosen = Template(template)
    assert chosen is not None
    scorer = Scorer(task, model, chosen)
    rng = np.random.default_rng(0)
    rates: dict[str, list[float]] = {"plain": [], "promptgym": [], "again": []}
    difference = first = 0.0
    pairs = args.prompts * len(task.train)
    for number in range(args.rounds + 1):
        prompts = [
            Prompt(" ".join(rng.choice(vocabulary, args.words))) for _ in range(args.prompts)
        ]
        start = time.process_time()
        want = plain_loop(model, scorer, prompts, task)
        middle = time.process_time()
        scores = scorer.score(prompts, task.train)
        end = time.process_time()
        scorer.score(prompts, task.train)
        last = time.process_time()
        assert scores.label_logprobs is not None
        difference = max(difference, float(np.abs(scores.label_logprobs - want).max()))
        if not number:  # warms up both sides; the examples' key/values are computed here
            first = pairs / (end - middle)
            continue
        rates["plain"].append(pairs / (middle - start))
        rates["promptgym"].append(pairs / (end - middle))
        rates["again"].append((last - end) * 1e3)
    plain, ours = statistics.median(rates["plain"]), statistics.median(rates["promptgym"])
    ratios = [b / a for a, b in zip(rates["plain"], rates["promptgym"], strict=True)]
    return [
        spec if len(spec) < 40 else f"...{spec[-37:]}",
        model.kind,
        f"{sum(p.numel() for p in model.model.parameters()) / 1e6:.2f} M",
        f"{plain:,.0f}",
        f"{first:,.0f}",
        f"{ours:,.0f}",
        f"{statistics.median(ratios):.1f}x ({min(ratios):.1f}-{max(ratios):.1f})",
        f"{statistics.median(rates['again']):.2f}",
        f"{difference:.1e}",
    ]


def main() -> None:
    """Parse arguments and print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", action="append", help="spec of a model; may be repeated")
    parser.add_argument("--template", help="template instead of the task's own")
    parser.add_argument("--task", default="author")
    parser.add_argument("--data-dir", help="folder of the task's files (sst2, agnews ...)")
    parser.add_argument("--prompts", type=int, default=16, help="prompts a round")
    parser.add_argument("--words", type=int, default=8, help="words a prompt")
    parser.add_argument("--rounds", type=int, default=7)
    args = parser.parse_args()
    torch.set_num_threads(1)
    columns = [
        "model",
        "kind",
        "parameters",
        "plain loop, scores/CPU-s",
        "promptgym, first call",
        "promptgym, later calls",
        "ratio, median (range)",
        "answers known, ms/call",
        "max difference, nats",
    ]
    print(f"{args.prompts} prompts of {args.words} words x the training examples of {args.task!r}")
    print("| " + " | ".join(columns) + " |")
    print("|" + " --- |" * len(columns))
    for spec in args.model or ["tiny-masked", "tiny"]:
        print("| " + " | ".join(compare(spec, args.template, args)) + " |", flush=True)


if __name__ == "__main__":
    main()
