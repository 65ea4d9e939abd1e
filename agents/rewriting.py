"""`RewriterAgent`: what agents share whose policy is a language model that rewrites a prompt.

Such an agent's own file holds its hyperparameters and how it trains. It is trained on
`PromptRewrite-v0`; here are its writer, what it writes at the end (one greedy rewrite, and several
samples of which dev chooses), its guards and its files.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any, ClassVar, Self

import numpy as np
import torch

from promptgym.agents.agent import SAMPLES, Agent, check_draws
from promptgym.agents.checkpoint import ABOUT, TRAIN_AGAIN, of_this_version, read_about
from promptgym.agents.guards import Guards, concerns
from promptgym.agents.rewriter_config import RewriterConfig
from promptgym.agents.trial import try_lora, try_trainer
from promptgym.agents.writer import Writer, default_meta_prompt, quiet, rewriter_place
from promptgym.envs.episode import Transition
from promptgym.envs.outcome import Outcome, Question
from promptgym.envs.prompt_rewrite import MISTAKES, PromptRewrite, make
from promptgym.envs.text import clean
from promptgym.errors import BudgetExhausted, ConfigError, PromptGymError
from promptgym.integrations.trl import TextEpisodes, on_main
from promptgym.problem import Problem
from promptgym.prompts import Prompt
from promptgym.search import Selection
from promptgym.search.watch import WatchedProblem
from promptgym.types import JSON


class RewriterAgent(Agent):
    """Base of agents that train a language model to rewrite a prompt.

    Attributes:
        episodes: the environment, as TRL takes it.
        watched: the problem it asks.
    """

    config: RewriterConfig
    carried: ClassVar[tuple[str, ...]] = (*Agent.carried, "starts")

    title: ClassVar[str]
    """What tables call its prompts: TITLE-I and TITLE-S."""

    episodes: TextEpisodes
    watched: WatchedProblem

    def __init__(self) -> None:
        """Begin without a policy."""
        self._writer: Writer | None = None
        self._about: JSON = {}
        self._named: dict[str, Prompt] = {}
        self._tried = False

    @property
    def writer(self) -> Writer:
        """The policy; raises PromptGymError before `learn` or `load`."""
        if self._writer is None:
            raise PromptGymError("this agent has no policy yet: call learn, optimize or load")
        return self._writer

    def predict(self, n: int = 1, *, greedy: bool = True, seed: int = 0) -> list[Prompt]:
        """Return rewrites of the draft: the likeliest one, or `n` samples.

        Args:
            n: how many; the greedy rewrite is one and the same each time.
            greedy: the likeliest token each time instead of a draw.
            seed: of the draws.

        Raises:
            ConfigError: for n below 1.
        """
        check_draws(n)
        c, about = self.config, self._about
        texts = self.writer.write(
            [about["text"]] * (1 if greedy else n),
            temperature=0.0 if greedy else c.temperature,
            max_tokens=c.max_tokens,
            seed=seed,
        )
        draft, allowed = Prompt.of(about["draft"]), frozenset(about["characters"])
        found = [replace(draft, instruction=clean(t, allowed, c.max_characters)) for t in texts]
        return found * n if greedy else found

    def save(self, folder: str | Path) -> None:
        """Write the policy: model, tokenizer and `policy.json`; `load` reads them."""
        about = {"options": asdict(self.config), **self._about}
        self.writer.save(Path(folder), self.name, about)

    @classmethod
    def load(cls, folder: str | Path) -> Self:
        """Return an agent with a saved policy, ready to `predict`.

        Raises:
            ConfigError: if the folder holds the policy of another agent or version, or none.
        """
        agent, place = cls(), Path(folder)
        with of_this_version(place / ABOUT, TRAIN_AGAIN):
            about = read_about(place, cls.name)
            agent.config = type(agent.config)(**about["options"])
            agent._about = {key: about[key] for key in ("text", "draft", "characters")}
        agent._writer = Writer.read(place, about)
        return agent

    # -- the parts of a run -----------------------------------------------------------------------

    def _check(self, problem: Problem) -> None:
        """Refuse a rewriter that cannot be trained here."""
        super()._check(problem)
        rewriter_place(self.config.rewriter)
        meta = self._meta_prompt()
        slots = [f"{{{name}}}" for name in MISTAKES]
        if self.config.errors and meta is not None and not any(slot in meta for slot in slots):
            raise ConfigError(
                f"{self.name}: errors={self.config.errors} needs a meta-prompt with the slot "
                f"{' or '.join(slots)}, got {meta!r}; the embedded rewriter knows no such "
                "meta-prompt"
            )
        if not self._tried:
            c = self.config
            if c.lora is not None:
                try_lora(self.name, c.rewriter, c.rewriter_options, c.lora)
            with quiet():
                try_trainer(self.name, self._arguments(), c.trainer, self._try_update)
            self._tried = True

    def _meta_prompt(self) -> str | None:
        """Return how the rewriter is asked; None for the environment's own meta-prompt."""
        given = self.config.meta_prompt
        return default_meta_prompt(self.config.rewriter) if given is None else given

    @abstractmethod
    def _arguments(self, **changes: Any) -> Any:
        """Return TRL's configuration.

        Args:
            changes: what differs from the agent's own settings.

        Raises:
            ConfigError: for an argument that TRL does not have, or refuses.
        """

    @abstractmethod
    def _try_update(self) -> None:
        """Train the embedded rewriter once by TRL's configuration; nothing of it is kept."""

    def _rows(self) -> int:
        """Return how many rows of the dataset of drafts training reads."""
        return 1

    def _prepare(self, problem: Problem, selection: Selection | None, seed: int) -> None:
        """Make writer and environment anew."""
        c = self.config
        self._writer = Writer.load(c.rewriter, c.rewriter_options)
        self.watched = WatchedProblem(problem, selection, memory=c.memory)
        env = make(
            problem=self.watched,
            start=c.start,
            max_length=c.max_characters,
            meta_prompt=self._meta_prompt(),
            errors=c.errors,
        )
        self.episodes = TextEpisodes(
            env, rows=self._rows(), seed=1_000_003 * seed, chat=self.writer.chat
        )
        self.guards = Guards.of(problem.task)
        self._named = {}
        mdp = self.episodes.mdp
        assert isinstance(mdp, PromptRewrite)
        draft = problem.initial_prompt
        begun = on_main(lambda _: self.episodes.begin([0], [draft])[0].observe(), [])
        self._about = {
            "text": str(begun["text"]),
            "draft": draft.to_json(),
            "characters": "".join(sorted(mdp.characters)),
        }

    @property
    def starts(self) -> list[JSON]:
        """Drafts that were scored, each with what is known of it; part of a checkpoint."""
        rows = self.episodes.starts.items()
        return [{"prompt": q.prompt.to_json(), "outcome": o.to_json()} for q, o in rows]

    @starts.setter
    def starts(self, rows: list[JSON]) -> None:
        """Take them back."""
        self.episodes.starts = {
            Question(Prompt.of(row["prompt"]), mistakes=self.config.errors): Outcome.from_json(
                row["outcome"]
            )
            for row in rows
        }

    def _take_in(
        self, problem: Problem, selection: Selection | None, prompts: list[Prompt]
    ) -> None:
        """Ask for prompts again, through the watched problem."""
        self.watched.score(prompts)

    def _reserve(self, problem: Problem, cap: int) -> int:
        """Return what the last rewrites cost on train and dev, a quarter of the cap at most."""
        each = len(problem.task.train) + len(problem.task.dev)
        return min((self.config.samples + 1) * each, cap // 4)

    def _show(self, problem: Problem, seed: int) -> tuple[Prompt, list[Prompt]]:
        """Write -I (greedy) and -S (the best on dev of `samples` draws); return -I and draws."""
        greedy = self.predict()[0]
        samples = self.predict(max(SAMPLES, self.config.samples), greedy=False, seed=seed)
        chosen = samples[: self.config.samples]
        dev = self._dev(problem, list(dict.fromkeys([greedy, *chosen])))
        known = [p for p in chosen if p in dev]
        best = max(known, key=lambda p: dev[p]) if known else greedy
        self._named = {f"{self.title}-I": greedy, f"{self.title}-S": best}
        return greedy, samples

    def _dev(self, problem: Problem, prompts: list[Prompt]) -> dict[Prompt, float]:
        """Return the dev metric of prompts as far as the budget reaches, for the selection, too."""
        selection = self.watched.selection
        known: dict[Prompt, float] = {} if selection is None else selection.dev
        try:
            self.watched.score(prompts)
            if new := [p for p in prompts if p not in known]:
                scores = problem.score(new, split="dev")
                rows = zip(scores.prompts, scores.complete, scores.mean, strict=True)
                known.update({p: float(v) for p, whole, v in rows if whole and not np.isnan(v)})
        except BudgetExhausted:
            pass
        return known

    def _more(self, problem: Problem) -> JSON:
        """Return -I and -S for the table of held-out scores, and the guards; warn of signs."""
        selection = self.watched.selection
        rows = []
        for name, prompt in self._named.items():
            seen = None if selection is None else selection.known.get(prompt)
            dev = None if selection is None else selection.dev.get(prompt)
            rows.append(self.guards.row(name, prompt, None if seen is None else seen.train, dev))
            if said := concerns(rows[-1]):
                problem.events.emit("warning", message=f"{name}: {'; '.join(said)}")
        named: dict[str, Any] = {name: p.to_json() for name, p in self._named.items()}
        return {"named": named, "guards": rows}


def lost(transitions: Sequence[Transition]) -> dict[str, int]:
    """Return how many rewrites have no score: every call `failed`, or the budget `cut` them."""
    return {
        "failed": sum(t.info["score_failed"] for t in transitions),
        "cut": sum(t.info["budget_exhausted"] for t in transitions),
    }


def training_arguments(learning_rate: float, seed: int) -> JSON:
    """Return what the configurations of all TRL trainers here have in common."""
    gpu = torch.cuda.is_available()
    return {
        "learning_rate": learning_rate,
        "lr_scheduler_type": "constant",
        "seed": seed,
        "use_cpu": not gpu,
        "bf16": gpu and torch.cuda.is_bf16_supported(),
        "gradient_checkpointing": False,
        "ddp_find_unused_parameters": False,
        "report_to": "none",
        "disable_tqdm": True,
    }
