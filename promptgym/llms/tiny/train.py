"""Train an embedded model: `python -m promptgym.llms.tiny.train causal --out DIR`.

Everything is driven by step counts and seeds, so the same command gives the same run; `--resume`
goes on from the last checkpoint with the same stream of documents. The run folder holds log.jsonl
(one line every hundred steps), checkpoint.pt and, at the end, the model's own folder `model/`.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import random
import time
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch.nn import functional

from promptgym.llms.tiny.batches import Batch, Plan, Stream
from promptgym.llms.tiny.documents import (
    ANSWER_WEIGHT,
    Document,
    Recipe,
    write_document,
    write_instruction,
    write_reading,
)
from promptgym.llms.tiny.rewriting import write_rewriting
from promptgym.llms.tiny.shapes import KINDS, both_ways, fresh_model
from promptgym.llms.tiny.tokenizer import build_tokenizer


@dataclass(frozen=True, slots=True)
class Settings:
    """What decides a run, apart from where it runs.

    Attributes:
        kind: "causal", "masked" or "rewriter".
        steps: optimizer steps.
        documents: documents a step.
        learning_rate: its peak; warm-up over `warmup` steps, then a cosine to 3 %.
        simple_until: part of a first stage over which the share of simple inputs falls from 1 to
            0.02.
        easy_until, real_from: parts of a third stage until which single words decide and after
            which the world is as it is.
    """

    kind: str
    steps: int
    documents: int = 16
    learning_rate: float = 4e-3
    warmup: int = 100
    simple_until: float = 0.15
    easy_until: float = 0.2
    real_from: float = 0.5
    seed: int = 0
    stage: int = 1


DEFAULTS = {
    ("causal", 1): Settings("causal", 2000, documents=40),
    ("causal", 2): Settings("causal", 1500, documents=40, learning_rate=3e-3, stage=2),
    ("causal", 3): Settings("causal", 6000, learning_rate=2e-3, stage=3),
    ("causal", 4): Settings("causal", 7000, learning_rate=2e-3, stage=4),
    ("causal", 5): Settings("causal", 5000, learning_rate=2e-3, stage=5),
    ("masked", 1): Settings("masked", 5000, documents=48, learning_rate=3e-3),
    ("rewriter", 1): Settings("rewriter", 800, documents=48, learning_rate=1e-3),
}
FROM_CAUSAL = ("masked", "rewriter")  # start from the causal model's weights


def write_for(settings: Settings, rng: random.Random, progress: float) -> Document:
    """One document of a run, given how far the run is."""
    if settings.kind == "rewriter":
        return write_rewriting(rng)
    if settings.kind == "causal" and settings.stage < 3:
        first = settings.stage == 1
        simple = max(0.02, 1.0 - progress / settings.simple_until) if first else 0.0
        return write_reading(rng, simple, not first)
    if settings.kind == "causal":
        kind = rng.random()
        if kind < 0.05:
            return write_instruction(rng)
        if settings.stage == 3 and kind < 0.75 * (
            1.0 - progress / settings.real_from
        ):  # lest it forgets
            return write_reading(rng, 0.0, True)
    return write_document(rng, recipe_at(settings, progress))


def recipe_at(settings: Settings, progress: float) -> Recipe:
    """What prompts do, after `write_reading` has taught to read (the third stage and the fourth).

    First an easy world, in which single words of manner decide, with sharpened answers; then,
    gradually, the world as it is, where only many of them do; at last mostly prompts as searches
    try them. The masked model starts from a causal one that knows all this.
    """
    start, end = settings.easy_until, settings.real_from
    third = settings.kind == "causal" and settings.stage == 3
    left = min(1.0, max(0.0, (end - progress) / (end - start))) if third else 0.0
    masked = settings.kind == "masked"
    return Recipe(
        masked=masked,
        questions=1 if masked else 4,
        branches=6 if settings.stage == 5 else 4,
        shown=0.12,
        clean=0.02 + 0.2 * left,
        sharp=1.0 + left,
        ease=0.85 * left,
        enough=2.2 if left else None,
        manners=0.25 + 0.35 * left,
        climbs=0.5 * (1.0 - left) if third else 0.7,
        hard=0.45,
        twins=0.0 if third else 0.15,
        shares=(0.50, 0.32, 0.18),
    )


class Optimizer:
    """Muon (Jordan 2024) for the blocks' matrices, AdamW for embeddings, norms and biases."""

    def __init__(self, model: torch.nn.Module, settings: Settings) -> None:
        """Split the parameters between the two."""
        matrices: list[torch.nn.Parameter] = []
        others: list[torch.nn.Parameter] = []
        for name, value in model.named_parameters():
            inner = value.ndim == 2 and "embed" not in name and "lm_head" not in name
            (matrices if inner else others).append(value)
        rate = settings.learning_rate
        self.parts = [
            torch.optim.Muon(
                matrices, lr=rate, weight_decay=0.02, momentum=0.95, adjust_lr_fn="match_rms_adamw"
            ),
            torch.optim.AdamW(others, lr=rate, weight_decay=0.0, betas=(0.9, 0.98)),
        ]
        self._settings = settings

    def step(self, number: int) -> None:
        """One step at the scheduled learning rate; clears gradients."""
        s = self._settings
        warm = min(1.0, (number + 1) / s.warmup)
        rate = (
            s.learning_rate
            * warm
            * (0.03 + 0.97 * 0.5 * (1.0 + math.cos(math.pi * number / s.steps)))
        )
        for part in self.parts:
            for group in part.param_groups:
                group["lr"] = rate
            part.step()
            part.zero_grad()


def losses(model: Any, batch: Batch, device: torch.device) -> tuple[torch.Tensor, float, float]:
    """Weighted cross-entropy to the target distributions.

    Returns:
        The loss to minimize; and over answers the excess over the targets' own entropy (the KL
        divergence, nats) and the share whose most likely token is the target's.
    """
    ids, positions = (torch.from_numpy(x).to(device) for x in (batch.ids, batch.positions))
    allowed = torch.from_numpy(batch.allowed).to(device)
    places, choices = (torch.from_numpy(x).to(device) for x in (batch.places, batch.choices))
    shares, weights = (torch.from_numpy(x).to(device) for x in (batch.shares, batch.weights))
    hidden = model.base_model(
        input_ids=ids, position_ids=positions, attention_mask=allowed
    ).last_hidden_state
    logits = model.lm_head(hidden.flatten(0, 1)[places]).float()
    logprobs = functional.log_softmax(logits, dim=-1)
    each = -(shares * logprobs.gather(1, choices)).sum(dim=1)
    loss = (each * weights).sum() / weights.sum()
    with torch.no_grad():
        answers = weights == ANSWER_WEIGHT
        entropy = -(shares * shares.clamp_min(1e-9).log()).sum(dim=1)
        top = choices.gather(1, shares.argmax(dim=1, keepdim=True)).squeeze(1)
        count = answers.sum().clamp_min(1)
        right = ((logprobs.argmax(dim=1) == top) & answers).sum() / count
        excess = ((each - entropy) * answers).sum() / count
    return loss, float(excess), float(right)


def save_checkpoint(
    path: Path, model: torch.nn.Module, optimizer: Optimizer, step: int, settings: Settings
) -> None:
    """Write a checkpoint whole or not at all."""
    state = {
        "model": model.state_dict(),
        "optimizer": [part.state_dict() for part in optimizer.parts],
        "step": step,
        "settings": asdict(settings),
    }
    temporary = path.with_suffix(".tmp")
    torch.save(state, temporary)
    os.replace(temporary, path)


def load_checkpoint(
    path: Path, model: torch.nn.Module, optimizer: Optimizer, settings: Settings
) -> int:
    """Load a checkpoint of the same settings; returns the number of steps done.

    Raises:
        ValueError: if the checkpoint was made with other settings.
    """
    state = torch.load(path, weights_only=True, map_location="cpu")
    if state["settings"] != asdict(settings):
        raise ValueError(
            f"{path} was made with {state['settings']}, this run has {asdict(settings)}"
        )
    model.load_state_dict(state["model"])
    for part, saved in zip(optimizer.parts, state["optimizer"], strict=True):
        part.load_state_dict(saved)
    return int(state["step"])


def export(model: Any, kind: str, folder: Path) -> None:
    """Write a folder that plain `transformers` loads, weights as float16."""
    import copy

    half = copy.deepcopy(model).to("cpu").half()
    half.save_pretrained(folder)
    build_tokenizer(kind, folder)


def train(
    settings: Settings,
    out: Path,
    *,
    resume: bool = False,
    device: str = "auto",
    init: Path | None = None,
    stop: int | None = None,
    every: int = 100,
    shape: dict[str, int] | None = None,
) -> Any:
    """Run the training, or go on with it.

    Args:
        settings: the run.
        out: its folder.
        resume: go on from `out/checkpoint.pt` if there is one.
        device: "cpu", "cuda", or "auto" for a GPU if there is one.
        init: folder of a model to start from instead of random weights.
        stop: leave after this many steps, with a checkpoint, as if interrupted.
        every: steps between log lines; a checkpoint every fifth.
        shape: other sizes than `fresh_model`'s.

    Returns:
        The trained model.
    """
    from transformers import AutoModelForCausalLM

    where = torch.device(
        "cuda" if device == "auto" and torch.cuda.is_available() else device.replace("auto", "cpu")
    )
    out.mkdir(parents=True, exist_ok=True)
    torch.manual_seed(settings.seed)
    if init is None:
        model: Any = fresh_model(settings.kind, **(shape or {}))
    else:
        model = AutoModelForCausalLM.from_pretrained(init, dtype=torch.float32)
        if settings.kind == "masked":
            model = both_ways(model)
    model.to(where).train()
    optimizer = Optimizer(model, settings)
    checkpoint, done = out / "checkpoint.pt", 0
    if resume and checkpoint.is_file():
        done = load_checkpoint(checkpoint, model, optimizer, settings)
    plan = Plan(
        write=partial(write_for, settings),
        documents=settings.documents,
        seed=settings.seed,
        steps=settings.steps,
        causal=settings.kind != "masked",
    )
    stream = Stream(plan)
    last = min(settings.steps, stop or settings.steps)
    totals, started = [0.0] * 4, time.perf_counter()
    for step in range(done, last):
        batch = stream.batch(step)
        loss, excess, right = losses(model, batch, where)
        loss.backward()  # type: ignore[no-untyped-call]
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step(step)
        figures = (float(loss.detach()), excess, right, batch.ids.size)
        totals = [a + b for a, b in zip(totals, figures, strict=True)]
        if (step + 1) % every == 0:
            seconds = time.perf_counter() - started
            _log(out, step + 1, [total / every for total in totals], seconds)
            totals, started = [0.0] * 4, time.perf_counter()
        if (step + 1) % (5 * every) == 0 or step + 1 == last:
            save_checkpoint(checkpoint, model, optimizer, step + 1, settings)
    stream.close()
    if last == settings.steps:
        export(model, settings.kind, out / "model")
    return model


def _log(out: Path, step: int, means: list[float], seconds: float) -> None:
    """Append one line to the log and print it."""
    line = {
        "step": step,
        "loss": round(means[0], 4),
        "answer_excess_nats": round(means[1], 4),
        "answer_agreement": round(means[2], 4),
        "tokens_per_step": round(means[3]),
        "seconds": round(seconds, 1),
    }
    with (out / "log.jsonl").open("a", encoding="utf-8") as log:
        log.write(json.dumps(line) + "\n")
    print(json.dumps(line), flush=True)


def main() -> None:
    """Parse the command line and train."""
    parser = argparse.ArgumentParser(description="Train an embedded model.")
    parser.add_argument("kind", choices=KINDS, help="which of the three models")
    parser.add_argument(
        "--out", type=Path, required=True, help="folder for model/, log.jsonl and checkpoint.pt"
    )
    parser.add_argument(
        "--resume", action="store_true", help="go on from the checkpoint in --out, if there is one"
    )
    parser.add_argument("--seed", type=int, default=0, help="of weights and documents; default: 0")
    parser.add_argument("--steps", type=int, help="optimizer steps; default: the stage's own")
    parser.add_argument(
        "--stage",
        type=int,
        choices=(1, 2, 3, 4, 5),
        default=1,
        help="of the causal model's training; default: 1. Later ones need --init",
    )
    parser.add_argument(
        "--device",
        choices=("auto", "cpu", "cuda"),
        default="auto",
        help="where to train; default: auto, a GPU if there is one",
    )
    parser.add_argument("--threads", type=int, default=1, help="CPU threads of torch; default: 1")
    parser.add_argument(
        "--init",
        type=Path,
        help="causal model to start from; default: for masked and rewriter the package's own",
    )
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    if (args.kind, args.stage) not in DEFAULTS:
        parser.error(f"the {args.kind} model has no stage {args.stage}")
    default = DEFAULTS[args.kind, args.stage]
    values = asdict(default) | {"seed": args.seed, "steps": args.steps or default.steps}
    init = args.init
    if args.kind in FROM_CAUSAL and init is None:
        from promptgym.llms.tiny import weights_path

        init = weights_path("causal")
    if args.stage > 1 and init is None:
        parser.error(f"stage {args.stage} goes on from the stage before it: give --init FOLDER")
    train(Settings(**values), args.out, resume=args.resume, device=args.device, init=init)


if __name__ == "__main__":
    main()
