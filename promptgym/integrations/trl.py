"""TRL's trainers on text environments: reward function, dataset of drafts, multi-turn adapter.

    episodes = TextEpisodes("PromptRewrite-v0", task="author")
    trainer = GRPOTrainer(model, args=GRPOConfig(...), **episodes.single_turn())

A row of the dataset is what `env.reset(seed=row["seed"])` shows, and a completion is paid what
`env.step(completion)` pays there. The members of a group have one row, so that they are compared on
one draft and on the same examples (common random numbers). All completions of a step are scored in
one batch, on the main process where there are several: there is one ledger, and equal completions
are asked once.

`multi_turn()` is for environments with several turns: TRL lets the model call the environment as a
tool. TRL marks `environment_factory` as experimental, so it may change with TRL.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, TypeVar

import gymnasium as gym
import torch
from accelerate.utils import broadcast_object_list, gather_object
from datasets import Dataset
from gymnasium import spaces
from gymnasium.utils import seeding
from transformers import TrainerCallback

from promptgym.envs.episode import ENDING, Episode, Transition
from promptgym.envs.outcome import Outcome, Question, ask
from promptgym.envs.shell import PromptEnv
from promptgym.errors import ConfigError
from promptgym.prompts import Prompt
from promptgym.types import JSON

Row = TypeVar("Row")
Value = TypeVar("Value")

TOOL_NOTE = (
    "Call the tool `rewrite` with the complete new text. It answers with the score and with what "
    "is left to mend; you may call it {turns} times.\n\n"
)


class TextEpisodes:
    """A text environment as TRL takes it.

    Attributes:
        mdp: the environment's MDP.
        spent: whether the budget was reached; the same on all processes.
        transitions: what the completions of the latest step led to (on the main process).
        starts: what was asked about drafts, and what came of it; no draft is asked twice.
    """

    def __init__(
        self,
        env: str | gym.Env[Any, Any],
        *,
        rows: int = 64,
        seed: int = 0,
        chat: bool = True,
        **arguments: Any,
    ) -> None:
        """Make the environment; nothing is asked yet.

        Args:
            env: a registered id, or a promptgym environment (wrapped or not).
            rows: rows of the dataset; row i is the episode seeded `seed + i`.
            seed: of the first row.
            chat: rows are conversations, as chat models need them; False for plain text.
            arguments: of the environment, with an id.

        Raises:
            ConfigError: for an environment whose actions are not texts, or that shows none.
        """
        if arguments and not isinstance(env, str):
            raise ConfigError(f"{sorted(arguments)} are for an environment given by its id")
        made = (gym.make(env, **arguments) if isinstance(env, str) else env).unwrapped
        if not isinstance(made, PromptEnv) or not isinstance(made.mdp.action_space, spaces.Text):
            raise ConfigError(f"TextEpisodes: the actions of {env} are not texts")
        if "text" not in made.mdp.observation_space.spaces:
            raise ConfigError(f"TextEpisodes: the observation of {env} has no 'text'")
        if rows < 1:
            raise ConfigError(f"rows must be at least 1, got {rows}")
        self.mdp, self.problem, self.options = made.mdp, made.problem, made.options
        self.rows, self.seed, self.chat = rows, seed, chat
        self.spent = False
        self.transitions: list[Transition] = []
        self.starts: dict[Question, Outcome] = {}

    def single_turn(self) -> JSON:
        """Return the arguments of a trainer that trains on one completion an episode.

        They are `reward_funcs`, `train_dataset` and `callbacks` (training stops with the budget).

        Raises:
            ConfigError: if an episode is not over after one text.
        """
        first = self.mdp.initial(seeding.np_random(self.seed)[0])
        if not self.mdp.terminal(self.mdp.apply(first, "")):
            raise ConfigError(
                f"{type(self.mdp).__name__}: an episode goes on after the first text; use "
                "multi_turn(), or turns=1"
            )
        return {
            "reward_funcs": self.reward,
            "train_dataset": self.drafts(),
            "callbacks": [StopWhenSpent(self)],
        }

    def multi_turn(self) -> JSON:
        """Return the arguments of a GRPOTrainer whose model calls the environment as a tool.

        They are `environment_factory`, `train_dataset` and `callbacks`. TRL runs tools one sample
        after another, so each rewrite is a batch of its own (one prompt, all examples), and each
        process scores its own. The model's chat template must know tools.
        """
        turns = getattr(self.mdp, "turns", 1)
        content = TOOL_NOTE.format(turns=turns)
        rows = [self._row(i, content, chat=True) for i in range(self.rows)]
        return {
            "environment_factory": lambda: Turns(self),
            "train_dataset": Dataset.from_list(rows),
            "callbacks": [StopWhenSpent(self)],
        }

    def drafts(self) -> Dataset:
        """Return the dataset: `prompt` (what a policy reads) and `seed` (of its episode).

        Drafts that must be scored are asked by the main process, for all of them.
        """
        texts = on_main(self._shown, [] if _rank() else range(self.seed, self.seed + self.rows))
        return Dataset.from_list([self._row(i, t, chat=self.chat) for i, t in enumerate(texts)])

    def _shown(self, seeds: Sequence[int]) -> list[str]:
        """Return what a policy reads in the episodes of seeds."""
        return [str(e.observe()["text"]) for e in self.begin(seeds)]

    def _row(self, index: int, text: str, *, chat: bool) -> JSON:
        """Return one row of a dataset."""
        shown = [{"role": "user", "content": text}] if chat else text
        return {"prompt": shown, "seed": self.seed + index}

    def begin(self, seeds: Sequence[int], drafts: Sequence[Prompt] | None = None) -> list[Episode]:
        """Return episodes, begun; drafts that must be scored are asked once ever.

        Args:
            seeds: one an episode.
            drafts: where each starts; None draws them by the seeds.
        """
        starts = [{} for _ in seeds] if drafts is None else [{"prompt": p} for p in drafts]
        episodes = [Episode(self.mdp, self.options) for _ in seeds]
        questions = [
            episode.begin(episode.draw_start(seeding.np_random(seed)[0], start))
            for episode, seed, start in zip(episodes, seeds, starts, strict=True)
        ]
        known = self.starts
        new = list(dict.fromkeys(q for q in questions if q is not None and q not in known))
        known.update(zip(new, ask(self.problem, new), strict=True))
        for episode, question in zip(episodes, questions, strict=True):
            episode.enter(Outcome() if question is None else known[question])
        return episodes

    def reward(
        self, completions: Sequence[Any], seed: Sequence[int], **columns: Any
    ) -> list[float | None]:
        """Return what each completion is paid: TRL's reward function.

        Args:
            completions: texts or conversations, those of this process.
            seed: the rows' column of that name.
            columns: what else TRL passes; `log_metric` is told the mean score.

        Returns:
            One reward a completion; None where it could not be scored (TRL leaves those out).
        """
        rows = [(int(s), text_of(c)) for s, c in zip(seed, completions, strict=True)]
        rewards, mean, self.spent = on_main(self._score, rows)
        if mean is not None and "log_metric" in columns:
            columns["log_metric"]("score", mean)
        first = _rank() * len(rows)
        return rewards[first : first + len(rows)]

    def _score(
        self, rows: Sequence[tuple[int, str]]
    ) -> tuple[list[float | None], float | None, bool]:
        """Return rewards, the mean score, and whether the budget is spent."""
        self.transitions = self.play([s for s, _ in rows], [text for _, text in rows])
        rewards = [None if t.truncated else t.reward for t in self.transitions]
        scores = [t.info["score"] for t in self.transitions if "score" in t.info]
        mean = sum(scores) / len(scores) if scores else None
        return rewards, mean, any(t.info["budget_exhausted"] for t in self.transitions)

    def play(
        self, seeds: Sequence[int], texts: Sequence[str], drafts: Sequence[Prompt] | None = None
    ) -> list[Transition]:
        """Return the first transition of each episode (see `begin`), all scored in one batch."""
        episodes = self.begin(seeds, drafts)
        questions = [e.advance(text) for e, text in zip(episodes, texts, strict=True)]
        distinct = list(dict.fromkeys(q for q in questions if q is not None))
        known = dict(zip(distinct, ask(self.problem, distinct), strict=True))
        return [
            episode.settle(Outcome() if question is None else known[question])
            for episode, question in zip(episodes, questions, strict=True)
        ]


class Turns:
    """One rollout of several turns, as TRL's `environment_factory` makes them."""

    def __init__(self, episodes: TextEpisodes) -> None:
        """Stand before the environment; `reset` begins."""
        self._episodes = episodes
        self._episode: Episode | None = None

    def reset(self, seed: int = 0, **columns: Any) -> str:
        """Begin the episode of a row; return what the policy is shown."""
        self._episode = self._episodes.begin([int(seed)])[0]
        return str(self._episode.observe()["text"])

    def rewrite(self, text: str) -> str:
        """Put a new text in the place of the present one and learn how it does.

        Args:
            text: The complete new text.

        Returns:
            What is known of it: its score, and what is left to mend.
        """
        episode = self._episode
        if episode is None or episode.over:
            return "The turns are used up; nothing was changed."
        outcome = ask(self._episodes.problem, [episode.advance(text_of(text))])[0]
        transition = episode.settle(outcome)
        self._episodes.spent |= bool(transition.info["budget_exhausted"])
        return str(transition.observation["text"])

    def get_reward(self) -> float | None:
        """Return what the turns so far were paid together; None where one could not be scored."""
        episode = self._episode
        if episode is None:
            return 0.0
        return None if episode.outcome.status in ENDING else episode.episode_return


class StopWhenSpent(TrainerCallback):  # type: ignore[misc]  # transformers is untyped to mypy here
    """Ends training after the step in which the budget did not reach."""

    def __init__(self, episodes: TextEpisodes) -> None:
        """Watch these episodes."""
        self.episodes = episodes

    def on_step_end(self, args: Any, state: Any, control: Any, **more: Any) -> Any:
        """Ask the trainer to stop."""
        control.should_training_stop |= self.episodes.spent
        return control


def text_of(completion: Any) -> str:
    """Return the text of a completion: the last message's, without a reasoning model's thoughts.

    Thoughts that were cut off before `</think>` leave nothing.
    """
    if isinstance(completion, str):
        text = completion
    else:
        text = str(completion[-1].get("content") or "") if completion else ""
    _, end, answer = text.rpartition("</think>")
    return "" if not end and "<think>" in text else answer


def _rank() -> int:
    """Return the number of this process; 0 where there is one only."""
    ready = torch.distributed.is_available() and torch.distributed.is_initialized()
    return torch.distributed.get_rank() if ready else 0


def on_main(work: Callable[[Sequence[Row]], Value], rows: Sequence[Row]) -> Value:
    """Return `work` on the rows of all processes, in their order, done by the main one.

    What goes wrong there is raised on every process, so that none waits for ever.
    """
    ready = torch.distributed.is_available() and torch.distributed.is_initialized()
    if not ready or torch.distributed.get_world_size() == 1:
        return work(rows)
    everything = gather_object(list(rows))
    found: list[Any] = [None, None]
    if _rank() == 0:
        try:
            found[0] = work(everything)
        except Exception as error:
            found[1] = error
    broadcast_object_list(found)
    if found[1] is not None:
        raise found[1]
    value: Value = found[0]
    return value
