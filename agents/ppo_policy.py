"""A policy that chooses words by what they mean to the target model.

    logit(word) = q(features) . e(word) / sqrt(D) + b(word)

where e are the target model's own input embeddings, frozen, D wide. What is learned of one word
carries over at once to words the model treats alike, which a table of separate logits has to learn
word by word; RLPrompt (Deng et al. 2022) gets the same from the output layer of its policy's frozen
language model.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from sb3_contrib.common.maskable.policies import MaskableMultiInputActorCriticPolicy
from torch import nn

from promptgym.envs.mdp import PromptMDP
from promptgym.llms.embeddings import word_embeddings
from promptgym.types import FloatArray

WORD_HEAD = 2
"""Which head of the action space names a word."""


class WordPolicy(MaskableMultiInputActorCriticPolicy):  # type: ignore[misc]  # untyped base
    """Stable-Baselines3's policy, whose action layer knows the words if vectors are given.

    Values start at zero: Stable-Baselines3's initial values are of size 1, many times the rewards
    of the first edits, and would decide the first updates.
    """

    def __init__(self, *arguments: Any, vectors: FloatArray | None = None, **options: Any) -> None:
        """Build the networks.

        Args:
            arguments: as Stable-Baselines3 passes them.
            vectors: one a word, shape (V, D); None for logits of their own, as usual.
            options: as Stable-Baselines3 passes them.
        """
        self.vectors = vectors  # before the base class, whose constructor calls `_build`
        super().__init__(*arguments, **options)

    def _build(self, lr_schedule: Any) -> None:
        """Build as Stable-Baselines3 does; put the word layer in before the optimizer is made."""
        super()._build(lr_schedule)
        nn.init.zeros_(self.value_net.weight)
        if self.vectors is None:
            return
        sizes = [int(n) for n in self.action_space.nvec]
        self.action_net = WordLayer(self.mlp_extractor.latent_dim_pi, sizes, self.vectors)
        self.optimizer = self.optimizer_class(
            self.parameters(), lr=lr_schedule(1), **self.optimizer_kwargs
        )


class WordLayer(nn.Module):
    """Logits of all heads, flat, shape (N, sum(sizes)); those of words through their vectors."""

    words: torch.Tensor

    def __init__(self, latent: int, sizes: Sequence[int], vectors: FloatArray) -> None:
        """Build the layer.

        Args:
            latent: size of the policy's last hidden layer.
            sizes: choices of every head; the head `WORD_HEAD` chooses words.
            vectors: one a word, shape (V, D).
        """
        super().__init__()
        self.before = sum(sizes[:WORD_HEAD])
        self.other = nn.Linear(latent, sum(sizes) - sizes[WORD_HEAD])
        self.query = nn.Linear(latent, vectors.shape[1])
        self.bias = nn.Parameter(torch.zeros(sizes[WORD_HEAD]))
        for layer in (self.other, self.query):
            nn.init.orthogonal_(layer.weight, gain=0.01)  # as SB3: near uniform at first
            nn.init.zeros_(layer.bias)
        scaled = torch.as_tensor(vectors / np.sqrt(vectors.shape[1]), dtype=torch.float32)
        self.register_buffer("words", scaled)

    def forward(self, latent: torch.Tensor) -> torch.Tensor:
        """Return the logits of a batch (N, latent)."""
        other = self.other(latent)
        words = self.query(latent) @ self.words.T + self.bias
        return torch.cat([other[:, : self.before], words, other[:, self.before :]], dim=1)


def word_vectors(model: Any, words: Sequence[str]) -> FloatArray | None:
    """Return the input embeddings of words in a target model, centred, each of length sqrt(D).

    Args:
        model: any target model.
        words: V words.

    Returns:
        Shape (V, D); None if the model is not one of transformers, loaded here.
    """
    rows = word_embeddings(model, words)
    if rows is None:
        return None
    rows = rows - rows.mean(axis=0)
    length = np.linalg.norm(rows, axis=1, keepdims=True)
    return np.asarray(rows / np.maximum(length, 1e-9) * np.sqrt(rows.shape[1]))


def vocabulary_vectors(model: Any, mdp: PromptMDP) -> tuple[FloatArray, FloatArray] | None:
    """Return the vectors of the ids that an environment shows and of the words that it writes.

    Returns:
        Shapes (ids, D) and (V, D), padding and unknown words being zero; None as `word_vectors`.
    """
    vocabulary, problem = mdp.vocabulary, mdp.problem
    prompts = (problem.initial_prompt, *problem.task.manual_prompts)
    extra = [unit for p in prompts for unit in vocabulary.split(p.instruction)]
    words = list(dict.fromkeys([*vocabulary.units, *extra]))
    rows = word_vectors(model, words)
    if rows is None:
        return None
    seen = np.zeros((vocabulary.n_ids, rows.shape[1]))
    seen[vocabulary.ids(words)] = rows
    return seen, rows[: len(vocabulary)]
