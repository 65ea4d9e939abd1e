"""`Recount`: follows the log of one run, row by row, and works out every number anew."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from promptgym.errors import PromptGymError
from promptgym.leaderboard import outcomes
from promptgym.leaderboard.entries import Run
from promptgym.leaderboard.files import Refused
from promptgym.leaderboard.known import Asked, Known
from promptgym.leaderboard.submission import Cell
from promptgym.prompts import Prompt
from promptgym.scoring import Scores
from promptgym.scoring.scores import SKIPPED
from promptgym.tasks import Task
from promptgym.types import JSON, FloatArray

SPENT = ("queries", "calls", "tokens", "seconds", "proposer_calls", "proposer_tokens")
NEAR = 1e-6
"""Two metrics that differ by less are the same: a claim has all digits, the log has six."""
LOOSE = 1e-4
"""The same for rewards, which may be put together from several rows of the log."""
MOST_KNOWN = 50_000_000
"""Outcomes, prompts x examples of a split, that are kept of a run at most."""
MOST_CHOICES = 20_000_000
"""Incumbents x prompts to choose from, at most."""
_KEYS = {
    "scores": {"split", "subset", "prompts", "outcomes", "rewards", "spent"},
    "proposals": {"completions", "failures", "spent"},
    "ended": {"why", "spent"},
    "incumbents": {"rows"},
    "held_out": {"prompts", "outcomes"},
    "robustness": {"found"},
}


@dataclass
class Recount:
    """One run, worked out from its log.

    Attributes:
        cell: what the manifest says of it.
        task: with its test split open.
        proposes: whether a proposer may write prompts, by the track.
        count: tokens of texts that the proposer wrote; None if it is not known here.
        spent: what was spent by the last row.
        known: (split, prompt) -> what is known of it.
        prompts: all that were asked about, in order, each once.
        incumbents: rows of queries and prompt.
        robustness: of the chosen prompt, as the log has it.
        failures: evaluations that failed.
        ended: kinds of rows that stand once, of those that have come.
    """

    cell: Cell
    task: Task
    proposes: bool = True
    count: Callable[[Sequence[str]], int] | None = None
    spent: JSON = field(default_factory=lambda: dict.fromkeys(SPENT, 0))
    known: dict[tuple[str, Prompt], Known] = field(default_factory=dict)
    prompts: dict[Prompt, None] = field(default_factory=dict)
    incumbents: list[tuple[int, Prompt]] = field(default_factory=list)
    robustness: JSON | None = None
    failures: int = 0
    ended: set[str] = field(default_factory=set)

    def take(self, row: JSON) -> list[Asked]:
        """Take the next row.

        Returns:
            The prompts that it asked about.

        Raises:
            Refused: saying what in it does not fit what went before.
        """
        kind = row.get("kind")
        if kind not in _KEYS or set(row) != {"cell", "kind", *_KEYS[kind]}:
            raise Refused(f"a row of kind {kind!r} with the keys {sorted(row)}")
        if kind in self.ended or ("held_out" in self.ended and kind != "robustness"):
            raise Refused(f"a row of kind {kind!r} where the run is over")
        if kind == "scores":
            return self._scores(row)
        if kind == "proposals" and not self.proposes:
            raise Refused("a proposer wrote prompts, and the track is 'search'")
        if kind in ("proposals", "ended"):
            before = dict(self.spent)
            self._spend(row["spent"], None)
            if kind == "proposals":
                self._proposals(row["completions"], before)
            return []
        self.ended.add(kind)
        if kind == "held_out":
            return self._held_out(row)
        if kind == "robustness":
            self.robustness = row["found"]
        else:
            self._incumbents(row["rows"])
        return []

    def _scores(self, row: JSON) -> list[Asked]:
        """Take what was asked about on train or dev."""
        if "incumbents" in self.ended:
            raise Refused("prompts were asked about after the last choice")
        split, rewards = row["split"], row["rewards"]
        if split not in ("train", "dev"):
            raise Refused(f"the method asked about {split!r}; it may ask about train and dev only")
        whole = self.task.train if split == "train" else self.task.dev
        places = self._places(row["subset"], len(whole))
        prompts = read_prompts(row["prompts"])
        scores = outcomes.from_json(
            row["outcomes"], prompts, [whole[p] for p in places], self.task.metric
        )
        if not isinstance(rewards, list) or len(rewards) != len(prompts):
            raise Refused(f"{len(prompts)} prompts have other than {len(prompts)} rewards")
        outcomes.check_answered(scores, rewards)
        self._spend(row["spent"], int((scores.status != SKIPPED).sum()))
        self.failures += int(scores.failed.sum())
        told = [
            self._learn(split, prompt, places, scores, i, reward, len(whole))
            for i, (prompt, reward) in enumerate(zip(prompts, rewards, strict=True))
        ]
        return [
            Asked(split, scores.examples, prompt, scores, i, rewards[i], told[i])
            for i, prompt in enumerate(prompts)
        ]

    def _proposals(self, completions: Any, before: JSON) -> None:
        """Compare what a proposer is said to have cost with what it wrote."""
        if not isinstance(completions, list) or not all(isinstance(t, str) for t in completions):
            raise Refused("completions are a list of texts")
        calls, tokens = (
            self.spent[kind] - before[kind] for kind in ("proposer_calls", "proposer_tokens")
        )
        if calls != len(completions):
            raise Refused(f"a proposer wrote {len(completions)} texts in {calls} calls")
        if self.count is not None and (written := self.count(completions)) > tokens:
            raise Refused(f"a proposer wrote {written} tokens, and the log counts {tokens}")

    def _learn(
        self,
        split: str,
        prompt: Prompt,
        places: Sequence[int],
        scores: Scores,
        i: int,
        reward: float | None,
        size: int,
    ) -> bool:
        """Put one prompt's outcomes to what is known of it; False if all of it was before."""
        self.prompts.setdefault(prompt)
        if (len(self.known) + 1) * size > MOST_KNOWN:
            raise Refused(f"more than {MOST_KNOWN:,} outcomes of one run are not read")
        known = self.known.setdefault(
            (split, prompt), Known(np.full(size, np.nan), np.ones(size, dtype=bool))
        )
        if known.at_once:
            return False
        answered = scores.status[i] != SKIPPED
        at = np.asarray(places)[answered]
        value = math.nan if reward is None else reward
        if len(at) == size and len(set(at.tolist())) == size:
            known.at_once, known.reward = True, value
        elif known.since is None:
            known.twice |= not known.open[at].all() or len(set(at.tolist())) < len(at)
            known.reward += value * len(at) / size
        else:
            return False
        known.values[at] = scores.values[i][answered]
        known.open[at] = False
        if known.at_once or not (known.twice or known.open.any()):
            known.since = self.spent["queries"] if known.since is None else known.since
            known.mean = _mean(self.task, known.values, split)
        return True

    def _held_out(self, row: JSON) -> list[Asked]:
        """Take what the evaluator asked about on test."""
        prompts = read_prompts(row["prompts"])
        found = outcomes.from_json(row["outcomes"], prompts, self.task.test, self.task.metric)
        if not prompts or len(set(prompts)) != len(prompts):
            raise Refused("the evaluator asks every incumbent about test once")
        if (found.status == SKIPPED).any():
            raise Refused("examples of test were skipped; the evaluator asks about all of them")
        for i, prompt in enumerate(prompts):
            self.known["test", prompt] = Known(
                found.values[i], found.status[i] == SKIPPED, 0, float(found.mean[i])
            )
        return [
            Asked("test", self.task.test, prompt, found, i, None)
            for i, prompt in enumerate(prompts)
        ]

    def _incumbents(self, rows: Any) -> None:
        """Take the choices, and choose again by the protocol's rule."""
        if not isinstance(rows, list) or not rows:
            raise Refused("a run that chose no prompt")
        if len(rows) * len(self.prompts) > MOST_CHOICES:
            raise Refused(f"{len(rows):,} choices among {len(self.prompts):,} prompts are too many")
        for row in rows:
            if not isinstance(row, dict) or set(row) != {"queries", "prompt"}:
                raise Refused("an incumbent is queries and a prompt")
            (prompt,), queries = read_prompts([row["prompt"]]), row["queries"]
            if type(queries) is not int or not 0 <= queries <= self.spent["queries"]:
                raise Refused(f"an incumbent at {queries!r} queries of {self.spent['queries']}")
            self._check_choice(prompt, queries)
            self.incumbents.append((queries, prompt))
        if [q for q, _ in self.incumbents] != sorted(q for q, _ in self.incumbents):
            raise Refused("the incumbents do not stand in the order of queries")

    def _check_choice(self, prompt: Prompt, queries: int) -> None:
        """Refuse an incumbent that is not the best of what was known by then."""
        worth = dict(self._candidates(queries))
        said = _short(prompt)
        if prompt not in worth:
            raise Refused(
                f"the prompt {said} is chosen at {queries} queries, and the log does not show that "
                "it was asked about the whole training split by then"
            )
        # dev is asked about prompts that take part in the choice, so those do for certain
        certain = [p for p in worth if worth[p][0] >= 0 or self.known["train", p].at_once]
        best = max([prompt, *certain], key=lambda p: worth[p])
        mine, theirs = worth[prompt], worth[best]
        worse = mine[1] < theirs[1] - LOOSE * max(1.0, abs(theirs[1]))
        if mine[0] < theirs[0] - NEAR or (mine[0] <= theirs[0] + NEAR and worse):
            raise Refused(
                f"at {queries} queries the prompt {said} is chosen with {_worth(mine)}, and "
                f"{_short(best)} had {_worth(theirs)}: the protocol chooses by dev, then by reward"
            )

    def _candidates(self, queries: int) -> Iterator[tuple[Prompt, tuple[float, float]]]:
        """Yield the prompts that may be chosen, with dev and reward; dev -1 if none has any."""
        trained = {
            p: k.reward
            for (split, p), k in self.known.items()
            if split == "train"
            and k.since is not None
            and k.since <= queries
            and math.isfinite(k.reward)
        }
        dev = {
            p: k.mean
            for p in trained
            if (k := self.known.get(("dev", p)))
            and k.since is not None
            and k.since <= queries
            and math.isfinite(k.mean)
        }
        for prompt, reward in trained.items():
            if not dev or prompt in dev:
                yield prompt, (dev.get(prompt, -1.0), reward)

    def _spend(self, spent: Any, queries: int | None) -> None:
        """Follow the ledger: it grows by what was asked, and stays below its caps."""
        before = self.spent
        if not isinstance(spent, dict) or set(spent) != set(SPENT):
            raise Refused(f"what was spent has the kinds {', '.join(SPENT)}")
        for kind in SPENT:
            value = spent[kind]
            if type(value) not in (int, float) or value < before[kind]:
                raise Refused(f"{kind} goes from {before[kind]} to {value!r}")
            cap = self.cell.budget.get(kind)
            if cap is not None and value > cap and kind != "seconds":
                raise Refused(f"{value:,} {kind} are spent, of at most {cap:,.0f}")
        if queries is not None and spent["queries"] != before["queries"] + queries:
            raise Refused(
                f"{queries} pairs were asked, and the log counts "
                f"{spent['queries'] - before['queries']} queries"
            )
        self.spent = spent

    def _places(self, subset: Any, size: int) -> Sequence[int]:
        """Return the places of examples in their split."""
        if subset is None:
            return range(size)
        if not isinstance(subset, list) or not subset:
            raise Refused("a subset is a list of places in the split")
        if not all(type(p) is int and 0 <= p < size for p in subset):
            raise Refused(f"a subset names places that are not among the {size} of the split")
        return subset

    def finish(self, regrets: Sequence[float] | None) -> Run:
        """Return the numbers of the run, and compare them with what is claimed.

        Args:
            regrets: of the incumbents, where the best prompt is known.

        Raises:
            Refused: if rows lack, or a claim is another number than the log gives.
        """
        if missing := {"incumbents", "robustness"} - self.ended:
            raise Refused(f"the log has no {min(missing)}")
        if self.task.test and "held_out" not in self.ended:
            raise Refused("the log has no answers on test")
        chosen = self.incumbents[-1][1]
        claim, spent = self.cell.claim, self.spent
        if _json(chosen) != _json(read_prompts([claim.prompt])[0]):
            raise Refused(f"the log chooses {_short(chosen)}, the claim is another prompt")
        curve = [self._point(queries, prompt) for queries, prompt in self.incumbents]
        for row, regret in zip(curve, regrets or (), strict=False):
            row["regret"] = regret
        last = curve[-1]
        for name, found in (
            ("train", self.known["train", chosen].mean),
            ("dev", last["dev"]),
            ("test", last["test"]),
            *((name, spent[name]) for name in ("queries", "tokens", "proposer_tokens")),
        ):
            claimed = getattr(claim, name)
            if name == "dev" and found is None:
                continue  # the budget did not reach: the evaluator's answer is not shown
            if (claimed is None) != (found is None) or (
                found is not None and abs(claimed - found) > NEAR
            ):
                raise Refused(f"{name} is claimed to be {claimed}, the log gives {found}")
        return Run(
            task=self.cell.task,
            model=self.cell.model,
            seed=self.cell.seed,
            prompt=_json(chosen),
            train=self.known["train", chosen].mean,
            dev=last["dev"],
            test=last["test"],
            queries=int(spent["queries"]),
            tokens=int(spent["tokens"]),
            proposer_tokens=int(spent["proposer_tokens"]),
            seconds=float(spent["seconds"]),
            failures=self.failures,
            curve=tuple(curve),
            robustness=self.robustness,
        )

    def _point(self, queries: int, prompt: Prompt) -> JSON:
        """Return a point of the anytime curve."""
        dev, test = self.known.get(("dev", prompt)), self.known.get(("test", prompt))
        if test is None and self.task.test:
            raise Refused(f"the incumbent {_short(prompt)} was not asked about test")
        return {
            "queries": queries,
            "prompt": _json(prompt),
            "dev": None if dev is None or dev.since is None else _finite(dev.mean),
            "test": None if test is None else _finite(test.mean),
        }


def read_prompts(rows: Any) -> tuple[Prompt, ...]:
    """Return prompts.

    Raises:
        Refused: if they are none.
    """
    if not isinstance(rows, list):
        raise Refused("prompts are a list")
    try:
        return tuple(Prompt.of(row) for row in rows)
    except (PromptGymError, TypeError) as error:
        raise Refused(f"a prompt that is none: {error}") from None


def _mean(task: Task, values: FloatArray, split: str) -> float:
    """Return a task's metric of one prompt's outcomes on a split."""
    examples = task.train if split == "train" else task.dev
    return float(task.metric.aggregate(values[None], [e.target for e in examples])[0])


def _finite(value: float) -> float | None:
    """Return a number for JSON, which has no NaN."""
    return value if math.isfinite(value) else None


def _json(prompt: Prompt) -> JSON:
    """Return a prompt as JSON."""
    return prompt.to_json()


def _worth(worth: tuple[float, float]) -> str:
    """Return dev and reward in words."""
    return f"dev {worth[0]:.4f} and reward {worth[1]:.4f}"


def _short(prompt: Prompt) -> str:
    """Return a prompt as messages show it."""
    text = repr(prompt.instruction)
    return text if len(text) <= 60 else f"{text[:57]}..."
