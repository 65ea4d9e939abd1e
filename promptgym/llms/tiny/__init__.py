"""The embedded models: small transformers trained by the project itself on the text world.

Three of them, each a folder that plain `transformers` loads: "causal" and "masked" answer,
"rewriter" writes instructions. They are stored as float16; load them with `dtype=torch.float32`,
in which all published scores are.
"""

from __future__ import annotations

import importlib.resources
from pathlib import Path

MODELS = ("causal", "masked", "rewriter")
REWRITE_TEMPLATE = "<rewrite> {prompt} <instruction>"
INDUCE_TEMPLATE = (
    "{demonstrations}<instruction>"  # `promptgym.tasks.world.DEMONSTRATION` units, joined
)


def weights_path(name: str) -> Path:
    """Folder of an embedded model.

    Args:
        name: "causal", "masked" or "rewriter".

    Raises:
        ValueError: if there is no such model.
        FileNotFoundError: if the package was installed without its weights.
    """
    if name not in MODELS:
        raise ValueError(f"no embedded model {name!r}; there are {', '.join(MODELS)}")
    path = Path(str(importlib.resources.files("promptgym.llms.tiny") / "weights" / name))
    if not (path / "model.safetensors").is_file():
        raise FileNotFoundError(
            f"{path} has no model.safetensors; reinstall promptgym or train it: see MODEL_CARD.md"
        )
    return path
