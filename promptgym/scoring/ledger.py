"""`Budget` and `Ledger`: what may be spent, and what was."""

from __future__ import annotations

import time
from dataclasses import asdict, dataclass, field

from promptgym.errors import BudgetExhausted, ConfigError
from promptgym.types import JSON

KINDS = ("queries", "calls", "tokens", "seconds")


@dataclass(frozen=True, slots=True)
class Budget:
    """Hard caps; None is no cap.

    Attributes:
        queries: prompt x example pairs asked of the target model, cached or not.
        calls: batches sent to the model.
        tokens: tokens read and written by the model (cached answers cost none).
        seconds: wall-clock time since the ledger was opened.
    """

    queries: int | None = None
    calls: int | None = None
    tokens: int | None = None
    seconds: float | None = None

    def __post_init__(self) -> None:
        """Refuse a cap that is not positive."""
        for name, value in asdict(self).items():
            if value is not None and value <= 0:
                raise ConfigError(f"budget: {name} must be positive or None, got {value!r}")

    @classmethod
    def of(cls, value: Budget | int | JSON | None) -> Budget:
        """Build a budget: a number is a cap on queries, a dict names its caps."""
        if value is None:
            return cls()
        if isinstance(value, Budget):
            return value
        if isinstance(value, int):
            return cls(queries=value)
        if isinstance(value, dict):
            unknown = set(value) - set(KINDS)
            if unknown:
                raise ConfigError(f"budget: unknown {sorted(unknown)}; allowed: {list(KINDS)}")
            return cls(**value)
        raise ConfigError(f"budget: expected a number or a dict, got {type(value).__name__}")


@dataclass(slots=True)
class Ledger:
    """Counts what a problem spends and says how much still fits. Mutable, one per problem.

    `reserved` queries are set aside (for the final choice on dev) and do not fit until released.
    """

    budget: Budget = field(default_factory=Budget)
    queries: int = 0
    calls: int = 0
    tokens: int = 0
    reserved: int = 0
    seconds_before: float = 0.0
    started: float = field(default_factory=time.monotonic)

    @property
    def seconds(self) -> float:
        """Wall-clock seconds on the clock, earlier sessions of a resumed run included."""
        return self.seconds_before + time.monotonic() - self.started

    @property
    def exhausted(self) -> bool:
        """Whether some cap is reached."""
        return any(
            cap is not None and spent >= cap
            for cap, spent in (
                (self.budget.queries, self.queries),
                (self.budget.calls, self.calls),
                (self.budget.tokens, self.tokens),
                (self.budget.seconds, self.seconds),
            )
        )

    @property
    def queries_left(self) -> int | None:
        """Queries that still fit beside those set aside; None without a cap."""
        if self.budget.queries is None:
            return None
        return max(0, self.budget.queries - self.queries - self.reserved)

    @property
    def fraction(self) -> float:
        """Share of the tightest cap that is spent, in [0, 1]; 0 without caps."""
        shares = [
            spent / cap
            for cap, spent in (
                (self.budget.queries, self.queries),
                (self.budget.calls, self.calls),
                (self.budget.tokens, self.tokens),
                (self.budget.seconds, self.seconds),
            )
            if cap is not None
        ]
        return min(1.0, max(shares, default=0.0))

    def fitting(self, rows: int, queries_per_row: int) -> int:
        """Return how many of `rows` prompts fit, each costing `queries_per_row` queries.

        Raises:
            BudgetExhausted: if none fits.
        """
        if not rows:
            return 0
        left = self.queries_left
        fits = rows if left is None else min(rows, left // max(1, queries_per_row))
        if fits == 0 or self.exhausted:
            raise BudgetExhausted(
                f"budget spent: {self.snapshot()} of {asdict(self.budget)}; the next prompt needs "
                f"{queries_per_row} queries"
            )
        return fits

    def charge(self, *, queries: int = 0, calls: int = 0, tokens: int = 0) -> None:
        """Book what was spent."""
        self.queries += queries
        self.calls += calls
        self.tokens += tokens

    def snapshot(self) -> JSON:
        """Return the counts as JSON."""
        return {
            "queries": self.queries,
            "calls": self.calls,
            "tokens": self.tokens,
            "seconds": round(self.seconds, 3),
        }

    def restore(self, snapshot: JSON) -> None:
        """Take the counts of an earlier `snapshot` and start the clock anew."""
        self.queries = int(snapshot["queries"])
        self.calls = int(snapshot["calls"])
        self.tokens = int(snapshot["tokens"])
        self.seconds_before = float(snapshot["seconds"])
        self.started = time.monotonic()
