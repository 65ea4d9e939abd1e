"""Feature extractors over the Dict observation of a prompt environment, for Stable-Baselines3.

Integer Boxes are ids and are embedded; all other entries are numbers and are taken as they are. So
any environment whose MDP observes ids and normalized numbers can be trained on.
"""

from __future__ import annotations

from typing import Any, Literal

import numpy as np
import torch
from gymnasium import spaces
from stable_baselines3.common.torch_layers import BaseFeaturesExtractor
from torch import nn

from promptgym.errors import ConfigError
from promptgym.types import FloatArray

Kind = Literal["mlp", "attention"]


class PromptFeatures(BaseFeaturesExtractor):  # type: ignore[misc]  # untyped base
    """Embedded ids and plain numbers -> one feature vector.

    `mlp`: embeddings by place, their sum over places (/ sqrt of the length: whether a word stands
    in the prompt matters more than where) and the numbers, through one tanh layer.

    `attention`: a transformer encoder over the words (learned positions, padding masked) and one
    more place that holds the numbers; features are the mean over the words and that place, through
    one tanh layer. With 3 layers, 3 heads and width 48 it has the size of TEMPERA's policy, whose
    blocks are pooled hidden states of a language model where ours are embedded words.
    """

    def __init__(
        self,
        observation_space: spaces.Dict,
        *,
        kind: Kind = "mlp",
        width: int = 32,
        hidden: int = 128,
        layers: int = 3,
        heads: int = 3,
        vectors: FloatArray | None = None,
    ) -> None:
        """Build the layers.

        Args:
            observation_space: a flat Dict.
            kind: "mlp" or "attention".
            width: of an embedding (a multiple of `heads` for attention).
            hidden: features.
            layers: encoder layers (attention only).
            heads: attention heads (attention only).
            vectors: fixed vectors of the ids of `tokens`, shape (ids, D), which are then projected
                instead of learned; None learns an embedding of each id.

        Raises:
            ConfigError: for an unknown kind, or a width that the heads do not divide.
        """
        super().__init__(observation_space, hidden)
        if kind not in ("mlp", "attention"):
            raise ConfigError(f"extractor must be 'mlp' or 'attention', got {kind!r}")
        if kind == "attention" and width % heads:
            raise ConfigError(f"embedding must be a multiple of heads={heads}, got {width}")
        self.kind = kind
        self.id_keys = [k for k, s in observation_space.items() if holds_ids(s)]
        self.number_keys = [k for k in observation_space if k not in self.id_keys]
        numbers = sum(spaces.flatdim(observation_space[k]) for k in self.number_keys)
        places = sum(spaces.flatdim(observation_space[k]) for k in self.id_keys)
        self.embeddings = nn.ModuleDict(
            {
                k: nn.Embedding(ids_of(observation_space[k]), width)
                if vectors is None or k != "tokens"
                else Projected(vectors, width)
                for k in self.id_keys
            }
        )
        if kind == "mlp":
            size = (places + 1) * width + numbers
            self.out = nn.Sequential(nn.Linear(size, hidden), nn.Tanh())
            return
        self.positions = nn.Parameter(torch.randn(places, width) * 0.02)
        self.numbers = nn.Linear(numbers, width)
        layer = nn.TransformerEncoderLayer(
            width, heads, 4 * width, dropout=0.0, batch_first=True, norm_first=True
        )
        self.encoder = nn.TransformerEncoder(layer, layers, enable_nested_tensor=False)
        self.out = nn.Sequential(nn.Linear(2 * width, hidden), nn.Tanh())

    def forward(self, observation: dict[str, torch.Tensor]) -> torch.Tensor:
        """Return features, shape (N, hidden)."""
        ids = {k: observation[k].long() for k in self.id_keys}
        words = torch.cat([self.embeddings[k](ids[k]) for k in self.id_keys], dim=1)
        numbers = torch.cat([observation[k].flatten(1).float() for k in self.number_keys], dim=1)
        padding = torch.cat([ids[k] == 0 for k in self.id_keys], dim=1)
        weight = (~padding).float()[..., None]
        if self.kind == "mlp":
            words = words * weight
            bag = words.sum(1) / weight.sum(1).clamp(min=1.0).sqrt()
            return self.out(torch.cat([words.flatten(1), bag, numbers], dim=1))  # type: ignore[no-any-return]
        last = self.numbers(numbers)[:, None]
        shown = torch.cat([padding, torch.zeros_like(padding[:, :1])], dim=1)
        states = self.encoder(
            torch.cat([words + self.positions, last], dim=1), src_key_padding_mask=shown
        )
        mean = (states[:, :-1] * weight).sum(1) / weight.sum(1).clamp(min=1.0)
        return self.out(torch.cat([mean, states[:, -1]], dim=1))  # type: ignore[no-any-return]


class Projected(nn.Module):
    """Ids -> fixed vectors -> a learned linear map of them."""

    table: torch.Tensor

    def __init__(self, vectors: FloatArray, width: int) -> None:
        """Take vectors, shape (ids, D), and the width wanted."""
        super().__init__()
        self.register_buffer("table", torch.as_tensor(vectors, dtype=torch.float32))
        self.map = nn.Linear(vectors.shape[1], width, bias=False)

    def forward(self, ids: torch.Tensor) -> torch.Tensor:
        """Return embeddings (..., width) of ids (...)."""
        return self.map(self.table[ids])  # type: ignore[no-any-return]


def holds_ids(space: spaces.Space[Any]) -> bool:
    """Whether an entry of an observation holds ids: a one-dimensional Box of integers."""
    return isinstance(space, spaces.Box) and space.dtype.kind in "iu" and len(space.shape) == 1


def ids_of(space: spaces.Space[Any]) -> int:
    """Return how many ids an entry may hold, 0 included."""
    assert isinstance(space, spaces.Box)
    return int(np.max(space.high)) + 1
