"""The proposer of a problem: how it is asked, metered, written down and read."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest

from promptgym import make_problem
from promptgym.baselines import BASELINES
from promptgym.cli import main
from promptgym.errors import ConfigError, ModelError, TooManyFailures
from promptgym.llms import Completion, Sampling, forget_models, registry
from promptgym.problem import Problem
from promptgym.runs import ListSink
from promptgym.scoring import Budget
from promptgym.scoring.proposing import tagged
from promptgym.search import Propose, Result, Search, SearchMethod
from promptgym.search.driver import IDLE
from promptgym.search.journal import Journal, JournaledProblem
from promptgym.search.watch import WatchedProblem
from promptgym.testing import RuleProposer, TransparentModel, transparent_task
from promptgym.testing.transparent import FILLERS, WEIGHTS

WORDS = (*WEIGHTS, *FILLERS)


def echo(text: str, rng: np.random.Generator) -> str:
    """Write a word behind what was asked; each third answer cannot be read."""
    word = WORDS[int(rng.integers(len(WORDS)))]
    return f"<p>{text} {word}</p>" if rng.random() < 2 / 3 else f"{text} {word}"


class Counting(RuleProposer):
    """Costs a cent a text, as a served model would."""

    class Usage:
        """What a model that counts money has."""

        known_usd, unpriced, under_way = 0.0, 0, 0

    def __init__(self, *args: Any) -> None:
        """Begin at nothing."""
        super().__init__(*args)
        self.usage = self.Usage()

    def generate(self, texts: Any, sampling: Sampling) -> list[Completion]:
        """Count."""
        self.usage.known_usd += 0.01 * len(texts)
        return super().generate(texts, sampling)


@dataclass(frozen=True)
class Chain(SearchMethod):
    """Has the best prompt extended again and again."""

    name: ClassVar[str] = "chain"
    width: int = 3

    @property
    def proposes(self) -> bool:
        """Whether it asks a proposer: it does."""
        return True

    def search(self, problem: Problem, rng: np.random.Generator) -> Search:
        """Ask the proposer, then the scores, in turns."""
        best, value = problem.initial_prompt, -np.inf
        while True:
            sampling = Sampling(max_new_tokens=32, temperature=1.0, seed=int(rng.integers(2**31)))
            found = yield Propose([best.instruction] * self.width, sampling, "p")
            prompts = [best.with_words(text.split()[-4:]) for text in found.parsed if text]
            if prompts:
                answer = yield prompts
                if answer.rewards.max() > value:
                    value, best = answer.rewards.max(), prompts[int(answer.rewards.argmax())]


def make(proposer: Any = None, budget: Any = 2000, **options: Any) -> Problem:
    proposer = RuleProposer(echo) if proposer is None else proposer
    return Problem(
        transparent_task(), TransparentModel(), budget=budget, proposer=proposer, **options
    )


def outcome(result: Result) -> dict[str, Any]:
    row = asdict(result)
    row["spent"].pop("seconds")
    return row


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("say <p> a b </p>.", "a b"),
        ("<p>a</p> or <p>b</p>", None),
        ("<p>a", None),
        ("a</p>", None),
        ("</p>a<p>", None),
        ("<p> </p>", None),
        ("<p>a <p>b</p>", None),
        ("<p>a \ud800</p>", None),
        ("<q>a</q>", None),
        ("", None),
    ],
)
def test_a_proposal_is_read_strictly(text: str, found: str | None) -> None:
    assert tagged(text, "p") == found


def test_without_a_tag_a_proposal_is_the_whole_completion() -> None:
    assert tagged(" a <b ", None) == "a <b"
    assert tagged("  ", None) is None


def test_the_proposer_is_metered_apart_and_what_cannot_be_read_costs_as_much() -> None:
    sink, proposer = ListSink(), RuleProposer(echo)
    problem = make(proposer, events=sink)
    result = Chain().optimize(problem, seed=0)
    rows = [e for e in sink.events if e["kind"] == "proposals"]
    written = [c for row in rows for c in row["completions"]]
    unread = [c for row in rows for c in row["parsed"] if c is None]
    assert result.stats["proposals"] == len(written) == len(proposer.asked)
    assert result.stats["unparsable"] == len(unread) > 0
    words = sum(len(t.split()) for t in [*proposer.asked, *written])
    assert result.spent["proposer"] == {"calls": len(written), "tokens": words}
    scored = sum(len(e["prompts"]) * e["examples"] for e in sink.events if e["kind"] == "scores")
    assert result.spent["queries"] == scored, "the target's counts are the target's alone"


@pytest.mark.parametrize("caps", [{"proposer_calls": 20}, {"proposer_tokens": 200}])
def test_caps_on_the_proposer_are_hard_and_end_the_search(caps: dict[str, int]) -> None:
    proposer = RuleProposer(echo)
    result = Chain().optimize(make(proposer, {"queries": 100_000, **caps}), seed=1)
    spent = result.spent["proposer"]
    if "proposer_calls" in caps:
        assert spent["calls"] == len(proposer.asked) == 18, "a request is made whole or not at all"
    else:
        assert 0 < spent["tokens"] <= 200
    assert result.best.dev is not None


def test_a_run_that_a_cap_of_the_proposer_ended_resumes_to_the_same_end(tmp_path: Path) -> None:
    caps = {"queries": 100_000, "proposer_calls": 20}
    first = Chain().optimize(make(budget=caps), seed=1, checkpoint_dir=tmp_path)
    proposer = RuleProposer(echo)
    again = Chain().optimize(make(proposer, caps), seed=1, checkpoint_dir=tmp_path, resume=True)
    assert outcome(again) == outcome(first) and not proposer.asked


def test_a_watched_problem_proposes_through_the_one_behind_it(tmp_path: Path) -> None:
    journal = Journal(tmp_path, {})
    behind = JournaledProblem(make(), journal)
    WatchedProblem(behind).propose(["a", "b"], Sampling())
    assert journal.position == 1


def test_a_cap_on_the_proposer_bounds_only_methods_that_ask_it() -> None:
    from promptgym.baselines.random_tokens import RandomTokens

    with pytest.raises(ConfigError, match="give the problem a budget"):
        RandomTokens().check(make(budget={"proposer_calls": 5}))
    with pytest.raises(ConfigError, match="proposer_calls takes a positive whole number"):
        Budget(proposer_calls=0)


def test_money_is_counted_for_both_and_capped_together() -> None:
    problem = make(Counting(echo), {"queries": 400})
    result = Chain().optimize(problem)
    spent = result.spent["proposer"]
    assert spent["usd"] == pytest.approx(0.01 * spent["calls"]) and spent["unpriced"] == 0
    assert problem.ledger.money == spent["usd"] and problem.ledger.usd is None


def test_a_cap_on_money_is_for_target_and_proposer_together() -> None:
    class Priced(TransparentModel):
        usage = Counting.Usage()

    def problem(proposer: Any) -> Problem:
        return Problem(transparent_task(), Priced(), budget={"usd": 0.5}, proposer=proposer)

    class Served(RuleProposer):
        remote = True

    result = Chain().optimize(problem(Counting(echo)))
    assert 0.3 < result.spent["proposer"]["usd"] <= 0.5
    with pytest.raises(ConfigError, match="what 'rule' costs is not known"):
        problem(Served(echo))
    assert problem(RuleProposer(echo)).proposer, "a model of this machine costs no money"


@pytest.mark.parametrize("name", sorted(BASELINES))
def test_methods_that_propose_are_refused_without_a_proposer(name: str, tmp_path: Path) -> None:
    from promptgym.agents import make_optimizer

    method: Any = make_optimizer(name)
    template = "{demonstrations}{input} {prompt}"
    problem = Problem(transparent_task(), TransparentModel(), template=template, budget=2000)
    if not method.proposes:
        method.check(problem)
        return
    folder = tmp_path / "run"
    with pytest.raises(ConfigError, match=f"^{name} asks a proposer .*tiny-rewriter"):
        method.optimize(problem, checkpoint_dir=folder)
    assert not folder.exists() and problem.ledger.queries == 0


def test_a_proposer_that_is_none_or_has_no_name_is_refused() -> None:
    with pytest.raises(ConfigError, match="model that generates, got 3"):
        make(3)
    with pytest.raises(ConfigError, match=r"'tiny-masked@.* is a masked model and writes no pro"):
        make_problem(transparent_task(), TransparentModel(), proposer="tiny-masked")
    with pytest.raises(ConfigError, match="without a proposer"):
        make_problem(transparent_task(), TransparentModel(), proposer_options={"a": 1})
    with pytest.raises(ModelError, match="unknown model 'no-such'"):
        make_problem(transparent_task(), TransparentModel(), proposer="no-such")
    with pytest.raises(ConfigError, match="no proposer"):
        Problem(transparent_task(), TransparentModel()).propose(["a"], Sampling())


class Killed(Exception):
    """What the test raises in the middle of a run."""


class Bomb(ListSink):
    """Raises after so many events."""

    def __init__(self, after: int) -> None:
        """Take how many."""
        super().__init__()
        self.after = after

    def emit(self, kind: str, **fields: Any) -> None:
        """Keep the event; raise when there are too many."""
        super().emit(kind, **fields)
        if len(self.events) > self.after:
            raise Killed


@pytest.mark.parametrize("after", [1, 2, 3, 8, 15, 16, 17])
def test_a_killed_run_repeats_no_call_of_the_proposer(tmp_path: Path, after: int) -> None:
    whole, first, second = RuleProposer(echo), RuleProposer(echo), RuleProposer(echo)
    expected = Chain().optimize(make(whole), seed=3)
    with pytest.raises(Killed):
        Chain().optimize(make(first, events=Bomb(after)), seed=3, checkpoint_dir=tmp_path)
    known = [json.loads(r) for r in (tmp_path / "journal.jsonl").read_text().splitlines()[1:]]
    kept = sum(len(row["completions"]) for row in known if "asked" in row)
    result = Chain().optimize(make(second), seed=3, checkpoint_dir=tmp_path, resume=True)
    assert outcome(result) == outcome(expected)
    assert second.asked == whole.asked[kept:]
    again = RuleProposer(echo)
    assert outcome(
        Chain().optimize(make(again), seed=3, checkpoint_dir=tmp_path, resume=True)
    ) == outcome(expected)
    assert not again.asked


def test_a_resumed_run_must_ask_the_same_of_the_same_proposer(tmp_path: Path) -> None:
    Chain().optimize(make(), seed=3, checkpoint_dir=tmp_path)
    with pytest.raises(ConfigError, match='proposer was "rule", is "other"'):
        Chain().optimize(
            make(RuleProposer(echo, "other")), seed=3, checkpoint_dir=tmp_path, resume=True
        )
    file = tmp_path / "journal.jsonl"
    rows = file.read_text().splitlines()
    row = json.loads(rows[1])
    rows[1] = json.dumps({**row, "asked": "0" * 16})
    file.write_text("\n".join(rows) + "\n")
    with pytest.raises(ConfigError, match="record 1"):
        Chain().optimize(make(), seed=3, checkpoint_dir=tmp_path, resume=True)


class Failing(RuleProposer):
    """Fails in some calls."""

    def __init__(self, reason: str, every: bool) -> None:
        """Take what goes wrong, and whether it does in each call."""
        super().__init__(echo)
        self.reason, self.every = reason, every

    def generate(self, texts: Any, sampling: Sampling) -> list[Completion]:
        """Fail."""
        out = super().generate(texts, sampling)
        bad = [self.every or i == 0 for i in range(len(out))]
        return [
            Completion("", error=self.reason) if b else c for b, c in zip(bad, out, strict=True)
        ]


def test_failed_calls_are_no_proposals_and_an_outage_can_be_resumed(tmp_path: Path) -> None:
    sink = ListSink()
    result = Chain().optimize(make(Failing("timeout: late", every=False), events=sink), seed=3)
    rows = [e for e in sink.events if e["kind"] == "proposals"]
    assert all(row["failures"] == {0: "timeout: late"} for row in rows)
    assert result.stats["unparsable"] >= len(rows)
    outage = make(Failing("timeout: late", every=True))
    with pytest.raises(TooManyFailures, match=r"'rule' failed in all 3 calls .*timeout: late"):
        Chain().optimize(outage, seed=3, checkpoint_dir=tmp_path)
    mended = Chain().optimize(make(), seed=3, checkpoint_dir=tmp_path, resume=True)
    assert mended.best == Chain().optimize(make(), seed=3).best


def test_a_proposer_that_brings_nothing_ends_the_search_with_a_word() -> None:
    @dataclass(frozen=True)
    class Patient(Chain):
        def search(self, problem: Problem, rng: np.random.Generator) -> Search:
            yield [problem.initial_prompt]
            yield from super().search(problem, rng)

    sink = ListSink()
    proposer = Failing("refused: no", every=True)
    result = Patient().optimize(make(proposer, events=sink))
    assert result.best.prompt == make().initial_prompt
    assert result.stats["requests"] == IDLE
    assert next(e for e in sink.events if e["kind"] == "warning")["message"].startswith("chain")


def test_the_command_line_takes_a_proposer_and_its_caps(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def run(*more: Any) -> int:
        start = ["train", "best_of_n", "--task", "author", "--budget", 900, "--no-report", "--json"]
        sizes = ["--task-options", '{"sizes": {"train": 16, "dev": 16, "test": 16}}']
        with pytest.raises(SystemExit) as left:
            main([str(word) for word in (*start, *sizes, "--out", tmp_path / "run", *more)])
        return int(left.value.code or 0)

    assert run() == 2
    assert "best_of_n asks a proposer" in capsys.readouterr().err
    proposer = ["--proposer", "tiny-rewriter"]
    assert run(*proposer, "--dry-run") == 2
    assert "a dry run asks no model" in capsys.readouterr().err
    forget_models()
    for more in ((), ("--dry-run",)):
        assert run("--proposer", "tiny-masked", "--model", "tiny", *more) == 2
        assert "proposer 'tiny-masked' is a masked model and writes no" in capsys.readouterr().err
    assert not registry._loaded
    assert not (tmp_path / "run").exists()
    assert run(*proposer, "--budget-proposer-calls", 32) == 0
    spent = json.loads(capsys.readouterr().out)["spent"]
    assert spent["proposer"]["calls"] == 32 and spent["queries"] <= 900
