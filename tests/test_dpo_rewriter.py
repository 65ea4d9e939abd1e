"""The DPO rewriter: preferences by hand, rounds that learn, exact resuming, every option runs."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from env_problems import FailingModel

from promptgym.agents.dpo_config import PRESETS
from promptgym.agents.dpo_rewriter import JUDGED, PAIRS, DPORewriter
from promptgym.agents.preferences import (
    Judged,
)
from promptgym.agents.writer import Writer
from promptgym.errors import ConfigError
from promptgym.problem import Problem
from promptgym.prompts import Prompt
from promptgym.runs import ListSink
from promptgym.testing import TransparentModel, transparent_task

SMALL: dict[str, Any] = {"rounds": 2, "group": 6, "drafts": 2, "max_tokens": 6, "samples": 2}
# Words that the embedded rewriter writes, and what they are worth to the transparent model.
WORDS = {"sentiment": 0.8, "exact": 0.6, "give": 0.6, "say": 0.5, "writer": 0.5, "the": -0.5}
DRAFT = "what is the opinion of the author ?"
ERRORS = {"errors": 1, "meta_prompt": "<rewrite> {prompt} {errors} <instruction>"}
LORA = {"r": 4, "lora_alpha": 8, "target_modules": "all-linear"}


def problem(budget: int | None = 3000, **options: Any) -> Problem:
    model = options.pop("model", None) or TransparentModel(WORDS)
    options = {"initial_prompt": DRAFT, **options}
    return Problem(transparent_task(), model, budget=budget, **options)


def weights(agent: DPORewriter) -> dict[str, torch.Tensor]:
    return dict(agent.writer.model.state_dict())


def assert_same_weights(a: DPORewriter, b: DPORewriter) -> None:
    theirs = weights(b)
    for name, tensor in weights(a).items():
        assert torch.equal(tensor, theirs[name]), name


def mean_dev(prompts: list[Prompt]) -> float:
    return float(problem(None).score(prompts, split="dev").mean.mean())


def test_kto_logs_and_weighs_what_it_trains_on() -> None:
    def trained(**options: Any) -> tuple[DPORewriter, Any]:
        agent, seen = DPORewriter(**{**SMALL, "rounds": 1, "loss": "kto", **options}), []
        make = agent._trainer

        def watched(*given: Any) -> Any:
            seen.append(make(*given))
            return seen[-1]

        agent._trainer = watched  # type: ignore[method-assign]
        return agent.learn(problem(), seed=0), seen[-1].args

    agent, args = trained()
    row = agent.log[0]
    assert "pairs" not in row
    labels = [r.label for r in agent.preferences if isinstance(r, Judged)]
    assert len(labels) == len(agent.preferences) > 0
    assert (row["desirable"], row["undesirable"]) == (labels.count(True), labels.count(False))
    ratio = args.desirable_weight * labels.count(True)
    assert ratio / (args.undesirable_weight * labels.count(False)) == pytest.approx(1.0)
    _, alike = trained(balance=None)
    assert (alike.desirable_weight, alike.undesirable_weight) == (1.0, 1.0)
    _, given = trained(trainer={"desirable_weight": 3.0})
    assert given.desirable_weight == 3.0


def test_rounds_raise_the_held_out_accuracy_of_what_the_policy_writes() -> None:
    agent = DPORewriter(rounds=3, group=48, drafts=1, max_tokens=8, most=256)
    agent.learn(problem(50_000), seed=0)
    text = agent._about["text"]
    before = [
        Prompt(t) for t in Writer.load("tiny-rewriter").write([text] * 40, seed=9, max_tokens=8)
    ]
    after = agent.predict(40, greedy=False, seed=9)
    assert mean_dev(after) > mean_dev(before) + 0.1
    rewards = [row["reward_mean"] for row in agent.log]
    assert rewards[-1] > rewards[0]
    # The policy begins as the model it is compared with, and leaves it.
    assert agent.log[0]["kl"] == pytest.approx(0.0, abs=1e-5)
    assert agent.log[-1]["kl"] > 0.05
    assert all(p.margin > 0.03 for p in agent.preferences)


@pytest.mark.parametrize("loss", ["sigmoid", "simpo", "cpo", "orpo"])
def test_training_makes_the_chosen_likelier_than_the_rejected(loss: str) -> None:
    agent = DPORewriter(**{**SMALL, "rounds": 1, "epochs": 8, "batch": 8, "loss": loss})
    agent.learn(problem(), seed=0)
    start = Writer.load("tiny-rewriter")
    pairs = agent.preferences[:10]
    assert pairs

    def ratio(writer: Writer) -> float:
        asked = [p.prompt for p in pairs]
        chosen = writer.logprobs(asked, [p.chosen for p in pairs])
        rejected = writer.logprobs(asked, [p.rejected for p in pairs])
        return sum(a - b for (a, _), (b, _) in zip(chosen, rejected, strict=True))

    assert ratio(agent.writer) > ratio(start) + 1.0


@pytest.mark.parametrize(
    "options",
    [
        {"loss": "ipo"},
        {"loss": "kto"},
        {"loss": "cpo"},
        {"loss": "simpo", "trainer": {"simpo_gamma": 0.3}},
        {"loss": "orpo", "easy_first": True},
        {"pairs": "best_worst", "reference": "start"},
        {"pairs": "pareto"},
        {"rejected": "past", "chosen": "future", "easy_first": True},
        {"lora": LORA, "reference": "start"},
        {"errors": 2, "meta_prompt": "<rewrite> {prompt} {errors} <instruction>"},
    ],
    ids=str,
)
def test_an_option_trains(options: dict[str, Any]) -> None:
    if "lora" in options:
        pytest.importorskip("peft")
    agent = DPORewriter(**{**SMALL, "margin": 0.0, "learning_rate": 1e-3, **options})
    # The draft is neither the best nor the worst: some rewrites dominate it, and it dominates some.
    agent.learn(problem(initial_prompt="author"), seed=0)
    assert agent.step == 2
    start = Writer.load("tiny-rewriter").model.state_dict()
    if "lora" not in options:
        assert any(not torch.equal(t, start[name]) for name, t in weights(agent).items())
    else:
        assert any(t.abs().sum() > 0 for n, t in weights(agent).items() if "lora_B" in n)
    assert agent.log[-1]["kl"] != pytest.approx(0.0, abs=1e-5)
    assert len(agent.predict(3, greedy=False)) == 3
    if "errors" in options:
        assert "right:" in agent._about["text"]


def test_past_and_future_choose_where_the_two_sides_come_from() -> None:
    agent = DPORewriter(**{**SMALL, "margin": 0.0, "rejected": "past", "learning_rate": 1e-3})
    agent.learn(problem(), seed=0)
    first = {r.text for _, _, rewrites in agent._past for r in rewrites}
    assert {p.rejected for p in agent.preferences} <= first
    assert not {p.chosen for p in agent.preferences} <= first
    easy = DPORewriter(**{**SMALL, "rounds": 1, "margin": 0.0, "easy_first": True})
    easy.learn(problem(), seed=0)
    margins = [p.margin for p in easy.preferences]
    assert margins == sorted(margins, reverse=True)
    now = DPORewriter(**{**SMALL, "rounds": 1, "margin": 0.0}).learn(problem(), seed=0)
    future = DPORewriter(**{**SMALL, "rounds": 1, "margin": 0.0, "chosen": "future"})
    future.learn(problem(), seed=0)
    written = {r.text for _, _, rewrites in now._past for r in rewrites}
    assert {p.chosen for p in now.preferences} <= written
    assert not {p.chosen for p in future.preferences} <= written
    assert {p.rejected for p in future.preferences} <= written


def test_the_policys_rewrites_become_the_drafts_where_they_are_paid_more() -> None:
    shown = {"errors": 1, "meta_prompt": "<rewrite> {prompt} {truths} <instruction>"}
    options: dict[str, Any] = {**SMALL, "rounds": 3, "margin": 0.0, **shown}
    start = DPORewriter(**options).learn(problem(None, initial_prompt="the"), seed=0)
    assert {p.instruction for p in start._drafts} == {"the"}
    p = problem(None, initial_prompt="the")
    agent = DPORewriter(**options, next_drafts="rewrites").learn(p, seed=0)
    read = list(dict.fromkeys(pair.prompt for pair in agent.preferences))
    drafts = [text.split(" Examples")[0].removeprefix("<rewrite> ") for text in read]
    assert drafts[0] == "the"
    assert len(drafts) > 1, "later rounds rewrite other drafts"
    scores = p.score([Prompt(text) for text in drafts])
    rewards = p.rewards(scores).tolist()
    assert all(reward > rewards[0] for reward in rewards[1:])
    assert {d.instruction for d in agent._drafts} <= set(drafts)
    assert "(right:" not in "".join(read)


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"lora": LORA, "rejected": "past", "memory": False},
        {"next_drafts": "rewrites"},
        {"next_drafts": "rewrites", "memory": False, **ERRORS},
        {"loss": "kto"},
    ],
)
def test_an_interrupted_and_resumed_run_equals_an_uninterrupted_one(
    tmp_path: Path, options: dict[str, Any]
) -> None:
    if "lora" in options:
        pytest.importorskip("peft")
    options = {**SMALL, "rounds": 3, "margin": 0.0, **options}
    whole = DPORewriter(**options)
    expected = whole.optimize(problem(), seed=3, checkpoint_dir=tmp_path / "a")

    class Interrupted(Exception):
        """Stands for the kill."""

    class Killer(ListSink):
        """Kills the run after the second round, before its checkpoint."""

        def emit(self, kind: str, **fields: Any) -> None:
            super().emit(kind, **fields)
            if kind == "policy" and fields["step"] == 2:
                raise Interrupted

    with pytest.raises(Interrupted):
        DPORewriter(**options).optimize(
            problem(events=Killer()), seed=3, checkpoint_dir=tmp_path / "b"
        )
    torch.manual_seed(99)  # a new process starts anywhere
    np.random.seed(99)
    second, model = DPORewriter(**options), TransparentModel(WORDS)
    got = second.optimize(problem(model=model), seed=3, checkpoint_dir=tmp_path / "b", resume=True)
    assert got.best == expected.best
    assert got.history == expected.history
    assert got.policy == expected.policy
    assert got.stats == expected.stats
    assert got.spent["queries"] == expected.spent["queries"]
    assert second.preferences == whole.preferences
    assert_same_weights(whole, second)
    assert model.calls < expected.spent["calls"], "what was scored is not asked again"
    name, other = (JUDGED, PAIRS) if "loss" in options else (PAIRS, JUDGED)
    assert (tmp_path / "a" / name).read_text() == (tmp_path / "b" / name).read_text()
    assert not (tmp_path / "a" / other).exists()


def test_the_budget_is_a_hard_cap_and_a_cut_round_resumes(tmp_path: Path) -> None:
    options = {**SMALL, "rounds": 20, "memory": False}
    results = []
    for resume in (False, True):
        p = problem(1000)
        agent = DPORewriter(**options)
        results.append(agent.optimize(p, seed=1, checkpoint_dir=tmp_path, resume=resume))
        assert p.ledger.queries <= 1000
        assert p.ledger.reserved == 0
        assert agent.step < 20
    assert results[0].stats == results[1].stats
    assert set(results[0].stats["named"]) == {"DPO-I", "DPO-S"}


def test_a_round_without_preferences_is_said() -> None:
    events = ListSink()
    agent = DPORewriter(**{**SMALL, "rounds": 1, "margin": 5.0}).learn(problem(events=events))
    assert agent.preferences == []
    warnings = [e["message"] for e in events.events if e["kind"] == "warning"]
    assert any("make no preferences; try a smaller margin" in said for said in warnings)


def test_a_round_without_a_whole_batch_trains_nothing() -> None:
    options = {**SMALL, "rounds": 1, "batch": 10_000, "trainer": {"dataloader_drop_last": True}}
    agent = DPORewriter(**options).learn(problem())
    assert agent.preferences and [row["loss"] for row in agent.log] == [None]


def test_a_saved_policy_writes_the_same(tmp_path: Path) -> None:
    agent = DPORewriter(**SMALL).learn(problem(), seed=0)
    agent.save(tmp_path)
    loaded = DPORewriter.load(tmp_path)
    assert loaded.config == agent.config
    assert loaded.predict(6, greedy=False, seed=4) == agent.predict(6, greedy=False, seed=4)
    weights = tmp_path / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:1000])
    with pytest.raises(ConfigError, match="is damaged"):
        DPORewriter.load(tmp_path)


def test_what_failed_and_what_the_budget_cut_off_are_told_apart() -> None:
    options: dict[str, Any] = {**SMALL, "memory": False, "rounds": 20}
    log = DPORewriter(**options).learn(problem(1000), seed=0).log
    assert all(row["failed"] == 0 for row in log)
    assert [row["cut"] > 0 for row in log] == [*([False] * (len(log) - 1)), True]
    model = FailingModel(WORDS)
    model.word = "the"
    p = problem(1000, model=model, max_failures=1.0)
    log = DPORewriter(**options).learn(p, seed=0).log
    assert sum(row["failed"] for row in log) > 0
    assert sum(row["cut"] for row in log[:-1]) == 0


def test_options_that_cannot_work_are_refused() -> None:
    for options, message in (
        ({"rounds": 0}, "rounds"),
        ({"group": 1}, "group"),
        ({"beta": 0.0}, "beta"),
        ({"balance": 0.0}, "balance"),
        ({"loss": "kto", "easy_first": True}, "no pairs"),
        ({"loss": "kto", "batch": 1}, "batch >= 2"),
        ({"loss": "sigmoidal"}, "one of sigmoid, .* kto, got 'sigmoidal'"),
        ({"round": 1}, "round"),
        ({"trainer": {"output_dir": "x"}}, "dpo_rewriter: trainer cannot set output_dir"),
        ({"next_drafts": "best"}, "'start' or 'rewrites', got 'best'"),
        ({"next_drafts": "rewrites", "rejected": "past"}, "leave one of the two out"),
    ):
        with pytest.raises(ConfigError, match=message):
            DPORewriter(**options)
    for options, message in (
        ({"trainer": {"betta": 1}}, "betta"),
        ({"trainer": {"betta": 1}, "loss": "kto"}, "KTOConfig"),
        ({"trainer": {"betta": 1}, "loss": "simpo"}, "CPOConfig"),
        ({"rewriter": "tiny"}, "hf:NAME_OR_FOLDER"),
        # What TRL says only when it makes its trainer, or in its first update.
        ({"trainer": {"loss_type": ["sigmoidal"]}}, "trainer=.*sigmoidal"),
        ({"trainer": {"f_divergence_type": "js"}}, "trainer=.*'js'.* is refused"),
        ({"trainer": {"precompute_ref_batch_size": 2, "optim_args": "x"}}, "optim_args"),
        ({"lora": {"r": 4, "target_modules": ["nothing"]}}, r"lora=.*\['nothing'\].* is refused"),
    ):
        if "lora" in options:
            pytest.importorskip("peft")
        p = problem()
        with pytest.raises(ConfigError, match=message):
            DPORewriter(**{**SMALL, **options}).check(p)
        assert p.ledger.queries == 0
    simpo = DPORewriter(loss="simpo")._arguments()
    assert (simpo.beta, simpo.simpo_gamma) == (2.0, 1.0)
    assert DPORewriter(loss="simpo", beta=0.5)._arguments().beta == 0.5
    assert DPORewriter()._arguments().beta == 0.1
    assert PRESETS["question_rewriter"].pairs == "pareto"
    assert PRESETS["question_rewriter"].rounds == 1
