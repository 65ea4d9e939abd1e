"""The records of a journal: scores and proposals as JSON and back, exactly."""

from __future__ import annotations

import base64
import hashlib
import json
import zlib
from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

import numpy as np

from promptgym.errors import ConfigError
from promptgym.llms import Sampling
from promptgym.problem import Problem
from promptgym.prompts import Example, Prompt
from promptgym.runs.events import plain
from promptgym.scoring import Failure, Proposals, Scores
from promptgym.tasks import split_hash
from promptgym.types import JSON


def pack(array: np.ndarray[Any, Any] | None) -> JSON | None:
    """Turn an array of numbers into JSON, exactly (NaN included)."""
    if array is None:
        return None
    data = base64.b64encode(zlib.compress(np.ascontiguousarray(array).tobytes())).decode()
    return {"dtype": array.dtype.str, "shape": list(array.shape), "data": data}


def unpack(row: JSON | None) -> Any:
    """Return the array that `pack` was given."""
    if row is None:
        return None
    data = zlib.decompress(base64.b64decode(row["data"]))
    return np.frombuffer(data, dtype=row["dtype"]).reshape(row["shape"]).copy()


def scores_to_json(scores: Scores, spent: JSON) -> JSON:
    """Return one record of the journal: the scores, exact, and what was spent until then."""
    completions = scores.completions
    return {
        "prompts": [p.to_json() for p in scores.prompts],
        "examples": split_hash(scores.examples),
        "mean": plain(scores.mean),
        "spent": spent,
        "values": pack(scores.values),
        "status": pack(scores.status),
        "label_logprobs": pack(scores.label_logprobs),
        "targets": pack(scores.targets),
        "completions": None if completions is None else completions.tolist(),
        "failures": [[f.prompt, f.example, f.reason, f.status] for f in scores.failures],
        "prompt_tokens": pack(scores.prompt_tokens),
    }


def scores_from_json(row: JSON, examples: Sequence[Example], problem: Problem) -> Scores:
    """Return the scores of a record."""
    completions = None
    if row["completions"] is not None:
        completions = np.empty(np.shape(row["completions"])[:2], dtype=object)
        for i, texts in enumerate(row["completions"]):
            completions[i, :] = texts
    return Scores(
        prompts=tuple(Prompt.of(p) for p in row["prompts"]),
        examples=tuple(examples),
        metric=problem.task.metric,
        values=unpack(row["values"]),
        status=unpack(row["status"]),
        label_logprobs=unpack(row["label_logprobs"]),
        targets=unpack(row["targets"]),
        completions=completions,
        failures=tuple(Failure(*record) for record in row["failures"]),
        prompt_tokens=unpack(row["prompt_tokens"]),
    )


def proposals_to_json(asked: str, found: Proposals, spent: JSON) -> JSON:
    """Return one record of the journal: what a proposer wrote, and what was spent until then."""
    return {
        "asked": asked,
        "completions": list(found.completions),
        "failures": list(map(list, found.failures.items())),
        "spent": spent,
    }


def subset_of(examples: Sequence[Example], split: Sequence[Example]) -> list[int] | None:
    """Return where some examples stand in their split; None if they are all of it, in its order.

    Raises:
        ConfigError: if one is not in the split.
    """
    if tuple(examples) == tuple(split):
        return None
    places = {example.key: place for place, example in enumerate(split)}
    try:
        return [places[example.key] for example in examples]
    except KeyError:
        raise ConfigError(
            "an example was asked about that is not in its split; name the split it is from"
        ) from None


def request_key(texts: Sequence[str], sampling: Sampling, tag: str | None) -> str:
    """Return the identity of a request to a proposer."""
    said = json.dumps([list(texts), asdict(sampling), tag])
    return hashlib.blake2b(said.encode(), digest_size=8).hexdigest()
