"""RLPrompt: what it learns, what it costs, and exact resuming."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from rlprompt_models import WORDS, Silent, make
from stopping import StopAt, Stopped

from promptgym.agents import make_optimizer
from promptgym.agents.collapse import batch_statistics, distinct_share, repeated_share
from promptgym.agents.rlprompt import PRESETS, RLPrompt
from promptgym.errors import ConfigError, PromptGymError
from promptgym.llms import load_model
from promptgym.problem import Problem
from promptgym.prompts import Example, Prompt, Template
from promptgym.runs import ListSink
from promptgym.tasks import Task
from promptgym.testing import TransparentModel, transparent_task
from promptgym.testing.transparent import FILLERS, WEIGHTS

TRAIN = len(transparent_task().train)


# -- learning -----------------------------------------------------------------------------------

SMALL = {"hidden": 256, "length": 4, "learning_rate": 3e-3}


def test_repaired_learns_a_policy_whose_samples_are_good(policy_lm: str) -> None:
    problem = make(800 * TRAIN)
    agent = RLPrompt("repaired", policy_lm=policy_lm, steps=70, **SMALL)
    result = agent.optimize(problem, seed=0)
    fresh = make()
    samples = fresh.score([Prompt.of(p) for p in result.policy["samples"]])
    start = result.stats["log"][0]["reward_mean"]
    best = fresh.reward(fresh.score([Prompt("alpha beta gamma delta")]))[0]
    learned = fresh.reward(samples).mean()
    assert learned > start + 0.6 * (best - start)
    assert {"alpha", "beta"} <= set(result.best.prompt.words)
    assert result.best.dev is not None and result.spent["queries"] <= 800 * TRAIN


def test_published_cannot_see_its_state_here_and_says_so(policy_lm: str) -> None:
    events = ListSink()
    agent = RLPrompt("published", policy_lm=policy_lm, steps=3)
    with pytest.warns(UserWarning, match="no hidden unit"):
        agent.learn(make(events=events))
    assert [e["kind"] for e in events.events].count("warning") == 1
    rows = [e for e in events.events if e["kind"] == "policy"]
    assert len(rows) == 3 and rows[0]["active"] == 0.0
    assert len(set(agent.predict()[0].words)) == 1


def test_known_prompts_cost_nothing_with_memory_and_everything_without(policy_lm: str) -> None:
    options = {"policy_lm": policy_lm, "length": 1, "steps": 20, "greedy_every": 0, "hidden": 32}
    problem = make()
    agent = RLPrompt("repaired", **options).learn(problem)
    assert problem.ledger.queries == len(agent.known) * TRAIN <= len(WORDS) * TRAIN
    problem = make()
    RLPrompt("repaired", memory=False, **options).learn(problem)
    assert problem.ledger.queries == 20 * 16 * TRAIN


def test_replay_draws_good_prompts_of_the_past_and_asks_nothing(policy_lm: str) -> None:
    options = {"policy_lm": policy_lm, "steps": 12, "hidden": 32, "memory": False}
    problem = make()
    agent = RLPrompt("repaired", replay=400, updates=3, **options).learn(problem)
    assert problem.ledger.queries <= (12 * 16 + 2) * TRAIN
    past = agent.past.rewards
    assert set(past.values()) <= set(agent.known.values())
    count = agent.config.replay * agent.config.updates
    drawn, rewards = agent.past.draw(count, agent.config.replay_temperature, agent.generator)
    assert drawn.shape == (1200, 5) and rewards.shape == (1200,)
    assert all(past[tuple(a)] == r for a, r in zip(drawn.tolist(), rewards, strict=True))
    known = np.array(list(past.values()))
    assert rewards.mean() > known.mean() + 0.5 * known.std()
    plain = RLPrompt("repaired", replay=0, updates=1, **options).learn(make())
    assert not torch.equal(plain.policy.adaptor.first.weight, agent.policy.adaptor.first.weight)
    with pytest.raises(ConfigError, match="need replay"):
        RLPrompt("published", updates=2)


def test_a_policy_that_writes_nothing_new_has_converged(policy_lm: str) -> None:
    options = {"policy_lm": policy_lm, "length": 1, "hidden": 32, "patience": 7}
    agent = RLPrompt("repaired", **options).learn(make())
    assert 8 <= agent.step < 200
    assert len(agent.known) <= len(WEIGHTS) + len(FILLERS)
    unending = RLPrompt("repaired", memory=False, steps=60, **options).learn(make())
    assert unending.step == 60


def test_sharpening_makes_the_policy_surer(policy_lm: str) -> None:
    options = {"policy_lm": policy_lm, "steps": 40, "replay": 0, "updates": 1, **SMALL}
    plain, sharp = (RLPrompt("repaired", sharpen=k, **options).learn(make()) for k in (1.0, 10.0))
    assert sharp.log[-1]["entropy"] < plain.log[-1]["entropy"]
    assert sharp.log[-1]["reward_mean"] > plain.log[-1]["reward_mean"]


def test_exploring_asks_about_the_same_prompts_whatever_is_learned(policy_lm: str) -> None:
    asked: dict[float, list[tuple[int, ...]]] = {}
    for rate in (1e-3, 0.0):
        agent = RLPrompt("repaired", policy_lm=policy_lm, learning_rate=rate, steps=12, explore=1.0)
        agent.learn(make(), seed=0)
        asked[rate] = list(agent.past.rewards)
    assert asked[1e-3] == asked[0.0] and len(asked[0.0]) > 100
    words = np.bincount(np.ravel(asked[0.0]))
    assert words.max() < 0.1 * words.sum()
    with pytest.raises(ConfigError, match="explore"):
        RLPrompt(explore=2.0)


def test_prompts_that_failed_take_no_part(policy_lm: str) -> None:
    events = ListSink()
    problem = Problem(transparent_task(), Silent(), events=events)
    agent = RLPrompt("repaired", policy_lm=policy_lm, steps=10, hidden=32).learn(problem)
    rows = [e for e in events.events if e["kind"] == "policy"]
    assert sum(row["failed"] for row in rows) > 0
    assert all(math.isfinite(row["loss"]) for row in rows)
    assert all(torch.isfinite(p).all() for p in agent.policy.adaptor.parameters())


def test_training_ends_with_the_budget(policy_lm: str) -> None:
    problem = make(60 * TRAIN)
    result = RLPrompt("repaired", policy_lm=policy_lm, hidden=32).optimize(problem)
    assert result.spent["queries"] <= 60 * TRAIN
    assert result.stats["steps"] >= 2
    assert result.history[-1]["queries"] == result.spent["queries"]


def test_demonstrations_of_the_start_are_kept(policy_lm: str) -> None:
    start = Prompt("one", (Example("alpha plus", "plus"),))
    task = transparent_task()
    template = Template("{demonstrations}{input} {prompt}")
    problem = Problem(task, TransparentModel(), template=template, initial_prompt=start)
    agent = RLPrompt("repaired", policy_lm=policy_lm, steps=1, hidden=8).learn(problem)
    assert agent.predict()[0].demonstrations == start.demonstrations


# -- saving and resuming ------------------------------------------------------------------------


def test_a_saved_policy_writes_the_same_prompts(policy_lm: str, tmp_path: Path) -> None:
    agent = RLPrompt("repaired", policy_lm=policy_lm, steps=5, hidden=32).learn(make())
    agent.save(tmp_path)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["policy.json", "policy.safetensors"]
    assert len({p.stat().st_mode for p in tmp_path.iterdir()}) == 1, "who may read one may both"
    loaded = RLPrompt.load(tmp_path)
    assert loaded.predict() == agent.predict()
    assert loaded.predict(9, greedy=False, seed=3) == agent.predict(9, greedy=False, seed=3)
    assert loaded.config == agent.config
    for n in (-1, 0):
        with pytest.raises(ConfigError, match=f"n is a number of prompts, at least 1, got {n}"):
            agent.predict(n)


def test_what_is_no_saved_policy_is_refused(policy_lm: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="holds no saved policy"):
        RLPrompt.load(tmp_path)
    RLPrompt("repaired", policy_lm=policy_lm, steps=1, hidden=8).learn(make()).save(tmp_path)
    file = tmp_path / "policy.safetensors"
    whole = file.read_bytes()
    file.write_bytes(whole[:100])
    with pytest.raises(ConfigError, match="is damaged"):
        RLPrompt.load(tmp_path)
    file.write_bytes(whole)
    about = (tmp_path / "policy.json").read_text()
    (tmp_path / "policy.json").write_text(about.replace('"rlprompt"', '"ppo_edit"', 1))
    with pytest.raises(ConfigError, match="is of agent 'ppo_edit', expected 'rlprompt'"):
        RLPrompt.load(tmp_path)


def test_a_policy_of_another_model_is_refused(policy_lm: str, tmp_path: Path, shared: Path) -> None:
    RLPrompt("repaired", policy_lm=policy_lm, steps=1, hidden=8).learn(make()).save(tmp_path)
    other = load_model(f"hf:{shared / 'parity/rlprompt/tiny-gpt2'}")
    with pytest.raises(ConfigError, match="trained on"):
        RLPrompt.load(tmp_path, other)
    with pytest.raises(PromptGymError, match="no policy yet"):
        RLPrompt().predict()


@pytest.mark.parametrize(
    ("error", "kind", "count"),
    [
        (Stopped, "scores", 1),
        (Stopped, "scores", 18),
        (KeyboardInterrupt, "scores", 18),
        (KeyboardInterrupt, "policy", 13),
    ],
)
@pytest.mark.parametrize(
    "options", [{"replay": 4}, {"memory": False, "length": 2, "replay": 0, "updates": 1}]
)
def test_a_stopped_run_resumes_exactly(
    policy_lm: str,
    tmp_path: Path,
    error: type[BaseException],
    kind: str,
    count: int,
    options: dict[str, Any],
) -> None:
    def agent() -> RLPrompt:
        small = {"hidden": 32, "steps": 24, "checkpoint_every": 5, "log_every": 3}
        return RLPrompt("repaired", policy_lm=policy_lm, **small, **options)

    budget = 400 * TRAIN
    whole = agent()
    expected = whole.optimize(make(budget), seed=4)
    with pytest.raises(error):
        stopped = make(budget, events=StopAt(kind, count, error))
        agent().optimize(stopped, seed=4, checkpoint_dir=tmp_path)
    resumed = agent()
    events = ListSink()
    result = resumed.optimize(
        make(budget, events=events), seed=4, checkpoint_dir=tmp_path, resume=True
    )
    for name, tensor in whole.policy.state_dict().items():
        assert torch.equal(tensor, resumed.policy.state_dict()[name]), name
    assert torch.equal(whole.generator.get_state(), resumed.generator.get_state())
    assert {k: v for k, v in result.spent.items() if k != "seconds"} == {
        k: v for k, v in expected.spent.items() if k != "seconds"
    }
    for name in ("best", "candidates", "history", "policy", "stats"):
        assert getattr(result, name) == getattr(expected, name), name
    steps = [e["step"] for e in events.events if e["kind"] == "policy"]
    assert steps == list(range(steps[0], result.stats["steps"] + 1))


def test_a_checkpoint_is_written_on_interrupt_and_is_one_file(
    policy_lm: str, tmp_path: Path
) -> None:
    options = {"policy_lm": policy_lm, "hidden": 16, "steps": 50, "checkpoint_every": 1000}
    with pytest.raises(KeyboardInterrupt):
        RLPrompt("repaired", **options).optimize(
            make(events=StopAt("policy", 7, KeyboardInterrupt)), checkpoint_dir=tmp_path
        )
    names = sorted(p.name for p in tmp_path.iterdir())
    assert names == ["journal.jsonl", "rlprompt.safetensors"]
    from promptgym.agents.checkpoint import read_checkpoint

    assert read_checkpoint(tmp_path / "rlprompt.safetensors")[1]["step"] == 7


# -- statistics and names -----------------------------------------------------------------------


def test_collapse_statistics() -> None:
    assert distinct_share([["a"], ["a"], ["b"], ["a"]]) == 0.5
    assert repeated_share([["a", "a", "b"], ["a", "b", "c"]]) == pytest.approx(1 / 6)
    row = batch_statistics([[1, 2], [1, 2], [3, 3]], np.array([1.0, 3.0, np.nan]), 0.5)
    assert row["reward_mean"] == 2.0 and row["reward_std"] == 1.0 and row["failed"] == 1
    assert row["entropy"] == 0.5 and row["reward_best"] == 3.0


def test_entropy_is_that_of_the_policy(policy_lm: str) -> None:
    events = ListSink()
    options = {"gains": (1.0, 0.0), "biases": (0.0, 0.0), "steps": 1, "hidden": 8}
    RLPrompt("repaired", policy_lm=policy_lm, **options).learn(make(events=events))
    row = next(e for e in events.events if e["kind"] == "policy")
    assert row["entropy"] == pytest.approx(math.log(len(WEIGHTS) + len(FILLERS)), abs=1e-5)


def test_presets_by_name() -> None:
    assert make_optimizer("rlprompt").config == PRESETS["published"]  # type: ignore[attr-defined]
    repaired: Any = make_optimizer("rlprompt:repaired", length=3)
    assert repaired.config.length == 3 and repaired.config.centre
    with pytest.raises(ConfigError, match="published"):
        make_optimizer("rlprompt:fixed")
    with pytest.raises(ConfigError, match="lenght"):
        make_optimizer("rlprompt", lenght=3)
    with pytest.raises(ConfigError, match="vocabulary"):
        make_optimizer("rlprompt", vocabulary="words")


def test_a_generation_task_is_learned_on_accuracy(policy_lm: str) -> None:
    base = transparent_task()
    task = Task("generated", Template("{input} {prompt}"), base.train, base.dev, vocabulary=WORDS)
    problem = Problem(task, TransparentModel(), reward="accuracy", budget=64 * TRAIN)
    result = RLPrompt("repaired", policy_lm=policy_lm, hidden=32).optimize(problem)
    assert result.best.dev is not None
