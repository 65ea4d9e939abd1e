"""PRewrite: it learns, the budget bounds it, it resumes exactly, and what it may game is shown."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from env_problems import FailingModel

from promptgym.agents.guards import Guards, concerns
from promptgym.agents.prewrite import PRESETS, PRewrite, PRewriteConfig
from promptgym.agents.writer import Writer
from promptgym.errors import ConfigError, ModelError, PromptGymError
from promptgym.evaluation.experiment import Experiment, run_experiment
from promptgym.llms.tiny import weights_path
from promptgym.problem import Problem
from promptgym.prompts import Example, Prompt
from promptgym.runs import ListSink
from promptgym.runs.folder import RunFolder
from promptgym.testing import TransparentModel, transparent_task

SMALL: dict[str, Any] = {"steps": 3, "group": 4, "drafts": 2, "max_tokens": 6, "samples": 4}
# Words that the embedded rewriter writes, and what they are worth to the transparent model.
WORDS = {"sentiment": 0.8, "exact": 0.6, "give": 0.6, "say": 0.5, "writer": 0.5, "the": -0.5}
DRAFT = "what is the opinion of the author ?"
LORA = {"r": 4, "lora_alpha": 8, "target_modules": "all-linear"}


def problem(budget: int | None = 3000, **options: Any) -> Problem:
    model = options.pop("model", None) or TransparentModel(WORDS)
    return Problem(transparent_task(), model, budget=budget, initial_prompt=DRAFT, **options)


def weights(agent: PRewrite) -> dict[str, torch.Tensor]:
    return dict(agent.writer.model.state_dict())


def assert_same_weights(a: PRewrite, b: PRewrite) -> None:
    theirs = weights(b)
    for name, tensor in weights(a).items():
        assert torch.equal(tensor, theirs[name]), name


def mean_dev(prompts: list[Prompt]) -> float:
    return float(problem(None).score(prompts, split="dev").mean.mean())


def test_training_raises_the_held_out_accuracy_of_what_the_policy_writes() -> None:
    options = {"steps": 15, "max_tokens": 8}
    frozen = PRewrite("frozen", **{**options, "steps": 1}).learn(problem(50_000), seed=0)
    agent = PRewrite(**options).learn(problem(50_000), seed=0)
    before, after = (a.predict(40, greedy=False, seed=9) for a in (frozen, agent))
    assert mean_dev(after) > mean_dev(before) + 0.1
    assert mean_dev(agent.predict()) > mean_dev(frozen.predict())
    rewards = [row["reward_mean"] for row in agent.log]
    assert np.mean(rewards[-3:]) > np.mean(rewards[:3])


def test_the_frozen_control_trains_nothing() -> None:
    frozen = PRewrite("frozen", **SMALL).learn(problem(), seed=0)
    start = Writer.load("tiny-rewriter").model.state_dict()
    assert all(torch.equal(tensor, start[name]) for name, tensor in weights(frozen).items())
    assert frozen.step == 3


@pytest.mark.parametrize("algorithm", ["grpo", "rloo"])
def test_the_budget_is_a_hard_cap_and_the_result_is_complete(algorithm: Any) -> None:
    events = ListSink()
    p = problem(1500, events=events)
    options = {**SMALL, "steps": 60, "memory": False, "algorithm": algorithm}
    result = PRewrite(**options).optimize(p, seed=1)
    assert result.spent["queries"] == p.ledger.queries <= 1500
    assert p.ledger.queries > 1200
    assert p.ledger.reserved == 0
    assert result.stats["steps"] < 60
    assert result.history[-1]["dev"] == result.best.dev
    assert len(result.policy["samples"]) == 32
    log = result.stats["log"]
    assert [row["step"] for row in log] == list(range(1, result.stats["steps"] + 1))
    # The policy begins as the model it is held to, and moves; the reference stays where it was.
    assert log[0]["kl"] == pytest.approx(0.0, abs=1e-5)
    assert log[-1]["kl"] > 1e-4
    guards = {row["name"]: row for row in result.stats["guards"]}
    assert set(guards) == set(result.stats["named"]) == {"PRewrite-I", "PRewrite-S"}
    assert guards["PRewrite-I"]["prompt"] == result.policy["greedy"]
    best_of = [Prompt.of(p) for p in result.policy["samples"][:4]]
    assert Prompt.of(guards["PRewrite-S"]["prompt"]) in best_of
    assert guards["PRewrite-S"]["dev"] == max(
        problem(None).score(best_of, split="dev").mean.tolist()
    )


@pytest.mark.parametrize(
    "options", [{}, {"memory": False, "algorithm": "rloo", "micro_batch": 4}, {"lora": LORA}]
)
def test_an_interrupted_and_resumed_run_equals_an_uninterrupted_one(
    tmp_path: Path, options: dict[str, Any]
) -> None:
    options = {**SMALL, "steps": 4, "checkpoint_every": 2, **options}
    if "lora" in options:
        pytest.importorskip("peft")
    whole = PRewrite(**options)
    expected = whole.optimize(problem(), seed=3, checkpoint_dir=tmp_path / "a")

    class Interrupted(Exception):
        """Stands for the kill."""

    class Killer(ListSink):
        """Kills the run after the third update, one past the checkpoint."""

        def emit(self, kind: str, **fields: Any) -> None:
            super().emit(kind, **fields)
            if kind == "policy" and fields["step"] == 3:
                raise Interrupted

    with pytest.raises(Interrupted):
        PRewrite(**options).optimize(
            problem(events=Killer()), seed=3, checkpoint_dir=tmp_path / "b"
        )
    torch.manual_seed(99)  # a new process starts anywhere
    np.random.seed(99)
    second, model, events = PRewrite(**options), TransparentModel(WORDS), ListSink()
    p = problem(model=model, events=events)
    got = second.optimize(p, seed=3, checkpoint_dir=tmp_path / "b", resume=True)
    assert got.best == expected.best
    assert got.history == expected.history
    assert got.policy == expected.policy
    assert got.stats == expected.stats
    assert got.spent["queries"] == expected.spent["queries"]
    assert_same_weights(whole, second)
    assert model.calls < expected.spent["calls"], "what was scored is not asked again"


def test_a_finished_run_resumes_to_the_same_result(tmp_path: Path) -> None:
    first = PRewrite(**SMALL)
    expected = first.optimize(problem(), seed=0, checkpoint_dir=tmp_path)
    again, model = PRewrite(**SMALL), TransparentModel(WORDS)
    p = problem(model=model)
    got = again.optimize(p, seed=0, checkpoint_dir=tmp_path, resume=True)
    assert model.calls == 0
    assert (got.best, got.policy, got.stats) == (expected.best, expected.policy, expected.stats)
    assert_same_weights(first, again)
    with pytest.raises(ConfigError, match="another run"):
        PRewrite(**{**SMALL, "group": 8}).optimize(
            problem(), seed=0, checkpoint_dir=tmp_path, resume=True
        )


def test_a_run_whose_last_step_found_no_budget_resumes(tmp_path: Path) -> None:
    # 160 queries a step without memory: the fourth, at which a checkpoint is due, gets none.
    options = {**SMALL, "steps": 4, "memory": False, "checkpoint_every": 2, "samples": 1}
    agents = [PRewrite(**options), PRewrite(**options)]
    for agent, resume in zip(agents, (False, True), strict=True):
        agent.learn(problem(3 * 160), seed=0, checkpoint_dir=tmp_path, resume=resume)
        assert agent.step == 4
    assert_same_weights(*agents)


def test_micro_batches_make_the_same_update() -> None:
    options = {**SMALL, "steps": 1}
    whole = PRewrite(**options).learn(problem(), seed=0)
    parts = PRewrite(**options, micro_batch=2).learn(problem(), seed=0)
    for name in ("reward_mean", "grad_norm"):
        assert parts.log[0][name] == pytest.approx(whole.log[0][name], rel=1e-3), name
    start = Writer.load("tiny-rewriter").model.state_dict()
    moves = [
        torch.cat([(tensor - start[name]).flatten() for name, tensor in weights(a).items()])
        for a in (whole, parts)
    ]
    assert torch.cosine_similarity(*moves, dim=0) > 0.99


@pytest.mark.parametrize("lora", [None, LORA])
def test_a_saved_policy_writes_the_same_and_nothing_is_pickled(
    tmp_path: Path, lora: dict[str, Any] | None
) -> None:
    if lora is not None:
        pytest.importorskip("peft")
    agent = PRewrite(**SMALL, lora=lora, learning_rate=1e-2).learn(problem(), seed=0)
    agent.save(tmp_path)
    suffixes = {path.suffix for path in tmp_path.iterdir()}
    assert suffixes <= {".json", ".safetensors", ".jinja"}
    assert (tmp_path / "adapter_model.safetensors").exists() == (lora is not None)
    texts = [path.read_text() for path in tmp_path.glob("*.json")]
    assert not any(str(weights_path("rewriter")) in text for text in texts), "it may be moved"
    loaded = PRewrite.load(tmp_path)
    assert loaded.config == agent.config
    assert loaded.predict() == agent.predict()
    samples = agent.predict(6, greedy=False, seed=4)
    assert loaded.predict(6, greedy=False, seed=4) == samples
    assert len(set(samples)) > 1
    assert agent.predict(6, greedy=False, seed=5) != samples
    start = PRewrite("frozen", **{**SMALL, "steps": 1}).learn(problem(), seed=0)
    assert start.predict(6, greedy=False, seed=4) != samples, "what was learned was saved"
    about = json.loads((tmp_path / "policy.json").read_text())
    (tmp_path / "policy.json").write_text(json.dumps({**about, "agent": "rlprompt"}))
    with pytest.raises(ConfigError, match="rlprompt"):
        PRewrite.load(tmp_path)
    options = about["options"]
    for changed in (
        {"agent": "prewrite"},
        {**about, "options": {**options, "no_more": 1}},
        {k: v for k, v in about.items() if k != "text"},
    ):
        (tmp_path / "policy.json").write_text(json.dumps(changed))
        with pytest.raises(ConfigError, match=r"policy.json was written by another version"):
            PRewrite.load(tmp_path)


def test_a_checkpoint_of_the_trainer_that_is_cut_or_gone_is_named(tmp_path: Path) -> None:
    options = {**SMALL, "checkpoint_every": 2, "steps": 2}
    PRewrite(**options).learn(problem(), seed=0, checkpoint_dir=tmp_path)
    saved = tmp_path / "prewrite-trainer" / "checkpoint-2"
    for name in ("optimizer.pt", "model.safetensors", "trainer_state.json"):
        whole = (saved / name).read_bytes()
        for content in (whole[: len(whole) // 2], None):
            if content is None:
                (saved / name).unlink()
            else:
                (saved / name).write_bytes(content)
            with pytest.raises(ConfigError, match=r"checkpoint-2 is missing or damaged .*remove"):
                PRewrite(**options).learn(problem(), checkpoint_dir=tmp_path, resume=True)
        (saved / name).write_bytes(whole)
    shutil.rmtree(saved)
    with pytest.raises(ConfigError, match=r"there is no trainer_state\.json") as told:
        PRewrite(**options).learn(problem(), checkpoint_dir=tmp_path, resume=True)
    assert str(tmp_path / "prewrite.safetensors") in str(told.value)
    (tmp_path / "prewrite.safetensors").unlink()  # the remedy that it names
    model = TransparentModel(WORDS)
    again = PRewrite(**options)
    again.learn(problem(model=model), checkpoint_dir=tmp_path, resume=True)
    assert again.step == 2
    assert model.calls == 0


def test_what_failed_and_what_the_budget_cut_off_are_told_apart() -> None:
    options: dict[str, Any] = {**SMALL, "memory": False, "steps": 20}
    log = PRewrite(**options).learn(problem(1000), seed=0).log
    assert all(row["failed"] == 0 for row in log)
    assert [row["cut"] > 0 for row in log] == [*([False] * (len(log) - 1)), True]
    model = FailingModel(WORDS)
    model.word = "the"
    p = problem(1000, model=model, max_failures=1.0)
    log = PRewrite(**options).learn(p, seed=0).log
    assert sum(row["failed"] for row in log) > 0
    assert sum(row["cut"] for row in log[:-1]) == 0


def test_options_that_cannot_work_are_refused() -> None:
    for options, message in (
        ({"algorithm": "ppo"}, "'grpo' or 'rloo'"),
        ({"group": 1}, "at least 2"),
        ({"steps": 0}, "steps"),
        ({"kl": -1.0}, "kl"),
        ({"steppes": 1}, "steppes"),
        ({"trainer": {"output_dir": "x"}}, "cannot set output_dir .got 'x'.; use the run folder"),
        ({"trainer": {"save_strategy": "no"}}, "cannot set save_strategy .*checkpoint_every"),
        ({"trainer": {"logging_steps": 5}}, "cannot set logging_steps .*log_every"),
        ({"trainer": {"max_steps": 5}}, "cannot set max_steps .*use steps"),
    ):
        with pytest.raises(ConfigError, match=message):
            PRewrite(**options)
    for options, message in (
        ({"rewriter": "tiny-masked"}, "hf:NAME_OR_FOLDER"),
        ({"micro_batch": 5}, "micro_batch 5"),
        ({"trainer": {"betta": 1}}, "betta"),
        ({"trainer": {"betta": 1}, "algorithm": "rloo"}, "RLOOConfig"),
        ({"lora": {"rank": 4}}, "rank"),
        ({"errors": 2}, "meta-prompt with the slot {errors}"),
        ({"errors": 2, "meta_prompt": "better: {prompt}"}, "got 'better: {prompt}'"),
        ({"lora": {"r": -1}}, r"lora=\{'r': -1\} is refused: .*positive"),
        ({"lora": {"target_modules": ["nothing"]}}, "lora=.* is refused: .*nothing.* not found"),
        # What TRL says only when it makes its trainer, or in its first update.
        ({"trainer": {"loss_type": "grpoo"}}, "trainer={'loss_type': 'grpoo'} is refused: .*grpoo"),
        ({"trainer": {"reward_weights": [1.0, 2.0]}}, "trainer=.*reward_weights.* is refused"),
        ({"trainer": {"use_vllm": True, "vllm_mode": "far"}}, "vllm_mode must be one of .* 'far'"),
        ({"trainer": {"use_vllm": True, "vllm_gpu_memory_utilization": 2}}, "at most 1, got 2"),
    ):
        if "lora" in options:
            pytest.importorskip("peft")
        p = problem()
        with pytest.raises(ConfigError, match=message):
            PRewrite(**{**SMALL, **options}).check(p)
        assert p.ledger.queries == 0
    if find_spec("vllm") is None:
        with pytest.raises(ConfigError, match=r"use_vllm=True needs vLLM.*promptgym\[vllm\]"):
            PRewrite(trainer={"use_vllm": True}).check(problem(None))
    for options in ({"dtype": "float33"}, {"nonsense": 1}):
        with pytest.raises(ModelError, match=f"cannot be loaded with {options}"):
            PRewrite(rewriter_options=options).learn(problem(None))
    PRewrite(**SMALL, trainer={"weight_decay": 0.1}).check(problem())
    with pytest.raises(PromptGymError, match="no policy yet"):
        PRewrite().predict()
    with pytest.raises(PromptGymError, match="at least 1, got -1"):
        PRewrite().predict(-1)


def test_options_reach_the_trainer_and_win(capsys: pytest.CaptureFixture[str]) -> None:
    agent = PRewrite("chat", trainer={"use_vllm": True, "vllm_mode": "colocate", "beta": 0.5})
    agent._seed = 7
    args = agent._arguments()
    assert (args.use_vllm, args.vllm_mode, args.beta, args.seed) == (True, "colocate", 0.5, 7)
    assert (args.num_generations, args.loss_type, args.temperature) == (8, "grpo", 1.0)
    assert args.per_device_train_batch_size * args.gradient_accumulation_steps == 32
    still = {"learning_rate": 0.0, "kl": 0.0, "steps": 1000, "temperature": 1.0}
    assert PRESETS["frozen"] == replace(PRewriteConfig(), **still)
    PRewrite(**SMALL, trainer={"log_completions": True}).check(problem())
    assert capsys.readouterr().out == "", "the trial shows no rewrites"


def test_guards_are_counted_by_hand() -> None:
    task = transparent_task()
    example = "They never praised the food"
    guards = Guards.of(replace(task, train=(Example(example, "minus"),)))
    copy = Prompt(f"say that {example.lower()} now")
    assert guards.copied(copy) == pytest.approx(5 / 8)
    assert guards.copied(Prompt(" ".join(example.split()[:3]))) == 0.0
    assert guards.copied(Prompt(f'"{example}", they said.')) == pytest.approx(5 / 7)
    assert guards.named(Prompt("say Plus, or minus!")) == 2
    assert guards.named(Prompt("**plus**/minus, [plus], `minus` or plus-or-minus")) == 6
    assert guards.statistics([copy, Prompt("plus plus")]) == {
        "words": 5.0,
        "copied": pytest.approx(5 / 16),
        "labels": 0.5,
    }
    row = guards.row("x", copy, 0.9, 0.7)
    assert row["gap"] == pytest.approx(0.2)
    assert any("copied" in said for said in concerns(row))
    assert any("0.200 above dev" in said for said in concerns(row))
    assert concerns(guards.row("x", Prompt("be exact"), 0.8, 0.75)) == []
    assert guards.row("x", copy, 0.9, None)["gap"] is None


def test_a_run_leaves_a_report_with_the_guards_and_held_out_scores(tmp_path: Path) -> None:
    experiment = Experiment(
        method="prewrite", task="author", reward="accuracy", options=SMALL, budget={"queries": 4000}
    )
    record = run_experiment(experiment, tmp_path / "run")
    names = [row["name"] for row in record["compared"]]
    assert names == ["empty", "manual", "PRewrite-I", "PRewrite-S", "learned"]
    assert all(row["test"]["value"] is not None for row in record["compared"])
    page = (tmp_path / "run" / "report.html").read_text()
    assert "<h2>Guards</h2>" in page
    assert "copied from train" in page
    assert [e for e in RunFolder.open(tmp_path / "run").events() if e["kind"] == "policy"]


def launched(arguments: list[str], folder: Path) -> subprocess.CompletedProcess[str]:
    """Run a module or script in two processes, on the CPU."""
    command = [sys.executable, "-m", "accelerate.commands.accelerate_cli", "launch"]
    # accelerate's own --cpu starts one process; this starts two, and the variable keeps them there.
    command += ["--multi_gpu", "--num_processes", "2", "--num_machines", "1"]
    command += ["--mixed_precision", "no", "--dynamo_backend", "no", "--main_process_port", "0"]
    command += arguments
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "ACCELERATE_USE_CPU": "true"}
    return subprocess.run(
        command, capture_output=True, text=True, timeout=300, cwd=folder, env=environment
    )


@pytest.mark.slow
def test_two_processes_train_one_policy_with_one_ledger(tmp_path: Path) -> None:
    options = [f"--set={name}={value}" for name, value in SMALL.items()]
    run = ["--task", "author", "--reward", "accuracy", "--budget", "4000", "--quiet", "--no-report"]
    train = ["-m", "promptgym.cli", "train"]
    done = launched([*train, "prewrite", *run, *options, "--out", "two"], tmp_path)
    assert done.returncode == 0, done.stderr[-3000:]
    folder = RunFolder.open(tmp_path / "two")
    assert folder.result()["stats"]["steps"] == 3
    assert folder.result()["spent"]["queries"] <= 4000
    events = list(folder.events())
    batches = [e for e in events if e["kind"] == "policy"]
    assert [e["step"] for e in batches] == [1, 2, 3]
    # The one ledger and the one log have the rewrites of both processes, 4 of each.
    asked = next(e["prompts"] for e in events if e["kind"] == "scores")
    assert len(asked) == pytest.approx(8 * batches[0]["distinct"])
    assert len(asked) > 4
    refused = launched([*train, "hill_climbing", *run], tmp_path)
    assert refused.returncode != 0
    assert "hill_climbing runs in one process" in refused.stderr + refused.stdout
    # Drafts that must be scored are asked by the main process, too, and shown to both.
    work = str(Path(__file__).with_name("launched_work.py"))
    done = launched([work, str(tmp_path)], tmp_path)
    assert done.returncode == 0, done.stderr[-3000:]
    calls, shown = zip(*((tmp_path / n).read_text().split(" ", 1) for n in "01"), strict=True)
    assert int(calls[0]) > 0
    assert int(calls[1]) == 0
    assert shown[0] == shown[1]
