"""`Outcomes`: what became of the evaluations that were asked."""

from __future__ import annotations

from collections import Counter


class Outcomes(Counter[str]):
    """Evaluations by the name of their status.

    Attributes:
        last: why the last one failed that did.
    """

    last: str = ""

    @property
    def failed(self) -> int:
        """How many failed."""
        return self.total() - self["ok"]

    def said(self, model: str) -> str:
        """Return how many failed, of which kinds, and why the last one did; "" for none."""
        if not self.failed:
            return ""
        kinds = ", ".join(f"{n:,} {kind}" for kind, n in self.most_common() if kind != "ok")
        return (
            f"{self.failed:,} of {self.total():,} evaluations by {model} failed ({kinds}); "
            f"the last: {self.last}"
        )
