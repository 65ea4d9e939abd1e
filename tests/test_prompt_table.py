"""Prompt tables: exact scores, a model that answers from them, arrays that step like the shells."""

from __future__ import annotations

import json
import pickle
from itertools import product
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
from env_problems import TABLE, small_table
from typer.testing import CliRunner

from promptgym.agents import make_optimizer
from promptgym.cli.app import app
from promptgym.envs import ShellOptions
from promptgym.envs.prompt_table import PromptTable
from promptgym.envs.table_vector import TableVectorEnv
from promptgym.envs.vector import PromptVectorEnv
from promptgym.errors import ConfigError, ModelError, TaskError
from promptgym.evaluation.table_builder import build_table, quantized
from promptgym.evaluation.table_landscape import best_of_random, steepest, table_landscape
from promptgym.llms import load_model
from promptgym.problem import Problem, make_problem
from promptgym.prompts import Prompt
from promptgym.scoring.tabulated import tabulate
from promptgym.tasks import load_task
from promptgym.tasks.prompt_table import every_prompt, find_table, tables, write_table
from promptgym.testing import TransparentModel, transparent_task
from promptgym.testing.compare import difference

FILE = TABLE.removeprefix("table:")


def problem(**options: Any) -> Problem:
    return make_problem(TABLE, TABLE, **options)


# -- the table ------------------------------------------------------------------------------------


def test_rows_and_texts_name_each_other() -> None:
    table = find_table(FILE)
    assert len(table) == 1 + 5 + 5**2 + 5**3 == len(set(table.prompts))
    assert [table.row(text) for text in table.prompts] == list(range(len(table)))


def test_words_that_it_does_not_know_say_nothing_and_it_reads_its_slots_only() -> None:
    table = find_table(FILE)
    assert table.row("please alpha the beta") == table.row("alpha beta")
    assert table.row("alpha beta gamma one one") == table.row("alpha beta gamma")


def test_a_table_answers_as_the_model_it_was_built_from() -> None:
    table, task, model = find_table(FILE), transparent_task(8), TransparentModel()
    direct = Problem(task, model).score(list(table.prompts))
    looked_up = problem().score(list(table.prompts))
    np.testing.assert_array_equal(direct.values, looked_up.values)
    assert direct.label_logprobs is not None and looked_up.label_logprobs is not None
    odds = np.diff(direct.label_logprobs)[..., 0]
    assert np.abs(odds - np.diff(looked_up.label_logprobs)[..., 0]).max() <= table.step / 2 + 1e-6


def test_building_it_again_gives_the_same_table(tmp_path: Path) -> None:
    again = small_table()
    assert again.digest == find_table(FILE).digest
    write_table(again, tmp_path / "copy.npz")
    assert find_table(str(tmp_path / "copy.npz")).digest == again.digest


def test_codes_keep_signs_and_lose_half_a_step() -> None:
    odds = np.random.default_rng(0).normal(size=(50, 20)) * 3
    odds[0, :5] = 0.0
    codes, step = quantized(odds)
    back = (codes + 0.5) * step
    assert ((back > 0) == (odds > 0)).all()
    assert np.abs(back - odds).max() <= step / 2 + 1e-12


@pytest.mark.parametrize("damage", ["cut", "text", "changed", "object"])
def test_damaged_files_are_refused(tmp_path: Path, damage: str) -> None:
    path, raw = tmp_path / "t.npz", Path(FILE).read_bytes()
    if damage == "cut":
        path.write_bytes(raw[: len(raw) // 2])
    elif damage == "text":
        path.write_text("no table")
    else:
        with np.load(FILE) as file:
            head, steps = file["head"], file["steps"].copy()
        steps[0, 0] += 1
        changed = steps if damage == "changed" else np.array([{"a": 1}], dtype=object)
        np.savez(path, head=head, steps=changed)
    says = "content is not what was written" if damage == "changed" else "a damaged one"
    with pytest.raises(TaskError, match=rf"t\.npz: .*{says}") as raised:
        find_table(str(path))
    assert str(raised.value).count("t.npz") == 1


def test_tables_that_are_not_there_or_too_large_are_named() -> None:
    with pytest.raises(TaskError, match=f"one of: {', '.join(tables())}"):
        load_task("table:nowhere")
    words = [f"w{i}" for i in range(200)]
    with pytest.raises(TaskError, match="200 words in 3 slots are too many"):
        build_table(transparent_task(8), TransparentModel(), words, name="x", slots=3)
    with pytest.raises(ConfigError, match="two labels"):
        build_table(load_task("news-topic"), TransparentModel(), ["a"], name="x")


def test_options_that_would_change_what_was_recorded_are_refused() -> None:
    with pytest.raises(TaskError, match="takes no sizes"):
        load_task(TABLE, sizes={"train": 4})
    with pytest.raises(ModelError, match="takes no options"):
        load_model(TABLE, batch_tokens=5)
    with pytest.raises(ModelError, match="laid out by its own task"):
        load_model(TABLE).label_logprobs(["alpha"], find_table(FILE).labels)
    with pytest.raises(ModelError, match="of the labels"):
        load_model(TABLE).label_logprobs(["alpha"], ["yes", "no"])
    with pytest.raises(ModelError, match="no system text"):
        problem().score([Prompt("alpha", system="be careful")])


def test_a_pickled_model_is_loaded_again() -> None:
    model = load_model(TABLE)
    assert pickle.loads(pickle.dumps(model)).name == model.name


# -- what every prompt is worth -------------------------------------------------------------------


@pytest.mark.parametrize("reward", ["gap", "accuracy", "loglikelihood"])
def test_tabulated_worth_is_what_the_scorer_finds(reward: str) -> None:
    of = problem(reward=reward)
    worth = tabulate(of.task, of.model, of.reward)
    scores = of.score(list(find_table(FILE).prompts))
    np.testing.assert_array_equal(worth.score, scores.mean)
    np.testing.assert_array_equal(worth.reward, of.rewards(scores))
    assert worth.optimum == of.rewards(scores).max()


def test_the_optimum_of_a_transparent_table_is_the_known_one() -> None:
    land = table_landscape(problem())
    assert {frozenset(text.split()) for text, _, regret in land.best if regret == 0} == {
        frozenset(["alpha", "beta", "gamma"])
    }
    assert land.solved == 1.0  # weights add up: no deception


def test_steepest_ascent_takes_the_best_single_edit() -> None:
    table = find_table(FILE)
    reward = np.random.default_rng(0).normal(size=len(table))
    texts = {text: i for i, text in enumerate(table.prompts)}
    found = steepest(table, reward)
    for i, text in enumerate(table.prompts):
        words, near = text.split(), [i]
        for slot, word in product(range(table.slots), table.words):
            if slot <= len(words):
                near.append(texts[" ".join([*words[:slot], word, *words[slot + 1 :]])])
        near += [texts[" ".join(words[:s] + words[s + 1 :])] for s in range(len(words))]
        assert reward[found[i]] == reward[near].max()


def test_best_of_random_is_the_expected_minimum() -> None:
    regret = np.random.default_rng(1).random(40)
    draws = np.random.default_rng(2).integers(40, size=(200_000, 5))
    assert best_of_random(regret, 5) == pytest.approx(regret[draws].min(axis=1).mean(), abs=2e-3)
    assert best_of_random(regret, 1) == pytest.approx(regret.mean())


# -- the environment ------------------------------------------------------------------------------

ROUNDS = [
    # autoreset mode, shaping, start, time limit, budget
    ("NextStep", "delta", "initial", None, None),
    ("NextStep", "sparse", "random", 3, 8 * 90 + 5),
    ("SameStep", "delta", "random", 3, None),
    ("SameStep", "absolute", "initial", None, 8 * 90 + 5),
    ("Disabled", "delta", "random", None, 8 * 60),
    ("Disabled", "sparse", "initial", 3, None),
]


@pytest.mark.parametrize(("mode", "shaping", "start", "limit", "budget"), ROUNDS)
def test_arrays_step_exactly_as_the_general_shell(
    mode: str, shaping: Any, start: Any, limit: int | None, budget: int | None
) -> None:
    def build(shell: Any) -> Any:
        mdp = PromptTable(problem(budget=budget), start=start)
        options = ShellOptions(shaping=shaping, reward_scale=1.0)
        return shell(mdp, options, num_envs=5, max_episode_steps=limit, autoreset_mode=mode)

    general, arrays = build(PromptVectorEnv), build(TableVectorEnv)
    assert difference(general.reset(seed=3), arrays.reset(seed=3)) is None
    rng = np.random.default_rng(0)
    for _ in range(50):
        masks = arrays.action_masks()
        np.testing.assert_array_equal(masks, general.action_masks())
        actions = np.array([rng.choice(np.flatnonzero(m)) for m in masks])
        actions[rng.random(5) < 0.2] = rng.integers(arrays.mdp.stop + 1)  # now and then illegal
        expected, found = general.step(actions), arrays.step(actions)
        assert difference(expected, found) is None
        assert general.problem.ledger.queries == arrays.problem.ledger.queries
        over = expected[2] | expected[3]
        if mode == "Disabled" and over.any():
            again = general.reset(options={"reset_mask": over})
            assert difference(again, arrays.reset(options={"reset_mask": over})) is None


def test_regret_is_zero_at_the_optimum_only() -> None:
    env = gym.make("PromptTable-v0", task=TABLE, model=TABLE)
    _, info = env.reset(options={"prompt": "alpha beta gamma"})
    assert info["regret"] == 0.0
    _, info = env.reset(options={"prompt": "alpha one"})
    assert info["regret"] > 0


def test_the_default_table_is_the_packaged_one() -> None:
    env: Any = gym.make_vec("PromptTable-v0", num_envs=3)
    assert env.problem.task.name == "table:staff"
    _, infos = env.reset(seed=0)
    assert infos["prompt"].tolist() == ["", "", ""]


def test_problems_that_are_no_table_are_refused() -> None:
    with pytest.raises(ConfigError, match="is no prompt table"):
        gym.make("PromptTable-v0", problem=Problem(transparent_task(), TransparentModel()))
    with pytest.raises(ConfigError, match="leave `vocabulary` out"):
        gym.make("PromptTable-v0", task=TABLE, model=TABLE, vocabulary=["alpha"])
    with pytest.raises(ConfigError, match="caps queries only"):
        gym.make_vec("PromptTable-v0", task=TABLE, model=TABLE, budget={"calls": 3})
    with pytest.raises(ConfigError, match="not in the table"):
        gym.make("PromptTable-v0", task=TABLE, model=TABLE, initial_prompt="banana")


def test_methods_run_on_a_table_unchanged() -> None:
    of = problem(budget=8 * 60)
    result = make_optimizer("hill_climbing").optimize(of, seed=0)
    assert result.best.prompt.instruction.split()
    assert of.ledger.queries <= 8 * 60


# -- the command line -----------------------------------------------------------------------------


def test_a_table_is_built_and_shown(tmp_path: Path) -> None:
    out, picture = tmp_path / "mine.npz", tmp_path / "land.png"
    sizes = json.dumps({"sizes": {"train": 4, "dev": 4, "test": 4}})
    run = CliRunner().invoke
    arguments = ["--words", "closely clause", "--slots", "2", "--out", str(out)]
    built = run(app, ["table", "build", "staff", *arguments, "--task-options", sizes])
    assert built.exit_code == 0 and "7 prompts x 12 examples" in built.stdout, built.output
    shown = run(app, ["table", "show", str(out), "--plot", str(picture), "--json"])
    assert json.loads(shown.stdout)["size"] == 7
    assert picture.read_bytes().startswith(b"\x89PNG")
    assert "local optima under single edits" in run(app, ["table", "show", str(out)]).stdout


def test_every_prompt_is_listed_by_length() -> None:
    assert every_prompt(("a", "b"), 2).tolist() == ["", "a", "b", "a a", "a b", "b a", "b b"]
