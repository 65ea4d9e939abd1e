"""Figures that need plain text in and out: demonstrations, answers in words, sampled instructions.

`promptgym.llms.tiny.measure` runs them after the landscapes.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from typing import Any

import torch

from promptgym.llms.tiny import REWRITE_TEMPLATE
from promptgym.tasks.world import DEMONSTRATION, TEMPLATE, WorldTask, cues, generate


@torch.inference_mode()
def label_accuracy(
    model: Any, tokenizer: Any, task: WorldTask, texts: Sequence[str], targets: Sequence[str]
) -> float:
    """Accuracy of the most likely label after whole texts, in padded batches."""
    labels = list(task.labels or ())
    columns = tokenizer.convert_tokens_to_ids(labels)
    hits = 0
    for at in range(0, len(texts), 64):
        batch = tokenizer(list(texts[at : at + 64]), return_tensors="pt", padding=True)
        hidden = model.model(**batch).last_hidden_state
        last = batch["attention_mask"].sum(dim=1) - 1
        logits = model.lm_head(hidden[torch.arange(len(last)), last])[:, columns]
        chosen = [labels[int(i)] for i in logits.argmax(dim=1)]
        hits += sum(int(a == b) for a, b in zip(chosen, targets[at : at + 64], strict=True))
    return hits / len(texts)


@torch.inference_mode()
def exact_match(model: Any, tokenizer: Any, texts: Sequence[str], targets: Sequence[str]) -> float:
    """Share of texts continued greedily with exactly the target."""
    side, tokenizer.padding_side = tokenizer.padding_side, "left"
    batch = tokenizer(list(texts), return_tensors="pt", padding=True)
    tokenizer.padding_side = side
    out = model.generate(**batch, max_new_tokens=4, do_sample=False)[
        :, batch["input_ids"].shape[1] :
    ]
    answers = [tokenizer.decode(row, skip_special_tokens=True).strip() for row in out]
    return sum(int(a == b) for a, b in zip(answers, targets, strict=True)) / len(texts)


def accuracy_of(
    model: Any,
    tokenizer: Any,
    task: WorldTask,
    prompt: str,
    examples: Sequence[tuple[str, str]],
    before: str = "",
) -> float:
    """The task's metric for one prompt, with demonstrations `before` it if any."""
    texts = [before + TEMPLATE.format(input=text, prompt=prompt) for text, _ in examples]
    targets = [target for _, target in examples]
    if task.labels is None:
        return exact_match(model, tokenizer, texts, targets)
    return label_accuracy(model, tokenizer, task, texts, targets)


def demonstration_figures(
    model: Any, tokenizer: Any, task: WorldTask, sets: int = 12
) -> dict[str, Any]:
    """Accuracy with random sets of four demonstrations, with the empty and the manual prompt."""
    rng = random.Random(0)
    pool, examples = generate(task.name, 64, 1), generate(task.name, 200, 2)
    out: dict[str, Any] = {}
    for name, prompt in (("empty", ""), ("manual", task.manual_prompt)):
        alone = accuracy_of(model, tokenizer, task, prompt, examples)
        scores = []
        for _ in range(sets):
            shown = "".join(DEMONSTRATION.format(input=x, answer=y) for x, y in rng.sample(pool, 4))
            scores.append(accuracy_of(model, tokenizer, task, prompt, examples, shown))
        out[name] = {
            "none": round(alone, 3),
            "worst": round(min(scores), 3),
            "mean": round(sum(scores) / sets, 3),
            "best": round(max(scores), 3),
        }
    return out


def generation_figures(model: Any, tokenizer: Any, task: WorldTask) -> dict[str, Any]:
    """Exact match of the usual prompts and a staircase over the number of the question's cues."""
    rng = random.Random(0)
    examples = generate(task.name, 200, 2)

    def score(prompt: str) -> float:
        return round(accuracy_of(model, tokenizer, task, prompt, examples), 3)

    strengths = cues.QUESTION_CUES[task.question]
    words = list(strengths)
    strong = sorted(words, key=lambda word: -strengths[word])[:4]
    found = max((" ".join(rng.sample(strong, 3)) for _ in range(8)), key=score)
    stairs = []
    for count in range(5):
        scores = [score(" ".join(rng.choices(words, k=count))) for _ in range(8 if count else 1)]
        stairs.append(round(sum(scores) / len(scores), 3))
    drawn = [" ".join(rng.choices(task.vocabulary, k=rng.randint(1, 8))) for _ in range(100)]
    return {
        "empty": score(""),
        "manual": score(task.manual_prompt),
        "best_known": score(task.best_known_prompt),
        "best_found": {"prompt": found, "dev": score(found)},
        "random_best_of_100": max(map(score, drawn)),
        "staircase": stairs,
    }


@torch.inference_mode()
def sampled_instructions(
    model: Any, tokenizer: Any, prompt: str, count: int, seed: int
) -> list[str]:
    """Instructions the rewriter samples for a prompt."""
    torch.manual_seed(seed)
    ids = tokenizer(REWRITE_TEMPLATE.format(prompt=prompt), return_tensors="pt")["input_ids"]
    out = model.generate(ids.repeat(count, 1), max_new_tokens=16, do_sample=True)[:, ids.shape[1] :]
    return [tokenizer.decode(row, skip_special_tokens=True) for row in out]
