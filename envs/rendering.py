"""Rendering for people: the last edit as a coloured diff, with the score."""

from __future__ import annotations

from collections.abc import Sequence
from difflib import SequenceMatcher

from promptgym.envs.episode import Episode

GREEN, RED, DIM, RESET = "\x1b[32m", "\x1b[31;9m", "\x1b[2m", "\x1b[0m"


def diff(before: Sequence[str], after: Sequence[str]) -> str:
    """Return `after` with inserted words green and removed words red and struck through."""
    parts: list[str] = []
    matcher = SequenceMatcher(None, before, after, autojunk=False)
    for kind, i, i_end, j, j_end in matcher.get_opcodes():
        if kind == "equal":
            parts += after[j:j_end]
            continue
        parts += [f"{RED}{word}{RESET}" for word in before[i:i_end]]
        parts += [f"{GREEN}{word}{RESET}" for word in after[j:j_end]]
    return " ".join(parts)


def render(episode: Episode) -> str:
    """Return one frame: step, score, reward so far, the prompt with its last edit marked."""
    state, outcome = episode.state, episode.outcome
    before = state if episode.previous is None else episode.previous
    score = f"score {outcome.score:.3f}" if outcome.known else f"score - ({outcome.status})"
    head = f"step {state.step:2d}  {score}  return {episode.episode_return:+.3f}"
    lines = [
        f"{head}  {DIM}{state.edit or 'start'}{RESET}",
        "  " + (diff(before.units, state.units) or f"{DIM}(empty){RESET}"),
    ]
    old, new = (
        [f"[{episode.mdp.pool[i].input} -> {episode.mdp.pool[i].target}]" for i in s.demonstrations]
        for s in (before, state)
    )
    if old or new:
        lines.append("  " + diff(old, new))
    return "\n".join(lines) + "\n"
