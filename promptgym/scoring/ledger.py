"""`Budget` and `Ledger`: what may be spent, and what was.

Spending is reserved before it happens: `Ledger.hold` sets aside what a piece of work will cost at
most, so that threads that share a ledger cannot cross a cap together, and `Ledger.settle` books
what it did cost and gives the rest back. Work that fails is settled as well, with what was spent
before it failed; nothing stays held.

Queries are charged for every pair asked; calls and tokens for what a run asks its model, whether a
cache that outlives the run answers in the model's place or not. So a run spends the same on a new
machine and on one where everything is known, and its caps stop it at the same point. Money alone is
what was really paid, retries and failures included.
"""

from __future__ import annotations

import math
import threading
import time
from dataclasses import asdict, dataclass, field, fields
from numbers import Integral, Real

from promptgym.errors import BudgetExhausted, ConfigError
from promptgym.types import JSON

KINDS = ("queries", "calls", "tokens", "seconds", "usd")


@dataclass(frozen=True, slots=True)
class Budget:
    """Hard caps; None is no cap.

    Attributes:
        queries: prompt x example pairs asked of the target model, cached or not.
        calls: batches sent to the model.
        tokens: tokens read and written by the model (cached answers cost none).
        seconds: wall-clock time since the ledger was opened.
        usd: money, for models whose prices are known, that of the proposer included; the call
            during which it runs out is finished.
        proposer_calls: texts that the proposer is asked to continue.
        proposer_tokens: tokens read and written by the proposer.
    """

    queries: int | None = None
    calls: int | None = None
    tokens: int | None = None
    seconds: float | None = None
    usd: float | None = None
    proposer_calls: int | None = None
    proposer_tokens: int | None = None

    def __post_init__(self) -> None:
        """Refuse a cap that is no positive number (a whole one, of what is counted)."""
        for name, value in asdict(self).items():
            kind, what = (
                (Real, "number") if name in ("seconds", "usd") else (Integral, "whole number")
            )
            number = isinstance(value, kind) and not isinstance(value, bool)
            if value is not None and not (number and 0 < value < math.inf):
                raise ConfigError(f"budget: {name} takes a positive {what} or None, got {value!r}")

    @classmethod
    def of(cls, value: Budget | int | JSON | None) -> Budget:
        """Build a budget: a number is a cap on queries, a dict names its caps."""
        if value is None:
            return cls()
        if isinstance(value, Budget):
            return value
        if isinstance(value, Real):
            return cls(queries=value)  # type: ignore[arg-type]  # checked there
        if isinstance(value, dict):
            allowed = [f.name for f in fields(cls)]
            if unknown := set(value) - set(allowed):
                raise ConfigError(f"budget: unknown {sorted(unknown)}; allowed: {allowed}")
            return cls(**value)
        raise ConfigError(f"budget: expected a number or a dict, got {type(value).__name__}")


@dataclass(slots=True)
class Hold:
    """What is set aside for work under way; `Ledger.settle` ends it.

    Attributes:
        queries: at most so many prompt x example pairs.
        calls: at most so many calls.
        tokens: at most so many tokens.
    """

    queries: int = 0
    calls: int = 0
    tokens: int = 0


@dataclass(slots=True)
class Ledger:
    """Counts what a problem spends and says how much still fits. Mutable, one per problem.

    `reserved` queries are set aside (for the final choice on dev) and do not fit until released;
    `held` is what work under way may still cost. Threads may share a ledger.

    Attributes:
        usd: money spent as far as it is known; None for models that do not count it.
        unpriced: requests whose cost is unknown: while there are any, `usd` is a lower bound.
        proposer: counts of the proposer, which has caps of its own; None without one.
    """

    budget: Budget = field(default_factory=Budget)
    queries: int = 0
    calls: int = 0
    tokens: int = 0
    usd: float | None = None
    unpriced: int = 0
    reserved: int = 0
    seconds_before: float = 0.0
    started: float = field(default_factory=time.monotonic)
    held: Hold = field(default_factory=Hold)
    proposer: Ledger | None = None
    _lock: threading.RLock = field(default_factory=threading.RLock, repr=False, compare=False)

    @property
    def seconds(self) -> float:
        """Wall-clock seconds on the clock, earlier sessions of a resumed run included."""
        return self.seconds_before + time.monotonic() - self.started

    @property
    def exhausted(self) -> bool:
        """Whether some cap is reached, by what is spent and what is held for calls under way."""
        return any(spent >= cap for cap, spent in self._caps())

    def _caps(self) -> list[tuple[float, float]]:
        """Return (cap, spent) of every kind that has a cap; queries without those held."""
        spent = {
            "queries": self.queries,
            "calls": self.calls + self.held.calls,
            "tokens": self.tokens + self.held.tokens,
            "seconds": self.seconds,
            "usd": self.money,
        }
        caps = ((getattr(self.budget, kind), spent[kind]) for kind in KINDS)
        return [(cap, value) for cap, value in caps if cap is not None]

    @property
    def money(self) -> float:
        """USD known to be spent, those of the proposer included."""
        return (self.usd or 0.0) + (0.0 if self.proposer is None else self.proposer.money)

    @property
    def queries_left(self) -> int | None:
        """Queries that still fit beside those set aside; None without a cap."""
        if self.budget.queries is None:
            return None
        return max(0, self.budget.queries - self.queries - self.held.queries - self.reserved)

    @property
    def tokens_left(self) -> float | None:
        """Tokens that still fit; None without a cap.

        Under a cap on money, what is left of it buys tokens at the price paid so far.
        """
        left: list[float] = []
        if self.budget.tokens is not None:
            left.append(self.budget.tokens - self.tokens - self.held.tokens)
        if self.budget.usd is not None and self.usd and self.tokens:
            affordable = (self.budget.usd - self.money) / (self.usd / self.tokens)
            left.append(affordable - self.held.tokens)
        return max(0.0, min(left)) if left else None

    @property
    def fraction(self) -> float:
        """Share of the tightest cap that is spent, in [0, 1]; 0 without caps."""
        own = max((spent / cap for cap, spent in self._caps()), default=0.0)
        return min(1.0, own if self.proposer is None else max(own, self.proposer.fraction))

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

    def hold_rows(self, rows: int, queries_per_row: int) -> tuple[int, Hold]:
        """Set aside the queries of as many of `rows` prompts as fit; return how many, and the hold.

        Raises:
            BudgetExhausted: if none fits.
        """
        with self._lock:
            fits = self.fitting(rows, queries_per_row)
            return fits, self.hold(queries=fits * queries_per_row)

    def hold_whole(self, *, calls: int, tokens: int) -> Hold:
        """Set aside what one piece of work costs at most.

        Raises:
            BudgetExhausted: if not all of it fits.
        """
        with self._lock:
            cap, left = self.budget.calls, self.tokens_left
            fits = cap is None or self.calls + self.held.calls + calls <= cap
            if self.exhausted or not fits or (left is not None and tokens > left):
                raise BudgetExhausted(
                    f"budget spent: {self.snapshot()} of {asdict(self.budget)}; the next request "
                    f"is of {calls} calls and up to {tokens} tokens"
                )
            return self.hold(calls=calls, tokens=tokens)

    def hold(self, *, queries: int = 0, calls: int = 0, tokens: int = 0) -> Hold:
        """Set aside what work will cost at most."""
        with self._lock:
            held = self.held
            held.queries += queries
            held.calls += calls
            held.tokens += tokens
            return Hold(queries, calls, tokens)

    def settle(self, hold: Hold, *, queries: int = 0, calls: int = 0, tokens: int = 0) -> None:
        """End a hold: book what was spent and give back the rest."""
        with self._lock:
            held = self.held
            held.queries -= hold.queries
            held.calls -= hold.calls
            held.tokens -= hold.tokens
            hold.queries = hold.calls = hold.tokens = 0
            self.charge(queries=queries, calls=calls, tokens=tokens)

    def charge(
        self,
        *,
        queries: int = 0,
        calls: int = 0,
        tokens: int = 0,
        usd: float | None = None,
        unpriced: int = 0,
    ) -> None:
        """Book what was spent; `usd` of None leaves the sum as it is."""
        with self._lock:
            self.queries += queries
            self.calls += calls
            self.tokens += tokens
            self.unpriced += unpriced
            if usd is not None:
                self.usd = (self.usd or 0.0) + usd

    def snapshot(self) -> JSON:
        """Return the counts as JSON; `usd` (None: unknown) and `unpriced` if money is counted."""
        counts: JSON = {
            "queries": self.queries,
            "calls": self.calls,
            "tokens": self.tokens,
            "seconds": round(self.seconds, 3),
        }
        if self.usd is not None:
            unknown = self.unpriced > 0 and not self.usd
            counts["usd"], counts["unpriced"] = None if unknown else self.usd, self.unpriced
        if self.proposer is not None:
            own = self.proposer.snapshot()
            counts["proposer"] = {k: own[k] for k in own if k not in ("queries", "seconds")}
        return counts

    def restore(self, snapshot: JSON) -> None:
        """Take the counts of an earlier `snapshot` and start the clock anew."""
        self.queries = int(snapshot.get("queries", 0))
        self.calls = int(snapshot["calls"])
        self.tokens = int(snapshot["tokens"])
        self.usd = snapshot.get("usd")
        self.unpriced = int(snapshot.get("unpriced", 0))
        self.seconds_before = float(snapshot.get("seconds", 0.0))
        self.started = time.monotonic()
        if self.proposer is not None and "proposer" in snapshot:
            self.proposer.restore(snapshot["proposer"])

    def __getstate__(self) -> JSON:
        """Return everything but the lock: a ledger can be copied and pickled."""
        return {f.name: getattr(self, f.name) for f in fields(self) if f.name != "_lock"}

    def __setstate__(self, state: JSON) -> None:
        """Take the fields, with a lock of its own."""
        for name, value in state.items():
            setattr(self, name, value)
        self._lock = threading.RLock()
