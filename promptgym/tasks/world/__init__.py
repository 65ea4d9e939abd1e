"""The text world: reviews, news lines and word lists, with questions about them.

The bundled tasks come from it, and the embedded models (`promptgym.llms.tiny`) are trained on it.
"""

from __future__ import annotations

from promptgym.tasks.world.generate import generate
from promptgym.tasks.world.table import (
    DEMONSTRATION,
    MASKED_TEMPLATE,
    TEMPLATE,
    WORLD_TASKS,
    WorldTask,
)

__all__ = ["DEMONSTRATION", "MASKED_TEMPLATE", "TEMPLATE", "WORLD_TASKS", "WorldTask", "generate"]
