"""Measure the landscapes a model gives the bundled tasks.

`python -m promptgym.llms.tiny.measure --model FOLDER --out FILE`.

Figures per task: the empty, manual and best known prompts; uniformly random prompts; a staircase
over the number of helpful words; single edits of the manual prompt; keep-the-best hill climbers.
"Reward" is RLPrompt's piecewise gap reward (Deng et al. 2022, section 3), which lies between -180
and 200; "margin" is the mean log-probability of the gold label among the labels.
"""

from __future__ import annotations

import argparse
import json
import random
from collections.abc import Callable, Sequence
from functools import cache, partial
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from promptgym.tasks.world import WORLD_TASKS, WorldTask, cues, generate

FloatArray = npt.NDArray[np.float64]
Words = list[str]
Score = Callable[[Sequence[Words]], FloatArray]
SPLITS = {"test": 500, "dev": 64, "train": 64}  # in the order in which bundled tasks draw them
RANGE = 380.0  # of the gap reward
LONGEST = 14  # words of a prompt


@cache
def split_examples(name: str) -> dict[str, list[tuple[str, str]]]:
    """The bundled task's own splits."""
    out: dict[str, list[tuple[str, str]]] = {}
    seen: set[str] = set()
    for place, (split, size) in enumerate(SPLITS.items()):
        out[split] = generate(name, size, place, frozenset(seen))
        seen |= {text for text, _ in out[split]}
    return out


class Split:
    """A model's view of one split of a task."""

    def __init__(self, score: Score, targets: Sequence[int]) -> None:
        """Keep the scoring function and the gold labels' indices."""
        self._score, self._targets = score, np.asarray(targets)

    def __call__(self, prompts: Sequence[Words]) -> tuple[FloatArray, FloatArray, FloatArray]:
        """Accuracy, gap reward and margin of each prompt, all of shape (P,)."""
        share = np.exp(self._score(prompts))
        rows = np.arange(len(self._targets))
        gold = share[:, rows, self._targets]
        margin = np.log(np.maximum(gold / share.sum(axis=2), 1e-9)).mean(axis=1)
        share[:, rows, self._targets] = -1.0
        gap = gold - share.max(axis=2)
        reward = np.where(gap > 0, 200.0 * gap, 180.0 * gap).mean(axis=1)
        return (gap > 0).mean(axis=1), reward, margin


def edited(rng: random.Random, prompt: Words, words: Sequence[str]) -> Words:
    """The prompt with one word inserted, replaced or deleted at random."""
    kind, out = rng.random(), list(prompt)
    if not out or (kind < 1 / 3 and len(out) < LONGEST):
        out.insert(rng.randrange(len(out) + 1), rng.choice(words))
    elif kind < 2 / 3:
        out[rng.randrange(len(out))] = rng.choice(words)
    else:
        del out[rng.randrange(len(out))]
    return out


OBJECTIVES = {"climber": 1, "climber_of_margin": 2}  # name in the figures: what of a split's view


def climb(
    split: Split,
    start: Words,
    words: Sequence[str],
    seed: int,
    objective: int = 1,
    prompts: int = 2000,
) -> list[tuple[int, Words]]:
    """Keep-the-best hill climbing, 16 single edits a step.

    Args:
        split: what scores prompts.
        start: the first prompt.
        words: that edits may put in.
        seed: of the edits.
        objective: 1 climbs the gap reward, 2 the margin.
        prompts: how many are asked.

    Returns:
        Every improvement with the number of prompts it took.
    """
    rng = random.Random(seed)
    best, value = start, split([start])[objective][0]
    path = [(1, best)]
    for step in range(prompts // 16):
        tried = [edited(rng, best, words) for _ in range(16)]
        values = split(tried)[objective]
        top = int(values.argmax())
        if values[top] > value:
            best, value = tried[top], values[top]
            path.append((16 * (step + 1), best))
    return path


def helpful(rng: random.Random, tier: str, count: int) -> Words:
    """Helpful words of a task: careful ones, for the hard tier alternating with words of scope."""
    groups = (tuple(cues.CARE), tuple(cues.SCOPE)) if tier == "hard" else (tuple(cues.CARE),)
    start = rng.randrange(len(groups))
    return [rng.choice(groups[(start + i) % len(groups)]) for i in range(count)]


def search_best(split: Split, task: WorldTask, seed: int = 0, rounds: int = 40) -> Words:
    """The best of many random mixtures of the generator's own helpful words."""
    rng = random.Random(seed)
    asked = [
        word
        for word, strength in cues.QUESTION_CUES[task.name.partition("-")[2]].items()
        if strength >= 2
    ]
    tries = [[rng.choice(asked), *helpful(rng, task.tier, 4)] for _ in range(16 * rounds)]
    return tries[int(split(tries)[1].argmax())]


def _figures(values: FloatArray) -> list[float]:
    return [round(float(v), 3) for v in values]


def landscape(
    task: WorldTask, make: Callable[[str], Split], climbs: int, *, quick: bool = False
) -> dict[str, Any]:
    """All figures of one classification task.

    Args:
        task: the task.
        make: makes the model's view of a split.
        climbs: seeds of the hill climber, 0 to leave it out.
        quick: a tenth of the random prompts and edits.
    """
    rng = random.Random(0)
    train, dev, test = (make(split) for split in ("train", "dev", "test"))
    manual = task.manual_prompt.split()
    share = 10 if quick else 1
    out: dict[str, Any] = {"tier": task.tier}
    known = task.best_known_prompt.split()
    found = search_best(train, task, rounds=40 // share)
    for name, prompt in (
        ("empty", []),
        ("manual", manual),
        ("best_known", known),
        ("best_found", found),
    ):
        out[name] = {"prompt": " ".join(prompt), "dev": _figures(dev([prompt])[0])[0]}
        out[name]["test"] = _figures(test([prompt])[0])[0]
    drawn = [
        [rng.choice(task.vocabulary) for _ in range(rng.randint(1, 8))]
        for _ in range(2000 // share)
    ]
    accuracy, reward, _ = dev(drawn)
    top = drawn[int(np.lexsort((reward, accuracy))[-1])]
    out["random"] = {"prompts": len(drawn), "best_dev": round(float(accuracy.max()), 3)}
    out["random"] |= {"its_test": _figures(test([top])[0])[0], "prompt": " ".join(top)}
    for name, base in (
        ("staircase_manual", manual),
        ("staircase_word", [task.name.partition("-")[2]]),
    ):
        levels = [[base + helpful(rng, task.tier, n) for _ in range(8)] for n in range(8)]
        out[name] = [round(float(test(level)[0].mean()), 3) for level in levels]
    before = [float(v[0]) for v in train([manual])]
    edits = [edited(rng, manual, task.vocabulary) for _ in range(600 // share)]
    accuracy, reward, _ = train(edits)
    out["edits"] = {
        "reward_changed": round(float((abs(reward - before[1]) > 0.005 * RANGE).mean()), 3),
        "accuracy_changed": round(float((accuracy != before[0]).mean()), 3),
        "accuracy_up": round(float((accuracy > before[0]).mean()), 3),
        "accuracy_down": round(float((accuracy < before[0]).mean()), 3),
    }
    for name, objective in OBJECTIVES.items():
        out[name] = []
        for seed in range(climbs):
            path = climb(train, manual, task.vocabulary, seed, objective)
            at = {k: [p for cost, p in path if cost <= k][-1] for k in (200, 500, 1000, 2000)}
            out[name].append(
                {str(k): _figures(test([p])[0])[0] for k, p in at.items()}
                | {"end": " ".join(path[-1][1])}
            )
    return out


def causal_split(model: Any, task: WorldTask, split: str) -> Split:
    """A causal model's view of a split, exact float32 with cached inputs."""
    from promptgym.llms.tiny.fast import CausalScorer

    examples = split_examples(task.name)[split]
    labels = task.labels or ()
    scorer = CausalScorer(model, [text for text, _ in examples], labels)
    return Split(scorer, [labels.index(target) for _, target in examples])


def masked_split(model: Any, task: WorldTask, split: str) -> Split:
    """A masked model's view of a split, by plain padded batches."""
    import torch

    from promptgym.llms.tiny.tokenizer import (
        ANSWER,
        BOS,
        EOS,
        INSTRUCTION,
        MASK,
        TEXT,
        encode_words,
    )

    examples = split_examples(task.name)[split]
    labels = task.labels or ()
    columns = [encode_words([label])[0] for label in labels]

    @torch.inference_mode()
    def score(prompts: Sequence[Words]) -> FloatArray:
        out = np.zeros((len(prompts), len(examples), len(labels)))
        for i, prompt in enumerate(prompts):
            tail = [INSTRUCTION, *prompt, ANSWER, MASK, EOS]
            rows = [encode_words([BOS, TEXT, *text.split(), *tail]) for text, _ in examples]
            longest = max(map(len, rows))
            ids = torch.tensor([row + [0] * (longest - len(row)) for row in rows])
            at = torch.tensor([len(row) - 2 for row in rows])
            hidden = model.base_model(ids, attention_mask=(ids != 0).long()).last_hidden_state
            logits = model.lm_head(hidden[torch.arange(len(rows)), at])
            out[i] = logits.log_softmax(dim=-1)[:, columns].numpy()
        return out

    return Split(score, [labels.index(target) for _, target in examples])


def text_figures(model: Any, folder: Path) -> dict[str, Any]:
    """Demonstrations and generation for every task, of a causal model."""
    from transformers import AutoTokenizer

    from promptgym.llms.tiny.measure_text import demonstration_figures, generation_figures

    tokenizer = AutoTokenizer.from_pretrained(folder)
    out: dict[str, Any] = {}
    for name, task in WORLD_TASKS.items():
        out[name] = {"demonstrations": demonstration_figures(model, tokenizer, task)}
        if task.labels is None:
            out[name]["generation"] = generation_figures(model, tokenizer, task)
        print(name, json.dumps(out[name]), flush=True)
    return out


def rewriter_figures(model: Any, folder: Path) -> dict[str, Any]:
    """Best by train of 16 instructions the untrained rewriter samples, as the model answers."""
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    from promptgym.llms.tiny.measure_text import sampled_instructions

    writer = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()
    tokenizer = AutoTokenizer.from_pretrained(folder)
    out: dict[str, Any] = {}
    for name, task in WORLD_TASKS.items():
        if not task.labels:
            continue
        train, test = causal_split(model, task, "train"), causal_split(model, task, "test")
        best, means = [], []
        for seed in range(5):
            texts = sampled_instructions(writer, tokenizer, task.manual_prompt, 16, seed)
            prompts = [text.split() for text in texts]
            accuracy, reward, _ = train(prompts)
            best.append(float(test([prompts[int(reward.argmax())]])[0][0]))
            means.append(float(accuracy.mean()))
        out[name] = {
            "best_of_16_test": [round(b, 3) for b in best],
            "mean": round(float(np.mean(means)), 3),
        }
        print(name, json.dumps(out[name]), flush=True)
    return out


def main() -> None:
    """Measure a model and write the figures as JSON."""
    import torch
    from transformers import AutoModelForCausalLM, AutoModelForMaskedLM

    parser = argparse.ArgumentParser(description="Measure the landscapes of an embedded model.")
    parser.add_argument("--model", type=Path, required=True)
    parser.add_argument("--masked", action="store_true")
    parser.add_argument("--tasks", default="")
    parser.add_argument("--climbs", type=int, default=5)
    parser.add_argument("--quick", action="store_true")
    parser.add_argument(
        "--texts", action="store_true", help="demonstrations and generation instead"
    )
    parser.add_argument("--rewriter", type=Path, help="its samples, answered by the model, instead")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--out", type=Path, required=True)
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    loader = AutoModelForMaskedLM if args.masked else AutoModelForCausalLM
    model = loader.from_pretrained(args.model, dtype=torch.float32).eval()
    if args.texts or args.rewriter:
        done = (
            rewriter_figures(model, args.rewriter)
            if args.rewriter
            else text_figures(model, args.model)
        )
        args.out.write_text(json.dumps(done, indent=1) + "\n", encoding="utf-8")
        return
    view = masked_split if args.masked else causal_split
    results: dict[str, Any] = {}
    names = args.tasks.split(",") if args.tasks else [n for n, t in WORLD_TASKS.items() if t.labels]
    for name in names:
        task = WORLD_TASKS[name]
        results[name] = landscape(task, partial(view, model, task), args.climbs, quick=args.quick)
        print(name, json.dumps(results[name]), flush=True)
        args.out.write_text(json.dumps(results, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
