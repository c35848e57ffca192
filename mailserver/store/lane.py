"""The lane: one lock per process around short calls that release the GIL (SQLite, open, stat, rename).

Waiting threads then sleep instead of fighting for the GIL, which costs several times the call itself. Never hold it
across a long call (fsync, hashing, scanning a big folder) or a socket, and take no other lock inside it.
"""

from __future__ import annotations

import os
import threading


class _Lane:
    """A lock that is new in a forked child."""

    def __init__(self) -> None:
        self._renew()
        os.register_at_fork(after_in_child=self._renew)

    def _renew(self) -> None:
        self._lock = threading.RLock()

    def __enter__(self) -> None:
        self._lock.acquire()

    def __exit__(self, *_: object) -> None:
        self._lock.release()


LANE = _Lane()
