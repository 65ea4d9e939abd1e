"""The MultiPrompter agent: its losses by hand, what it learns, exact resuming."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from rlprompt_models import WORDS, Silent, make
from stopping import StopAt, Stopped

from promptgym.agents import make_optimizer
from promptgym.agents.mappo import (
    advantages,
    clipped_policy_loss,
    clipped_value_loss,
    imitation_loss,
)
from promptgym.agents.multi_prompter import MultiPrompter, chosen, entropies
from promptgym.agents.multi_prompter_config import PRESETS
from promptgym.agents.team_policy import Critics
from promptgym.cli import main
from promptgym.errors import ConfigError, PromptGymError
from promptgym.evaluation.hub import from_hub, push_to_hub
from promptgym.problem import Problem
from promptgym.prompts import Prompt
from promptgym.runs import ListSink
from promptgym.testing import transparent_task
from promptgym.testing.transparent import FILLERS, WEIGHTS

TRAIN = len(transparent_task().train)
SMALL: dict[str, Any] = {"hidden": 64, "critic_hidden": 16, "prompters": 2, "tokens": 2}


# -- advantages and losses ----------------------------------------------------------------------


@pytest.mark.parametrize("decay", [0.0, 0.7, 1.0])
def test_advantages_are_the_formula(decay: float) -> None:
    rng = np.random.default_rng(0)
    values, rewards = rng.normal(size=(3, 6)), rng.normal(size=3)
    v, r = torch.tensor(values), torch.tensor(rewards)
    whole = advantages(v, r, decay).numpy()
    own = advantages(v, r, decay, horizon=2).numpy()
    for b in range(3):
        for horizon, out in ((6, whole), (2, own)):
            for t in range(6):
                end = (t // horizon + 1) * horizon
                total = 0.0
                for k in range(t, end):
                    following = rewards[b] if k == end - 1 else values[b, k + 1]
                    total += decay ** (k - t) * (following - values[b, k])
                assert out[b, t] == pytest.approx(total)
    assert torch.allclose(advantages(v, r, 1.0), r[:, None] - v)
    assert torch.equal(advantages(v, r, decay, horizon=6), advantages(v, r, decay))


def test_what_is_clipped_has_no_gradient() -> None:
    logp = torch.tensor([0.5, -0.5, 0.5, -0.5, 0.1], requires_grad=True)
    gain = torch.tensor([1.0, 1.0, -1.0, -1.0, 1.0])
    loss = clipped_policy_loss(logp, torch.zeros(5), gain, 0.2)
    loss.sum().backward()  # type: ignore[no-untyped-call]
    assert logp.grad is not None and (logp.grad != 0).tolist() == [False, True, True, False, True]
    assert loss.tolist()[::2] == pytest.approx([-1.2, np.exp(0.5), -np.exp(0.1)])
    value = torch.tensor([1.0, 0.1])
    worse = clipped_value_loss(value, torch.zeros(2), torch.ones(2), 0.2, 10.0)
    assert worse.tolist() == pytest.approx([0.32, 0.405])  # of 0.2, not 1.0; of 0.1


def test_imitation_learns_from_what_was_better_only() -> None:
    logp = torch.full((2, 3), -2.0, requires_grad=True)
    values = torch.zeros(2, 3, requires_grad=True)
    policy, value = imitation_loss(logp, values, torch.tensor([1.5, -1.0]))
    assert policy.tolist() == [[3.0] * 3, [0.0] * 3] and value.tolist() == [[1.125] * 3, [0.0] * 3]
    policy.sum().backward()  # type: ignore[no-untyped-call]
    assert values.grad is None  # the policy's loss does not move the critic
    assert logp.grad is not None and logp.grad.tolist() == [[-1.5] * 3, [0.0] * 3]


def test_each_word_is_written_by_its_prompter(policy_lm: str) -> None:
    agent = MultiPrompter(policy_lm=policy_lm, steps=1, **SMALL, gains=(1.0, 1.0)).learn(make())
    states = torch.randn(5, 4, agent.policy.size)
    logits = agent.policy.logits(states)
    for place in range(4):
        assert torch.allclose(logits[:, place], agent.policy.logits_at(states[:, place], place))
    assert not torch.allclose(
        agent.policy.logits_at(states[:, 0], 0), agent.policy.logits_at(states[:, 0], 2)
    )
    assert entropies(torch.zeros(1, 1, 7))[0, 0] == pytest.approx(float(np.log(7)))
    assert chosen(torch.zeros(1, 1, 7), torch.tensor([[3]]))[0, 0] == pytest.approx(-np.log(7))


def test_independent_critics_share_nothing() -> None:
    generator = torch.Generator().manual_seed(0)
    states = torch.randn(2, 4, 8)
    for count in (1, 2):
        critics = Critics(count, 8, 4, 16, generator)
        assert (critics(states) == 0).all()
        assert len(critics.nets) == count
        critics(states)[:, :2].sum().backward()
        moved = [bool(net[2].bias.grad.any()) for net in critics.nets]  # type: ignore[index]
        assert moved == [True] + [False] * (count - 1)


# -- learning -----------------------------------------------------------------------------------


@pytest.mark.parametrize("options", [{}, {"critic": "independent"}, {"prompters": 1, "tokens": 4}])
def test_a_team_learns_policies_whose_samples_are_good(
    policy_lm: str, options: dict[str, Any]
) -> None:
    problem = make(800 * TRAIN)
    small = {**SMALL, "hidden": 256, "learning_rate": 3e-3, "steps": 80, **options}
    agent = MultiPrompter(policy_lm=policy_lm, **small)
    result = agent.optimize(problem, seed=0)
    fresh = make()
    samples = fresh.score([Prompt.of(p) for p in result.policy["samples"]])
    start = result.stats["log"][0]["reward_mean"]
    best = fresh.reward(fresh.score([Prompt("alpha beta gamma delta")]))[0]
    assert fresh.reward(samples).mean() > start + 0.6 * (best - start)
    assert {"alpha", "beta"} <= set(result.best.prompt.words)
    assert result.best.dev is not None and result.spent["queries"] <= 800 * TRAIN
    row = result.stats["log"][-1]
    assert {"loss", "value_loss", "entropy", "active", "clipped", "distinct"} <= set(row)


def test_the_ablations_differ_and_the_central_critic_of_one_is_its_own(policy_lm: str) -> None:
    def weights(**options: Any) -> torch.Tensor:
        agent = MultiPrompter(policy_lm=policy_lm, steps=6, **{**SMALL, **options})
        learned: torch.Tensor = agent.learn(make()).policy.state_dict()["heads.0.second.weight"]
        return learned

    assert not torch.equal(weights(), weights(critic="independent"))
    assert not torch.equal(weights(), weights(replay=0))
    one = {"prompters": 1, "tokens": 4}
    assert torch.equal(weights(**one), weights(**one, critic="independent"))


def test_exploring_asks_about_the_same_prompts_whatever_is_learned(policy_lm: str) -> None:
    asked = []
    for rate in (1e-3, 1e-9):
        options = {**SMALL, "explore": 1.0, "learning_rate": rate, "greedy_every": 0}
        agent = MultiPrompter(policy_lm=policy_lm, steps=8, **options).learn(make())
        asked.append(list(agent.known))
    assert asked[0] == asked[1] and len(asked[0]) > 80


def test_known_prompts_cost_nothing_and_end_training(policy_lm: str) -> None:
    options = {"policy_lm": policy_lm, "prompters": 1, "tokens": 1, "hidden": 32, "patience": 7}
    problem = make()
    agent = MultiPrompter(**options).learn(problem)
    assert 8 <= agent.step < 200
    assert problem.ledger.queries == len(agent.known) * TRAIN
    assert len(agent.known) <= len(WEIGHTS) + len(FILLERS)
    unending = MultiPrompter(memory=False, steps=30, greedy_every=0, **options).learn(make())
    assert unending.step == 30


def test_prompts_that_failed_take_no_part(policy_lm: str) -> None:
    events = ListSink()
    problem = Problem(transparent_task(), Silent(), events=events, max_failures=1.0)
    agent = MultiPrompter(policy_lm=policy_lm, steps=8, **SMALL).learn(problem)
    rows = [e for e in events.events if e["kind"] == "policy"]
    assert sum(row["failed"] for row in rows) > 0
    assert all(torch.isfinite(p).all() for p in agent.policy.heads.parameters())
    assert all(np.isfinite(r) for r in agent.past.rewards.values())


# -- saving and resuming ------------------------------------------------------------------------


def test_saved_policies_write_the_same_prompts(policy_lm: str, tmp_path: Path) -> None:
    agent = MultiPrompter(policy_lm=policy_lm, steps=5, **SMALL).learn(make())
    agent.save(tmp_path)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["policy.json", "policy.safetensors"]
    loaded = MultiPrompter.load(tmp_path)
    assert loaded.predict() == agent.predict()
    assert loaded.predict(9, greedy=False, seed=3) == agent.predict(9, greedy=False, seed=3)
    assert loaded.config == agent.config
    with pytest.raises(ConfigError, match="is of agent 'multi_prompter', expected 'rlprompt'"):
        make_optimizer("rlprompt").load(tmp_path)  # type: ignore[attr-defined]
    with pytest.raises(PromptGymError, match="no policy yet"):
        MultiPrompter().predict()


@pytest.mark.parametrize(
    ("error", "kind", "count"),
    [(Stopped, "scores", 1), (Stopped, "scores", 15), (KeyboardInterrupt, "policy", 11)],
)
@pytest.mark.parametrize("options", [{}, {"memory": False, "replay": 0, "critic": "independent"}])
def test_a_stopped_run_resumes_exactly(
    policy_lm: str,
    tmp_path: Path,
    error: type[BaseException],
    kind: str,
    count: int,
    options: dict[str, Any],
) -> None:
    def agent() -> MultiPrompter:
        more = {"steps": 20, "checkpoint_every": 4, "log_every": 3}
        return MultiPrompter(policy_lm=policy_lm, **SMALL, **more, **options)

    budget = 400 * TRAIN
    whole = agent()
    expected = whole.optimize(make(budget), seed=4)
    with pytest.raises(error):
        stopped = make(budget, events=StopAt(kind, count, error))
        agent().optimize(stopped, seed=4, checkpoint_dir=tmp_path)
    resumed = agent()
    result = resumed.optimize(make(budget), seed=4, checkpoint_dir=tmp_path, resume=True)
    for part in ("policy", "critics"):
        for name, tensor in getattr(whole, part).state_dict().items():
            assert torch.equal(tensor, getattr(resumed, part).state_dict()[name]), name
    for index, state in whole.optimizer.state_dict()["state"].items():
        for name, value in state.items():
            again = resumed.optimizer.state_dict()["state"][index][name]
            assert torch.equal(value, again), name
    assert torch.equal(whole.generator.get_state(), resumed.generator.get_state())
    assert {k: v for k, v in result.spent.items() if k != "seconds"} == {
        k: v for k, v in expected.spent.items() if k != "seconds"
    }
    for name in ("best", "candidates", "history", "policy", "stats"):
        assert getattr(result, name) == getattr(expected, name), name


def test_a_run_from_the_command_line_comes_back_from_the_hub(tmp_path: Path) -> None:
    out, there = tmp_path / "run", tmp_path / "hub"
    words = (
        "train multi_prompter --task author --budget 3200 --seed 1 --set hidden=64 --set batch=4"
    )
    with pytest.raises(SystemExit) as left:
        main([*words.split(), "--out", str(out)])
    assert left.value.code in (0, None)
    assert (out / "report.html").is_file() and (out / "policy" / "policy.safetensors").is_file()
    push_to_hub(out, f"file:{there}")
    agent = from_hub(f"file:{there}")
    assert isinstance(agent, MultiPrompter) and len(agent.predict()[0].words) == 10


# -- options ------------------------------------------------------------------------------------


def test_presets_and_options() -> None:
    assert make_optimizer("multi_prompter").config == PRESETS["default"]  # type: ignore[attr-defined]
    mappo: Any = make_optimizer("multi_prompter:mappo", prompters=3)
    assert mappo.config.prompters == 3 and mappo.config.replay == 0
    assert len(WORDS) > 4


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"prompters": 0}, "prompters must be at least 1"),
        ({"critic": "none"}, "critic must be 'central' or 'independent'"),
        ({"decay": 1.5}, "decay must be at least 0 and at most 1"),
        ({"clip": 0.0}, "clip must be above 0"),
        ({"replay": -1}, "replay must be at least 0"),
        ({"vocabulary": "words"}, "vocabulary must be"),
        ({"token": 3}, "token"),
        ({"preset": "ippo"}, "known: default, mappo"),
    ],
)
def test_options_that_cannot_work_are_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        MultiPrompter(**options)
