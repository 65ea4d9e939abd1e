"""Preferences between rewrites: which of two rewrites of one draft is to be preferred, by scores.

A preference is a row of a `datasets` dataset, as TRL's DPOTrainer takes it: `prompt` (what the
rewriter reads), `chosen` and `rejected` (what it wrote), and `margin` (how much better).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Literal, TypeVar

import numpy as np
from datasets import Dataset

from promptgym.errors import ConfigError
from promptgym.prompts import Prompt
from promptgym.runs.folder import RunFolder

Row = TypeVar("Row")
Rule = Literal["best_worst", "margin", "pareto"]
BETTER, WORSE = 10, 20  # of Question Rewriter: at most so many better ones, so many worse for each


@dataclass(frozen=True, slots=True)
class Rewrite:
    """A rewrite that was scored.

    Attributes:
        text: what was written.
        reward: what it was paid.
        score: the metric.
    """

    text: str
    reward: float
    score: float

    def dominates(self, other: Rewrite) -> bool:
        """Whether it is nowhere worse and somewhere better, of reward and metric."""
        ours, theirs = (self.reward, self.score), (other.reward, other.score)
        return ours != theirs and all(a >= b for a, b in zip(ours, theirs, strict=True))


@dataclass(frozen=True, slots=True)
class Pair:
    """One preference.

    Attributes:
        prompt: what the rewriter reads.
        chosen: the better rewrite.
        rejected: the worse one.
        margin: the difference of their rewards, positive.
    """

    prompt: str
    chosen: str
    rejected: str
    margin: float


@dataclass(frozen=True, slots=True)
class Judged:
    """A rewrite that is good or bad by itself, for losses without pairs.

    Attributes:
        prompt: what the rewriter reads.
        completion: the rewrite.
        label: whether it is desirable.
    """

    prompt: str
    completion: str
    label: bool


def judged(prompt: str, rewrites: Sequence[Rewrite]) -> list[Judged]:
    """Return the rewrites of one draft, desirable where they are paid more than their mean.

    Where all are paid the same none is better, and there is nothing to learn.
    """
    rewards = [r.reward for r in rewrites]
    if len(set(rewards)) < 2:
        return []
    mean = float(np.mean(rewards))
    return [Judged(prompt, r.text, r.reward > mean) for r in dict.fromkeys(rewrites)]


def kto_weights(rows: Sequence[Judged], balance: float) -> dict[str, float]:
    """Return KTO's weights of the two kinds, by their counts (Ethayarajh et al. 2024, equation 8).

    (desirable weight x count) / (undesirable weight x count) is `balance`; the kind that counts
    too much has weight 1. With one kind only both have.
    """
    good = sum(r.label for r in rows)
    bad = len(rows) - good
    ratio = good / (balance * bad) if good and bad else 1.0
    return {"desirable_weight": max(1.0, 1 / ratio), "undesirable_weight": max(1.0, ratio)}


def pairs_of(
    prompt: str,
    good: Sequence[Rewrite],
    bad: Sequence[Rewrite],
    *,
    rule: Rule = "margin",
    margin: float = 0.0,
    draft: Rewrite | None = None,
    rng: np.random.Generator,
) -> list[Pair]:
    """Return the preferences among the rewrites of one draft.

    Args:
        prompt: what the rewriter reads.
        good: where the preferred ones are looked for.
        bad: where the others are; often the same.
        rule: "best_worst" is one pair; "margin" is every pair whose rewards differ by more than
            `margin`; "pareto" sets rewrites that dominate the draft in reward and metric against
            such as the draft dominates (Question Rewriter, Chen et al. 2024: at most 10 of the
            first by reward, each against at most 20 of the second, drawn).
        margin: of the rule "margin", in units of the reward.
        draft: the draft, scored; for "pareto".
        rng: for what is drawn.

    Raises:
        ConfigError: for a rule that there is not, or "pareto" without a draft.
    """
    good, bad = (list(dict.fromkeys(rewrites)) for rewrites in (good, bad))
    if not good or not bad:
        return []
    if rule == "best_worst":
        chosen, rejected = max(good, key=_reward), min(bad, key=_reward)
        found = [(chosen, rejected)] if chosen.reward > rejected.reward else []
    elif rule == "margin":
        found = [(a, b) for a in good for b in bad if a.reward - b.reward > margin]
    elif rule == "pareto":
        if draft is None:
            raise ConfigError("pairs by 'pareto' need the scores of the draft")
        better = sorted((r for r in good if r.dominates(draft)), key=_reward, reverse=True)
        worse = [r for r in bad if draft.dominates(r)]
        found = [(a, b) for a in better[:BETTER] for b in drawn(worse, WORSE, rng)]
    else:
        raise ConfigError(f"pairs must be best_worst, margin or pareto, got {rule!r}")
    return [Pair(prompt, a.text, b.text, a.reward - b.reward) for a, b in found if a.text != b.text]


def drawn(rows: Sequence[Row], most: int, rng: np.random.Generator) -> list[Row]:
    """Return at most `most` rows, drawn without replacement, in their order."""
    if len(rows) <= most:
        return list(rows)
    return [rows[i] for i in np.sort(rng.choice(len(rows), size=most, replace=False))]


def preference_dataset(pairs: Iterable[Pair], *, chat: bool = False) -> Dataset:
    """Return pairs as a dataset; as conversations, if `chat`."""
    said: Callable[[str, str], object] = (
        (lambda role, text: [{"role": role, "content": text}]) if chat else (lambda _, text: text)
    )
    return Dataset.from_list(
        [
            {
                "prompt": said("user", p.prompt),
                "chosen": said("assistant", p.chosen),
                "rejected": said("assistant", p.rejected),
                "margin": p.margin,
            }
            for p in pairs
        ]
    )


def unpaired_dataset(rows: Iterable[Judged], *, chat: bool = False) -> Dataset:
    """Return judged rewrites as a dataset, as TRL's KTOTrainer takes them; `chat` as above."""
    return Dataset.from_list(
        [
            {
                "prompt": [{"role": "user", "content": r.prompt}] if chat else r.prompt,
                "completion": (
                    [{"role": "assistant", "content": r.completion}] if chat else r.completion
                ),
                "label": r.label,
            }
            for r in rows
        ]
    )


def dataset_of(preferences: Sequence[Pair | Judged], *, chat: bool) -> Dataset:
    """Return preferences as TRL's trainers take them."""
    rows = [row for row in preferences if isinstance(row, Judged)]
    if rows:
        return unpaired_dataset(rows, chat=chat)
    return preference_dataset([p for p in preferences if isinstance(p, Pair)], chat=chat)


def counts_of(preferences: Sequence[Pair | Judged], *, paired: bool) -> dict[str, int]:
    """Return how many preferences of each kind there are."""
    if paired:
        return {"pairs": len(preferences)}
    good = sum(row.label for row in preferences if isinstance(row, Judged))
    return {"desirable": good, "undesirable": len(preferences) - good}


def pairs_from_run(
    run: str | Path,
    prompt: str,
    *,
    rule: Rule = "margin",
    margin: float = 0.0,
    most: int = 10_000,
    seed: int = 0,
) -> list[Pair]:
    """Return preferences among all prompts that a run asked on its training split.

    Any run will do, of an agent or a baseline: its log holds the prompts and their rewards.

    Args:
        run: the run folder.
        prompt: what a rewriter is to read, e.g. a filled meta-prompt.
        rule: "best_worst" or "margin", see `pairs_of`.
        margin: in units of the run's reward.
        most: at most so many, drawn.
        seed: of the draws.
    """
    known: dict[str, Rewrite] = {}
    for event in RunFolder.open(run).events():
        if event["kind"] != "scores" or event["split"] != "train":
            continue
        rows = zip(event["prompts"], event["rewards"], event["values"], strict=True)
        for shown, reward, score in rows:
            if reward is not None and score is not None:
                text = Prompt.of(shown).instruction
                known[text] = Rewrite(text, float(reward), float(score))
    rewrites, rng = list(known.values()), np.random.default_rng(seed)
    found = pairs_of(prompt, rewrites, rewrites, rule=rule, margin=margin, rng=rng)
    return drawn(found, most, rng)


def to_rows(pairs: Iterable[Pair | Judged]) -> list[dict[str, object]]:
    """Return preferences as JSON rows."""
    return [asdict(pair) for pair in pairs]


def _reward(rewrite: Rewrite) -> float:
    """Return what a rewrite was paid."""
    return rewrite.reward
