"""`Flights`: prompts that some thread is asking about just now, so that no other asks as well."""

from __future__ import annotations

import threading
from collections.abc import Iterable
from weakref import WeakValueDictionary

from promptgym.prompts import Prompt

_SHARING = threading.Lock()
_SHARED: WeakValueDictionary[tuple[str, bytes], Flights] = WeakValueDictionary()


class Flights:
    """The lock of a scorer (or of several that share a store) and the prompts in flight under it.

    A thread claims the prompts of one call, asks without holding the lock, writes what came and
    lands them. Whoever needs a claimed prompt waits for the landing and finds the answers in the
    cache or the store. A thread that waits holds no claims, so nobody waits for ever.

    Attributes:
        lock: of the scorer.
        landings: how often prompts have landed: while it stays, no other thread has written.
    """

    def __init__(self) -> None:
        """Start with nothing in flight."""
        self.lock = threading.RLock()
        self.landings = 0
        self._landed = threading.Condition(self.lock)
        self._claimed: set[Prompt] = set()

    @classmethod
    def shared(cls, place: str, setting: bytes) -> Flights:
        """Return those of all scorers of this process that share a store and ask the same.

        Args:
            place: of the store.
            setting: what answers depend on, its key.
        """
        with _SHARING:
            return _SHARED.setdefault((place, setting), cls())

    def __reduce__(self) -> tuple[type[Flights], tuple[()]]:
        """Copy and pickle as new: flights belong to the threads of one process."""
        return Flights, ()

    def __contains__(self, prompt: Prompt) -> bool:
        """Return whether a prompt is in flight."""
        return prompt in self._claimed

    def claim(self, prompts: Iterable[Prompt]) -> None:
        """Take prompts that are not in flight; the lock is held."""
        self._claimed.update(prompts)

    def land(self, prompts: Iterable[Prompt]) -> None:
        """Give prompts back, answered or not, and wake who waits for them."""
        with self.lock:
            self._claimed.difference_update(prompts)
            self.landings += 1
            self._landed.notify_all()

    def wait(self) -> None:
        """Wait until some prompts land; the lock is held."""
        self._landed.wait()
