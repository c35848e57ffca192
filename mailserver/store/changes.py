"""Who wants to know when a mailbox changes."""

from __future__ import annotations

import threading
from collections.abc import Callable

Wake = Callable[[], None]


class Subscribers:
    """Wake functions of one mailbox. They are called after a commit, under its lock, and must not block."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._wakes: dict[int, Wake] = {}
        self._next = 0

    def add(self, wake: Wake) -> int:
        """Subscribe; returns the number to unsubscribe with."""
        with self._lock:
            self._next += 1
            self._wakes = {**self._wakes, self._next: wake}
            return self._next

    def remove(self, number: int) -> None:
        """Unsubscribe."""
        with self._lock:
            self._wakes = {n: w for n, w in self._wakes.items() if n != number}

    def __len__(self) -> int:
        return len(self._wakes)

    def wake(self) -> None:
        """Wake them all."""
        for wake in self._wakes.values():
            wake()


class Subscription:
    """Ends when closed; a second close does nothing."""

    def __init__(self, end: Callable[[], None]) -> None:
        self._end: Callable[[], None] | None = end

    def close(self) -> None:
        """End it."""
        end, self._end = self._end, None
        if end is not None:
            end()

    def __enter__(self) -> Subscription:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
