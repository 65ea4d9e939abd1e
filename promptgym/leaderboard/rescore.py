"""Ask a model again what a log says it answered, and say where it does not say the same."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence

import numpy as np

from promptgym.leaderboard.known import Asked
from promptgym.problem import Problem
from promptgym.scoring import Scores
from promptgym.scoring.asking import is_remote
from promptgym.scoring.scores import OK, SKIPPED
from promptgym.types import JSON, FloatArray

TIE = 1e-3
"""Nats between the two likeliest labels below which another machine may choose the other one."""
APART, CLOSE = 0.01, 1e-3
"""By how much metrics, and the sensitivity, may differ when they are measured again."""
FAR = 1e-3
"""Share of a perfect prompt's reward by which the same reward may differ on another machine."""


def disagreements(asked: Sequence[Asked], problem: Problem) -> Iterator[str]:
    """Yield one sentence for every prompt about which the model says something else.

    Args:
        asked: what the log says; on any splits.
        problem: without a budget.
    """
    groups: dict[str, list[Asked]] = {}
    for one in asked:
        key = json.dumps([one.split, [example.key for example in one.examples]])
        groups.setdefault(key, []).append(one)
    for group in groups.values():
        prompts = list(dict.fromkeys(one.prompt for one in group))
        scores = problem.scorer.score(prompts, group[0].examples)
        rewards = problem.rewards(scores)
        place = {prompt: i for i, prompt in enumerate(prompts)}
        for one in group:
            i = place[one.prompt]
            if not is_remote(problem.model):  # over a network, failures come and go
                yield from _failures(one, scores, i)
            yield from _differences(one, scores, i, rewards, problem.reward.scale)


def _failures(one: Asked, scores: Scores, i: int) -> Iterator[str]:
    """Yield where the log has a failure and the model an answer, or the other way round."""
    said, found = one.scores.status[one.row], scores.status[i]
    other = (said != SKIPPED) & ((said == OK) != (found == OK))
    if other.any():
        yield (
            f"{_what(one)}: {int(other.sum())} of {len(said)} evaluations failed in the log and "
            "not when asked again, or the other way round"
        )


def _what(one: Asked) -> str:
    """Return how sentences call it."""
    return f"the prompt {one.prompt.instruction[:60]!r} on {one.split}"


def _differences(
    one: Asked, scores: Scores, i: int, rewards: FloatArray, scale: float
) -> Iterator[str]:
    """Yield what differs between a row of the log and what the model says now."""
    said, found = one.scores.values[one.row], scores.values[i]
    both = (one.scores.status[one.row] == OK) & (scores.status[i] == OK)
    other = both & (np.abs(said - found) > 1e-5) & ~_ties(scores, i)
    what = _what(one)
    if other.any():
        yield (
            f"{what}: {int(other.sum())} of {len(said)} outcomes are not what the model says "
            f"(mean {np.nanmean(said):.4f} in the log, {np.nanmean(found):.4f} when asked again)"
        )
    whole = both.all()
    if one.reward is not None and whole and abs(one.reward - rewards[i]) > FAR * scale:
        yield f"{what}: its reward is {one.reward:g} in the log, {rewards[i]:g} when asked again"


def _ties(scores: Scores, i: int) -> np.ndarray[tuple[int, ...], np.dtype[np.bool_]]:
    """Return whether the two likeliest labels are about as likely, shape (E,)."""
    if scores.label_logprobs is None or scores.label_logprobs.shape[-1] < 2:
        return np.zeros(scores.values.shape[1], dtype=bool)
    ranked = np.sort(scores.label_logprobs[i], axis=-1)
    return np.asarray(ranked[:, -1] - ranked[:, -2] < TIE)


def robustness_differences(said: JSON, found: JSON, path: str = "") -> Iterator[str]:
    """Yield where two measurements of robustness differ, by the name of the number.

    Args:
        said: by the log.
        found: when measured again.
        path: in front of names.
    """
    for name in sorted({*said, *found} - {"spent"}):
        where = f"{path}{name}"
        yield from _unlike(said.get(name), found.get(name), where)


def _unlike(said: object, found: object, where: str) -> Iterator[str]:
    """Yield where two values differ."""
    if isinstance(said, dict) and isinstance(found, dict):
        yield from robustness_differences(said, found, f"{where}.")
    elif isinstance(said, list) and isinstance(found, list) and len(said) == len(found):
        for i, pair in enumerate(zip(said, found, strict=True)):
            yield from _unlike(*pair, f"{where}[{i}]")
    elif isinstance(said, (int, float)) and isinstance(found, (int, float)):
        near = CLOSE if where == "posix" else APART
        if abs(said - found) > near * max(1.0, abs(found)):
            yield f"{where} is {said:g} in the log, {found:g} when measured again"
    elif said != found:
        yield f"{where} is {str(said)[:60]!r} in the log, {str(found)[:60]!r} when measured again"
