"""`SharedModel`: what every backend is besides a language model."""

from __future__ import annotations

from typing import Any, Self

from promptgym.llms.registry import reload_model


class SharedModel:
    """A frozen model, loaded once a process: a copy is itself, a pickle how it was loaded.

    Attributes:
        name: identity and revision.
        spec: what `load_model` was given.
        given: options it was given.
    """

    name: str
    spec: str
    given: dict[str, Any]

    def __copy__(self) -> Self:
        """Return self: a frozen model is shared."""
        return self

    def __deepcopy__(self, memo: dict[int, Any]) -> Self:
        """Return self: a frozen model is shared."""
        return self

    def __reduce__(self) -> tuple[Any, ...]:
        """Pickle spec and options, and nothing that was loaded."""
        return reload_model, (self.spec, self.given)

    def __repr__(self) -> str:
        """Return the class and the identity."""
        return f"{type(self).__name__}({self.name!r})"
