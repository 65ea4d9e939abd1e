"""A proposer whose every text is computed by a rule: for tests of methods that ask one."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence

import numpy as np

from promptgym.llms import Completion, Kind, LabelLogprobs, Sampling
from promptgym.llms.base import empty_logprobs
from promptgym.types import FloatArray, IntArray

Rule = Callable[[str, np.random.Generator], str]


class RuleProposer:
    """Answers a text with `rule(text, rng)`; it obeys the contract of a model that generates.

    The generator depends on the seed of the sampling, the text and how often the text has come
    before in the call, as in the models of the library. `asked` keeps the texts of all calls.
    """

    kind: Kind = "causal"
    mask_token = ""

    def __init__(self, rule: Rule, name: str = "rule") -> None:
        """Take the rule, and the name that identifies it."""
        self.rule, self.name = rule, name
        self.asked: list[str] = []

    def generate(self, texts: Sequence[str], sampling: Sampling) -> list[Completion]:
        """Apply the rule to every text; at most `max_new_tokens` words are written."""
        out = []
        for i, text in enumerate(texts):
            name = f"{sampling.seed}\x1f{list(texts[:i]).count(text)}\x1f{text}"
            seed = int.from_bytes(hashlib.blake2b(name.encode(), digest_size=8).digest())
            written = self.rule(text, np.random.default_rng(seed))
            words = written.split(" ")[: sampling.max_new_tokens]
            out.append(Completion(" ".join(words), len(words)))
        self.asked += texts
        return out

    def count_tokens(self, texts: Sequence[str]) -> IntArray:
        """Count words."""
        return np.array([len(t.split()) for t in texts], dtype=np.int64)

    def check_labels(self, labels: Sequence[str]) -> None:
        """Accept any labels."""

    def label_logprobs(self, texts: Sequence[str], labels: Sequence[str]) -> LabelLogprobs:
        """Score nothing: it writes only."""
        failures = dict.fromkeys(range(len(texts)), "refused: this model only writes")
        return LabelLogprobs(
            empty_logprobs(len(texts), len(labels)), self.count_tokens(texts), failures
        )

    def loglikelihood(self, contexts: Sequence[str], continuations: Sequence[str]) -> FloatArray:
        """Score nothing: it writes only."""
        return np.full(len(contexts), np.nan)
