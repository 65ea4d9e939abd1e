"""PPO over prompt edits: MaskablePPO of sb3-contrib on `PromptEdit-v0`, with masks, on one ledger.

The policy sees the prompt's words and how the target model does with it, and edits it word by word;
each edit is paid by the change of the reward. The algorithm is Stable-Baselines3's (Schulman et al.
2017; invalid actions masked, Huang and Ontanon 2022); what is here are hyperparameters that learn
within a prompt budget, the bookkeeping that makes the agent comparable with search methods (every
prompt visited takes part in the selection on dev) and checkpoints that continue exactly.

Stable-Baselines3's own defaults (2,048 steps a rollout, learning rate 3e-4) would make one or two
updates in a budget of a few thousand prompts.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any, ClassVar

from sb3_contrib import MaskablePPO
from stable_baselines3.common.logger import Logger

from promptgym.agents import ppo_state
from promptgym.agents.agent import SAMPLES, Agent, configured
from promptgym.agents.checkpoint import ABOUT, TRAIN_AGAIN, Tensors, of_this_version
from promptgym.agents.ppo_config import PRESETS
from promptgym.agents.ppo_features import PromptFeatures
from promptgym.agents.ppo_policy import WordPolicy, vocabulary_vectors
from promptgym.agents.ppo_progress import Progress
from promptgym.envs.prompt_edit import make, make_vec
from promptgym.errors import ConfigError
from promptgym.integrations.sb3 import SB3VecEnv
from promptgym.problem import Problem
from promptgym.prompts import Prompt
from promptgym.search import Selection
from promptgym.search.watch import WatchedProblem
from promptgym.types import JSON, FloatArray


class PPOEdit(Agent):
    """PPO over prompt edits: `learn`, `predict`, `save`, `load`, `optimize`.

    The queries of one greedy episode are set aside from the start, for the result. The samples in
    it are where the latest training episodes ended: new ones would have to be paid for. As
    Stable-Baselines3 does, learning seeds the process's random generators (random, numpy, torch).

    Attributes:
        config: the hyperparameters.
        model: Stable-Baselines3's MaskablePPO, once trained or loaded.
        finished: the last prompts of the `SAMPLES` latest training episodes.
    """

    name: ClassVar[str] = "ppo_edit"

    def __init__(self, preset: str = "default", **options: Any) -> None:
        """Take a preset and what is to differ from it.

        Raises:
            ConfigError: for an unknown preset or option.
        """
        self.config = configured(self.name, PRESETS, preset, options)
        self.model: Any = None
        self.finished: deque[Prompt] = deque(maxlen=SAMPLES)

    def predict(
        self,
        observation: Any = None,
        state: Any = None,
        episode_start: Any = None,
        deterministic: bool = False,
        action_masks: Any = None,
    ) -> tuple[Any, None]:
        """Return actions for observations, and None, as Stable-Baselines3's policies do.

        Args:
            observation: of `PromptEdit-v0`, single or batched.
            state: not used (the policy has no memory).
            episode_start: not used.
            deterministic: the likeliest choice of each head instead of a draw.
            action_masks: legal actions, flat, (sum(nvec),) or (N, sum(nvec)); None allows all.

        Raises:
            ConfigError: for what is no observation; `edit` returns prompts.
        """
        if not isinstance(observation, Mapping):
            raise ConfigError(
                "ppo_edit: predict chooses the edits for an observation of PromptEdit-v0, got "
                f"{observation!r}; for a prompt, use edit(problem)"
            )
        actions, _ = self.trained.predict(
            observation, deterministic=deterministic, action_masks=action_masks
        )
        return actions, None

    def edit(
        self, problem: Problem, prompt: Prompt | None = None, *, deterministic: bool = True
    ) -> Prompt:
        """Let the policy edit a prompt for one episode, at the problem's expense.

        Args:
            problem: like the one trained on (same vocabulary and labels).
            prompt: where to start; None for the environment's start.
            deterministic: the likeliest edits instead of drawn ones.

        Returns:
            The last prompt that was scored; the start if the budget did not reach one edit.
        """
        env = make(problem=problem, **{**self._env_arguments(), "archive": 0})
        if (env.observation_space, env.action_space) != (
            self.trained.observation_space,
            self.trained.action_space,
        ):
            raise ConfigError(
                "ppo_edit: the policy was trained on a problem with another vocabulary, other "
                "labels or a longer prompt; train it on this one"
            )
        options = None if prompt is None else {"prompt": prompt.to_json()}
        observation, info = env.reset(seed=0, options=options)
        last, over = env.mdp.prompt(env.episode.state), bool(info["budget_exhausted"])
        while not over:
            masks = env.action_masks()
            action, _ = self.predict(observation, deterministic=deterministic, action_masks=masks)
            observation, _, terminated, truncated, info = env.step(action)
            over = terminated or truncated
            if not truncated:
                last = env.mdp.prompt(env.episode.state)
        return last

    @property
    def trained(self) -> Any:
        """The model.

        Raises:
            ConfigError: before `learn` or `load`.
        """
        if self.model is None:
            raise ConfigError("ppo_edit: there is no policy yet; call learn() or load() first")
        return self.model

    # -- files ----------------------------------------------------------------------------------

    def save(self, folder: str | Path) -> None:
        """Write the policy: `policy.safetensors` and `policy.json`."""
        ppo_state.save_policy(Path(folder), self.trained, asdict(self.config))

    @classmethod
    def load(cls, folder: str | Path) -> PPOEdit:
        """Return an agent with a saved policy, ready to `predict` and `edit`.

        Raises:
            ConfigError: if the folder holds the policy of another agent.
        """
        with of_this_version(Path(folder) / ABOUT, TRAIN_AGAIN):
            options, observation_space, action_space, weights = ppo_state.load_policy(Path(folder))
            agent = cls(**options)
        agent.model = agent._make_ppo(None, 0, ppo_state.vectors_in(weights))
        agent.model.observation_space, agent.model.action_space = observation_space, action_space
        agent.model.n_envs = agent.config.num_envs
        agent.model._setup_model()
        agent.model.policy.load_state_dict(weights)
        return agent

    # -- parts ----------------------------------------------------------------------------------

    def _env_arguments(self) -> JSON:
        """Return the arguments of the environment."""
        c = self.config
        return {
            "horizon": c.horizon,
            "max_demonstrations": c.demonstrations,
            "archive": c.archive,
            "reward_scale": c.reward_scale,
            **c.env,
        }

    def _make_model(self, seed: int) -> Any:
        """Return MaskablePPO on a vector environment of the watched problem."""
        vector = make_vec(
            num_envs=self.config.num_envs,
            autoreset_mode="SameStep",
            problem=self.watched,
            **self._env_arguments(),
        )
        vectors = None
        if self.config.words == "model":
            vectors = vocabulary_vectors(self.watched.model, vector.mdp)
        return self._make_ppo(SB3VecEnv(vector), seed, vectors)

    def _make_ppo(
        self, env: SB3VecEnv | None, seed: int, vectors: tuple[FloatArray, FloatArray] | None
    ) -> Any:
        """Return MaskablePPO with the hyperparameters; without networks if there is no `env`.

        Args:
            env: where it learns.
            seed: of everything.
            vectors: of the ids in observations and of the words in actions; None to learn them.
        """
        c = self.config
        rate = c.learning_rate
        seen, written = vectors or (None, None)
        model = MaskablePPO(
            WordPolicy,
            env,
            learning_rate=(lambda left: rate * left) if c.decay else rate,
            n_steps=c.n_steps,
            batch_size=c.batch_size,
            n_epochs=c.epochs,
            gamma=c.gamma,
            gae_lambda=c.gae_lambda,
            clip_range=c.clip,
            ent_coef=c.entropy,
            vf_coef=c.value,
            normalize_advantage=c.normalize_advantage,
            max_grad_norm=c.max_grad_norm,
            policy_kwargs={
                "net_arch": {"pi": [c.head], "vf": [c.head]},
                "features_extractor_class": PromptFeatures,
                "features_extractor_kwargs": {
                    "kind": c.extractor,
                    "width": c.embedding,
                    "hidden": c.hidden,
                    "layers": c.layers,
                    "heads": c.heads,
                    "vectors": seen,
                },
                "vectors": written,
            },
            seed=seed,
            device="cpu",
            _init_setup_model=env is not None,
        )
        model.set_logger(Logger(None, []))  # its own leaves a folder in the system's temporary one
        return model

    # -- the parts of a run -----------------------------------------------------------------------

    def _check(self, problem: Problem) -> None:
        """Refuse to train without an end.

        Raises:
            ConfigError: without steps and a cap on queries, or if the cap reaches no prompt.
        """
        super()._check(problem)
        if self.config.steps is None and problem.ledger.budget.queries is None:
            raise ConfigError("ppo_edit: give the problem a budget of queries, or steps=N updates")

    def _prepare(self, problem: Problem, selection: Selection | None, seed: int) -> None:
        """Make environment and model anew."""
        self.watched = WatchedProblem(problem, selection, memory=self.config.memory)
        self.model = self._make_model(seed)
        self.finished.clear()

    def _train(self, problem: Problem, selection: Selection | None, file: Path | None) -> None:
        """Let Stable-Baselines3 train, for the environment steps of the whole run."""
        c = self.config
        if c.steps is not None:
            total = c.steps * c.num_envs * c.n_steps
        else:
            cap = problem.ledger.budget.queries or 0
            total = max(1, cap // len(problem.task.train)) * (3 if c.memory else 1)
        updated = partial(self._updated, problem, file)
        self.model.learn(
            total - self.model.num_timesteps,
            callback=Progress(ended=self.finished.append, updated=updated),
            log_interval=None,
            reset_num_timesteps=self.step == 0,
        )

    def _updated(self, problem: Problem, file: Path | None, row: JSON) -> None:
        """Log an update; write a checkpoint if it is time."""
        problem.events.emit("policy", **self._count(problem, row))
        self._checkpoint_if_due(file)

    def _take_in(
        self, problem: Problem, selection: Selection | None, prompts: list[Prompt]
    ) -> None:
        """Ask for prompts again, through the watched problem."""
        self.watched.score(prompts)

    def _reserve(self, problem: Problem, cap: int) -> int:
        """Return the queries of a greedy episode, a tenth of the cap at most."""
        episode: int = (self.config.horizon + 1) * len(problem.task.train)
        return min(episode, cap // 10)

    def _show(self, problem: Problem, seed: int) -> tuple[Prompt, list[Prompt]]:
        """Let the greedy policy edit once more; return that and where training episodes ended."""
        return self.edit(self.watched), list(self.finished)

    def _get_state(self) -> tuple[Tensors, JSON]:
        """Return what training goes on from, between two updates."""
        tensors, state = ppo_state.training_state(self.model)
        return tensors, {"training": state, "finished": [p.to_json() for p in self.finished]}

    def _set_state(self, tensors: Tensors, state: JSON) -> None:
        """Take it back."""
        ppo_state.restore_training(self.model, tensors, state["training"])
        self.finished.extend(Prompt.of(p) for p in state["finished"])
