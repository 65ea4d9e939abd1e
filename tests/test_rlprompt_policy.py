"""RLPrompt: its losses by hand, its policy and its presets."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from rlprompt_models import WORDS, make

from promptgym.agents.frozen_writer import Adaptor, choose, token_actions, word_actions
from promptgym.agents.rlprompt import PRESETS, RLPrompt
from promptgym.agents.rlprompt_policy import PolicyLM
from promptgym.agents.soft_q import soft_q_loss
from promptgym.errors import ModelError
from promptgym.llms import load_model
from promptgym.testing.transparent import FILLERS, WEIGHTS


def policy(spec: str, seed: int = 0, gains: tuple[float, float] = (1.0, 1.0)) -> PolicyLM:
    backend: Any = load_model(spec)
    generator = torch.Generator().manual_seed(seed)
    adaptor = Adaptor(32, 64, gains=gains, biases=(0.0, 0.0), generator=generator)
    return PolicyLM(backend, word_actions(backend.tokenizer, (*WEIGHTS, *FILLERS)), adaptor)


# -- losses ------------------------------------------------------------------------------------


def loss_by_hand(
    q: np.ndarray[Any, Any], qt: np.ndarray[Any, Any], words: Any, r: Any, prior: float
) -> float:
    """Peers' formulas with loops: v2 and v3 of soft Q-learning, gamma 1, reward at the end."""
    total = 0.0
    batch, length, _ = q.shape
    for b in range(batch):
        advantage = [
            q[b, t, words[b, t]] - (np.log(np.exp(q[b, t]).sum()) - prior) for t in range(length)
        ]
        value = [np.log(np.exp(qt[b, t]).sum()) - prior for t in range(length)]
        for t in range(length):
            last = t == length - 1
            goal = r[b] - value[t] if last else value[t + 1] - value[t]
            v2 = (advantage[t] - goal) ** 2
            v3 = (sum(advantage[t:]) - (r[b] - value[t])) ** 2
            total += (v2 + v3) / 2
    return total / batch


@pytest.mark.parametrize("prior", [0.0, 1.7])
@pytest.mark.parametrize("length", [1, 2, 5])
def test_the_loss_is_the_formula(length: int, prior: float) -> None:
    rng = np.random.default_rng(length)
    q, qt = rng.normal(size=(2, 3, length, 7))
    words, r = rng.integers(7, size=(3, length)), rng.normal(size=3) * 5
    tensors = [torch.tensor(x) for x in (q, qt, words, r)]
    forward = loss_by_hand(q, qt, words, r, prior)
    assert float(soft_q_loss(*tensors, prior=prior)) == pytest.approx(forward)
    backward = loss_by_hand(qt, q, words, r, prior)
    mixed = float(soft_q_loss(*tensors, prior=prior, reversed_halves=0.3))
    assert mixed == pytest.approx(0.3 * forward + 0.7 * backward)


def test_the_loss_vanishes_at_the_soft_optimum() -> None:
    """Two words, two positions, known rewards: Q* by backward induction solves both halves."""
    rewards = torch.tensor([[1.0, -2.0], [0.5, 3.0]], dtype=torch.float64)
    second = rewards  # Q of the second word, by the first
    first = second.logsumexp(-1)
    words = torch.tensor([[0, 0], [0, 1], [1, 0], [1, 1]])
    q = torch.stack([torch.stack([first, second[a]]) for a in words[:, 0].tolist()])
    r = rewards[words[:, 0], words[:, 1]]
    assert float(soft_q_loss(q, q, words, r)) == pytest.approx(0.0, abs=1e-12)
    assert float(soft_q_loss(q, q, words, r + 1)) > 0.5


def test_only_the_online_network_gets_gradients(policy_lm: str) -> None:
    net = policy(policy_lm)
    rollout = net.rollout(4, 3, torch.Generator().manual_seed(0))
    target = net.logits(rollout.states, "target")
    assert not target.requires_grad
    loss = soft_q_loss(net.logits(rollout.states), target, rollout.actions, torch.ones(4))
    loss.backward()
    assert all(p.grad is not None for p in net.adaptor.parameters())
    lm = load_model(policy_lm)
    assert all(p.grad is None for p in lm.model.parameters())  # type: ignore[attr-defined]


def test_presets_are_what_the_paper_and_the_study_say() -> None:
    c = PRESETS["published"]
    assert (c.steps, c.batch, c.length, c.learning_rate, c.clip) == (12_000, 16, 5, 5e-5, 5.0)
    assert (c.hidden, c.top_k, c.tau, c.reversed_halves) == (2048, 256, 0.001, None)
    assert c.gains == (1e-4, 1e-4) and c.biases == (-1e-4, -1e-4) and not c.centre
    agent = RLPrompt()
    rewards = np.array([1.0, 2.0, 4.0, -3.0])
    z = (rewards - rewards.mean()) / (rewards.std() + 1e-4)
    from promptgym.rewards.stabilizers import make_stabilizer

    np.testing.assert_allclose(make_stabilizer(agent.config.stabilizer)(rewards), 5 * z)


# -- the policy ---------------------------------------------------------------------------------


def test_sampling_with_the_cache_sees_the_states_of_one_plain_pass(policy_lm: str) -> None:
    net = policy(policy_lm)
    rollout = net.rollout(6, 5, torch.Generator().manual_seed(1))
    torch.testing.assert_close(rollout.states, net.states_of(rollout.actions))
    backend: Any = load_model(policy_lm)
    text = net.texts(rollout.actions)[0]
    ids = backend.tokenizer.encode(f"<s> {text}", add_special_tokens=False)
    with torch.no_grad():
        out = backend.model(input_ids=torch.tensor([ids]), output_hidden_states=True)
    torch.testing.assert_close(rollout.states[0], out.hidden_states[-1][0, :5])


def test_q_values_are_the_frozen_output_layer_on_the_adaptor(policy_lm: str) -> None:
    net = policy(policy_lm)
    states = torch.randn(2, 3, 32, generator=torch.Generator().manual_seed(0))
    backend: Any = load_model(policy_lm)
    with torch.no_grad():
        whole = backend.model.lm_head(net.adaptor(states))
        torch.testing.assert_close(net.logits(states), whole[..., list(net.actions.ids)])


def test_sampling_follows_the_softmax_and_top_k_cuts_it() -> None:
    logits = torch.log(torch.tensor([[0.5, 0.3, 0.15, 0.05]])).expand(40_000, -1)
    drawn = choose(logits, torch.Generator().manual_seed(0))
    shares = torch.bincount(drawn, minlength=4) / len(drawn)
    torch.testing.assert_close(shares, logits[0].exp(), atol=0.01, rtol=0)
    drawn = choose(logits, torch.Generator().manual_seed(0), top_k=2)
    shares = torch.bincount(drawn, minlength=4) / len(drawn)
    torch.testing.assert_close(shares, torch.tensor([5 / 8, 3 / 8, 0, 0]), atol=0.01, rtol=0)
    assert choose(logits, None).unique().tolist() == [0]


def test_polyak_moves_the_target_by_tau_and_they_share_nothing(policy_lm: str) -> None:
    net = policy(policy_lm)
    with torch.no_grad():
        net.adaptor.first.weight += 1.0
    before = net.target.first.weight.clone()
    assert not torch.equal(before, net.adaptor.first.weight)
    net.polyak(0.25)
    torch.testing.assert_close(net.target.first.weight, before + 0.25)


def test_words_of_several_tokens_are_no_actions(policy_lm: str) -> None:
    tokenizer = load_model(policy_lm).tokenizer  # type: ignore[attr-defined]
    actions = word_actions(tokenizer, ("alpha", "nowhere", "beta", "alpha beta", "alpha"))
    assert actions.words == ("alpha", "beta")
    assert len(token_actions(tokenizer, 10**6).ids) == len(WORDS) - 2
    with pytest.raises(ModelError, match="vocabulary='policy'"):
        word_actions(tokenizer, ("nowhere",))


def test_a_byte_level_gpt2_writes_with_its_own_tokens(shared: Path) -> None:
    spec = f"hf:{shared / 'parity/rlprompt/tiny-gpt2'}"
    agent = RLPrompt("published", policy_lm=spec, steps=1, hidden=16, length=3)
    agent.learn(make())
    tokenizer = agent.policy._lm["tokenizer"]
    assert len(agent.policy.actions.ids) == len(tokenizer) - len(set(tokenizer.all_special_ids))
    assert agent.policy._source.tolist() == [[tokenizer.bos_token_id]]
    assert tokenizer.bos_token == "<|endoftext|>"
    assert len({p.instruction for p in agent.predict(8, greedy=False)}) == 8
    words = word_actions(tokenizer, ("the", "of", "zzqx"))
    assert tokenizer.convert_ids_to_tokens(words.ids) == ["Ġthe", "Ġof"]


def test_a_model_that_is_no_policy_is_refused() -> None:
    with pytest.raises(ModelError, match="causal model of transformers"):
        RLPrompt("repaired", policy_lm="target").learn(make())
