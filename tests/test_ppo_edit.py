"""PPO over prompt edits: it learns, it is bounded by the budget, and it resumes exactly."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from gymnasium import spaces
from llm_models import build
from sb3_contrib import MaskablePPO
from stable_baselines3.common.vec_env import VecMonitor

from promptgym.agents.ppo_config import PRESETS
from promptgym.agents.ppo_edit import PPOEdit
from promptgym.agents.ppo_features import PromptFeatures
from promptgym.agents.ppo_policy import WordLayer, word_vectors
from promptgym.agents.spaces import space_from_json, space_to_json
from promptgym.envs.prompt_edit import make, make_vec
from promptgym.errors import ConfigError
from promptgym.integrations.sb3 import SB3VecEnv
from promptgym.llms import load_model
from promptgym.problem import Problem
from promptgym.prompts import Prompt
from promptgym.runs import ListSink
from promptgym.scoring import SKIPPED
from promptgym.search import Selection
from promptgym.search.watch import WatchedProblem
from promptgym.testing import TransparentModel, transparent_task

SMALL: dict[str, Any] = {"num_envs": 8, "n_steps": 8, "batch_size": 32, "epochs": 4}


def problem(budget: int | None = 3000, **options: Any) -> Problem:
    return Problem(transparent_task(), TransparentModel(), budget=budget, **options)


def weights(agent: PPOEdit) -> dict[str, torch.Tensor]:
    return dict(agent.model.policy.state_dict())


def assert_same_weights(a: PPOEdit, b: PPOEdit) -> None:
    theirs = weights(b)
    for name, tensor in weights(a).items():
        assert torch.equal(tensor, theirs[name]), name


def test_training_leaves_no_log_in_the_temporary_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    PPOEdit(**SMALL, steps=1).optimize(problem(), seed=0)
    assert not list(tmp_path.glob("SB3*"))


def dev_accuracy(prompts: list[Any]) -> Any:
    return problem(None).score([Prompt.of(p) for p in prompts], split="dev").mean


def test_ppo_learns_to_write_prompts_that_do_better_on_unseen_examples() -> None:
    start = dev_accuracy([problem().initial_prompt])[0]
    # Without the archive every episode starts at the same prompt, and returns are comparable.
    agent = PPOEdit(num_envs=16, n_steps=8, batch_size=64, memory=False, archive=0)
    result = agent.optimize(problem(20 * 2000), seed=0)
    assert result.best.dev is not None
    assert result.best.dev >= start + 0.5
    # The policy itself has learned, not only stumbled on one prompt: what it writes now is better
    # than what it wrote at first, and than the start.
    assert dev_accuracy(result.policy["samples"]).mean() >= start + 0.25
    returns = [row["return"] for row in agent.log]
    assert np.mean(returns[-5:]) > np.mean(returns[:5]) + 0.4
    assert dev_accuracy([result.policy["greedy"]])[0] > start


def test_the_budget_is_a_hard_cap_and_the_result_is_complete() -> None:
    events = ListSink()
    p = problem(3000, events=events)
    result = PPOEdit(**SMALL).optimize(p, seed=1)
    assert result.spent["queries"] == p.ledger.queries <= 3000
    assert p.ledger.queries > 2500
    assert p.ledger.reserved == 0
    assert result.method == "ppo_edit"
    assert len(result.policy["samples"]) == 32
    assert result.history[-1]["dev"] == result.best.dev
    assert result.stats["distinct"] > 50
    policy = [e for e in events.events if e["kind"] == "policy"]
    assert [e["step"] for e in policy] == list(range(1, result.stats["steps"] + 1))
    assert all(np.isfinite(e["approx_kl"]) and e["entropy"] > 0 for e in policy)


@pytest.mark.parametrize("memory", [True, False])
def test_an_interrupted_and_resumed_run_equals_an_uninterrupted_one(
    tmp_path: Path, memory: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    options = {**SMALL, "memory": memory}
    whole = PPOEdit(**options)
    expected = whole.optimize(problem(6000), seed=3, checkpoint_dir=tmp_path / "a")

    class Interrupted(Exception):
        """Stands for the kill."""

    class Killer(ListSink):
        """Kills the run in the middle of the rollout after the second update."""

        def emit(self, kind: str, **fields: Any) -> None:
            super().emit(kind, **fields)
            updates = sum(e["kind"] == "policy" for e in self.events)
            if kind == "scores" and updates == 2 and self.events[-4]["kind"] == "scores":
                raise Interrupted

    with pytest.raises(Interrupted):
        PPOEdit(**options).optimize(
            problem(6000, events=Killer()), seed=3, checkpoint_dir=tmp_path / "b"
        )
    assert (tmp_path / "b" / "ppo_edit.safetensors").exists()
    torch.manual_seed(99)  # a new process starts anywhere
    np.random.seed(99)
    second, model = PPOEdit(**options), TransparentModel()
    p = Problem(transparent_task(), model, budget=6000)
    updates: list[int] = []
    train = MaskablePPO.train
    monkeypatch.setattr(MaskablePPO, "train", lambda m: (updates.append(1), train(m))[1])
    got = second.optimize(p, seed=3, checkpoint_dir=tmp_path / "b", resume=True)
    assert got.best == expected.best
    assert got.history == expected.history
    assert got.policy == expected.policy
    assert got.spent["queries"] == expected.spent["queries"]
    assert got.stats == expected.stats
    assert len(second.log) == len(whole.log) >= 3
    assert len(updates) == len(whole.log) - 2, "the first two updates come from the checkpoint"
    assert_same_weights(whole, second)
    assert model.calls < expected.spent["calls"], "what was scored is not asked again"


def test_a_finished_run_resumes_to_the_same_result(tmp_path: Path) -> None:
    options = {**SMALL, "steps": 3}
    first = PPOEdit(**options)
    expected = first.optimize(problem(20_000), seed=0, checkpoint_dir=tmp_path)
    assert first.step == 3
    again = PPOEdit(**options)
    model = TransparentModel()
    p = Problem(transparent_task(), model, budget=20_000)
    got = again.optimize(p, seed=0, checkpoint_dir=tmp_path, resume=True)
    assert model.calls == 0
    assert got.best == expected.best
    assert got.policy == expected.policy
    assert_same_weights(first, again)
    with pytest.raises(ConfigError, match="resume"):
        PPOEdit(**options).optimize(problem(20_000), seed=0, checkpoint_dir=tmp_path)
    with pytest.raises(ConfigError, match="another run"):
        PPOEdit(**options).optimize(problem(20_000), seed=1, checkpoint_dir=tmp_path, resume=True)
    checkpoint = tmp_path / "ppo_edit.safetensors"
    checkpoint.write_bytes(checkpoint.read_bytes()[:100])
    with pytest.raises(ConfigError, match=r"damaged.*remove it"):
        PPOEdit(**options).optimize(problem(20_000), seed=0, checkpoint_dir=tmp_path, resume=True)


def test_a_saved_policy_predicts_the_same_without_problem_or_pickle(tmp_path: Path) -> None:
    agent = PPOEdit(**SMALL, steps=2).learn(problem(), seed=0)
    agent.save(tmp_path / "policy")
    assert {p.suffix for p in (tmp_path / "policy").iterdir()} == {".json", ".safetensors"}
    loaded = PPOEdit.load(tmp_path / "policy")
    assert loaded.config == agent.config
    vector = make_vec(num_envs=3, problem=problem(None))
    observation, _ = vector.reset(seed=0)
    masks = vector.action_masks()
    expected, got = (
        a.predict(observation, deterministic=True, action_masks=masks)[0] for a in (agent, loaded)
    )
    assert expected.shape == (3, 3)
    assert np.array_equal(expected, got)
    assert agent.edit(problem(None)) == loaded.edit(problem(None))
    about = json.loads((tmp_path / "policy" / "policy.json").read_text())
    (tmp_path / "policy" / "policy.json").write_text(json.dumps({**about, "agent": "rlprompt"}))
    with pytest.raises(ConfigError, match="rlprompt"):
        PPOEdit.load(tmp_path / "policy")


def test_edit_starts_anywhere_and_refuses_another_vocabulary() -> None:
    agent = PPOEdit(**SMALL, steps=1).learn(problem(), seed=0)
    p = problem(None)
    agent.edit(p, Prompt("alpha beta"), deterministic=False)
    assert p.ledger.queries >= 40
    spent = problem(20)
    assert agent.edit(spent) == spent.initial_prompt, "the budget did not reach one edit"
    with pytest.raises(ConfigError, match="vocabulary"):
        agent.edit(problem(None, vocabulary=["one", "alpha"]))


def test_options_that_cannot_work_are_refused() -> None:
    with pytest.raises(ConfigError, match="unknown preset 'temprea'"):
        PPOEdit("temprea")
    with pytest.raises(ConfigError, match="clipp"):
        PPOEdit(clipp=0.1)
    with pytest.raises(ConfigError, match="num_envs"):
        PPOEdit(num_envs=0)
    with pytest.raises(ConfigError, match="budget"):
        PPOEdit().learn(problem(None))
    with pytest.raises(ConfigError, match="no policy yet"):
        PPOEdit().predict({})
    for what in (None, 3):
        with pytest.raises(ConfigError, match=r"an observation of PromptEdit-v0, got .*edit\("):
            PPOEdit().predict(what)
    with pytest.raises(ConfigError, match="multiple of heads"):
        PPOEdit(extractor="attention", embedding=32, steps=1).learn(problem())


def test_tempera_presets_carry_the_published_numbers_and_run() -> None:
    paper, readme = PRESETS["tempera"], PRESETS["tempera_readme"]
    assert (paper.num_envs, paper.n_steps, paper.gamma) == (256, 8, 0.99)
    assert (paper.learning_rate, paper.entropy) == (5e-5, 0.005)
    assert (readme.num_envs, readme.n_steps, readme.gamma) == (64, 32, 0.999)
    assert (readme.learning_rate, readme.entropy) == (6e-4, 0.01)
    # 4 epochs of 32 mini-batches in both.
    assert {c.num_envs * c.n_steps // c.batch_size for c in (paper, readme)} == {32}
    small = {"num_envs": 4, "n_steps": 4, "batch_size": 16, "epochs": 1, "steps": 2}
    agent = PPOEdit("tempera", **small).learn(problem())
    # The rate falls linearly; the second of two updates is made at the end of the run.
    rate = agent.model.policy.optimizer.param_groups[0]["lr"]
    assert rate == pytest.approx(0.0, abs=1e-12)
    assert agent.step == 2


@pytest.mark.parametrize("kind", ["mlp", "attention"])
def test_features_see_words_numbers_and_not_the_padding(kind: Any) -> None:
    env = make(problem=problem(None))
    torch.manual_seed(0)
    features = PromptFeatures(env.observation_space, kind=kind, width=12, hidden=16)
    assert features.id_keys == ["tokens"]
    observation, _ = env.reset(seed=0)
    batch = {k: torch.as_tensor(np.stack([v] * 3)) for k, v in observation.items()}
    batch["tokens"][1, 0] += 1
    batch["score"][2] += 0.5
    out = features(batch)
    assert out.shape == (3, 16)
    assert not torch.equal(out[0], out[1])
    assert not torch.equal(out[0], out[2])
    if kind == "attention":
        with torch.no_grad():
            features.embeddings["tokens"].weight[0] += 5.0
        assert torch.allclose(features(batch), out, atol=1e-6)


@pytest.mark.parametrize(
    "space",
    [
        spaces.Discrete(3),
        spaces.MultiDiscrete([2, 3]),
        spaces.MultiBinary(4),
        spaces.Box(0, 9, (3,), np.int32),
        spaces.Dict({"b": spaces.Box(-1.0, 1.0, (1,), np.float32), "a": spaces.MultiBinary(2)}),
    ],
)
def test_spaces_survive_json(space: spaces.Space[Any]) -> None:
    again = space_from_json(json.loads(json.dumps(space_to_json(space))))
    assert again == space


def test_spaces_that_json_cannot_hold_are_refused() -> None:
    with pytest.raises(ConfigError, match="Text"):
        space_to_json(spaces.Text(3))


def test_words_are_read_and_chosen_by_the_target_models_embeddings(tmp_path: Path) -> None:
    model = load_model(build(tmp_path / "model", "causal", "llama"))
    rows = word_vectors(model, ["great", "terrible", "alpha", "great"])
    assert rows is not None
    assert rows.shape == (4, 32)
    assert np.allclose(np.linalg.norm(rows, axis=1), np.sqrt(32))
    assert np.array_equal(rows[0], rows[3])
    assert not np.allclose(rows[0], rows[1])
    assert word_vectors(TransparentModel(), ["great"]) is None
    agent = PPOEdit(**SMALL, steps=1).learn(Problem(transparent_task(4), model))
    layer = agent.model.policy.action_net
    assert isinstance(layer, WordLayer)
    known = word_vectors(model, transparent_task().vocabulary)
    assert known is not None
    words = torch.as_tensor(known / np.sqrt(32), dtype=torch.float32)
    assert torch.allclose(layer.words, words), "frozen while the policy learns"
    assert layer.query.weight.abs().sum() > 0
    agent.save(tmp_path / "policy")
    loaded = PPOEdit.load(tmp_path / "policy")
    assert_same_weights(agent, loaded)
    p = Problem(transparent_task(4), model)
    assert agent.edit(p) == loaded.edit(p)


def test_the_word_layer_puts_each_logit_in_its_place() -> None:
    torch.manual_seed(0)
    vectors = np.array([[1.0, 0.0], [0.0, 1.0], [1.0, 0.0]])
    layer = WordLayer(4, [2, 3, 3, 2], vectors)
    with torch.no_grad():
        layer.bias[2] = 1.0
    logits = layer(torch.randn(5, 4))
    assert logits.shape == (5, 10)
    words = logits[:, 5:8]
    assert torch.allclose(words[:, 2], words[:, 0] + 1.0)
    assert not torch.allclose(words[:, 1], words[:, 0])


def test_a_watched_problem_remembers_and_observes() -> None:
    p = problem(20 * 3 + 20 * 4)
    selection = Selection(p, top=4)
    watched = WatchedProblem(p, selection, memory=True)
    a, b, c, d = (Prompt(w) for w in ("alpha", "beta", "gamma", "delta"))
    first = watched.score([a, b])
    spent = p.ledger.queries
    again = watched.score([b, a, b])
    assert p.ledger.queries == spent
    assert np.array_equal(again.values, first.values[[1, 0, 1]])
    assert np.array_equal(again.label_logprobs, first.label_logprobs[[1, 0, 1]])
    mixed = watched.score([a, c, d, b])
    assert mixed.complete.tolist() == [True, True, d in selection.known, True]
    assert p.ledger.queries > spent
    while p.ledger.queries_left >= 20:
        watched.score([Prompt(f"one {p.ledger.queries}")])
    cut = watched.score([a, Prompt("never asked")])
    assert cut.complete.tolist() == [True, False]
    assert (cut.status[1] == SKIPPED).all()
    assert {a, b, c} <= set(selection.known)


def test_plain_maskable_ppo_trains_on_the_environment_through_the_adapter() -> None:
    env = VecMonitor(
        SB3VecEnv(make_vec(num_envs=8, problem=problem(None), autoreset_mode="SameStep"))
    )
    model = MaskablePPO("MultiInputPolicy", env, n_steps=16, batch_size=64, seed=0, device="cpu")
    model.learn(256)
    assert len(model.ep_info_buffer) > 10
    assert {e["l"] for e in model.ep_info_buffer} <= set(range(1, 9))
