"""The vector environment of `PromptTable-v0`: sub-environments as columns of arrays.

It does step by step what `PromptVectorEnv` does with the same MDP (tests compare all they return),
without an object a sub-environment: words, rewards and masks are looked up in tables.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
from gymnasium.error import ResetNeeded
from gymnasium.vector import AutoresetMode

from promptgym.arguments import checked
from promptgym.envs.episode import ShellOptions
from promptgym.envs.mdp import Action, Observation
from promptgym.envs.shell import STATE_VERSION, check_state, generator
from promptgym.envs.table_columns import ILLEGAL, NOTHING, VALUE_LIMIT, Columns
from promptgym.envs.vector_base import Infos, Step, VectorShell
from promptgym.errors import BudgetExhausted, ConfigError
from promptgym.prompts import Prompt
from promptgym.types import JSON, BoolArray, FloatArray, IntArray

if TYPE_CHECKING:
    from promptgym.envs.prompt_table import PromptTable

ILLEGAL_TEXT = "illegal: nothing done"


class TableVectorEnv(VectorShell):
    """`num_envs` copies of `PromptTable` on one problem, stepped as arrays.

    Sub-environment i, seeded s, is step by step what the scalar environment seeded s + i is. The
    budget is shared and charged in the order of the sub-environments.
    """

    mdp: PromptTable

    @checked(ConfigError)
    def __init__(
        self,
        mdp: PromptTable,
        options: ShellOptions | None = None,
        *,
        num_envs: int = 1,
        max_episode_steps: int | None = None,
        autoreset_mode: AutoresetMode | str = AutoresetMode.NEXT_STEP,
        rebuild: Callable[[], TableVectorEnv] | None = None,
    ) -> None:
        """Wrap the MDP; see `PromptVectorEnv` for the arguments.

        Raises:
            ConfigError: for a budget that caps anything but queries: no model is called.
        """
        super().__init__(
            mdp,
            options,
            num_envs=num_envs,
            max_episode_steps=max_episode_steps,
            autoreset_mode=autoreset_mode,
            render_mode=None,
            rebuild=rebuild,
        )
        caps = {k: v for k, v in asdict(self.problem.ledger.budget).items() if v is not None}
        if caps.keys() - {"queries"}:
            raise ConfigError(f"PromptTable calls no model: a budget caps queries only, got {caps}")
        scale = self.options.reward_scale
        worth, unit = mdp.worth, self.problem.reward.scale
        self._score, self._reward = worth.score, worth.reward
        self._value = worth.reward / unit
        self._paid = worth.reward if scale is None else scale * self._value
        self._regret = (worth.optimum - worth.reward) / unit
        self._prompts, self._masks = mdp.table.prompts, mdp.masks
        texts = [mdp.edit_text(a) for a in range(mdp.stop + 1)] + [ILLEGAL_TEXT, ""]
        self._edits = np.array(texts, dtype=object)  # ILLEGAL and NOTHING count from the end
        self._now = Columns.blank(num_envs, mdp.table.slots, mdp.horizon)

    # -- Gymnasium --------------------------------------------------------------------------------

    def _restart(
        self, mask: BoolArray, seeded: BoolArray, options: JSON
    ) -> tuple[Observation, Infos]:
        """Begin episodes."""
        self._begin(mask, self._starts(mask, options.get("prompt")))
        self._enter(mask, *self._charge(mask))
        return self._observe(self._now), self._infos(self._now, mask)

    def step(self, actions: Action) -> Step:
        """Take one action in each sub-environment; shapes (N,) besides observations and infos.

        Raises:
            ResetNeeded: if a sub-environment's episode is over in mode "Disabled", or never began.
            ConfigError: for actions that are not N whole numbers.
        """
        chosen = self._actions(actions)
        resetting = self._done & (self.autoreset_mode is AutoresetMode.NEXT_STEP)
        playing = ~resetting
        over = self._now.visited[:, 0] < 0
        if self.autoreset_mode is AutoresetMode.DISABLED:
            over |= self._done
        if over.any():
            raise ResetNeeded(
                f"sub-environments {np.flatnonzero(over).tolist()} are over, or never began; call "
                "reset(options={'reset_mask': ...}) before step()"
            )
        before = self._now.row.copy()
        self._advance(chosen, playing)
        now = self._now
        changed = playing & now.known & (now.row != before)
        if resetting.any():
            self._begin(resetting, self._starts(resetting))
        limit = self._limit()
        will_reset = playing & (self._terminal() | limit)
        will_reset &= self.autoreset_mode is AutoresetMode.SAME_STEP
        asked = np.stack([changed | resetting, will_reset], axis=1)  # in the order they are paid
        paid, left = self._charge(asked)
        rewards, terminated = self._settle(playing, changed, paid[:, 0], left[:, 0], before)
        self._enter(resetting, paid[:, 0], left[:, 0])
        truncated = playing & (~now.known | limit)
        self._done = terminated | truncated
        if self.autoreset_mode is not AutoresetMode.SAME_STEP or not self._done.any():
            return self._observe(now), rewards, terminated, truncated, self._infos(now)
        final = now.copy()
        self._begin(self._done, self._starts(self._done))
        self._enter(self._done, paid[:, 1] & will_reset, left[:, 1])
        infos = self._final(final, self._done) | self._infos(now)
        return self._observe(now), rewards, terminated, truncated, infos

    def action_masks(self) -> BoolArray:
        """Return the legal actions, shape (N, S * V + S + 1)."""
        return self._masks[self._now.length]

    def get_state(self) -> JSON:
        """Return the whole state as plain JSON; what was spent is not part of it."""
        return {
            "version": STATE_VERSION,
            "of": self._identity,
            "columns": self._now.to_json(),
            "rngs": self._rng_states(),
            "done": self._done.tolist(),
        }

    def set_state(self, state: JSON) -> None:
        """Go on from what `get_state` returned, here or in an environment made alike.

        Raises:
            ConfigError: if the state is damaged, or of another version, environment or number of
                sub-environments; then nothing has changed.
        """
        check_state(state, self._identity)
        try:
            now = self._now.from_json(state["columns"])
            rngs = [generator(state["rngs"][i]) for i in range(self.num_envs)]
            done = np.array(state["done"], dtype=np.bool_)
        except (IndexError, KeyError, TypeError, ValueError) as error:
            raise ConfigError(f"the state is damaged: {error!r}") from None
        self._now, self._rngs, self._done = now, list(rngs), done

    # -- one step, in parts -----------------------------------------------------------------------

    def _actions(self, actions: Action) -> IntArray:
        """Return the actions as an array, shape (N,)."""
        chosen = np.asarray(actions)
        if chosen.shape != (self.num_envs,) or not np.issubdtype(chosen.dtype, np.integer):
            raise ConfigError(
                f"actions are {self.num_envs} whole numbers, got {chosen.dtype} of shape "
                f"{chosen.shape}"
            )
        return chosen.astype(np.int64)

    def _starts(self, mask: BoolArray, prompt: Any = None) -> npt.NDArray[np.int64]:
        """Return the words of first prompts where episodes begin, shape (n, S)."""
        slots, count = self.mdp.table.slots, int(mask.sum())
        if prompt is not None or self.mdp.start == "initial":
            start = Prompt.of(self.problem.initial_prompt if prompt is None else prompt)
            return np.repeat(self._words_of(self.mdp.state_of(start).units)[None], count, axis=0)
        found = np.full((count, slots), -1, dtype=np.int64)
        for k, i in enumerate(np.flatnonzero(mask).tolist()):
            found[k] = self._words_of(self.mdp.initial(self._rng(i)).units)
        return found

    def _words_of(self, units: Sequence[str]) -> IntArray:
        """Return the numbers of words, -1 behind the last, shape (S,)."""
        out = np.full(self.mdp.table.slots, -1, dtype=np.int64)
        out[: len(units)] = [self.mdp.word_index[u] for u in units]
        return out

    def _rows(self, words: IntArray, length: IntArray) -> IntArray:
        """Return the row of every prompt in the table."""
        size, number = len(self.mdp.table.words), np.zeros(len(words), dtype=np.int64)
        for slot in range(words.shape[1]):
            used = slot < length
            number = np.where(used, number * size + words[:, slot], number)
        return self.mdp.table.offsets[length] + number

    def _begin(self, mask: BoolArray, words: IntArray) -> None:
        """Start episodes where `mask` says, from prompts given, shape (n, S)."""
        now = self._now
        now.words[mask] = words
        now.length[mask] = (words >= 0).sum(axis=1)
        now.row[mask] = self._rows(words, now.length[mask])
        for name in ("step", "episode_return", "queries", "stopped", "no_op", "revisited"):
            getattr(now, name)[mask] = 0
        now.edit[mask] = NOTHING
        now.visited[mask] = -1
        now.visited[mask, 0] = now.row[mask]

    def _enter(self, mask: BoolArray, paid: BoolArray, left: FloatArray) -> None:
        """Complete `_begin`, knowing which first prompts were paid for."""
        now = self._now
        now.known[mask], now.budget_left[mask] = paid[mask], left[mask]
        now.queries[mask] = np.where(paid[mask], self._price, 0)
        now.start_value[mask] = np.where(paid[mask], self._paid[now.row[mask]], 0.0)

    def _advance(self, actions: IntArray, playing: BoolArray) -> None:
        """Take the actions of the sub-environments that are playing."""
        now, mdp = self._now, self.mdp
        count, slots = len(actions), mdp.table.slots
        inside = (actions >= 0) & (actions <= mdp.stop)
        legal = inside & self._masks[now.length, np.where(inside, actions, mdp.stop)] & playing
        slot, word = np.divmod(actions, len(mdp.table.words))
        writes = legal & (actions < mdp.first_delete)
        deletes = legal & (actions >= mdp.first_delete) & (actions < mdp.stop)
        old = now.row.copy()
        rows = np.flatnonzero(writes)
        now.words[rows, slot[rows]] = word[rows]
        now.length[rows] = np.maximum(now.length[rows], slot[rows] + 1)
        rows = np.flatnonzero(deletes)
        kept = np.arange(slots) + (np.arange(slots) >= (actions[rows] - mdp.first_delete)[:, None])
        longer = np.concatenate([now.words[rows], np.full((len(rows), 1), -1)], axis=1)
        now.words[rows] = np.take_along_axis(longer, kept, axis=1)
        now.length[rows] -= 1
        now.row = np.where(writes | deletes, self._rows(now.words, now.length), now.row)
        now.step += playing
        now.stopped |= legal & (actions == mdp.stop)
        now.edit[playing] = np.where(legal, actions, ILLEGAL)[playing]
        now.no_op[playing] = (now.row == old)[playing]
        now.revisited[playing] = (now.visited == now.row[:, None]).any(axis=1)[playing]
        at = np.arange(count)[playing]
        now.visited[at, now.step[at]] = now.row[at]

    def _settle(
        self,
        playing: BoolArray,
        asked: BoolArray,
        paid: BoolArray,
        left: FloatArray,
        before: IntArray,
    ) -> tuple[FloatArray, BoolArray]:
        """Complete `_advance`; return rewards and terminations, shape (N,)."""
        now = self._now
        now.known[asked] = paid[asked]
        now.budget_left[playing] = left[playing]
        now.queries[asked & paid] += self._price
        terminated = playing & self._terminal() & now.known
        value = self._paid[now.row]
        if self.options.shaping == "absolute":
            rewards = value
        elif self.options.shaping == "sparse":
            rewards = np.where(terminated, value - now.start_value, 0.0)
        else:
            rewards = value - self._paid[before]
        rewards = np.where(playing & now.known, rewards, 0.0)
        now.episode_return[playing] += rewards[playing]
        return rewards, terminated

    def _terminal(self) -> BoolArray:
        """Return which episodes end where they stand, shape (N,)."""
        return self._now.stopped | (self._now.step >= self.mdp.horizon)

    def _limit(self) -> BoolArray:
        """Return which episodes are at the time limit, shape (N,)."""
        limit, step = self.max_episode_steps, self._now.step
        return (step >= limit) & (step > 0) if limit else np.zeros(self.num_envs, dtype=np.bool_)

    @property
    def _price(self) -> int:
        """Queries of a prompt."""
        return len(self.problem.task.train)

    def _charge(self, asked: BoolArray) -> tuple[BoolArray, FloatArray]:
        """Pay for prompts, in order, as many as the budget reaches.

        Args:
            asked: for which, any shape.

        Returns:
            Which were paid, and the share of the cap left after each; both of that shape.
        """
        ledger, price = self.problem.ledger, self._price
        order = np.cumsum(asked.ravel()).reshape(asked.shape)  # prompts asked up to each
        fits = 0
        with suppress(BudgetExhausted):
            fits, hold = ledger.hold_rows(int(asked.sum()), price)
            ledger.settle(hold, queries=fits * price)
        paid = asked & (order <= fits)
        left, cap = ledger.queries_left, ledger.budget.queries
        if left is None or cap is None:
            return paid, np.ones(asked.shape)
        later = fits - np.minimum(order, fits)
        return paid, (left + later * price) / cap

    # -- what is returned -------------------------------------------------------------------------

    def _observe(self, now: Columns) -> Observation:
        """Return new observations of all sub-environments."""

        def known(values: FloatArray) -> npt.NDArray[np.float32]:
            return np.where(now.known, values[now.row], 0.0).astype(np.float32)[:, None]

        return {
            "tokens": (now.words + 1).astype(np.int32),
            "score": known(self._score),
            "value": np.clip(known(self._value), -VALUE_LIMIT, VALUE_LIMIT),
            "progress": np.minimum(1.0, now.step / self.mdp.horizon).astype(np.float32)[:, None],
            "budget_left": now.budget_left.astype(np.float32)[:, None],
        }

    def _infos(self, now: Columns, among: BoolArray | None = None) -> Infos:
        """Return infos in Gymnasium's form: `key`, and in `_key` which sub-environments have it."""
        everyone = np.ones(self.num_envs, dtype=np.bool_) if among is None else among
        known = everyone & now.known
        always = {
            "prompt": self._prompts[now.row],
            "edit": self._edits[now.edit],
            "no_op": now.no_op.copy(),
            "illegal": now.edit == ILLEGAL,
            "revisited": now.revisited.copy(),
            "queries": now.queries.copy(),
            "failures": np.zeros(self.num_envs, dtype=np.int64),
            "budget_exhausted": ~now.known,
            "score_failed": np.zeros(self.num_envs, dtype=np.bool_),
            "episode_return": now.episode_return.copy(),
            "episode_length": now.step.copy(),
            "action_mask": self._masks[now.length],
        }
        where_known = {
            "score": self._score[now.row],
            "prompt_reward": self._reward[now.row],
            "regret": self._regret[now.row],
        }
        infos: Infos = {}
        for values, where in ((always, everyone), (where_known, known)):
            if not where.any():
                continue
            for key, value in values.items():
                if not where.all():
                    value[~where] = None if value.dtype == object else 0
                infos[key], infos[f"_{key}"] = value, where.copy()
        return infos

    def _final(self, now: Columns, over: BoolArray) -> Infos:
        """Return the last observations and infos of episodes that ended in this step."""
        observed = self._observe(now)
        final = np.full(self.num_envs, None, dtype=object)
        for i in np.flatnonzero(over).tolist():
            final[i] = {key: value[i].copy() for key, value in observed.items()}
        return {
            "final_obs": final,
            "_final_obs": over.copy(),
            "final_info": self._infos(now, over),
            "_final_info": over.copy(),
        }
