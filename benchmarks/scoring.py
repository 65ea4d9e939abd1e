"""Scores a CPU-second: promptgym's scorer beside a plain loop, and beside the machine's limit.

    python benchmarks/scoring.py                      # the embedded models
    python benchmarks/scoring.py --quick              # the same in seconds
    python benchmarks/scoring.py --model hf:FOLDER    # any model of transformers
    python benchmarks/scoring.py --shape gpt2:4x256   # random weights of a shape
    python benchmarks/scoring.py --plot cost.png      # cost against examples and lengths

Both sides score the same prompts on the same examples. The plain loop is what one writes first, and
what RLPrompt's reward does: for each prompt, batches of 32 texts, `tokenizer(texts, padding=True)`,
the forward pass of the model as transformers loads it, softmax at the answer position, the columns
of the labels. Prompts
are new in every round (no answer is ever cached); the sides alternate, and the median over rounds
is shown. The largest difference of any log-probability is shown beside it: speed that changes a
score does not count.

The limit is the time of the bare matrix products (every weight of every layer for every token that
is not shared with a text scored before, the head at the answers) in batches of 512 tokens: what an
exact scorer needs if all else were free.
"""

from __future__ import annotations

import argparse
import statistics
import time
from typing import Any

import numpy as np
import torch
from shapes import build
from transformers import AutoModelForCausalLM, AutoModelForMaskedLM

from promptgym.llms import load_model
from promptgym.prompts import Prompt, Template
from promptgym.scoring import Scorer
from promptgym.tasks import Task, load_task
from promptgym.types import FloatArray

PLAIN_BATCH = 32
LIMIT_BATCH = 512
COLUMNS = (
    "model",
    "kind",
    "parameters",
    "plain loop, scores/CPU-s",
    "promptgym, first call",
    "promptgym, later calls",
    "ratio, median (range)",
    "share of the limit",
    "answers known, ms/call",
    "max difference, nats",
)


def plain_model(model: Any) -> Any:
    """Load a model as one does with transformers alone."""
    kind = AutoModelForMaskedLM if model.kind == "masked" else AutoModelForCausalLM
    return kind.from_pretrained(model.model.name_or_path, dtype=torch.float32).eval()


def plain_loop(
    net: Any, model: Any, scorer: Scorer, prompts: list[Prompt], task: Task
) -> FloatArray:
    """Score as one does with transformers alone, shape (P, E, L)."""
    out = []
    tokenizer = model.tokenizer
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


class Limit:
    """The bare matrix products that a round of scores needs.

    Attributes:
        seen: beginnings of texts computed so far; a causal model need not compute them again.
    """

    def __init__(self, model: Any) -> None:
        """Collect the weights."""
        self.model = model
        head = model.model.get_output_embeddings().weight
        tables = {id(m.weight) for m in model.model.modules() if isinstance(m, torch.nn.Embedding)}
        self.layers = [
            p.T if type(m).__name__ == "Linear" else p
            for m in model.model.modules()
            if type(m).__name__ in ("Linear", "Conv1D")
            for p in [m.weight]
            if id(p) not in tables and p is not head
        ]
        self.head = head.T
        self.seen: set[tuple[int, ...]] = set()

    def seconds(self, texts: list[str]) -> float:
        """Return the CPU time of the products for these texts."""
        rows = self.model.encode(texts)
        tokens = sum(map(len, rows))
        if self.model.kind == "causal":
            new = {tuple(row[:n]) for row in rows for n in range(1, len(row) + 1)} - self.seen
            self.seen |= new
            tokens = len(new)
        inputs = {w.shape[0]: torch.randn(LIMIT_BATCH, w.shape[0]).to(w) for w in self.layers}
        start = time.process_time()
        with torch.inference_mode():
            for weight in self.layers:
                for _ in range(tokens // LIMIT_BATCH):
                    inputs[weight.shape[0]] @ weight
                inputs[weight.shape[0]][: tokens % LIMIT_BATCH] @ weight
            for n in range(0, len(rows), LIMIT_BATCH):
                inputs[self.head.shape[0]][: len(rows) - n] @ self.head
        return time.process_time() - start


def words_for(model: Any, task: Task) -> list[str]:
    """Return words that are one token behind a space: the task's own, or the tokenizer's."""
    if task.vocabulary:
        return list(task.vocabulary)
    found = [model.tokenizer.decode([i]) for i in range(len(model.tokenizer))]
    words = [word[1:] for word in found if word[:1] == " " and word[1:].isalpha()]
    return words or [word for word in found if word.isalpha()]


def compare(spec: str, args: argparse.Namespace, label: str = "") -> list[str]:
    """Return one row of the table."""
    task = load_task(args.task, data_dir=args.data_dir) if args.data_dir else load_task(args.task)
    model: Any = load_model(spec, device="cpu", **dict(args.option))
    chosen = task.masked_template if model.kind == "masked" else task.template
    if args.template is not None:
        chosen = Template(args.template)
    assert chosen is not None
    scorer, limit, net = Scorer(task, model, chosen), Limit(model), plain_model(model)
    vocabulary = words_for(model, task)
    rng = np.random.default_rng(0)
    rates: dict[str, list[float]] = {"plain": [], "promptgym": [], "again": [], "share": []}
    difference = first = 0.0
    pairs = args.prompts * len(task.train)
    for number in range(args.rounds + 1):
        prompts = [
            Prompt(" ".join(rng.choice(vocabulary, args.words))) for _ in range(args.prompts)
        ]
        texts = [chosen.render(p, e, mask=model.mask_token) for p in prompts for e in task.train]
        least = limit.seconds(texts)
        start = time.process_time()
        want = plain_loop(net, model, scorer, prompts, task)
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
        rates["share"].append(least / (end - middle))
    plain, ours = statistics.median(rates["plain"]), statistics.median(rates["promptgym"])
    ratios = [b / a for a, b in zip(rates["plain"], rates["promptgym"], strict=True)]
    name = label or (spec if len(spec) < 40 else f"...{spec[-37:]}")
    return [
        name,
        model.kind,
        f"{sum(p.numel() for p in model.model.parameters()) / 1e6:.2f} M",
        f"{plain:,.0f}",
        f"{first:,.0f}",
        f"{ours:,.0f}",
        f"{statistics.median(ratios):.1f}x ({min(ratios):.1f}-{max(ratios):.1f})",
        f"{statistics.median(rates['share']):.2f}",
        f"{statistics.median(rates['again']):.2f}",
        f"{difference:.1e}",
    ]


def option(text: str) -> tuple[str, Any]:
    """Read NAME=VALUE, an option of `load_model`."""
    name, _, value = text.partition("=")
    for kind in (int, float):
        try:
            return name, kind(value)
        except ValueError:
            continue
    return name, {"true": True, "false": False}.get(value.lower(), value)


def main() -> None:
    """Parse arguments and print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", action="append", default=[], help="spec; may be repeated")
    parser.add_argument("--shape", action="append", default=[], help="see shapes.py; repeatable")
    parser.add_argument("--tokenizer", help="folder with the tokenizer of --shape")
    parser.add_argument("--option", action="append", default=[], type=option, help="NAME=VALUE")
    parser.add_argument("--template", help="template instead of the task's own")
    parser.add_argument("--task", default="author")
    parser.add_argument("--data-dir", help="folder of the task's files (sst2, agnews ...)")
    parser.add_argument("--prompts", type=int, default=16, help="prompts a round")
    parser.add_argument("--words", type=int, default=8, help="words a prompt")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--quick", action="store_true", help="4 prompts, 2 rounds")
    parser.add_argument("--plot", help="write plots of the cost of a prompt to this file instead")
    args = parser.parse_args()
    torch.set_num_threads(1)
    if args.quick:
        args.prompts, args.rounds = 4, 2
    if args.plot:
        from scaling import draw

        draw(args.plot, args.shape or ["gpt2:2x64", "roberta:2x64"], quick=args.quick)
        return
    print(f"{args.prompts} prompts of {args.words} words x the training examples of {args.task!r}")
    print("| " + " | ".join(COLUMNS) + " |")
    print("|" + " --- |" * len(COLUMNS))
    models = args.model or ([] if args.shape else ["tiny-masked", "tiny"])
    for spec, label in [(m, "") for m in models] + [(None, s) for s in args.shape]:
        row = compare(spec or build(label, args.tokenizer), args, label)
        print("| " + " | ".join(row) + " |", flush=True)


if __name__ == "__main__":
    main()
