"""`FrozenWriter`: a frozen causal language model that writes prompts, word by word.

What is trained is a small network before the model's output layer:

    logits = output_layer(MLP(h)),  h = last hidden state of the frozen model     (Deng et al. 2022,
                                                                                   section 2.3)
The hidden states of a sampled prompt therefore never change, and are kept from sampling for the
update: a step costs one pass of the language model, not two.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import nn

from promptgym.agents.checkpoint import Tensors, read_policy, write_policy
from promptgym.errors import ConfigError, ModelError
from promptgym.llms import load_model
from promptgym.problem import Problem
from promptgym.prompts import Prompt
from promptgym.types import JSON


@dataclass(frozen=True, slots=True)
class Rollout:
    """Sampled prompts.

    Attributes:
        actions: index of every word in the action table, shape (B, T).
        states: hidden state before every word, shape (B, T, H).
    """

    actions: torch.Tensor
    states: torch.Tensor


@dataclass(frozen=True, slots=True)
class Actions:
    """What may be written: one token of the policy's tokenizer an action.

    Attributes:
        ids: token of every action, length A.
        words: the word of every action, length A, joined with spaces; None where actions are the
            tokenizer's pieces, which it decodes itself.
    """

    ids: tuple[int, ...]
    words: tuple[str, ...] | None = None


def word_actions(tokenizer: Any, vocabulary: tuple[str, ...]) -> Actions:
    """Return the words that are single tokens of a tokenizer, in the vocabulary's order.

    Raises:
        ModelError: if there are fewer than two.
    """
    found: dict[int, str] = {}
    unknown = tokenizer.unk_token_id
    for word in vocabulary:
        for text in (f" {word}", word):
            ids = tokenizer.encode(text, add_special_tokens=False)
            if len(ids) == 1 and ids[0] != unknown:
                found.setdefault(ids[0], word)
                break
    if len(found) < 2:
        raise ModelError(
            f"of the problem's {len(vocabulary)} words {len(found)} are single tokens of the "
            "policy's tokenizer, at least 2 are needed; use vocabulary='policy' to write with the "
            "policy's own tokens, or another policy_lm"
        )
    return Actions(tuple(found), tuple(found.values()))


def token_actions(tokenizer: Any, size: int) -> Actions:
    """Return every token of a tokenizer but the special ones, as RLPrompt's published code has."""
    special = set(tokenizer.all_special_ids)
    return Actions(tuple(i for i in range(min(size, len(tokenizer))) if i not in special))


def actions_of(backend: Any, vocabulary: str, problem: Problem) -> Actions:
    """Return what a policy may write: "problem" for the problem's words, else its own tokens."""
    if vocabulary == "problem":
        return word_actions(backend.tokenizer, problem.vocabulary)
    return token_actions(backend.tokenizer, backend.model.get_output_embeddings().weight.shape[0])


class Adaptor(nn.Module):
    """Linear-ReLU-Linear from hidden state to hidden state (RLPrompt: 768-2048-768)."""

    def __init__(
        self,
        size: int,
        hidden: int,
        *,
        gains: tuple[float, float],
        biases: tuple[float, float],
        generator: torch.Generator,
    ) -> None:
        """Draw the weights (Xavier uniform with a gain a layer), set the biases."""
        super().__init__()
        self.first = nn.Linear(size, hidden)
        self.second = nn.Linear(hidden, size)
        for layer, gain, bias in zip((self.first, self.second), gains, biases, strict=True):
            nn.init.xavier_uniform_(layer.weight, gain=gain, generator=generator)
            nn.init.constant_(layer.bias, bias)

    def forward(self, states: torch.Tensor) -> torch.Tensor:
        """Map states (..., H) to states (..., H)."""
        return self.second(torch.relu(self.first(states)))  # type: ignore[no-any-return]

    @torch.no_grad()
    def active_share(self, states: torch.Tensor) -> float:
        """Return the share of hidden units that are not cut to zero, over states (..., H)."""
        return float((self.first(states) > 0).float().mean())


class FrozenWriter(nn.Module, ABC):
    """A frozen model that writes prompts; subclasses add what is trained."""

    def __init__(self, backend: Any, actions: Actions, source: str = "") -> None:
        """Put the frozen parts together.

        Args:
            backend: a causal model of `load_model`: its `.model` and `.tokenizer` are used.
            actions: what may be written.
            source: the text before the prompt; "" for the model's first token (GPT-2:
                "<|endoftext|>", as in RLPrompt's code).
        """
        super().__init__()
        self.actions = actions
        # Kept out of nn.Module's registry: the model is shared, frozen and not saved with a policy.
        self._lm: dict[str, Any] = {"model": backend.model.eval(), "tokenizer": backend.tokenizer}
        self.lm_name: str = backend.name
        head = backend.model.get_output_embeddings()
        ids = torch.tensor(actions.ids, device=head.weight.device)
        self._weight = head.weight.detach()[ids].float()
        self._bias = None if head.bias is None else head.bias.detach()[ids].float()
        self._ids = ids
        self.source = source
        self._source = torch.tensor([source_ids(backend.tokenizer, source)], device=ids.device)

    @property
    def device(self) -> torch.device:
        """Where the model lives."""
        return self._ids.device

    @property
    def size(self) -> int:
        """Width of the model's hidden states."""
        return int(self._weight.shape[1])

    @property
    @abstractmethod
    def trained(self) -> nn.Module:
        """What a saved policy holds the weights of."""

    @abstractmethod
    def logits_at(self, states: torch.Tensor, place: int) -> torch.Tensor:
        """Return the logits of all actions for the word at a place; states (B, H) -> (B, A)."""

    def head(self, states: torch.Tensor) -> torch.Tensor:
        """Return the model's own output layer on states (..., H), actions only: (..., A)."""
        return nn.functional.linear(states, self._weight, self._bias)

    @torch.no_grad()
    def rollout(
        self,
        n: int,
        length: int,
        generator: torch.Generator | None,
        *,
        top_k: int = 0,
        uniform: bool = False,
    ) -> Rollout:
        """Write `n` prompts of `length` words.

        Args:
            n: how many.
            length: words of each.
            generator: source of chance; None takes the likeliest word each time.
            top_k: sample among the k likeliest actions; 0 among all.
            uniform: sample all actions alike often.
        """
        tokens, cache = self._source.expand(n, -1), None
        actions, states = [], []
        for place in range(length):
            state, cache = self._advance(tokens, cache)
            logits = self.logits_at(state, place)
            if uniform:
                action = choose(torch.zeros_like(logits), generator)
            else:
                action = choose(logits, generator, top_k)
            states.append(state)
            actions.append(action)
            tokens = self._ids[action][:, None]
        return Rollout(torch.stack(actions, 1), torch.stack(states, 1))

    @torch.no_grad()
    def states_of(self, actions: torch.Tensor) -> torch.Tensor:
        """Return the hidden states before every word of given prompts (B, T), in one pass."""
        source = self._source.expand(len(actions), -1)
        tokens = torch.cat([source, self._ids[actions[:, :-1]]], 1)
        hidden = self._lm["model"].base_model(input_ids=tokens).last_hidden_state
        return hidden[:, source.shape[1] - 1 :].float()  # type: ignore[no-any-return]

    def _advance(self, tokens: torch.Tensor, cache: Any) -> tuple[torch.Tensor, Any]:
        """Read tokens (B, S) after what is cached; return the last hidden state and the cache."""
        out = self._lm["model"].base_model(input_ids=tokens, past_key_values=cache, use_cache=True)
        return out.last_hidden_state[:, -1].float(), out.past_key_values

    def texts(self, actions: torch.Tensor) -> list[str]:
        """Return the texts of prompts (B, T)."""
        words = self.actions.words
        if words is not None:
            return [" ".join(words[a] for a in row) for row in actions.tolist()]
        tokenizer = self._lm["tokenizer"]
        return [tokenizer.decode(row).strip() for row in self._ids[actions].tolist()]


def choose(logits: torch.Tensor, generator: torch.Generator | None, top_k: int = 0) -> torch.Tensor:
    """Draw one action a row, (B, A) -> (B,), from softmax(logits); greedy without generator."""
    if generator is None:
        return logits.argmax(-1)
    if top_k and top_k < logits.shape[-1]:
        values, index = logits.topk(top_k, dim=-1)
        drawn = torch.multinomial(values.softmax(-1), 1, generator=generator)
        return index.gather(-1, drawn)[:, 0]
    return torch.multinomial(logits.softmax(-1), 1, generator=generator)[:, 0]


def source_ids(tokenizer: Any, source: str) -> list[int]:
    """Return the tokens before the prompt: those of `source`, or the tokenizer's first token."""
    if source:
        ids: list[int] = tokenizer.encode(source, add_special_tokens=False)
        return ids
    for token in (tokenizer.bos_token_id, tokenizer.eos_token_id):
        if token is not None:
            return [int(token)]
    raise ModelError("the policy's tokenizer has no first token; give the option source='...'")


def load_policy_lm(spec: str, problem: Problem) -> Any:
    """Return the backend a policy is built on.

    Args:
        spec: "target" for the problem's own model, else what `load_model` takes.
        problem: the problem.

    Raises:
        ModelError: if it is not a causal model of transformers.
    """
    backend: Any = problem.model if spec == "target" else load_model(spec)
    if backend.kind != "causal" or not hasattr(backend, "model"):
        raise ModelError(
            f"the policy needs a causal model of transformers, {backend.name!r} is not one; "
            "give policy_lm='tiny' or policy_lm='hf:distilgpt2'"
        )
    return backend


class SavedWriter(NamedTuple):
    """What a saved policy is made of again."""

    backend: Any
    actions: Actions
    weights: Tensors
    options: JSON
    start: Prompt


def save_writer(
    folder: Path, agent: str, policy: FrozenWriter, options: JSON, start: Prompt
) -> None:
    """Write the trained part, and what the policy is."""
    about = {
        "lm": policy.lm_name,
        "options": options,
        "start": start.to_json(),
        "ids": policy.actions.ids,
        "words": policy.actions.words,
    }
    write_policy(folder, agent, policy.trained.state_dict(), about)


def read_writer(folder: Path, agent: str, backend: Any = None) -> SavedWriter:
    """Return what `save_writer` was given, with the frozen model.

    Raises:
        ConfigError: without a backend where policy_lm is "target", or with another one; or if the
            folder holds the policy of another agent, or none.
    """
    weights, about = read_policy(folder, agent)
    options = about["options"]
    if backend is None:
        if options["policy_lm"] == "target":
            raise ConfigError(
                f"{folder}: this policy writes with its problem's own model ({about['lm']}); "
                "give it as model=..."
            )
        backend = load_model(options["policy_lm"])
    if backend.name != about["lm"]:
        raise ConfigError(f"{folder}: trained on {about['lm']!r}, got {backend.name!r}")
    words = None if about["words"] is None else tuple(about["words"])
    actions = Actions(tuple(about["ids"]), words)
    return SavedWriter(backend, actions, weights, options, Prompt.of(about["start"]))
