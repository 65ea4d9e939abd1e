"""Signs that a prompt is not what it should be: long, unlikely, copied, or naming the answers.

Numbers to be shown beside a score. None of them is proof, and a low perplexity is no quality.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from promptgym.agents.guards import Guards
from promptgym.arguments import checked
from promptgym.errors import ConfigError, ModelError
from promptgym.evaluation.evaluate import PromptLike
from promptgym.evaluation.robustness import finite
from promptgym.llms import LanguageModel
from promptgym.problem import the_model, the_task
from promptgym.prompts import Prompt
from promptgym.rewards.penalties import log_perplexity
from promptgym.scoring import Ledger
from promptgym.tasks import Task
from promptgym.types import JSON


@checked(ConfigError)
def measure_hygiene(
    prompts: PromptLike | Sequence[PromptLike],
    task: str | Path | Task,
    model: str | LanguageModel,
    *,
    task_options: JSON | None = None,
    model_options: JSON | None = None,
) -> list[JSON]:
    """Measure the instruction of every prompt; of the task, only training inputs and labels.

    Args:
        prompts: one prompt or several.
        task: a task, or what `load_task` takes.
        model: the target model, or what `load_model` takes.
        task_options: further arguments of `load_task`.
        model_options: further arguments of `load_model`.

    Returns:
        One dict a prompt, plain JSON: `prompt`; `tokens` and `words`, its length; `perplexity`
        under the target model, `exp(-log P / tokens)` from the model's beginning on (None for an
        empty instruction, and for models that give no likelihoods, such as masked ones); `copied`,
        the share of its words that stand in a run of four copied from a training input; `labels`,
        how many of its words are words of a label; `spent`, the ledger of the whole measurement.

    Raises:
        TaskError, ModelError: a task or model that cannot be loaded.
        ConfigError: for an argument of the wrong type.
    """
    if isinstance(prompts, (Prompt, str, dict)):
        prompts = [prompts]
    asked = [Prompt.of(prompt) for prompt in prompts]
    task = the_task(task, **(task_options or {}))
    model = the_model(model, **(model_options or {}))
    guards, ledger = Guards.of(task), Ledger()
    lengths = model.count_tokens([prompt.instruction for prompt in asked]).tolist()
    texts = list(dict.fromkeys(p.instruction for p in asked if p.words))
    found = dict(zip(texts, _perplexities(model, texts, ledger), strict=True))
    rows = [
        {
            "prompt": prompt.to_json(),
            "tokens": tokens,
            "words": len(prompt.words),
            "perplexity": found.get(prompt.instruction),
            "copied": guards.copied(prompt),
            "labels": guards.named(prompt),
        }
        for prompt, tokens in zip(asked, lengths, strict=True)
    ]
    return [{**row, "spent": ledger.snapshot()} for row in rows]


def _perplexities(model: LanguageModel, texts: Sequence[str], ledger: Ledger) -> list[float | None]:
    """Return the perplexity of texts, asked in one call; one by one where a text cannot be read."""
    if not texts:
        return []
    try:
        found = log_perplexity(model, texts)
    except ModelError:
        if len(texts) == 1:
            return [None]
        return [value for text in texts for value in _perplexities(model, [text], ledger)]
    ledger.charge(queries=len(texts), calls=1, tokens=int(model.count_tokens(texts).sum()))
    with np.errstate(over="ignore"):
        return [finite(value) for value in np.exp(found).tolist()]
