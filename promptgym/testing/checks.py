"""`check_prompt_env` and `check_vector_env`: what an environment must do, for anyone's environment.

Both raise AssertionError with what was expected, what was found and where to look. Use them on an
environment without a cap on its budget: a spent budget is the one thing a seed does not bring back.
"""

from __future__ import annotations

import json
import pickle
from collections.abc import Callable, Iterable
from copy import deepcopy
from dataclasses import asdict
from itertools import pairwise
from typing import Any

import gymnasium as gym
import numpy as np
from gymnasium.utils.env_checker import check_env
from gymnasium.vector import AutoresetMode, SyncVectorEnv, VectorEnv

from promptgym.envs import head_sizes, sample_action
from promptgym.testing.compare import difference, expect, shared_memory
from promptgym.types import BoolArray

INFO_KEYS = (
    "prompt",
    "no_op",
    "illegal",
    "queries",
    "budget_exhausted",
    "score_failed",
    "action_mask",
)
TOLERANCE = 1e-3
"""Float32 of other batches: 1e-6 of a probability is 2e-4 of a reward that is paid 200 times it."""
Trace = list[tuple[Any, ...]]
MakeScalar = Callable[[], "gym.Env[Any, Any]"]
MakeVector = Callable[[int, AutoresetMode], "VectorEnv[Any, Any, Any]"]


def check_prompt_env(
    env: gym.Env[Any, Any], *, seed: int = 0, steps: int = 40, tolerance: float = TOLERANCE
) -> None:
    """Check a scalar environment, wrapped or not.

    Gymnasium's own `check_env`; then: masks never empty, legal actions never flagged, illegal ones
    flagged and harmless, observations finite, in their space and never reused, returns add up, the
    same seed gives the same episodes, a state restored (through JSON, through a pickle, through a
    deep copy) goes on exactly as the original does, rendering, and the spec's round trip.

    Args:
        env: made by `gymnasium.make` or by hand; it is reset many times and left open.
        seed: seed of everything.
        steps: how many steps a rollout has.
        tolerance: by how much floats may differ, times max(1, |expected|), where the cache of
            scores is not shared; 0.0 for none. A real model's last digits depend on what shares
            a batch.

    Raises:
        AssertionError: naming the first thing that is wrong, or a budget.
    """
    _refuse_budget(env)
    check_env(env.unwrapped, skip_render_check=env.spec is None)
    _check_masks(env, seed, steps)
    first = _rollout(env, seed, steps, reset=True)
    _check_trace(env, first)
    _same(first, _rollout(env, seed, steps, reset=True), "a second rollout with the same seed")
    _check_restore(env, seed, steps, tolerance)
    _check_render(env)
    _check_spec(env, tolerance)


def check_vector_env(
    make_scalar: MakeScalar,
    make_vector: MakeVector,
    *,
    num_envs: int = 3,
    steps: int = 40,
    seed: int = 0,
    modes: Iterable[AutoresetMode] = tuple(AutoresetMode),
    tolerance: float = TOLERANCE,
) -> None:
    """Check that a vector environment is, step by step, so many scalar ones.

    Observations, rewards, flags and infos (with `final_obs` and `final_info`) are compared with
    Gymnasium's SyncVectorEnv over the scalar environment under every autoreset mode, with
    legal and now and then illegal actions; then state, pickle and deep copy as in
    `check_prompt_env`.

    Args:
        make_scalar: makes the scalar environment.
        make_vector: makes the vector environment from the number of sub-environments and the mode.
        num_envs: how many sub-environments.
        steps: how many steps under each mode.
        seed: seed of everything.
        modes: which autoreset modes.
        tolerance: as for `check_prompt_env`.

    Raises:
        AssertionError: naming mode, step and the first difference.
    """
    for mode in modes:
        vector = make_vector(num_envs, mode)
        _refuse_budget(vector)
        reference = SyncVectorEnv([make_scalar] * num_envs, autoreset_mode=mode)
        _check_spaces(reference, vector, mode)
        _check_equal(reference, vector, mode, seed, steps, tolerance)
        _check_vector_restore(vector, mode, seed, steps, tolerance)
        vector.close()
        reference.close()


def _refuse_budget(env: Any) -> None:
    """Refuse an environment whose budget is capped: what is left of it is in observations."""
    problem = getattr(env.unwrapped, "problem", None)
    caps = {} if problem is None else asdict(problem.ledger.budget)
    given = {name: cap for name, cap in caps.items() if cap is not None}
    expect(not given, f"check an environment without a budget; this one has {given}")


def _masks(env: Any) -> BoolArray:
    """Return the legal actions of an environment under its wrappers."""
    found = env.get_wrapper_attr if isinstance(env, gym.Env) else env.__getattribute__
    masks: BoolArray = found("action_masks")()
    return masks


def _rollout(env: gym.Env[Any, Any], seed: int, steps: int, *, reset: bool) -> Trace:
    """Play legal actions, resetting at the end of episodes; the actions depend on the seed only."""
    rng = np.random.default_rng(seed)
    trace: Trace = [env.reset(seed=seed)] if reset else []
    for _ in range(steps):
        result = env.step(sample_action(env.action_space, _masks(env), rng))
        trace.append(result)
        if result[2] or result[3]:
            trace.append(env.reset())
    return trace


def _same(expected: Any, found: Any, what: str, tolerance: float = 0.0) -> None:
    """Refuse any difference."""
    where = difference(expected, found, tolerance=tolerance)
    expect(where is None, f"{what} differs from the first: {where}")


def _check_masks(env: gym.Env[Any, Any], seed: int, steps: int) -> None:
    """Masks have the right shape and a choice in each head; illegal actions do nothing."""
    rng, sizes = np.random.default_rng(seed), head_sizes(env.action_space)
    _, info = env.reset(seed=seed)
    for step in range(steps):
        mask = _masks(env)
        expect(
            mask.dtype == np.bool_ and mask.shape == (sum(sizes),),
            f"action_masks(): expected bool of shape ({sum(sizes)},), got {mask.dtype} of shape "
            f"{mask.shape}",
        )
        _same(mask, info["action_mask"], "info['action_mask'], compared with action_masks(),")
        heads = np.split(mask, np.cumsum(sizes)[:-1]) if sizes else []
        for number, head in enumerate(heads):
            expect(bool(head.any()), f"step {step}: the mask of head {number} allows nothing")
        action, illegal = sample_action(env.action_space, mask, rng), False
        closed = [i for i, head in enumerate(heads) if not head.all()]
        if closed and step % 3 == 2:
            illegal, number = True, closed[int(rng.integers(len(closed)))]
            wrong = int(rng.choice(np.flatnonzero(~heads[number])))
            action = np.array(action)
            action.reshape(-1)[number] = wrong
        before = info["prompt"]
        _, _, terminated, truncated, info = env.step(action)
        expect(
            info["illegal"] == illegal,
            f"step {step}: action {action} is {'illegal' if illegal else 'legal'} by the mask, but "
            f"info['illegal'] is {info['illegal']}",
        )
        if illegal:
            expect(
                info["no_op"] and info["prompt"] == before,
                f"step {step}: the illegal action {action} must leave the prompt {before!r} alone, "
                f"it became {info['prompt']!r}",
            )
        if terminated or truncated:
            _, info = env.reset()


def _check_trace(env: gym.Env[Any, Any], trace: Trace) -> None:
    """Observations are finite, in space and never reused; infos are complete; returns add up."""
    total = 0.0
    for number, result in enumerate(trace):
        observation, info = result[0], result[-1]
        expect(observation in env.observation_space, f"observation {number} is not in its space")
        for key, value in observation.items():
            finite = not np.issubdtype(np.asarray(value).dtype, np.floating) or np.isfinite(value)
            expect(bool(np.all(finite)), f"observation {number}: {key!r} is {value}")
        missing = [key for key in INFO_KEYS if key not in info]
        expect(not missing, f"info {number} lacks {missing}")
        total = total + result[1] if len(result) == 5 else 0.0
        if "episode_return" in info:
            same = bool(np.isclose(total, info["episode_return"]))
            expect(same, f"rewards add up to {total}, episode_return is {info['episode_return']}")
    for one, two in pairwise(trace):
        for i in (0, -1):
            expect(not shared_memory(one[i], two[i]), "two calls returned the same array or dict")


def _check_restore(env: gym.Env[Any, Any], seed: int, steps: int, tolerance: float) -> None:
    """A state goes through JSON, pickle and deep copy without loss."""
    _rollout(env, seed, steps // 2, reset=True)
    state = env.get_wrapper_attr("get_state")()
    text = json.dumps(state)
    copies = [("unpickled", pickle.loads(pickle.dumps(env))), ("deep-copied", deepcopy(env))]
    expected = _rollout(env, seed + 1, steps, reset=False)
    for name, copy in copies:
        found = _rollout(copy, seed + 1, steps, reset=False)
        _same(expected, found, f"a rollout of the {name} environment", tolerance)
    env.get_wrapper_attr("set_state")(json.loads(text))
    found = _rollout(env, seed + 1, steps, reset=False)
    _same(expected, found, "a rollout from the state restored by set_state(get_state())")
    _same(state, json.loads(text), "the state after JSON")


def _check_render(env: gym.Env[Any, Any]) -> None:
    """Rendering gives text in mode "ansi"."""
    env.reset(seed=0)
    if env.render_mode == "ansi":
        frame: Any = env.render()
        expect(isinstance(frame, str) and bool(frame), f"render() must give text, gave {frame!r}")


def _check_spec(env: gym.Env[Any, Any], tolerance: float) -> None:
    """A spec of plain arguments survives JSON and makes the environment again."""
    if env.spec is None or callable(env.spec.entry_point) or "problem" in env.spec.kwargs:
        return
    spec = gym.envs.registration.EnvSpec.from_json(env.spec.to_json())
    expect(spec == env.spec, f"the spec after JSON is {spec}, before it was {env.spec}")
    again = gym.make(spec)
    expected, found = env.reset(seed=3), again.reset(seed=3)
    _same(expected, found, "reset() of the environment made from its spec", tolerance)
    again.close()


def _check_spaces(
    reference: SyncVectorEnv, vector: VectorEnv[Any, Any, Any], mode: AutoresetMode
) -> None:
    """Spaces and metadata are those of the scalar environments."""
    for name in (
        "single_observation_space",
        "single_action_space",
        "observation_space",
        "action_space",
        "num_envs",
    ):
        one, two = getattr(reference, name), getattr(vector, name)
        expect(one == two, f"{mode}: {name} is {two}, expected {one}")
    found = vector.metadata.get("autoreset_mode")
    expect(found is mode, f"metadata['autoreset_mode'] is {found!r}, expected {mode!r}")


def _actions(vector: VectorEnv[Any, Any, Any], rng: np.random.Generator) -> Any:
    """Draw an action for each sub-environment, one in eight of them regardless of the mask."""
    space = vector.single_action_space
    masks = _masks(vector)
    masks[rng.random(len(masks)) < 1 / 8] = True
    return np.stack([np.asarray(sample_action(space, mask, rng)) for mask in masks])


def _check_equal(
    reference: SyncVectorEnv,
    vector: VectorEnv[Any, Any, Any],
    mode: AutoresetMode,
    seed: int,
    steps: int,
    tolerance: float,
) -> None:
    """Both do the same, step by step."""
    rng = np.random.default_rng(seed)
    expected: Any = reference.reset(seed=seed)
    found: Any = vector.reset(seed=seed)
    where = difference(expected, found, tolerance=tolerance)
    expect(where is None, f"{mode}: reset(seed={seed}) differs from scalar environments: {where}")
    kept = [(deepcopy(found), found)]
    for step in range(steps):
        actions = _actions(vector, rng)
        expected, found = reference.step(actions), vector.step(actions)
        where = difference(expected, found, tolerance=tolerance)
        expect(where is None, f"{mode}, step {step}: differs from scalar environments: {where}")
        kept.append((deepcopy(found), found))
        done = found[2] | found[3]
        if mode is AutoresetMode.DISABLED and done.any():
            expected = reference.reset(options={"reset_mask": done.copy()})
            found = vector.reset(options={"reset_mask": done.copy()})
            where = difference(expected, found, tolerance=tolerance)
            expect(where is None, f"{mode}, step {step}: the masked reset differs: {where}")
    for number, (before, now) in enumerate(kept):
        where = difference(before, now)
        expect(where is None, f"{mode}: what call {number} returned was changed later: {where}")


def _vector_rollout(vector: VectorEnv[Any, Any, Any], seed: int, steps: int) -> Trace:
    """Play on from where the vector environment stands."""
    rng = np.random.default_rng(seed)
    trace: Trace = []
    for _ in range(steps):
        result = vector.step(_actions(vector, rng))
        trace.append(result)
        done = result[2] | result[3]
        if vector.metadata["autoreset_mode"] is AutoresetMode.DISABLED and done.any():
            trace.append(vector.reset(options={"reset_mask": done}))
    return trace


def _check_vector_restore(
    vector: Any, mode: AutoresetMode, seed: int, steps: int, tolerance: float
) -> None:
    """A state goes through JSON, pickle and deep copy without loss."""
    vector.reset(seed=seed)
    _vector_rollout(vector, seed, steps // 2)
    text = json.dumps(vector.get_state())
    copies = [("unpickled", pickle.loads(pickle.dumps(vector))), ("deep-copied", deepcopy(vector))]
    expected = _vector_rollout(vector, seed + 1, steps)
    for name, copy in copies:
        found = _vector_rollout(copy, seed + 1, steps)
        _same(expected, found, f"{mode}: a rollout of the {name} vector environment", tolerance)
    vector.set_state(json.loads(text))
    found = _vector_rollout(vector, seed + 1, steps)
    _same(expected, found, f"{mode}: a rollout from the restored state")
