"""`VLLMEngine`: the questions that `CausalModel` asks of its engine, put to vLLM.

Every question is a request of token ids and `max_tokens=1`. The log-probability of a token is read
in one of two ways:

- **candidates** (`logprob_token_ids`, in newer releases): one request a context names the tokens,
  and prefixes that recur are computed once (`enable_prefix_caching`);
- **prompt** (`prompt_logprobs`, in all releases, and what lm-evaluation-harness uses): one request
  a context and token, the token at its end. vLLM computes such prompts whole each time.

When the model is loaded the first way is tried beside the second and used only where both agree.
Only `VLLMEngine` reads what vLLM returns, and refuses what it cannot read: an answer that lacks a
token is an error, never a guess.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from promptgym.errors import ModelError
from promptgym.llms.base import Completion, Sampling
from promptgym.types import FloatArray, IntArray

MOST_CANDIDATES = 20
"""vLLM's default `max_logprobs`: more columns than this are asked as prompts."""
AGREE = 0.05
"""Nats by which the two ways may differ in half precision."""


class VLLMEngine:
    """Log-probabilities and completions from an `LLM` of vLLM, shaped as `CausalEngine`'s.

    Attributes:
        llm: the engine.
        candidates: whether `logprob_token_ids` is used.
    """

    def __init__(self, llm: Any, module: Any) -> None:
        """Take a loaded `LLM` and the vllm module; find out what may be used."""
        self.llm = llm
        self._module = module
        self.candidates = False
        self.candidates = self._probe()

    def _probe(self) -> bool:
        """Try the first way on two contexts, beside the second."""
        rows, columns = [[1, 2, 3], [3, 2]], np.array([2, 1, 4])
        try:
            self._params(logprob_token_ids=[1])
            quick = self._by_candidates(rows, columns)
        except (TypeError, ValueError, ModelError):
            return False
        return bool(np.allclose(quick, self._by_prompts(rows, columns), rtol=0, atol=AGREE))

    def _params(self, **fields: Any) -> Any:
        """Return the parameters of a request that is only read."""
        return self._module.SamplingParams(max_tokens=1, temperature=0.0, **fields)

    def _ask(self, rows: Sequence[Sequence[int]], params: Any) -> list[Any]:
        """Return one output a row of token ids."""
        prompts = [self._module.TokensPrompt(prompt_token_ids=list(row)) for row in rows]
        outputs = list(self.llm.generate(prompts, params, use_tqdm=False))
        if len(outputs) != len(rows):
            raise ModelError(f"vLLM gave {len(outputs)} outputs for {len(rows)} requests")
        return outputs

    def columns_logprobs(self, rows: Sequence[Sequence[int]], columns: IntArray) -> FloatArray:
        """Return log P(column | row), nats, shape (N, F)."""
        if not len(rows):
            return np.zeros((0, len(columns)))
        if self.candidates and len(columns) <= MOST_CANDIDATES:
            return self._by_candidates(rows, columns)
        return self._by_prompts(rows, columns)

    def _by_candidates(self, rows: Sequence[Sequence[int]], columns: IntArray) -> FloatArray:
        """Ask once a row, naming the columns."""
        wanted = [int(c) for c in columns]
        outputs = self._ask(rows, self._params(logprob_token_ids=wanted))
        out = np.empty((len(rows), len(wanted)))
        for i, output in enumerate(outputs):
            found = output.outputs[0].logprobs
            if not found:
                raise ModelError("vLLM gave no log-probabilities of candidates")
            out[i] = [_logprob(found[0], token) for token in wanted]
        return out

    def _by_prompts(self, rows: Sequence[Sequence[int]], columns: IntArray) -> FloatArray:
        """Ask once a row and column."""
        contexts = [row for row in rows for _ in columns]
        tails = [[int(c)] for _ in rows for c in columns]
        return self.continuation_logprobs(contexts, tails).reshape(len(rows), len(columns))

    def continuation_logprobs(
        self, contexts: Sequence[Sequence[int]], tails: Sequence[Sequence[int]]
    ) -> FloatArray:
        """Return log P(tail | context), nats, shape (N,)."""
        if not len(contexts):
            return np.zeros(0)
        rows = [[*c, *t] for c, t in zip(contexts, tails, strict=True)]
        outputs = self._ask(rows, self._params(prompt_logprobs=1))
        sums = []
        for row, tail, output in zip(rows, tails, outputs, strict=True):
            found = output.prompt_logprobs
            if found is None or len(found) != len(row):
                raise ModelError(
                    f"vLLM gave log-probabilities of {0 if found is None else len(found)} prompt "
                    f"tokens, expected {len(row)}"
                )
            start = len(row) - len(tail)
            sums.append(sum(_logprob(found[start + n], token) for n, token in enumerate(tail)))
        return np.array(sums)

    def generate(
        self, rows: Sequence[Sequence[int]], sampling: Sampling, seeds: Sequence[int]
    ) -> list[Completion]:
        """Continue token ids, each with a seed of its own."""
        if not len(rows):
            return []
        params = [
            self._module.SamplingParams(
                max_tokens=sampling.max_new_tokens,
                temperature=sampling.temperature,
                top_k=sampling.top_k or -1,
                top_p=sampling.top_p,
                stop=list(sampling.stop),
                seed=seed,
            )
            for seed in seeds
        ]
        written = [output.outputs[0] for output in self._ask(rows, params)]
        return [Completion(w.text, len(w.token_ids)) for w in written]


def _logprob(found: Any, token: int) -> float:
    """Return the log-probability of a token at one position.

    Raises:
        ModelError: it is not there.
    """
    entry = None if found is None else found.get(token)
    if entry is None:
        raise ModelError(f"vLLM gave no log-probability of token {token}")
    return float(entry.logprob)
