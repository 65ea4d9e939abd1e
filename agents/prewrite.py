"""PRewrite (Kong et al., ACL 2024): train a language model to rewrite a prompt, by its reward.

**Policy.** A language model reads the draft in a meta-prompt and writes another prompt. The reward
is what the frozen target model does with it on the training split.

**Update.** The paper uses PPO with a penalty on the KL divergence from the model it started with.
TRL has no PPO any more; here it is GRPO (Shao et al. 2024; the default) or RLOO (Ahmadian et al.
2024), whose baselines are the other rewrites of a group instead of a learned value:

    GRPO   A_i = (r_i - mean r) / std r;   loss = clipped policy gradient + kl * KL(policy || start)
    RLOO   A_i = r'_i - mean of the others' r',   r' = r - kl * log(policy / start)

RLOO has the penalty in the reward, as the paper's PPO has; GRPO has it in the loss.

**Answer.** PRewrite-I is the trained model's one greedy rewrite; PRewrite-S the best on dev of K=10
samples. Both stand beside the best prompt found on the way, which dev chooses by the rule of all
methods.
"""

from __future__ import annotations

import os
import tempfile
from dataclasses import dataclass
from functools import partial
from math import gcd
from pathlib import Path
from typing import Any, ClassVar, Literal

import numpy as np
from datasets import Dataset
from transformers import PrinterCallback, TrainerCallback
from transformers.trainer_utils import SaveStrategy

from promptgym.agents.agent import configured
from promptgym.agents.checkpoint import Tensors, check_trainer_folder
from promptgym.agents.collapse import batch_statistics
from promptgym.agents.rewriter_config import CHAT, OWNED, RewriterConfig
from promptgym.agents.rewriting import RewriterAgent, lost, training_arguments
from promptgym.agents.trial import QUIETLY, named
from promptgym.agents.writer import EMBEDDED, Writer, lora_config, quiet
from promptgym.errors import ConfigError
from promptgym.integrations.trl import on_main
from promptgym.llms.tiny import REWRITE_TEMPLATE
from promptgym.problem import Problem
from promptgym.prompts import Prompt
from promptgym.ranges import COUNT, NOT_NEGATIVE, check_ranges
from promptgym.search import Selection
from promptgym.types import JSON, FloatArray

LOGGED = ("loss", "kl", "grad_norm", "learning_rate")  # of TRL's statistics


@dataclass(frozen=True)
class PRewriteConfig(RewriterConfig):
    """Hyperparameters beside the shared ones; K (`samples`) and the meta-prompt are the paper's.

    Its learning rate, KL weight and batch are not known to us; `default` is what learns on the
    embedded rewriter, `chat` a start for chat models. `frozen` is the control: the same rewriter
    without training draws until the budget is spent, and dev chooses. It draws at temperature 1, as
    the rewriter was made; with `temperature=2` it draws what `default` begins with.

    Attributes:
        algorithm: "grpo" or "rloo".
        steps: updates at most; the budget may end training earlier.
        kl: weight of the KL penalty; 0 has none, and no reference model. TRL divides both models'
            logits by `temperature`, so the divergence is that of what is drawn.
        temperature: of the draws; at 1 the embedded rewriter settles on the first word that pays
            (benchmarks/RESULTS.md).
        micro_batch: rewrites of one backward pass and process; None for all.
        trainer: further arguments of TRL's GRPOConfig or RLOOConfig, e.g. `{"use_vllm": true}`;
            they win over all of these, see `RewriterConfig`.
    """

    agent: ClassVar[str] = "prewrite"
    counts: ClassVar[tuple[str, ...]] = ("steps",)
    owned: ClassVar[dict[str, str]] = {
        **OWNED,
        **dict.fromkeys(("max_steps", "num_train_epochs"), "steps"),
    }

    algorithm: Literal["grpo", "rloo"] = "grpo"
    steps: int = 120
    kl: float = 0.01
    temperature: float = 2.0
    micro_batch: int | None = None
    checkpoint_every: int = 20

    def __post_init__(self) -> None:
        """Refuse values that cannot work."""
        super().__post_init__()
        check_ranges(self.agent, self, {NOT_NEGATIVE: ("kl",), COUNT: ("micro_batch",)})


PRESETS: dict[str, PRewriteConfig] = {
    "default": PRewriteConfig(),
    "frozen": PRewriteConfig(learning_rate=0.0, kl=0.0, steps=1000, temperature=1.0),
    "chat": PRewriteConfig(**CHAT, group=8, drafts=4, kl=0.04, micro_batch=8, temperature=1.0),
}


class PRewrite(RewriterAgent):
    """PRewrite as an agent: `learn`, `predict`, `save`, `load`, `optimize`.

    The paper's rewards are `reward="accuracy"` (of generated answers: exact match), "f1",
    "answer_perplexity" and `Weighted` sums of them; they are the problem's, as all rewards are.

    As TRL does, learning seeds the process's random generators (random, numpy, torch). Checkpoints
    are the trainer's own folders, beside the agent's file, which names the one it belongs to.
    """

    name: ClassVar[str] = "prewrite"
    title: ClassVar[str] = "PRewrite"
    distributed: ClassVar[bool] = True
    config: PRewriteConfig

    def __init__(self, preset: str = "default", **options: Any) -> None:
        """Take a preset and what is to differ from it.

        Raises:
            ConfigError: for an unknown preset or option.
        """
        super().__init__()
        self.config = configured(self.name, PRESETS, preset, options)
        self._seed, self._saved = 0, ""

    def _rows(self) -> int:
        """Return the drafts of all steps, in order."""
        return self.config.steps * self.config.drafts

    def _prepare(self, problem: Problem, selection: Selection | None, seed: int) -> None:
        """Make everything anew; the trainer is made when training begins."""
        super()._prepare(problem, selection, seed)
        self._seed, self._saved = seed, ""

    def _train(self, problem: Problem, selection: Selection | None, file: Path | None) -> None:
        """Let TRL train from the last checkpoint, until the steps or the budget are spent."""
        with quiet(), tempfile.TemporaryDirectory() as nowhere:
            args = self._arguments()
            place = nowhere if file is None else str(file.parent / f"{self.name}-trainer")
            resume = f"{place}/{self._saved}" if self._saved else None
            saves = "no" if file is None else "steps"

            def begin(_: object) -> tuple[str, SaveStrategy, str | None, int]:
                if resume is not None:
                    self._check_saved(Path(resume), file)
                return place, SaveStrategy(saves), resume, self.config.steps - self.step

            # Where the main process keeps its checkpoints and goes on from, all processes do.
            args.output_dir, args.save_strategy, last, left = on_main(begin, [])
            trainer = self._trainer(
                args, self.writer, self.config.lora, **self.episodes.single_turn()
            )
            trainer.add_callback(_Progress(partial(self._updated, problem), file, self))
            if left:
                trainer.train(resume_from_checkpoint=last)
            elif last is not None:
                trainer._load_from_checkpoint(last)
            self.writer.model = trainer.accelerator.unwrap_model(trainer.model)
        self.writer.model.eval()

    def _check_saved(self, folder: Path, file: Path | None) -> None:
        """Refuse a trainer's checkpoint that training cannot go on from."""
        sharded = any(self.config.trainer.get(name) for name in ("deepspeed", "fsdp"))
        needed = ("trainer_state.json", *(() if sharded else ("optimizer.pt", "scheduler.pt")))
        remedy = f"put it back, or remove {file}: the run then trains anew on its journal's scores"
        check_trainer_folder(folder, needed, remedy)

    def _updated(self, problem: Problem, logs: JSON) -> None:
        """Log an update: TRL's numbers, the batch's, and what may be wrong with its prompts."""
        transitions = self.episodes.transitions
        prompts = [Prompt(t.info["prompt"]) for t in transitions]
        rewards: FloatArray = np.array([t.info.get("prompt_reward", np.nan) for t in transitions])
        row = {name: logs.get(name) for name in LOGGED}
        row |= batch_statistics([p.words for p in prompts], rewards, logs.get("entropy", np.nan))
        row |= {**lost(transitions), **self.guards.statistics(prompts)}
        keep = self.step == 0 or (self.step + 1) % self.config.log_every == 0
        problem.events.emit("policy", **self._count(problem, row, keep=keep))

    def _batches(self) -> tuple[int, int]:
        """Return rewrites of a backward pass and process, and backward passes of an update.

        Raises:
            ConfigError: if the batch cannot be divided so.
        """
        c, processes = self.config, int(os.environ.get("WORLD_SIZE", "1"))
        total = c.group * c.drafts
        each = total // processes if c.micro_batch is None else c.micro_batch
        if each < 1 or total % (each * processes):
            raise ConfigError(
                f"prewrite: {c.drafts} drafts x {c.group} rewrites cannot be divided into "
                f"{processes} processes x micro_batch {each}; choose others"
            )
        return each, total // (each * processes)

    def _arguments(self, **changes: Any) -> Any:
        """Return TRL's configuration.

        Raises:
            ConfigError: for an argument that TRL does not have, or refuses, and for batches that
                these processes cannot divide.
        """
        from trl import GRPOConfig, RLOOConfig

        c = self.config
        each, passes = self._batches()
        arguments: JSON = {
            **training_arguments(c.learning_rate, self._seed),
            "max_steps": c.steps,
            "per_device_train_batch_size": each,
            "gradient_accumulation_steps": passes,
            "num_generations": c.group,
            "max_completion_length": c.max_tokens,
            "beta": c.kl,
            "temperature": c.temperature,
            "shuffle_dataset": False,
            "logging_steps": 1,
            "save_steps": c.checkpoint_every,
            "save_total_limit": 2,
        }
        kind = GRPOConfig if c.algorithm == "grpo" else RLOOConfig
        if c.algorithm == "grpo":
            arguments["loss_type"] = "grpo"  # the mean over a rewrite's tokens, then over rewrites
        with named(f"prewrite: {kind.__name__}: trainer", c.trainer):
            args = kind(**{**arguments, **c.trainer, **changes})
        # What several updates share is not in a checkpoint: one is due where new rewrites are.
        shared = args.steps_per_generation * args.num_iterations
        updates = shared // gcd(shared, args.gradient_accumulation_steps)
        args.save_steps = -(-c.checkpoint_every // updates) * updates
        return args

    def _trainer(self, args: Any, writer: Writer, lora: JSON | None = None, **data: Any) -> Any:
        """Return TRL's trainer, of a writer on what `single_turn` gives."""
        from trl import GRPOTrainer, RLOOTrainer

        kind = GRPOTrainer if self.config.algorithm == "grpo" else RLOOTrainer
        with named("prewrite: trainer", self.config.trainer):
            trainer = kind(
                model=writer.model,
                processing_class=writer.tokenizer,
                args=args,
                peft_config=None if lora is None else lora_config(lora),
                **data,
            )
        trainer.remove_callback(PrinterCallback)
        return trainer

    def _try_update(self) -> None:
        """Train the embedded rewriter once by TRL's configuration; nothing of it is kept."""
        short = {**QUIETLY, "max_completion_length": 2, "use_vllm": False, "log_completions": False}
        with tempfile.TemporaryDirectory() as nowhere:
            args = self._arguments(**short, output_dir=nowhere, save_strategy="no")
            rows = [{"prompt": REWRITE_TEMPLATE.format(prompt="be brief")}]
            trainer = self._trainer(
                args,
                Writer.load(EMBEDDED),
                reward_funcs=lambda completions, **_: [
                    float(i % 2) for i in range(len(completions))
                ],
                train_dataset=Dataset.from_list(rows * self.config.group * self.config.drafts),
            )
            trainer.train()

    def _get_state(self) -> tuple[Tensors, JSON]:
        """Return which of the trainer's checkpoints this is."""
        return {}, {"trainer": f"checkpoint-{self.step}"}

    def _set_state(self, tensors: Tensors, state: JSON) -> None:
        """Remember it; `_train` goes on from there."""
        self._saved = state["trainer"]


class _Progress(TrainerCallback):  # type: ignore[misc]  # transformers is untyped to mypy here
    """Tells the agent of updates and of the trainer's checkpoints, on the main process."""

    def __init__(self, updated: Any, file: Path | None, agent: PRewrite) -> None:
        """Stand between trainer and agent."""
        self.updated, self.file, self.agent = updated, file, agent

    def on_log(self, args: Any, state: Any, control: Any, logs: Any = None, **more: Any) -> None:
        """Pass an update's numbers on; the summary at the end is none."""
        if state.is_world_process_zero and logs and "loss" in logs:
            self.updated(logs)

    def on_save(self, args: Any, state: Any, control: Any, **more: Any) -> None:
        """Write the agent's part of a checkpoint, after the trainer's."""
        # A step that the budget cut short is done again, from the checkpoint before it.
        if state.is_world_process_zero and self.file is not None and not self.agent.episodes.spent:
            self.agent._checkpoint(self.file)
