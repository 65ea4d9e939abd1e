"""`MultiPrompter-v0`: PettingZoo's contract, turns, roles, one prompter as PromptToken-v0."""

from __future__ import annotations

import copy
import inspect
import json
import pickle
import subprocess
import sys
import warnings
from typing import Any

import gymnasium as gym
import numpy as np
import pettingzoo
import pytest
from env_problems import SECTIONS, SIZE, FailingModel, problem_for
from gymnasium.error import ResetNeeded
from gymnasium.utils.env_checker import data_equivalence
from pettingzoo.test import api_test, parallel_api_test
from pettingzoo.test.max_cycles_test import max_cycles_test
from pettingzoo.test.seed_test import parallel_seed_test, seed_test
from pettingzoo.test.state_test import state_test
from pettingzoo.utils.conversions import turn_based_aec_to_parallel
from team_problems import ID, PARALLEL, VARIANTS, aec, draw, parallel, reward_of

from promptgym.envs import multi_prompter
from promptgym.envs.token_turns import TokenTurns
from promptgym.errors import ConfigError
from promptgym.problem import Problem
from promptgym.registration import MULTI_AGENT
from promptgym.testing import transparent_task

# -- PettingZoo's own tests ---------------------------------------------------------------------


@pytest.mark.parametrize("variant", VARIANTS)
def test_pettingzoos_tests_of_the_aec_form_pass(variant: str) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # PettingZoo would rather have Box observations
        api_test(aec(variant, render_mode="ansi"), num_cycles=30)
        seed_test(lambda: aec(variant), num_cycles=30)


@pytest.mark.parametrize("variant", PARALLEL)
def test_pettingzoos_tests_of_the_parallel_form_pass(variant: str) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        parallel_api_test(parallel(variant), num_cycles=30)
        parallel_seed_test(lambda: parallel(variant), num_cycles=30)


def test_ids_without_arguments_pass_the_tests_of_cycles_and_states() -> None:
    assert list(MULTI_AGENT) == [ID]
    max_cycles_test(multi_prompter)
    state_test(pettingzoo.make("aec", ID), pettingzoo.make("parallel", ID), num_cycles=2)
    state_test(aec("edit"), parallel(), num_cycles=2)


def test_the_editor_and_its_critic_go_through_pettingzoos_turn_based_conversion() -> None:
    env: Any = turn_based_aec_to_parallel(aec("edit"))
    env.reset(seed=0)
    while env.agents:
        acting = env.unwrapped.agent_selection
        actions = {agent: env.action_space(agent).sample() for agent in env.agents}
        actions[acting] = draw(env.unwrapped)
        env.step(actions)
    with pytest.raises(ConfigError, match="turn_based_aec_to_parallel"):
        pettingzoo.make("parallel", ID, scenario="editor-critic")


def test_importing_promptgym_registers_without_a_deep_learning_library() -> None:
    code = (
        "import pettingzoo, promptgym, sys\n"
        "env = pettingzoo.make('aec', 'MultiPrompter-v0', task='author', prompters=2, tokens=3)\n"
        "par = pettingzoo.make('parallel', 'MultiPrompter', task='author')\n"
        "print(len(env.possible_agents), len(par.possible_agents))"
    )
    light = "import promptgym, sys\nprint({'torch', 'matplotlib', 'pygame'} & set(sys.modules))"
    runs = [
        subprocess.run([sys.executable, "-c", c], capture_output=True, text=True, check=True)
        for c in (code, light)
    ]
    assert [run.stdout.strip() for run in runs] == ["2 2", "set()"]


def test_the_page_is_complete() -> None:
    page = multi_prompter.MultiPrompter.__doc__ or ""
    at = [page.find(f"## {section}\n") for section in SECTIONS]
    assert min(at) > 0 and at == sorted(at)
    for mdp, names in ((TokenTurns, {"prompters", "tokens", "max_cycles"}),):
        parameters = inspect.signature(mdp.__init__).parameters
        for name in names:
            assert f"| `{name}` | {parameters[name].default} |" in page


# -- one prompter is PromptToken-v0 -------------------------------------------------------------


def same_info(info: dict[str, Any], other: dict[str, Any]) -> bool:
    """Whether infos are equal; PettingZoo's masks are int8, Gymnasium's bool."""
    mask, other_mask = info.pop("action_mask"), other.pop("action_mask")
    return data_equivalence(info, other) and np.array_equal(mask, other_mask)


OPTIONS: tuple[dict[str, Any], ...] = (
    {},
    {"fluency": 3},
    {"reward_scale": 1.0, "shaping": "absolute"},
)


@pytest.mark.parametrize(
    ("form", "options"),
    [
        *(("aec", options) for options in (*OPTIONS, {"early_stop": True})),
        *(("parallel", options) for options in OPTIONS),
    ],
)
def test_one_prompter_is_prompt_token(form: str, options: dict[str, Any]) -> None:
    single: Any = gym.make("PromptToken-v0", problem=problem_for("token", budget=40), **options)
    team = pettingzoo.make(  # type: ignore[call-overload]  # either form
        form, ID, problem=problem_for("token", budget=40), prompters=1, tokens=5, **options
    )
    assert team.observation_space("prompter_0") == single.observation_space
    assert team.action_space("prompter_0") == single.action_space
    rng, ends = np.random.default_rng(0), []
    for seed in (3, None, None, None, 4, None, None):
        observation, info = single.reset(seed=seed)
        first = team.reset(seed=seed)
        seen = team.last()[::4] if form == "aec" else [part["prompter_0"] for part in first]
        assert data_equivalence(seen[0], observation) and same_info(dict(seen[1]), dict(info))
        over = False
        while not over:
            legal = np.flatnonzero(single.get_wrapper_attr("action_masks")())
            action = int(rng.choice(legal)) if rng.random() < 0.8 else int(rng.integers(15))
            step = single.step(action)
            if form == "aec":
                team.step(action)
                other = team.last()
            else:
                other = [part["prompter_0"] for part in team.step({"prompter_0": action})]
            assert data_equivalence(other[0], step[0])
            assert tuple(other[1:4]) == step[1:4]
            assert same_info(dict(other[4]), dict(step[4]))
            over = step[2] or step[3]
        ends.append(step[2:4])
        if form == "aec":
            team.step(None)
        assert team.agents == []
        assert team.problem.ledger.queries == single.unwrapped.problem.ledger.queries
    assert {(True, False), (False, True)} == set(ends)  # some ended well, some out of budget


# -- turns --------------------------------------------------------------------------------------


def test_prompters_take_turns_and_are_paid_together_at_the_end() -> None:
    env = aec(prompters=2, tokens=2)
    env.reset(seed=0)
    words = ["alpha", "one", "beta", "gamma"]
    order, vocabulary = [], env.problem.vocabulary
    for i, word in enumerate(words):
        order.append(env.agent_selection)
        assert [a for a in env.agents if "action_mask" in env.infos[a]] == [env.agent_selection]
        assert env.problem.ledger.queries == 0 and env.rewards == dict.fromkeys(env.agents, 0.0)
        assert np.count_nonzero(env.state()) == i
        env.step(vocabulary.index(word))
    assert order == ["prompter_0", "prompter_0", "prompter_1", "prompter_1"]
    reward = reward_of(" ".join(words))
    assert env.rewards == dict.fromkeys(env.possible_agents, reward)
    assert env.problem.ledger.queries == SIZE and all(env.terminations.values())
    assert env.last()[4]["prompt"] == " ".join(words)
    for agent in env.possible_agents:
        assert env.agent_selection == agent and env.last()[1] == reward
        env.step(None)
    with pytest.raises(ResetNeeded):
        env.step(0)


def test_prompters_that_write_at_once_write_their_own_sub_prompts() -> None:
    env = parallel(prompters=2, tokens=3)
    env.reset(seed=0)
    at = {word: i for i, word in enumerate(env.problem.vocabulary)}
    for i, (left, right) in enumerate(
        zip(["one", "two", "three"], ["alpha", "beta", "gamma"], strict=False)
    ):
        out = env.step({"prompter_0": at[left], "prompter_1": at[right]})
        mask = out[0]["prompter_1"]["mask"].reshape(2, 3)
        assert (mask == (np.arange(3) <= i)).all()
        assert (np.flatnonzero(env.state()) == np.flatnonzero(mask)).all()
    assert out[4]["prompter_0"]["prompt"] == "one two three alpha beta gamma"
    assert all(out[2].values()) and env.problem.ledger.queries == SIZE
    assert set(out[1].values()) == {reward_of(out[4]["prompter_0"]["prompt"])}
    with pytest.raises(ResetNeeded):
        env.step({})
    env.reset()
    with pytest.raises(ConfigError, match="an action for each of"):
        env.step({"prompter_0": 1})
    for wrong in (None, 1.7, -1, 10**6):
        with pytest.raises(ConfigError, match="prompter_1: expected an action of Discrete"):
            env.step({"prompter_0": 1, "prompter_1": wrong})
    env.reset(options={"prompt": "one alpha"})
    env.step({"prompter_0": at["two"], "prompter_1": at["beta"]})
    assert env.shell.episode.info()["prompt"] == "one two alpha beta"
    with pytest.raises(ConfigError, match="multiple of 2"):
        env.reset(options={"prompt": "one"})


def test_turns_go_on_from_a_given_start_and_other_options_are_refused() -> None:
    env = aec(prompters=3, tokens=2)
    env.reset(options={"prompt": "one two three"})
    assert env.agent_selection == "prompter_1"
    env.step(0)
    assert env.agent_selection == "prompter_2"
    with pytest.raises(ConfigError, match="promt"):
        env.reset(options={"promt": "one"})


def test_an_illegal_action_leaves_the_turn_where_it_is() -> None:
    env = aec(prompters=2, tokens=1, fluency=3)
    env.reset(seed=0)
    illegal = int(np.flatnonzero(env.infos["prompter_0"]["action_mask"] == 0)[0])
    env.step(illegal)
    assert env.agent_selection == "prompter_0" and env.infos["prompter_0"]["illegal"]
    for _ in range(3):
        env.step(illegal)
    assert all(env.terminations.values()) and env.problem.ledger.queries == SIZE


def test_max_cycles_truncates_without_a_score() -> None:
    env = aec(max_cycles=2)
    env.reset(seed=0)
    order = []
    while not any(env.truncations.values()):
        order.append(env.agent_selection)
        env.step(draw(env))
    assert order == ["prompter_0"] * 2 + ["prompter_1"] * 2
    assert not any(env.terminations.values()) and env.problem.ledger.queries == 0
    env = parallel(max_cycles=2)
    env.reset(seed=0)
    for _ in range(2):
        out = env.step(dict.fromkeys(env.agents, 0))
    assert all(out[3].values()) and not any(out[2].values()) and env.agents == []


@pytest.mark.parametrize("form", ["aec", "parallel"])
def test_a_spent_budget_and_failed_calls_truncate_the_whole_team(form: str) -> None:
    failing = Problem(transparent_task(SIZE), FailingModel())
    cases = [(problem_for("token", budget=SIZE - 1), "one", "budget_exhausted")]
    cases.append((failing, "anti", "score_failed"))
    for problem, word, flag in cases:
        env = pettingzoo.make(form, ID, problem=problem, prompters=2, tokens=1)  # type: ignore[call-overload]
        env.reset(seed=0)
        action = problem.vocabulary.index(word)
        if form == "aec":
            env.step(action)
            env.step(action)
            rewards, ends, infos = env.rewards, (env.terminations, env.truncations), env.infos
        else:
            _, rewards, *ends, infos = env.step(dict.fromkeys(env.agents, action))
        assert [set(e.values()) for e in ends] == [{False}, {True}]
        assert set(rewards.values()) == {0.0}
        assert all(info[flag] and "score" not in info for info in infos.values())


# -- state, pickling, arguments -----------------------------------------------------------------


@pytest.mark.parametrize("variant", VARIANTS)
def test_a_state_goes_on_in_another_environment(variant: str) -> None:
    env, other = aec(variant), aec(variant)
    for steps in range(9):
        env.reset(seed=steps)
        for _ in range(steps):
            if env.agents:
                dead = env.terminations[env.agent_selection]
                env.step(None if dead else draw(env))
        other.set_state(json.loads(json.dumps(env.get_state())))
        assert data_equivalence(other.get_state(), env.get_state())
        while env.agents:
            assert other.agent_selection == env.agent_selection
            assert data_equivalence(other.last(), env.last())
            dead = env.terminations[env.agent_selection]
            action = None if dead else draw(env)
            env.step(action)
            other.step(action)
        assert other.agents == []
    with pytest.raises(ConfigError, match="multi-agent"):
        env.set_state(env.shell.get_state())


def test_parallel_environments_have_states_too() -> None:
    env, other = parallel(), parallel()
    env.reset(seed=0)
    env.step(dict.fromkeys(env.agents, 1))
    other.set_state(json.loads(json.dumps(env.get_state())))
    while env.agents:
        actions = dict.fromkeys(env.agents, 2)
        assert data_equivalence(other.step(actions), env.step(actions))
    with pytest.raises(ConfigError, match="this team is"):
        parallel(prompters=1).set_state(parallel_state(prompters=2))


def parallel_state(**options: Any) -> Any:
    env = parallel(**options)
    env.reset(seed=0)
    return env.get_state()


def test_environments_pickle_as_names_and_copy() -> None:
    env = pettingzoo.make("aec", ID, task="author", prompters=2, tokens=2)
    env.reset(seed=0)
    env.step(5)
    pickled = pickle.dumps(env)
    assert len(pickled) < 20_000
    for again in (pickle.loads(pickled), copy.deepcopy(env)):
        assert again.infos.keys() == env.infos.keys()
        for action in (1, 2, 3):
            again.step(action)
        assert again.infos["prompter_0"]["score"] >= 0.0
    assert env.problem.ledger.queries == 0


def test_rendering_is_that_of_the_single_agent() -> None:
    env = aec(render_mode="ansi")
    env.reset(seed=0)
    env.step(0)
    assert "alpha" in env.render()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"scenario": "debate"}, "scenario must be one of"),
        ({"prompters": 0}, "prompters and tokens must be at least 1"),
        ({"tokens": 0}, "prompters and tokens must be at least 1"),
        ({"length": 5}, "no argument 'length'"),
        ({"max_cycles": 0}, "max_cycles must be at least 1"),
        ({"scenario": "editor-critic", "tokens": 3}, "no argument 'tokens'"),
        ({"archive": 3}, "always starts afresh"),
        ({"prompters": "2"}, "prompters takes int"),
    ],
)
def test_arguments_that_mean_nothing_are_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        aec(**options)
    with pytest.raises(ConfigError, match="no argument 'early_stop'"):
        parallel(early_stop=True)
