"""What PPO's training loop reports: updates, where episodes ended, the end of the budget."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
from stable_baselines3.common.callbacks import BaseCallback

from promptgym.prompts import Prompt
from promptgym.types import JSON


class Progress(BaseCallback):  # type: ignore[misc]  # untyped base
    """Stops training when a prompt cannot be paid for; reports what happens until then."""

    def __init__(self, *, ended: Callable[[Prompt], None], updated: Callable[[JSON], None]) -> None:
        """Take who is told.

        Args:
            ended: gets the last prompt of every finished episode.
            updated: gets a row of statistics after every update, before the next rollout.
        """
        super().__init__()
        self.ended, self.updated = ended, updated
        self.cut = self.pending = False
        self.returns: list[float] = []
        self.no_ops: list[bool] = []

    def _on_step(self) -> bool:
        """Note where episodes ended; return False when the budget did not reach."""
        mdp = self.training_env.env.mdp
        for info, done in zip(self.locals["infos"], self.locals["dones"], strict=True):
            self.cut |= bool(info["budget_exhausted"])
            self.no_ops.append(info["no_op"])
            if done and not info["budget_exhausted"]:
                self.returns.append(info["episode_return"])
                self.ended(last_prompt(mdp, info))
        return not self.cut

    def _on_rollout_end(self) -> None:
        """A whole rollout was collected: an update follows."""
        self.pending = True

    def _on_rollout_start(self) -> None:
        """The update before this rollout is complete."""
        self._report()

    def _on_training_end(self) -> None:
        """The last update is complete."""
        self._report()

    def _report(self) -> None:
        """Report an update once."""
        if not self.pending:
            return
        self.pending = False
        values = self.logger.name_to_value
        row = {
            "env_steps": self.model.num_timesteps,
            "episodes": len(self.returns),
            "return": float(np.mean(self.returns)) if self.returns else None,
            "no_op": float(np.mean(self.no_ops)),
            "entropy": -float(values["train/entropy_loss"]),
        }
        for name in ("approx_kl", "clip_fraction", "value_loss", "explained_variance"):
            row[name] = float(values[f"train/{name}"])
        self.returns, self.no_ops = [], []
        self.updated(row)


def last_prompt(mdp: Any, info: JSON) -> Prompt:
    """Return the prompt that an episode ended with, from the last step's info."""
    start: Prompt = mdp.problem.initial_prompt
    shown = tuple(mdp.pool[i] for i in info.get("demonstrations", ()))
    return replace(start, instruction=info["prompt"], demonstrations=shown)
