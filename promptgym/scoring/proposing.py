"""`Proposer`: a model that writes proposals, metered in a ledger of its own; how they are read."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from promptgym.errors import TooManyFailures
from promptgym.llms import LanguageModel, Sampling
from promptgym.llms.writers import check_writer
from promptgym.prompts.prompt import lone_surrogate
from promptgym.scoring.asking import Asker, is_remote
from promptgym.scoring.ledger import Budget, Ledger
from promptgym.scoring.scores import REFUSED, status_of


@dataclass(frozen=True, slots=True)
class Proposals:
    """What a proposer wrote.

    Attributes:
        completions: its N texts, as written; "" where the call failed.
        parsed: what was asked for out of each; None where it cannot be read, or the call failed.
        failures: index of a failed call -> what went wrong.
    """

    completions: tuple[str, ...]
    parsed: tuple[str | None, ...]
    failures: Mapping[int, str] = field(default_factory=dict)

    @classmethod
    def read(
        cls, completions: Sequence[str], failures: Mapping[int, str], tag: str | None
    ) -> Proposals:
        """Read completions; see `tagged`."""
        parsed = tuple(
            None if i in failures else tagged(text, tag) for i, text in enumerate(completions)
        )
        return cls(tuple(completions), parsed, dict(failures))


def tagged(text: str, tag: str | None) -> str | None:
    """Return what stands between `<tag>` and `</tag>`, without space around it.

    Strictly: each of the two stands in the text once, in this order, with something between them
    that UTF-8 can write; else it is None. Without a tag it is the whole text.
    """
    if tag is not None:
        opening, closing = f"<{tag}>", f"</{tag}>"
        start, end = text.find(opening), text.find(closing)
        if text.count(opening) != 1 or text.count(closing) != 1 or end < start:
            return None
        text = text[start + len(opening) : end]
    text = text.strip()
    return text if text and lone_surrogate(text) is None else None


class Proposer:
    """The model that methods ask for prompts, and what was spent on it.

    Its ledger is apart from the target model's. A call is one text to be continued; a request is
    made as a whole or, if it does not fit into what is left, not at all.

    Attributes:
        model: any model of the contract that generates.
        ledger: what was spent on it.
        paying: called while a model that counts money is asked, its ledger up to date, with the
            number of requests of which nothing is known yet; None for nobody.
    """

    def __init__(self, model: LanguageModel, budget: Budget) -> None:
        """Open its ledger, with the caps of a budget that are a proposer's.

        Raises:
            ConfigError: for what is no model or writes nothing, and a cap on money where nobody
                knows what a model asked over a network costs (one of this machine costs nothing).
        """
        check_writer(model)
        self.model = model
        self.ledger = Ledger(
            Budget(
                calls=budget.proposer_calls,
                tokens=budget.proposer_tokens,
                usd=budget.usd if is_remote(model) else None,
            )
        )
        self.paying: Callable[[int], None] | None = None
        Asker(model, None, Sampling()).charge_money(self.ledger)  # nothing yet: refuses such a cap

    def ask(self, texts: Sequence[str], sampling: Sampling, tag: str | None) -> Proposals:
        """Have texts continued; equal texts are drawn independently.

        Args:
            texts: N of them.
            sampling: how completions are drawn.
            tag: what proposals stand between, see `tagged`.

        Raises:
            BudgetExhausted: the request does not fit; nothing is spent.
            TooManyFailures: every call failed, and not because the texts were refused.
        """
        asker = Asker(self.model, None, sampling)

        def book() -> None:
            asker.charge_money(self.ledger)
            if self.paying is not None and asker.counts_money:
                self.paying(asker.under_way)

        hold = self.ledger.hold_whole(calls=len(texts), tokens=asker.most_tokens(texts))
        tokens = 0
        try:
            got = asker.ask(texts, book)
            tokens = int(got.tokens.sum())
        finally:
            self.ledger.settle(hold, calls=len(texts), tokens=tokens)
            book()
        reasons = dict(sorted(got.reasons.items()))
        if len(reasons) == len(texts) and any(status_of(r)[0] != REFUSED for r in reasons.values()):
            raise TooManyFailures(
                f"the proposer {self.model.name!r} failed in all {len(texts)} calls of a request, "
                f"the last one: {reasons[len(texts) - 1]}. Mend the cause and resume"
            )
        written = ["" if i in reasons else str(text) for i, text in enumerate(got.answers)]
        return Proposals.read(written, reasons, tag)
