"""`WatchedProblem`: what stands between an environment and the problem an agent learns on.

An agent that learns through an environment never holds the scores itself. It gives the environment
a watched problem instead: a selection sees all that was visited on the way, and, with a memory, a
prompt whose scores are known is not asked (and paid for) a second time.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from promptgym.errors import BudgetExhausted
from promptgym.llms import Sampling
from promptgym.problem import Problem
from promptgym.prompts import Example, Prompt, PromptsLike, prompts_of
from promptgym.scoring import SKIPPED, Proposals, Scores
from promptgym.search.selection import Selection


class WatchedProblem(Problem):
    """A problem whose scores on the whole training split are observed and, if wanted, remembered.

    It shares everything with the problem it is made of, the ledger above all.
    """

    def __init__(
        self, problem: Problem, selection: Selection | None = None, *, memory: bool = False
    ) -> None:
        """Stand before a problem.

        Args:
            problem: which does the scoring.
            selection: is shown training scores; None for nobody.
            memory: answer known prompts from memory, at no query. Prompts with a failed call are
                not remembered.
        """
        self.__dict__.update(vars(problem))
        self.inner = problem
        self.selection = selection
        self.memory: dict[Prompt, Scores] | None = {} if memory else None

    def score(
        self,
        prompts: PromptsLike,
        examples: Sequence[Example] | None = None,
        *,
        split: str = "train",
    ) -> Scores:
        """Score as the problem does.

        Raises:
            BudgetExhausted: if no prompt fits and none is known.
        """
        prompts = prompts_of(prompts)
        if examples is not None or split != "train":
            return self.inner.score(prompts, examples, split=split)
        if self.memory is None:
            return self._ask(prompts)
        new = list(dict.fromkeys(p for p in prompts if p not in self.memory))
        if len(new) == len(prompts):
            return self._learn(self._ask(new))
        fresh: dict[Prompt, Scores] = {}
        if new:
            try:
                scores = self._learn(self._ask(new))
            except BudgetExhausted:
                if len(set(prompts)) == len(new):
                    raise
            else:
                fresh = {p: scores.select([i]) for i, p in enumerate(scores.prompts)}
        return joined(prompts, {**self.memory, **fresh})

    def propose(
        self, texts: Sequence[str], sampling: Sampling, *, tag: str | None = None
    ) -> Proposals:
        """Propose as the problem does."""
        return self.inner.propose(texts, sampling, tag=tag)

    def _ask(self, prompts: Sequence[Prompt]) -> Scores:
        """Have prompts scored and observed."""
        scores = self.inner.score(prompts)
        if self.selection is not None:
            self.selection.observe(scores, self.rewards(scores))
        return scores

    def _learn(self, scores: Scores) -> Scores:
        """Remember what is whole."""
        failed = {f.prompt for f in scores.failures}
        for i in np.flatnonzero(scores.complete).tolist():
            if self.memory is not None and i not in failed:
                self.memory[scores.prompts[i]] = scores.select([i])
        return scores


def joined(prompts: Sequence[Prompt], rows: dict[Prompt, Scores]) -> Scores:
    """Put single rows together; prompts without one are `SKIPPED`.

    Args:
        prompts: P prompts, of which at least one has a row.
        rows: scores of one prompt each, all over the same examples.
    """
    known = [rows.get(p) for p in prompts]
    first = next(row for row in known if row is not None)
    whole = [first if row is None else row for row in known]
    skipped = np.array([row is None for row in known])
    status = np.concatenate([row.status for row in whole])
    values = np.concatenate([row.values for row in whole])
    status[skipped], values[skipped] = SKIPPED, np.nan
    logprobs = completions = tokens = None
    if first.label_logprobs is not None:
        logprobs = np.concatenate([r.label_logprobs for r in whole if r.label_logprobs is not None])
        logprobs[skipped] = np.nan
    if first.completions is not None:
        completions = np.concatenate([r.completions for r in whole if r.completions is not None])
        completions[skipped] = None
    if first.prompt_tokens is not None:
        tokens = np.concatenate([r.prompt_tokens for r in whole if r.prompt_tokens is not None])
    return Scores(
        prompts=tuple(prompts),
        examples=first.examples,
        metric=first.metric,
        values=values,
        status=status,
        label_logprobs=logprobs,
        targets=first.targets,
        completions=completions,
        failures=tuple(
            replace(f, prompt=i)
            for i, row in enumerate(known)
            if row is not None
            for f in row.failures
        ),
        prompt_tokens=tokens,
    )
