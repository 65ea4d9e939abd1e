"""DPO rewriter: train a language model to rewrite a prompt by preferences between its rewrites.

Each round samples K rewrites of every draft, has them scored, makes preferences of the scores, and
trains on these by direct preference optimization (Rafailov et al. 2023):

    loss = -log sigmoid(beta * (log p/ref (chosen) - log p/ref (rejected)))

`loss="ipo"` (Azar et al. 2024) is (... - 1 / (2 beta))^2 of the difference of the mean log ratios,
"kto" (Ethayarajh et al. 2024) needs no pairs, "cpo", "simpo" and "orpo" no reference model.

One round with `pairs="pareto"` is Question Rewriter (Chen et al. 2024). `next_drafts="rewrites"` is
FIPO's iterative stage (Lu et al. 2024): after each round the policy rewrites each draft once, and
that is the next round's draft where it is the better one; the reward judges, where FIPO asks a
model. `easy_first` is Curry-DPO's order (Pattnaik et al. 2024); `rejected="past"` and
`chosen="future"` are the two halves of Temporal Self-Rewarding (Wang et al. 2025).
"""

from __future__ import annotations

import json
import tempfile
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import torch
from datasets import Dataset
from transformers import PrinterCallback

from promptgym.agents.agent import configured
from promptgym.agents.checkpoint import Tensors
from promptgym.agents.collapse import batch_statistics
from promptgym.agents.dpo_config import PRESETS, DPORewriterConfig
from promptgym.agents.preference_losses import UNPAIRED, loss_named
from promptgym.agents.preferences import (
    Judged,
    Pair,
    Rewrite,
    counts_of,
    dataset_of,
    drawn,
    judged,
    kto_weights,
    pairs_of,
    to_rows,
)
from promptgym.agents.rewriting import RewriterAgent, lost, training_arguments
from promptgym.agents.trial import QUIETLY, named
from promptgym.agents.writer import EMBEDDED, Writer, lora_config, quiet
from promptgym.llms.tiny import REWRITE_TEMPLATE
from promptgym.problem import Problem
from promptgym.prompts import Prompt
from promptgym.runs.folder import write_text
from promptgym.search import Selection
from promptgym.types import JSON

PAIRS, JUDGED = "pairs.jsonl", "judged.jsonl"
_REWRITTEN = 500_000  # numbers of the samplings that make drafts; rounds count from 0
Group = tuple[str, Rewrite | None, list[Rewrite]]  # what was asked, the draft, its rewrites

NOT_TRAINED: JSON = {"loss": None, "grad_norm": None, "accuracy": None}
"""Figures of a round without a single update."""


class DPORewriter(RewriterAgent):
    """The DPO rewriter as an agent: `learn`, `predict`, `save`, `load`, `optimize`.

    Attributes:
        preferences: what all rounds so far trained on: pairs (`preference_dataset` makes a dataset
            of them), or in "kto" judged rewrites.
    """

    name: ClassVar[str] = "dpo_rewriter"
    title: ClassVar[str] = "DPO"
    config: DPORewriterConfig
    preferences: list[Pair | Judged]

    def __init__(self, preset: str = "default", **options: Any) -> None:
        """Take a preset and what is to differ from it.

        Raises:
            ConfigError: for an unknown preset or option.
        """
        super().__init__()
        self.config = configured(self.name, PRESETS, preset, options)
        self.preferences = []
        self._seed = self.step = 0

    def _prepare(self, problem: Problem, selection: Selection | None, seed: int) -> None:
        """Make everything anew."""
        super()._prepare(problem, selection, seed)
        if self.config.lora is not None:
            from peft import get_peft_model

            with torch.random.fork_rng():
                torch.manual_seed(seed)
                adapters = lora_config(self.config.lora)
                with named(f"{self.name}: lora", self.config.lora):
                    self.writer.model = get_peft_model(self.writer.model, adapters)
        self._seed = seed
        self._start: Writer | None = None
        self._past: list[Group] = []
        self._drafts: list[Prompt] = []
        self.preferences = []

    def _train(self, problem: Problem, selection: Selection | None, file: Path | None) -> None:
        """Take rounds until these or the budget are spent."""
        while self.step < self.config.rounds and not self.episodes.spent:
            self._round(problem)
            if file is not None:
                rows = [json.dumps(row) for row in to_rows(self.preferences)]
                name = JUDGED if self.config.loss in UNPAIRED else PAIRS
                write_text(file.parent / name, "".join(f"{row}\n" for row in rows))
            if not self.episodes.spent:
                # A round that the budget cut short is done again, from the checkpoint before it.
                self._checkpoint_if_due(file)

    def _round(self, problem: Problem) -> None:
        """Sample, score, compare and train."""
        c = self.config
        self._lost = Counter[str]()
        self._drafts = self._next_drafts()
        if self.episodes.spent:
            return
        groups = self._sample(2 * self.step)
        divergence = self._divergence(groups)
        if not self._past:
            self._past = groups
        better = groups
        if c.chosen == "future" and not self.episodes.spent:
            state = {name: t.clone() for name, t in self.writer.model.state_dict().items()}
            self._fit(self._compared(groups, groups, 2 * self.step))
            better = self._sample(2 * self.step + 1)
            self.writer.model.load_state_dict(state)
        found = self._compared(better, groups, 2 * self.step + 1)
        self.preferences += found
        if not found:
            how = "a smaller margin" if c.pairs == "margin" else "pairs='margin'"
            how = "a larger group" if c.loss in UNPAIRED else how
            message = f"round {self.step + 1}: the scores make no preferences; try {how}"
            problem.events.emit("warning", message=message)
        trained = self._fit(found)
        rewrites = [r for _, _, group in groups for r in group]
        words = [r.text.split() for r in rewrites]
        rewards = np.array([r.reward for r in rewrites])
        row: JSON = {**counts_of(found, paired=c.loss not in UNPAIRED), **trained, "kl": divergence}
        if rewrites:
            row |= {**batch_statistics(words, rewards, float("nan")), "entropy": None}
            row |= self.guards.statistics([Prompt(r.text) for r in rewrites])
        row |= self._lost
        keep = self.step == 0 or (self.step + 1) % c.log_every == 0
        problem.events.emit("policy", **self._count(problem, row, keep=keep))

    def _next_drafts(self) -> list[Prompt]:
        """Return the drafts of the round to come, see `next_drafts`."""
        c = self.config
        if c.next_drafts == "start" or not self._drafts:
            first = self.episodes.seed + self.step * c.drafts
            begun = self.episodes.begin(range(first, first + c.drafts))
            return [self.episodes.mdp.prompt(episode.state) for episode in begun]
        last = self._drafts
        texts = self._write(self._asked(), _REWRITTEN + self.step)
        found = self._scored([*last, *last], [*(p.instruction for p in last), *texts])
        return [
            replace(old, instruction=new.text) if was and new and new.reward > was.reward else old
            for old, was, new in zip(last, found[: len(last)], found[len(last) :], strict=True)
        ]

    def _asked(self) -> list[str]:
        """Return what the rewriter reads for each draft."""
        begun = self.episodes.begin(range(len(self._drafts)), self._drafts)
        return [str(episode.observe()["text"]) for episode in begun]

    def _write(self, asked: Sequence[str], number: int) -> list[str]:
        """Return a rewrite for each text, drawn; `number` is that of the sampling."""
        c = self.config
        return self.writer.write(
            asked,
            temperature=c.temperature,
            max_tokens=c.max_tokens,
            seed=1_000_003 * self._seed + number,
        )

    def _sample(self, number: int) -> list[Group]:
        """Write and score rewrites of the round's drafts; what failed is left out.

        Args:
            number: of the sampling; each round has two.
        """
        c, asked = self.config, self._asked()
        texts = self._write([text for text in asked for _ in range(c.group)], number)
        drafts: dict[str, Rewrite | None] = dict.fromkeys(asked)
        if c.pairs == "pareto":
            scored = self._scored(self._drafts, [p.instruction for p in self._drafts])
            drafts = dict(zip(asked, scored, strict=True))
        found = self._scored([p for p in self._drafts for _ in range(c.group)], texts)
        groups: dict[str, list[Rewrite]] = {}
        for i, rewrite in enumerate(found):
            if rewrite is not None:
                groups.setdefault(asked[i // c.group], []).append(rewrite)
        return [(text, drafts[text], rewrites) for text, rewrites in groups.items()]

    def _scored(self, drafts: Sequence[Prompt], texts: Sequence[str]) -> list[Rewrite | None]:
        """Return rewrites of drafts with their rewards; None for what could not be scored."""
        transitions = self.episodes.play(range(len(drafts)), texts, drafts)
        self.episodes.spent |= any(t.info["budget_exhausted"] for t in transitions)
        self._lost.update(lost(transitions))
        return [
            None if t.truncated else Rewrite(t.info["prompt"], t.reward, t.info["score"])
            for t in transitions
        ]

    def _compared(self, good: list[Group], bad: list[Group], number: int) -> list[Pair | Judged]:
        """Return preferences of groups, by the rule; in losses without pairs, of `good` alone."""
        c = self.config
        rng = np.random.default_rng([self._seed, number])
        if c.loss in UNPAIRED:
            return drawn(
                [row for text, _, group in good for row in judged(text, group)], c.most, rng
            )
        if c.rejected == "past":
            bad = self._past
        worse = {text: rewrites for text, _, rewrites in bad}
        found = [
            pair
            for text, draft, rewrites in good
            for pair in pairs_of(
                text,
                rewrites,
                worse.get(text, []),
                rule=c.pairs,
                margin=c.margin,
                draft=draft,
                rng=rng,
            )
        ]
        found = drawn(found, c.most, rng)
        ordered = sorted(found, key=lambda p: -p.margin) if c.easy_first else found
        return [*ordered]

    def _fit(self, preferences: Sequence[Pair | Judged]) -> JSON:
        """Let TRL train on a round's preferences; return its figures."""
        c, chat = self.config, self.writer.chat
        if not preferences:
            return NOT_TRAINED
        data = dataset_of(preferences, chat=chat)
        reference = None
        if loss_named(c.loss).reference and (c.lora is None or c.reference == "start"):
            # TRL would load it anew, which is the start; a copy of the policy would share with it.
            reference = Writer.load(c.rewriter, c.rewriter_options).model
            if c.reference == "round":
                reference.load_state_dict(self.writer.model.state_dict())
        with quiet(), tempfile.TemporaryDirectory() as nowhere:
            rows = [row for row in preferences if isinstance(row, Judged)]
            weights = kto_weights(rows, c.balance) if rows and c.balance is not None else {}
            mine = {name: value for name, value in weights.items() if name not in c.trainer}
            args = self._arguments(output_dir=nowhere, **mine)
            if args.dataloader_drop_last and len(data) < args.train_batch_size:
                return NOT_TRAINED  # no whole batch
            trainer = self._trainer(data, args, self.writer, reference)
            trainer.train()
        model = trainer.accelerator.unwrap_model(trainer.model)
        if "ref" in getattr(model, "peft_config", {}):
            model.delete_adapter("ref")
        self.writer.model = model.eval()
        return _means(trainer.state.log_history)

    def _trainer(self, data: Dataset, args: Any, writer: Writer, reference: Any) -> Any:
        """Return TRL's trainer of a writer."""
        loss = loss_named(self.config.loss)
        with named("dpo_rewriter: trainer", self.config.trainer):
            trainer = loss.trainer(
                model=writer.model,
                **({"ref_model": reference} if loss.reference else {}),
                args=args,
                train_dataset=data,
                processing_class=writer.tokenizer,
            )
        trainer.remove_callback(PrinterCallback)
        return trainer

    def _try_update(self) -> None:
        """Train the embedded rewriter once by TRL's configuration; nothing of it is kept."""
        text = REWRITE_TEMPLATE.format(prompt="be brief")
        good, bad = "say yes or no", "be exact"
        rows: list[Pair | Judged] = [Pair(text, good, bad, 1.0)]
        if self.config.loss in UNPAIRED:
            rows = [Judged(text, good, label=True), Judged(text, bad, label=False)]
        data = dataset_of(rows * self.config.batch, chat=False)
        writer, reference = Writer.load(EMBEDDED), Writer.load(EMBEDDED).model
        with tempfile.TemporaryDirectory() as nowhere:
            args = self._arguments(output_dir=nowhere, **QUIETLY)
            self._trainer(data, args, writer, reference).train()

    def _arguments(self, **changes: Any) -> Any:
        """Return TRL's configuration.

        Raises:
            ConfigError: for an argument that TRL does not have, or refuses.
        """
        c, loss = self.config, loss_named(self.config.loss)
        arguments: JSON = {
            **training_arguments(c.learning_rate, self._seed + self.step),
            "output_dir": "",
            "num_train_epochs": c.epochs,
            "per_device_train_batch_size": c.batch,
            "beta": loss.beta if c.beta is None else c.beta,
            "logging_steps": 1,
            "save_strategy": "no",
            **loss.arguments,
        }
        if c.easy_first:
            arguments["train_sampling_strategy"] = "sequential"
        with named(f"dpo_rewriter: {loss.config.__name__}: trainer", c.trainer):
            return loss.config(**{**arguments, **c.trainer, **changes})

    def _divergence(self, groups: list[Group], most: int = 32) -> float | None:
        """Return an estimate of the policy's KL from the first model, nats a token.

        It is the mean of log p/start, both at temperature 1, over rewrites that the policy just
        wrote; where these were drawn at another temperature it estimates no KL.
        """
        found = [(text, r.text) for text, _, rewrites in groups for r in rewrites][:most]
        if not found:
            return None
        if self._start is None:
            self._start = Writer.load(self.config.rewriter, self.config.rewriter_options)
            self._start.model.to(self.writer.model.device)
        texts, written = zip(*found, strict=True)
        ours, first = (w.logprobs(texts, written) for w in (self.writer, self._start))
        return (sum(p for p, _ in ours) - sum(p for p, _ in first)) / sum(n for _, n in ours)

    def _get_state(self) -> tuple[Tensors, JSON]:
        """Return the weights, the preferences and the first round's rewrites."""
        past = [
            [text, None if d is None else _row(d), [_row(r) for r in rewrites]]
            for text, d, rewrites in self._past
        ]
        return dict(self.writer.model.state_dict()), {
            "preferences": to_rows(self.preferences),
            "past": past,
            "drafts": [p.to_json() for p in self._drafts],
        }

    def _set_state(self, tensors: Tensors, state: JSON) -> None:
        """Take back what `_get_state` returned."""
        self.writer.model.load_state_dict(tensors)
        self.writer.model.eval()
        kind = Judged if self.config.loss in UNPAIRED else Pair
        self.preferences = [kind(**row) for row in state["preferences"]]
        self._past = [
            (text, None if d is None else Rewrite(*d), [Rewrite(*r) for r in rewrites])
            for text, d, rewrites in state["past"]
        ]
        self._drafts = [Prompt.of(p) for p in state["drafts"]]


def _row(rewrite: Rewrite) -> list[Any]:
    """Return a rewrite as JSON."""
    return [rewrite.text, rewrite.reward, rewrite.score]


def _means(history: list[JSON]) -> JSON:
    """Return the means of TRL's statistics over a round's updates."""
    updates = [row for row in history if "loss" in row]
    names = {"loss": "loss", "grad_norm": "grad_norm", "accuracy": "rewards/accuracies"}
    found: JSON = {}
    for name, key in names.items():
        values = [row[key] for row in updates if row.get(key) is not None]
        found[name] = float(np.mean(values)) if values else None
    return found
