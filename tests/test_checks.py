"""The public checks find what is wrong: each environment here has one defect."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from env_problems import problem_for
from gymnasium.vector import AutoresetMode

from promptgym.envs import PromptEdit, PromptEnv, PromptState, PromptVectorEnv
from promptgym.envs.mdp import Observation
from promptgym.envs.outcome import Outcome
from promptgym.testing import check_prompt_env, check_vector_env
from promptgym.testing.compare import difference, shared_memory
from promptgym.types import JSON, BoolArray


class _Reuses(PromptEdit):
    def observe(self, state: PromptState, outcome: Outcome) -> Observation:
        self.buffer = getattr(self, "buffer", None) or {}
        self.buffer.update(super().observe(state, outcome))
        return self.buffer


class _AllowsNothing(PromptEdit):
    def mask(self, state: PromptState) -> BoolArray:
        mask = super().mask(state)
        mask[len(self.operations) :] &= state.step < 3
        return mask


class _ObservesNaN(PromptEdit):
    def observe(self, state: PromptState, outcome: Outcome) -> Observation:
        observation = super().observe(state, outcome)
        if state.step > 2:
            observation["value"][:] = np.nan
        return observation


class _GlobalRandom(PromptEdit):
    draws = 0

    def initial(self, rng: np.random.Generator) -> PromptState:
        _GlobalRandom.draws += 1
        words = self.vocabulary.units
        return PromptState((words[_GlobalRandom.draws % len(words)],))


class _IllegalCounts(PromptEdit):
    def idle(self, state: PromptState) -> PromptState:
        return PromptState((*state.units, "one"), step=state.step + 1)


class _Forgets(PromptEnv):
    def set_state(self, state: JSON) -> None:
        state["episode"]["state"]["units"] = ["ten", "ten"]
        super().set_state(state)


class _NoJson(PromptEnv):
    def get_state(self) -> JSON:
        return {**super().get_state(), "extra": np.zeros(1)}


class _Unmasked(PromptEnv):
    def action_masks(self) -> BoolArray:
        return np.ones_like(super().action_masks())


def scalar(mdp: type[PromptEdit] = PromptEdit, env: type[PromptEnv] = PromptEnv) -> PromptEnv:
    return env(mdp(problem_for("edit")), render_mode="ansi")


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: scalar(_Reuses), "share an object"),
        (lambda: scalar(_AllowsNothing), "allows nothing"),
        (lambda: scalar(_ObservesNaN), "not in its space|is .*nan"),
        (lambda: scalar(_GlobalRandom), "(?i)deterministic|differs"),
        (lambda: scalar(_IllegalCounts), "illegal action"),
        (lambda: scalar(env=_Forgets), "restored by set_state"),
        (lambda: scalar(env=_Unmasked), "action_mask"),
    ],
)
def test_a_defect_of_a_scalar_environment_is_found(
    make: Callable[[], PromptEnv], message: str
) -> None:
    with pytest.raises(AssertionError, match=message):
        check_prompt_env(make())


def test_a_state_that_is_no_json_is_found() -> None:
    with pytest.raises(TypeError, match="not JSON serializable"):
        check_prompt_env(scalar(env=_NoJson))


class _PaysLate(PromptVectorEnv):
    late = 0.0

    def step(self, actions: Any) -> Any:
        observation, rewards, *rest = super().step(actions)
        rewards[0], self.late = self.late, rewards[0]
        return observation, rewards, *rest


class _WrongMode(PromptVectorEnv):
    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **{**kwargs, "autoreset_mode": "Disabled"})
        self.metadata = {**self.metadata, "autoreset_mode": AutoresetMode.SAME_STEP}


class _SameSeeds(PromptVectorEnv):
    def _seeds(self, seed: Any) -> list[int | None]:
        return [seed] * self.num_envs


class _NoFinalObservation(PromptVectorEnv):
    def step(self, actions: Any) -> Any:
        *rest, infos = super().step(actions)
        infos.pop("final_obs", None)
        return *rest, infos


class _SharesBuffer(PromptVectorEnv):
    def step(self, actions: Any) -> Any:
        observation, *rest = super().step(actions)
        self.buffer = getattr(self, "buffer", observation)
        for key, value in observation.items():
            self.buffer[key][:] = value
        return self.buffer, *rest


@pytest.mark.parametrize(
    ("vector", "message"),
    [
        (_PaysLate, "step 0: differs.*expected"),
        (_WrongMode, "SAME_STEP, step"),
        (_SameSeeds, "differs"),
        (_NoFinalObservation, "final_obs"),
        (_SharesBuffer, "changed later"),
    ],
)
def test_a_defect_of_a_vector_environment_is_found(
    vector: type[PromptVectorEnv], message: str
) -> None:
    def make_mdp() -> PromptEdit:
        return PromptEdit(problem_for("edit"), start="manual", horizon=3)

    with pytest.raises(AssertionError, match=message):
        check_vector_env(
            lambda: PromptEnv(make_mdp()),
            lambda n, mode: vector(make_mdp(), num_envs=n, autoreset_mode=mode),
            modes=[AutoresetMode.SAME_STEP],
        )


def test_differences_are_found_where_they_are() -> None:
    one = {"a": [1, (np.array([1.0, np.nan]), "x")], "b": np.array([None, {"c": 1}], dtype=object)}
    two = {"a": [1, (np.array([1.0, np.nan]), "x")], "b": np.array([None, {"c": 2}], dtype=object)}
    assert difference(one, one) is None
    assert difference(one, two) == "['b'][1]['c']: expected 1, found 2"
    assert difference(np.zeros(1), np.zeros(1, dtype=np.float32)) is not None
    assert difference(1, 1.0) is not None
    assert difference([100.0, np.ones(2)], [100.5, np.full(2, 1.005)], tolerance=0.01) is None
    assert difference(np.float64(0.1), np.float64(0.2), tolerance=0.01) is not None
    assert difference(np.array([1.0]), np.array([np.nan]), tolerance=0.01) is not None
    assert difference({"a": 1}, {"b": 1}) == "value: the keys ['a', 'b'] are in one of the two only"
    array = np.zeros(4)
    assert shared_memory({"a": array}, [array[:2]])
    assert not shared_memory({"a": array}, {"a": array.copy()})
