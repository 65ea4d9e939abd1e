"""`HeadTap`: let a model compute its language-model head only where the answer is."""

from __future__ import annotations

from typing import Any

import torch

from promptgym.llms.last_layer import LastLayerTap


class HeadTap:
    """Runs a model's own forward pass with its head applied to chosen positions only.

    The head over every position and the whole vocabulary is half of the work of a small model, and
    all but one position is thrown away. A hook on the module that the head reads hands the chosen
    rows alone to whatever follows it, so that biases, transforms, scaling and soft caps of any
    architecture stay the model's own. Which module that is, if any, is found by trying. The last
    layer is cut to those positions, too (`LastLayerTap`), if trying shows that this changes
    nothing.

    Attributes:
        base: the hooked module; None where no hook gives the same logits as the full head. Then the
            full logits are computed and cut.
        last: cuts the last layer; None where that is not exact.
    """

    def __init__(self, model: Any, tolerance: float, **inputs: Any) -> None:
        """Find the module to hook.

        Args:
            model: a transformers model with a language-model head.
            tolerance: largest difference of a logit from the full head's.
            inputs: what the model's forward takes, for the trial: at least two positions.
        """
        self.model = model
        self.base: Any | None = None
        self.last: LastLayerTap | None = None
        self._take: tuple[torch.Tensor, torch.Tensor] | None = None
        with torch.inference_mode():
            full = model(**inputs).logits
            for module in _candidates(model):
                hook = module.register_forward_hook(self._hook)
                self.base = module
                if self._same(full, tolerance, inputs):
                    break
                hook.remove()
                self.base = None
            tap = LastLayerTap(model, inputs)
            if tap.found:
                self.last = tap
                if not self._same(full, tolerance, inputs):
                    tap.remove()
                    self.last = None

    def _same(self, full: torch.Tensor, tolerance: float, inputs: dict[str, Any]) -> bool:
        """Whether the hook in place gives the full head's logits."""
        count, width = full.shape[:2]
        one = torch.arange(count, device=full.device)
        try:
            for rows in (one, one.repeat_interleave(2)):  # a position of each row, then two
                columns = (torch.arange(len(rows), device=full.device) + 1) % width
                cut, output = self.logits(rows, columns, **inputs)
                small = self.base is None or output.logits.shape[:2] == (1, len(rows))
                want = full[rows, columns].float()
                if not small or cut.shape != want.shape or (cut - want).abs().max() >= tolerance:
                    return False
        except (RuntimeError, IndexError, AttributeError, TypeError, ValueError):
            return False  # a forward that needs the whole sequence behind this module
        return True

    @property
    def reader(self) -> Any:
        """What reads tokens without any head, where there is such a thing."""
        return self.model if self.base is None else self.base

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
            rows: batch index of every position, ascending, every row at least once, shape (W,).
            columns: sequence index of every position, shape (W,).
            inputs: what the model's forward takes.
        """
        count, width = inputs["input_ids"].shape
        last = self.last if width > 1 else None
        self._take = (rows, columns) if self.base is not None else None
        if last is not None:
            last.read_at(columns[:, None] if len(rows) == count else by_row(rows, columns))
        try:
            output = self.model(**inputs)
        finally:
            self._take = None
            if last is not None:
                last.read_at(None)
        logits = output.logits[rows, columns] if self.base is None else output.logits[0]
        return logits.float(), output


def by_row(rows: torch.Tensor, columns: torch.Tensor) -> torch.Tensor:
    """Return the columns of each row side by side, the last repeated, shape (B, K).

    Args:
        rows: ascending, every row at least once, shape (W,).
        columns: shape (W,).
    """
    ends = rows.bincount().cumsum(0)
    first = torch.cat([ends.new_zeros(1), ends[:-1]])
    most = int((ends - first).max())
    steps = torch.arange(most, device=rows.device)
    return columns[torch.minimum(first[:, None] + steps, ends[:, None] - 1)]


def _candidates(model: Any) -> list[Any]:
    """Return the modules that a head may read, the likeliest first."""
    found = [getattr(model, getattr(model, "base_model_prefix", ""), None)]
    if hasattr(model, "get_decoder"):
        found.append(model.get_decoder())
    return [
        m for n, m in enumerate(found) if m is not None and m is not model and m not in found[:n]
    ]


def gather_logprobs(logits: torch.Tensor, columns: torch.Tensor) -> torch.Tensor:
    """Return log P of vocabulary columns.

    Args:
        logits: shape (W, V).
        columns: either (C,), the same for every row, or (W, 1), one of its own for each.

    Returns:
        Shape (W, C) or (W, 1), normalized over the whole vocabulary.
    """
    logprobs = logits.log_softmax(-1)  # faster than subtracting logsumexp
    return logprobs[:, columns] if columns.dim() == 1 else logprobs.gather(1, columns)
