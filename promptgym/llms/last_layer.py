"""`LastLayerTap`: let a model's last layer compute only the positions that are read."""

from __future__ import annotations

from typing import Any

import torch


class LastLayerTap:
    """Hooks that cut the last layer of a transformer to the positions that the head reads.

    At others, only keys and values of the last layer are of use. So the layer is given those
    positions alone, what attention reads is put back in full, and what attention found is cut
    before its output projection: projection, residuals, norms and feed-forward network then run on
    a few positions a row. The result is put back at its places, with zeros at all others, so that
    the rest of the model need not know.

    Which modules these are is found by watching one pass. A layer of another build is left alone or
    fails; whoever makes a tap compares results.

    Attributes:
        found: whether the layer has the expected modules.
    """

    def __init__(self, model: Any, inputs: dict[str, Any]) -> None:
        """Find the modules and hook them.

        Args:
            model: a transformers model.
            inputs: what its forward takes, for the trial.
        """
        self._at: torch.Tensor | None = None
        self._full: torch.Tensor | None = None
        self._width = 0
        self._hooks: list[Any] = []
        layer = _last_layer(model)
        parts = None if layer is None else _watch(model, layer, inputs)
        self.found = parts is not None
        if layer is not None and parts is not None:
            reader, projection = parts
            self._hooks = [
                layer.register_forward_pre_hook(self._narrow, with_kwargs=True),
                reader.register_forward_pre_hook(self._widen, with_kwargs=True),
                projection.register_forward_pre_hook(self._cut),
                layer.register_forward_hook(self._spread),
            ]

    def remove(self) -> None:
        """Take the hooks away."""
        for hook in self._hooks:
            hook.remove()

    def read_at(self, positions: torch.Tensor | None) -> None:
        """Compute these positions only, shape (B, K), until told otherwise (None)."""
        self._at, self._full = positions, None

    def _chosen(self, hidden: torch.Tensor) -> torch.Tensor:
        """Return the chosen positions of every row, shape (B, K, H)."""
        return hidden[self._rows(hidden), self._at]

    def _rows(self, hidden: torch.Tensor) -> torch.Tensor:
        """Return the numbers of the rows, shape (B, 1)."""
        return torch.arange(len(hidden), device=hidden.device)[:, None]

    def _narrow(self, module: Any, args: Any, kwargs: Any) -> Any:
        """Hand the layer the chosen positions."""
        if self._at is None:
            return None
        self._full = _hidden(args, kwargs)
        self._width = self._full.shape[1]
        return _replaced(args, kwargs, self._chosen(self._full))

    def _widen(self, module: Any, args: Any, kwargs: Any) -> Any:
        """Hand attention every position."""
        return None if self._full is None else _replaced(args, kwargs, self._full)

    def _cut(self, module: Any, args: Any) -> Any:
        """Cut what attention found."""
        if self._full is None:
            return None
        self._full = None
        return (self._chosen(args[0]), *args[1:])

    def _spread(self, module: Any, args: Any, output: Any) -> Any:
        """Put the result back at its places."""
        if self._at is None:
            return None
        hidden = output[0] if isinstance(output, tuple) else output
        wide = hidden.new_zeros(len(hidden), self._width, hidden.shape[-1])
        wide[self._rows(hidden), self._at] = hidden
        return (wide, *output[1:]) if isinstance(output, tuple) else wide


def _last_layer(model: Any) -> Any:
    """Return the last of a model's layers; None where there is no list of them."""
    count = getattr(model.config.get_text_config(), "num_hidden_layers", None)
    for module in model.modules():
        if isinstance(module, torch.nn.ModuleList) and len(module) == count:
            return module[-1]
    return None


def _watch(model: Any, layer: Any, inputs: dict[str, Any]) -> tuple[Any, Any] | None:
    """Run a pass; return what reads the layer's input for attention and the output projection.

    The first is a norm (layers that norm before attention) or the module around the projections to
    queries, keys and values. The second is the first matrix that is given something else.
    """
    names = {module: name for name, module in layer.named_modules()}
    calls: list[tuple[Any, Any]] = []
    made: list[Any] = []

    def before(module: Any, args: Any, kwargs: Any) -> None:
        calls.append((module, _hidden(args, kwargs)))

    def after(module: Any, args: Any, kwargs: Any, output: Any) -> None:
        if not any(module.children()) and _hidden(args, kwargs) is calls[0][1]:
            made.append(output)

    hooks = [m.register_forward_pre_hook(before, with_kwargs=True) for m in names]
    hooks += [m.register_forward_hook(after, with_kwargs=True) for m in names]
    try:
        model(**inputs)
    finally:
        for hook in hooks:
            hook.remove()
    readers: list[str] = []
    for module, given in calls[1:]:
        if any(module.children()) or not isinstance(given, torch.Tensor):
            continue
        if given is calls[0][1]:
            readers.append(names[module])
            continue
        weight = getattr(module, "weight", None)
        own = all(given is not output for output in made)
        if own and weight is not None and weight.dim() == 2 and given.dim() == 3 and readers:
            return layer.get_submodule(_around(readers)), module
    return None


def _around(names: list[str]) -> str:
    """Return the innermost module that holds all those named."""
    if len(names) == 1:
        return names[0]
    shared = []
    for parts in zip(*(name.split(".") for name in names), strict=False):
        if len(set(parts)) > 1:
            break
        shared.append(parts[0])
    return ".".join(shared)


def _hidden(args: Any, kwargs: Any) -> Any:
    """Return the hidden states that a module is called with."""
    return args[0] if args else kwargs.get("hidden_states")


def _replaced(args: Any, kwargs: Any, hidden: torch.Tensor) -> tuple[Any, Any]:
    """Return arguments with other hidden states."""
    return ((hidden, *args[1:]), kwargs) if args else (args, {**kwargs, "hidden_states": hidden})
