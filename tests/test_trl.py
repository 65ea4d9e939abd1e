"""TRL's trainers on text environments: what rows are paid, what is asked, real training steps."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import gymnasium as gym
import pytest
import torch
from env_problems import SIZE, problem_for
from transformers import AutoModelForCausalLM, AutoTokenizer
from trl import GRPOConfig, GRPOTrainer, RLOOConfig, RLOOTrainer
from trl.chat_template_utils import add_response_schema

from promptgym.errors import ConfigError
from promptgym.integrations.trl import TextEpisodes, Turns, text_of
from promptgym.llms.tiny import weights_path
from promptgym.problem import Problem
from promptgym.prompts import Prompt
from promptgym.testing import TransparentModel, transparent_task

COMMON: dict[str, Any] = {
    "max_steps": 2,
    "per_device_train_batch_size": 4,
    "num_generations": 4,
    "learning_rate": 1e-2,
    "beta": 0.0,
    "use_cpu": True,
    "bf16": False,
    "report_to": "none",
    "save_strategy": "no",
    "logging_steps": 1,
    "disable_tqdm": True,
    "gradient_checkpointing": False,
}


def episodes_of(env_id: str = "PromptRewrite-v0", **options: Any) -> TextEpisodes:
    own = {name: options.pop(name) for name in ("rows", "seed", "chat") if name in options}
    problem = options.pop("problem", None) or problem_for("rewrite")
    return TextEpisodes(gym.make(env_id, problem=problem, **options), **own)


def rewriter() -> tuple[Any, Any]:
    """The embedded rewriter, to be trained."""
    folder = weights_path("rewriter")
    tokenizer = AutoTokenizer.from_pretrained(folder, padding_side="left")
    return AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32), tokenizer


@pytest.mark.parametrize(
    ("env_id", "options"),
    [
        ("PromptRewrite-v0", {}),
        ("PromptRewrite-v0", {"examples": 3, "start": "manual", "errors": 1}),
        ("InstanceRewrite-v0", {}),
    ],
)
def test_a_completion_is_paid_what_the_environment_pays(
    env_id: str, options: dict[str, Any]
) -> None:
    env = gym.make(env_id, problem=problem_for("rewrite"), **options)
    episodes = episodes_of(env_id, rows=3, seed=5, **options)
    rows = episodes.drafts()
    seeds, texts = [5, 6, 7, 5, 6, 7], ["alpha", "plus beta", "anti", "alpha gamma", "", "“x” é"]
    rewards = episodes.reward(texts, seeds)
    for seed, text, reward in zip(seeds, texts, rewards, strict=True):
        observation, _ = env.reset(seed=seed)
        shown = rows[seed - 5]["prompt"]
        assert shown == [{"role": "user", "content": observation["text"]}]
        assert reward == pytest.approx(env.step(text)[1])


def test_a_group_is_one_call_on_the_same_examples_and_equal_texts_are_asked_once() -> None:
    model = TransparentModel()
    problem = Problem(transparent_task(SIZE), model)
    episodes = episodes_of(problem=problem, examples=3)
    episodes.reward(["alpha", "beta", "alpha", " alpha "], [4, 4, 4, 4])
    assert model.calls == 1
    assert problem.ledger.queries == 2 * 3
    drawn = {t.info["queries"] for t in episodes.transitions}
    assert drawn == {3}
    assert len({t.info["prompt"] for t in episodes.transitions}) == 2


def test_drafts_that_must_be_scored_are_asked_once() -> None:
    problem = problem_for("rewrite")
    episodes = episodes_of(problem=problem, errors=2, rows=20)
    episodes.drafts()
    assert problem.ledger.queries == SIZE
    episodes.reward(["alpha", "beta"], [0, 1])
    assert problem.ledger.queries == 3 * SIZE


def test_what_the_budget_does_not_reach_is_no_reward_and_ends_training() -> None:
    episodes = episodes_of(problem=problem_for("rewrite", budget=2 * SIZE))
    rewards = episodes.reward(["alpha", "beta", "gamma", "alpha"], [0] * 4)
    assert [r is None for r in rewards] == [False, False, True, False]
    assert episodes.spent


@pytest.mark.parametrize("kind", ["grpo", "rloo"])
def test_a_trainer_learns_from_the_rewards(kind: str, tmp_path: Path) -> None:
    model, tokenizer = rewriter()
    before = model.get_input_embeddings().weight.detach().clone()
    words = {"the": 1.0, "what": 0.7, "is": -0.5, "of": 0.4, "say": 0.3, "?": -0.3, "give": 0.2}
    problem = Problem(transparent_task(SIZE), TransparentModel(words), budget=64 * SIZE)
    meta = "<rewrite> {prompt} <instruction>"
    episodes = episodes_of(problem=problem, meta_prompt=meta, rows=8, chat=False)
    arguments = {**COMMON, "output_dir": str(tmp_path), "max_completion_length": 6}
    config, trainer_class = (
        (GRPOConfig(**arguments), GRPOTrainer)
        if kind == "grpo"
        else (RLOOConfig(**arguments), RLOOTrainer)
    )
    trainer = trainer_class(
        model=model, args=config, processing_class=tokenizer, **episodes.single_turn()
    )
    trainer.train()
    assert trainer.state.global_step == 2
    assert not torch.equal(before, model.get_input_embeddings().weight)
    assert 0 < problem.ledger.queries <= 8 * SIZE
    rows = [row for row in trainer.state.log_history if "reward" in row]
    assert len(rows) == 2
    assert all(0 <= row["score"] <= 1 for row in rows)
    assert len(episodes.transitions) == 4


def test_training_ends_with_the_budget(tmp_path: Path) -> None:
    model, tokenizer = rewriter()
    episodes = episodes_of(problem=problem_for("rewrite", budget=SIZE), chat=False, rows=40)
    config = GRPOConfig(
        **{**COMMON, "max_steps": 10}, output_dir=str(tmp_path), max_completion_length=4
    )
    trainer = GRPOTrainer(
        model=model, args=config, processing_class=tokenizer, **episodes.single_turn()
    )
    trainer.train()
    assert trainer.state.global_step < 10
    assert episodes.problem.ledger.queries == SIZE


def test_turns_are_one_episode() -> None:
    episodes = episodes_of(turns=2, start="manual")
    env = gym.make("PromptRewrite-v0", problem=problem_for("rewrite"), turns=2, start="manual")
    rollout = Turns(episodes)
    assert rollout.reset(seed=3, prompt=[]) == env.reset(seed=3)[0]["text"]
    assert rollout.get_reward() == 0.0
    total = 0.0
    for text in ("alpha", "alpha beta"):
        observation, reward, *_ = env.step(text)
        assert rollout.rewrite(text) == observation["text"]
        total += reward
    assert rollout.rewrite("gamma") == "The turns are used up; nothing was changed."
    assert rollout.get_reward() == pytest.approx(total)
    assert Turns(episodes).rewrite("x").startswith("The turns are used up")


def test_turns_that_cannot_be_scored_have_no_reward() -> None:
    episodes = episodes_of(problem=problem_for("rewrite", budget=SIZE), turns=2, start="manual")
    rollout = Turns(episodes)
    rollout.reset(seed=3)
    for text in ("alpha", "beta"):
        rollout.rewrite(text)
    assert episodes.spent
    assert rollout.get_reward() is None


class Scripted(GRPOTrainer):  # type: ignore[misc]
    """Writes given texts in the place of the model's."""

    script: tuple[str, ...] = ()

    def _generate_single_turn(self, prompt_ids: Any, *args: Any, **kwargs: Any) -> Any:
        text, self.script = self.script[0], self.script[1:] or self.script
        ids = self.processing_class(text, add_special_tokens=False)["input_ids"]
        return [list(ids) for _ in prompt_ids], None


def call(text: str) -> str:
    """A tool call as Qwen3 writes it."""
    body = json.dumps({"name": "rewrite", "arguments": {"text": text}})
    return f"<tool_call>\n{body}\n</tool_call><|im_end|>"


def test_trl_calls_the_environment_turn_by_turn(tmp_path: Path, qwen: Path) -> None:
    tokenizer = AutoTokenizer.from_pretrained(qwen, padding_side="left")
    tokenizer = add_response_schema(tokenizer)
    model = AutoModelForCausalLM.from_pretrained(qwen, dtype=torch.float32)
    problem = problem_for("rewrite")
    episodes = episodes_of(problem=problem, turns=2, rows=4)
    arguments = {**COMMON, "max_steps": 1, "output_dir": str(tmp_path)}
    trainer = Scripted(
        model=model,
        args=GRPOConfig(**arguments, max_completion_length=3000),
        processing_class=tokenizer,
        **episodes.multi_turn(),
    )
    trainer.script = (call("alpha"), call("alpha beta"), "done<|im_end|>")
    trainer.train()
    row = next(r for r in trainer.state.log_history if "rewards/Turns/mean" in r)
    assert row["tools/call_frequency"] == 2
    assert row["tools/failure_frequency"] == 0
    first, last = problem.rewards(problem.score([Prompt("one two"), Prompt("alpha beta")]))
    assert row["rewards/Turns/mean"] == pytest.approx((last - first) / problem.reward.scale)


@pytest.mark.parametrize(
    ("completion", "text"),
    [
        ("alpha", "alpha"),
        ([{"role": "assistant", "content": "beta"}], "beta"),
        ("<think>alpha?</think>\ngamma", "\ngamma"),
        ("<think>alpha? or", ""),
        ([{"role": "assistant", "content": None}], ""),
        ([], ""),
    ],
)
def test_the_text_of_a_completion(completion: Any, text: str) -> None:
    assert text_of(completion) == text


def test_what_does_not_fit_is_named() -> None:
    with pytest.raises(ConfigError, match="actions of PromptEdit-v0 are not texts"):
        TextEpisodes("PromptEdit-v0", problem=problem_for("edit"))
    with pytest.raises(ConfigError, match="goes on after the first text"):
        episodes_of(turns=2).single_turn()
    with pytest.raises(ConfigError, match=r"\['turns'\] are for an environment given by its id"):
        TextEpisodes(gym.make("PromptRewrite-v0", problem=problem_for("rewrite")), turns=2)
    with pytest.raises(ConfigError, match="rows must be at least 1"):
        episodes_of(rows=0)


@pytest.fixture(scope="module")
def qwen(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A random Qwen model of two layers with characters for tokens and Qwen3's chat template."""
    import trl
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast, Qwen2Config, Qwen2ForCausalLM

    special = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"]
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    vocabulary = {token: i for i, token in enumerate([*special, *alphabet])}
    raw = Tokenizer(models.BPE(vocab=vocabulary, merges=[]))
    raw.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    raw.decoder = decoders.ByteLevel()
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=raw, eos_token="<|im_end|>", pad_token="<|endoftext|>"
    )
    tokenizer.add_special_tokens({"additional_special_tokens": special})
    template = Path(trl.__file__).parent / "chat_templates" / "qwen3.jinja"
    tokenizer.chat_template = template.read_text(encoding="utf-8")
    config = Qwen2Config(
        vocab_size=len(tokenizer),
        hidden_size=16,
        intermediate_size=16,
        num_hidden_layers=2,
        num_attention_heads=2,
        num_key_value_heads=2,
        max_position_embeddings=8192,
    )
    folder = tmp_path_factory.mktemp("qwen")
    Qwen2ForCausalLM(config).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder
