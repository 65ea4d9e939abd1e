"""The baselines that ask a proposer: what all of them promise, then each one's own algorithm."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from rule_models import events, make, method, rule_proposer

from promptgym import make_problem
from promptgym.agents import make_optimizer
from promptgym.baselines import BASELINES
from promptgym.errors import ConfigError
from promptgym.llms import LabelLogprobs
from promptgym.problem import Problem
from promptgym.runs import ListSink
from promptgym.search.result import Result
from promptgym.testing import RuleProposer, TransparentModel, transparent_task

BY_OPTION: dict[str, dict[str, Any]] = {
    "evoprompt_ga": {"operators": "proposer"},
    "evoprompt_de": {"operators": "proposer"},
    "random_tokens": {"generator": "model"},
}
"""Baselines that ask a proposer if an option says so."""
PROPOSING = [
    name for name in sorted(BASELINES) if make_optimizer(name, **BY_OPTION.get(name, {})).proposes
]
TAGGED = [name for name in PROPOSING if name != "random_tokens"]
"""Those whose proposals stand between tags; `random_tokens` takes whatever is written."""


def outcome(result: Result) -> dict[str, Any]:
    row = asdict(result)
    row["spent"].pop("seconds")
    return row


def trained(sink: ListSink) -> list[str]:
    """Return the instructions asked on the training split, in order."""
    rows = [e for e in events(sink, "scores") if e["split"] == "train"]
    return [p["instruction"] for row in rows for p in row["prompts"]]


def proposing(name: str, **options: Any) -> Any:
    """Return a method by name that asks its proposer."""
    return method(name, **BY_OPTION.get(name, {}), **options)


# -- what all of them promise --------------------------------------------------


@pytest.mark.parametrize("name", sorted(BY_OPTION))
def test_it_runs_on_the_embedded_rewriter(name: str) -> None:
    sizes = {"train": 8, "dev": 8}
    problem = make_problem(
        "author",
        "tiny",
        task_options={"sizes": sizes},
        proposer="tiny-rewriter",
        budget={"queries": 400, "proposer_calls": 40},
    )
    result = proposing(name).optimize(problem, seed=0)
    assert result.best.dev is not None
    assert 0 < result.spent["proposer"]["calls"] <= 40 and result.spent["queries"] <= 400
    assert result.spent["proposer"]["tokens"] > 0


@pytest.mark.parametrize("name", PROPOSING)
def test_its_proposer_budget_is_hard(name: str) -> None:
    proposer = rule_proposer()
    problem = make({"queries": 10_000, "proposer_calls": 100}, proposer)
    result = proposing(name).optimize(problem, seed=1)
    assert result.spent["proposer"]["calls"] == len(proposer.asked) <= 100
    assert result.best.dev is not None


@pytest.mark.parametrize("name", TAGGED)
def test_what_cannot_be_read_is_logged_and_paid(name: str) -> None:
    sink = ListSink()
    mute = RuleProposer(lambda text, rng: "I would rather not.")
    problem = make(3000, mute, events=sink)
    result = proposing(name).optimize(problem, seed=0)
    rows = events(sink, "proposals")
    assert rows and all(found is None for row in rows for found in row["parsed"])
    assert result.stats["unparsable"] == result.stats["proposals"] == len(mute.asked)
    words = sum(len(text.split()) for text in mute.asked) + 4 * len(mute.asked)
    assert result.spent["proposer"] == {"calls": len(mute.asked), "tokens": words}
    assert result.best.prompt == problem.initial_prompt, "nothing else could be asked"


@pytest.mark.parametrize("name", PROPOSING)
def test_killed_between_two_records_it_repeats_no_call(name: str, tmp_path: Path) -> None:
    def go(proposer: Any, resume: bool = False) -> dict[str, Any]:
        problem = make(1500, proposer)
        return outcome(proposing(name).optimize(problem, 4, checkpoint_dir=tmp_path, resume=resume))

    first = rule_proposer()
    whole = go(first)
    file = tmp_path / "journal.jsonl"
    lines = file.read_bytes().splitlines(keepends=True)
    for kept in {2, 3, len(lines) // 2, len(lines) - 1}:
        file.write_bytes(b"".join(lines[:kept]))
        known = [json.loads(line) for line in lines[1:kept]]
        served = sum(len(row["completions"]) for row in known if "asked" in row)
        again = rule_proposer()
        assert go(again, resume=True) == whole
        assert again.asked == first.asked[served:]


@pytest.mark.parametrize("name", TAGGED)
def test_settings_that_mean_nothing_are_refused(name: str) -> None:
    for wrong in ({"temperature": -1.0}, {"max_tokens": 0}):
        with pytest.raises(ConfigError, match=f"{name}: {next(iter(wrong))}"):
            proposing(name, **wrong)


def test_ape_refuses_to_keep_all_of_a_round() -> None:
    for wrong in ({"subsets": 1, "per_subset": 1}, {"keep": 0.99}):
        with pytest.raises(ConfigError, match=r"ape: .* leaves none to vary"):
            method("ape", **wrong)


# -- best of N -----------------------------------------------------------------


def test_best_of_n_rewrites_the_initial_prompt_alone_and_stops_at_n() -> None:
    proposer, sink = rule_proposer(), ListSink()
    problem = make(20_000, proposer, initial_prompt="one alpha", events=sink)
    result = method("best_of_n", limit=40).optimize(problem, seed=0)
    assert len(proposer.asked) == 40
    assert {text.count("<prompt>one alpha</prompt>") for text in proposer.asked} == {1}
    asked = [
        p["instruction"]
        for e in events(sink, "scores")
        if e["split"] == "train"
        for p in e["prompts"]
    ]
    assert len(asked) == len(set(asked)) and asked[0] == "one alpha"
    parsed = {t for e in events(sink, "proposals") for t in e["parsed"] if t}
    assert set(asked) == parsed | {"one alpha"}
    assert "alpha" in result.best.prompt.words and len(result.best.prompt.words) <= 3


# -- APE -----------------------------------------------------------------------


def test_ape_guesses_from_sets_of_examples_then_varies_the_best() -> None:
    proposer, sink = rule_proposer(), ListSink()
    problem = make(9000, proposer, events=sink)
    method("ape", race=False).optimize(problem, seed=0)
    guesses, rest = proposer.asked[:90], proposer.asked[90:]
    assert len(set(guesses)) == 3 and all(g.count("Right answer") == 5 for g in guesses)
    targets = {e.input: e.target for e in problem.task.train}
    shown = [b.split("\nRight answer: ") for b in guesses[0].split("Input: ")[1:]]
    assert all(targets[b[0]] == b[1].split("\n")[0] for b in shown), "with their own answers"
    assert len(rest) >= 72 and all("<prompt>" in text for text in rest)
    first = events(sink, "scores")[:2]
    rewards = {
        p["instruction"]: float(r)
        for e in first
        for p, r in zip(e["prompts"], e["rewards"], strict=True)
    }
    best = sorted(rewards, key=lambda p: -rewards[p])[:18]
    varied = {text.split("<prompt>")[1].split("</prompt>")[0] for text in rest[:72]}
    assert varied == set(best)


def test_ape_finds_the_optimum_of_an_additive_problem_and_racing_saves_queries() -> None:
    result = method("ape").optimize(make(15_000), seed=0)
    assert {"alpha", "beta", "gamma"} <= set(result.best.prompt.words)
    raced = method("ape").optimize(make(3000), seed=0)
    whole = method("ape", race=False).optimize(make(3000), seed=0)
    assert raced.stats["prompts"] > 1.2 * whole.stats["prompts"]
    with pytest.raises(ConfigError, match="ape: keep"):
        method("ape", keep=1.0)


# -- OPRO ----------------------------------------------------------------------


def test_opro_shows_the_best_with_their_scores_in_ascending_order() -> None:
    proposer, sink = rule_proposer(), ListSink()
    method("opro", trajectory=4).optimize(make(6000, proposer, events=sink), seed=0)
    scores: dict[str, float] = {}
    steps = [e for e in sink.events if e["kind"] == "proposals" or e.get("split") == "train"]
    checked = 0
    for event in steps:
        if event["kind"] == "scores":
            names = [p["instruction"] for p in event["prompts"]]
            scores |= dict(zip(names, (100 * np.asarray(event["values"])).tolist(), strict=True))
            continue
        assert len(event["texts"]) == 8 and len(set(event["texts"])) == 1
        blocks = event["texts"][0].split("<prompt>")[1:]
        shown = [(b.split("</prompt>")[0], int(b.split("score: ")[1].split()[0])) for b in blocks]
        values = [scores[name] for name, _ in shown]
        assert values == sorted(values) and values == sorted(scores.values())[-4:]
        assert [score for _, score in shown] == [round(v) for v in values]
        assert event["texts"][0].count("Right answer") == 3
        checked += len(shown) == 4
    assert checked > 5


def test_opro_climbs_an_additive_problem() -> None:
    result = method("opro").optimize(make(20_000), seed=0)
    assert {"alpha", "beta", "gamma"} <= set(result.best.prompt.words)


# -- SPO ----------------------------------------------------------------------


def judged(verdict: Any) -> RuleProposer:
    """Return a proposer whose improvements add a word and whose judge answers by a rule."""

    def rule(text: str, rng: np.random.Generator) -> str:
        if "<choice>" in text:
            return f"<choice>{verdict(text, rng)}</choice>"
        prompt = text.split("<prompt>")[1].split("</prompt>")[0]
        return f"<instruction>{prompt} alpha{len(prompt.split())}</instruction>"

    return RuleProposer(rule)


def first_wins(text: str, rng: np.random.Generator) -> str:
    return "A"


def newest_wins() -> Any:
    """Return a judge who answers for the new side: the sides change places each time."""
    turn: list[int] = []

    def verdict(text: str, rng: np.random.Generator) -> str:
        turn.append(1)
        return "AB"[(len(turn) - 1) % 2]

    return verdict


def test_spo_takes_a_prompt_that_wins_most_judgements_and_no_tie() -> None:
    tie = method("spo").optimize(make(proposer=judged(first_wins)), seed=0)
    assert tie.stats["distinct"] == 1 and tie.best.prompt == make().initial_prompt
    wins = method("spo").optimize(make(proposer=judged(newest_wins())), seed=0)
    assert wins.stats["distinct"] == 11
    assert wins.stats["proposals"] == 10 * (1 + 4)
    unread = judged(lambda text, rng: "A or B")
    assert method("spo").optimize(make(proposer=unread), seed=0).stats["distinct"] == 1


def test_spo_shows_outputs_and_no_label() -> None:
    proposer, sink = judged(newest_wins()), ListSink()
    problem = make(None, proposer, events=sink)
    method("spo", rounds=2).optimize(problem, seed=3)
    assert not any("Right answer" in text for text in proposer.asked)
    improve, judge = events(sink, "proposals")[:2]
    outputs = improve["texts"][0].split("answers:\n\n")[1].split("\n\nThink")[0]
    assert outputs.count("Input: ") == 3
    model = TransparentModel()
    for block in outputs.split("\n\n"):
        line, answer = block.removeprefix("Input: ").split("\nAnswer: ")
        text = f"{line} {problem.initial_prompt.instruction}"
        assert model.generate([text], None)[0].text == answer  # type: ignore[arg-type]
    sides = [t.split("Answers A:\n\n")[1].split("\n\nAnswers B:\n\n") for t in judge["texts"]]
    olds = [s[(i + 1) % 2].split("\n\nWhich")[0] for i, s in enumerate(sides)]
    assert olds == [outputs] * 4, "the sides change places"


def test_spo_with_a_fair_judge_climbs() -> None:
    def count(answers: str) -> int:
        blocks = [b.split("\nAnswer: ") for b in answers.split("Input: ")[1:]]
        return sum(("plus" in b[0].split()) == (b[1].split()[0] == "plus") for b in blocks)

    def verdict(text: str, rng: np.random.Generator) -> str:
        sides = text.split("Answers A:")[1].split("Answers B:")
        first, second = count(sides[0]), count(sides[1])
        return "neither" if first == second else "AB"[second > first]

    edits = rule_proposer()

    def rule(text: str, rng: np.random.Generator) -> str:
        if "<choice>" in text:
            return f"<choice>{verdict(text, rng)}</choice>"
        return edits.rule(text, rng)

    problem = make(None, RuleProposer(rule))
    result = method("spo", rounds=60, samples=8).optimize(problem, seed=0)
    before = make(None).score([problem.initial_prompt], split="dev").mean[0]
    assert result.best.dev is not None and result.best.dev > before + 0.2


# -- PE2 ----------------------------------------------------------------------


def test_pe2_expands_the_best_of_all_and_leads_through_their_mistakes() -> None:
    proposer, sink = rule_proposer(), ListSink()
    problem = make(20_000, proposer, events=sink, initial_prompt="alpha")
    result = method("pe2", history=2, step_size=3).optimize(problem, seed=0)
    rounds = events(sink, "proposals")
    assert [len(r["texts"]) for r in rounds] == [4, 16, 16]
    assert result.stats["asks"] == 4
    for text in proposer.asked:
        assert problem.template.text in text and "Change 3 words of it at most." in text
        assert text.count("The model's answer") == 2 == text.count("Right answer")
    trained_rewards: dict[str, float] = {}
    for event in sink.events:
        if event["kind"] == "scores" and event["split"] == "train":
            names = [p["instruction"] for p in event["prompts"]]
            trained_rewards |= dict(zip(names, np.asarray(event["rewards"]).tolist(), strict=True))
        if event["kind"] == "proposals":
            best = sorted(trained_rewards, key=lambda p: -trained_rewards[p])[:4]
            prompts = [t.split("<prompt>")[1].split("</prompt>")[0] for t in event["texts"]]
            assert prompts == [p for p in best for _ in range(4)]
    assert "It was before" not in rounds[0]["texts"][0]
    assert any("It was before, oldest first:\nalpha (score" in t for t in rounds[1]["texts"])


def test_pe2_tells_no_score_of_an_earlier_prompt_that_failed() -> None:
    class RefusesTheStart(TransparentModel):
        def label_logprobs(self, texts: Sequence[str], labels: Sequence[str]) -> LabelLogprobs:
            found = super().label_logprobs(texts, labels)
            failed = [i for i, text in enumerate(texts) if text.endswith(" one two")]
            found.logprobs[failed] = np.nan
            return LabelLogprobs(found.logprobs, found.tokens, dict.fromkeys(failed, "refused: no"))

    proposer, sink = rule_proposer(), ListSink()
    problem = Problem(
        transparent_task(), RefusesTheStart(), budget=8000, proposer=proposer, events=sink
    )
    result = method("pe2", history=3).optimize(problem, seed=0)
    last = events(sink, "proposals")[-1]["texts"]
    assert result.best.dev is not None and len(last) == 16
    assert any("(score" in text for text in last)
    assert not any("one two (score" in text for text in last)


def test_pe2_climbs_an_additive_problem() -> None:
    options = {"steps": 8, "expand": 8}
    result = method("pe2", **options).optimize(make(20_000), seed=0)
    assert {"alpha", "beta"} <= set(result.best.prompt.words)
    assert result.best.reward > method("pe2", steps=1).optimize(make(20_000), seed=0).best.reward
