"""`HeadTap`: let a model compute its language-model head only where the answer is."""

from __future__ import annotations

from typing import Any

import torch


class HeadTap:
    """Runs a model's own forward pass with its head applied to chosen positions only.

    The head over every position and the whole vocabulary is half of the work of a small model, and
    all but one position is thrown away. A hook on the base model hands the chosen rows alone to
    whatever follows it, so that biases, transforms, scaling and soft caps of any architecture stay
    the model's own. `active` is False where a model has no such base; then the full logits are
    computed and cut.
    """

    def __init__(self, model: Any, base: Any | None) -> None:
        """Hook the module whose first output the head reads; None for a model without one."""
        self.model = model
        self.base = base
        self.active = base is not None and base is not model
        self._take: tuple[torch.Tensor, torch.Tensor] | None = None
        if base is not None and self.active:
            base.register_forward_hook(self._hook)

    @property
    def reader(self) -> Any:
        """What reads tokens without any head, where there is such a thing."""
        return self.base if self.active and self.base is not None else self.model

    def _hook(self, module: Any, args: Any, output: Any) -> Any:
        """Cut the hidden states to the positions asked for."""
        if self._take is None:
            return output
        hidden = output[0][self._take].unsqueeze(0)
        if isinstance(output, tuple):
            return (hidden, *output[1:])
        output.last_hidden_state = hidden
        return output

    def logits(self, rows: torch.Tensor, columns: torch.Tensor, **inputs: Any) -> Any:
        """Run the model; return float32 logits (W, V) at W positions and the model's output.

        Args:
            rows: batch index of every position, shape (W,).
            columns: sequence index of every position, shape (W,).
            inputs: what the model's forward takes.
        """
        if not self.active:
            output = self.model(**inputs)
            return output.logits[rows, columns].float(), output
        self._take = (rows, columns)
        try:
            output = self.model(**inputs)
        finally:
            self._take = None
        return output.logits[0].float(), output

    def check(self, tolerance: float, **inputs: Any) -> None:
        """Compare one pass with the full head; switch the tap off if they differ."""
        if not self.active:
            return
        full = self.model(**inputs).logits
        batch, width = full.shape[:2]
        rows = torch.arange(batch, device=full.device)
        columns = torch.full_like(rows, width - 1)
        try:
            cut, _ = self.logits(rows, columns, **inputs)
            same = cut.shape == full[:, -1].shape
            self.active = same and bool((cut - full[:, -1].float()).abs().max() < tolerance)
        except (RuntimeError, IndexError, AttributeError, TypeError):
            self.active = False  # a forward that needs the whole sequence after its base


def last_positions(lengths: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Return (rows, columns) of the last token of right-padded sequences."""
    return torch.arange(len(lengths), device=lengths.device), lengths - 1


def gather_logprobs(logits: torch.Tensor, columns: torch.Tensor) -> torch.Tensor:
    """Return log P of vocabulary columns.

    Args:
        logits: shape (W, V).
        columns: either (C,), the same for every row, or (W, 1), one of its own for each.

    Returns:
        Shape (W, C) or (W, 1), normalized over the whole vocabulary.
    """
    normalizer = logits.logsumexp(-1, keepdim=True)
    if columns.dim() == 1:
        return logits[:, columns] - normalizer
    return logits.gather(1, columns) - normalizer
